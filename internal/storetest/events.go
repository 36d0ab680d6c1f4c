package storetest

import (
	"time"

	"postrider"
)

var eventTests = []test{
	{"DeliveriesAreShownInEveryState", func(s *stage) {
		names := []string{"fresh", "claimed", "retrying", "succeeded", "late", "failed", "cancelled", "redelivered"}
		webhooks := map[string]postrider.ID{}
		ids := make([]postrider.ID, len(names))
		for i, name := range names {
			ids[i] = s.webhook()
			webhooks[name] = ids[i]
		}
		a := event(home, "1", ids...)
		s.accept(a)
		lasts := map[string]postrider.Attempt{}
		end := func(name string, settlement postrider.Settlement) {
			s.settle(settlement)
			lasts[name] = settlement.Attempt
		}
		claimed := map[string]postrider.Delivery{}
		for _, name := range names[1:] {
			claimed[name] = s.claimOne(webhooks[name])
		}
		for name, settled := range map[string]func(*postrider.Delivery) postrider.Settlement{
			"retrying":  func(d *postrider.Delivery) postrider.Settlement { return retried(d, time.Hour) },
			"succeeded": succeeded, "failed": failed, "redelivered": succeeded,
			"late": func(d *postrider.Delivery) postrider.Settlement { return retried(d, 0) },
			"cancelled": func(d *postrider.Delivery) postrider.Settlement {
				settlement := failed(d)
				settlement.Attempt.Status, settlement.Attempt.Number = postrider.AttemptCancelled, 0
				settlement.Attempt.Outcome = postrider.Outcome{Failure: postrider.FailCancelled, Detail: "It was deleted."}
				return settlement
			},
		} {
			d := claimed[name]
			end(name, settled(&d))
		}
		late := s.claimOne(webhooks["late"])
		end("late", succeeded(&late))
		s.wantRedelivery(lasts["redelivered"])
		s.reopen()

		got, deliveries, err := s.Event(s.ctx(), home, a.Event.ID)
		s.must(err)
		s.wantSame(got, a.Event)
		if len(deliveries) != len(names) {
			s.t.Errorf("got %d deliveries, want %d", len(deliveries), len(names))
		}
		states := map[postrider.ID]postrider.DeliveryStatus{}
		for _, d := range deliveries {
			states[d.WebhookID] = d
		}
		for name, want := range map[string]struct {
			state    postrider.DeliveryState
			attempts int
			next     time.Duration // negative: none
		}{
			"fresh":       {postrider.DeliveryPending, 0, 0},
			"claimed":     {postrider.DeliveryPending, 0, 0},
			"retrying":    {postrider.DeliveryPending, 1, time.Hour},
			"succeeded":   {postrider.DeliverySucceeded, 1, -1},
			"late":        {postrider.DeliverySucceeded, 2, -1},
			"failed":      {postrider.DeliveryFailed, 1, -1},
			"cancelled":   {postrider.DeliveryCancelled, 0, -1},
			"redelivered": {postrider.DeliveryPending, 1, 0},
		} {
			d := states[webhooks[name]]
			if d.State != want.state || d.Attempts != want.attempts {
				s.t.Errorf("%s: got %q after %d attempts, want %q after %d", name, d.State, d.Attempts, want.state, want.attempts)
			}
			if planned := !d.NextAttemptAt.IsZero(); planned != (want.next >= 0) ||
				planned && d.NextAttemptAt.Sub(now().Add(want.next)).Abs() > 2*time.Second {
				s.t.Errorf("%s: got the next attempt at %v, want it in %v", name, d.NextAttemptAt, want.next)
			}
			last, made := lasts[name]
			if (d.Last != nil) != made || made && d.Last.ID != last.ID {
				s.t.Errorf("%s: got the last attempt %+v, want %v", name, d.Last, last.ID)
			}
		}
	}},
	{"AnEventOfAnotherTenantIsMissing", func(s *stage) {
		a := event("a", "1")
		s.accept(a)
		for tenant, id := range map[string]string{"b": a.Event.ID, "": a.Event.ID, "a": "unknown"} {
			_, _, err := s.Event(s.ctx(), tenant, id)
			s.wantError(err, postrider.NotFound, "not_found")
		}
	}},
	{"AttemptsOfAnotherTenantsEventWithTheSameIDDoNotCount", func(s *stage) {
		one, two := s.webhook(), s.webhook()
		s.accept(chosen(event("a", "1"), one), chosen(event("b", "1"), two))
		d := s.claimOne(one)
		s.settle(succeeded(&d))
		_, deliveries, err := s.Event(s.ctx(), "b", "chosen")
		if err != nil || len(deliveries) != 1 || deliveries[0].WebhookID != two || deliveries[0].State != postrider.DeliveryPending {
			s.t.Errorf("got %+v, %v, want tenant b's own delivery, pending", deliveries, err)
		}
	}},
}
