package sqlite

import (
	"testing"
	"testing/synctest"
	"time"

	"postrider"
)

// What was accepted before the clock was set back by an hour is due an hour
// late at most once; what is accepted afterwards is due at once, and retries
// come when they were planned.
func TestClock_SetBackDelaysNothingNewAndBringsNoRetryForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openPlain(t)
		ctx := t.Context()
		webhook, limit := postrider.NewID(), postrider.ClaimLimit{Rows: 10, Bytes: 1000}
		accept := func() {
			if _, err := s.Accept(ctx, []postrider.Accepted{eventFor(webhook, "1")}, nil); err != nil {
				t.Fatal(err)
			}
		}
		// The last delivery was accepted by a clock that was an hour ahead.
		if err := s.write(ctx, func(tx) error { s.lastDue = micros(time.Now().Add(time.Hour)); return nil }); err != nil {
			t.Fatal(err)
		}
		accept()
		claimed, err := s.Claim(ctx, webhook, limit)
		if err != nil || len(claimed.Deliveries) != 1 {
			t.Fatalf("got %+v, %v, want what was accepted just now", claimed, err)
		}
		d := &claimed.Deliveries[0]
		retry := postrider.Settlement{Key: d.DeliveryKey, RetryIn: time.Minute, Attempts: 1, Retries: 1, Attempt: postrider.Attempt{
			ID: postrider.NewID(), Tenant: d.Tenant, WebhookID: d.WebhookID, EventID: d.EventID, At: time.Now(), Status: postrider.AttemptFailure,
		}}
		if err := s.Settle(ctx, []postrider.Settlement{retry}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			accept()
			if claimed, err = s.Claim(ctx, webhook, limit); err != nil || len(claimed.Deliveries) != 1 || claimed.Deliveries[0].Retries != 0 {
				t.Errorf("got %+v, %v, want the new delivery alone", claimed, err)
			}
		}
		if claimed.NextDue <= 0 || claimed.NextDue > time.Minute {
			t.Errorf("got the retry due in %v, want a minute", claimed.NextDue)
		}
	})
}
