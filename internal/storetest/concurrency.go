package storetest

import (
	"fmt"
	"slices"
	"sync"

	"postrider"
)

// together runs a function n times at once and returns what each returned.
func together[T any](n int, run func(i int) T) []T {
	results := make([]T, n)
	gate := make(chan struct{})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			<-gate
			results[i] = run(i)
		})
	}
	close(gate)
	all.Wait()
	return results
}

var concurrencyTests = []test{
	{"NothingIsLostAmongManyAtOnce", func(s *stage) {
		const clients, rounds = 40, 8
		webhooks := make([]postrider.ID, 4)
		for i := range webhooks {
			webhooks[i] = s.webhook()
		}
		// Half of the clients accept, the others claim and settle what they find.
		done := together(clients, func(i int) (own []string) {
			w := webhooks[i/2%len(webhooks)]
			for n := range rounds {
				if i%2 == 0 {
					a := event(home, fmt.Sprint(n), w)
					if _, err := s.Accept(s.ctx(), []postrider.Accepted{a}, nil); err != nil {
						s.t.Error(err)
					}
					own = append(own, a.Event.ID)
					continue
				}
				claimed, err := s.Claim(s.ctx(), w, postrider.ClaimLimit{Rows: 3, Bytes: 1 << 20})
				if err != nil {
					s.t.Error(err)
				}
				var settlements []postrider.Settlement
				for j := range claimed.Deliveries {
					settlements = append(settlements, succeeded(&claimed.Deliveries[j]))
				}
				if err := s.Settle(s.ctx(), settlements); err != nil {
					s.t.Error(err)
				}
			}
			return own
		})
		s.reopen()
		want := slices.Concat(done...)
		var got []string
		for _, w := range webhooks {
			got = append(got, eventIDs(s.claim(w, much).Deliveries)...)
		}
		for _, a := range s.all(postrider.AttemptFilter{Tenant: home}) {
			got = append(got, a.EventID)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			s.t.Errorf("got %d deliveries queued or settled, want each of %d once", len(got), len(want))
		}
	}},
	{"OneThatFailsDoesNotFailItsNeighbours", func(s *stage) {
		w := s.webhook()
		s.accept(chosen(event(home, "1"), w))
		const clients = 200
		ids := make([]string, clients)
		errs := together(clients, func(i int) error {
			a := event(home, "2", w)
			if i%7 == 3 {
				a = chosen(a, w) // taken, by another event
			}
			ids[i] = a.Event.ID
			_, err := s.Accept(s.ctx(), []postrider.Accepted{a}, nil)
			return err
		})
		want := []string{"chosen"}
		for i, err := range errs {
			switch {
			case i%7 == 3:
				s.wantError(err, postrider.Conflict, "event_id_taken")
			case err != nil:
				s.t.Errorf("got error %v of a neighbour's, want none", err)
			default:
				want = append(want, ids[i])
			}
		}
		got := eventIDs(s.claim(w, much).Deliveries)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			s.t.Errorf("got %d deliveries, want %d", len(got), len(want))
		}
	}},
	{"ReadersSeeWholeRequests", func(s *stage) {
		w := s.webhook()
		const size = 20
		stop := make(chan struct{})
		var reader sync.WaitGroup
		reader.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				page, err := s.Attempts(s.ctx(), postrider.AttemptFilter{Tenant: home, Limit: 10_000})
				if err != nil || len(page.Attempts)%size != 0 {
					s.t.Errorf("got %d attempts, %v, want a multiple of %d", len(page.Attempts), err, size)
					return
				}
			}
		})
		for range 30 {
			s.settleMany(w, size, nil)
		}
		close(stop)
		reader.Wait()
	}},
}
