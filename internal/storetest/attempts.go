package storetest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"postrider"
)

var attemptsTests = []test{
	{"EveryPartOfAnAttemptComesBack", func(s *stage) {
		w := s.webhook()
		s.accept(event(home, `{"a": "é+b"}`, w))
		d := s.claimOne(w)
		made := retried(&d, time.Hour)
		made.Attempt.URL = "https://partner.test/hook?token=é&x=%20"
		made.Attempt.RequestHeader = postrider.SortedHeader(http.Header{
			"Content-Type": {string(postrider.Form)}, "X-Clubmed-Hook-ID": {w.String()}, "x-lower-CASE": {"a: b", "c"},
			"webhook-id": {d.EventID}, "X-Empty": {""}, "X-Tab": {"a\tb"},
		})
		made.Attempt.Outcome = postrider.Outcome{
			StatusCode: 503, Failure: postrider.FailHTTP5xx, Detail: "The receiver answered 503 \"Sørry\": <later>.",
			RemoteIP: "2001:4860::1", TLSVersion: "TLS 1.3",
			Timings: postrider.Timings{
				DNS: time.Microsecond, Connect: 2 * time.Millisecond, TLS: 3 * time.Millisecond, FirstByte: 4 * time.Second,
				Total: 5 * time.Second,
			},
			Response: postrider.Response{
				Header: postrider.SortedHeader(http.Header{
					"Set-Cookie": {"a=1; Path=/", "b=2"}, "Location": {"http://\xff\xfe/"}, "X-Colon": {": "},
				}),
				Body:      []byte("\x00\xff\x1f\x8b binary \n"),
				Truncated: true,
			},
		}
		s.settle(made)
		want := made.Attempt
		want.NextAttemptAt = now().Add(time.Hour)
		s.reopen()
		got, err := s.Attempt(s.ctx(), home, made.Attempt.ID)
		s.must(err)
		want.RequestBody = []byte("payload=%7B%22a%22%3A+%22%C3%A9%2Bb%22%7D")
		s.wantSame(got, want)

		page, err := s.Attempts(s.ctx(), postrider.AttemptFilter{Tenant: home, Limit: 1})
		s.must(err)
		want.RequestBody, want.RequestHeader = nil, nil
		want.Outcome.Response = postrider.Response{}
		s.wantSame(page.Attempts, []postrider.Attempt{want})
	}},
	{"AnAttemptWithoutAnAnswerComesBack", func(s *stage) {
		w := s.webhook()
		s.backlog(w, 1)
		d := s.claimOne(w)
		made := failed(&d)
		made.Attempt.Outcome = postrider.Outcome{Failure: postrider.FailDNS, Detail: "There is no such host."}
		s.settle(made)
		got, err := s.Attempt(s.ctx(), home, made.Attempt.ID)
		s.must(err)
		if got.Outcome.Response.Body != nil || len(got.Outcome.Response.Header) > 0 || len(got.RequestHeader) > 0 ||
			len(got.RequestBody) > 0 || got.Outcome.RemoteIP != "" || got.Outcome.OK() {
			s.t.Errorf("got %+v, want nothing but the failure", got)
		}
	}},
	{"AnAttemptOfAnotherTenantIsMissing", func(s *stage) {
		w := s.webhook()
		s.backlog(w, 1)
		d := s.claimOne(w)
		made := succeeded(&d)
		s.settle(made)
		for tenant, id := range map[string]postrider.ID{"b": made.Attempt.ID, home: postrider.NewID(), "": made.Attempt.ID} {
			_, err := s.Attempt(s.ctx(), tenant, id)
			s.wantError(err, postrider.NotFound, "not_found")
		}
	}},
	{"AFilterFindsWhatItDescribesAndPagesHoldItOnce", func(s *stage) {
		log := newLog(s, 600)
		// A bubble's test has no Deadline, so rapid must not see the method.
		rapid.Check(struct{ testing.TB }{s.t}, func(t *rapid.T) {
			f := log.filter(t)
			want := log.matching(&f)
			got := s.all(f)
			if !slices.Equal(idsOf(got), want) {
				t.Fatalf("got %d attempts for %+v, want %d", len(got), f, len(want))
			}
		})
	}},
	{"PagesHoldWhatWasThereWhenTheyWereBegun", func(s *stage) {
		w := s.webhook()
		s.settleMany(w, 100, nil)
		want := idsOf(s.all(postrider.AttemptFilter{Tenant: home}))
		f := postrider.AttemptFilter{Tenant: home, WebhookID: w, Limit: 7}
		var got []postrider.ID
		for {
			page, err := s.Attempts(s.ctx(), f)
			s.must(err)
			got = append(got, idsOf(page.Attempts)...)
			if f.Before = page.Next; f.Before.IsZero() {
				break
			}
			s.settleMany(w, 5, nil) // newer ones, of which these pages know nothing
		}
		if !slices.Equal(got, want) {
			s.t.Errorf("got %d attempts, want the %d of the beginning", len(got), len(want))
		}
	}},
	{"ASearchThatFindsLittleGoesOnWhereItGaveUp", func(s *stage) {
		w := s.webhook()
		const searched = 25_000 // more than a page reads
		s.settleMany(w, searched, func(i int, a *postrider.Attempt) {
			switch {
			case i%12_000 == 7:
				a.EventType = "rare.one"
			case i%4 == 0:
				a.EventType = "fourth.one"
			}
		})
		rare := postrider.AttemptFilter{Tenant: home, EventType: "rare.one", Limit: 10}
		first, err := s.Attempts(s.ctx(), rare)
		s.must(err)
		if len(first.Attempts) == 3 || first.Next.IsZero() {
			s.t.Errorf("got %d attempts and next %v in one page, want the search to give up on the way", len(first.Attempts), first.Next)
		}
		if got := s.all(rare); len(got) != 3 {
			s.t.Errorf("got %d attempts in all pages, want 3", len(got))
		}
		// New attempts move what a bounded search sees; nothing may be found twice.
		stop, done := make(chan struct{}), sync.WaitGroup{}
		done.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if err := s.Settle(s.ctx(), many(w, 1, nil)); err != nil {
						s.t.Error(err)
						return
					}
				}
			}
		})
		got := idsOf(s.all(postrider.AttemptFilter{Tenant: home, EventType: "fourth.one", Limit: 10_000}))
		close(stop)
		done.Wait()
		slices.SortFunc(got, compareIDs)
		if distinct := len(slices.Compact(slices.Clone(got))); distinct != len(got) || distinct != searched/4 {
			s.t.Errorf("got %d attempts, %d of them distinct, want each of %d once", len(got), distinct, searched/4)
		}
	}},
	{"TheLastAttemptOfEachWebhookIsItsNewest", func(s *stage) {
		one, two, none := s.webhook(), s.webhook(), s.webhook()
		s.settleMany(one, 5, nil)
		s.settleMany(two, 3, nil)
		last := s.all(postrider.AttemptFilter{Tenant: home, WebhookID: two})[0]
		s.settleMany(one, 1, nil)
		newest := s.all(postrider.AttemptFilter{Tenant: home, WebhookID: one})[0]
		got, err := s.LastAttempts(s.ctx(), home, []postrider.ID{none, two, one, postrider.NewID()})
		s.must(err)
		s.wantSame(got, map[postrider.ID]postrider.Attempt{one: newest, two: last})
		if got, err := s.LastAttempts(s.ctx(), "b", []postrider.ID{one, two}); err != nil || len(got) > 0 {
			s.t.Errorf("got %v, %v of another tenant, want nothing", got, err)
		}
	}},
}

func compareIDs(a, b postrider.ID) int { return bytes.Compare(a[:], b[:]) }

func idsOf(list []postrider.Attempt) (ids []postrider.ID) {
	for i := range list {
		ids = append(ids, list[i].ID)
	}
	return ids
}

// many are n successes of a webhook, each of an event of its own that is not
// stored.
func many(webhook postrider.ID, n int, change func(i int, a *postrider.Attempt)) []postrider.Settlement {
	list := make([]postrider.Settlement, n)
	for i := range list {
		d := postrider.Delivery{
			DeliveryKey: postrider.DeliveryKey{Tenant: home, EventID: postrider.NewID().String(), WebhookID: webhook},
			EventType:   "room_status.updated", Trigger: postrider.TriggerEvent,
		}
		list[i] = succeeded(&d)
		if change != nil {
			change(i, &list[i].Attempt)
		}
	}
	return list
}

// settleMany records many, in a few transactions.
func (s *stage) settleMany(webhook postrider.ID, n int, change func(i int, a *postrider.Attempt)) {
	s.t.Helper()
	for chunk := range slices.Chunk(many(webhook, n, change), 5000) {
		s.settle(chunk...)
	}
}

// A log is a history of attempts of every sort, kept twice: in the store, and
// in a slice that is searched one by one.
type log struct {
	attempts []postrider.Attempt // newest first
	tenants  []string
	webhooks []postrider.ID
	types    []string
	events   []string
	start    time.Time
}

func newLog(s *stage, n int) *log {
	l := &log{
		tenants: []string{home, "b"}, types: []string{"room_status.updated", "stay.ended", "ping"},
		webhooks: []postrider.ID{s.webhook(), s.webhook(), s.webhook()}, start: now(),
	}
	for i := range 50 {
		l.events = append(l.events, fmt.Sprint("event-", i))
	}
	random := rand.New(rand.NewPCG(3, 4))
	list := make([]postrider.Settlement, n)
	for i := range list {
		a := postrider.Attempt{
			Tenant: pick(random, l.tenants), WebhookID: pick(random, l.webhooks), EventID: pick(random, l.events),
			EventType: pick(random, l.types), Number: 1, Trigger: postrider.TriggerEvent, URL: "https://partner.test/",
			At:     l.start.Add(time.Duration(random.IntN(int(2 * time.Second)))).Truncate(time.Microsecond),
			Status: postrider.AttemptSuccess, Outcome: postrider.Outcome{StatusCode: 200 + random.IntN(7)},
		}
		switch random.IntN(6) {
		case 0:
			a.Status, a.Outcome.StatusCode = postrider.AttemptFailure, 300+random.IntN(300)
			a.Outcome.Failure = []postrider.FailureCode{
				postrider.FailRedirect, postrider.FailHTTP4xx, postrider.FailHTTP5xx,
			}[a.Outcome.StatusCode/100-3]
		case 1:
			a.Status, a.Outcome.StatusCode, a.Outcome.Failure = postrider.AttemptFailure, 0, postrider.FailTimeout
		case 2:
			a.Status, a.Outcome.StatusCode, a.Outcome.Failure = postrider.AttemptFailure, 200, postrider.FailTooLarge
		case 3:
			a.Status, a.Outcome.StatusCode, a.Outcome.Failure = postrider.AttemptCancelled, 0, postrider.FailCancelled
		}
		a.ID = idAt(a.At, i)
		l.attempts = append(l.attempts, a)
		list[i].Attempt, list[i].Done = a, true
	}
	s.settle(list...)
	slices.SortFunc(l.attempts, func(a, b postrider.Attempt) int { return compareIDs(b.ID, a.ID) })
	return l
}

func pick[T any](random *rand.Rand, list []T) T { return list[random.IntN(len(list))] }

// idAt is an attempt's id as NewID makes it at a time.
func idAt(at time.Time, n int) (id postrider.ID) {
	binary.BigEndian.PutUint64(id[:8], uint64(at.UnixMilli())<<16|0x7000|uint64(at.Nanosecond()%1e6)<<12/1e6)
	binary.BigEndian.PutUint64(id[8:], 1<<63|uint64(n))
	return id
}

// filter draws one; each field is drawn or left out.
func (l *log) filter(t *rapid.T) postrider.AttemptFilter {
	f := postrider.AttemptFilter{Tenant: draw(t, "tenant", l.tenants), Limit: rapid.IntRange(1, 200).Draw(t, "limit")}
	has := func(field string) bool { return rapid.IntRange(0, 2).Draw(t, "has "+field) == 0 }
	if has("webhook") {
		f.WebhookID = draw(t, "webhook", l.webhooks)
	}
	if has("event") {
		f.EventID = draw(t, "event", append(l.events[:5:5], "unknown"))
	}
	if has("type") {
		f.EventType = draw(t, "type", append(l.types[:3:3], "unknown.type"))
	}
	if has("status") {
		f.Status = draw(t, "status", []postrider.AttemptStatus{
			postrider.AttemptSuccess, postrider.AttemptFailure, postrider.AttemptCancelled,
		})
	}
	if has("class") {
		f.CodeClass = rapid.IntRange(1, 5).Draw(t, "class")
	}
	if has("failure") {
		f.Failure = draw(t, "failure", []postrider.FailureCode{
			postrider.FailTimeout, postrider.FailHTTP5xx, postrider.FailTooLarge, postrider.FailCancelled, postrider.FailDNS,
		})
	}
	if has("from") {
		f.From = l.moment(t, "from")
	}
	if has("to") {
		f.To = l.moment(t, "to")
	}
	if has("before") {
		f.Before = l.attempts[rapid.IntRange(0, len(l.attempts)-1).Draw(t, "before")].ID
	}
	return f
}

// moment draws the very time of an attempt, or one near it.
func (l *log) moment(t *rapid.T, name string) time.Time {
	at := l.attempts[rapid.IntRange(0, len(l.attempts)-1).Draw(t, name)].At
	return at.Add(time.Duration(rapid.IntRange(-1, 1).Draw(t, name+" near")) * time.Microsecond)
}

func draw[T any](t *rapid.T, name string, list []T) T { return rapid.SampledFrom(list).Draw(t, name) }

// matching searches one by one.
func (l *log) matching(f *postrider.AttemptFilter) (ids []postrider.ID) {
	for i := range l.attempts {
		a := &l.attempts[i]
		if a.Tenant == f.Tenant &&
			(f.WebhookID.IsZero() || a.WebhookID == f.WebhookID) &&
			(f.EventType == "" || a.EventType == f.EventType) &&
			(f.EventID == "" || a.EventID == f.EventID) &&
			(f.Status == "" || a.Status == f.Status) &&
			(f.CodeClass == 0 || a.Outcome.StatusCode/100 == f.CodeClass) &&
			(f.Failure == "" || a.Outcome.Failure == f.Failure) &&
			(f.From.IsZero() || !a.At.Before(f.From)) &&
			(f.To.IsZero() || a.At.Before(f.To)) &&
			(f.Before.IsZero() || compareIDs(a.ID, f.Before) < 0) {
			ids = append(ids, a.ID)
		}
	}
	return ids
}
