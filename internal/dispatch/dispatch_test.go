package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"postrider"
	"postrider/internal/dispatch"
	"postrider/internal/testkit"
)

// ctx is short for the scripts of receivers.
type ctx = context.Context

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// unswept is a house whose lanes must not need the sweep: it comes once an
// hour.
func unswept(o dispatch.Options) testkit.HouseOptions {
	o.SweepEvery = time.Hour
	return testkit.HouseOptions{Dispatch: o}
}

// body tells the events of House.Publish apart.
func body(n int) string { return fmt.Sprintf(`{"n": %d}`, n) }

// wantSequence fails unless the requests carry the events 0 to last, in
// order and once each.
func wantSequence(t *testing.T, got []testkit.Received, last int) {
	t.Helper()
	if len(got) != last+1 {
		t.Fatalf("got %d attempts, want %d", len(got), last+1)
	}
	for i := range got {
		if got, want := string(got[i].Body), body(i); got != want {
			t.Fatalf("attempt %d: got %s, want %s", i, got, want)
		}
	}
}

func TestDispatch_FollowsTheWholeRetrySchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{}))
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.Script(testkit.Status(http.StatusInternalServerError))
		receipt := h.Publish(1)[0]
		testkit.Advance(5 * 24 * time.Hour)

		attempts := h.Attempts(postrider.AttemptFilter{EventID: receipt.ID})
		if got, want := len(attempts), 1+len(dispatch.DefaultRetrySchedule); got != want {
			t.Fatalf("got %d attempts, want %d", got, want)
		}
		for i, wait := range dispatch.DefaultRetrySchedule {
			got := attempts[i+1].At.Sub(attempts[i].At)
			if got < wait*8/10 || got > wait*12/10+time.Millisecond {
				t.Errorf("retry %d came after %v, want %v ± 20 %%", i+1, got, wait)
			}
			if planned := attempts[i].NextAttemptAt; attempts[i+1].At.Sub(planned).Abs() > time.Millisecond {
				t.Errorf("retry %d came at %v, was planned for %v", i+1, attempts[i+1].At, planned)
			}
			if attempts[i+1].Number != i+2 || attempts[i+1].Trigger != postrider.TriggerRetry {
				t.Errorf("retry %d: got number %d, trigger %q", i+1, attempts[i+1].Number, attempts[i+1].Trigger)
			}
		}
		if last := attempts[len(attempts)-1]; !last.NextAttemptAt.IsZero() {
			t.Errorf("got a next attempt at %v after the last, want none", last.NextAttemptAt)
		}
		requests := h.To(w.URL)
		for i, r := range requests {
			if got, want := r.EventID(), receipt.ID; got != want {
				t.Errorf("attempt %d: got X-Clubmed-Delivery %q, want %q", i+1, got, want)
			}
			if got, want := r.Header.Get("X-Clubmed-Attempt"), fmt.Sprint(i+1); got != want {
				t.Errorf("got X-Clubmed-Attempt %q, want %q", got, want)
			}
		}
		if states := h.States(receipt.ID); states[postrider.DeliveryFailed] != 1 {
			t.Errorf("got deliveries %v, want one that failed", states)
		}
	})
}

func TestDispatch_StopsAtTheFirstSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{}))
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.Script(testkit.InTurn(testkit.Status(500), testkit.Status(404), testkit.Status(204)))
		receipt := h.Publish(1)[0]
		testkit.Advance(5 * 24 * time.Hour)

		attempts := h.Attempts(postrider.AttemptFilter{EventID: receipt.ID})
		want := []postrider.AttemptStatus{postrider.AttemptFailure, postrider.AttemptFailure, postrider.AttemptSuccess}
		if len(attempts) != len(want) || len(h.To(w.URL)) != len(want) {
			t.Fatalf("got %d attempts recorded and %d received, want %d", len(attempts), len(h.To(w.URL)), len(want))
		}
		for i := range want {
			if attempts[i].Status != want[i] {
				t.Errorf("attempt %d: got %q, want %q", i+1, attempts[i].Status, want[i])
			}
		}
		if states := h.States(receipt.ID); states[postrider.DeliverySucceeded] != 1 {
			t.Errorf("got deliveries %v, want one that succeeded", states)
		}
		if left := h.Waiting(); len(left) > 0 {
			t.Errorf("got %v still in the queue, want nothing", left)
		}
	})
}

func TestDispatch_AWebhooksOwnScheduleAndTimeoutHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{Timeout: 10 * time.Second}))
		h.Script(testkit.Hang)
		h.Webhook("http://default.test/")
		h.Webhook("http://own.test/", func(w *postrider.Webhook) {
			w.RetrySchedule = []time.Duration{time.Minute, time.Hour}
			w.Timeout = 3 * time.Second
		})
		h.Webhook("http://never-again.test/", func(w *postrider.Webhook) { w.RetrySchedule = []time.Duration{} })
		testkit.Advance(time.Minute)
		h.Publish(1)
		testkit.Advance(10 * 24 * time.Hour)

		count, lasted := map[string]int{}, map[string]time.Duration{}
		for _, a := range h.Attempts(postrider.AttemptFilter{EventType: "room_status.updated"}) {
			count[a.URL]++
			lasted[a.URL] = a.Outcome.Timings.Total
		}
		for _, want := range []struct {
			url      string
			attempts int
			timeout  time.Duration
		}{
			{"http://default.test/", 10, 10 * time.Second},
			{"http://own.test/", 3, 3 * time.Second},
			{"http://never-again.test/", 1, 10 * time.Second},
		} {
			if count[want.url] != want.attempts || lasted[want.url] != want.timeout {
				t.Errorf("%s: got %d attempts of %v, want %d of %v",
					want.url, count[want.url], lasted[want.url], want.attempts, want.timeout)
			}
		}
	})
}

func TestDispatch_JitterSpreadsRetriesByAFifth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const wait = 1000 * time.Second
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{RetrySchedule: []time.Duration{wait}}))
		for range 100 { // with three failures each, which open no breaker
			h.Webhook("http://one.test/")
		}
		testkit.Advance(time.Second)
		pings := len(h.To("http://one.test/"))
		h.Script(testkit.Status(500))
		h.Publish(3)
		testkit.Advance(time.Hour)

		requests := h.To("http://one.test/")[pings:]
		if len(requests) != 600 {
			t.Fatalf("got %d attempts, want 600", len(requests))
		}
		shortest, longest := requests[300].At.Sub(requests[0].At), requests[599].At.Sub(requests[0].At)
		if shortest < wait*8/10 || longest > wait*12/10+time.Second {
			t.Errorf("retries came after %v to %v, want %v ± 20 %%", shortest, longest, wait)
		}
		// 300 draws that all miss an outer quarter are as likely as 10^-37.
		if shortest > wait*9/10 || longest < wait*11/10 {
			t.Errorf("retries came after %v to %v, want them spread over %v ± 20 %%", shortest, longest, wait)
		}
	})
}

func TestDispatch_RetryAfterIsHonouredBetweenTheScheduleAndADay(t *testing.T) {
	for _, test := range []struct {
		name            string
		scheduled       time.Duration
		asked           time.Duration
		atLeast, atMost time.Duration
	}{
		{"more than the schedule", 5 * time.Second, time.Minute, time.Minute, time.Minute},
		{"less than the schedule", time.Hour, time.Second, 48 * time.Minute, 72 * time.Minute},
		{"more than a day", 5 * time.Second, 1000 * time.Hour, 24 * time.Hour, 24 * time.Hour},
		{"more than a day, after a longer schedule", 100 * time.Hour, 1000 * time.Hour, 80 * time.Hour, 120 * time.Hour},
		{"nothing", time.Minute, 0, 48 * time.Second, 72 * time.Second},
		{"the past", time.Minute, -time.Hour, 48 * time.Second, 72 * time.Second},
		{"no wait in the schedule", 0, 10 * time.Second, 10 * time.Second, 10 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{RetrySchedule: []time.Duration{test.scheduled}}))
				w := h.Webhook("http://one.test/")
				testkit.Advance(time.Second)
				busy := testkit.Status(http.StatusServiceUnavailable)
				h.Script(func(ctx ctx, r *postrider.Request) postrider.Outcome {
					outcome := busy(ctx, r)
					outcome.RetryAfter = test.asked
					return outcome
				})
				h.Publish(1)
				testkit.Advance(200 * time.Hour)

				requests := h.To(w.URL)
				if len(requests) != 2 {
					t.Fatalf("got %d attempts, want 2", len(requests))
				}
				got := requests[1].At.Sub(requests[0].At)
				if got < test.atLeast || got > test.atMost+time.Millisecond {
					t.Errorf("got the retry after %v, want %v to %v", got, test.atLeast, test.atMost)
				}
			})
		})
	}
}

func TestDispatch_ARedirectIsAFailureThatIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{}))
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.Script(testkit.InTurn(testkit.Status(http.StatusFound), testkit.OK))
		h.Publish(1)
		testkit.Advance(time.Minute)

		attempts := h.Attempts(postrider.AttemptFilter{EventType: "room_status.updated"})
		if len(attempts) != 2 || attempts[0].Outcome.Failure != postrider.FailRedirect || attempts[0].Outcome.StatusCode != http.StatusFound {
			t.Fatalf("got %+v, want a redirect and a second attempt", attempts)
		}
		if got := h.To(w.URL); len(got) != 2 || attempts[1].URL != w.URL {
			t.Errorf("got %d attempts at the webhook's own URL, want 2", len(got))
		}
	})
}

func TestDispatch_AnOutcomeThatPanicsDoesNotStopTheLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{MaxInFlight: 1}))
		h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		poison := func(ctx, *postrider.Request) postrider.Outcome { panic("poison") }
		h.Script(testkit.InTurn(poison, testkit.OK))
		receipts := h.Publish(3)
		testkit.Advance(time.Second)

		first := h.Attempts(postrider.AttemptFilter{EventID: receipts[0].ID})
		if len(first) != 1 || first[0].Outcome.Failure != postrider.FailUnsendable || first[0].NextAttemptAt.IsZero() {
			t.Errorf("got %+v, want an attempt that was not sendable and is tried again", first)
		}
		for _, r := range receipts[1:] {
			if states := h.States(r.ID); states[postrider.DeliverySucceeded] != 1 {
				t.Errorf("got %v behind the poison, want a success", states)
			}
		}
		testkit.Advance(time.Minute)
		if states := h.States(receipts[0].ID); states[postrider.DeliverySucceeded] != 1 {
			t.Errorf("got %v after the poison was gone, want a success", states)
		}
	})
}

// wantCode fails unless the error is one for users, of the kind and code.
func wantCode(t *testing.T, err error, kind postrider.Kind, code string) {
	t.Helper()
	if e, ok := errors.AsType[*postrider.Error](err); !ok || e.Kind != kind || e.Code != code {
		t.Errorf("got error %v, want code %q", err, code)
	}
}
