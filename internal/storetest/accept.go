package storetest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"postrider"
)

var acceptTests = []test{
	{"AnEventComesBackWithItsDeliveries", func(s *stage) {
		one, two := s.webhook(), s.webhook()
		want := event(home, `{"a": 1}`, one, two)
		want.Event.OccurredAt = now().Add(-time.Hour)
		receipts := s.accept(want)
		if len(receipts) != 1 || receipts[0].ID != want.Event.ID || receipts[0].Deliveries != 2 {
			s.t.Errorf("got receipts %+v, want one for %s with 2 deliveries", receipts, want.Event.ID)
		}
		s.reopen()
		got, deliveries, err := s.Event(s.ctx(), home, want.Event.ID)
		s.must(err)
		s.wantSame(got, want.Event)
		if len(deliveries) != 2 {
			s.t.Errorf("got %+v, want 2 deliveries", deliveries)
		}
		for _, id := range []postrider.ID{one, two} {
			d := s.claimOne(id)
			if d.Tenant != home || d.EventID != want.Event.ID || d.WebhookID != id || d.EventType != want.Event.Type ||
				string(d.Payload) != `{"a": 1}` || d.Trigger != postrider.TriggerEvent || d.Attempts != 0 || d.Retries != 0 || !d.Claimed ||
				!d.AcceptedAt.Equal(want.Event.CreatedAt) {
				s.t.Errorf("got %+v, want the delivery as it was accepted", d)
			}
		}
	}},
	{"AnEventForNobodyIsKept", func(s *stage) {
		a := event(home, "1")
		if receipts := s.accept(a); receipts[0].Deliveries != 0 {
			s.t.Errorf("got %d deliveries, want 0", receipts[0].Deliveries)
		}
		got, deliveries, err := s.Event(s.ctx(), home, a.Event.ID)
		if err != nil || got.Deliveries != 0 || len(deliveries) != 0 || !got.OccurredAt.IsZero() {
			s.t.Errorf("got %+v, %+v, %v, want an event without deliveries and without a time of its own", got, deliveries, err)
		}
	}},
	{"PayloadsStayByteForByte", func(s *stage) {
		w := s.webhook()
		want := map[string][]byte{}
		maps.Copy(want, Payloads())
		// A store keeps bytes; that they are JSON is not its business.
		want["all bytes"] = make([]byte, 256)
		for i := range want["all bytes"] {
			want["all bytes"][i] = byte(i)
		}
		want["text that ends in NUL"] = []byte("\"a\"\x00")
		names := map[string]string{}
		for name, payload := range want {
			a := event(home, string(payload), w)
			names[a.Event.ID] = name
			s.accept(a)
		}
		s.reopen()
		for _, d := range s.claim(w, much).Deliveries {
			name := names[d.EventID]
			if sha256.Sum256(d.Payload) != sha256.Sum256(want[name]) {
				s.t.Errorf("%s: got %d bytes at a claim, want the %d that were accepted", name, len(d.Payload), len(want[name]))
			}
			if got, _, err := s.Event(s.ctx(), home, d.EventID); err != nil || !bytes.Equal(got.Payload, want[name]) {
				s.t.Errorf("%s: got other bytes from the event (%v), want those that were accepted", name, err)
			}
			for _, contentType := range []postrider.ContentType{postrider.JSON, postrider.Form} {
				made := failed(&d)
				made.Attempt.RequestHeader = postrider.Header{{Name: "Content-Type", Value: string(contentType)}}
				s.settle(made)
				got, err := s.Attempt(s.ctx(), home, made.Attempt.ID)
				if err != nil || !bytes.Equal(got.RequestBody, contentType.Wrap(want[name])) {
					s.t.Errorf("%s: got other bytes from the log as %s (%v), want those that were accepted", name, contentType, err)
				}
			}
		}
	}},
	{"AllOfARequestIsAcceptedOrNothing", func(s *stage) {
		w := s.webhook()
		taken := event(home, "1", w)
		s.accept(taken)
		first, last := event(home, "2", w), event(home, "4", w)
		other := event(home, "3", w)
		other.Event.ID, other.ChosenID = taken.Event.ID, true
		other.Publication, last.Publication = 1, 2
		_, err := s.Accept(s.ctx(), []postrider.Accepted{first, other, last}, nil)
		s.wantError(err, postrider.Conflict, "event_id_taken")
		for _, a := range []postrider.Accepted{first, last} {
			_, _, err := s.Event(s.ctx(), home, a.Event.ID)
			s.wantError(err, postrider.NotFound, "not_found")
		}
		s.wantClaim(w, taken.Event.ID)
	}},
	{"EachPublicationHasItsReceipt", func(s *stage) {
		one, two, three := s.webhook(), s.webhook(), s.webhook()
		list := []postrider.Accepted{
			event(home, "1", one), event("a", "2", two), event("b", "2", one, three), event(home, "3"), event(home, "4", one, two, three),
		}
		list[2].Event.ID = list[1].Event.ID // one publication to every tenant
		list[2] = withDeliveries(list[2].Event, one, three)
		for i, publication := range []int{0, 1, 1, 2, 3} {
			list[i].Publication = publication
		}
		receipts, err := s.Accept(s.ctx(), list, nil)
		s.must(err)
		s.wantSame(receipts, []postrider.Receipt{
			{ID: list[0].Event.ID, Deliveries: 1},
			{ID: list[1].Event.ID, Deliveries: 3},
			{ID: list[3].Event.ID},
			{ID: list[4].Event.ID, Deliveries: 3},
		})
	}},
	{"AChosenIDThatIsRepeatedCountsOnce", func(s *stage) {
		one, two := s.webhook(), s.webhook()
		s.accept(chosen(event(home, `{"n":1}`), one, two))
		s.wantClaim(one, "chosen")

		again := chosen(event(home, `{"n":1}`), one) // one webhook less by now
		list := []postrider.Accepted{again, event(home, "2", two)}
		receipts := s.accept(list...)
		if !list[0].Repeated || list[1].Repeated || receipts[0].Deliveries != 2 || receipts[1].Deliveries != 1 {
			s.t.Errorf("got %+v and %+v, want the first repeated, with its 2 deliveries of then", list, receipts)
		}
		s.wantClaim(one)
		s.wantClaim(two, "chosen", list[1].Event.ID)
	}},
	{"AChosenIDWithAnotherEventIsAConflict", func(s *stage) {
		w := s.webhook()
		first := chosen(event(home, `{"n":1}`), w)
		s.accept(first)
		for name, change := range map[string]func(*postrider.Event){
			"payload":     func(e *postrider.Event) { e.Payload = []byte(`{"n":2}`) },
			"white space": func(e *postrider.Event) { e.Payload = []byte(`{"n": 1}`) },
			"type":        func(e *postrider.Event) { e.Type = "stay.ended" },
		} {
			e := first.Event
			change(&e)
			other := chosen(postrider.Accepted{Event: e}, w)
			_, err := s.Accept(s.ctx(), []postrider.Accepted{other}, nil)
			s.t.Log(name)
			s.wantError(err, postrider.Conflict, "event_id_taken")
		}
		s.wantClaim(w, "chosen")
	}},
	{"AChosenIDIsEachTenantsOwn", func(s *stage) {
		one, two := s.webhook(), s.webhook()
		list := []postrider.Accepted{chosen(event("a", "1"), one), chosen(event("b", "2"), two)}
		s.accept(list...)
		if list[0].Repeated || list[1].Repeated {
			s.t.Error("got one taken for a repetition of the other")
		}
		for _, want := range list {
			got, deliveries, err := s.Event(s.ctx(), want.Event.Tenant, "chosen")
			if err != nil || !bytes.Equal(got.Payload, want.Event.Payload) || len(deliveries) != 1 ||
				deliveries[0].WebhookID != want.Deliveries[0].WebhookID {
				s.t.Errorf("got %+v, %+v, %v, want tenant %s's own", got, deliveries, err, want.Event.Tenant)
			}
		}
		_, _, err := s.Event(s.ctx(), "c", "chosen")
		s.wantError(err, postrider.NotFound, "not_found")
	}},
	{"WhatIsCommittedClaimedIsNotClaimedAgain", func(s *stage) {
		w := s.webhook()
		claimed, free := event(home, "1", w), event(home, "2", w)
		claimed.Deliveries[0].Claimed = true
		s.accept(claimed, free)
		s.wantClaim(w, free.Event.ID)
		s.reopen() // with the run, its claims are over
		s.wantClaim(w, claimed.Event.ID, free.Event.ID)
	}},
}

// chosen gives an event an id that a producer could have chosen, and
// deliveries to webhooks.
func chosen(a postrider.Accepted, webhooks ...postrider.ID) postrider.Accepted {
	a.Event.ID, a.Event.Deliveries = "chosen", len(webhooks)
	a = withDeliveries(a.Event, webhooks...)
	a.ChosenID = true
	return a
}

var idempotencyTests = []test{
	{"ARepeatedKeyGivesTheFirstAnswerWhateverHasChanged", func(s *stage) {
		one, two := s.webhook(), s.webhook()
		key := newKey("partner", "k", "body")
		first, receipts := s.publish(key, event(home, "1", one), event(home, "2", one))
		if first[0].Repeated || first[1].Repeated {
			s.t.Error("got the first publish taken for a repetition")
		}
		// The same body, matched anew: other ids, and a webhook more.
		again, answer := s.publish(key, event(home, "1", one, two), event(home, "2", one, two))
		s.wantSame(answer, receipts)
		for _, a := range again {
			if !a.Repeated {
				s.t.Errorf("got %+v not repeated, want it marked", a)
			}
			_, _, err := s.Event(s.ctx(), home, a.Event.ID)
			s.wantError(err, postrider.NotFound, "not_found")
		}
		s.reopen()
		_, answer = s.publish(key, event(home, "1", two), event(home, "2", two))
		s.wantSame(answer, receipts)
		s.wantClaim(one, first[0].Event.ID, first[1].Event.ID)
		s.wantClaim(two)
	}},
	{"AKeyWithAnotherBodyIsAConflict", func(s *stage) {
		w := s.webhook()
		s.publish(newKey("partner", "k", "body"), event(home, "1", w))
		other := event(home, "2", w)
		_, err := s.Accept(s.ctx(), []postrider.Accepted{other}, newKey("partner", "k", "Body"))
		s.wantError(err, postrider.Conflict, "idempotency_key_reused")
		_, _, err = s.Event(s.ctx(), home, other.Event.ID)
		s.wantError(err, postrider.NotFound, "not_found")
	}},
	{"AKeyIsItsScopesOwn", func(s *stage) {
		w := s.webhook()
		for i, key := range []*postrider.IdempotencyKey{
			newKey("partner", "k", "1"), newKey("other", "k", "2"), newKey("", "k", "3"), newKey("partner", "K", "4"),
		} {
			if list, _ := s.publish(key, event(home, fmt.Sprint(i), w)); list[0].Repeated {
				s.t.Errorf("got %+v taken for a repetition", key)
			}
		}
	}},
	{"AKeyIsForgottenAfterADay", func(s *stage) {
		w := s.webhook()
		key := newKey("partner", "k", "body")
		first, _ := s.publish(key, event(home, "1", w))
		s.engine.Advance(postrider.IdempotencyTTL - time.Second)
		if list, _ := s.publish(key, event(home, "1", w)); !list[0].Repeated {
			s.t.Error("got the key forgotten after less than a day")
		}
		s.engine.Advance(time.Second)
		other := newKey("partner", "k", "another body")
		second, _ := s.publish(other, event(home, "2", w))
		if second[0].Repeated {
			s.t.Error("got the key remembered after a day")
		}
		if list, _ := s.publish(other, event(home, "2", w)); !list[0].Repeated {
			s.t.Error("got the key's second use forgotten")
		}
		s.wantClaim(w, first[0].Event.ID, second[0].Event.ID)
	}},
	{"AKeyIsNotUsedUpByARequestThatIsRefused", func(s *stage) {
		w := s.webhook()
		s.accept(chosen(event(home, "1"), w))
		key := newKey("partner", "k", "body")
		_, err := s.Accept(s.ctx(), []postrider.Accepted{chosen(event(home, "2"), w)}, key)
		s.wantError(err, postrider.Conflict, "event_id_taken")
		if list, _ := s.publish(newKey("partner", "k", "mended body"), event(home, "2", w)); list[0].Repeated {
			s.t.Error("got the key used up, want it free")
		}
	}},
	{"AKeyThatIsUsedManyTimesAtOnceCountsOnce", func(s *stage) {
		w := s.webhook()
		answers := together(50, func(int) string {
			list := []postrider.Accepted{event(home, "1", w)}
			receipts, err := s.Accept(s.ctx(), list, newKey("partner", "k", "body"))
			if err != nil || len(receipts) != 1 {
				return fmt.Sprint(receipts, err)
			}
			return receipts[0].ID
		})
		slices.Sort(answers)
		if distinct := slices.Compact(answers); len(distinct) != 1 {
			s.t.Errorf("got answers %q, want all the same", distinct)
		}
		s.wantClaim(w, answers[0])
	}},
}

func newKey(scope, key, body string) *postrider.IdempotencyKey {
	return &postrider.IdempotencyKey{Scope: scope, Key: key, BodyHash: sha256.Sum256([]byte(body))}
}

// publish accepts events, each a publication of its own, under a key.
func (s *stage) publish(key *postrider.IdempotencyKey, list ...postrider.Accepted) ([]postrider.Accepted, []postrider.Receipt) {
	s.t.Helper()
	for i := range list {
		list[i].Publication = i
	}
	receipts, err := s.Accept(s.ctx(), list, key)
	s.must(err)
	return list, receipts
}
