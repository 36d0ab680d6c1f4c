package dispatch

import (
	"time"

	"postrider"
)

// LaneState is what a lane is doing, for people.
type LaneState struct {
	Queued   int // deliveries in memory that wait for their turn
	InFlight int
	Budget   int       // attempts at once, as of now
	Failures int       // in a row
	Open     bool      // the breaker is not closed
	Until    time.Time // nothing but a ping is sent before; zero when nothing stands in the way
}

// Lane returns the state of a webhook's lane. There is none while nothing is
// to be done for it.
func (d *Dispatcher) Lane(webhook postrider.ID) (LaneState, bool) {
	d.mu.RLock()
	l, found := d.lanes[webhook]
	d.mu.RUnlock()
	if !found {
		return LaneState{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	state := LaneState{
		Queued: l.ready.len(), InFlight: l.sending, Budget: l.pace.limit, Failures: l.pace.failures, Open: l.pace.open(),
	}
	if l.pace.until.After(time.Now()) {
		state.Until = l.pace.until
	}
	return state, l.pace.budget > 0
}
