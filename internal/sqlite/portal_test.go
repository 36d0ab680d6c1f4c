package sqlite

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postrider"
)

// made is a settlement of an attempt that was made at a time.
func made(tenant string, webhook postrider.ID, at time.Time, status postrider.AttemptStatus, took time.Duration) postrider.Settlement {
	return postrider.Settlement{
		Key: postrider.DeliveryKey{Tenant: tenant, EventID: "e", WebhookID: webhook}, Done: true,
		Attempt: postrider.Attempt{
			ID: postrider.NewID(), Tenant: tenant, WebhookID: webhook, EventID: "e", EventType: "a", Number: 1,
			Trigger: postrider.TriggerEvent, At: at, Status: status,
			Outcome: postrider.Outcome{Timings: postrider.Timings{Total: took}},
		},
	}
}

func TestTallies_CountWhatIsRecordedByMinuteAndWebhook(t *testing.T) {
	s := openPlain(t)
	hour := time.Now().UTC().Truncate(time.Hour).Add(-2 * time.Hour)
	one, two := postrider.NewID(), postrider.NewID()
	settle := func(list ...postrider.Settlement) {
		t.Helper()
		if err := s.Settle(t.Context(), list); err != nil {
			t.Fatal(err)
		}
	}
	settle(
		made("acme", one, hour, postrider.AttemptSuccess, 3*time.Millisecond),
		made("acme", one, hour.Add(59*time.Second), postrider.AttemptFailure, 20*time.Second),
		made("acme", one, hour.Add(60*time.Second), postrider.AttemptSuccess, 5*time.Millisecond),
		made("acme", two, hour.Add(61*time.Second), postrider.AttemptSuccess, 6*time.Millisecond),
		made("rival", one, hour, postrider.AttemptSuccess, 0),
	)
	settle(
		made("acme", one, hour.Add(time.Minute), postrider.AttemptSuccess, 5*time.Millisecond),
		made("acme", one, hour.Add(time.Minute), postrider.AttemptCancelled, 0),
		made("acme", one, hour.Add(30*time.Minute), postrider.AttemptFailure, time.Second),
	)
	type counts struct{ Successes, Failures int64 }
	for _, test := range []struct {
		name  string
		query postrider.TallyQuery
		want  []counts
	}{
		{"a webhook by the minute", postrider.TallyQuery{Tenant: "acme", WebhookID: one, To: hour.Add(3 * time.Minute), Step: time.Minute}, []counts{{1, 1}, {2, 0}, {}}},
		{"the other webhook", postrider.TallyQuery{Tenant: "acme", WebhookID: two, To: hour.Add(3 * time.Minute), Step: time.Minute}, []counts{{}, {1, 0}, {}}},
		{"the tenant", postrider.TallyQuery{Tenant: "acme", To: hour.Add(time.Hour), Step: 30 * time.Minute}, []counts{{4, 1}, {0, 1}}},
		{"all tenants", postrider.TallyQuery{To: hour.Add(time.Hour), Step: 30 * time.Minute}, []counts{{5, 1}, {0, 1}}},
		{"another tenant's", postrider.TallyQuery{Tenant: "rival", WebhookID: two, To: hour.Add(time.Hour), Step: time.Hour}, []counts{{}}},
	} {
		test.query.From = hour
		tallies, err := s.Tallies(t.Context(), test.query)
		if err != nil {
			t.Fatal(err)
		}
		var got []counts
		for i, tally := range tallies {
			got = append(got, counts{tally.Successes, tally.Failures})
			if want := hour.Add(time.Duration(i) * test.query.Step); !tally.At.Equal(want) {
				t.Errorf("%s: got the span of %v, want %v", test.name, tally.At, want)
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
	first, err := s.Tallies(t.Context(), postrider.TallyQuery{Tenant: "acme", WebhookID: one, From: hour, To: hour.Add(time.Minute), Step: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if got := first[0].Latency; got[0] != 1 || got[len(got)-1] != 1 || first[0].Attempts() != 2 {
		t.Errorf("got the latencies %v, want one of at most 5 ms and one above all bounds", got)
	}
}

// A batch whose transaction fails is run again: nothing counts twice.
func TestTallies_OfAFailedTransactionAreNotKept(t *testing.T) {
	s := openPlain(t)
	at := time.Now().Add(-time.Minute)
	list := []postrider.Settlement{made("acme", postrider.NewID(), at, postrider.AttemptSuccess, 0)}
	broken := errors.New("broken on purpose")
	err := s.write(t.Context(), func(tx tx) error {
		if err := s.tally(tx, list); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	tallies, err := s.Tallies(t.Context(), postrider.TallyQuery{Tenant: "acme", From: at.Add(-time.Hour), To: at.Add(time.Hour), Step: 2 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if tallies[0].Attempts() != 0 {
		t.Errorf("got %d attempts, want none", tallies[0].Attempts())
	}
}

func TestTallies_AreRemovedWhenTheyAreOld(t *testing.T) {
	s := openPlain(t)
	id, now := postrider.NewID(), time.Now()
	old, kept := now.Add(-postrider.MaxTally-time.Hour), now.Add(-postrider.MaxTally+time.Hour)
	for _, at := range []time.Time{old, kept, now} {
		s.tallied = 0 // as if a minute had passed
		if err := s.Settle(t.Context(), []postrider.Settlement{made("acme", id, at, postrider.AttemptSuccess, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, span := range []struct {
		at   time.Time
		want int64
	}{{old, 0}, {kept, 1}, {now, 1}} {
		tallies, err := s.Tallies(t.Context(), postrider.TallyQuery{
			Tenant: "acme", WebhookID: id, From: span.at.Truncate(time.Minute), To: span.at.Truncate(time.Minute).Add(time.Minute), Step: time.Minute,
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := tallies[0].Attempts(); got != span.want {
			t.Errorf("at %v: got %d, want %d", span.at, got, span.want)
		}
	}
}

func TestSessions_EndAndLinksAreUsedOnce(t *testing.T) {
	s := openPlain(t)
	ctx, soon := t.Context(), time.Now().Add(time.Hour)
	session := postrider.Session{Hash: postrider.HashToken("a"), Tenant: "acme", Key: postrider.HashAPIKey("k"), ExpiresAt: soon.UTC().Truncate(time.Microsecond)}
	link, late := session, session
	link.Hash, late.Hash, late.ExpiresAt = postrider.HashToken("b"), postrider.HashToken("c"), time.Now().Add(-time.Second)
	for _, err := range []error{s.PutSession(ctx, session), s.PutPortalLink(ctx, link), s.PutSession(ctx, late)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Session(ctx, session.Hash)
	if diff := cmp.Diff(session, got); err != nil || diff != "" {
		t.Errorf("got %v (-want +got):\n%s", err, diff)
	}
	missing := func(what string, err error) {
		t.Helper()
		if e, found := errors.AsType[*postrider.Error](err); !found || e.Kind != postrider.NotFound {
			t.Errorf("%s: got %v, want that it is missing", what, err)
		}
	}
	_, err = s.Session(ctx, link.Hash)
	missing("a link is no session", err)
	_, err = s.TakePortalLink(ctx, session.Hash)
	missing("a session is no link", err)
	_, err = s.Session(ctx, late.Hash)
	missing("a session that is over", err)
	if taken, err := s.TakePortalLink(ctx, link.Hash); err != nil || taken != link {
		t.Errorf("got %+v, %v", taken, err)
	}
	_, err = s.TakePortalLink(ctx, link.Hash)
	missing("a link that was used", err)
	if err := s.DeleteSession(ctx, session.Hash); err != nil {
		t.Fatal(err)
	}
	_, err = s.Session(ctx, session.Hash)
	missing("a session that was ended", err)
}

func TestAttemptsAfter_ReadsOnWithoutAGap(t *testing.T) {
	s := openPlain(t)
	id := postrider.NewID()
	var want []postrider.ID
	for i := range 25 {
		status := postrider.AttemptSuccess
		if i%5 == 0 {
			status = postrider.AttemptFailure
		}
		settlement := made("acme", id, time.Now(), status, 0)
		if i%5 == 0 {
			want = append(want, settlement.Attempt.ID)
		}
		if err := s.Settle(t.Context(), []postrider.Settlement{settlement, made("rival", id, time.Now(), postrider.AttemptFailure, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	var got []postrider.ID
	after := postrider.ID{}
	for range 20 {
		found, last, err := s.AttemptsAfter(t.Context(), postrider.AttemptFilter{Tenant: "acme", Status: postrider.AttemptFailure, Limit: 2}, after)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range found {
			got = append(got, a.ID)
		}
		if last == after {
			break
		}
		after = last
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	newest, err := s.NewestAttempt(t.Context(), "acme")
	if err != nil || after != newest {
		t.Errorf("got to %v, %v; want %v", after, err, newest)
	}
	if none, err := s.NewestAttempt(t.Context(), "nobody"); err != nil || !none.IsZero() {
		t.Errorf("got %v, %v; want the zero id", none, err)
	}
}
