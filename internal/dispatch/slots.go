package dispatch

import "sync"

// slots are the attempts that may be on the wire at once, over all lanes.
//
// They are shared out by a threshold that moves: a lane gets one more only
// while it has fewer than are free. So a few busy lanes are not held back,
// hundreds of hung ones leave always some for others, and each comes to about
// the same share (the dynamic threshold of Choudhury and Hahne, 1998).
type slots struct {
	mu      sync.Mutex
	total   int
	used    int
	starved []*lane // those that were refused one, in turn
}

// take gives a lane that has some slots one more, if it may have it. A lane
// that is refused is named by a later give.
func (s *slots) take(l *lane, has int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if has >= s.total-s.used {
		if !l.starved {
			l.starved = true
			s.starved = append(s.starved, l)
		}
		return false
	}
	s.used++
	return true
}

// give gives a slot back and returns the lanes that should try again: two, so
// that one which has no need any more does not keep another waiting.
func (s *slots) give() []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	n := min(2, len(s.starved))
	if n == 0 {
		return nil
	}
	next := s.starved[:n:n]
	s.starved = s.starved[n:]
	for _, l := range next {
		l.starved = false
	}
	return next
}
