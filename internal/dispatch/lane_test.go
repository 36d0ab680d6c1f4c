package dispatch_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postrider"
	"postrider/internal/dispatch"
	"postrider/internal/testkit"
)

func TestLane_HungEndpointDoesNotDelayOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const budget = 4
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{MaxInFlight: budget, LaneRows: 32}))
		hung := h.Webhook("http://hung.test/")
		healthy := []postrider.Webhook{h.Webhook("http://one.test/"), h.Webhook("http://two.test/")}
		testkit.Advance(time.Second)
		h.Script(testkit.ByURL(map[string]testkit.Answer{hung.URL: testkit.Hang}))
		start := time.Now()
		for range 20 {
			h.Publish(10)
			testkit.Advance(time.Second)
		}
		for _, w := range healthy {
			requests := h.To(w.URL)
			if len(requests) != 200 {
				t.Fatalf("%s: got %d attempts, want 200", w.URL, len(requests))
			}
			for i, r := range requests {
				published := start.Add(time.Duration(i/10) * time.Second)
				if late := r.At.Sub(published); late > 10*time.Millisecond {
					t.Errorf("%s: got event %d after %v, want it at once", w.URL, i, late)
				}
			}
		}
		if got := h.Most(hung.URL); got != budget {
			t.Errorf("got %d attempts at the hung endpoint at once, want %d", got, budget)
		}
		if s := h.Lanes.Stats(); s.InFlight != budget {
			t.Errorf("got %d attempts in flight, want only the %d that hang", s.InFlight, budget)
		}
	})
}

func TestLane_ASlowAttemptDoesNotKeepTheNextWaitingWhileThereIsBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{MaxInFlight: 3}))
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.Script(testkit.Hang)
		for n := 1; n <= 5; n++ {
			h.Publish(1)
			testkit.Advance(time.Second)
			if got, want := len(h.To(w.URL)), min(n, 3); got != want {
				t.Errorf("got %d attempts under way after %d events, want %d", got, n, want)
			}
		}
	})
}

func TestLane_NeverSendsMoreAtOnceThanItsBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{MaxInFlight: 7, LaneRows: 20}))
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.Script(testkit.After(time.Second, testkit.OK))
		h.Publish(70)
		testkit.Advance(10*time.Second + 100*time.Millisecond)
		if got := len(h.To(w.URL)); got != 70 {
			t.Errorf("got %d attempts in 10 s, want all 70, seven each second", got)
		}
		if got := h.Most(w.URL); got != 7 {
			t.Errorf("got %d attempts at once, want 7", got)
		}
	})
}

func TestLane_ABacklogSpillsAndIsDrainedInOrderInBoundedMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rows, events = 64, 6000
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{MaxInFlight: 1, LaneRows: rows}))
		w := h.Webhook("http://one.test/", inactive)
		h.Publish(events / 2)
		h.Update(w, activate)
		most := watch(h)
		h.Publish(events / 2)
		testkit.Advance(time.Second)

		requests := h.To(w.URL)
		if len(requests) != events {
			t.Fatalf("got %d attempts, want %d", len(requests), events)
		}
		for i, r := range requests {
			if want := body(i % (events / 2)); string(r.Body) != want {
				t.Fatalf("attempt %d: got %s, want %s", i, r.Body, want)
			}
		}
		if got := most.ready.Load(); got > rows {
			t.Errorf("got up to %d deliveries waiting in memory, want at most %d", got, rows)
		}
		if got := most.bytes.Load(); got > 2*rows*16 {
			t.Errorf("got up to %d bytes in memory, want them bounded by the rows", got)
		}
	})
}

func TestLane_ALargeBacklogOfOneWebhookHidesNothingOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{LaneRows: 256}))
		large := h.Webhook("http://large.test/", inactive, func(w *postrider.Webhook) { w.Events = []string{"room_status.*"} })
		small := h.Webhook("http://small.test/", inactive, func(w *postrider.Webhook) { w.Events = []string{"stay.ended"} })
		testkit.Advance(time.Second)
		h.Publish(20_000)
		if _, err := h.Publisher.Publish(t.Context(), []postrider.Publication{{Event: "stay.ended", Payload: []byte("1")}}, nil); err != nil {
			t.Fatal(err)
		}
		most := watch(h)
		h.Update(large, activate)
		h.Update(small, activate)
		testkit.Advance(time.Second)
		if got := len(h.To(large.URL)); got != 20_000 {
			t.Errorf("got %d attempts of the large backlog, want 20,000", got)
		}
		ahead := slices.IndexFunc(h.All(), func(r testkit.Received) bool { return r.URL == small.URL })
		if ahead < 0 || ahead > 2000 {
			t.Errorf("got the small webhook's delivery after %d of the large backlog, want it among the first", ahead)
		}
		if got := most.ready.Load(); got > 256 {
			t.Errorf("got up to %d deliveries waiting in memory, want at most 256", got)
		}
	})
}

func TestLane_HoldsAsManyPayloadBytesAsItMayAndGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, limit = 1000, 10_000
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{MaxInFlight: 4, LaneBytes: limit}))
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		most := watch(h)
		list := make([]postrider.Publication, 300)
		for i := range list {
			list[i] = postrider.Publication{Event: "room.photo", Payload: fmt.Appendf(nil, "%*d", size, i)}
		}
		// One that is larger than the whole lane must pass as well.
		list[150].Payload = []byte(`"` + strings.Repeat("x", 3*limit) + `"`)
		if _, err := h.Publisher.Publish(t.Context(), list, nil); err != nil {
			t.Fatal(err)
		}
		testkit.Advance(time.Second)
		if got := len(h.To(w.URL)); got != len(list) {
			t.Errorf("got %d attempts, want %d: the lane stood still", got, len(list))
		}
		if got := most.bytes.Load(); got > limit+3*limit+2 || got < limit/2 {
			t.Errorf("got up to %d bytes in memory, want at most %d and one large payload", got, limit)
		}
		if s := h.Lanes.Stats(); s.Bytes != 0 {
			t.Errorf("got %d bytes in memory at the end, want 0", s.Bytes)
		}
	})
}

func TestLanes_TogetherHoldAsManyPayloadBytesAsTheyMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lanes, events, size, limit = 40, 40, 1000, 100_000
		dir := t.TempDir()
		h := testkit.NewHouse(t, dir, testkit.HouseOptions{})
		var webhooks []postrider.Webhook
		for i := range lanes {
			webhooks = append(webhooks, h.Webhook(fmt.Sprintf("http://%d.test/", i), inactive))
		}
		list := make([]postrider.Publication, events)
		for i := range list {
			list[i] = postrider.Publication{Event: "room.photo", Payload: fmt.Appendf(nil, "%*d", size, i)}
		}
		if _, err := h.Publisher.Publish(t.Context(), list, nil); err != nil {
			t.Fatal(err)
		}
		for i, w := range webhooks {
			w.Active = true
			webhooks[i] = w
			if err := h.Store.PutWebhook(t.Context(), w); err != nil {
				t.Fatal(err)
			}
		}
		testkit.Advance(time.Second)
		h.Crash()

		// All backlogs are claimed at once, when the lanes start.
		receiver := testkit.NewReceiver()
		o := unswept(dispatch.Options{MaxInFlight: 1, TotalBytes: limit})
		o.Receiver = receiver
		h = testkit.NewHouse(t, dir, o)
		most := watch(h)
		testkit.Advance(time.Second)
		if got := len(h.All()); got != lanes*events {
			t.Errorf("got %d attempts, want %d", got, lanes*events)
		}
		// Each lane may hold one delivery that it sends and one that it claims
		// beyond the limit, so that none waits for another.
		if got := most.bytes.Load(); got > limit+2*lanes*size {
			t.Errorf("got up to %d bytes in memory, want at most %d", got, limit+2*lanes*size)
		}
	})
}

// peaks are the highest Stats that were seen.
type peaks struct{ ready, bytes atomic.Int64 }

// watch makes the receiver answer 200 after a millisecond, and note what the
// lanes hold at every attempt.
func watch(h *testkit.House) *peaks {
	var most peaks
	var mu sync.Mutex
	h.Script(func(ctx ctx, r *postrider.Request) postrider.Outcome {
		s := h.Lanes.Stats()
		mu.Lock()
		most.ready.Store(max(most.ready.Load(), int64(s.Ready)))
		most.bytes.Store(max(most.bytes.Load(), s.Bytes))
		mu.Unlock()
		return testkit.OK(ctx, r)
	})
	return &most
}

func TestLane_WorkThatNobodyWasToldOfIsFoundByTheSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const every = 15 * time.Second
		h := testkit.NewHouse(t, t.TempDir(), testkit.HouseOptions{Dispatch: dispatch.Options{SweepEvery: every}})
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		for n := range 3 {
			storedEvent(t, h, w.ID, false)
			testkit.Advance(every + time.Millisecond)
			if got := len(h.To(w.URL)); got != n+1 {
				t.Errorf("got %d attempts after a sweep, want %d", got, n+1)
			}
		}
	})
}

func TestStats_TellHowLongTheOldestDueDeliveryHasWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), testkit.HouseOptions{Dispatch: dispatch.Options{
			MaxInFlight: 1, SweepEvery: time.Second, Timeout: time.Hour,
		}})
		h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.Script(testkit.Hang)
		h.Publish(2)
		testkit.Advance(10 * time.Minute)
		if got := h.Lanes.Stats().OldestDue; got < 10*time.Minute-2*time.Second || got > 10*time.Minute {
			t.Errorf("got %v, want 10 minutes, told to the second", got)
		}
	})
}

func TestLane_IdleLanesAreDroppedAndComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), testkit.HouseOptions{Dispatch: dispatch.Options{SweepEvery: time.Minute}})
		w := h.Webhook("http://one.test/")
		for n := range 3 {
			testkit.Advance(3 * time.Minute)
			if s := h.Lanes.Stats(); s.Lanes != 0 {
				t.Errorf("got %d lanes with nothing to do, want 0", s.Lanes)
			}
			h.Publish(1)
			testkit.Advance(time.Millisecond)
			if got := len(h.To(w.URL)); got != n+1 {
				t.Errorf("got %d attempts, want %d", got, n+1)
			}
		}
	})
}

// A publish that comes in the very moment in which its lane is dropped must not
// have to wait for the next sweep.
func TestLane_APublishWhileItsLaneIsDroppedIsSentAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const every, lanes = time.Minute, 20
		h := testkit.NewHouse(t, t.TempDir(), testkit.HouseOptions{Dispatch: dispatch.Options{SweepEvery: every}})
		for i := range lanes {
			h.Webhook(fmt.Sprintf("http://%d.test/", i))
		}
		testkit.Advance(time.Second)
		for n := range 40 {
			// The sweep's timer and this one fire in the same instant.
			var published sync.WaitGroup
			sweep := time.Now().Truncate(every).Add(every)
			for range 4 {
				published.Add(1)
				time.AfterFunc(time.Until(sweep), func() {
					defer published.Done()
					h.Publish(1)
				})
			}
			testkit.Advance(time.Until(sweep) + time.Second)
			published.Wait()
			if got, want := len(h.All()), lanes+4*(n+1)*lanes; got != want {
				t.Fatalf("got %d attempts a second after the sweep, want %d", got, want)
			}
			testkit.Advance(2 * every)
		}
	})
}
