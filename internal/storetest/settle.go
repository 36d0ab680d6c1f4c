package storetest

import (
	"slices"
	"time"

	"postrider"
)

var settleTests = []test{
	{"ADeliveryThatIsDoneLeavesTheQueueForTheLog", func(s *stage) {
		w := s.webhook()
		s.backlog(w, 2)
		deliveries := s.claim(w, much).Deliveries
		ok, bad := succeeded(&deliveries[0]), failed(&deliveries[1])
		s.settle(ok, bad)
		s.reopen()
		s.wantClaim(w)
		log := s.all(postrider.AttemptFilter{Tenant: home})
		if len(log) != 2 || log[0].ID != bad.Attempt.ID || log[1].ID != ok.Attempt.ID || !log[0].NextAttemptAt.IsZero() {
			s.t.Errorf("got %+v, want the failure and the success, with nothing to come", log)
		}
	}},
	{"TheLogSaysWhenTheNextAttemptIsDue", func(s *stage) {
		w := s.webhook()
		s.backlog(w, 1)
		d := s.claimOne(w)
		made := retried(&d, 90*time.Minute)
		s.settle(made)
		got, err := s.Attempt(s.ctx(), home, made.Attempt.ID)
		s.must(err)
		if want := now().Add(90 * time.Minute); !got.NextAttemptAt.Equal(want) {
			s.t.Errorf("got the next attempt at %v, want %v", got.NextAttemptAt, want)
		}
	}},
	{"ACountOfAttemptsAndRetriesIsAsItWasSettled", func(s *stage) {
		w := s.webhook()
		s.backlog(w, 1)
		for n := range 5 {
			d := s.claimOne(w)
			if d.Attempts != 2*n || d.Retries != n {
				s.t.Errorf("got %d attempts and %d retries, want %d and %d", d.Attempts, d.Retries, 2*n, n)
			}
			made := retried(&d, 0)
			made.Attempts++ // a count of the caller's
			s.settle(made)
		}
	}},
	{"ADeliveryThatIsKeptHasItsClaimAndItsPlace", func(s *stage) {
		w := s.webhook()
		want := s.backlog(w, 3)
		deliveries := s.claim(w, postrider.ClaimLimit{Rows: 1, Bytes: 100}).Deliveries
		kept := retried(&deliveries[0], time.Hour)
		kept.Keep = true
		s.settle(kept)
		if a, err := s.Attempt(s.ctx(), home, kept.Attempt.ID); err != nil || !a.NextAttemptAt.Equal(now().Add(time.Hour)) {
			s.t.Errorf("got the next attempt at %v, %v, want it in an hour", a.NextAttemptAt, err)
		}
		s.wantClaim(w, want[1:]...)
		s.reopen()
		again := s.claim(w, much).Deliveries
		if got := eventIDs(again); !slices.Equal(got, want) || again[0].Attempts != 1 || again[0].Retries != 1 ||
			again[0].Trigger != postrider.TriggerRetry {
			s.t.Errorf("got %+v, want the kept one first, after one attempt", again)
		}
		s.settle(succeeded(&again[0]))
		s.reopen()
		s.wantClaim(w, want[1:]...)
	}},
	{"ADeliveryThatIsNotClaimedStaysAsItIs", func(s *stage) {
		w := s.webhook()
		s.backlog(w, 2)
		deliveries := s.claim(w, much).Deliveries
		s.must(s.Release(s.ctx(), []postrider.DeliveryKey{deliveries[0].DeliveryKey, deliveries[1].DeliveryKey}))
		done, again := succeeded(&deliveries[0]), retried(&deliveries[1], time.Hour)
		s.settle(done, again)
		got := s.claim(w, much).Deliveries
		if len(got) != 2 || got[0].Attempts != 0 || got[1].Attempts != 0 || got[1].Trigger != postrider.TriggerEvent {
			s.t.Errorf("got %+v, want both as they were", got)
		}
		if log := s.all(postrider.AttemptFilter{Tenant: home}); len(log) != 2 {
			s.t.Errorf("got %d attempts in the log, want both: they were made", len(log))
		}
	}},
	{"ASettleOfAnEarlierRunsClaimChangesNothing", func(s *stage) {
		w := s.webhook()
		want := s.backlog(w, 2)
		deliveries := s.claim(w, much).Deliveries
		s.reopen()
		s.settle(succeeded(&deliveries[0]), retried(&deliveries[1], time.Hour))
		s.wantClaim(w, want...)
		if log := s.all(postrider.AttemptFilter{Tenant: home}); len(log) != 2 {
			s.t.Errorf("got %d attempts in the log, want both: they were made", len(log))
		}
	}},
	{"AnAttemptThatIsSettledTwiceIsInTheLogOnce", func(s *stage) {
		w := s.webhook()
		s.backlog(w, 1)
		d := s.claimOne(w)
		made := succeeded(&d)
		s.settle(made)
		s.settle(made)
		if log := s.all(postrider.AttemptFilter{Tenant: home}); len(log) != 1 {
			s.t.Errorf("got %d attempts in the log, want 1", len(log))
		}
	}},
	{"AReleasedDeliveryIsDueAtOnceInItsPlace", func(s *stage) {
		w := s.webhook()
		want := s.backlog(w, 6)
		deliveries := s.claim(w, postrider.ClaimLimit{Rows: 4, Bytes: 100}).Deliveries
		s.engine.Advance(time.Minute)
		s.must(s.Release(s.ctx(), []postrider.DeliveryKey{deliveries[3].DeliveryKey, deliveries[1].DeliveryKey}))
		s.wantClaim(w, want[1], want[3], want[4], want[5])
	}},
	{"AReleaseOfWhatIsNotClaimedChangesNothing", func(s *stage) {
		w := s.webhook()
		want := s.backlog(w, 1)
		d := s.claimOne(w)
		s.settle(retried(&d, time.Hour))
		foreign := d.DeliveryKey
		foreign.Tenant = "b"
		s.must(s.Release(s.ctx(), []postrider.DeliveryKey{d.DeliveryKey, foreign, {Tenant: home, EventID: "none", WebhookID: w}}))
		s.wantClaim(w)
		s.engine.Advance(time.Hour)
		s.wantClaim(w, want...)
	}},
	{"ASettleWithAnotherTenantsKeyChangesNothing", func(s *stage) {
		w := s.webhook()
		s.backlog(w, 1)
		d := s.claimOne(w)
		foreign := succeeded(&d)
		foreign.Key.Tenant, foreign.Attempt.Tenant = "b", "b"
		s.settle(foreign)
		s.settle(retried(&d, 0))
		if again := s.claimOne(w); again.Attempts != 1 {
			s.t.Errorf("got %+v, want the delivery still there and settled by its own tenant", again)
		}
	}},
	{"ALargeBatchIsSettledAsOne", func(s *stage) {
		w := s.webhook()
		s.backlog(w, 1000)
		list := make([]postrider.Settlement, 1000)
		deliveries := s.claim(w, much).Deliveries
		for i := range list {
			list[i] = succeeded(&deliveries[i])
		}
		s.settle(list...)
		if log := s.all(postrider.AttemptFilter{Tenant: home}); len(log) != 1000 {
			s.t.Errorf("got %d attempts in the log, want 1000", len(log))
		}
		s.wantClaim(w)
	}},
}

var redeliverTests = []test{
	{"ASettledDeliveryIsQueuedAgain", func(s *stage) {
		w := s.webhook()
		s.backlog(w, 1)
		d := s.claimOne(w)
		s.settle(retried(&d, 0))
		d = s.claimOne(w)
		last := succeeded(&d)
		s.settle(last)
		s.wantRedelivery(last.Attempt)
		again := s.claimOne(w)
		if again.EventID != d.EventID || again.Trigger != postrider.TriggerRedelivery || again.Attempts != 2 || again.Retries != 0 {
			s.t.Errorf("got %+v, want a redelivery after 2 attempts with its whole schedule before it", again)
		}
		if string(again.Payload) != string(d.Payload) || again.EventType != d.EventType {
			s.t.Errorf("got %+v, want the event of %+v", again, d)
		}
	}},
	{"APendingDeliveryIsDueAtOnceWithItsWholeSchedule", func(s *stage) {
		w := s.webhook()
		s.backlog(w, 1)
		d := s.claimOne(w)
		made := retried(&d, 24*time.Hour)
		s.settle(made)
		s.wantRedelivery(made.Attempt)
		again := s.claimOne(w)
		if again.Trigger != postrider.TriggerRedelivery || again.Attempts != 1 || again.Retries != 0 {
			s.t.Errorf("got %+v, want a redelivery after 1 attempt with its whole schedule before it", again)
		}
		s.settle(succeeded(&again))
		s.engine.Advance(48 * time.Hour)
		s.wantClaim(w)
	}},
	{"TheTimeOfAcceptanceBeginsAnew", func(s *stage) {
		w := s.webhook()
		s.backlog(w, 1)
		d := s.claimOne(w)
		made := succeeded(&d)
		s.settle(made)
		s.engine.Advance(100 * time.Hour)
		s.wantRedelivery(made.Attempt)
		if again := s.claimOne(w); again.AcceptedAt.Sub(d.AcceptedAt) < 100*time.Hour {
			s.t.Errorf("got it accepted at %v, want its whole schedule from now on", again.AcceptedAt)
		}
	}},
	{"ADeliveryInFlightIsLeftAlone", func(s *stage) {
		w := s.webhook()
		s.backlog(w, 1)
		d := s.claimOne(w)
		first := retried(&d, 0)
		s.settle(first)
		d = s.claimOne(w)
		s.wantRedelivery(first.Attempt)
		s.wantClaim(w)
		s.settle(succeeded(&d))
		s.wantClaim(w)
	}},
	{"ADeliveryThatAnEarlierRunHadInFlightIsSent", func(s *stage) {
		w := s.webhook()
		s.backlog(w, 1)
		d := s.claimOne(w)
		first := retried(&d, 0)
		s.settle(first)
		s.claimOne(w)
		s.reopen()
		s.wantRedelivery(first.Attempt)
		if again := s.claimOne(w); again.Trigger != postrider.TriggerRedelivery {
			s.t.Errorf("got %+v, want a redelivery", again)
		}
	}},
	{"AnAttemptOfAnotherTenantIsMissing", func(s *stage) {
		w := s.webhook()
		s.backlog(w, 1)
		d := s.claimOne(w)
		made := succeeded(&d)
		s.settle(made)
		for tenant, id := range map[string]postrider.ID{"b": made.Attempt.ID, home: postrider.NewID(), "": made.Attempt.ID} {
			_, err := s.Redeliver(s.ctx(), tenant, id, postrider.ID{})
			s.wantError(err, postrider.NotFound, "not_found")
		}
		s.wantClaim(w)
	}},
	{"ADeletedWebhookIsAConflict", func(s *stage) {
		for _, deleted := range []bool{true, false} {
			w := s.webhook()
			if !deleted {
				w = postrider.NewID() // never stored
			}
			s.backlog(w, 1)
			d := s.claimOne(w)
			made := succeeded(&d)
			s.settle(made)
			if deleted {
				s.webhook(func(gone *postrider.Webhook) { gone.ID, gone.DeletedAt = w, now() })
			}
			_, err := s.Redeliver(s.ctx(), home, made.Attempt.ID, postrider.ID{})
			s.wantError(err, postrider.Conflict, "webhook_deleted")
			s.wantClaim(w)
		}
	}},
	{"OnlyTheAskedWebhookGetsItAgain", func(s *stage) {
		one, two := s.webhook(), s.webhook()
		s.accept(event(home, "1", one, two))
		for _, w := range []postrider.ID{one, two} {
			d := s.claimOne(w)
			made := succeeded(&d)
			s.settle(made)
			if w == two {
				s.wantRedelivery(made.Attempt)
			}
		}
		s.wantClaim(one)
		s.claimOne(two)
	}},
	{"AnotherWebhookGetsTheEvent", func(s *stage) {
		w, other := s.webhook(), s.webhook()
		s.backlog(w, 1)
		d := s.claimOne(w)
		made := succeeded(&d)
		s.settle(made)
		got, err := s.Redeliver(s.ctx(), home, made.Attempt.ID, other)
		s.must(err)
		if want := (postrider.Redelivery{EventID: d.EventID, WebhookID: other}); got != want {
			s.t.Errorf("got %+v, want %+v", got, want)
		}
		s.wantClaim(w)
		again := s.claimOne(other)
		if again.Trigger != postrider.TriggerRedelivery || again.Attempts != 0 || string(again.Payload) != string(d.Payload) {
			s.t.Errorf("got %+v, want the first delivery of %+v to the other webhook", again, d)
		}
		_, err = s.Redeliver(s.ctx(), home, made.Attempt.ID, postrider.NewID())
		s.wantError(err, postrider.Conflict, "webhook_deleted")
		s.webhook(func(gone *postrider.Webhook) { gone.ID, gone.DeletedAt = w, now() })
		_, err = s.Redeliver(s.ctx(), home, made.Attempt.ID, other)
		s.must(err)
	}},
	{"ManyAtOnceQueueItOnce", func(s *stage) {
		w := s.webhook()
		s.backlog(w, 1)
		d := s.claimOne(w)
		made := failed(&d)
		s.settle(made)
		errs := together(20, func(int) error {
			_, err := s.Redeliver(s.ctx(), home, made.Attempt.ID, postrider.ID{})
			return err
		})
		if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
			s.t.Errorf("got error %v", errs[i])
		}
		s.claimOne(w)
	}},
}

func (s *stage) wantRedelivery(a postrider.Attempt) {
	s.t.Helper()
	got, err := s.Redeliver(s.ctx(), a.Tenant, a.ID, postrider.ID{})
	s.must(err)
	if want := (postrider.Redelivery{EventID: a.EventID, WebhookID: a.WebhookID}); got != want {
		s.t.Errorf("got %+v, want %+v", got, want)
	}
}
