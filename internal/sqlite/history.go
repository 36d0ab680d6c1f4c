package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postrider"
)

var (
	findOldAttempts = prepared(`
SELECT id, event_id FROM attempts WHERE tenant_id = ? AND id < ? ORDER BY id LIMIT ?`)
	dropAttempts = prepared(`
DELETE FROM attempts WHERE tenant_id = ? AND id <= ?`)
	// An event stays while anything is left that leads to it, or needs it.
	dropEvent = prepared(`
DELETE FROM events WHERE tenant_id = ?1 AND id = ?2
    AND NOT EXISTS (SELECT 1 FROM attempts INDEXED BY attempts_event WHERE tenant_id = ?1 AND event_id = ?2)
    AND NOT EXISTS (SELECT 1 FROM queue WHERE tenant_id = ?1 AND event_id = ?2)
    AND NOT EXISTS (SELECT 1 FROM fanouts WHERE tenant_id = ?1 AND event_id = ?2)
    AND NOT EXISTS (SELECT 1 FROM bundles WHERE bundles.accepted_in = events.accepted_in)`)
	dropUndelivered = prepared(`
DELETE FROM events WHERE (tenant_id, id) IN
    (SELECT tenant_id, id FROM events INDEXED BY events_undelivered WHERE deliveries = 0 AND created_at < ? LIMIT ?)`)
	dropWebhooks = prepared(`
DELETE FROM webhooks WHERE (tenant_id, id) IN
    (SELECT tenant_id, id FROM webhooks WHERE deleted_at < ?
        AND NOT EXISTS (SELECT 1 FROM queue WHERE queue.webhook_id = webhooks.id)
        AND NOT EXISTS (SELECT 1 FROM bundles WHERE bundles.webhook_id = webhooks.id)
        AND NOT EXISTS (SELECT 1 FROM attempts INDEXED BY attempts_webhook
            WHERE attempts.tenant_id = webhooks.tenant_id AND attempts.webhook_id = webhooks.id) LIMIT ?)`)
)

// historyPart is how much one step of DropHistory removes, and so how long a
// publish that comes at that moment waits: a few milliseconds.
const historyPart = 200

// DropHistory removes the attempts that were made longer ago than a duration,
// the events to which nothing leads then, and the deleted webhooks that neither
// names. It does so in small steps, and between two of them leaves the store to
// others for longer than a step takes.
//
// The space is used again for what comes; the file does not shrink.
func (s *Store) DropHistory(ctx context.Context, olderThan time.Duration) error {
	before := time.Now().Add(-olderThan)
	// What still waits would keep the other events of its bundle.
	if err := s.spillBefore(ctx, micros(before)); err != nil {
		return fmt.Errorf("queue what has waited for long: %w", err)
	}
	tenants, err := s.Tenants(ctx)
	if err != nil {
		return err
	}
	for i := range tenants {
		tenant := tenants[i].Name
		if err := s.inParts(ctx, historyPart, func(tx tx) (int, error) { return dropPart(tx, tenant, idAt(before)) }); err != nil {
			return fmt.Errorf("drop the attempts of a tenant: %w", err)
		}
	}
	for _, drop := range []statement{dropUndelivered, dropWebhooks} {
		if err := s.inParts(ctx, historyPart, func(tx tx) (int, error) {
			n, err := tx.exec(drop, micros(before), historyPart)
			return int(n), err
		}); err != nil {
			return fmt.Errorf("drop what nothing leads to: %w", err)
		}
	}
	return nil
}

// inParts takes steps until one of them is not a whole one.
func (s *Store) inParts(ctx context.Context, part int, step func(tx) (int, error)) error {
	for {
		began := time.Now()
		var removed int
		if err := s.write(ctx, func(tx tx) (err error) {
			removed, err = step(tx)
			return err
		}); err != nil {
			return err
		}
		if removed < part {
			return nil
		}
		rest := time.NewTimer(2 * time.Since(began))
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
			return ctx.Err()
		}
	}
}

func dropPart(tx tx, tenant string, before postrider.ID) (removed int, err error) {
	last, events, removed, err := oldAttempts(tx, tenant, before)
	if err != nil || removed == 0 {
		return 0, err
	}
	if _, err := tx.exec(dropAttempts, tenant, last[:]); err != nil {
		return 0, err
	}
	for event := range events {
		if _, err := tx.exec(dropEvent, tenant, event); err != nil {
			return 0, err
		}
	}
	return removed, nil
}

// oldAttempts are the next to go, and the events that they were made for.
func oldAttempts(tx tx, tenant string, before postrider.ID) (last postrider.ID, events map[string]bool, found int, err error) {
	rows, err := tx.query(findOldAttempts, tenant, before[:], historyPart)
	if err != nil {
		return last, nil, 0, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	events = map[string]bool{}
	for rows.Next() {
		var event string
		if err := rows.Scan(scanID{&last}, &event); err != nil {
			return last, nil, 0, fmt.Errorf("read an old attempt: %w", err)
		}
		events[event] = true
		found++
	}
	return last, events, found, rows.Err()
}
