package testkit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"postrider"
	"postrider/internal/dispatch"
	"postrider/internal/publish"
	"postrider/internal/registry"
	"postrider/internal/sealing"
	"postrider/internal/sqlite"
)

// A House is everything between a publish and the wire: a real store, registry,
// publisher and lanes, and a receiver in memory at the end. Use it inside a
// synctest bubble.
type House struct {
	*Receiver

	Store     *sqlite.Store
	Registry  *registry.Registry
	Publisher *publish.Publisher
	Replayer  *publish.Replayer
	Lanes     *dispatch.Dispatcher

	t      *testing.T
	supply *supply
	alive  context.Context //nolint:containedctx // ends with a crash
	die    context.CancelFunc
	leave  context.CancelFunc
	gone   chan error
	once   sync.Once
}

// HouseOptions are a house's settings; zero fields mean defaults.
type HouseOptions struct {
	Dispatch dispatch.Options // Store, Webhooks and Sender are filled in
	Receiver *Receiver        // a new one by default
	// Trouble is asked before the lanes call the store, with the method's name.
	// An error of its is what the call returns.
	Trouble         func(call string) error
	StrictCatalogue bool
	PayloadLimit    int64 // default 1 MiB
}

// NewHouse opens the store in dir and starts the lanes. The house is stopped
// when the test ends.
func NewHouse(t *testing.T, dir string, o HouseOptions) *House {
	t.Helper()
	sealer, err := sealing.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.Context(), dir, sealer)
	if err != nil {
		t.Fatal(err)
	}
	h := &House{t: t, Receiver: o.Receiver, Store: store, supply: &supply{Store: store, trouble: o.Trouble}, gone: make(chan error, 1)}
	if h.Receiver == nil {
		h.Receiver = NewReceiver()
	}
	h.alive, h.die = context.WithCancel(context.WithoutCancel(t.Context()))
	h.Registry, err = registry.New(t.Context(), registry.Options{
		Store: h.supply, StrictCatalogue: o.StrictCatalogue,
		Created: h.ping,
		Changed: func(id postrider.ID) { h.Lanes.Wake(id) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if o.PayloadLimit == 0 {
		o.PayloadLimit = 1 << 20
	}
	o.Dispatch.Store, o.Dispatch.Webhooks, o.Dispatch.Sender = h.supply, h.Registry, wire{h}
	o.Dispatch.Announce = h.announce
	h.Lanes = dispatch.New(o.Dispatch)
	h.Publisher = publish.New(publish.Options{
		Webhooks: h.Registry, Store: h.supply, Lanes: h.Lanes, PayloadLimit: o.PayloadLimit, StrictCatalogue: o.StrictCatalogue,
	})
	h.Replayer = publish.NewReplayer(publish.ReplayOptions{Store: h.supply, Webhook: h.Registry.Webhook, Wake: h.Lanes.Wake})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	h.leave = cancel
	go func() {
		parts, ctx := errgroup.WithContext(ctx)
		parts.Go(func() error { return h.Lanes.Run(ctx) })
		parts.Go(func() error { return h.Publisher.Run(ctx) })
		parts.Go(func() error { return h.Replayer.Run(ctx) })
		h.gone <- parts.Wait()
	}()
	t.Cleanup(h.Stop)
	return h
}

func (h *House) ping(ctx context.Context, w *postrider.Webhook) {
	if !w.Sending() {
		return
	}
	if _, err := h.Publisher.PingWebhook(ctx, w.Tenant, w.ID, nil); err != nil {
		h.t.Error(err)
	}
}

func (h *House) announce(ctx context.Context, about *postrider.Webhook, eventType string, payload []byte) {
	if err := h.Publisher.Announce(ctx, about, eventType, payload); err != nil {
		h.t.Error(err)
	}
}

// Stop stops in order: what is in flight is finished, the rest given back.
func (h *House) Stop() {
	h.once.Do(func() {
		h.leave()
		if err := <-h.gone; err != nil {
			h.t.Errorf("stop the lanes: %v", err)
		}
		h.close()
	})
}

// Crash ends the house as a kill would: from here on nothing is sent and
// nothing reaches the store, whatever was under way.
func (h *House) Crash() {
	h.once.Do(func() {
		h.supply.cut()
		h.die()
		h.leave()
		<-h.gone //nolint:errcheck // what could not be given back is an error, and is meant
		h.close()
	})
}

func (h *House) close() {
	h.die()
	if err := h.Store.Close(); err != nil {
		h.t.Errorf("close the store: %v", err)
	}
}

// Webhook registers a webhook of the default tenant that takes all events.
func (h *House) Webhook(url string, change ...func(*postrider.Webhook)) postrider.Webhook {
	h.t.Helper()
	w := postrider.Webhook{
		Tenant: postrider.DefaultTenant, URL: url, ContentType: postrider.JSON, Events: []string{"*"}, Active: true,
	}
	for _, c := range change {
		c(&w)
	}
	w, err := h.Registry.CreateWebhook(h.t.Context(), w)
	if err != nil {
		h.t.Fatal(err)
	}
	return w
}

// Update changes a webhook.
func (h *House) Update(w postrider.Webhook, change func(*postrider.Webhook)) {
	h.t.Helper()
	if _, err := h.Registry.UpdateWebhook(h.t.Context(), w.Tenant, w.ID, change); err != nil {
		h.t.Fatal(err)
	}
}

// Publish publishes n events to the default tenant, in one request.
func (h *House) Publish(n int) []postrider.Receipt {
	h.t.Helper()
	list := make([]postrider.Publication, n)
	for i := range list {
		list[i] = postrider.Publication{Event: "room_status.updated", Payload: fmt.Appendf(nil, `{"n": %d}`, i)}
	}
	receipts, err := h.Publisher.Publish(h.t.Context(), list, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return receipts
}

// Attempts returns the recorded attempts of the default tenant, oldest first.
func (h *House) Attempts(filter postrider.AttemptFilter) (all []postrider.Attempt) {
	h.t.Helper()
	filter.Tenant, filter.Limit = postrider.DefaultTenant, 10_000
	for {
		page, err := h.Store.Attempts(h.t.Context(), filter)
		if err != nil {
			h.t.Fatal(err)
		}
		all = append(all, page.Attempts...)
		if page.Next.IsZero() {
			slices.Reverse(all)
			return all
		}
		filter.Before = page.Next
	}
}

// States counts the deliveries of an event by their state.
func (h *House) States(event string) map[postrider.DeliveryState]int {
	h.t.Helper()
	_, deliveries, err := h.Store.Event(h.t.Context(), postrider.DefaultTenant, event)
	if err != nil {
		h.t.Fatal(err)
	}
	states := map[postrider.DeliveryState]int{}
	for i := range deliveries {
		states[deliveries[i].State]++
	}
	return states
}

// Waiting returns the webhooks with queued deliveries.
func (h *House) Waiting() []postrider.Waiting {
	h.t.Helper()
	list, err := h.Store.Waiting(h.t.Context(), postrider.ID{}, 1_000_000)
	if err != nil {
		h.t.Fatal(err)
	}
	return list
}

// A wire leads from a house to its receiver, and to nowhere after a crash.
type wire struct{ h *House }

func (w wire) Send(ctx context.Context, request *postrider.Request) postrider.Outcome {
	if w.h.alive.Err() != nil {
		return Hang(w.h.alive, request) //nolint:contextcheck // a dead house's attempts end with it
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(w.h.alive, cancel)() //nolint:contextcheck // a dead house's attempts end with it
	return w.h.Receiver.Send(ctx, request)
}

// A supply is the store as the rooms of a house see it: it can be cut off, and
// be made to fail.
type supply struct {
	*sqlite.Store

	trouble func(call string) error

	mu  sync.Mutex
	off bool
}

var errCrashed = errors.New("the house has crashed")

func (s *supply) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = true
}

func (s *supply) ready(call string) error {
	s.mu.Lock()
	off := s.off
	s.mu.Unlock()
	switch {
	case off:
		return errCrashed
	case s.trouble != nil:
		return s.trouble(call)
	}
	return nil
}

func (s *supply) Accept(
	ctx context.Context, accepted []postrider.Accepted, key *postrider.IdempotencyKey,
) ([]postrider.Receipt, error) {
	if err := s.ready("Accept"); err != nil {
		return nil, err
	}
	return s.Store.Accept(ctx, accepted, key)
}

func (s *supply) Expand(ctx context.Context, tenant, event string, deliveries []postrider.Delivery, done bool) error {
	if err := s.ready("Expand"); err != nil {
		return err
	}
	return s.Store.Expand(ctx, tenant, event, deliveries, done)
}

func (s *supply) Redeliver(ctx context.Context, tenant string, attempt, to postrider.ID) (postrider.Redelivery, error) {
	if err := s.ready("Redeliver"); err != nil {
		return postrider.Redelivery{}, err
	}
	return s.Store.Redeliver(ctx, tenant, attempt, to)
}

func (s *supply) OpenReplays(ctx context.Context) ([]postrider.Replay, error) {
	if err := s.ready("OpenReplays"); err != nil {
		return nil, err
	}
	return s.Store.OpenReplays(ctx)
}

func (s *supply) AdvanceReplay(ctx context.Context, was postrider.Replay, room int) (postrider.Replay, error) {
	if err := s.ready("AdvanceReplay"); err != nil {
		return postrider.Replay{}, err
	}
	return s.Store.AdvanceReplay(ctx, was, room)
}

func (s *supply) PutWebhook(ctx context.Context, w postrider.Webhook) error {
	if err := s.ready("PutWebhook"); err != nil {
		return err
	}
	return s.Store.PutWebhook(ctx, w)
}

func (s *supply) Claim(ctx context.Context, webhook postrider.ID, limit postrider.ClaimLimit) (postrider.Claimed, error) {
	if err := s.ready("Claim"); err != nil {
		return postrider.Claimed{}, err
	}
	return s.Store.Claim(ctx, webhook, limit)
}

func (s *supply) Settle(ctx context.Context, settlements []postrider.Settlement) error {
	if err := s.ready("Settle"); err != nil {
		return err
	}
	return s.Store.Settle(ctx, settlements)
}

func (s *supply) Release(ctx context.Context, keys []postrider.DeliveryKey) error {
	if err := s.ready("Release"); err != nil {
		return err
	}
	return s.Store.Release(ctx, keys)
}

func (s *supply) Waiting(ctx context.Context, after postrider.ID, limit int) ([]postrider.Waiting, error) {
	if err := s.ready("Waiting"); err != nil {
		return nil, err
	}
	return s.Store.Waiting(ctx, after, limit)
}
