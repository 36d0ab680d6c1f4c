package sqlite

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"postrider"
)

const month = 30 * 24 * time.Hour

// deliver accepts events for a webhook and settles their first attempts.
func deliver(t *testing.T, s *Store, webhook postrider.ID, n int) (events []string) {
	t.Helper()
	var accepted []postrider.Accepted
	var settled []postrider.Settlement
	for i := range n {
		a := eventFor(webhook, fmt.Sprintf("%s-%d", postrider.NewID(), i))
		a.Publication = i
		a.Event.Payload = bytes.Repeat([]byte("x"), 512)
		a.Deliveries[0].Claimed = true
		accepted = append(accepted, a)
		events = append(events, a.Event.ID)
		settled = append(settled, postrider.Settlement{Key: a.Deliveries[0].DeliveryKey, Done: true, Attempt: attemptOf(&a.Deliveries[0])})
	}
	if _, err := s.Accept(t.Context(), accepted, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(t.Context(), settled); err != nil {
		t.Fatal(err)
	}
	return events
}

func attemptOf(d *postrider.Delivery) postrider.Attempt {
	return postrider.Attempt{
		ID: simulatedID(), Tenant: d.Tenant, WebhookID: d.WebhookID, EventID: d.EventID, EventType: "a", Number: d.Attempts + 1,
		Trigger: postrider.TriggerEvent, At: time.Now(), URL: "https://one.test/", Status: postrider.AttemptSuccess,
	}
}

// simulatedID is an id of simulated time. Those of NewID never go back, and so
// hold the real one once any other test has asked for an id.
func simulatedID() postrider.ID {
	id, later := idAt(time.Now()), postrider.NewID()
	copy(id[8:], later[:8])
	return id
}

// rowsOf counts a table's rows.
func rowsOf(t *testing.T, s *Store, table string) (n int) {
	t.Helper()
	if err := s.read.QueryRowContext(t.Context(), `SELECT count(*) FROM `+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func dropHistory(t *testing.T, s *Store) {
	t.Helper()
	if err := s.DropHistory(t.Context(), month); err != nil {
		t.Fatal(err)
	}
}

// advance lets simulated time pass. testkit's stands above this package.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func newTenant(t *testing.T, s *Store, name string) {
	t.Helper()
	if err := s.CreateTenant(t.Context(), postrider.Tenant{Name: name, CreatedAt: time.Now()}); err != nil {
		t.Fatal(err)
	}
}

func TestHistory_IsKeptForAsLongAsItIsSaidAndNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openPlain(t)
		webhook := postrider.NewID()
		tenant := eventFor(webhook, "x").Event.Tenant
		newTenant(t, s, tenant)
		old := deliver(t, s, webhook, 3*historyPart+1)
		nobody := postrider.Accepted{Event: eventFor(webhook, "nobody").Event}
		nobody.Event.Deliveries = 0
		if _, err := s.Accept(t.Context(), []postrider.Accepted{nobody}, nil); err != nil {
			t.Fatal(err)
		}
		advance(month - time.Hour)
		dropHistory(t, s)
		if got := rowsOf(t, s, "events"); got != len(old)+1 {
			t.Errorf("got %d events an hour before their time, want all %d", got, len(old)+1)
		}
		young := deliver(t, s, webhook, 10)
		advance(2 * time.Hour)
		dropHistory(t, s)
		if events, attempts := rowsOf(t, s, "events"), rowsOf(t, s, "attempts"); events != len(young) || attempts != len(young) {
			t.Errorf("got %d events and %d attempts, want the %d that are young", events, attempts, len(young))
		}
		if _, _, err := s.Event(t.Context(), tenant, young[0]); err != nil {
			t.Errorf("got %v for an event that is young", err)
		}
	})
}

// What is not delivered yet is needed however old it is, and so is what a
// redelivery has queued again.
func TestHistory_KeepsWhatIsStillToBeDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openPlain(t)
		webhook := postrider.NewID()
		waiting := eventFor(webhook, "waiting")
		tenant := waiting.Event.Tenant
		newTenant(t, s, tenant)
		if _, err := s.Accept(t.Context(), []postrider.Accepted{waiting}, nil); err != nil {
			t.Fatal(err)
		}
		claimed, err := s.Claim(t.Context(), webhook, postrider.ClaimLimit{Rows: 1, Bytes: 1000})
		if err != nil || len(claimed.Deliveries) != 1 {
			t.Fatalf("got %+v, %v, want one delivery", claimed, err)
		}
		failed := attemptOf(&claimed.Deliveries[0])
		failed.Status = postrider.AttemptFailure
		retry := postrider.Settlement{
			Key: claimed.Deliveries[0].DeliveryKey, RetryIn: 2 * month, Attempts: 1, Retries: 1, Attempt: failed,
		}
		if err := s.Settle(t.Context(), []postrider.Settlement{retry}); err != nil {
			t.Fatal(err)
		}
		advance(month + time.Hour)
		dropHistory(t, s)
		if attempts := rowsOf(t, s, "attempts"); attempts != 0 {
			t.Errorf("got %d attempts, want the old one gone", attempts)
		}
		advance(month)
		claimed, err = s.Claim(t.Context(), webhook, postrider.ClaimLimit{Rows: 1, Bytes: 1000})
		if err != nil || len(claimed.Deliveries) != 1 || string(claimed.Deliveries[0].Payload) != string(waiting.Event.Payload) {
			t.Fatalf("got %+v, %v, want the delivery that waited", claimed, err)
		}
		last := postrider.Settlement{Key: claimed.Deliveries[0].DeliveryKey, Done: true, Attempt: attemptOf(&claimed.Deliveries[0])}
		if err := s.Settle(t.Context(), []postrider.Settlement{last}); err != nil {
			t.Fatal(err)
		}
		advance(month + time.Hour)
		dropHistory(t, s)
		if events := rowsOf(t, s, "events"); events != 0 {
			t.Errorf("got %d events, want the delivered one gone a month after its last attempt", events)
		}
	})
}

// A replay whose events have gone since it collected them queues nothing that
// could never be sent.
func TestHistory_AReplayPassesOverWhatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openPlain(t)
		ctx := t.Context()
		w := postrider.Webhook{ID: postrider.NewID(), Tenant: eventFor(postrider.NewID(), "x").Event.Tenant, Events: []string{"*"}}
		newTenant(t, s, w.Tenant)
		if err := s.PutWebhook(ctx, w); err != nil {
			t.Fatal(err)
		}
		deliver(t, s, w.ID, 5)
		advance(month - time.Hour)
		r := postrider.Replay{
			ID: postrider.NewID(), Tenant: w.Tenant, WebhookID: w.ID, To: time.Now(), Status: postrider.ReplayAll, Rate: 10,
			State: postrider.ReplayCollecting, CreatedAt: time.Now(),
		}
		if err := s.CreateReplay(ctx, r); err != nil {
			t.Fatal(err)
		}
		r, err := s.Replay(ctx, r.Tenant, r.ID)
		if err == nil {
			r, err = s.AdvanceReplay(ctx, r, 10)
		}
		if err != nil || r.State != postrider.ReplayRunning || r.Total != 5 {
			t.Fatalf("got %+v, %v, want five collected", r, err)
		}
		advance(2 * time.Hour)
		dropHistory(t, s)
		if r, err = s.AdvanceReplay(ctx, r, 10); err != nil || r.State != postrider.ReplayDone || r.Queued != 0 || r.Skipped != 5 {
			t.Errorf("got %+v, %v, want all five passed over", r, err)
		}
		if queued := rowsOf(t, s, "queue"); queued != 0 {
			t.Errorf("got %d deliveries without an event queued", queued)
		}
	})
}

func TestHistory_ForgetsADeletedWebhookWithItsLastAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openPlain(t)
		w := postrider.Webhook{ID: postrider.NewID(), Tenant: eventFor(postrider.NewID(), "x").Event.Tenant, Events: []string{"*"}}
		newTenant(t, s, w.Tenant)
		kept := w
		kept.ID = postrider.NewID()
		w.DeletedAt = time.Now()
		for _, w := range []postrider.Webhook{w, kept} {
			if err := s.PutWebhook(t.Context(), w); err != nil {
				t.Fatal(err)
			}
		}
		advance(2 * time.Hour)
		deliver(t, s, w.ID, 1)
		advance(month - time.Hour)
		dropHistory(t, s)
		if got := rowsOf(t, s, "webhooks"); got != 2 {
			t.Errorf("got %d webhooks while the deleted one has an attempt, want 2", got)
		}
		advance(2 * time.Hour)
		dropHistory(t, s)
		if got := rowsOf(t, s, "webhooks"); got != 1 {
			t.Errorf("got %d webhooks, want the one that is not deleted", got)
		}
	})
}

// The file grows to what a retention's worth of history takes, and no further.
func TestHistory_SpaceIsUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openPlain(t)
		dir := directoryOf(t, s)
		webhook := postrider.NewID()
		newTenant(t, s, eventFor(webhook, "x").Event.Tenant)
		const each, rounds = 2000, 5
		var sizes []int64
		for range rounds {
			for range each / 200 {
				deliver(t, s, webhook, 200)
			}
			advance(month + time.Hour)
			dropHistory(t, s)
			if _, err := s.read.ExecContext(t.Context(), `PRAGMA wal_checkpoint(TRUNCATE)`); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(filepath.Join(dir, FileName))
			if err != nil {
				t.Fatal(err)
			}
			sizes = append(sizes, info.Size())
		}
		if sizes[0] < each*512 {
			t.Fatalf("got a file of %d bytes, want %d payloads to have been in it", sizes[0], each)
		}
		if first, last := sizes[0], sizes[rounds-1]; last > first+first/10 {
			t.Errorf("got files of %v bytes, want them to grow no further", sizes)
		}
		t.Logf("%d bytes for each delivered event, after %d rounds of %d", sizes[rounds-1]/each, rounds, each)
	})
}

func directoryOf(t *testing.T, s *Store) string {
	t.Helper()
	return filepath.Dir(s.lock.Name())
}

// A publish waits behind one small step at most.
func TestHistory_StopsInTheMiddleWhenItIsTold(t *testing.T) {
	s := openPlain(t)
	webhook := postrider.NewID()
	newTenant(t, s, eventFor(webhook, "x").Event.Tenant)
	for range 5 {
		deliver(t, s, webhook, historyPart)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := s.write(t.Context(), func(tx tx) error { cancel(); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.DropHistory(ctx, -time.Hour); err == nil {
		t.Error("got no error after the context ended")
	}
	if got := rowsOf(t, s, "attempts"); got < 4*historyPart {
		t.Errorf("got %d attempts left, want at most one step's gone", got)
	}
	if err := s.DropHistory(t.Context(), -time.Hour); err != nil {
		t.Fatal(err)
	}
	if got := rowsOf(t, s, "attempts"); got != 0 {
		t.Errorf("got %d attempts left, want none", got)
	}
}
