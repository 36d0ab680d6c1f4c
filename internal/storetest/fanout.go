package storetest

import (
	"slices"

	"postrider"
)

var fanoutTests = []test{
	{"WhatIsStillToBeWrittenIsKnownAndWrittenInParts", func(s *stage) {
		webhooks := make([]postrider.ID, 5)
		for i := range webhooks {
			webhooks[i] = s.webhook()
		}
		a := event(home, `{"n": 1}`, webhooks[:2]...)
		a.Event.Deliveries, a.Fanout = len(webhooks), true
		if receipts := s.accept(a); receipts[0].Deliveries != len(webhooks) {
			s.t.Errorf("got %d deliveries, want %d, those to come included", receipts[0].Deliveries, len(webhooks))
		}
		s.wantFanout(a.Event, webhooks[1])
		part := withDeliveries(a.Event, webhooks[2:4]...)
		part.Deliveries[1].Claimed = true
		s.must(s.Expand(s.ctx(), home, a.Event.ID, part.Deliveries, false))
		s.reopen()
		s.wantFanout(a.Event, webhooks[3])
		last := withDeliveries(a.Event, webhooks[4])
		last.Deliveries[0].Claimed = true
		s.must(s.Expand(s.ctx(), home, a.Event.ID, last.Deliveries, true))
		if left, err := s.Fanouts(s.ctx()); err != nil || len(left) > 0 {
			s.t.Errorf("got %+v, %v, want none left", left, err)
		}
		for i, w := range webhooks {
			want := []string{a.Event.ID}
			if i == 4 {
				want = nil // it was written claimed
			}
			s.wantClaim(w, want...)
		}
	}},
	{"APartIsWrittenAsAWholeOrNotAtAll", func(s *stage) {
		one, two, three := s.webhook(), s.webhook(), s.webhook()
		a := event(home, "1", one)
		a.Fanout = true
		s.accept(a)
		twice := withDeliveries(a.Event, two, one) // of which one is there
		if err := s.Expand(s.ctx(), home, a.Event.ID, twice.Deliveries, true); err == nil {
			s.t.Error("got a delivery written twice")
		}
		s.wantFanout(a.Event, one)
		s.wantClaim(two)
		s.must(s.Expand(s.ctx(), home, a.Event.ID, withDeliveries(a.Event, two, three).Deliveries, true))
		s.wantClaim(two, a.Event.ID)
	}},
	{"TheLastPartMayBeEmpty", func(s *stage) {
		w := s.webhook()
		a := event(home, "1", w)
		a.Fanout = true
		s.accept(a)
		s.must(s.Expand(s.ctx(), home, a.Event.ID, nil, true)) // the other webhooks are gone
		if left, err := s.Fanouts(s.ctx()); err != nil || len(left) > 0 {
			s.t.Errorf("got %+v, %v, want none left", left, err)
		}
	}},
	{"AnEventThatIsRefusedHasNone", func(s *stage) {
		w := s.webhook()
		s.accept(chosen(event(home, "1"), w))
		other := chosen(event(home, "2"), w)
		other.Fanout = true
		_, err := s.Accept(s.ctx(), []postrider.Accepted{other}, nil)
		s.wantError(err, postrider.Conflict, "event_id_taken")
		again := chosen(event(home, "1"), w)
		again.Fanout = true
		s.accept(again)
		if left, err := s.Fanouts(s.ctx()); err != nil || len(left) > 0 {
			s.t.Errorf("got %+v, %v, want none", left, err)
		}
	}},
}

// wantFanout fails unless this is the only fan-out that is not done.
func (s *stage) wantFanout(e postrider.Event, after postrider.ID) {
	s.t.Helper()
	got, err := s.Fanouts(s.ctx())
	s.must(err)
	if len(got) != 1 || got[0].After != after || got[0].Event.ID != e.ID || got[0].Event.Tenant != e.Tenant ||
		got[0].Event.Type != e.Type || !slices.Equal(got[0].Event.Payload, e.Payload) || !got[0].Event.CreatedAt.Equal(e.CreatedAt) {
		s.t.Errorf("got %+v, want that of %s after %s", got, e.ID, after)
	}
}
