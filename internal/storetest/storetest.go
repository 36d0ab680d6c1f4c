// Package storetest is the suite that every store must pass: what publish,
// dispatch, registry and api rely on, each sentence a test.
//
// It knows what the methods of a store promise. It must not know which engine
// answers, or any SQL. The tests of each store call Run.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"postrider"
)

// A Store is everything that the rooms ask of a store.
type Store interface {
	CreateTenant(context.Context, postrider.Tenant) error
	PauseTenant(ctx context.Context, name string, paused bool) error
	Tenants(context.Context) ([]postrider.Tenant, error)
	CreateAPIKey(context.Context, postrider.APIKey) error
	DeleteAPIKey(context.Context, postrider.ID) (existed bool, err error)
	APIKeys(context.Context) ([]postrider.APIKey, error)
	PutWebhook(context.Context, postrider.Webhook) error
	Webhooks(context.Context) ([]postrider.Webhook, error)
	PutEventType(context.Context, postrider.EventType) error
	DeleteEventType(ctx context.Context, name string) (existed bool, err error)
	EventTypes(context.Context) ([]postrider.EventType, error)

	Accept(context.Context, []postrider.Accepted, *postrider.IdempotencyKey) ([]postrider.Receipt, error)
	Expand(ctx context.Context, tenant, event string, deliveries []postrider.Delivery, done bool) error
	Fanouts(context.Context) ([]postrider.Fanout, error)
	Redeliver(ctx context.Context, tenant string, attempt, to postrider.ID) (postrider.Redelivery, error)
	Event(ctx context.Context, tenant, id string) (postrider.Event, []postrider.DeliveryStatus, error)

	Claim(ctx context.Context, webhook postrider.ID, limit postrider.ClaimLimit) (postrider.Claimed, error)
	Settle(context.Context, []postrider.Settlement) error
	Release(context.Context, []postrider.DeliveryKey) error
	Waiting(ctx context.Context, after postrider.ID, limit int) ([]postrider.Waiting, error)

	Attempts(context.Context, postrider.AttemptFilter) (postrider.AttemptPage, error)
	Attempt(ctx context.Context, tenant string, id postrider.ID) (postrider.Attempt, error)
	LastAttempts(ctx context.Context, tenant string, webhooks []postrider.ID) (map[postrider.ID]postrider.Attempt, error)

	CreateReplay(context.Context, postrider.Replay) error
	Replay(ctx context.Context, tenant string, id postrider.ID) (postrider.Replay, error)
	OpenReplays(context.Context) ([]postrider.Replay, error)
	CancelReplay(ctx context.Context, tenant string, id postrider.ID) (postrider.Replay, error)
	AdvanceReplay(ctx context.Context, was postrider.Replay, room int) (postrider.Replay, error)

	Ping(context.Context) error
	Close() error
}

// An Engine is what the suite is run on.
type Engine struct {
	// Open opens the store that is kept under dir and makes it when there is
	// none. Each opening is a run of its own.
	Open func(t *testing.T, dir string) Store
	// Simulate runs a test in a time that Advance moves, by which the store
	// tells what is due. A pause in a test takes no time.
	Simulate func(t *testing.T, test func(*testing.T))
	Advance  func(time.Duration)
	// Disk is every byte that the store under dir has on disk, as a thief of
	// the disk would read it.
	Disk func(t *testing.T, dir string) []byte
}

// A test of the suite. Its name completes a sentence that begins with the
// group's.
type test struct {
	name string
	run  func(*stage)
}

// Run holds an engine to the whole suite.
func Run(t *testing.T, e Engine) {
	t.Helper()
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"Registered", registeredTests},
		{"Accept", acceptTests},
		{"Idempotency", idempotencyTests},
		{"Fanout", fanoutTests},
		{"Claim", claimTests},
		{"Settle", settleTests},
		{"Redeliver", redeliverTests},
		{"Waiting", waitingTests},
		{"Attempts", attemptsTests},
		{"Event", eventTests},
		{"Replay", replayTests},
		{"Concurrency", concurrencyTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, test := range group.tests {
				t.Run(test.name, func(t *testing.T) {
					e.Simulate(t, func(t *testing.T) { test.run(newStage(t, e)) })
				})
			}
		})
	}
}

// A stage is a fresh store with what most tests do to it.
type stage struct {
	Store

	t      *testing.T
	engine Engine
	dir    string
}

func newStage(t *testing.T, e Engine) *stage {
	t.Helper()
	s := &stage{t: t, engine: e, dir: t.TempDir()}
	s.Store = e.Open(t, s.dir)
	t.Cleanup(s.close)
	return s
}

func (s *stage) close() {
	if err := s.Close(); err != nil {
		s.t.Errorf("close the store: %v", err)
	}
}

// reopen ends the store's run and begins another on the same data, a second
// later.
func (s *stage) reopen() {
	s.t.Helper()
	s.close()
	s.engine.Advance(time.Second)
	s.Store = s.engine.Open(s.t, s.dir)
}

func (s *stage) ctx() context.Context { return s.t.Context() }

// must fails the test at once on an error.
func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// wantError fails unless err is an error for users of the kind and code.
func (s *stage) wantError(err error, kind postrider.Kind, code string) {
	s.t.Helper()
	if e, ok := errors.AsType[*postrider.Error](err); !ok || e.Kind != kind || e.Code != code || e.Detail == "" {
		s.t.Errorf("got error %v, want code %q", err, code)
	}
}

// now is the present, as stores keep it: in microseconds, UTC.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

const home = postrider.DefaultTenant

// webhook stores a webhook of the default tenant.
func (s *stage) webhook(change ...func(*postrider.Webhook)) postrider.ID {
	s.t.Helper()
	w := postrider.Webhook{
		ID: postrider.NewID(), Tenant: home, URL: "https://partner.test/", ContentType: postrider.JSON,
		Events: []string{"*"}, Active: true, CreatedAt: now(), UpdatedAt: now(),
	}
	for _, c := range change {
		c(&w)
	}
	s.must(s.PutWebhook(s.ctx(), w))
	return w.ID
}

// event is one to be accepted, with a delivery for each webhook.
func event(tenant, payload string, webhooks ...postrider.ID) postrider.Accepted {
	e := postrider.Event{
		ID: postrider.NewID().String(), Tenant: tenant, Type: "room_status.updated", Payload: []byte(payload),
		CreatedAt: now(), Deliveries: len(webhooks),
	}
	return withDeliveries(e, webhooks...)
}

func withDeliveries(e postrider.Event, webhooks ...postrider.ID) postrider.Accepted {
	a := postrider.Accepted{Event: e}
	for _, id := range webhooks {
		a.Deliveries = append(a.Deliveries, postrider.Delivery{
			DeliveryKey: postrider.DeliveryKey{Tenant: e.Tenant, EventID: e.ID, WebhookID: id},
			EventType:   e.Type, Payload: e.Payload, Trigger: postrider.TriggerEvent, AcceptedAt: e.CreatedAt,
		})
	}
	return a
}

// accept commits events, each a publication of its own.
func (s *stage) accept(list ...postrider.Accepted) []postrider.Receipt {
	s.t.Helper()
	for i := range list {
		list[i].Publication = i
	}
	receipts, err := s.Accept(s.ctx(), list, nil)
	s.must(err)
	return receipts
}

// backlog accepts n events for a webhook and returns their ids.
func (s *stage) backlog(webhook postrider.ID, n int) (ids []string) {
	s.t.Helper()
	list := make([]postrider.Accepted, n)
	for i := range list {
		list[i] = event(home, fmt.Sprint(i), webhook)
		ids = append(ids, list[i].Event.ID)
	}
	s.accept(list...)
	return ids
}

// much is a limit that nothing in the suite reaches.
var much = postrider.ClaimLimit{Rows: 100_000, Bytes: 1 << 30}

func (s *stage) claim(webhook postrider.ID, limit postrider.ClaimLimit) postrider.Claimed {
	s.t.Helper()
	claimed, err := s.Claim(s.ctx(), webhook, limit)
	s.must(err)
	return claimed
}

// claimOne claims the only delivery that is due.
func (s *stage) claimOne(webhook postrider.ID) postrider.Delivery {
	s.t.Helper()
	claimed := s.claim(webhook, much)
	if len(claimed.Deliveries) != 1 {
		s.t.Fatalf("got %d deliveries due, want 1", len(claimed.Deliveries))
	}
	return claimed.Deliveries[0]
}

func eventIDs(deliveries []postrider.Delivery) (ids []string) {
	for i := range deliveries {
		ids = append(ids, deliveries[i].EventID)
	}
	return ids
}

// wantClaim fails unless a claim brings exactly these events, in this order.
func (s *stage) wantClaim(webhook postrider.ID, want ...string) {
	s.t.Helper()
	if got := eventIDs(s.claim(webhook, much).Deliveries); !slices.Equal(got, want) {
		s.t.Errorf("got claimed %q, want %q", got, want)
	}
}

// attempt is one of a delivery that was claimed, now.
func attempt(d *postrider.Delivery) postrider.Attempt {
	return postrider.Attempt{
		ID: postrider.NewID(), Tenant: d.Tenant, WebhookID: d.WebhookID, EventID: d.EventID, EventType: d.EventType,
		Number: d.Attempts + 1, Trigger: d.Trigger, At: now(), URL: "https://partner.test/",
	}
}

func succeeded(d *postrider.Delivery) postrider.Settlement {
	a := attempt(d)
	a.Status, a.Outcome.StatusCode = postrider.AttemptSuccess, 200
	return postrider.Settlement{Key: d.DeliveryKey, Attempt: a, Done: true}
}

func failed(d *postrider.Delivery) postrider.Settlement {
	s := succeeded(d)
	s.Attempt.Status, s.Attempt.Outcome.StatusCode = postrider.AttemptFailure, 500
	s.Attempt.Outcome.Failure, s.Attempt.Outcome.Detail = postrider.FailHTTP5xx, "The receiver answered 500."
	return s
}

func retried(d *postrider.Delivery, wait time.Duration) postrider.Settlement {
	s := failed(d)
	s.Done, s.RetryIn, s.Attempts, s.Retries = false, wait, d.Attempts+1, d.Retries+1
	return s
}

func (s *stage) settle(list ...postrider.Settlement) {
	s.t.Helper()
	s.must(s.Settle(s.ctx(), list))
}

// all walks the pages of a filter to the end.
func (s *stage) all(f postrider.AttemptFilter) (all []postrider.Attempt) {
	s.t.Helper()
	if f.Limit == 0 {
		f.Limit = 1000
	}
	for range 100_000 {
		page, err := s.Attempts(s.ctx(), f)
		s.must(err)
		if len(page.Attempts) > f.Limit {
			s.t.Fatalf("got a page of %d, want at most %d", len(page.Attempts), f.Limit)
		}
		all = append(all, page.Attempts...)
		if page.Next.IsZero() {
			return all
		}
		f.Before = page.Next
	}
	s.t.Fatal("got no end of pages")
	return nil
}
