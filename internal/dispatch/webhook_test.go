package dispatch_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"postrider"
	"postrider/internal/dispatch"
	"postrider/internal/testkit"
	"postrider/signature"
)

func inactive(w *postrider.Webhook) { w.Active = false }

// activate is what a PATCH of {"active": true} does.
func activate(w *postrider.Webhook) { w.Active, w.Disabled = true, nil }

func TestWebhook_GoneDisablesItAndHoldsWhatComesAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{MaxInFlight: 1}))
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.Script(testkit.Status(http.StatusGone))
		receipts := h.Publish(3)
		testkit.Advance(time.Minute)
		receipts = append(receipts, h.Publish(1)...)
		testkit.Advance(100 * time.Hour)

		wantSequence(t, h.To(w.URL), 0)
		disabled, err := h.Registry.Webhook(w.Tenant, w.ID)
		if err != nil || disabled.Status() != postrider.WebhookDisabled || disabled.Disabled.Code != "gone" {
			t.Fatalf("got status %q, %+v, %v, want disabled as gone", disabled.Status(), disabled.Disabled, err)
		}
		if states := h.States(receipts[0].ID); states[postrider.DeliveryFailed] != 1 {
			t.Errorf("got %v of the event that was answered with 410, want it failed", states)
		}
		h.Script(testkit.OK)
		h.Update(w, activate)
		testkit.Advance(time.Second)
		requests := h.To(w.URL)[1:]
		if len(requests) != 3 {
			t.Fatalf("got %d attempts once it was active again, want 3", len(requests))
		}
		for i, r := range requests {
			if r.EventID() != receipts[i+1].ID {
				t.Errorf("attempt %d: got event %s, want %s, in the order of acceptance", i, r.EventID(), receipts[i+1].ID)
			}
		}
	})
}

// The partner has moved on: what the old address says of itself is not about
// the new one.
func TestWebhook_GoneFromAnAddressThatWasReplacedMeanwhileDisablesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{}))
		w := h.Webhook("http://old.test/")
		testkit.Advance(time.Second)
		h.Script(testkit.ByURL(map[string]testkit.Answer{w.URL: testkit.After(5*time.Second, testkit.Status(http.StatusGone))}))
		receipt := h.Publish(1)[0]
		testkit.Advance(time.Second)
		h.Update(w, func(w *postrider.Webhook) { w.URL = "http://new.test/" })
		testkit.Advance(time.Minute)

		if w, err := h.Registry.Webhook(w.Tenant, w.ID); err != nil || w.Status() != postrider.WebhookActive {
			t.Errorf("got status %q, %v, want active", w.Status(), err)
		}
		if states := h.States(receipt.ID); states[postrider.DeliverySucceeded] != 1 {
			t.Errorf("got %v, want the delivery sent to the new address", states)
		}
	})
}

func TestWebhook_InactiveHoldsAndSendsInOrderOnceActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), testkit.HouseOptions{Dispatch: dispatch.Options{MaxInFlight: 1, LaneRows: 8}})
		w := h.Webhook("http://one.test/", inactive)
		receipts := h.Publish(50)
		testkit.Advance(6 * time.Hour)
		if got := h.To(w.URL); len(got) > 0 {
			t.Fatalf("got %d attempts at an inactive webhook, want none", len(got))
		}
		if states := h.States(receipts[0].ID); states[postrider.DeliveryPending] != 1 {
			t.Errorf("got %v, want the delivery waiting", states)
		}
		if got := h.Lanes.Stats().OldestDue; got != 0 {
			t.Errorf("got the oldest due delivery at %v, want held ones not counted", got)
		}
		h.Update(w, activate)
		testkit.Advance(time.Second)
		wantSequence(t, h.To(w.URL), 49)
	})
}

func TestWebhook_SwitchedOffInTheMiddleSendsTheRestLaterAndNothingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{MaxInFlight: 1}))
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.Script(testkit.After(time.Second, testkit.OK))
		h.Publish(20)
		testkit.Advance(4*time.Second + time.Millisecond)
		h.Update(w, inactive)
		testkit.Advance(24 * time.Hour)
		wantSequence(t, h.To(w.URL), 4)
		if s := h.Lanes.Stats(); s.Ready != 0 || s.Bytes != 0 {
			t.Errorf("got %+v, want nothing of a held webhook in memory", s)
		}
		h.Update(w, activate)
		testkit.Advance(time.Minute)
		wantSequence(t, h.To(w.URL), 19)
	})
}

func TestWebhook_DeletedCancelsEverythingQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{
			MaxInFlight: 2, LaneRows: 16, RetrySchedule: []time.Duration{24 * time.Hour},
		}))
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.Script(testkit.Status(500))
		retrying := h.Publish(50)
		testkit.Advance(time.Second)
		h.Script(testkit.After(5*time.Second, testkit.Status(500)))
		waiting := h.Publish(50)
		testkit.Advance(time.Second)
		sent := len(h.To(w.URL))
		if err := h.Registry.DeleteWebhook(t.Context(), w.Tenant, w.ID); err != nil {
			t.Fatal(err)
		}
		testkit.Advance(time.Minute)

		if got := len(h.To(w.URL)); got != sent {
			t.Errorf("got %d attempts after the webhook was deleted, want none", got-sent)
		}
		if left := h.Waiting(); len(left) > 0 {
			t.Errorf("got %v still in the queue, want nothing", left)
		}
		for _, r := range append(retrying, waiting...) {
			if states := h.States(r.ID); states[postrider.DeliveryCancelled] != 1 {
				t.Fatalf("got %v, want it cancelled", states)
			}
		}
		marks := h.Attempts(postrider.AttemptFilter{Status: postrider.AttemptCancelled})
		if len(marks) != 100 || marks[0].Outcome.Failure != postrider.FailCancelled || marks[0].Outcome.Detail == "" {
			t.Errorf("got %d marks like %+v, want 100 that say why", len(marks), marks[0])
		}
		testkit.Advance(48 * time.Hour) // past the retry that was planned
		if _, found := h.Registry.WebhookByID(w.ID); found {
			t.Error("got the deleted webhook still in memory, want it forgotten once its queue was empty")
		}
	})
}

func TestWebhook_DeletedJustBeforeACrashIsCancelledAfterTheRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := dispatch.Options{RetrySchedule: []time.Duration{24 * time.Hour}}
		h := testkit.NewHouse(t, dir, unswept(o))
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.Script(testkit.Status(500))
		receipts := h.Publish(3)
		testkit.Advance(time.Second)
		w.DeletedAt = time.Now().UTC() // as far as DeleteWebhook came
		if err := h.Store.PutWebhook(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		h.Crash()

		h = testkit.NewHouse(t, dir, unswept(o))
		testkit.Advance(time.Minute)
		for _, r := range receipts {
			if states := h.States(r.ID); states[postrider.DeliveryCancelled] != 1 {
				t.Errorf("got %v, want it cancelled without waiting for its retry", states)
			}
		}
	})
}

// The event was matched with the webhook just before that was deleted, and was
// committed when the webhook had been forgotten already.
func TestWebhook_ADeliveryThatComesAfterItsWebhookWasForgottenIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), testkit.HouseOptions{})
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		if err := h.Registry.DeleteWebhook(t.Context(), w.Tenant, w.ID); err != nil {
			t.Fatal(err)
		}
		testkit.Advance(time.Minute)
		event := storedEvent(t, h, w.ID, false)
		testkit.Advance(time.Minute)
		if states := h.States(event); states[postrider.DeliveryCancelled] != 1 {
			t.Errorf("got %v, want it cancelled", states)
		}
		if left := h.Waiting(); len(left) > 0 {
			t.Errorf("got %v still in the queue, want nothing", left)
		}
	})
}

// storedEvent commits an event with one delivery behind the publisher's back,
// so that no lane is told of it.
func storedEvent(t *testing.T, h *testkit.House, webhook postrider.ID, claimed bool) string {
	t.Helper()
	e := postrider.Event{
		ID: postrider.NewID().String(), Tenant: postrider.DefaultTenant, Type: "room_status.updated",
		Payload: []byte("{}"), CreatedAt: time.Now(), Deliveries: 1,
	}
	delivery := postrider.Delivery{
		DeliveryKey: postrider.DeliveryKey{Tenant: e.Tenant, EventID: e.ID, WebhookID: webhook},
		EventType:   e.Type, Payload: e.Payload, Trigger: postrider.TriggerEvent, Claimed: claimed,
	}
	accepted := []postrider.Accepted{{Event: e, Deliveries: []postrider.Delivery{delivery}}}
	if _, err := h.Store.Accept(t.Context(), accepted, nil); err != nil {
		t.Fatal(err)
	}
	return e.ID
}

func TestWebhook_EditedBetweenAttemptsIsUsedAsItIsNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{RetrySchedule: []time.Duration{time.Minute}}))
		w := h.Webhook("http://old.test/", func(w *postrider.Webhook) { w.Secret = "old secret" })
		testkit.Advance(time.Second)
		h.Script(testkit.ByURL(map[string]testkit.Answer{"http://old.test/": testkit.Status(500)}))
		receipt := h.Publish(1)[0]
		testkit.Advance(time.Second)
		h.Update(w, func(w *postrider.Webhook) {
			w.URL, w.Secret, w.ContentType = "http://new.test/", "new secret", postrider.Form
			w.Headers = map[string]string{"X-Reference": "7"}
		})
		testkit.Advance(time.Hour)

		first, second := h.To("http://old.test/"), h.To("http://new.test/")
		if len(first) != 1 || len(second) != 1 {
			t.Fatalf("got %d attempts at the old address and %d at the new one, want 1 and 1", len(first), len(second))
		}
		for _, test := range []struct {
			request testkit.Received
			secret  string
		}{{first[0], "old secret"}, {second[0], "new secret"}} {
			want := string(signature.NewSigner(test.secret).AppendHex(nil, test.request.Body))
			if got := test.request.Header.Get("X-Clubmed-Signature"); got != want {
				t.Errorf("got signature %v, want %q", got, want)
			}
		}
		if got := second[0].Header.Get("X-Reference"); got != "7" {
			t.Errorf("got X-Reference %v, want the header that was added", got)
		}
		if got, want := string(second[0].Body), "payload=%7B%22n%22%3A+0%7D"; got != want {
			t.Errorf("got body %s, want %s as the new content type has it", got, want)
		}
		attempts := h.Attempts(postrider.AttemptFilter{EventID: receipt.ID})
		if len(attempts) != 2 || attempts[0].URL != "http://old.test/" || attempts[1].URL != "http://new.test/" {
			t.Errorf("got %+v, want each attempt with the URL that it used", attempts)
		}
	})
}

func TestPing_IsAttemptedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{}))
		h.Script(testkit.Status(500))
		h.Webhook("http://one.test/")
		testkit.Advance(100 * time.Hour)
		pings := h.Attempts(postrider.AttemptFilter{})
		if len(pings) != 1 || pings[0].EventType != postrider.PingEvent || pings[0].Trigger != postrider.TriggerPing {
			t.Errorf("got %+v, want one ping", pings)
		}
		if left := h.Waiting(); len(left) > 0 {
			t.Errorf("got %v still in the queue, want nothing", left)
		}
	})
}

func TestPing_GoesToTheFrontOfAFullLane(t *testing.T) {
	for _, test := range []struct {
		name string
		o    dispatch.Options
	}{
		{"full of rows", dispatch.Options{MaxInFlight: 1, LaneRows: 4}},
		{"full of bytes", dispatch.Options{MaxInFlight: 1, LaneBytes: 32}},
		{"with all lanes full of bytes", dispatch.Options{MaxInFlight: 1, TotalBytes: 32}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := testkit.NewHouse(t, t.TempDir(), unswept(test.o))
				w := h.Webhook("http://one.test/")
				testkit.Advance(time.Second)
				h.Script(testkit.After(time.Second, testkit.OK))
				h.Publish(30)
				testkit.Advance(time.Millisecond)
				before := len(h.All())
				ping, err := h.Publisher.PingWebhook(t.Context(), w.Tenant, w.ID, nil)
				if err != nil {
					t.Fatal(err)
				}
				testkit.Advance(time.Second)
				requests := h.All()
				if len(requests) <= before || requests[before].EventID() != ping.EventID {
					t.Errorf("got %d attempts and the ping not next, want it before the 29 that wait", len(requests))
				}
				testkit.Advance(time.Minute)
				wantSequence(t, h.To(w.URL), 29)
			})
		})
	}
}

func TestRedelivery_SendsASettledDeliveryAgainWithItsWholeSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{
			RetrySchedule: []time.Duration{time.Minute, 2 * time.Minute},
		}))
		h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.Script(testkit.Status(500))
		receipt := h.Publish(1)[0]
		testkit.Advance(time.Hour)
		before := h.Attempts(postrider.AttemptFilter{EventID: receipt.ID})
		redeliver(t, h, before[0].ID)
		testkit.Advance(time.Hour)

		attempts := h.Attempts(postrider.AttemptFilter{EventID: receipt.ID})
		if len(attempts) != 6 {
			t.Fatalf("got %d attempts, want 3 and 3 again", len(attempts))
		}
		want := []postrider.Trigger{
			postrider.TriggerEvent, postrider.TriggerRetry, postrider.TriggerRetry,
			postrider.TriggerRedelivery, postrider.TriggerRetry, postrider.TriggerRetry,
		}
		for i, a := range attempts {
			if a.Number != i+1 || a.Trigger != want[i] {
				t.Errorf("attempt %d: got number %d, trigger %q, want %q", i+1, a.Number, a.Trigger, want[i])
			}
		}
	})
}

func TestRedelivery_OfAPendingDeliveryIsSentAtOnceAndNotTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{RetrySchedule: []time.Duration{24 * time.Hour}}))
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.Script(testkit.InTurn(testkit.Status(500), testkit.OK))
		receipt := h.Publish(1)[0]
		testkit.Advance(time.Second)
		redeliver(t, h, h.Attempts(postrider.AttemptFilter{EventID: receipt.ID})[0].ID)
		testkit.Advance(time.Second)
		if got := len(h.To(w.URL)); got != 2 {
			t.Errorf("got %d attempts a moment after the redelivery, want 2", got)
		}
		testkit.Advance(100 * time.Hour)
		if got := len(h.To(w.URL)); got != 2 {
			t.Errorf("got %d attempts in all, want 2: the planned retry was replaced", got)
		}
	})
}

func TestRedelivery_OfADeliveryInFlightIsTheOneInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{RetrySchedule: []time.Duration{time.Minute}}))
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.Script(testkit.InTurn(testkit.Status(500), testkit.After(5*time.Second, testkit.OK)))
		receipt := h.Publish(1)[0]
		for len(h.To(w.URL)) < 2 {
			testkit.Advance(time.Second)
		}
		redeliver(t, h, h.Attempts(postrider.AttemptFilter{EventID: receipt.ID})[0].ID)
		testkit.Advance(time.Hour)
		if got := len(h.To(w.URL)); got != 2 {
			t.Errorf("got %d attempts, want 2", got)
		}
	})
}

func TestRedelivery_ToADeletedWebhookIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), testkit.HouseOptions{})
		w := h.Webhook("http://one.test/")
		testkit.Advance(time.Second)
		receipt := h.Publish(1)[0]
		testkit.Advance(time.Second)
		if err := h.Registry.DeleteWebhook(t.Context(), w.Tenant, w.ID); err != nil {
			t.Fatal(err)
		}
		testkit.Advance(time.Minute)
		_, err := h.Publisher.Redeliver(t.Context(), w.Tenant, h.Attempts(postrider.AttemptFilter{EventID: receipt.ID})[0].ID, postrider.ID{})
		wantCode(t, err, postrider.Conflict, "webhook_deleted")
		if left := h.Waiting(); len(left) > 0 {
			t.Errorf("got %v in the queue, want nothing", left)
		}
	})
}

func redeliver(t *testing.T, h *testkit.House, attempt postrider.ID) {
	t.Helper()
	if _, err := h.Publisher.Redeliver(context.WithoutCancel(t.Context()), postrider.DefaultTenant, attempt, postrider.ID{}); err != nil {
		t.Fatal(err)
	}
}
