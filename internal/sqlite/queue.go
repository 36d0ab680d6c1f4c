package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"postrider"
)

var (
	findDue = prepared(`
SELECT q.tenant_id, q.event_id, q.webhook_id, q.trigger, q.attempts, q.retries, q.accepted_at, q.due_at, e.type, e.payload
FROM queue q JOIN events e ON e.tenant_id = q.tenant_id AND e.id = q.event_id
WHERE q.webhook_id = ?1 AND q.due_at >= ?2 AND q.due_at <= ?3
ORDER BY q.due_at`)
	findNextDue = prepared(`
SELECT min(due_at) FROM queue WHERE webhook_id = ?1 AND due_at > ?2`)

	deleteDelivery = prepared(`
DELETE FROM queue WHERE tenant_id = ? AND event_id = ? AND webhook_id = ?`)
	retryDelivery = prepared(`
UPDATE queue SET trigger = 'retry', attempts = ?, retries = ?, due_at = ?
WHERE tenant_id = ? AND event_id = ? AND webhook_id = ?`)

	findAttempt = prepared(`
SELECT coalesce(?3, a.webhook_id), a.event_id, w.id IS NULL OR w.deleted_at IS NOT NULL
FROM attempts a LEFT JOIN webhooks w ON w.tenant_id = a.tenant_id AND w.id = coalesce(?3, a.webhook_id)
WHERE a.tenant_id = ?1 AND a.id = ?2`)
	countAttempts = prepared(`
SELECT coalesce(max(number), 0) FROM attempts INDEXED BY attempts_event
WHERE tenant_id = ? AND event_id = ? AND webhook_id = ?`)
	// A delivery that still waits is sent at once.
	queueAgain = prepared(`
INSERT INTO queue (tenant_id, event_id, webhook_id, trigger, attempts, retries, accepted_at, due_at)
VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?6)
ON CONFLICT DO UPDATE SET trigger = ?4, retries = 0, accepted_at = ?6, due_at = ?6`)
)

// Settle records attempts and what becomes of their deliveries. The delivery is
// only changed where the claim is still this run's own; the attempt is recorded
// in any case, since it was made.
func (s *Store) Settle(ctx context.Context, settlements []postrider.Settlement) error {
	texts := textsOf(settlements)
	return s.write(ctx, func(tx tx) error {
		now := time.Now()
		for i := range settlements {
			if err := s.settleOne(tx, &settlements[i], now); err != nil {
				return err
			}
			if err := recordAttempt(tx, &settlements[i].Attempt, &texts[i]); err != nil {
				return err
			}
		}
		return s.tally(tx, settlements)
	})
}

// settleOne says what becomes of a delivery, and when it is tried again.
func (s *Store) settleOne(tx tx, settlement *postrider.Settlement, now time.Time) (err error) {
	due := now.Add(settlement.RetryIn)
	if !settlement.Done {
		settlement.Attempt.NextAttemptAt = due
	}
	switch held := s.claims.of(&settlement.Key); {
	case held == nil:
		err = s.unbundle(tx, &settlement.Key) // where an attempt would say that it was sent
	case settlement.Done:
		err = s.settleDone(tx, held)
	case settlement.Keep:
		err = s.settleRetry(tx, held, settlement, held.due, stays)
	default:
		err = s.settleRetry(tx, held, settlement, micros(due), goes)
	}
	return err
}

func (s *Store) settleDone(tx tx, held *claim) error {
	if held.bundle == nil {
		if _, err := tx.exec(deleteDelivery, held.key.Tenant, held.key.EventID, held.key.WebhookID[:]); err != nil {
			return err
		}
	}
	return s.claims.leave(tx, held, goes)
}

func (s *Store) settleRetry(tx tx, held *claim, settlement *postrider.Settlement, due int64, stays whether) (err error) {
	key := &held.key
	if held.bundle == nil {
		_, err = tx.exec(retryDelivery, settlement.Attempts, settlement.Retries, due, key.Tenant, key.EventID, key.WebhookID[:])
	} else {
		_, err = tx.exec(insertDelivery, key.Tenant, key.EventID, key.WebhookID[:], string(postrider.TriggerRetry),
			settlement.Attempts, settlement.Retries, held.accepted, due)
	}
	if err != nil {
		return err
	}
	s.claims.lookFrom(key.WebhookID, due)
	return s.claims.leave(tx, held, stays)
}

// Release gives claimed deliveries back, unsent and at once due.
func (s *Store) Release(ctx context.Context, keys []postrider.DeliveryKey) error {
	return s.write(ctx, func(tx tx) error {
		for i := range keys {
			held := s.claims.of(&keys[i])
			if held == nil {
				continue
			}
			if err := s.queueHeld(tx, held); err != nil {
				return err
			}
			s.claims.lookFrom(held.key.WebhookID, held.due)
			if err := s.claims.leave(tx, held, goes); err != nil {
				return err
			}
		}
		return nil
	})
}

// queueHeld gives a claimed delivery a row of its own, if it is in a bundle.
func (s *Store) queueHeld(tx tx, held *claim) error {
	if held.bundle == nil {
		return nil
	}
	_, err := tx.exec(insertDelivery, held.key.Tenant, held.key.EventID, held.key.WebhookID[:], string(held.trigger), 0, 0,
		held.accepted, held.due)
	return err
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
		key := postrider.DeliveryKey{Tenant: tenant, EventID: again.EventID, WebhookID: again.WebhookID}
		if s.claims.of(&key) != nil {
			return nil // it is being sent: what was asked for is happening
		}
		if err := s.unbundle(tx, &key); err != nil {
			return err
		}
		due := s.dueNow(time.Now())
		s.claims.lookFrom(key.WebhookID, due)
		_, err = tx.exec(queueAgain, tenant, again.EventID, again.WebhookID[:], string(postrider.TriggerRedelivery), made, due)
		return err
	})
	return again, err
}

// waitingSQL finds the webhooks with deliveries by skipping along the indexes
// from one webhook to the next: its cost is the number of webhooks, not of
// deliveries.
const waitingSQL = `
WITH RECURSIVE webhook(id) AS (
    SELECT min(id) FROM (
        SELECT min(webhook_id) AS id FROM queue WHERE webhook_id > ?1
        UNION ALL SELECT min(webhook_id) FROM bundles WHERE webhook_id > ?1)
    UNION ALL
    SELECT (SELECT min(id) FROM (
        SELECT min(webhook_id) AS id FROM queue WHERE webhook_id > webhook.id
        UNION ALL SELECT min(webhook_id) FROM bundles WHERE webhook_id > webhook.id))
    FROM webhook WHERE webhook.id IS NOT NULL
    LIMIT ?2
)
SELECT id, (SELECT min(due_at) FROM (
    SELECT min(due_at) AS due_at FROM queue WHERE webhook_id = webhook.id
    UNION ALL SELECT min(due_at) FROM bundles WHERE webhook_id = webhook.id))
FROM webhook WHERE id IS NOT NULL`

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
