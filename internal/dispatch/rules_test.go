package dispatch_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postrider"
	"postrider/internal/dispatch"
	"postrider/internal/testkit"
)

func TestLane_OpenBreakerUsesUpNoAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{}))
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.Script(testkit.Status(500))
		h.Publish(200)
		testkit.Advance(time.Minute)
		if got := len(h.To(w.URL)); got > 30 {
			t.Errorf("a failing receiver got %d attempts in a minute, want no more than its budget and a few probes", got)
		}
		h.Script(testkit.OK)
		testkit.Advance(2 * time.Hour)
		delivered := map[string]bool{}
		for _, a := range h.Attempts(postrider.AttemptFilter{EventType: "room_status.updated"}) {
			if a.Status == postrider.AttemptSuccess {
				delivered[a.EventID] = true
			}
		}
		if len(delivered) != 200 {
			t.Errorf("got %d of 200 deliveries after the receiver was mended", len(delivered))
		}
	})
}

// What waits behind an open breaker is ended with its schedule: marked, and
// not attempted.
func TestLane_TheScheduleEndsBehindAnOpenBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{RetrySchedule: []time.Duration{time.Minute, time.Minute}}))
		h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.Script(testkit.Status(500))
		receipts := h.Publish(200)
		testkit.Advance(24 * time.Hour)
		expired := 0
		for _, receipt := range receipts {
			_, deliveries, err := h.Store.Event(t.Context(), postrider.DefaultTenant, receipt.ID)
			if err != nil || len(deliveries) != 1 || deliveries[0].State != postrider.DeliveryFailed {
				t.Fatalf("got %+v, %v, want one failed delivery", deliveries, err)
			}
			if deliveries[0].Last.Outcome.Failure == postrider.FailExpired {
				expired++
			}
		}
		if expired < 100 {
			t.Errorf("got %d expired deliveries of 200, want most of them", expired)
		}
	})
}

func TestLane_APingGoesThroughAnOpenBreakerAndClosesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{}))
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.Script(testkit.Status(500))
		h.Publish(100)
		testkit.Advance(10 * time.Minute) // the breaker waits for minutes by now
		h.Script(testkit.OK)
		before := len(h.To(w.URL))
		if _, err := h.Publisher.PingWebhook(t.Context(), w.Tenant, w.ID, nil); err != nil {
			t.Fatal(err)
		}
		testkit.Advance(time.Second)
		if got := len(h.To(w.URL)) - before; got < 50 {
			t.Errorf("got %d attempts in the second after a good ping, want the waiting deliveries", got)
		}
	})
}

func TestLane_OrderedSendsInOrderThroughFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{LaneRows: 16}))
		w := h.Webhook("http://one.test/", func(w *postrider.Webhook) { w.Ordered = true })
		testkit.Advance(time.Second)
		n := 0
		h.Script(func(ctx context.Context, r *postrider.Request) postrider.Outcome {
			if n++; n%3 != 0 {
				return testkit.Status(500)(ctx, r)
			}
			return postrider.Outcome{StatusCode: http.StatusOK}
		})
		var want []string
		for _, receipt := range h.Publish(100) { // more than the lane holds
			want = append(want, receipt.ID)
		}
		testkit.Advance(3 * 24 * time.Hour)
		var got []string
		for _, a := range h.Attempts(postrider.AttemptFilter{WebhookID: w.ID, EventType: "room_status.updated"}) {
			if len(got) == 0 || got[len(got)-1] != a.EventID {
				got = append(got, a.EventID)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got events in the order\n%v\nwant\n%v", got, want)
		}
		if most := h.Most(w.URL); most != 1 {
			t.Errorf("got %d attempts at once, want 1", most)
		}
	})
}

func TestLane_OrderedKeepsItsHeadOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		h := testkit.NewHouse(t, dir, unswept(dispatch.Options{}))
		w := h.Webhook("http://one.test/", func(w *postrider.Webhook) { w.Ordered = true })
		testkit.Advance(time.Second)
		h.Script(testkit.Status(500))
		receipts := h.Publish(20)
		testkit.Advance(time.Minute)
		h.Stop()

		h = testkit.NewHouse(t, dir, unswept(dispatch.Options{}))
		testkit.Advance(24 * time.Hour)
		requests := h.To(w.URL)
		if len(requests) != 20 {
			t.Fatalf("got %d attempts after the restart, want 20", len(requests))
		}
		for i, request := range requests {
			if got := request.Header.Get("X-Clubmed-Delivery"); got != receipts[i].ID {
				t.Fatalf("attempt %d was of %s, want %s", i, got, receipts[i].ID)
			}
		}
	})
}

func TestLane_RateLimitAndBudgetOfTheWebhookAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{}))
		limited := h.Webhook("http://limited.test/", func(w *postrider.Webhook) { w.RateLimit = 10 })
		narrow := h.Webhook("http://narrow.test/", func(w *postrider.Webhook) { w.MaxInFlight = 3 })
		testkit.Advance(time.Second)
		h.Script(testkit.After(100*time.Millisecond, testkit.OK))
		h.Publish(100)
		testkit.Advance(5 * time.Second)
		if got := len(h.To(limited.URL)); got < 49 || got > 52 {
			t.Errorf("got %d attempts in 5 s at 10/s, want 50", got)
		}
		testkit.Advance(10 * time.Second)
		if got := len(h.To(limited.URL)); got != 100 {
			t.Errorf("got %d attempts in the end, want 100", got)
		}
		if got := h.Most(narrow.URL); got != 3 {
			t.Errorf("got %d attempts at once, want 3", got)
		}
	})
}

func TestHealth_WarnsThenDisablesAfterDaysOfFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{}))
		bad := h.Webhook("http://bad.test/", func(w *postrider.Webhook) { w.Events = []string{"room_status.*", "webhook.*"} })
		watcher := h.Webhook("http://watcher.test/", func(w *postrider.Webhook) { w.Events = []string{"webhook.*"} })
		testkit.Advance(time.Second)
		h.Script(func(ctx context.Context, r *postrider.Request) postrider.Outcome {
			if r.URL == bad.URL {
				return testkit.Status(500)(ctx, r)
			}
			return postrider.Outcome{StatusCode: http.StatusOK}
		})
		for range 6 * 24 {
			h.Publish(1)
			testkit.Advance(time.Hour)
		}
		var told []string
		for _, r := range h.To(watcher.URL) {
			var payload struct {
				WebhookID string `json:"webhook_id"`
				Percent   int    `json:"percent"`
				Code      string `json:"code"`
				Reason    string `json:"reason"`
			}
			if err := json.Unmarshal(r.Body, &payload); err != nil || payload.WebhookID != bad.ID.String() {
				t.Fatalf("got %s, %v, want it to be about %s", r.Body, err, bad.ID)
			}
			told = append(told, fmt.Sprint(r.Header.Get("X-Clubmed-Event"), " ", payload.Percent, payload.Code))
		}
		want := []string{"webhook.failing 50", "webhook.failing 70", "webhook.failing 90", "webhook.disabled 0failing"}
		if !slices.Equal(told, want) {
			t.Errorf("the tenant was told %q, want %q", told, want)
		}
		now, err := h.Registry.Webhook(bad.Tenant, bad.ID)
		if err != nil || now.Disabled == nil || !strings.Contains(now.Disabled.Reason, "http_5xx") {
			t.Fatalf("got %+v, %v, want it disabled with the evidence", now.Disabled, err)
		}
		if lasted := now.Disabled.At.Sub(bad.CreatedAt); lasted < 5*24*time.Hour || lasted > 5*24*time.Hour+2*time.Hour {
			t.Errorf("it was disabled after %v, want 5 days", lasted)
		}

		h.Script(testkit.OK)
		before := len(h.To(bad.URL))
		testkit.Advance(24 * time.Hour)
		if got := len(h.To(bad.URL)); got != before {
			t.Errorf("a disabled webhook got %d attempts", got-before)
		}
		if _, err := h.Registry.UpdateWebhook(t.Context(), bad.Tenant, bad.ID, func(w *postrider.Webhook) { w.Disabled = nil }); err != nil {
			t.Fatal(err)
		}
		testkit.Advance(24 * time.Hour)
		for _, a := range h.Attempts(postrider.AttemptFilter{WebhookID: bad.ID, From: now.Disabled.At}) {
			if a.Status != postrider.AttemptSuccess && a.At.After(now.Disabled.At.Add(2*time.Hour)) {
				t.Errorf("after it was switched on again a delivery ended with %s: %s", a.Status, a.Outcome.Detail)
			}
		}
		if got := len(h.To(bad.URL)) - before; got < 24 {
			t.Errorf("got %d deliveries after it was switched on again, want those that were held", got)
		}
	})
}

func TestHealth_RecoveryIsToldOnlyAfterAWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{}))
		bad := h.Webhook("http://bad.test/", func(w *postrider.Webhook) { w.Events = []string{"room_status.*"} })
		watcher := h.Webhook("http://watcher.test/", func(w *postrider.Webhook) { w.Events = []string{"webhook.*"} })
		testkit.Advance(time.Second)
		var down atomic.Bool
		h.Script(func(ctx context.Context, r *postrider.Request) postrider.Outcome {
			if r.URL == bad.URL && down.Load() {
				return testkit.Status(500)(ctx, r)
			}
			return postrider.Outcome{StatusCode: http.StatusOK}
		})
		for _, hours := range []int{24, 72} { // the second outage is long enough for a warning
			down.Store(true)
			for range hours {
				h.Publish(1)
				testkit.Advance(time.Hour)
			}
			down.Store(false)
			testkit.Advance(24 * time.Hour)
		}
		var told []string
		for _, r := range h.To(watcher.URL) {
			told = append(told, r.Header.Get("X-Clubmed-Event"))
		}
		if want := []string{"webhook.failing", "webhook.recovered"}; !slices.Equal(told, want) {
			t.Errorf("the tenant was told %q, want %q", told, want)
		}
	})
}

func TestPause_HoldsATenantAndSendsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{}))
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		if _, err := h.Registry.PauseTenant(t.Context(), postrider.DefaultTenant, true); err != nil {
			t.Fatal(err)
		}
		h.Publish(50)
		testkit.Advance(time.Hour)
		if got := len(h.To(w.URL)); got != 0 {
			t.Errorf("a paused tenant's webhook got %d attempts, want none", got)
		}
		if _, err := h.Registry.PauseTenant(t.Context(), postrider.DefaultTenant, false); err != nil {
			t.Fatal(err)
		}
		testkit.Advance(time.Second)
		if got := len(h.To(w.URL)); got != 50 {
			t.Errorf("got %d attempts after the pause, want 50", got)
		}
	})
}

func TestFanout_IsExpandedInPartsAndGoesOnAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const webhooks = 3500
		dir := t.TempDir()
		h := testkit.NewHouse(t, dir, unswept(dispatch.Options{}))
		for i := range webhooks {
			h.Webhook(fmt.Sprintf("http://%d.test/", i), func(w *postrider.Webhook) { w.Events = []string{"room_status.*"} })
		}
		testkit.Advance(time.Minute)
		receipt := h.Publish(1)[0]
		if receipt.Deliveries != webhooks {
			t.Errorf("got %d deliveries, want %d", receipt.Deliveries, webhooks)
		}
		h.Crash() // at once: only the first part is sure to be written

		h = testkit.NewHouse(t, dir, unswept(dispatch.Options{}))
		testkit.Advance(time.Millisecond)
		late := h.Webhook("http://late.test/")
		testkit.Advance(time.Minute)
		got := map[postrider.ID]bool{}
		for _, a := range h.Attempts(postrider.AttemptFilter{EventID: receipt.ID}) {
			got[a.WebhookID] = true
		}
		if len(got) != webhooks || got[late.ID] {
			t.Errorf("the event reached %d webhooks, and one registered later: %v; want %d and false", len(got), got[late.ID], webhooks)
		}
		if left, err := h.Store.Fanouts(t.Context()); err != nil || len(left) != 0 {
			t.Errorf("got %d fan-outs left, %v", len(left), err)
		}
	})
}
