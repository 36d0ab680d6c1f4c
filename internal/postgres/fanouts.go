package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"postrider"
)

var insertFanouts = prepared(`
INSERT INTO fanouts (tenant_id, event_id, after, day) SELECT unnest($1::text[]), unnest($2::text[]), unnest($3::uuid[]), unnest($4::date[])`)

const (
	lockFanoutSQL    = `SELECT after, day FROM fanouts WHERE tenant_id = $1 AND event_id = $2 FOR UPDATE`
	advanceFanoutSQL = `UPDATE fanouts SET after = $3 WHERE tenant_id = $1 AND event_id = $2`
	deleteFanoutSQL  = `DELETE FROM fanouts WHERE tenant_id = $1 AND event_id = $2`
	fanoutsSQL       = `
SELECT f.tenant_id, f.event_id, f.after, e.type, e.created_at, e.payload
FROM fanouts f JOIN events e ON e.tenant_id = f.tenant_id AND e.id = f.event_id AND e.day = f.day`
)

// Expand writes the next part of a fan-out's deliveries; done ends it. How far
// it came is written with them, so that it goes on from there after a crash. A
// part that another node has written meanwhile is not written again: then the
// error is postrider.ErrStale.
func (s *Store) Expand(ctx context.Context, tenant, event string, deliveries []postrider.Delivery, done bool) error {
	return s.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var after postrider.ID
		var at time.Time
		switch err := tx.QueryRow(ctx, lockFanoutSQL, tenant, event).Scan(&after, &at); {
		case errors.Is(err, pgx.ErrNoRows):
			return postrider.ErrStale
		case err != nil:
			return fmt.Errorf("lock a fan-out: %w", err)
		}
		if len(deliveries) > 0 && string(deliveries[0].WebhookID[:]) <= string(after[:]) {
			return postrider.ErrStale
		}
		if err := s.insertDeliveries(ctx, tx, deliveries, dayOf(at)); err != nil {
			return err
		}
		if done {
			_, err := tx.Exec(ctx, deleteFanoutSQL, tenant, event)
			return err
		}
		_, err := tx.Exec(ctx, advanceFanoutSQL, tenant, event, lastOf(deliveries))
		return err
	})
}

func (s *Store) insertDeliveries(ctx context.Context, tx pgx.Tx, deliveries []postrider.Delivery, of day) error {
	if len(deliveries) == 0 {
		return nil
	}
	run := s.run.Load()
	b := newBatch(run)
	for i := range deliveries {
		b.addDelivery(&deliveries[i], of)
	}
	result := tx.Conn().PgConn().ExecParams(ctx, writeSQL[insertDeliveries], b.deliveries.params(int8Param(run)), nil, binaryFormat, nil)
	if _, err := result.Close(); err != nil {
		return fmt.Errorf("write deliveries: %w", err)
	}
	return nil
}

// lastOf is the last webhook that deliveries go to; they are never none.
func lastOf(deliveries []postrider.Delivery) postrider.ID {
	return deliveries[len(deliveries)-1].WebhookID
}

// Fanouts returns the fan-outs that are not done.
func (s *Store) Fanouts(ctx context.Context) ([]postrider.Fanout, error) {
	list, err := readAll(ctx, s, fanoutsSQL, nil, func(row pgx.CollectableRow) (f postrider.Fanout, err error) {
		err = row.Scan(&f.Event.Tenant, &f.Event.ID, &f.After, &f.Event.Type, &f.Event.CreatedAt, &f.Event.Payload)
		f.Event.CreatedAt = f.Event.CreatedAt.UTC()
		return f, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the fan-outs: %w", err)
	}
	return list, nil
}
