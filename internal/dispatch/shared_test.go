package dispatch_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postrider"
	"postrider/internal/dispatch"
	"postrider/internal/testkit"
)

// leaseFor and beatEvery are the shared queue's, as a database has them.
const (
	leaseFor  = 10 * time.Second
	beatEvery = 2 * time.Second
)

// A queue is what several dispatchers share: the deliveries, the nodes with
// their heartbeats, and which node has an ordered lane. It keeps the rules that
// a database keeps.
type queue struct {
	t        *testing.T
	receiver *testkit.Receiver

	mu       sync.Mutex
	rows     []*queued
	beats    map[int]time.Time // of the runs that are not dead
	runs     int
	lanes    map[postrider.ID]int
	webhooks map[postrider.ID]*postrider.Webhook
	done     map[postrider.DeliveryKey]int
	busy     map[postrider.ID][]string // ordered webhooks' attempts under way
}

type queued struct {
	postrider.Delivery

	due time.Time
	run int // 0: unclaimed
}

func newQueue(t *testing.T) *queue {
	q := &queue{
		t: t, receiver: testkit.NewReceiver(), beats: map[int]time.Time{}, lanes: map[postrider.ID]int{},
		webhooks: map[postrider.ID]*postrider.Webhook{}, done: map[postrider.DeliveryKey]int{}, busy: map[postrider.ID][]string{},
	}
	return q
}

func (q *queue) webhook(change func(*postrider.Webhook)) *postrider.Webhook {
	w := &postrider.Webhook{
		ID: postrider.NewID(), Tenant: postrider.DefaultTenant, ContentType: postrider.JSON, Events: []string{"*"}, Active: true,
	}
	w.URL = fmt.Sprintf("http://%s.test/", w.ID)
	change(w)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.webhooks[w.ID] = w
	return w
}

// dead reports whether a run's claims are free.
func (q *queue) dead(run int) bool {
	at, found := q.beats[run]
	return !found || time.Since(at) > leaseFor
}

// A station is a node: a dispatcher on the queue, which can be frozen, cut off
// from the queue, and killed.
type station struct {
	*dispatch.Dispatcher
	*queue

	mu        sync.Mutex
	run       int
	lease     time.Time
	away      chan struct{} // while it is not closed, the queue does not answer
	killed    bool
	refreshes int
	known     bool
	nodes     int // that were alive at the last heartbeat

	orphaned chan struct{}
	gone     chan error
	stop     context.CancelFunc
}

func (q *queue) station(o dispatch.Options) *station {
	s := &station{queue: q, away: make(chan struct{}), orphaned: make(chan struct{}, 1), gone: make(chan error, 1), known: true}
	close(s.away)
	s.join()
	o.Store, o.Shared, o.Webhooks, o.Sender = s, s, s, s
	s.Dispatcher = dispatch.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	beating := make(chan struct{})
	go func() {
		defer close(beating)
		s.beat(ctx)
	}()
	go func() {
		err := s.Dispatcher.Run(ctx)
		<-beating
		s.gone <- err
	}()
	q.t.Cleanup(func() {
		s.connect()
		s.stop()
		<-s.gone //nolint:errcheck // what a dead station could not give back is meant
	})
	return s
}

func (s *station) join() {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	s.runs++
	s.beats[s.runs] = time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run, s.lease, s.nodes = s.runs, time.Now().Add(leaseFor), len(s.beats)
}

// beat keeps the node alive, removes those that are dead, and joins again when
// it was removed itself.
func (s *station) beat(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(beatEvery):
		}
		start := time.Now()
		if s.ask() != nil {
			continue
		}
		s.queue.mu.Lock()
		if _, alive := s.beats[s.run]; !alive {
			s.queue.mu.Unlock()
			s.join()
			continue
		}
		s.beats[s.run] = time.Now()
		for run := range s.beats {
			if s.dead(run) {
				delete(s.beats, run)
				for _, row := range s.rows {
					if row.run == run {
						row.run = 0
					}
				}
				select {
				case s.orphaned <- struct{}{}:
				default:
				}
			}
		}
		alive := len(s.beats)
		s.queue.mu.Unlock()
		s.mu.Lock()
		s.lease, s.nodes = start.Add(leaseFor), alive
		s.mu.Unlock()
	}
}

// ask waits until the queue answers this node.
func (s *station) ask() error {
	s.mu.Lock()
	away := s.away
	s.mu.Unlock()
	select {
	case <-away:
	case <-time.After(3 * time.Second):
		return errAway
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.killed {
		return errAway
	}
	return nil
}

func (s *station) disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = make(chan struct{})
}

func (s *station) connect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.away:
	default:
		close(s.away)
	}
}

func (s *station) kill() {
	s.mu.Lock()
	s.killed = true
	s.mu.Unlock()
	s.stop()
}

func (s *station) Lease() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease
}

func (s *station) Nodes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes
}

func (s *station) Orphaned() <-chan struct{} { return s.orphaned }

func (s *station) WebhookByID(id postrider.ID) (*postrider.Webhook, bool) {
	s.mu.Lock()
	known := s.known
	s.mu.Unlock()
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	w, found := s.webhooks[id]
	return w, found && known
}

func (s *station) DisableWebhook(context.Context, postrider.ID, postrider.Disabled) (bool, error) {
	return false, nil
}

func (s *station) SetFailing(context.Context, postrider.ID, postrider.Failing, postrider.Failing) (bool, error) {
	return false, nil
}

func (s *station) Forget(postrider.ID) {}

func (s *station) Refresh(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refreshes++
	s.known = true
	return nil
}

func (s *station) Claim(_ context.Context, webhook postrider.ID, limit postrider.ClaimLimit) (postrider.Claimed, error) {
	claimed := postrider.Claimed{NextDue: -1}
	if err := s.ask(); err != nil {
		return claimed, err
	}
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	if _, alive := s.beats[s.run]; !alive {
		return claimed, nil
	}
	if owner := s.lanes[webhook]; limit.Ordered && owner != s.run && !s.dead(owner) {
		claimed.NextDue = time.Second
		return claimed, nil
	} else if limit.Ordered {
		s.lanes[webhook] = s.run
	}
	for _, row := range s.rows {
		if row.WebhookID != webhook || row.run != 0 && !s.dead(row.run) {
			continue
		}
		if wait := time.Until(row.due); wait > 0 && !limit.Early {
			if claimed.NextDue < 0 || wait < claimed.NextDue {
				claimed.NextDue = wait
			}
			continue
		}
		if len(claimed.Deliveries) == limit.Rows {
			claimed.More = true
			break
		}
		row.run = s.run
		claimed.Deliveries = append(claimed.Deliveries, row.Delivery)
	}
	return claimed, nil
}

// mine finds the row of a delivery while the claim is this run's.
func (s *station) mine(key postrider.DeliveryKey) *queued {
	for _, row := range s.rows {
		if row.DeliveryKey == key && row.run == s.run {
			return row
		}
	}
	return nil
}

func (s *station) Settle(_ context.Context, settlements []postrider.Settlement) error {
	if err := s.ask(); err != nil {
		return err
	}
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	for i := range settlements {
		x := &settlements[i]
		if x.Attempt.Outcome.Failure == postrider.FailCancelled {
			s.t.Errorf("delivery %v was cancelled, want it sent", x.Key)
		}
		row := s.mine(x.Key)
		if row == nil {
			continue
		}
		row.Attempts, row.Retries = x.Attempts, x.Retries
		switch {
		case x.Done:
			s.done[x.Key]++
			s.rows = slices.DeleteFunc(s.rows, func(other *queued) bool { return other == row })
		case !x.Keep:
			row.run, row.due = 0, time.Now().Add(x.RetryIn)
		}
	}
	return nil
}

func (s *station) Release(_ context.Context, keys []postrider.DeliveryKey) error {
	if err := s.ask(); err != nil {
		return err
	}
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	for _, key := range keys {
		if row := s.mine(key); row != nil {
			row.run = 0
		}
	}
	return nil
}

func (s *station) Waiting(_ context.Context, after postrider.ID, limit int) (list []postrider.Waiting, err error) {
	if err := s.ask(); err != nil {
		return nil, err
	}
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	first := map[postrider.ID]time.Duration{}
	for _, row := range s.rows {
		due := time.Until(row.due)
		if before, found := first[row.WebhookID]; row.run == 0 && (!found || due < before) {
			first[row.WebhookID] = due
		}
	}
	for id, due := range first {
		if slices.Compare(id[:], after[:]) > 0 {
			list = append(list, postrider.Waiting{WebhookID: id, Due: due})
		}
	}
	slices.SortFunc(list, func(a, b postrider.Waiting) int { return slices.Compare(a.WebhookID[:], b.WebhookID[:]) })
	return list[:min(limit, len(list))], nil
}

// Send reaches the receiver, also while the queue is away. Attempts of an
// ordered webhook must not overlap, whichever nodes make them.
func (s *station) Send(ctx context.Context, r *postrider.Request) postrider.Outcome {
	key := keyOf(r)
	s.queue.mu.Lock()
	if s.webhooks[key.WebhookID].Ordered {
		s.busy[key.WebhookID] = append(s.busy[key.WebhookID], key.EventID)
		if under := s.busy[key.WebhookID]; len(under) > 1 {
			s.t.Errorf("ordered webhook %s: attempts for %v overlap", key.WebhookID, under)
		}
	}
	s.queue.mu.Unlock()
	defer func() {
		s.queue.mu.Lock()
		defer s.queue.mu.Unlock()
		under := s.busy[key.WebhookID]
		if at := slices.Index(under, key.EventID); at >= 0 {
			s.busy[key.WebhookID] = slices.Delete(under, at, at+1)
		}
	}()
	return s.receiver.Send(ctx, r)
}

// publish accepts n events for a webhook at this node.
func (s *station) publish(w *postrider.Webhook, from, n int) error {
	deliveries := make([]postrider.Delivery, n)
	for i := range deliveries {
		deliveries[i] = postrider.Delivery{
			DeliveryKey: postrider.DeliveryKey{Tenant: w.Tenant, EventID: fmt.Sprintf("%06d", from+i), WebhookID: w.ID},
			EventType:   "a.b", Payload: []byte(`{}`), Trigger: postrider.TriggerEvent, AcceptedAt: time.Now(),
		}
	}
	s.Admit(deliveries)
	if err := s.ask(); err != nil {
		s.Abandoned(deliveries)
		return err
	}
	s.queue.mu.Lock()
	_, alive := s.beats[s.run]
	for i := range deliveries {
		row := &queued{Delivery: deliveries[i], due: time.Now()}
		if deliveries[i].Claimed && alive {
			row.run = s.run
		}
		s.rows = append(s.rows, row)
	}
	s.queue.mu.Unlock()
	s.Committed(deliveries)
	return nil
}

func inOrder(w *postrider.Webhook) { w.Ordered = true }

// A node that is cut off from the store for longer than its lease has its
// deliveries sent by another, and comes back as if nothing had happened.
func TestShared_ALeaseThatIsOverMovesTheWorkAndNeverOverlapsAnOrderedLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t)
		ordered, other := q.webhook(inOrder), q.webhook(func(*postrider.Webhook) {})
		one, two := q.station(dispatch.Options{}), q.station(dispatch.Options{})
		q.receiver.Script(testkit.After(700*time.Millisecond, testkit.OK))
		for _, w := range []*postrider.Webhook{ordered, other} {
			if err := one.publish(w, 0, 60); err != nil {
				t.Fatal(err)
			}
		}
		testkit.Advance(3 * time.Second)
		cut := time.Now()
		one.disconnect()
		testkit.Advance(25 * time.Second)
		last := cut
		for _, r := range q.receiver.To(ordered.URL) {
			if gap := r.At.Sub(last); r.At.After(cut) && gap > 15*time.Second {
				t.Errorf("got nothing for %v, want a dead node's lane to move within 15s", gap)
			}
			last = r.At
		}
		if time.Since(last) > 2*time.Second {
			t.Errorf("got the last attempt %v ago, want the other node to have the lane", time.Since(last))
		}
		one.connect()
		testkit.Advance(2 * time.Minute)
		if len(q.rows) != 0 {
			t.Errorf("got %d deliveries left, want none", len(q.rows))
		}
		reached := ""
		for _, r := range q.receiver.To(ordered.URL) {
			if r.EventID() < reached {
				t.Errorf("got event %s after %s", r.EventID(), reached)
			}
			reached = r.EventID()
		}
		for _, w := range []*postrider.Webhook{ordered, other} {
			if again := len(q.receiver.To(w.URL)) - 60; again < 0 || again > 8*16 {
				t.Errorf("got %d attempts again, want none lost and at most what was in flight repeated", again)
			}
		}
		if two.Stats().Bytes+one.Stats().Bytes != 0 {
			t.Error("got memory kept of deliveries that are settled")
		}
	})
}

// While the store is away nothing is sent that others may send, and nothing is
// asked more than about once a second.
func TestShared_NothingIsSentAfterTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t)
		w := q.webhook(func(w *postrider.Webhook) { w.RateLimit = 1 })
		one := q.station(dispatch.Options{})
		if err := one.publish(w, 0, 60); err != nil {
			t.Fatal(err)
		}
		testkit.Advance(5 * time.Second)
		one.disconnect()
		lease := one.Lease()
		testkit.Advance(time.Minute)
		for _, r := range q.receiver.To(w.URL) {
			if r.At.After(lease) {
				t.Fatalf("got an attempt %v after the lease", r.At.Sub(lease))
			}
		}
		if err := one.publish(w, 60, 1); err == nil {
			t.Error("got an event accepted while the store is away")
		}
		one.connect()
		back := time.Now()
		testkit.Advance(5 * time.Second)
		if got := q.receiver.To(w.URL); len(got) == 0 || !got[len(got)-1].At.After(back) {
			t.Error("got nothing sent within 5s of the store's return")
		}
		testkit.Advance(2 * time.Minute)
		if len(q.rows) != 0 {
			t.Errorf("got %d deliveries left, want none", len(q.rows))
		}
	})
}

func TestShared_ADeadNodesDeliveriesMoveWithin15Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t)
		w := q.webhook(func(w *postrider.Webhook) { w.RateLimit = 1 })
		one := q.station(dispatch.Options{})
		q.station(dispatch.Options{})
		if err := one.publish(w, 0, 10); err != nil {
			t.Fatal(err)
		}
		testkit.Advance(time.Second)
		one.kill()
		died := time.Now()
		testkit.Advance(15 * time.Second)
		if got := q.receiver.To(w.URL); !got[len(got)-1].At.After(died.Add(5 * time.Second)) {
			t.Error("got no attempt by the other node within 15s")
		}
		testkit.Advance(time.Minute)
		if len(q.rows) != 0 {
			t.Errorf("got %d deliveries left, want none", len(q.rows))
		}
	})
}

func TestShared_NodesShareABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t)
		w := q.webhook(func(w *postrider.Webhook) { w.MaxInFlight = 4 })
		var stations []*station
		for range 3 {
			stations = append(stations, q.station(dispatch.Options{}))
		}
		testkit.Advance(3 * time.Second)
		var mu sync.Mutex
		busy, most := 0, 0
		q.receiver.Script(func(ctx ctx, r *postrider.Request) postrider.Outcome {
			mu.Lock()
			busy++
			most = max(most, busy)
			mu.Unlock()
			defer func() { mu.Lock(); busy--; mu.Unlock() }()
			return testkit.After(time.Second, testkit.OK)(ctx, r)
		})
		for i, s := range stations {
			if err := s.publish(w, 100*i, 20); err != nil {
				t.Fatal(err)
			}
		}
		testkit.Advance(time.Minute)
		if most > 4+2 || most < 4 {
			t.Errorf("got %d attempts at once, want 4 and at most one more for each other node", most)
		}
		if len(q.rows) != 0 {
			t.Errorf("got %d deliveries left, want none", len(q.rows))
		}
	})
}

// Each node takes its part of the nodes that its last heartbeat has counted:
// until those that were there have heard of a new one, its part comes on top.
func TestShared_NodesShareARate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond = 10
		q := newQueue(t)
		w := q.webhook(func(w *postrider.Webhook) { w.RateLimit = perSecond })
		one := q.station(dispatch.Options{})
		if err := one.publish(w, 0, 1000); err != nil {
			t.Fatal(err)
		}
		// sent counts the attempts of a span from now on. A node that takes another
		// part begins with an attempt in hand.
		sent := func(span time.Duration) int {
			before := len(q.receiver.To(w.URL))
			testkit.Advance(span)
			return len(q.receiver.To(w.URL)) - before
		}
		want := func(when string, got, from, to int) {
			t.Helper()
			if got < from || got > to {
				t.Errorf("%s: got %d attempts, want from %d to %d", when, got, from, to)
			}
		}
		want("one node, 5s", sent(5*time.Second), 5*perSecond-1, 5*perSecond+1)
		two := q.station(dispatch.Options{})
		if err := two.publish(w, 1000, 1000); err != nil {
			t.Fatal(err)
		}
		want("a second one, until the next heartbeat", sent(beatEvery), 2*perSecond, 2*perSecond*3/2+2)
		want("two nodes, 10s", sent(10*time.Second), 10*perSecond-2, 10*perSecond+2)
		two.kill()
		want("one has died, until that is known", sent(leaseFor+2*beatEvery), 0, 14*perSecond+2)
		want("one node again, 10s", sent(10*time.Second), 10*perSecond-1, 10*perSecond+1)
	})
}

func TestShared_AnUnknownWebhookIsLookedForBeforeItsDeliveriesAreCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t)
		w := q.webhook(func(*postrider.Webhook) {})
		one, two := q.station(dispatch.Options{}), q.station(dispatch.Options{})
		two.mu.Lock()
		two.known = false
		two.mu.Unlock()
		one.kill()
		testkit.Advance(time.Second)
		q.mu.Lock()
		q.rows = append(q.rows, &queued{due: time.Now(), Delivery: postrider.Delivery{
			DeliveryKey: postrider.DeliveryKey{Tenant: w.Tenant, EventID: "e", WebhookID: w.ID}, EventType: "a.b", Payload: []byte(`{}`),
		}})
		q.mu.Unlock()
		testkit.Advance(5 * time.Second)
		if got := len(q.receiver.To(w.URL)); got != 1 || two.refreshes != 1 {
			t.Errorf("got %d attempts after %d looks, want one of each", got, two.refreshes)
		}
	})
}

// Random histories of three nodes: publishes anywhere, nodes that are cut off
// for a while or die, receivers that fail and are slow.
func TestShared_EveryDeliveryIsSentWhateverHappensToTheNodes(t *testing.T) {
	for i := range *simulations {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueue(t)
				random, dice := rand.New(rand.NewPCG(seed, 3)), rand.New(rand.NewPCG(seed, 4))
				o := dispatch.Options{
					MaxInFlight: 1 + random.IntN(6), LaneRows: 4 + random.IntN(40),
					RetrySchedule: slices.Repeat([]time.Duration{time.Second}, 30),
				}
				var mu sync.Mutex
				q.receiver.Script(func(ctx ctx, r *postrider.Request) postrider.Outcome {
					mu.Lock()
					mood, wait := dice.IntN(10), time.Duration(dice.ExpFloat64()*float64(2*time.Second))
					mu.Unlock()
					if mood == 0 {
						return testkit.After(wait, testkit.Status(500))(ctx, r)
					}
					return testkit.After(wait, testkit.OK)(ctx, r)
				})
				webhooks := []*postrider.Webhook{q.webhook(inOrder), q.webhook(inOrder), q.webhook(func(*postrider.Webhook) {})}
				stations := []*station{q.station(o), q.station(o), q.station(o)}
				events := 0
				for range 120 {
					s := stations[random.IntN(3)]
					switch random.IntN(10) {
					case 0:
						s.disconnect()
					case 1, 2:
						s.connect()
					case 3:
						if at := random.IntN(3); random.IntN(4) == 0 {
							stations[at].kill()
							stations[at] = q.station(o)
						}
					default:
						n := 1 + random.IntN(5)
						if s.publish(webhooks[random.IntN(3)], events, n) == nil {
							events += n
						}
					}
					testkit.Advance(time.Duration(random.ExpFloat64() * float64(2*time.Second)))
				}
				for _, s := range stations {
					s.connect()
				}
				testkit.Advance(time.Hour)
				if len(q.rows) != 0 || len(q.done) != events {
					t.Errorf("got %d of %d deliveries done and %d left", len(q.done), events, len(q.rows))
				}
				for _, w := range webhooks[:2] {
					reached := ""
					for _, r := range q.receiver.To(w.URL) {
						if r.EventID() < reached {
							t.Errorf("ordered webhook %s: got event %s after %s", w.ID, r.EventID(), reached)
						}
						reached = r.EventID()
					}
				}
			})
		})
	}
}
