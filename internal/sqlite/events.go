package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"postrider"
)

var (
	insertEvent = prepared(`
INSERT INTO events (tenant_id, id, type, occurred_at, created_at, deliveries, payload, accepted_in)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)`)
	insertDelivery = prepared(`
INSERT INTO queue (tenant_id, event_id, webhook_id, trigger, attempts, retries, accepted_at, due_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)`)
	findEvent = prepared(`SELECT type, payload, deliveries FROM events WHERE tenant_id = ? AND id = ?`)

	findIdempotencyKey = prepared(`
SELECT body_hash, answer FROM idempotency_keys WHERE scope = ? AND key = ? AND expires_at > ?`)
	putIdempotencyKey = prepared(`
INSERT OR REPLACE INTO idempotency_keys (scope, key, body_hash, answer, expires_at) VALUES (?, ?, ?, ?, ?)`)
	// Each new key removes a few old ones, so that the table stays as large as
	// a day's keys without a job of its own.
	expireIdempotencyKeys = prepared(`
DELETE FROM idempotency_keys WHERE (scope, key) IN
    (SELECT scope, key FROM idempotency_keys WHERE expires_at <= ? LIMIT 4)`)
)

// Accept writes events and their deliveries in one transaction: all or none.
// An event whose id the producer chose and has used before is not written
// again when it is the same, and is a conflict otherwise; so it is with an
// idempotency key. There is a receipt for each publication; with a repeated
// key they are the first answer's.
func (s *Store) Accept(
	ctx context.Context, accepted []postrider.Accepted, key *postrider.IdempotencyKey,
) (receipts []postrider.Receipt, err error) {
	err = s.write(ctx, func(tx tx) (err error) {
		now := time.Now()
		receipts = nil
		if key != nil {
			receipts, err = repeatedAnswer(tx, key, now)
			for i := range accepted {
				accepted[i].Repeated = receipts != nil
			}
			if receipts != nil || err != nil {
				return err
			}
		}
		for i := range accepted {
			a := &accepted[i]
			if err = s.acceptOne(tx, a, now); err != nil {
				return err
			}
			if a.Publication == len(receipts) {
				receipts = append(receipts, postrider.Receipt{ID: a.Event.ID})
			}
			receipts[a.Publication].Deliveries += a.Event.Deliveries
		}
		if key != nil {
			return rememberAnswer(tx, key, receipts, now)
		}
		return nil
	})
	return receipts, err
}

func (s *Store) acceptOne(tx tx, a *postrider.Accepted, now time.Time) (err error) {
	e := &a.Event
	if a.ChosenID {
		if a.Repeated, err = sameEvent(tx, e); a.Repeated || err != nil {
			return err
		}
	}
	if _, err := tx.exec(insertEvent, e.Tenant, e.ID, e.Type, optional(e.OccurredAt), micros(e.CreatedAt),
		e.Deliveries, e.Payload, s.claims.transaction); err != nil {
		return err
	}
	if a.Fanout {
		if _, err := tx.exec(insertFanout, e.Tenant, e.ID, lastOf(a.Deliveries)); err != nil {
			return err
		}
	}
	for i := range a.Deliveries {
		if err := s.acceptDelivery(tx, &a.Deliveries[i], a.Fanout, now); err != nil {
			return err
		}
	}
	return nil
}

// acceptDelivery adds a delivery to its bundle. A fan-out has one for each of
// very many webhooks, and nothing to bundle.
func (s *Store) acceptDelivery(tx tx, d *postrider.Delivery, fanout bool, now time.Time) error {
	if fanout {
		return s.queueNew(tx, d, s.dueNow(now))
	}
	return s.claims.add(tx, d, s.dueNow(now))
}

// dueNow gives every delivery a due time of its own, so that a webhook's
// deliveries leave the queue in the order in which they were accepted.
func (s *Store) dueNow(now time.Time) int64 {
	s.lastDue = max(s.lastDue+1, micros(now))
	if s.lastDue > micros(now)+maxAhead {
		s.lastDue = micros(now) // the clock was set back: it counts, not the order
	}
	return s.lastDue
}

// maxAhead bounds how far the due times of a burst run ahead of the clock, in
// microseconds, and so in deliveries.
const maxAhead = 1e6

// dueBy is the due time up to which deliveries are due. What was accepted a
// moment ago is, although its due time may be ahead of the clock.
func (s *Store) dueBy(now time.Time) int64 {
	if s.lastDue > micros(now)+maxAhead {
		return micros(now)
	}
	return max(s.lastDue, micros(now))
}

// sameEvent reports whether the event was accepted before, and how many
// deliveries it had then.
func sameEvent(tx tx, e *postrider.Event) (bool, error) {
	var kind string
	var payload []byte
	var deliveries int
	err := tx.queryRow(findEvent, e.Tenant, e.ID).Scan(&kind, &payload, &deliveries)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for an event of the same id: %w", err)
	case kind != e.Type || !bytes.Equal(payload, e.Payload):
		return false, &postrider.Error{
			Kind: postrider.Conflict, Code: "event_id_taken", Field: "id",
			Detail: "Another event has been accepted under this id. Use an id once; the same event may be sent again.",
		}
	}
	e.Deliveries = deliveries
	return true, nil
}

func repeatedAnswer(tx tx, key *postrider.IdempotencyKey, now time.Time) ([]postrider.Receipt, error) {
	var hash []byte
	var answer string
	err := tx.queryRow(findIdempotencyKey, key.Scope, key.Key, micros(now)).Scan(&hash, &answer)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for the idempotency key: %w", err)
	case !bytes.Equal(hash, key.BodyHash[:]):
		return nil, &postrider.Error{
			Kind: postrider.Conflict, Code: "idempotency_key_reused", Field: "Idempotency-Key",
			Detail: "This idempotency key was used with another body in the last 24 hours. Use a new key for a new request.",
		}
	}
	var receipts []postrider.Receipt
	if err := json.Unmarshal([]byte(answer), &receipts); err != nil {
		return nil, fmt.Errorf("decode a remembered answer: %w", err)
	}
	return receipts, nil
}

func rememberAnswer(tx tx, key *postrider.IdempotencyKey, receipts []postrider.Receipt, now time.Time) error {
	answer, err := json.Marshal(receipts)
	if err != nil {
		return fmt.Errorf("encode an answer to remember: %w", err)
	}
	if _, err := tx.exec(expireIdempotencyKeys, micros(now)); err != nil {
		return err
	}
	_, err = tx.exec(putIdempotencyKey, key.Scope, key.Key, key.BodyHash[:], string(answer),
		micros(now.Add(postrider.IdempotencyTTL)))
	return err
}

const (
	eventSQL = `
SELECT type, occurred_at, created_at, deliveries, payload FROM events WHERE tenant_id = ? AND id = ?`
	eventQueueSQL = `
SELECT webhook_id, attempts, due_at FROM queue WHERE tenant_id = ? AND event_id = ? ORDER BY webhook_id LIMIT ?`
)

// maxEventAttempts bounds what Event reads of an event that went to very many
// webhooks.
const maxEventAttempts = 10_000

// Event returns an event and where each of its deliveries stands, by webhook.
func (s *Store) Event(ctx context.Context, tenant, id string) (postrider.Event, []postrider.DeliveryStatus, error) {
	e := postrider.Event{Tenant: tenant, ID: id}
	var created int64
	var occurred sql.NullInt64
	err := s.read.QueryRowContext(ctx, eventSQL, tenant, id).Scan(&e.Type, &occurred, &created, &e.Deliveries, &e.Payload)
	if errors.Is(err, sql.ErrNoRows) {
		return e, nil, postrider.Missing("event")
	}
	if err != nil {
		return e, nil, fmt.Errorf("read an event: %w", err)
	}
	e.OccurredAt, e.CreatedAt = fromOptional(occurred), fromMicros(created)
	deliveries, err := s.eventDeliveries(ctx, tenant, id)
	return e, deliveries, err
}

// eventDeliveries joins the places where a delivery can be. They are read in
// the order in which it passes them: out of a bundle into the queue, if it comes
// to that, and from both into the log.
func (s *Store) eventDeliveries(ctx context.Context, tenant, id string) ([]postrider.DeliveryStatus, error) {
	bundled, err := s.bundledOf(ctx, tenant, id)
	if err != nil {
		return nil, err
	}
	list, err := s.queuedOf(ctx, tenant, id)
	if err != nil {
		return nil, err
	}
	page, err := s.Attempts(ctx, postrider.AttemptFilter{Tenant: tenant, EventID: id, Limit: maxEventAttempts})
	if err != nil {
		return nil, err
	}
	left := map[postrider.ID]bool{}
	for i := range list {
		left[list[i].WebhookID] = true
	}
	for i := range page.Attempts {
		left[page.Attempts[i].WebhookID] = true
	}
	for i := range bundled {
		if !left[bundled[i].WebhookID] {
			list = append(list, bundled[i])
		}
	}
	slices.SortFunc(list, func(a, b postrider.DeliveryStatus) int { return bytes.Compare(a.WebhookID[:], b.WebhookID[:]) })
	return postrider.WithAttempts(list, page.Attempts), nil
}

func (s *Store) queuedOf(ctx context.Context, tenant, id string) (list []postrider.DeliveryStatus, err error) {
	rows, err := s.read.QueryContext(ctx, eventQueueSQL, tenant, id, maxEventAttempts)
	if err != nil {
		return nil, fmt.Errorf("read an event's queued deliveries: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		d := postrider.DeliveryStatus{State: postrider.DeliveryPending}
		var due int64
		if err := rows.Scan(scanID{&d.WebhookID}, &d.Attempts, &due); err != nil {
			return nil, fmt.Errorf("read a queued delivery: %w", err)
		}
		d.NextAttemptAt = fromMicros(due)
		list = append(list, d)
	}
	return list, rows.Err()
}
