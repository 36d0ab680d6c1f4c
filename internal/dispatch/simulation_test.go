package dispatch_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postrider"
	"postrider/internal/dispatch"
	"postrider/internal/testkit"
)

var (
	simulations = flag.Int("simulations", 3, "how many simulations to run")
	firstSeed   = flag.Uint64("seed", 1, "the seed of the first simulation; the others follow it")
)

// A simulation is a random history of a house: publishes, pings, redeliveries,
// edits and deletions of webhooks, receivers of every mood, a store that fails
// now and then, stops and crashes. What must hold after any history is checked
// at its end. The seed decides what is asked; which goroutine is first is up
// to the machine.
type simulation struct {
	t      *testing.T
	random *rand.Rand
	dir    string
	h      *testkit.House
	o      testkit.HouseOptions

	mu       sync.Mutex // guards what the receiver and the store's trouble use
	dice     *rand.Rand
	calm     bool // receivers answer 200 and the store does not fail
	budgets  map[postrider.ID]int
	trouble  map[string]bool
	inFlight map[postrider.DeliveryKey]int
	busy     map[postrider.ID]int // attempts under way, by webhook

	webhooks map[postrider.ID]*simulated
	accepted map[string][]postrider.ID // by event, the webhooks that it matched
	order    map[string]int            // by event, its place in the order of acceptance
	again    map[string]bool           // the events that were redelivered, to any webhook
	received map[postrider.DeliveryKey]int
	// mayRepeat counts the attempts whose outcome a crash may have lost.
	mayRepeat int
	urls      int
}

// simulated is what a simulation knows of a webhook.
type simulated struct {
	postrider.Webhook

	deleted time.Time
	off     [][2]time.Time // while it was switched off; the last end may be zero
}

func TestSimulation_EveryAcceptedDeliveryEndsAsItShould(t *testing.T) {
	for i := range *simulations {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newSimulation(t, seed).run() })
		})
	}
}

func newSimulation(t *testing.T, seed uint64) *simulation {
	s := &simulation{
		t: t, random: rand.New(rand.NewPCG(seed, 1)), dice: rand.New(rand.NewPCG(seed, 2)), dir: t.TempDir(),
		trouble: map[string]bool{}, budgets: map[postrider.ID]int{}, inFlight: map[postrider.DeliveryKey]int{},
		busy: map[postrider.ID]int{}, webhooks: map[postrider.ID]*simulated{}, accepted: map[string][]postrider.ID{},
		order: map[string]int{}, again: map[string]bool{},
	}
	s.o = testkit.HouseOptions{
		Receiver: testkit.NewReceiver(),
		Trouble:  s.maybeFail,
		Dispatch: dispatch.Options{
			MaxInFlight: 1 + s.random.IntN(6), LaneRows: 4 + s.random.IntN(40), LaneBytes: 200 + s.random.IntN(4000),
			SweepEvery:    []time.Duration{time.Minute, time.Hour}[s.random.IntN(2)],
			RetrySchedule: []time.Duration{time.Second, time.Minute, 10 * time.Minute},
		},
	}
	s.o.Receiver.Script(s.answer)
	s.h = testkit.NewHouse(t, s.dir, s.o)
	return s
}

func (s *simulation) run() {
	for range 3 {
		s.create()
	}
	for range 150 {
		s.step()
		if s.random.IntN(3) > 0 {
			testkit.Advance(time.Duration(s.random.ExpFloat64() * float64(2*time.Second)))
		}
	}
	s.mu.Lock()
	s.calm = true
	s.mu.Unlock()
	testkit.Advance(25 * time.Hour) // over every schedule and the longest Retry-After
	s.check()
}

func (s *simulation) step() {
	switch dice := s.random.IntN(100); {
	case dice < 40:
		s.publish()
	case dice < 45:
		s.create()
	case dice < 60:
		s.switchOver()
	case dice < 68:
		s.move()
	case dice < 72:
		s.delete()
	case dice < 78:
		s.redeliver()
	case dice < 82:
		s.h.Publisher.Ping(s.t.Context(), postrider.DefaultTenant, nil) //nolint:errcheck // may fail in a simulation
	case dice < 90:
		s.mu.Lock()
		call := []string{"Claim", "Settle", "Release", "Waiting"}[s.random.IntN(4)]
		s.trouble[call] = !s.trouble[call]
		s.mu.Unlock()
	case dice < 94:
		s.restart()
	case dice < 97:
		s.crash()
	default:
		testkit.Advance(time.Duration(s.random.IntN(30)) * time.Minute)
	}
}

// maybeFail is the store's trouble.
func (s *simulation) maybeFail(call string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.calm && s.trouble[call] && s.dice.IntN(3) > 0 {
		return errAway
	}
	return nil
}

// answer is the receivers' mood.
func (s *simulation) answer(ctx ctx, r *postrider.Request) postrider.Outcome {
	key := keyOf(r)
	s.mu.Lock()
	s.inFlight[key]++
	s.busy[key.WebhookID]++
	if s.inFlight[key] > 1 {
		s.t.Errorf("delivery %v is sent twice at once", key)
	}
	if n := s.busy[key.WebhookID]; n > s.budgets[key.WebhookID] && s.budgets[key.WebhookID] > 0 {
		s.t.Errorf("webhook %s has %d attempts at once, want at most %d", key.WebhookID, n, s.budgets[key.WebhookID])
	}
	mood, wait, calm := s.dice.IntN(100), time.Duration(s.dice.ExpFloat64()*float64(time.Second)), s.calm
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.inFlight[key]--
		s.busy[key.WebhookID]--
	}()
	switch {
	case calm || mood < 50:
		return testkit.OK(ctx, r)
	case mood < 70:
		return testkit.After(wait, testkit.OK)(ctx, r)
	case mood < 88:
		return testkit.After(wait/4, testkit.Status(500))(ctx, r)
	case mood < 92:
		return testkit.Hang(ctx, r)
	case mood < 96:
		busy := testkit.Status(429)(ctx, r)
		busy.RetryAfter = time.Duration(mood) * time.Minute
		return busy
	case mood < 98:
		return testkit.Status(410)(ctx, r)
	}
	panic("poison")
}

func keyOf(r *postrider.Request) postrider.DeliveryKey {
	webhook, err := postrider.ParseID(r.Header.Get("X-Clubmed-Hook-ID"))
	if err != nil {
		panic(err)
	}
	return postrider.DeliveryKey{
		Tenant: postrider.DefaultTenant, EventID: r.Header.Get("X-Clubmed-Delivery"), WebhookID: webhook,
	}
}

func (s *simulation) publish() {
	list := make([]postrider.Publication, 1+s.random.IntN(30))
	for i := range list {
		list[i] = postrider.Publication{
			Event:   []string{"room_status.updated", "stay.ended"}[s.random.IntN(2)],
			Payload: fmt.Appendf(nil, "%*d", 1+s.random.IntN(100), i),
		}
	}
	matched := map[string][]postrider.ID{}
	for _, p := range list {
		matched[p.Event] = nil
		for _, w := range s.h.Registry.Match(postrider.DefaultTenant, p.Event) {
			matched[p.Event] = append(matched[p.Event], w.ID)
		}
	}
	receipts, err := s.h.Publisher.Publish(s.t.Context(), list, nil)
	if err != nil {
		return
	}
	for i, r := range receipts {
		s.accepted[r.ID], s.order[r.ID] = matched[list[i].Event], len(s.order)
	}
}

func (s *simulation) create() {
	w := postrider.Webhook{
		Tenant: postrider.DefaultTenant, URL: s.url(), ContentType: postrider.JSON, Active: s.random.IntN(4) > 0,
		Events: []string{[]string{"*", "room_status.*", "stay.ended"}[s.random.IntN(3)]},
	}
	budget := s.o.Dispatch.MaxInFlight
	switch s.random.IntN(4) {
	case 0:
		w.Ordered, budget = true, 1
	case 1:
		w.MaxInFlight, w.RateLimit = 1+s.random.IntN(3), 5+10*s.random.Float64()
		budget = w.MaxInFlight
	}
	w, err := s.h.Registry.CreateWebhook(s.t.Context(), w)
	if err != nil {
		s.t.Fatal(err)
	}
	known := &simulated{Webhook: w}
	if !w.Active {
		known.off = append(known.off, [2]time.Time{time.Now(), {}})
	}
	s.webhooks[w.ID] = known
	s.mu.Lock()
	defer s.mu.Unlock()
	s.budgets[w.ID] = budget
}

func (s *simulation) url() string {
	s.urls++
	return fmt.Sprintf("http://%d.test/", s.urls)
}

// one picks a webhook that is not deleted.
func (s *simulation) one() *simulated {
	var alive []*simulated
	for _, w := range s.webhooks {
		if w.deleted.IsZero() {
			alive = append(alive, w)
		}
	}
	if len(alive) == 0 {
		return nil
	}
	slices.SortFunc(alive, func(a, b *simulated) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return alive[s.random.IntN(len(alive))]
}

func (s *simulation) switchOver() {
	w := s.one()
	if w == nil {
		return
	}
	on := s.random.IntN(3) > 0
	s.h.Update(w.Webhook, func(w *postrider.Webhook) { w.Active, w.Disabled = on, nil })
	switch {
	case on && w.isOff():
		w.off[len(w.off)-1][1] = time.Now()
	case !on && !w.isOff():
		w.off = append(w.off, [2]time.Time{time.Now(), {}})
	}
}

func (w *simulated) isOff() bool { return len(w.off) > 0 && w.off[len(w.off)-1][1].IsZero() }

func (s *simulation) move() {
	if w := s.one(); w != nil {
		s.h.Update(w.Webhook, func(w *postrider.Webhook) { w.URL = s.url() })
	}
}

func (s *simulation) delete() {
	w := s.one()
	if w == nil {
		return
	}
	if err := s.h.Registry.DeleteWebhook(s.t.Context(), w.Tenant, w.ID); err != nil {
		s.t.Fatal(err)
	}
	w.deleted = time.Now()
}

func (s *simulation) redeliver() {
	page, err := s.h.Store.Attempts(s.t.Context(), postrider.AttemptFilter{Tenant: postrider.DefaultTenant, Limit: 50})
	if err != nil || len(page.Attempts) == 0 {
		return
	}
	a := page.Attempts[s.random.IntN(len(page.Attempts))]
	s.again[a.EventID] = true
	_, err = s.h.Publisher.Redeliver(s.t.Context(), a.Tenant, a.ID, postrider.ID{})
	if deleted := !s.webhooks[a.WebhookID].deleted.IsZero(); err != nil && !deleted || err == nil && deleted {
		s.t.Errorf("got error %v for a redelivery to a webhook that is deleted: %v", err, deleted)
	}
}

func (s *simulation) restart() {
	s.mu.Lock()
	failing := s.trouble["Settle"]
	clear(s.trouble) // what cannot be given back would be an error of the stop
	s.mu.Unlock()
	if failing {
		testkit.Advance(time.Second)
	}
	s.h.Stop()
	testkit.Advance(time.Millisecond) // no start is as fast as simulated time
	s.h = testkit.NewHouse(s.t, s.dir, s.o)
}

// crash ends the house in the middle of a publish.
func (s *simulation) crash() {
	published := make(chan struct{})
	go func() {
		defer close(published)
		s.publish()
	}()
	s.mayRepeat += s.h.Lanes.Stats().Unsettled + s.o.Dispatch.MaxInFlight*len(s.webhooks) // started meanwhile
	s.h.Crash()
	<-published
	testkit.Advance(time.Millisecond) // no start is as fast as simulated time
	s.h = testkit.NewHouse(s.t, s.dir, s.o)
}

func (s *simulation) check() {
	t := s.t
	s.received = map[postrider.DeliveryKey]int{}
	reached := map[postrider.ID]int{} // by ordered webhook, the place of the last event
	for _, r := range s.o.Receiver.All() {
		key := keyOf(&r.Request)
		s.received[key]++
		w := s.webhooks[key.WebhookID]
		s.checkArrival(&r, w)
		place, known := s.order[key.EventID]
		if !w.Ordered || !known || s.again[key.EventID] {
			continue
		}
		if place < reached[w.ID] {
			t.Errorf("ordered webhook %s: got event %d after event %d", w.ID, place, reached[w.ID])
		}
		reached[w.ID] = place
	}
	recorded := map[postrider.DeliveryKey][]postrider.Attempt{}
	for _, a := range s.h.Attempts(postrider.AttemptFilter{}) {
		key := postrider.DeliveryKey{Tenant: a.Tenant, EventID: a.EventID, WebhookID: a.WebhookID}
		recorded[key] = append(recorded[key], a)
	}
	lost := 0
	for key, n := range s.received {
		lost += n - s.checkLog(key, recorded[key])
	}
	for key := range recorded {
		if _, found := s.received[key]; !found {
			s.checkLog(key, recorded[key])
		}
	}
	if lost > s.mayRepeat {
		t.Errorf("got %d attempts that are not in the log, want at most the %d under way at crashes", lost, s.mayRepeat)
	}
	for event, webhooks := range s.accepted {
		s.checkEvent(event, webhooks)
	}
	if stats := s.h.Lanes.Stats(); stats.Bytes != 0 || stats.Unsettled != 0 || stats.Ready != 0 {
		t.Errorf("got %+v at the end, want nothing in memory", stats)
	}
	for _, w := range s.h.Waiting() {
		if now, found := s.h.Registry.WebhookByID(w.WebhookID); !found || now.Sending() || !now.DeletedAt.IsZero() {
			t.Errorf("got deliveries of webhook %s still in the queue (%+v)", w.WebhookID, now)
		}
	}
	if len(s.accepted) < 100 {
		t.Errorf("got %d events accepted, want a history worth the name", len(s.accepted))
	}
}

// checkArrival holds an attempt against what was asked of its webhook.
func (s *simulation) checkArrival(r *testkit.Received, w *simulated) {
	if !w.deleted.IsZero() && r.At.After(w.deleted) {
		s.t.Errorf("got an attempt at webhook %s %v after it was deleted", w.ID, r.At.Sub(w.deleted))
	}
	for _, off := range w.off {
		if r.At.After(off[0]) && (off[1].IsZero() || r.At.Before(off[1])) {
			s.t.Errorf("got an attempt at webhook %s %v after it was switched off", w.ID, r.At.Sub(off[0]))
		}
	}
}

// checkLog holds a delivery's log against itself and returns how many attempts
// it has of those that arrived.
func (s *simulation) checkLog(key postrider.DeliveryKey, attempts []postrider.Attempt) (sent int) {
	t := s.t
	ended := false
	number := 0
	for _, a := range attempts {
		switch a.Outcome.Failure { // the marks of what was not sent
		case postrider.FailCancelled:
			if s.webhooks[key.WebhookID].deleted.IsZero() {
				t.Errorf("%v: cancelled although its webhook exists", key)
			}
			ended = true
			continue
		case postrider.FailExpired:
			ended = true
			continue
		default:
		}
		sent++
		if a.Number <= number {
			t.Errorf("%v: attempt %d follows attempt %d", key, a.Number, number)
		}
		number = a.Number
		if ended && a.Trigger != postrider.TriggerRedelivery {
			t.Errorf("%v: attempt %d came after the delivery had ended, by %q", key, a.Number, a.Trigger)
		}
		ended = a.NextAttemptAt.IsZero()
		if a.Status == postrider.AttemptSuccess && !ended {
			t.Errorf("%v: a success has a next attempt", key)
		}
	}
	if sent > s.received[key] {
		t.Errorf("%v: got %d attempts in the log, want at most the %d that arrived", key, sent, s.received[key])
	}
	return sent
}

func (s *simulation) checkEvent(event string, webhooks []postrider.ID) {
	t := s.t
	e, deliveries, err := s.h.Store.Event(t.Context(), postrider.DefaultTenant, event)
	if err != nil {
		t.Errorf("event %s was accepted and is lost: %v", event, err)
		return
	}
	states := map[postrider.ID]postrider.DeliveryStatus{}
	for _, d := range deliveries {
		states[d.WebhookID] = d
	}
	if e.Deliveries != len(webhooks) || len(states) != len(webhooks) {
		t.Errorf("event %s: got %d deliveries, %v, want those of %v", event, e.Deliveries, maps.Keys(states), webhooks)
	}
	for _, id := range webhooks {
		w, _ := s.h.Registry.WebhookByID(id)
		deleted := !s.webhooks[id].deleted.IsZero()
		switch d := states[id]; d.State {
		case postrider.DeliverySucceeded:
		case postrider.DeliveryFailed:
			if d.Last.Outcome.OK() {
				t.Errorf("event %s: failed after a success", event)
			}
		case postrider.DeliveryCancelled:
			if !deleted {
				t.Errorf("event %s: cancelled although webhook %s exists", event, id)
			}
		case postrider.DeliveryPending:
			if deleted || w.Sending() {
				t.Errorf("event %s: still pending for webhook %s, attempt %s", event, id, strconv.Itoa(d.Attempts))
			}
		case postrider.DeliveryHeld:
			t.Errorf("event %s: got held, which the store does not know", event)
		default:
			t.Errorf("event %s: lost its delivery to webhook %s", event, id)
		}
	}
}
