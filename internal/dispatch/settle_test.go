package dispatch_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postrider"
	"postrider/internal/dispatch"
	"postrider/internal/testkit"
)

func TestSettle_OutcomesOfACrowdShareCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var commits atomic.Int32
		o := unswept(dispatch.Options{MaxInFlight: 64})
		o.Trouble = func(call string) error {
			if call == "Settle" {
				commits.Add(1)
			}
			return nil
		}
		h := testkit.NewHouse(t, t.TempDir(), o)
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		var receipts []postrider.Receipt
		before := commits.Load()
		for range 50 {
			receipts = append(receipts, h.Publish(20)...)
			testkit.Advance(time.Millisecond)
		}
		testkit.Advance(20 * time.Millisecond)
		if got := commits.Load() - before; got > 30 {
			t.Errorf("got %d commits of outcomes in 50 ms, want them to wait for company", got)
		}
		testkit.Advance(time.Second)
		wantEachOnce(t, h.To(w.URL), receipts)
		if waiting := h.Waiting(); len(waiting) > 0 {
			t.Errorf("got %v waiting, want everything settled", waiting)
		}
	})
}

// A lone outcome is in the log at once.
func TestSettle_ALoneOutcomeWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{}))
		h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		for range 20 {
			r := h.Publish(1)[0]
			testkit.Advance(0)
			if attempts := h.Attempts(postrider.AttemptFilter{EventID: r.ID}); len(attempts) != 1 {
				t.Fatalf("got %d attempts in the log, want one at once", len(attempts))
			}
			testkit.Advance(time.Millisecond)
		}
	})
}

func TestSettle_WhoCannotGoOnBeforeIsNotKeptWaiting(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*postrider.Webhook)
		payload string
	}{
		"an ordered webhook":   {ordered, "1"},
		"few attempts at once": {func(w *postrider.Webhook) { w.MaxInFlight = 1 }, "1"},
		"large payloads":       {func(*postrider.Webhook) {}, `"` + strings.Repeat("x", 30_000) + `"`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{LaneBytes: 64_000}))
				w := h.Webhook("http://one.test/", c.change, func(w *postrider.Webhook) { w.Events = []string{"stay.ended"} })
				h.Webhook("http://crowd.test/", func(w *postrider.Webhook) {
					w.MaxInFlight, w.Events = 64, []string{"room_status.updated"}
				})
				testkit.Advance(time.Second)
				h.Script(testkit.After(time.Millisecond, testkit.OK))
				for range 200 {
					h.Publish(20)
					if _, err := h.Publisher.Publish(t.Context(), []postrider.Publication{{
						Event: "stay.ended", Payload: []byte(c.payload),
					}}, nil); err != nil {
						t.Fatal(err)
					}
					testkit.Advance(time.Millisecond)
				}
				if got := len(h.To(w.URL)); got < 150 {
					t.Errorf("got %d deliveries in 200 ms beside a crowd, want nearly one for each millisecond", got)
				}
			})
		})
	}
}
