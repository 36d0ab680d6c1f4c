package storetest

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"postrider"
)

var claimTests = []test{
	{"DeliveriesAreClaimedInTheOrderOfAcceptance", func(s *stage) {
		w, other := s.webhook(), s.webhook()
		var want []string
		for range 20 {
			want = append(want, s.backlog(w, 7)...)
			s.backlog(other, 3)
		}
		s.reopen()
		for range 10 {
			want = append(want, s.backlog(w, 7)...)
		}
		s.wantClaim(w, want...)
	}},
	{"ABurstIsDueAtOnce", func(s *stage) {
		w := s.webhook()
		want := s.backlog(w, 3000)
		claimed := s.claim(w, much)
		if got := eventIDs(claimed.Deliveries); !slices.Equal(got, want) || claimed.More || claimed.NextDue >= 0 {
			s.t.Errorf("got %d deliveries, more %v, next %v, want all 3000 and no more", len(got), claimed.More, claimed.NextDue)
		}
	}},
	{"AClaimKeepsToItsRows", func(s *stage) {
		w := s.webhook()
		want := s.backlog(w, 25)
		for _, rows := range []int{10, 1, 13} {
			claimed := s.claim(w, postrider.ClaimLimit{Rows: rows, Bytes: 1 << 30})
			if got := eventIDs(claimed.Deliveries); !slices.Equal(got, want[:rows]) || !claimed.More {
				s.t.Errorf("got %d deliveries, more %v, want %d and more", len(got), claimed.More, rows)
			}
			want = want[rows:]
		}
		if claimed := s.claim(w, postrider.ClaimLimit{Rows: 1, Bytes: 1 << 30}); len(claimed.Deliveries) != 1 || claimed.More {
			s.t.Errorf("got %d deliveries, more %v, want the last one and no more", len(claimed.Deliveries), claimed.More)
		}
	}},
	{"AClaimKeepsToItsBytesButTakesOneWhateverItsSize", func(s *stage) {
		w := s.webhook()
		for _, size := range []int{1000, 10, 10, 10, 1000, 10} {
			s.accept(event(home, strings.Repeat("x", size), w))
		}
		for i, want := range []int{1, 3, 1, 1} {
			claimed := s.claim(w, postrider.ClaimLimit{Rows: 100, Bytes: 30})
			if len(claimed.Deliveries) != want || claimed.More != (i < 3) {
				s.t.Errorf("claim %d: got %d deliveries, more %v, want %d, more %v", i, len(claimed.Deliveries), claimed.More, want, i < 3)
			}
		}
		if claimed := s.claim(w, postrider.ClaimLimit{Rows: 100, Bytes: 30}); len(claimed.Deliveries) > 0 || claimed.More {
			s.t.Errorf("got %+v, want nothing left", claimed)
		}
	}},
	{"ADeliveryIsNotClaimedTwice", func(s *stage) {
		w := s.webhook()
		want := s.backlog(w, 5)
		s.wantClaim(w, want...)
		s.wantClaim(w)
		if claimed := s.claim(w, postrider.ClaimLimit{Rows: 5, Bytes: 5, Early: true}); len(claimed.Deliveries) > 0 || claimed.More {
			s.t.Errorf("got %+v claimed twice", claimed)
		}
	}},
	{"TheClaimsOfAnEarlierRunAreVoid", func(s *stage) {
		w := s.webhook()
		want := s.backlog(w, 5)
		s.wantClaim(w, want...)
		s.reopen()
		s.wantClaim(w, want...)
		s.wantClaim(w)
	}},
	{"ARetryIsClaimedWhenItIsDueAndNotBefore", func(s *stage) {
		w := s.webhook()
		s.backlog(w, 1)
		d := s.claimOne(w)
		s.settle(retried(&d, time.Hour))
		claimed := s.claim(w, much)
		if len(claimed.Deliveries) > 0 || claimed.More || claimed.NextDue != time.Hour {
			s.t.Errorf("got %+v, want nothing for an hour", claimed)
		}
		s.engine.Advance(time.Hour - time.Microsecond)
		if claimed := s.claim(w, much); len(claimed.Deliveries) > 0 || claimed.NextDue != time.Microsecond {
			s.t.Errorf("got %+v, want nothing for a microsecond", claimed)
		}
		s.engine.Advance(time.Microsecond)
		again := s.claimOne(w)
		if again.EventID != d.EventID || again.Attempts != 1 || again.Retries != 1 || again.Trigger != postrider.TriggerRetry ||
			!bytes.Equal(again.Payload, d.Payload) {
			s.t.Errorf("got %+v, want the first retry of %s", again, d.EventID)
		}
		if claimed := s.claim(w, much); claimed.NextDue >= 0 {
			s.t.Errorf("got a next delivery in %v, want none", claimed.NextDue)
		}
	}},
	{"NextDueIsTheFirstThatIsNotYetDue", func(s *stage) {
		w := s.webhook()
		s.backlog(w, 3)
		deliveries := s.claim(w, much).Deliveries
		s.settle(retried(&deliveries[0], 2*time.Hour), retried(&deliveries[1], time.Hour), retried(&deliveries[2], 3*time.Hour))
		due := s.backlog(w, 2)
		claimed := s.claim(w, postrider.ClaimLimit{Rows: 1, Bytes: 100})
		if !slices.Equal(eventIDs(claimed.Deliveries), due[:1]) || !claimed.More || claimed.NextDue != time.Hour {
			s.t.Errorf("got %+v, want one, more, and the next in an hour", claimed)
		}
	}},
	{"AnEarlyClaimTakesWhatIsNotYetDue", func(s *stage) {
		w := s.webhook()
		want := s.backlog(w, 3)
		deliveries := s.claim(w, much).Deliveries
		s.settle(retried(&deliveries[0], 168*time.Hour), retried(&deliveries[2], time.Second))
		want = []string{want[2], want[0]} // in the order of their due times
		early := much
		early.Early = true
		if got := eventIDs(s.claim(w, early).Deliveries); !slices.Equal(got, want) {
			s.t.Errorf("got %q, want %q", got, want)
		}
	}},
	{"AClaimIsOfOneWebhook", func(s *stage) {
		one, two := s.webhook(), s.webhook(func(w *postrider.Webhook) { w.Tenant = "b" })
		a, b := event(home, "1", one), event("b", "2", two)
		s.accept(a, b)
		s.wantClaim(postrider.NewID())
		s.wantClaim(two, b.Event.ID)
		s.wantClaim(one, a.Event.ID)
	}},
	{"ClaimsSideBySideShareTheDeliveriesOut", func(s *stage) {
		w := s.webhook()
		want := s.backlog(w, 400)
		parts := together(20, func(int) []string {
			var mine []string
			for range 1000 {
				claimed, err := s.Claim(s.ctx(), w, postrider.ClaimLimit{Rows: 7, Bytes: 1 << 20})
				if err != nil {
					return append(mine, err.Error())
				}
				mine = append(mine, eventIDs(claimed.Deliveries)...)
				if !claimed.More {
					break
				}
			}
			return mine
		})
		got := slices.Concat(parts...)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			s.t.Errorf("got %d deliveries claimed, want each of %d once", len(got), len(want))
		}
	}},
}

var waitingTests = []test{
	{"WebhooksAreFoundInTheOrderOfTheirIDs", func(s *stage) {
		webhooks := make([]postrider.ID, 50)
		for i := range webhooks {
			webhooks[i] = s.webhook(func(w *postrider.Webhook) { w.Tenant = []string{"z", "a", home}[i%3] })
		}
		for i, w := range slices.Backward(webhooks) { // accepted in another order
			if i%5 > 0 {
				s.accept(event([]string{"z", "a", home}[i%3], "1", w), event([]string{"z", "a", home}[i%3], "2", w))
			}
		}
		var want []postrider.ID
		for i, w := range webhooks {
			if i%5 > 0 {
				want = append(want, w)
			}
		}
		for _, limit := range []int{1, 7, 40, 41, 1000} {
			if got := s.waiting(limit); !slices.Equal(got, want) {
				s.t.Errorf("in pages of %d: got %d webhooks, want %d in the order of their ids", limit, len(got), len(want))
			}
		}
	}},
	{"DueIsThatOfTheFirstDelivery", func(s *stage) {
		w := s.webhook()
		s.backlog(w, 2)
		s.engine.Advance(time.Minute)
		list, err := s.Waiting(s.ctx(), postrider.ID{}, 10)
		s.must(err)
		if len(list) != 1 || list[0].WebhookID != w || list[0].Due > -time.Minute+time.Millisecond || list[0].Due < -time.Minute {
			s.t.Errorf("got %+v, want webhook %s due for a minute", list, w)
		}
		deliveries := s.claim(w, much).Deliveries
		s.settle(retried(&deliveries[0], 5*time.Hour), retried(&deliveries[1], 3*time.Hour))
		list, err = s.Waiting(s.ctx(), postrider.ID{}, 10)
		s.must(err)
		if len(list) != 1 || list[0].Due != 3*time.Hour {
			s.t.Errorf("got %+v, want it due in 3 hours", list)
		}
	}},
	{"AWebhookWithoutDeliveriesDoesNotWait", func(s *stage) {
		w := s.webhook()
		s.backlog(w, 1)
		d := s.claimOne(w)
		s.settle(succeeded(&d))
		if got := s.waiting(10); len(got) > 0 {
			s.t.Errorf("got %v, want none", got)
		}
	}},
	{"ALargeBacklogOfOneIsPassedOver", func(s *stage) {
		large, small := s.webhook(), s.webhook()
		s.backlog(large, 5000)
		s.backlog(small, 1)
		if got, want := s.waiting(2), []postrider.ID{large, small}; !slices.Equal(got, want) {
			s.t.Errorf("got %v, want %v", got, want)
		}
	}},
}

// waiting walks the pages of Waiting.
func (s *stage) waiting(limit int) (ids []postrider.ID) {
	s.t.Helper()
	var after postrider.ID
	for {
		page, err := s.Waiting(s.ctx(), after, limit)
		s.must(err)
		if len(page) > limit {
			s.t.Fatalf("got a page of %d, want at most %d", len(page), limit)
		}
		for _, w := range page {
			ids, after = append(ids, w.WebhookID), w.WebhookID
		}
		if len(page) < limit {
			return ids
		}
	}
}
