package dispatch_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postrider"
	"postrider/internal/dispatch"
	"postrider/internal/testkit"
)

func ordered(w *postrider.Webhook) { w.Ordered = true }

// wantOrder fails unless the events arrived in the order of their receipts,
// retries aside.
func wantOrder(t *testing.T, got []testkit.Received, receipts []postrider.Receipt) {
	t.Helper()
	var events []string
	for _, r := range got {
		if id := r.EventID(); len(events) == 0 || events[len(events)-1] != id {
			events = append(events, id)
		}
	}
	if len(events) != len(receipts) {
		t.Fatalf("got %d events in turn, want %d", len(events), len(receipts))
	}
	for i, r := range receipts {
		if events[i] != r.ID {
			t.Fatalf("got another event at place %d, want them in the order of acceptance", i)
		}
	}
}

func TestOrdered_ASmallEventDoesNotOvertakeALargeOneOfTheSameRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{LaneBytes: 1000}))
		w := h.Webhook("http://one.test/", ordered)
		testkit.Advance(time.Second)
		h.Script(testkit.After(time.Second, testkit.OK))
		var list []postrider.Publication
		for i := range 30 {
			payload := `"small"`
			if i%3 == 1 {
				payload = `"` + strings.Repeat("x", 995) + `"` // there is no room for it beside another
			}
			list = append(list, postrider.Publication{Event: "stay.ended", Payload: []byte(payload)})
		}
		receipts, err := h.Publisher.Publish(t.Context(), list, nil)
		if err != nil {
			t.Fatal(err)
		}
		testkit.Advance(time.Minute)
		wantOrder(t, h.To(w.URL), receipts)
	})
}

func TestOrdered_AnEventPublishedAtTheStartGoesBehindTheBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := unswept(dispatch.Options{})
		h := testkit.NewHouse(t, dir, o)
		w := h.Webhook("http://one.test/", ordered, inactive)
		receipts := h.Publish(5)
		w.Active = true
		if err := h.Store.PutWebhook(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		testkit.Advance(time.Second)
		h.Crash()

		// The lanes have not looked into the store when the publish comes: to
		// them it is as if that was slow to answer.
		slow := make(chan struct{})
		o.Trouble = func(call string) error {
			if call == "Waiting" {
				<-slow
			}
			return nil
		}
		h = testkit.NewHouse(t, dir, o)
		h.Script(testkit.After(time.Second, testkit.OK))
		receipts = append(receipts, h.Publish(1)...)
		testkit.Advance(10 * time.Millisecond)
		close(slow)
		testkit.Advance(time.Minute)
		wantOrder(t, h.To(w.URL), receipts)
	})
}

func TestOrdered_AnAttemptThatAStopCutShortKeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := unswept(dispatch.Options{Grace: time.Second, Timeout: 10 * time.Second})
		h := testkit.NewHouse(t, dir, o)
		w := h.Webhook("http://one.test/", ordered)
		testkit.Advance(time.Second)
		h.Script(testkit.Hang)
		receipts := h.Publish(5)
		testkit.Advance(time.Second)
		h.Stop()

		h.Script(testkit.OK)
		o.Receiver = h.Receiver
		h = testkit.NewHouse(t, dir, o)
		testkit.Advance(time.Minute)
		wantOrder(t, h.To(w.URL), receipts)
	})
}
