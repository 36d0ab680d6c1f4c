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

// Claim gives this run the right to send a webhook's due deliveries, oldest
// first, within the limit.
func (s *Store) Claim(ctx context.Context, webhook postrider.ID, limit postrider.ClaimLimit) (claimed postrider.Claimed, err error) {
	err = s.write(ctx, func(tx tx) (err error) {
		now := time.Now()
		due := s.dueBy(now)
		c := claiming{s: s, tx: tx, webhook: webhook, place: s.claims.place(webhook), limit: limit, due: due}
		if limit.Early {
			c.due = math.MaxInt64
		}
		if err = c.run(); err != nil {
			return err
		}
		claimed = c.claimed
		claimed.NextDue = -1
		for _, find := range []statement{findNextDue, findNextBundle} {
			var next sql.NullInt64
			if err := tx.queryRow(find, webhook[:], due).Scan(&next); err != nil {
				return fmt.Errorf("look for the next due delivery: %w", err)
			}
			if wait := fromMicros(next.Int64).Sub(now); next.Valid && (claimed.NextDue < 0 || wait < claimed.NextDue) {
				claimed.NextDue = wait
			}
		}
		return nil
	})
	return claimed, err
}

// claiming is a claim under way.
type claiming struct {
	s       *Store
	tx      tx
	webhook postrider.ID
	place   *place
	limit   postrider.ClaimLimit
	due     int64 // what is due later is left

	size    int // payload bytes claimed
	claimed postrider.Claimed
}

// run takes from the queue and from the bundles, whichever is due first.
func (c *claiming) run() error {
	rows, err := c.tx.query(findDue, c.webhook[:], c.place.queue, c.due)
	if err != nil {
		return fmt.Errorf("read due deliveries: %w", err)
	}
	defer rows.Close() //nolint:errcheck // what was read has been read
	queue := queueReader{rows: rows, claims: &c.s.claims, place: c.place}
	if err := queue.next(); err != nil {
		return err
	}
	b, err := c.nextBundle()
	for err == nil && !c.claimed.More && (b != nil || queue.found) {
		if b != nil && (!queue.found || b.first() <= queue.due) {
			if err = c.takeBundle(b); err == nil && !c.claimed.More {
				b, err = c.nextBundle()
			}
			continue
		}
		if c.claimed.More = c.full(len(queue.delivery.Payload)); !c.claimed.More {
			c.take(&queue.delivery, &claim{due: queue.due})
			err = queue.next()
		}
	}
	return err
}

// full reports that another delivery would be more than the limit.
func (c *claiming) full(size int) bool {
	n := len(c.claimed.Deliveries)
	return n >= c.limit.Rows || n > 0 && c.size+size > c.limit.Bytes
}

func (c *claiming) take(d *postrider.Delivery, held *claim) {
	d.Claimed = true
	held.key = d.DeliveryKey
	c.s.claims.hold(held)
	c.size += len(d.Payload)
	c.claimed.Deliveries = append(c.claimed.Deliveries, *d)
}

// nextBundle is the next one that nobody has claimed; nil when none is due.
func (c *claiming) nextBundle() (*bundle, error) {
	for {
		list, err := bundlesOf(c.tx.query(findBundle, c.webhook[:], c.place.bundle, c.due))
		if err != nil {
			return nil, fmt.Errorf("read the next bundle: %w", err)
		}
		if len(list) == 0 {
			return nil, nil //nolint:nilnil // there is none
		}
		b := list[0]
		if c.s.claims.open[b.bundleKey] == nil {
			return b, c.s.unsent(c.tx, b)
		}
		c.place.bundle = b.due
	}
}

// takeBundle claims a whole bundle. Of one that is more than the limit the rest
// is put into the queue, unless the claim is worth while without it.
func (c *claiming) takeBundle(b *bundle) error {
	if n := len(c.claimed.Deliveries); n > 0 && n >= c.limit.Rows/2 && n+len(b.deliveries) > c.limit.Rows {
		c.claimed.More = true
		return nil
	}
	var open *openBundle
	for i := range b.deliveries {
		entry := &b.deliveries[i]
		d := postrider.Delivery{DeliveryKey: b.key(entry), Trigger: entry.trigger, AcceptedAt: fromMicros(entry.accepted)}
		err := c.tx.queryRow(findPayload, d.Tenant, d.EventID).Scan(&d.EventType, &d.Payload)
		switch {
		case errors.Is(err, sql.ErrNoRows): // there is nothing to send
			continue
		case err != nil:
			return fmt.Errorf("read a delivery's payload: %w", err)
		}
		if c.claimed.More = c.full(len(d.Payload)); c.claimed.More {
			if open == nil {
				return nil
			}
			return c.s.queueBundled(c.tx, b, b.deliveries[i:])
		}
		if open == nil {
			open = c.open(b)
		}
		c.take(&d, &claim{bundle: open, due: entry.due, accepted: entry.accepted, trigger: entry.trigger})
	}
	if open == nil {
		c.open(b)
		return b.delete(c.tx)
	}
	return nil
}

func (c *claiming) open(b *bundle) *openBundle {
	c.place.bundle = b.due
	return c.s.claims.openBundle(&b.bundleKey)
}

// A queueReader reads a webhook's due rows in the queue that are not held.
type queueReader struct {
	rows   *rows
	claims *claims
	place  *place
	stuck  bool // the place must not move on

	found    bool
	delivery postrider.Delivery
	due      int64
}

// next goes on to the next one. What has been found before is held by now.
func (q *queueReader) next() error {
	for q.found = false; q.rows.Next(); {
		d := postrider.Delivery{}
		var accepted int64
		if err := q.rows.Scan(&d.Tenant, &d.EventID, scanID{&d.WebhookID}, &d.Trigger, &d.Attempts, &d.Retries, &accepted, &q.due,
			&d.EventType, &d.Payload); err != nil {
			return fmt.Errorf("read a due delivery: %w", err)
		}
		held := q.claims.held[d.DeliveryKey]
		if q.stuck = q.stuck || held != nil && held.leaving; !q.stuck {
			q.place.queue = q.due
		}
		if held == nil {
			d.AcceptedAt = fromMicros(accepted)
			q.delivery, q.found = d, true
			return nil
		}
	}
	if err := q.rows.Err(); err != nil {
		return fmt.Errorf("read due deliveries: %w", err)
	}
	return nil
}
