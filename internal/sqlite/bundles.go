package sqlite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"postrider"
)

// A delivery that was accepted and not yet tried is one of a bundle: those that
// a transaction accepted for a webhook are written as one row, and that row goes
// when the last of them is settled. So the usual delivery, which succeeds at
// once, costs the store its event and its entry of the log. Only what comes to
// more than that has a row of its own, in the queue:
//
//	Accept ──▶ bundle ── Claim ──▶ held by a lane ── Settle ──▶ log
//	                                  │      ▲
//	                retry, release    ▼      │ Claim
//	                                  queue ─┘
//
// A bundle is never rewritten. Which of its deliveries are still to be sent is
// known in memory once it was claimed. After a crash it is told from what they
// have left behind: an attempt in the log, or a row in the queue.
var (
	insertBundle = prepared(`
INSERT INTO bundles (accepted_in, webhook_id, due_at, tenant_id, size, deliveries) VALUES (?, ?, ?, ?, ?, ?)`)
	deleteBundle = prepared(`
DELETE FROM bundles WHERE accepted_in = ? AND webhook_id = ? AND due_at = ?`)
	findBundle = prepared(`
SELECT accepted_in, webhook_id, due_at, tenant_id, deliveries FROM bundles
WHERE webhook_id = ? AND due_at > ? AND due_at <= ? ORDER BY due_at LIMIT 1`)
	findNextBundle = prepared(`
SELECT min(due_at) FROM bundles WHERE webhook_id = ?1 AND due_at > ?2`)
	findBundlesOf = prepared(`
SELECT b.accepted_in, b.webhook_id, b.due_at, b.tenant_id, b.deliveries
FROM events e JOIN bundles b ON b.accepted_in = e.accepted_in AND b.webhook_id = ?3
WHERE e.tenant_id = ?1 AND e.id = ?2`)
	findOldBundles = prepared(`
SELECT accepted_in, webhook_id, due_at, tenant_id, deliveries FROM bundles
WHERE accepted_in < ? ORDER BY accepted_in LIMIT ?`)
	findPayload = prepared(`
SELECT type, payload FROM events WHERE tenant_id = ? AND id = ?`)
	wasTaken = prepared(`
SELECT EXISTS (SELECT 1 FROM queue WHERE tenant_id = ?1 AND event_id = ?2 AND webhook_id = ?3)
    OR EXISTS (SELECT 1 FROM attempts INDEXED BY attempts_event WHERE tenant_id = ?1 AND event_id = ?2 AND webhook_id = ?3)`)
)

const lastTransactionSQL = `SELECT max(accepted_in) FROM bundles`

// bundleSize is how many deliveries a bundle holds at most: enough that its own
// cost does not show, and few enough that a part of one is soon written.
const bundleSize = 256

// A bundled delivery, as it stands in its bundle.
type bundled struct {
	event    string
	trigger  postrider.Trigger
	accepted int64
	due      int64
}

// A bundleKey names a bundle.
type bundleKey struct {
	acceptedIn int64
	webhook    postrider.ID
	due        int64
}

func (k *bundleKey) delete(tx tx) error {
	_, err := tx.exec(deleteBundle, k.acceptedIn, k.webhook[:], k.due)
	return err
}

// A bundle that was read.
type bundle struct {
	bundleKey

	tenant     string
	deliveries []bundled
}

// first is when the first of what is left in a bundle is due. What was before it
// may be in the queue by now, and has its turn before.
func (b *bundle) first() int64 {
	if len(b.deliveries) == 0 {
		return b.due
	}
	return b.deliveries[0].due
}

func (b *bundle) key(d *bundled) postrider.DeliveryKey {
	return postrider.DeliveryKey{Tenant: b.tenant, EventID: d.event, WebhookID: b.webhook}
}

func (d *bundled) append(to []byte, bundleDue int64) []byte {
	to = binary.AppendUvarint(to, uint64(d.due-bundleDue))
	to = binary.AppendVarint(to, d.due-d.accepted)
	for _, text := range []string{string(d.trigger), d.event} {
		to = binary.AppendUvarint(to, uint64(len(text)))
		to = append(to, text...)
	}
	return to
}

var errBundle = errors.New("a bundle of deliveries is not as it was written")

func decodeBundle(encoded []byte, bundleDue int64) (list []bundled, err error) {
	number := func(read func([]byte) (int64, int)) (n int64) {
		n, size := read(encoded)
		if size <= 0 {
			err = errBundle
			return 0
		}
		encoded = encoded[size:]
		return n
	}
	unsigned := func(b []byte) (int64, int) {
		n, size := binary.Uvarint(b)
		return int64(min(n, math.MaxInt64)), size
	}
	text := func() string {
		n := number(unsigned)
		if n > int64(len(encoded)) {
			err = errBundle
			return ""
		}
		s := string(encoded[:n])
		encoded = encoded[n:]
		return s
	}
	for len(encoded) > 0 && err == nil {
		d := bundled{due: bundleDue + number(unsigned)}
		d.accepted = d.due - number(binary.Varint)
		d.trigger = postrider.Trigger(text())
		d.event = text()
		list = append(list, d)
	}
	return list, err
}

func scanBundle(r row) (b *bundle, err error) {
	b = new(bundle)
	var encoded []byte
	if err := r.Scan(&b.acceptedIn, scanID{&b.webhook}, &b.due, &b.tenant, &encoded); err != nil {
		return nil, err
	}
	b.deliveries, err = decodeBundle(encoded, b.due)
	return b, err
}

// unsent leaves in a bundle what is still to be sent. One of this run that
// nobody has claimed is whole.
func (s *Store) unsent(tx tx, b *bundle) error {
	if b.acceptedIn >= s.claims.firstTransaction {
		return nil
	}
	kept := b.deliveries[:0]
	for i := range b.deliveries {
		d := &b.deliveries[i]
		var taken bool
		if err := tx.queryRow(wasTaken, b.tenant, d.event, b.webhook[:]).Scan(&taken); err != nil {
			return fmt.Errorf("look for what became of a delivery: %w", err)
		}
		if !taken {
			kept = append(kept, *d)
		}
	}
	b.deliveries = kept
	return nil
}

// unbundle gives those of a delivery's bundle that are still to be sent rows of
// their own, unless the bundle is claimed: then each of them is accounted for.
func (s *Store) unbundle(tx tx, key *postrider.DeliveryKey) error {
	list, err := bundlesOf(tx.query(findBundlesOf, key.Tenant, key.EventID, key.WebhookID[:]))
	if err != nil {
		return fmt.Errorf("read a delivery's bundle: %w", err)
	}
	for _, b := range list {
		if s.claims.open[b.bundleKey] == nil {
			if err := s.spill(tx, b); err != nil {
				return err
			}
		}
	}
	return nil
}

func bundlesOf(rows *rows, err error) (list []*bundle, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // what was read has been read
	for rows.Next() {
		b, err := scanBundle(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, rows.Err()
}

// spill writes a bundle that nobody has claimed into the queue.
func (s *Store) spill(tx tx, b *bundle) error {
	if err := s.unsent(tx, b); err != nil {
		return err
	}
	if err := s.queueBundled(tx, b, b.deliveries); err != nil {
		return err
	}
	return b.delete(tx)
}

func (s *Store) queueBundled(tx tx, b *bundle, deliveries []bundled) error {
	for i := range deliveries {
		d := &deliveries[i]
		if _, err := tx.exec(insertDelivery, b.tenant, d.event, b.webhook[:], string(d.trigger), 0, 0, d.accepted, d.due); err != nil {
			return err
		}
		s.claims.lookFrom(b.webhook, d.due)
	}
	return nil
}

// spillPart is how many bundles one step of spillBefore takes up.
const spillPart = 8

// spillBefore writes into the queue what was accepted before a time and is in
// bundles still, whether claimed or not.
func (s *Store) spillBefore(ctx context.Context, before int64) error {
	return s.inParts(ctx, spillPart, func(tx tx) (int, error) {
		list, err := bundlesOf(tx.query(findOldBundles, before, spillPart))
		if err != nil {
			return 0, fmt.Errorf("read old bundles: %w", err)
		}
		for _, b := range list {
			if open := s.claims.open[b.bundleKey]; open != nil {
				err = s.spillClaimed(tx, open)
			} else {
				err = s.spill(tx, b)
			}
			if err != nil {
				return 0, err
			}
		}
		return len(list), nil
	})
}

// spillClaimed gives the deliveries of a bundle that are held rows of their own.
func (s *Store) spillClaimed(tx tx, open *openBundle) error {
	for _, held := range s.claims.heldOf(open) {
		if err := s.queueHeld(tx, held); err != nil {
			return err
		}
		if err := s.claims.leave(tx, held, stays); err != nil {
			return err
		}
	}
	return nil
}

const bundlesOfEventSQL = `
SELECT b.accepted_in, b.webhook_id, b.due_at, b.tenant_id, b.deliveries
FROM events e JOIN bundles b ON b.accepted_in = e.accepted_in AND b.tenant_id = e.tenant_id
WHERE e.tenant_id = ?1 AND e.id = ?2 AND instr(b.deliveries, ?3) > 0`

// bundledOf are the deliveries of an event that are in bundles. Those that have
// an attempt or are in the queue have left theirs.
func (s *Store) bundledOf(ctx context.Context, tenant, event string) (list []postrider.DeliveryStatus, err error) {
	rows, err := s.read.QueryContext(ctx, bundlesOfEventSQL, tenant, event, []byte(event))
	if err != nil {
		return nil, fmt.Errorf("read an event's bundles: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		b, err := scanBundle(rows)
		if err != nil {
			return nil, fmt.Errorf("read an event's bundle: %w", err)
		}
		for i := range b.deliveries {
			if d := &b.deliveries[i]; d.event == event {
				list = append(list, postrider.DeliveryStatus{
					WebhookID: b.webhook, State: postrider.DeliveryPending, NextAttemptAt: fromMicros(d.due),
				})
			}
		}
	}
	return list, rows.Err()
}

// A draft is a bundle of the transaction under way, to which it still adds.
type draft struct {
	bundleKey

	tenant     string
	size       int
	deliveries []byte
	open       *openBundle // of which its deliveries are; nil: unclaimed
}

func (f *draft) write(tx tx) error {
	_, err := tx.exec(insertBundle, f.acceptedIn, f.webhook[:], f.due, f.tenant, f.size, f.deliveries)
	return err
}

// add bundles a new delivery with those of the same webhook that the
// transaction has accepted before. Those that are claimed are apart: nobody
// looks for them.
func (c *claims) add(tx tx, d *postrider.Delivery, due int64) error {
	drafts := c.drafts
	if d.Claimed {
		drafts = c.claimedDrafts
	}
	f := drafts[d.WebhookID]
	if f == nil || f.size == bundleSize {
		if f != nil {
			if err := f.write(tx); err != nil {
				return err
			}
		}
		f = &draft{bundleKey: bundleKey{c.transaction, d.WebhookID, due}, tenant: d.Tenant}
		if d.Claimed {
			f.open = c.openBundle(&f.bundleKey)
		} else {
			c.lookFromBundle(d.WebhookID, due)
		}
		drafts[d.WebhookID] = f
	}
	one := bundled{event: d.EventID, trigger: d.Trigger, accepted: micros(d.AcceptedAt), due: due}
	f.size++
	f.deliveries = one.append(f.deliveries, f.due)
	if f.open != nil {
		c.hold(&claim{key: d.DeliveryKey, bundle: f.open, due: due, accepted: one.accepted, trigger: d.Trigger})
	}
	return nil
}

// writeDrafts ends a transaction's bundles.
func (c *claims) writeDrafts(tx tx) error {
	for _, drafts := range []map[postrider.ID]*draft{c.drafts, c.claimedDrafts} {
		for _, f := range drafts {
			if err := f.write(tx); err != nil {
				return err
			}
		}
	}
	return nil
}
