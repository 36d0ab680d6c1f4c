package storetest

import (
	"slices"
	"time"

	"postrider"
)

var replayTests = []test{
	{"CollectsWhatHasEndedAsAskedAndQueuesItInTheOrderOfAcceptance", func(s *stage) {
		w, other := s.webhook(), s.webhook()
		s.endedInEveryWay(other)
		ids := s.endedInEveryWay(w)
		for status, want := range map[postrider.ReplayStatus][]string{
			postrider.ReplayFailed:    {ids["failed"], ids["late failure"]},
			postrider.ReplaySucceeded: {ids["succeeded"], ids["late success"]},
			postrider.ReplayCancelled: {ids["cancelled"]},
			postrider.ReplayAll:       {ids["succeeded"], ids["failed"], ids["late success"], ids["cancelled"], ids["late failure"]},
		} {
			r := s.replay(w, func(r *postrider.Replay) { r.Status = status })
			r = s.advanceToEnd(r)
			if r.Total != len(want) || r.Queued != len(want) || r.Skipped != 0 || r.EndedAt.IsZero() {
				s.t.Errorf("%s: got %+v, want %d of %d queued", status, r, len(want), len(want))
			}
			claimed := s.claim(w, much).Deliveries
			if got := eventIDs(claimed); !slices.Equal(got, want) {
				s.t.Errorf("%s: got %q queued, want %q", status, got, want)
			}
			for i := range claimed {
				d := &claimed[i]
				if d.Trigger != postrider.TriggerReplay || d.Retries != 0 || d.Attempts == 0 && d.EventID != ids["cancelled"] {
					s.t.Errorf("%s: got %+v, want a replay with its whole schedule before it", status, d)
				}
				// Ended again as it was, so that the next status finds the same.
				settlement := succeeded(d)
				switch d.EventID {
				case ids["failed"], ids["late failure"]:
					settlement = failed(d)
				case ids["cancelled"]:
					settlement = cancelled(d)
				}
				s.settle(settlement)
			}
		}
		s.wantClaim(other)
	}},
	{"TakesOnlyItsTimeAndItsEventTypesAndNoPings", func(s *stage) {
		w := s.webhook()
		var ids []string
		var times []time.Time
		for _, kind := range []string{"stay.ended", "room_status.updated", postrider.PingEvent, "stay.begun", "stay.ended"} {
			s.engine.Advance(time.Minute)
			a := event(home, "1", w)
			a.Event.Type = kind
			a = withDeliveries(a.Event, w)
			s.accept(a)
			d := s.claimOne(w)
			s.settle(failed(&d))
			ids, times = append(ids, a.Event.ID), append(times, a.Event.CreatedAt)
		}
		s.engine.Advance(time.Minute)
		for name, test := range map[string]struct {
			change func(*postrider.Replay)
			want   []string
		}{
			"all":       {func(*postrider.Replay) {}, []string{ids[0], ids[1], ids[3], ids[4]}},
			"from":      {func(r *postrider.Replay) { r.From = times[1] }, []string{ids[1], ids[3], ids[4]}},
			"to":        {func(r *postrider.Replay) { r.To = times[4] }, []string{ids[0], ids[1], ids[3]}},
			"a type":    {func(r *postrider.Replay) { r.Events = []string{"stay.ended"} }, []string{ids[0], ids[4]}},
			"a pattern": {func(r *postrider.Replay) { r.Events = []string{"stay.*"}; r.From = times[3] }, []string{ids[3], ids[4]}},
		} {
			s.advanceToEnd(s.replay(w, test.change))
			deliveries := s.claim(w, much).Deliveries
			if got := eventIDs(deliveries); !slices.Equal(got, test.want) {
				s.t.Errorf("%s: got %q, want %q", name, got, test.want)
			}
			for i := range deliveries {
				s.settle(failed(&deliveries[i]))
			}
		}
	}},
	{"ADryRunCountsAndQueuesNothing", func(s *stage) {
		w := s.webhook()
		s.endedInEveryWay(w)
		r := s.advanceToEnd(s.replay(w, func(r *postrider.Replay) { r.DryRun = true }))
		if r.Total != 2 || r.Queued != 0 {
			s.t.Errorf("got %+v, want 2 counted and none queued", r)
		}
		s.wantClaim(w)
	}},
	{"AWebhookHasOneAtATime", func(s *stage) {
		w := s.webhook()
		first := s.replay(w)
		again := newReplay(w)
		s.wantError(s.CreateReplay(s.ctx(), again), postrider.Conflict, "replay_running")
		s.replay(s.webhook())
		if _, err := s.CancelReplay(s.ctx(), home, first.ID); err != nil {
			s.t.Fatal(err)
		}
		s.must(s.CreateReplay(s.ctx(), again))
	}},
	{"OneThatIsCancelledQueuesNothingMore", func(s *stage) {
		w := s.webhook()
		s.endedInEveryWay(w)
		r := s.replay(w)
		for r.State == postrider.ReplayCollecting {
			r = s.advance(r, 1)
		}
		if r = s.advance(r, 1); r.Queued != 1 {
			s.t.Errorf("got %+v, want one queued", r)
		}
		r, err := s.CancelReplay(s.ctx(), home, r.ID)
		if err != nil || r.State != postrider.ReplayStopped || r.EndedAt.IsZero() {
			s.t.Errorf("got %+v, %v, want it cancelled", r, err)
		}
		r = s.advance(r, 100)
		if again, err := s.CancelReplay(s.ctx(), home, r.ID); err != nil || again.State != postrider.ReplayStopped || !again.EndedAt.Equal(r.EndedAt) {
			s.t.Errorf("got %+v, %v, want it as it was", again, err)
		}
		if open, err := s.OpenReplays(s.ctx()); err != nil || len(open) > 0 {
			s.t.Errorf("got %+v, %v, want nothing left to do", open, err)
		}
		s.claimOne(w)
	}},
	{"WhatIsInTheQueueAlreadyIsSkipped", func(s *stage) {
		w := s.webhook()
		s.backlog(w, 2)
		deliveries := s.claim(w, much).Deliveries
		first := failed(&deliveries[0])
		s.settle(first, failed(&deliveries[1]))
		r := s.replay(w)
		for r.State == postrider.ReplayCollecting {
			r = s.advance(r, 0)
		}
		s.wantRedelivery(first.Attempt)
		if r = s.advanceToEnd(r); r.Total != 2 || r.Queued != 1 || r.Skipped != 1 {
			s.t.Errorf("got %+v, want one queued and one skipped", r)
		}
		if got := s.claim(w, much).Deliveries; len(got) != 2 {
			s.t.Errorf("got %d deliveries, want each once", len(got))
		}
	}},
	{"StepsSideBySideQueueEachDeliveryOnce", func(s *stage) {
		w := s.webhook()
		const n = 60
		s.backlog(w, n)
		for _, d := range s.claim(w, much).Deliveries {
			s.settle(failed(&d))
		}
		r := s.replay(w)
		for r.State == postrider.ReplayCollecting {
			r = s.advance(r, 0)
		}
		for range 1000 {
			if r.State.Ended() {
				break
			}
			was := r
			for _, err := range together(4, func(int) error {
				_, err := s.AdvanceReplay(s.ctx(), was, 7)
				return err
			}) {
				s.must(err)
			}
			var err error
			r, err = s.Replay(s.ctx(), home, r.ID)
			s.must(err)
		}
		if r.Queued != n || r.Skipped != 0 || r.State != postrider.ReplayDone {
			s.t.Errorf("got %+v, want %d queued", r, n)
		}
		if got := s.claim(w, much).Deliveries; len(got) != n {
			s.t.Errorf("got %d deliveries, want %d", len(got), n)
		}
	}},
	{"OneOfADeletedWebhookEnds", func(s *stage) {
		w := s.webhook()
		s.endedInEveryWay(w)
		r := s.replay(w)
		s.webhook(func(gone *postrider.Webhook) { gone.ID, gone.DeletedAt = w, now() })
		if r = s.advance(r, 10); r.State != postrider.ReplayStopped {
			s.t.Errorf("got %+v, want it cancelled", r)
		}
	}},
	{"OneOfAnotherTenantIsMissing", func(s *stage) {
		r := s.replay(s.webhook())
		_, err := s.Replay(s.ctx(), "b", r.ID)
		s.wantError(err, postrider.NotFound, "not_found")
		_, err = s.CancelReplay(s.ctx(), "b", r.ID)
		s.wantError(err, postrider.NotFound, "not_found")
	}},
	{"EveryPartComesBack", func(s *stage) {
		want := s.replay(s.webhook(), func(r *postrider.Replay) {
			r.From, r.Events, r.DryRun, r.Rate = now().Add(-time.Hour), []string{"a", "b.*"}, true, 0.1
		})
		s.reopen()
		got, err := s.Replay(s.ctx(), home, want.ID)
		s.must(err)
		s.wantSame(got, want)
		if open, err := s.OpenReplays(s.ctx()); err != nil || len(open) != 1 || open[0].ID != want.ID {
			s.t.Errorf("got %+v, %v, want it open", open, err)
		}
	}},
}

func newReplay(webhook postrider.ID) postrider.Replay {
	return postrider.Replay{
		ID: postrider.NewID(), Tenant: home, WebhookID: webhook, To: now().Add(time.Microsecond), Status: postrider.ReplayFailed,
		Rate: postrider.DefaultReplayRate, State: postrider.ReplayCollecting, CreatedAt: now(),
	}
}

// replay stores one, of what has failed.
func (s *stage) replay(webhook postrider.ID, change ...func(*postrider.Replay)) postrider.Replay {
	s.t.Helper()
	r := newReplay(webhook)
	for _, c := range change {
		c(&r)
	}
	s.must(s.CreateReplay(s.ctx(), r))
	r, err := s.Replay(s.ctx(), home, r.ID)
	s.must(err)
	return r
}

func (s *stage) advance(r postrider.Replay, room int) postrider.Replay {
	s.t.Helper()
	r, err := s.AdvanceReplay(s.ctx(), r, room)
	s.must(err)
	return r
}

// advanceToEnd takes the steps of a replay to its end.
func (s *stage) advanceToEnd(r postrider.Replay) postrider.Replay {
	s.t.Helper()
	for range 1000 {
		if r.State == postrider.ReplayDone {
			return r
		}
		r = s.advance(r, 3)
	}
	s.t.Fatalf("got %+v after 1000 steps, want it done", r)
	return r
}

// endedInEveryWay accepts events for a webhook whose deliveries end, or do not
// end, in the way that names them, in this order.
func (s *stage) endedInEveryWay(w postrider.ID) map[string]string {
	s.t.Helper()
	names := []string{"succeeded", "failed", "late success", "retrying", "cancelled", "late failure"}
	ids := map[string]string{}
	for i, id := range s.backlog(w, len(names)) {
		ids[names[i]] = id
	}
	byID := map[string]postrider.Delivery{}
	for _, d := range s.claim(w, much).Deliveries {
		byID[d.EventID] = d
	}
	for _, name := range names {
		d := byID[ids[name]]
		switch name {
		case "succeeded":
			s.settle(succeeded(&d))
		case "failed":
			s.settle(failed(&d))
		case "cancelled":
			s.settle(cancelled(&d))
		case "retrying":
			s.settle(retried(&d, 10_000*time.Hour))
		default:
			s.settle(retried(&d, 0))
			d = s.claimOne(w)
			if name == "late success" {
				s.settle(succeeded(&d))
			} else {
				s.settle(failed(&d))
			}
		}
	}
	return ids
}

// cancelled is the mark of a delivery that is ended unsent.
func cancelled(d *postrider.Delivery) postrider.Settlement {
	settlement := failed(d)
	settlement.Attempt.Status, settlement.Attempt.Number = postrider.AttemptCancelled, d.Attempts
	settlement.Attempt.Outcome = postrider.Outcome{Failure: postrider.FailCancelled, Detail: "It was deleted."}
	return settlement
}
