package sqlite

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"postrider"
)

// A trial does at random what lanes do to a store, beside a model of it: the
// deliveries that are held and those that wait, with the number of attempts
// that each has had.
type trial struct {
	t        *testing.T
	dir      string
	s        *Store
	random   *rand.Rand
	webhooks []postrider.ID
	waiting  map[postrider.DeliveryKey]int
	held     map[postrider.DeliveryKey]int
	settled  map[postrider.DeliveryKey]postrider.ID // its last attempt
}

func (r *trial) open() {
	r.t.Helper()
	s, err := Open(r.t.Context(), r.dir, plainSealer{})
	if err != nil {
		r.t.Fatal(err)
	}
	r.s = s
}

func (r *trial) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// some picks from a set, in an order that the seed decides.
func (r *trial) some(from map[postrider.DeliveryKey]int, n int) []postrider.DeliveryKey {
	keys := slices.SortedFunc(maps.Keys(from), func(a, b postrider.DeliveryKey) int {
		return bytes.Compare([]byte(a.EventID+string(a.WebhookID[:])), []byte(b.EventID+string(b.WebhookID[:])))
	})
	r.random.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	return keys[:min(n, len(keys))]
}

func (r *trial) accept() {
	var list []postrider.Accepted
	for i := range 1 + r.random.IntN(6) {
		a := eventFor(r.webhooks[0], "1")
		a.Publication, a.Deliveries = i, nil
		for _, w := range r.webhooks {
			if r.random.IntN(3) == 0 {
				continue
			}
			key := postrider.DeliveryKey{Tenant: a.Event.Tenant, EventID: a.Event.ID, WebhookID: w}
			d := postrider.Delivery{DeliveryKey: key, Trigger: postrider.TriggerEvent, AcceptedAt: time.Now(), Claimed: r.random.IntN(2) == 0}
			a.Deliveries = append(a.Deliveries, d)
			if d.Claimed {
				r.held[key] = 0
			} else {
				r.waiting[key] = 0
			}
		}
		a.Event.Deliveries = len(a.Deliveries)
		a.Fanout = len(a.Deliveries) > 0 && r.random.IntN(10) == 0
		list = append(list, a)
	}
	_, err := r.s.Accept(r.t.Context(), list, nil)
	r.must(err)
}

func (r *trial) claim(webhook postrider.ID, limit postrider.ClaimLimit) int {
	claimed, err := r.s.Claim(r.t.Context(), webhook, limit)
	r.must(err)
	if len(claimed.Deliveries) > limit.Rows {
		r.t.Fatalf("got %d deliveries, want at most %d", len(claimed.Deliveries), limit.Rows)
	}
	for _, d := range claimed.Deliveries {
		attempts, waits := r.waiting[d.DeliveryKey]
		if !waits || d.Attempts != attempts || string(d.Payload) != "1" {
			r.t.Fatalf("got %+v, want one that waits (%v), after %d attempts", d, waits, attempts)
		}
		delete(r.waiting, d.DeliveryKey)
		r.held[d.DeliveryKey] = attempts
	}
	if len(claimed.Deliveries) == 0 && claimed.More {
		r.t.Fatal("got nothing of what is said to be there")
	}
	return len(claimed.Deliveries)
}

func (r *trial) settle() {
	var list []postrider.Settlement
	for _, key := range r.some(r.held, 1+r.random.IntN(8)) {
		attempts := r.held[key] + 1
		settlement := postrider.Settlement{Key: key, Attempts: attempts, Attempt: postrider.Attempt{
			ID: postrider.NewID(), Tenant: key.Tenant, WebhookID: key.WebhookID, EventID: key.EventID, Number: attempts,
			At: time.Now(), Status: postrider.AttemptFailure,
		}}
		delete(r.held, key)
		r.settled[key] = settlement.Attempt.ID
		switch r.random.IntN(4) {
		case 0:
			settlement.RetryIn = time.Duration(r.random.IntN(3)) * time.Minute
			r.waiting[key] = attempts
		case 1:
			settlement.Keep = true
			r.held[key] = attempts
		default:
			settlement.Done = true
		}
		list = append(list, settlement)
	}
	r.must(r.s.Settle(r.t.Context(), list))
}

func (r *trial) release() {
	keys := r.some(r.held, r.random.IntN(5))
	for _, key := range keys {
		r.waiting[key] = r.held[key]
		delete(r.held, key)
	}
	r.must(r.s.Release(r.t.Context(), keys))
}

// redeliver sends again what was tried, to its webhook or to another one.
func (r *trial) redeliver() {
	for key, attempt := range r.settled {
		to := r.webhooks[r.random.IntN(len(r.webhooks))]
		_, err := r.s.Redeliver(r.t.Context(), key.Tenant, attempt, to)
		r.must(err)
		key.WebhookID = to
		if _, held := r.held[key]; held {
			return
		}
		if _, waits := r.waiting[key]; !waits {
			r.waiting[key] = r.attempts(key)
		}
		return
	}
}

func (r *trial) attempts(key postrider.DeliveryKey) (n int) {
	page, err := r.s.Attempts(r.t.Context(), postrider.AttemptFilter{Tenant: key.Tenant, EventID: key.EventID, WebhookID: key.WebhookID, Limit: 1000})
	r.must(err)
	for i := range page.Attempts {
		n = max(n, page.Attempts[i].Number)
	}
	return n
}

func (r *trial) reopen() {
	r.must(r.s.Close())
	advance(time.Second)
	r.open()
	maps.Copy(r.waiting, r.held)
	clear(r.held)
}

// rollBack has everything at once in transactions that fail as a whole.
func (r *trial) rollBack() {
	failed := fmt.Errorf("a fault of the test")
	err := r.s.write(r.t.Context(), func(tx tx) error {
		for _, w := range r.webhooks {
			c := claiming{
				s: r.s, tx: tx, webhook: w, place: r.s.claims.place(w), due: r.s.dueBy(time.Now()), limit: postrider.ClaimLimit{Rows: 5, Bytes: 1 << 20},
			}
			if err := c.run(); err != nil {
				return err
			}
		}
		for _, key := range r.some(r.held, 5) {
			held := r.s.claims.of(&key)
			if held == nil {
				return fmt.Errorf("%v is not held", key)
			}
			if err := r.s.settleDone(tx, held); err != nil {
				return err
			}
		}
		return failed
	})
	if err != failed { //nolint:errorlint // it is that very error
		r.t.Fatal(err)
	}
}

// check compares where the store says that deliveries stand with the model.
func (r *trial) check() {
	for _, key := range slices.Concat(r.some(r.waiting, 3), r.some(r.held, 3)) {
		_, list, err := r.s.Event(r.t.Context(), key.Tenant, key.EventID)
		r.must(err)
		i := slices.IndexFunc(list, func(d postrider.DeliveryStatus) bool { return d.WebhookID == key.WebhookID })
		if i < 0 || list[i].State != postrider.DeliveryPending {
			r.t.Fatalf("got %+v, want %v pending", list, key)
		}
	}
	for key := range r.settled {
		_, waits := r.waiting[key]
		_, held := r.held[key]
		_, list, err := r.s.Event(r.t.Context(), key.Tenant, key.EventID)
		r.must(err)
		i := slices.IndexFunc(list, func(d postrider.DeliveryStatus) bool { return d.WebhookID == key.WebhookID })
		if i < 0 || (list[i].State == postrider.DeliveryPending) != (waits || held) {
			r.t.Fatalf("got %+v, want %v pending: %v", list, key, waits || held)
		}
		return
	}
}

// drain sends all that is left, and finds nothing after.
func (r *trial) drain() {
	r.must(r.s.Release(r.t.Context(), r.some(r.held, 1<<20)))
	maps.Copy(r.waiting, r.held)
	clear(r.held)
	for _, w := range r.webhooks {
		for r.claim(w, postrider.ClaimLimit{Rows: 1 + r.random.IntN(50), Bytes: 1 << 20, Early: true}) > 0 {
			continue
		}
	}
	if len(r.waiting) > 0 {
		r.t.Fatalf("%d deliveries were not found", len(r.waiting))
	}
	for len(r.held) > 0 {
		r.settle()
		maps.Copy(r.held, r.waiting)
		for _, w := range r.webhooks {
			r.claim(w, postrider.ClaimLimit{Rows: 1000, Bytes: 1 << 20, Early: true})
		}
	}
	var rows int
	r.must(r.s.read.QueryRowContext(r.t.Context(), `SELECT (SELECT count(*) FROM bundles) + (SELECT count(*) FROM queue)`).Scan(&rows))
	if rows > 0 || len(r.s.claims.held) > 0 || len(r.s.claims.open) > 0 {
		r.t.Fatalf("got %d rows, %d claims and %d bundles left of nothing", rows, len(r.s.claims.held), len(r.s.claims.open))
	}
}

func TestBundles_AnyCourseOfThingsLosesAndRepeatsNothing(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &trial{
					t: t, dir: t.TempDir(), random: rand.New(rand.NewPCG(seed, 1)),
					waiting: map[postrider.DeliveryKey]int{}, held: map[postrider.DeliveryKey]int{},
					settled: map[postrider.DeliveryKey]postrider.ID{},
				}
				r.open()
				defer func() { r.must(r.s.Close()) }()
				for range 3 {
					w := postrider.Webhook{ID: postrider.NewID(), Tenant: "default", URL: "https://one.test/", Events: []string{"*"}, Active: true}
					r.must(r.s.PutWebhook(t.Context(), w))
					r.webhooks = append(r.webhooks, w.ID)
				}
				for range 150 {
					r.step()
				}
				r.drain()
			})
		})
	}
}

func (r *trial) step() {
	switch n := r.random.IntN(100); {
	case n < 30:
		r.accept()
	case n < 50:
		r.claim(r.webhooks[r.random.IntN(3)], postrider.ClaimLimit{Rows: 1 + r.random.IntN(12), Bytes: 1 + r.random.IntN(20)})
	case n < 75:
		r.settle()
	case n < 82:
		r.release()
	case n < 88:
		r.redeliver()
	case n < 91:
		r.rollBack()
	case n < 93:
		r.must(r.s.spillBefore(context.Background(), micros(time.Now())))
	case n < 95:
		r.reopen()
	case n < 97:
		advance(time.Duration(r.random.IntN(90)) * time.Second)
	default:
		r.check()
	}
}

func TestBundles_ALargeOneIsClaimedInParts(t *testing.T) {
	s := openPlain(t)
	webhook := postrider.NewID()
	var want []string
	var list []postrider.Accepted
	for i := range 3*bundleSize - 1 {
		a := eventFor(webhook, "1")
		a.Publication = i
		list, want = append(list, a), append(want, a.Event.ID)
	}
	if _, err := s.Accept(t.Context(), list, nil); err != nil {
		t.Fatal(err)
	}
	var got []string
	for more := true; more; {
		claimed, err := s.Claim(t.Context(), webhook, postrider.ClaimLimit{Rows: 100, Bytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if more = claimed.More; more && len(claimed.Deliveries) < 50 {
			t.Errorf("got %d deliveries of a hundred, and more there", len(claimed.Deliveries))
		}
		for _, d := range claimed.Deliveries {
			got = append(got, d.EventID)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %d deliveries, want %d in the order of their acceptance", len(got), len(want))
	}
}

// The head of an ordered lane that waits for its retry has a row of its own, and
// its turn before what was bundled with it.
func TestBundles_WhatIsKeptGoesFirstAfterARestart(t *testing.T) {
	dir, webhook := t.TempDir(), postrider.NewID()
	r := &trial{t: t, dir: dir}
	r.open()
	var want []string
	var list []postrider.Accepted
	for i := range 5 {
		a := eventFor(webhook, "1")
		a.Publication, a.Deliveries[0].Claimed = i, true
		list, want = append(list, a), append(want, a.Event.ID)
	}
	_, err := r.s.Accept(t.Context(), list, nil)
	r.must(err)
	head := list[0].Deliveries[0].DeliveryKey
	r.must(r.s.Settle(t.Context(), []postrider.Settlement{{Key: head, Keep: true, Attempts: 1, Attempt: postrider.Attempt{
		ID: postrider.NewID(), Tenant: head.Tenant, EventID: head.EventID, WebhookID: webhook, Number: 1, At: time.Now(), Status: postrider.AttemptFailure,
	}}}))
	r.must(r.s.Close())
	r.open()
	claimed, err := r.s.Claim(t.Context(), webhook, postrider.ClaimLimit{Rows: 100, Bytes: 1 << 20})
	r.must(err)
	var got []string
	for _, d := range claimed.Deliveries {
		got = append(got, d.EventID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	r.must(r.s.Close())
}

func TestBundle_WhatIsWrittenIsRead(t *testing.T) {
	const due = 1_700_000_000_000_000
	want := []bundled{
		{event: "a", trigger: postrider.TriggerEvent, accepted: due - 1, due: due},
		{event: postrider.NewID().String(), trigger: postrider.TriggerPing, accepted: due + 5, due: due + 1e9},
	}
	var encoded []byte
	for i := range want {
		encoded = want[i].append(encoded, due)
	}
	got, err := decodeBundle(encoded, due)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for n := range encoded {
		if got, err := decodeBundle(encoded[:n], due); err == nil && len(got) > 1 {
			t.Errorf("got %+v out of %d of %d bytes", got, n, len(encoded))
		}
	}
	if _, err := decodeBundle(bytes.Repeat([]byte{0xff}, 30), due); err == nil {
		t.Error("got no error from what is no bundle")
	}
}
