package publish_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postrider"
	"postrider/internal/dispatch"
	"postrider/internal/testkit"
)

// unswept is a house whose replays must not need the sweep: it comes once an
// hour.
func unswept(o dispatch.Options) testkit.HouseOptions {
	o.SweepEvery = time.Hour
	return testkit.HouseOptions{Dispatch: o}
}

func once(w *postrider.Webhook) { w.RetrySchedule = []time.Duration{} }

// outage has n events fail for a webhook that is tried once, and the receiver
// mended afterwards. The webhook is edited, so that its lane starts anew.
func outage(t *testing.T, h *testkit.House, w postrider.Webhook, n int) (ids []string) {
	t.Helper()
	h.Script(testkit.Status(http.StatusInternalServerError))
	for _, receipt := range h.Publish(n) {
		ids = append(ids, receipt.ID)
	}
	testkit.Advance(time.Hour)
	if states := h.States(ids[n-1]); states[postrider.DeliveryFailed] != 1 {
		t.Fatalf("got %v of the last event, want it failed", states)
	}
	h.Script(testkit.OK)
	h.Update(w, func(*postrider.Webhook) {})
	return ids
}

// start begins a replay of a webhook.
func start(t *testing.T, h *testkit.House, w postrider.Webhook, change func(*postrider.Replay)) postrider.Replay {
	t.Helper()
	asked := postrider.Replay{Tenant: w.Tenant, WebhookID: w.ID}
	change(&asked)
	replay, err := h.Replayer.StartReplay(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	return replay
}

// progress is where a replay stands now.
func progress(t *testing.T, h *testkit.House, was postrider.Replay) postrider.Replay {
	t.Helper()
	replay, err := h.Replayer.Replay(t.Context(), was.Tenant, was.ID)
	if err != nil {
		t.Fatal(err)
	}
	return replay
}

func wantReplay(t *testing.T, got postrider.Replay, state postrider.ReplayState, total, queued int) {
	t.Helper()
	if got.State != state || got.Total != total || got.Queued != queued || got.Skipped != 0 || got.EndedAt.IsZero() == state.Ended() {
		t.Errorf("got %s, %d in all, %d queued, %d skipped, ended at %v, want %s, %d, %d, 0",
			got.State, got.Total, got.Queued, got.Skipped, got.EndedAt, state, total, queued)
	}
}

// eventsOf are the events that requests brought, in their order.
func eventsOf(requests []testkit.Received) (ids []string) {
	for i := range requests {
		ids = append(ids, requests[i].EventID())
	}
	return ids
}

func TestReplay_SendsWhatFailedAtItsRateInTheOrderOfAcceptance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{MaxInFlight: 1}))
		w := h.Webhook("http://one.test/", once)
		testkit.Advance(time.Second)
		fine := h.Publish(3)
		testkit.Advance(time.Second)
		ids := outage(t, h, w, 600)
		before := len(h.To(w.URL))
		replay := start(t, h, w, func(r *postrider.Replay) { r.Rate = 50 })
		begun := time.Now()
		testkit.Advance(6 * time.Second)
		if halfway := progress(t, h, replay); halfway.State != postrider.ReplayRunning || halfway.Queued < 280 || halfway.Queued > 310 {
			t.Errorf("got %+v after 6 seconds at 50 a second", halfway)
		}
		testkit.Advance(time.Minute)
		wantReplay(t, progress(t, h, replay), postrider.ReplayDone, 600, 600)
		again := h.To(w.URL)[before:]
		if !slices.Equal(eventsOf(again), ids) {
			t.Errorf("got %d attempts, want the %d that failed, once each and in the order of acceptance", len(again), len(ids))
		}
		if len(again) == 0 {
			t.Fatal("got no attempt")
		}
		if took := again[len(again)-1].At.Sub(begun); took < 11*time.Second || took > 13*time.Second {
			t.Errorf("it took %v to send 600 at 50 a second", took)
		}
		attempts := h.Attempts(postrider.AttemptFilter{EventID: ids[7]})
		if last := attempts[len(attempts)-1]; last.Trigger != postrider.TriggerReplay || last.Status != postrider.AttemptSuccess {
			t.Errorf("got the last attempt %+v, want a success of the replay", last)
		}
		if got := len(h.Attempts(postrider.AttemptFilter{EventID: fine[0].ID})); got != 1 {
			t.Errorf("got %d attempts of an event that had succeeded, want 1", got)
		}
	})
}

func TestReplay_OfADeliveryHasTheWholeRetrySchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{}))
		w := h.Webhook("http://one.test/", once)
		testkit.Advance(time.Second)
		id := outage(t, h, w, 1)[0]
		h.Script(testkit.Status(http.StatusInternalServerError))
		h.Update(w, func(w *postrider.Webhook) { w.RetrySchedule = []time.Duration{time.Minute, time.Minute} })
		start(t, h, w, func(*postrider.Replay) {})
		testkit.Advance(24 * time.Hour)
		var triggers []postrider.Trigger
		for i, a := range h.Attempts(postrider.AttemptFilter{EventID: id}) {
			triggers = append(triggers, a.Trigger)
			if a.Number != i+1 {
				t.Errorf("attempt %d has the number %d", i+1, a.Number)
			}
		}
		if want := []postrider.Trigger{"event", "replay", "retry", "retry"}; !slices.Equal(triggers, want) {
			t.Errorf("got %q, want %q", triggers, want)
		}
	})
}

// A dry run counts, and queues nothing.
func TestReplay_TakesWhatIsAskedForAndNothingThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{}))
		w := h.Webhook("http://one.test/", once)
		other := h.Webhook("http://other.test/", once)
		testkit.Advance(time.Second)
		publish := func(event string) string {
			t.Helper()
			receipts, err := h.Publisher.Publish(t.Context(), []postrider.Publication{{Event: event, Payload: []byte(`{}`)}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			testkit.Advance(time.Minute)
			return receipts[0].ID
		}
		h.Script(testkit.Status(http.StatusInternalServerError))
		begin := time.Now()
		publish("room.updated")
		publish("room.deleted")
		middle := time.Now()
		publish("booking.created")
		mended := publish("room.updated")
		if _, err := h.Publisher.PingWebhook(t.Context(), w.Tenant, w.ID, nil); err != nil { // it fails, and is no event of theirs
			t.Fatal(err)
		}
		h.Script(testkit.OK)
		testkit.Advance(time.Hour)
		failures := h.Attempts(postrider.AttemptFilter{EventID: mended, WebhookID: w.ID})
		if _, err := h.Publisher.Redeliver(t.Context(), w.Tenant, failures[0].ID, postrider.ID{}); err != nil {
			t.Fatal(err)
		}
		testkit.Advance(time.Minute)
		end := time.Now()
		publish("room.updated") // succeeds
		h.Update(w, func(w *postrider.Webhook) { w.RetrySchedule = []time.Duration{100 * time.Hour} })
		h.Script(testkit.Status(http.StatusInternalServerError))
		publish("room.updated") // fails, and waits for its retry
		before := len(h.All())

		for name, row := range map[string]struct {
			change func(*postrider.Replay)
			want   int
		}{
			"failed":       {func(*postrider.Replay) {}, 3},
			"succeeded":    {func(r *postrider.Replay) { r.Status = postrider.ReplaySucceeded }, 2},
			"cancelled":    {func(r *postrider.Replay) { r.Status = postrider.ReplayCancelled }, 0},
			"all":          {func(r *postrider.Replay) { r.Status = postrider.ReplayAll }, 5},
			"one type":     {func(r *postrider.Replay) { r.Events = []string{"room.deleted"} }, 1},
			"a pattern":    {func(r *postrider.Replay) { r.Events = []string{"nothing", "room.*"} }, 2},
			"from":         {func(r *postrider.Replay) { r.From = middle }, 1},
			"to":           {func(r *postrider.Replay) { r.To = middle }, 2},
			"a range":      {func(r *postrider.Replay) { r.From, r.To, r.Status = middle, end, postrider.ReplayAll }, 2},
			"an old range": {func(r *postrider.Replay) { r.From, r.To = begin.Add(-time.Hour), begin }, 0},
			"of the other": {func(r *postrider.Replay) { r.WebhookID = other.ID }, 5},
		} {
			replay := start(t, h, w, func(r *postrider.Replay) { r.DryRun = true; row.change(r) })
			if replay.State != postrider.ReplayDone || replay.Total != row.want || replay.Queued != 0 {
				t.Errorf("%s: got %+v, want it to count %d", name, replay, row.want)
			}
		}
		testkit.Advance(time.Hour)
		if got := len(h.All()); got != before {
			t.Errorf("got %d attempts because of dry runs, want none", got-before)
		}
		h.Script(testkit.OK)
		replay := start(t, h, w, func(r *postrider.Replay) { r.Status = postrider.ReplayAll })
		testkit.Advance(time.Hour)
		wantReplay(t, progress(t, h, replay), postrider.ReplayDone, 5, 5)
	})
}

func TestReplay_GoesOnAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		h := testkit.NewHouse(t, dir, unswept(dispatch.Options{}))
		w := h.Webhook("http://one.test/", once)
		testkit.Advance(time.Second)
		ids := outage(t, h, w, 700) // more than one step collects
		replay := start(t, h, w, func(r *postrider.Replay) { r.Rate = 20 })
		received := map[string]int{}
		for _, life := range []time.Duration{time.Microsecond, 3 * time.Second, 10 * time.Second} {
			before := len(h.To(w.URL))
			testkit.Advance(life)
			h.Crash()
			for _, id := range eventsOf(h.To(w.URL)[before:]) {
				received[id]++
			}
			h = testkit.NewHouse(t, dir, unswept(dispatch.Options{}))
		}
		if got := progress(t, h, replay); got.State.Ended() {
			t.Fatalf("got %+v, want it to have crashed in the middle", got)
		}
		testkit.Advance(time.Hour)
		wantReplay(t, progress(t, h, replay), postrider.ReplayDone, 700, 700)
		for _, id := range eventsOf(h.To(w.URL)) {
			received[id]++
		}
		repeated := 0
		for _, id := range ids {
			repeated += received[id] - 1
			if received[id] == 0 {
				t.Fatalf("event %s was not sent again", id)
			}
		}
		if repeated > 3*16 {
			t.Errorf("got %d deliveries repeated in 3 crashes", repeated)
		}
	})
}

func TestReplay_ThatIsCancelledQueuesNothingMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{}))
		w := h.Webhook("http://one.test/", once)
		testkit.Advance(time.Second)
		outage(t, h, w, 800)
		before := len(h.To(w.URL))
		replay := start(t, h, w, func(r *postrider.Replay) { r.Rate = 40 })
		var conflict *postrider.Error
		if _, err := h.Replayer.StartReplay(t.Context(), postrider.Replay{Tenant: w.Tenant, WebhookID: w.ID}); !errors.As(err, &conflict) ||
			conflict.Kind != postrider.Conflict || conflict.Code != "replay_running" {
			t.Errorf("got %v for a second replay of the webhook, want a conflict", err)
		}
		testkit.Advance(10 * time.Second)
		cancelled, err := h.Replayer.CancelReplay(t.Context(), w.Tenant, replay.ID)
		if err != nil {
			t.Fatal(err)
		}
		testkit.Advance(time.Hour)
		wantReplay(t, progress(t, h, replay), postrider.ReplayStopped, 800, cancelled.Queued)
		if got := len(h.To(w.URL)) - before; got != cancelled.Queued || got < 380 || got > 420 {
			t.Errorf("got %d attempts of %d that were queued in 10 seconds at 40 a second", got, cancelled.Queued)
		}
		if again, err := h.Replayer.CancelReplay(t.Context(), w.Tenant, replay.ID); err != nil || again.EndedAt != cancelled.EndedAt {
			t.Errorf("got %+v, %v for a second cancellation, want the first", again, err)
		}
		if open, err := h.Store.OpenReplays(t.Context()); err != nil || len(open) != 0 {
			t.Errorf("got %d replays open, %v, want what was collected forgotten", len(open), err)
		}
		rest := start(t, h, w, func(*postrider.Replay) {})
		testkit.Advance(time.Hour)
		wantReplay(t, progress(t, h, rest), postrider.ReplayDone, 800-cancelled.Queued, 800-cancelled.Queued)
		if _, err := h.Replayer.Replay(t.Context(), "another", replay.ID); !errors.As(err, &conflict) || conflict.Kind != postrider.NotFound {
			t.Errorf("got %v for another tenant's replay, want it missing", err)
		}
	})
}

// A replay at a webhook that does not send queues so much and no more, and is
// in nobody's way.
func TestReplay_OfAHeldWebhookWaitsAndBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{}))
		w := h.Webhook("http://one.test/", once)
		other := h.Webhook("http://other.test/", func(w *postrider.Webhook) { w.Events = []string{"room_status.*"} })
		testkit.Advance(time.Second)
		outage(t, h, w, 800)
		h.Update(w, func(w *postrider.Webhook) { w.Paused = true })
		replay := start(t, h, w, func(r *postrider.Replay) { r.Rate = 1000 })
		second := start(t, h, other, func(r *postrider.Replay) { r.Status, r.Rate = postrider.ReplayAll, 1000 })
		testkit.Advance(time.Hour)
		if got := progress(t, h, replay); got.State != postrider.ReplayRunning || got.Total != 800 || got.Queued != 500 {
			t.Errorf("got %+v, want 500 queued", got)
		}
		if got := progress(t, h, second); got.State != postrider.ReplayDone {
			t.Errorf("got %+v of the other webhook's replay, want it done", got)
		}
		before := len(h.To(other.URL))
		h.Publish(1)
		testkit.Advance(10 * time.Millisecond)
		if got := len(h.To(other.URL)) - before; got != 1 {
			t.Errorf("got %d attempts of a fresh event to another webhook, want it at once", got)
		}
		h.Update(w, func(w *postrider.Webhook) { w.Paused = false })
		testkit.Advance(time.Minute)
		wantReplay(t, progress(t, h, replay), postrider.ReplayDone, 800, 800)
	})
}

func TestReplay_EndsWithItsWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{}))
		w := h.Webhook("http://one.test/", once)
		testkit.Advance(time.Second)
		outage(t, h, w, 100)
		replay := start(t, h, w, func(r *postrider.Replay) { r.Rate = 1 })
		testkit.Advance(5 * time.Second)
		if err := h.Registry.DeleteWebhook(t.Context(), w.Tenant, w.ID); err != nil {
			t.Fatal(err)
		}
		testkit.Advance(time.Hour)
		got := progress(t, h, replay)
		wantReplay(t, got, postrider.ReplayStopped, 100, got.Queued)
		if got.Queued < 4 || got.Queued > 7 {
			t.Errorf("got %d queued in 5 seconds at 1 a second", got.Queued)
		}
		if _, err := h.Replayer.StartReplay(t.Context(), postrider.Replay{Tenant: w.Tenant, WebhookID: w.ID}); err == nil {
			t.Error("got a replay of a deleted webhook")
		}
	})
}

func TestReplay_WaitsForAStoreThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		h := testkit.NewHouse(t, t.TempDir(), testkit.HouseOptions{Dispatch: dispatch.Options{SweepEvery: time.Hour}, Trouble: func(call string) error {
			if away.Load() && (call == "AdvanceReplay" || call == "OpenReplays") {
				return errors.New("the store is away")
			}
			return nil
		}})
		w := h.Webhook("http://one.test/", once)
		testkit.Advance(time.Second)
		outage(t, h, w, 50)
		replay := start(t, h, w, func(r *postrider.Replay) { r.Rate = 10 })
		testkit.Advance(2 * time.Second)
		away.Store(true)
		testkit.Advance(time.Minute)
		away.Store(false)
		testkit.Advance(10 * time.Second)
		wantReplay(t, progress(t, h, replay), postrider.ReplayDone, 50, 50)
	})
}

func TestReplay_Faults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{}))
		w := h.Webhook("http://one.test/", once)
		for code, change := range map[string]func(*postrider.Replay){
			"invalid_time_range": func(r *postrider.Replay) { r.From = time.Now().Add(time.Hour) },
			"invalid_status":     func(r *postrider.Replay) { r.Status = "lost" },
			"invalid_event":      func(r *postrider.Replay) { r.Events = []string{"*.updated"} },
			"invalid_events":     func(r *postrider.Replay) { r.Events = make([]string, 101) },
			"invalid_rate":       func(r *postrider.Replay) { r.Rate = 1001 },
			"not_found":          func(r *postrider.Replay) { r.Tenant = "another" },
		} {
			asked := postrider.Replay{Tenant: w.Tenant, WebhookID: w.ID}
			change(&asked)
			_, err := h.Replayer.StartReplay(t.Context(), asked)
			var shown *postrider.Error
			if !errors.As(err, &shown) || shown.Code != code && (shown.Code != "invalid" || code != "invalid_events") {
				t.Errorf("got %v, want %s", err, code)
			}
		}
		if open, err := h.Store.OpenReplays(context.WithoutCancel(t.Context())); err != nil || len(open) != 0 {
			t.Error(fmt.Sprint("got replays open: ", open, err))
		}
	})
}
