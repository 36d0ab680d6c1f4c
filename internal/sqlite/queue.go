package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"postrider"
)

var (
	// A claim of another run is void: this process is the only one that has
	// the database open, so that run is over.
	findDue = prepared(`
SELECT q.tenant_id, q.event_id, q.trigger, q.attempts, q.retries, q.accepted_at, e.type, e.payload
FROM queue q JOIN events e ON e.tenant_id = q.tenant_id AND e.id = q.event_id
WHERE q.webhook_id = ?1 AND q.due_at <= ?2 AND q.claim IS NOT ?3
ORDER BY q.due_at LIMIT ?4`)
	claimDelivery = prepared(`
UPDATE queue SET claim = ? WHERE tenant_id = ? AND event_id = ? AND webhook_id = ?`)
	findNextDue = prepared(`
SELECT min(due_at) FROM queue WHERE webhook_id = ?1 AND due_at > ?2`)

	deleteDelivery = prepared(`
DELETE FROM queue WHERE tenant_id = ? AND event_id = ? AND webhook_id = ? AND claim = ?`)
	retryDelivery = prepared(`
UPDATE queue SET trigger = 'retry', attempts = ?, retries = ?, due_at = ?, claim = NULL
WHERE tenant_id = ? AND event_id = ? AND webhook_id = ? AND claim = ?`)
	keepDelivery = prepared(`
UPDATE queue SET trigger = 'retry', attempts = ?, retries = ?
WHERE tenant_id = ? AND event_id = ? AND webhook_id = ? AND claim = ?`)
	releaseDelivery = prepared(`
UPDATE queue SET claim = NULL WHERE tenant_id = ? AND event_id = ? AND webhook_id = ? AND claim = ?`)

	findAttempt = prepared(`
SELECT coalesce(?3, a.webhook_id), a.event_id, w.id IS NULL OR w.deleted_at IS NOT NULL
FROM attempts a LEFT JOIN webhooks w ON w.tenant_id = a.tenant_id AND w.id = coalesce(?3, a.webhook_id)
WHERE a.tenant_id = ?1 AND a.id = ?2`)
	countAttempts = prepared(`
SELECT coalesce(max(number), 0) FROM attempts INDEXED BY attempts_event
WHERE tenant_id = ? AND event_id = ? AND webhook_id = ?`)
	// A delivery that still waits is sent at once; one that is being sent is
	// left alone: what was asked for is happening.
	queueAgain = prepared(`
INSERT INTO queue (tenant_id, event_id, webhook_id, trigger, attempts, retries, accepted_at, due_at)
VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?6)
ON CONFLICT DO UPDATE SET trigger = ?4, retries = 0, accepted_at = ?6, due_at = ?6 WHERE claim IS NOT ?7`)
)

// Claim gives this run the right to send a webhook's due deliveries, oldest
// first, within the limit.
func (s *Store) Claim(ctx context.Context, webhook postrider.ID, limit postrider.ClaimLimit) (claimed postrider.Claimed, err error) {
	err = s.write(ctx, func(tx tx) (err error) {
		claimed = postrider.Claimed{NextDue: -1}
		now := time.Now()
		due := s.dueBy(now)
		if err = s.readDue(tx, webhook, due, limit, &claimed); err != nil {
			return fmt.Errorf("read due deliveries: %w", err)
		}
		for i := range claimed.Deliveries {
			d := &claimed.Deliveries[i]
			if _, err := tx.exec(claimDelivery, s.run[:], d.Tenant, d.EventID, webhook[:]); err != nil {
				return err
			}
		}
		var next sql.NullInt64
		if err := tx.queryRow(findNextDue, webhook[:], due).Scan(&next); err != nil {
			return fmt.Errorf("look for the next due delivery: %w", err)
		}
		if next.Valid {
			claimed.NextDue = fromMicros(next.Int64).Sub(now)
		}
		return nil
	})
	return claimed, err
}

func (s *Store) readDue(tx tx, webhook postrider.ID, due int64, limit postrider.ClaimLimit, claimed *postrider.Claimed) error {
	if limit.Early {
		due = math.MaxInt64
	}
	rows, err := tx.query(findDue, webhook[:], due, s.run[:], limit.Rows+1)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // what was read has been read
	size := 0
	for rows.Next() {
		d := postrider.Delivery{Claimed: true, DeliveryKey: postrider.DeliveryKey{WebhookID: webhook}}
		var accepted int64
		if err := rows.Scan(&d.Tenant, &d.EventID, &d.Trigger, &d.Attempts, &d.Retries, &accepted, &d.EventType,
			&d.Payload); err != nil {
			return err
		}
		d.AcceptedAt = fromMicros(accepted)
		size += len(d.Payload)
		if n := len(claimed.Deliveries); n == limit.Rows || n > 0 && size > limit.Bytes {
			claimed.More = true
			return nil
		}
		claimed.Deliveries = append(claimed.Deliveries, d)
	}
	return rows.Err()
}

// Settle records attempts and what becomes of their deliveries. The queue is
// only changed where the claim is still this run's own; the attempt is
// recorded in any case, since it was made.
func (s *Store) Settle(ctx context.Context, settlements []postrider.Settlement) error {
	return s.write(ctx, func(tx tx) error {
		now := time.Now()
		for i := range settlements {
			if err := s.settleOne(tx, &settlements[i], now); err != nil {
				return err
			}
		}
		return s.tally(tx, settlements)
	})
}

func (s *Store) settleOne(tx tx, settlement *postrider.Settlement, now time.Time) (err error) {
	key := &settlement.Key
	due := now.Add(settlement.RetryIn)
	if !settlement.Done {
		settlement.Attempt.NextAttemptAt = due
	}
	switch {
	case settlement.Done:
		_, err = tx.exec(deleteDelivery, key.Tenant, key.EventID, key.WebhookID[:], s.run[:])
	case settlement.Keep:
		_, err = tx.exec(keepDelivery, settlement.Attempts, settlement.Retries,
			key.Tenant, key.EventID, key.WebhookID[:], s.run[:])
	default:
		_, err = tx.exec(retryDelivery, settlement.Attempts, settlement.Retries, micros(due),
			key.Tenant, key.EventID, key.WebhookID[:], s.run[:])
	}
	if err != nil {
		return err
	}
	return recordAttempt(tx, &settlement.Attempt)
}

// Release gives claimed deliveries back, unsent and at once due.
func (s *Store) Release(ctx context.Context, keys []postrider.DeliveryKey) error {
	return s.write(ctx, func(tx tx) error {
		for i := range keys {
			if _, err := tx.exec(releaseDelivery, keys[i].Tenant, keys[i].EventID, keys[i].WebhookID[:], s.run[:]); err != nil {
				return err
			}
		}
		return nil
	})
}

// Redeliver puts the delivery of an attempt into the queue again, due at once
// and with its whole retry schedule before it. With a webhook in to, the event
// goes to that one of the tenant's instead.
func (s *Store) Redeliver(ctx context.Context, tenant string, attempt, to postrider.ID) (again postrider.Redelivery, err error) {
	var target any
	if !to.IsZero() {
		target = to[:]
	}
	err = s.write(ctx, func(tx tx) error {
		var deleted bool
		err := tx.queryRow(findAttempt, tenant, attempt[:], target).Scan(scanID{&again.WebhookID}, &again.EventID, &deleted)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return postrider.Missing("log entry")
		case err != nil:
			return fmt.Errorf("read the attempt to repeat: %w", err)
		case deleted:
			return &postrider.Error{
				Kind: postrider.Conflict, Code: "webhook_deleted",
				Detail: "The webhook of this delivery has been deleted, so there is nowhere to send it again.",
			}
		}
		var made int
		if err := tx.queryRow(countAttempts, tenant, again.EventID, again.WebhookID[:]).Scan(&made); err != nil {
			return fmt.Errorf("count the delivery's attempts: %w", err)
		}
		_, err = tx.exec(queueAgain, tenant, again.EventID, again.WebhookID[:], string(postrider.TriggerRedelivery), made,
			s.dueNow(time.Now()), s.run[:])
		return err
	})
	return again, err
}

// waitingSQL finds the webhooks with queued deliveries by skipping along the
// index from one webhook to the next: its cost is the number of webhooks, not
// of deliveries.
const waitingSQL = `
WITH RECURSIVE webhook(id) AS (
    SELECT min(webhook_id) FROM queue WHERE webhook_id > ?1
    UNION ALL
    SELECT (SELECT min(webhook_id) FROM queue WHERE webhook_id > webhook.id) FROM webhook WHERE webhook.id IS NOT NULL
    LIMIT ?2
)
SELECT id, (SELECT min(due_at) FROM queue WHERE webhook_id = webhook.id) FROM webhook WHERE id IS NOT NULL`

// Waiting returns up to limit webhooks that have queued deliveries, in the
// order of their ids and above after.
func (s *Store) Waiting(ctx context.Context, after postrider.ID, limit int) ([]postrider.Waiting, error) {
	rows, err := s.read.QueryContext(ctx, waitingSQL, after[:], limit)
	if err != nil {
		return nil, fmt.Errorf("look for webhooks with work: %w", err)
	}
	defer rows.Close()
	now := time.Now()
	var list []postrider.Waiting
	for rows.Next() {
		var w postrider.Waiting
		var due int64
		if err := rows.Scan(scanID{&w.WebhookID}, &due); err != nil {
			return nil, fmt.Errorf("read a webhook with work: %w", err)
		}
		w.Due = fromMicros(due).Sub(now)
		list = append(list, w)
	}
	return list, rows.Err()
}
