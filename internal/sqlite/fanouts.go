package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"postrider"
)

var (
	insertFanout  = prepared(`INSERT INTO fanouts (tenant_id, event_id, after) VALUES (?, ?, ?)`)
	advanceFanout = prepared(`UPDATE fanouts SET after = ? WHERE tenant_id = ? AND event_id = ?`)
	deleteFanout  = prepared(`DELETE FROM fanouts WHERE tenant_id = ? AND event_id = ?`)
)

// fanoutsSQL has a CROSS JOIN so that SQLite begins with the fan-outs, which are
// few.
const fanoutsSQL = `
SELECT f.tenant_id, f.event_id, f.after, e.type, e.created_at, e.payload
FROM fanouts f CROSS JOIN events e ON e.tenant_id = f.tenant_id AND e.id = f.event_id`

// Expand writes the next part of a fan-out's deliveries; done ends it. How far
// it came is written with them, so that it goes on from there after a crash.
func (s *Store) Expand(ctx context.Context, tenant, event string, deliveries []postrider.Delivery, done bool) error {
	return s.write(ctx, func(tx tx) error {
		now := time.Now()
		for i := range deliveries {
			if err := s.acceptDelivery(tx, &deliveries[i], true, now); err != nil {
				return err
			}
		}
		if done {
			_, err := tx.exec(deleteFanout, tenant, event)
			return err
		}
		_, err := tx.exec(advanceFanout, lastOf(deliveries), tenant, event)
		return err
	})
}

// queueNew puts a new delivery into the queue.
func (s *Store) queueNew(tx tx, d *postrider.Delivery, due int64) error {
	if _, err := tx.exec(insertDelivery, d.Tenant, d.EventID, d.WebhookID[:], string(d.Trigger), 0, 0, micros(d.AcceptedAt), due); err != nil {
		return err
	}
	if d.Claimed {
		s.claims.hold(&claim{key: d.DeliveryKey, due: due})
	} else {
		s.claims.lookFrom(d.WebhookID, due)
	}
	return nil
}

// lastOf is the last webhook that deliveries go to; they are never none.
func lastOf(deliveries []postrider.Delivery) []byte {
	id := deliveries[len(deliveries)-1].WebhookID
	return id[:]
}

// Fanouts returns the fan-outs that are not done.
func (s *Store) Fanouts(ctx context.Context) ([]postrider.Fanout, error) {
	rows, err := s.read.QueryContext(ctx, fanoutsSQL)
	if err != nil {
		return nil, fmt.Errorf("read the fan-outs: %w", err)
	}
	defer rows.Close()
	var list []postrider.Fanout
	for rows.Next() {
		f, err := scanFanout(rows)
		if err != nil {
			return nil, fmt.Errorf("read a fan-out: %w", err)
		}
		list = append(list, f)
	}
	return list, rows.Err()
}

func scanFanout(rows *sql.Rows) (f postrider.Fanout, err error) {
	var created int64
	err = rows.Scan(&f.Event.Tenant, &f.Event.ID, scanID{&f.After}, &f.Event.Type, &created, &f.Event.Payload)
	f.Event.CreatedAt = fromMicros(created)
	return f, err
}
