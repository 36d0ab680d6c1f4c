package dispatch

import (
	"context"
	"slices"
	"sync"
	"time"

	"postrider"
)

// A settler records outcomes. It takes all that have come since its last
// commit at once, so that the cost of a commit is shared; meanwhile the lanes
// go on, each up to its bound of unsettled attempts.
type settler struct {
	d *Dispatcher

	mu      sync.Mutex
	pending []postrider.Settlement
	from    []origin // of each of pending
	spare   []postrider.Settlement
	closed  bool
	wake    chan struct{}
}

// origin is what a settlement frees.
type origin struct {
	lane     *lane
	delivery *postrider.Delivery
}

func newSettler(d *Dispatcher) *settler {
	return &settler{d: d, wake: make(chan struct{}, 1)}
}

// add takes an outcome. The attempt gets its id here, so that the ids rise in
// the order in which attempts come to be on disk: who reads on from the last
// one seen misses none.
func (s *settler) add(l *lane, settlement postrider.Settlement, delivery *postrider.Delivery) {
	s.mu.Lock()
	settlement.Attempt.ID = postrider.NewID()
	s.pending = append(s.pending, settlement)
	s.from = append(s.from, origin{l, delivery})
	s.mu.Unlock()
	s.signal()
}

func (s *settler) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// close lets run return once everything is recorded.
func (s *settler) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.signal()
}

// maxSettle bounds one commit.
const maxSettle = 256

func (s *settler) take() (batch []postrider.Settlement, from []origin, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	batch, from = s.pending, s.from
	s.pending, s.from, s.spare = s.spare, nil, nil
	return batch, from, s.closed
}

func (s *settler) run() {
	for range s.wake {
		for {
			batch, from, closed := s.take()
			for chunk := range slices.Chunk(batch, maxSettle) {
				if !s.record(chunk) {
					return
				}
				for i := range chunk {
					s.d.log(&chunk[i])
					from[i].lane.settled(&chunk[i], from[i].delivery)
				}
				from = from[len(chunk):]
			}
			if len(batch) == 0 {
				if closed {
					return
				}
				break
			}
			clear(batch) // the next batch reuses its space
			s.spare = batch[:0]
		}
	}
}

// settlePause is the wait before outcomes that could not be recorded are tried
// again.
const settlePause = 500 * time.Millisecond

// record keeps trying while the store is away: the outcomes wait in memory,
// bounded by the lanes. At a stop it gives up after one try; the store then
// still has these deliveries, and they are sent again.
func (s *settler) record(batch []postrider.Settlement) bool {
	for {
		err := s.d.o.Store.Settle(context.Background(), batch)
		if err == nil {
			return true
		}
		s.d.o.Logger.Error("outcomes are not recorded yet", "attempts", len(batch), "error", err)
		s.mu.Lock()
		closed := s.closed
		s.mu.Unlock()
		if closed {
			return false
		}
		pause := time.NewTimer(settlePause)
		<-pause.C
	}
}

// log writes one line for each attempt: failures for everyone, successes for
// who asks for details.
func (d *Dispatcher) log(s *postrider.Settlement) {
	a, logger := &s.Attempt, d.o.Logger
	if a.Outcome.OK() {
		if !logger.Enabled(context.Background(), -4) {
			return
		}
		logger.Debug("delivered", "webhook", a.WebhookID, "event", a.EventID, "type", a.EventType, "attempt", a.Number,
			"trigger", a.Trigger, "status", a.Outcome.StatusCode, "duration", a.Outcome.Timings.Total)
		return
	}
	logger.Info("attempt failed", "webhook", a.WebhookID, "event", a.EventID, "type", a.EventType, "attempt", a.Number,
		"trigger", a.Trigger, "code", a.Outcome.Failure, "status", a.Outcome.StatusCode,
		"duration", a.Outcome.Timings.Total, "retry_in", s.RetryIn, "final", s.Done)
}
