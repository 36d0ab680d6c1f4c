package signature

import (
	"context"
	"sync"
)

// seen remembers which deliveries have been handled, the newest so many, and
// knows which are being handled.
type seen struct {
	mu      sync.Mutex
	handled map[string]bool
	oldest  []string // a ring of what is in handled
	next    int
	running map[string]chan struct{} // closed when the handling has ended
}

func newSeen(size int) *seen {
	return &seen{handled: map[string]bool{}, oldest: make([]string, size), running: map[string]chan struct{}{}}
}

// begin says whether the caller is to handle a delivery; it must then call end.
// While another handles it, begin waits. Its error is that of the context.
func (s *seen) begin(ctx context.Context, id string) (first bool, err error) {
	for {
		s.mu.Lock()
		ended, running := s.running[id]
		handled := s.handled[id]
		if !handled && !running {
			s.running[id] = make(chan struct{})
		}
		s.mu.Unlock()
		if !running {
			return !handled, nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// end remembers a delivery that has been handled, and lets the next try one that
// has not.
func (s *seen) end(id string, handled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.running[id])
	delete(s.running, id)
	if !handled {
		return
	}
	delete(s.handled, s.oldest[s.next])
	s.oldest[s.next] = id
	s.handled[id] = true
	s.next = (s.next + 1) % len(s.oldest)
}
