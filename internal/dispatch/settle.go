package dispatch

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"postrider"
)

// A settler records outcomes. It takes all that have come since its last
// commit at once, so that the cost of a commit is shared; meanwhile the lanes
// go on, each up to its bound of unsettled attempts. In a crowd it waits for
// more of them, unless a lane waits for it.
type settler struct {
	d *Dispatcher

	mu      sync.Mutex
	pending []postrider.Settlement
	from    []task // of each of pending
	spare   []postrider.Settlement
	closed  bool
	wake    chan struct{}
	hurried chan struct{}
	bytes   atomic.Int64 // of the answers that are not yet on disk
}

// maxAnswers bounds the answers in memory that the store has not taken yet.
const maxAnswers = 32 << 20

// full reports that so much waits for the store that no more is to be sent.
func (s *settler) full() bool { return s.bytes.Load() > maxAnswers }

func newSettler(d *Dispatcher) *settler {
	return &settler{d: d, wake: make(chan struct{}, 1), hurried: make(chan struct{}, 1)}
}

// add takes an outcome. The attempt gets its id here, so that the ids rise in
// the order in which attempts come to be on disk: who reads on from the last
// one seen misses none.
func (s *settler) add(t task, settlement postrider.Settlement) {
	s.bytes.Add(int64(len(settlement.Attempt.Outcome.Response.Body)))
	s.mu.Lock()
	settlement.Attempt.ID = postrider.NewID()
	s.pending = append(s.pending, settlement)
	s.from = append(s.from, t)
	s.mu.Unlock()
	if t.pressing {
		s.hurry()
	}
	s.signal()
}

func (s *settler) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// hurry has it not wait for company.
func (s *settler) hurry() {
	select {
	case s.hurried <- struct{}{}:
	default:
	}
}

// close lets run return once everything is recorded.
func (s *settler) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.hurry()
	s.signal()
}

const (
	// maxSettle bounds one commit.
	maxSettle = 256
	// settleApart is how far commits begin from each other at least, while each
	// has settleCrowd outcomes or more. A crash repeats what is unsettled: those
	// of this time, where the lanes' bounds do not end it earlier.
	settleApart = 15 * time.Millisecond
	settleCrowd = 16
)

// gather waits for company after a crowd.
func (s *settler) gather(last int, began time.Time) {
	wait := time.Until(began.Add(settleApart))
	if last < settleCrowd || wait <= 0 {
		return
	}
	pause := time.NewTimer(wait)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-s.hurried:
	}
}

func (s *settler) take() (batch []postrider.Settlement, from []task, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	batch, from = s.pending, s.from
	s.pending, s.from, s.spare = s.spare, nil, nil
	return batch, from, s.closed
}

func (s *settler) run() {
	var began time.Time
	last := 0
	for range s.wake {
		for {
			s.gather(last, began)
			batch, from, closed := s.take()
			last, began = len(batch), time.Now()
			for chunk := range slices.Chunk(batch, maxSettle) {
				if !s.record(chunk) {
					return
				}
				wasFull := s.full()
				for i := range chunk {
					s.bytes.Add(-int64(len(chunk[i].Attempt.Outcome.Response.Body)))
				}
				for i := range chunk {
					s.d.log(&chunk[i])
					from[i].lane.settled(&chunk[i], &from[i])
				}
				from = from[len(chunk):]
				if wasFull && !s.full() {
					s.d.startAll()
				}
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
