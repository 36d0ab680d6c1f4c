package dispatch_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
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

func TestStop_FinishesWhatIsInFlightAndGivesBackTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var released atomic.Int32
		o := unswept(dispatch.Options{MaxInFlight: 4})
		o.Trouble = func(call string) error {
			if call == "Release" {
				released.Add(1)
			}
			return nil
		}
		h := testkit.NewHouse(t, dir, o)
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.Script(testkit.After(5*time.Second, testkit.OK))
		receipts := h.Publish(50)
		testkit.Advance(time.Second)
		start := time.Now()
		h.Stop()
		if got := time.Since(start); got != 4*time.Second {
			t.Errorf("got the stop after %v, want it once the attempts in flight had ended, after 4s", got)
		}
		if got := len(h.To(w.URL)); got != 4 || released.Load() == 0 {
			t.Errorf("got %d attempts and %d releases, want 4 attempts and the rest released", got, released.Load())
		}

		h.Script(testkit.OK)
		o.Receiver = h.Receiver
		h = testkit.NewHouse(t, dir, o)
		testkit.Advance(time.Second)
		wantEachOnce(t, h.To(w.URL), receipts)
		for _, r := range receipts {
			if attempts := h.Attempts(postrider.AttemptFilter{EventID: r.ID}); len(attempts) != 1 || attempts[0].Number != 1 {
				t.Fatalf("got attempts %+v, want one, with number 1", attempts)
			}
		}
	})
}

// Three full lanes are more than a store has to take at once.
func TestStop_GivesBackManyInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var released atomic.Int32
		o := unswept(dispatch.Options{MaxInFlight: 1})
		o.Trouble = func(call string) error {
			if call == "Release" {
				released.Add(1)
			}
			return nil
		}
		h := testkit.NewHouse(t, t.TempDir(), o)
		for n := range 3 {
			h.Webhook(fmt.Sprintf("http://%d.test/", n))
		}
		testkit.Advance(time.Second)
		h.Script(testkit.After(5*time.Second, testkit.OK))
		h.Publish(4096)
		testkit.Advance(time.Second)
		if got := h.Lanes.Stats().Ready; got < 12_000 {
			t.Fatalf("got %d deliveries in memory, want three lanes full", got)
		}
		h.Stop()
		if got := released.Load(); got != 3 {
			t.Errorf("got %d calls of the store, want 3 for some 12,000 deliveries", got)
		}
	})
}

func wantEachOnce(t *testing.T, got []testkit.Received, receipts []postrider.Receipt) {
	t.Helper()
	seen := map[string]int{}
	for _, r := range got {
		seen[r.EventID()]++
	}
	for _, r := range receipts {
		if seen[r.ID] != 1 {
			t.Errorf("got event %s %d times, want once", r.ID, seen[r.ID])
		}
	}
	if len(got) != len(receipts) {
		t.Errorf("got %d attempts, want %d", len(got), len(receipts))
	}
}

// It was our stop that ended the attempt and not the receiver, which would have
// had 25 seconds more: neither is it the delivery's end.
func TestStop_CutsAHangingAttemptAfterTheGraceAndMakesItAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := unswept(dispatch.Options{Grace: 5 * time.Second, Timeout: 30 * time.Second, RetrySchedule: []time.Duration{}})
		h := testkit.NewHouse(t, dir, o)
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.Script(testkit.Hang)
		receipt := h.Publish(1)[0]
		testkit.Advance(time.Second)
		start := time.Now()
		h.Stop()
		if got := time.Since(start); got != 5*time.Second {
			t.Errorf("got the stop after %v, want it after the grace of 5s", got)
		}

		h.Script(testkit.OK)
		o.Receiver = h.Receiver
		h = testkit.NewHouse(t, dir, o)
		testkit.Advance(time.Second)
		if got := len(h.To(w.URL)); got != 2 {
			t.Errorf("got %d attempts, want the one that was cut and another", got)
		}
		attempts := h.Attempts(postrider.AttemptFilter{EventID: receipt.ID})
		if len(attempts) != 2 || attempts[0].Status != postrider.AttemptFailure || attempts[1].Status != postrider.AttemptSuccess {
			t.Errorf("got %+v, want a failure and a success", attempts)
		}
	})
}

func TestStop_WhileTheStoreIsAwayEndsAndSendsAgainAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var away atomic.Bool
		o := unswept(dispatch.Options{})
		o.Trouble = func(call string) error {
			if away.Load() && call == "Settle" {
				return errAway
			}
			return nil
		}
		h := testkit.NewHouse(t, dir, o)
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		away.Store(true)
		receipt := h.Publish(1)[0]
		testkit.Advance(time.Minute)
		start := time.Now()
		h.Stop()
		if got := time.Since(start); got > time.Second {
			t.Errorf("got the stop after %v, want it within a second", got)
		}
		away.Store(false)
		o.Receiver = h.Receiver
		h = testkit.NewHouse(t, dir, o)
		testkit.Advance(time.Second)
		if got := len(h.To(w.URL)); got != 2 {
			t.Errorf("got %d attempts, want 2: the outcome of the first was not recorded", got)
		}
		if states := h.States(receipt.ID); states[postrider.DeliverySucceeded] != 1 {
			t.Errorf("got %v, want a success", states)
		}
	})
}

func TestCrash_RepeatsAtMostWhatWasUnsettledAndLosesNothing(t *testing.T) {
	const events, crashes = 1500, 12
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		random := rand.New(rand.NewPCG(1, 2))
		o := unswept(dispatch.Options{MaxInFlight: 4, LaneRows: 64})
		h := testkit.NewHouse(t, dir, o)
		o.Receiver = h.Receiver
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.Script(func(ctx ctx, r *postrider.Request) postrider.Outcome {
			return testkit.After(time.Duration(r.Body[len(r.Body)-2]%5)*time.Millisecond, testkit.OK)(ctx, r)
		})
		receipts := h.Publish(events)
		mayRepeat := 0
		for range crashes {
			testkit.Advance(time.Duration(random.IntN(40_000)) * time.Microsecond)
			mayRepeat += h.Lanes.Stats().Unsettled
			h.Crash()
			h = testkit.NewHouse(t, dir, o)
		}
		testkit.Advance(time.Minute)

		requests := h.To(w.URL)
		seen := map[string]int{}
		for _, r := range requests {
			seen[r.EventID()]++
		}
		for _, r := range receipts {
			if seen[r.ID] == 0 {
				t.Errorf("got event %s never, want it at least once", r.ID)
			}
		}
		if got := len(requests) - events; got > mayRepeat || mayRepeat > crashes*4*8 {
			t.Errorf("got %d repeated, want at most the %d that were not settled", got, mayRepeat)
		}
		if left := h.Waiting(); len(left) > 0 {
			t.Errorf("got %v still in the queue, want nothing", left)
		}
	})
}

var errAway = errors.New("the store is away")

// failing makes calls fail while the switch is on.
func failing(o *testkit.HouseOptions, calls ...string) (away *atomic.Bool, failed *atomic.Int32) {
	away, failed = new(atomic.Bool), new(atomic.Int32)
	o.Trouble = func(call string) error {
		if away.Load() && slices.Contains(calls, call) {
			failed.Add(1)
			return errAway
		}
		return nil
	}
	return away, failed
}

func TestTrouble_OutcomesAreKeptUntilTheStoreHasThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := unswept(dispatch.Options{MaxInFlight: 2})
		away, failed := failing(&o, "Settle")
		h := testkit.NewHouse(t, t.TempDir(), o)
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		away.Store(true)
		receipts := h.Publish(100)
		testkit.Advance(time.Minute)
		if got := len(h.To(w.URL)); got != 2*8 {
			t.Errorf("got %d attempts whose outcome is not on disk, want them to end at the bound of 16", got)
		}
		if n := failed.Load(); n < 30 || n > 300 {
			t.Errorf("got the store asked %d times in a minute, want about twice a second", n)
		}
		away.Store(false)
		testkit.Advance(time.Minute)
		wantEachOnce(t, h.To(w.URL), receipts)
		if got := len(h.Attempts(postrider.AttemptFilter{EventType: "room_status.updated"})); got != 100 {
			t.Errorf("got %d attempts recorded, want 100", got)
		}
		if s := h.Lanes.Stats(); s.Bytes != 0 || s.Unsettled != 0 {
			t.Errorf("got %+v, want nothing left in memory", s)
		}
	})
}

func TestTrouble_ALaneThatGotNoAnswerAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := unswept(dispatch.Options{MaxInFlight: 2, LaneRows: 8})
		away, failed := failing(&o, "Claim")
		h := testkit.NewHouse(t, t.TempDir(), o)
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		away.Store(true)
		receipts := h.Publish(100)
		testkit.Advance(time.Minute)
		if got := len(h.To(w.URL)); got != 8 {
			t.Errorf("got %d attempts, want only the 8 that were in memory", got)
		}
		if n := failed.Load(); n < 10 || n > 120 {
			t.Errorf("got the store asked %d times in a minute, want about once a second", n)
		}
		away.Store(false)
		testkit.Advance(2 * time.Second)
		wantEachOnce(t, h.To(w.URL), receipts)
	})
}

func TestTrouble_WhatCouldNotBeGivenBackIsSentOnceItsWebhookIsActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := unswept(dispatch.Options{MaxInFlight: 1})
		away, failed := failing(&o, "Release")
		h := testkit.NewHouse(t, t.TempDir(), o)
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.Script(testkit.InTurn(testkit.After(time.Second, testkit.OK), testkit.OK))
		receipts := h.Publish(20)
		testkit.Advance(time.Millisecond)
		away.Store(true)
		h.Update(w, inactive)
		testkit.Advance(time.Minute)
		if failed.Load() == 0 {
			t.Error("got no call to Release, want the lane to give back what it may not send")
		}
		away.Store(false)
		testkit.Advance(time.Minute)
		h.Update(w, activate)
		testkit.Advance(time.Second)
		wantEachOnce(t, h.To(w.URL), receipts)
	})
}

func TestTrouble_ASweepThatFailedIsMadeUpForByTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testkit.HouseOptions{Dispatch: dispatch.Options{SweepEvery: 10 * time.Second}}
		away, _ := failing(&o, "Waiting")
		h := testkit.NewHouse(t, t.TempDir(), o)
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		away.Store(true)
		storedEvent(t, h, w.ID, false)
		testkit.Advance(time.Minute)
		away.Store(false)
		testkit.Advance(10 * time.Second)
		if got := len(h.To(w.URL)); got != 1 {
			t.Errorf("got %d attempts, want 1", got)
		}
	})
}

func TestTrouble_APublishThatFailedSendsNothingAndTakesNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := unswept(dispatch.Options{LaneRows: 4, LaneBytes: 100})
		away, _ := failing(&o, "Accept")
		h := testkit.NewHouse(t, t.TempDir(), o)
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		away.Store(true)
		for i := range 10 {
			list := []postrider.Publication{{Event: "stay.ended", Payload: fmt.Appendf(nil, "%40d", i)}}
			if _, err := h.Publisher.Publish(t.Context(), list, nil); !errors.Is(err, errAway) {
				t.Errorf("got error %v, want the store's", err)
			}
		}
		away.Store(false)
		if s := h.Lanes.Stats(); s.Bytes != 0 {
			t.Errorf("got %d bytes kept for events that were not committed, want 0", s.Bytes)
		}
		h.Publish(4)
		testkit.Advance(time.Second)
		wantSequenceOf(t, h.To(w.URL), 4)
	})
}

// wantSequenceOf is wantSequence for attempts that are sent side by side.
func wantSequenceOf(t *testing.T, got []testkit.Received, events int) {
	t.Helper()
	slices.SortFunc(got, func(a, b testkit.Received) int { return slices.Compare(a.Body, b.Body) })
	wantSequence(t, got, events-1)
}

func TestTrouble_AWebhookThatCouldNotBeDisabledIsDisabledByTheNextAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := unswept(dispatch.Options{MaxInFlight: 1})
		away, _ := failing(&o, "PutWebhook")
		h := testkit.NewHouse(t, t.TempDir(), o)
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.Script(testkit.Status(http.StatusGone))
		away.Store(true)
		h.Publish(1)
		testkit.Advance(time.Second)
		away.Store(false)
		h.Publish(3)
		testkit.Advance(time.Minute)
		if got := len(h.To(w.URL)); got != 2 {
			t.Errorf("got %d attempts, want 2", got)
		}
		if w, err := h.Registry.Webhook(w.Tenant, w.ID); err != nil || w.Status() != postrider.WebhookDisabled {
			t.Errorf("got status %q, %v, want disabled", w.Status(), err)
		}
	})
}

func TestTrouble_AStopDoesNotWaitForAReleaseThatKeepsFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := unswept(dispatch.Options{MaxInFlight: 1})
		away, _ := failing(&o, "Release")
		h := testkit.NewHouse(t, dir, o)
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.Script(testkit.InTurn(testkit.After(time.Second, testkit.OK), testkit.OK))
		receipts := h.Publish(5)
		testkit.Advance(time.Millisecond)
		away.Store(true)
		h.Update(w, inactive)
		testkit.Advance(time.Minute)
		start := time.Now()
		h.Stop()
		if got := time.Since(start); got > time.Second {
			t.Errorf("got the stop after %v, want it within a second", got)
		}
		away.Store(false)
		o.Receiver = h.Receiver
		h = testkit.NewHouse(t, dir, o)
		h.Update(w, activate)
		testkit.Advance(time.Second)
		wantEachOnce(t, h.To(w.URL), receipts)
	})
}
