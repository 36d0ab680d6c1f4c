package dispatch

import (
	"slices"
	"testing"
	"time"

	"postrider"
)

var (
	success  = &postrider.Outcome{StatusCode: 200}
	failure  = &postrider.Outcome{StatusCode: 500, Failure: postrider.FailHTTP5xx}
	overload = &postrider.Outcome{StatusCode: 503, Failure: postrider.FailHTTP5xx}
)

func newPace() *pace {
	p := &pace{}
	p.setBudget(16, 0)
	return p
}

// most is how many attempts may be on the wire at once.
func (p *pace) most(now time.Time) int {
	for n := 0; ; n++ {
		if yes, _ := p.may(now, n); !yes {
			return n
		}
	}
}

func TestPace_BreakerOpensOnFailuresInARow(t *testing.T) {
	p, now := newPace(), time.Now()
	for range 10 { // with successes between
		for range breakerFailures - 1 {
			p.outcome(now, failure)
		}
		p.outcome(now, success)
	}
	if got := p.most(now); got != 16 {
		t.Fatalf("got %d at once without five failures in a row, want 16", got)
	}
	for range breakerFailures {
		p.outcome(now, failure)
	}
	yes, wait := p.may(now, 0)
	if yes || wait != openFirst {
		t.Fatalf("got %v, %v after five failures in a row, want to wait %v", yes, wait, openFirst)
	}
	p.outcome(now, failure) // of one that was under way
	if _, again := p.may(now, 0); again != wait {
		t.Errorf("got a wait of %v after one more failure, want %v as before", again, wait)
	}
}

func TestPace_HalfOpenLetsOneTryAndWaitsLongerEachTime(t *testing.T) {
	p, now := newPace(), time.Now()
	for range breakerFailures {
		p.outcome(now, failure)
	}
	for want := openFirst; want < openMost; want = min(2*want, openMost) {
		_, wait := p.may(now, 0)
		if wait != want {
			t.Fatalf("got a wait of %v, want %v", wait, want)
		}
		now = now.Add(wait)
		if got := p.most(now); got != 1 {
			t.Fatalf("got %d attempts at once when half open, want 1", got)
		}
		p.outcome(now, failure)
	}
	for range 100 {
		_, wait := p.may(now, 0)
		if wait > openMost {
			t.Fatalf("got a wait of %v, want at most %v", wait, openMost)
		}
		now = now.Add(wait)
		p.outcome(now, failure)
	}
}

func TestPace_SlowStartDoublesToTheBudget(t *testing.T) {
	p, now := newPace(), time.Now()
	for range breakerFailures {
		p.outcome(now, failure)
	}
	now = now.Add(openFirst)
	p.outcome(now, success)
	var got []int
	for range 16 {
		n := p.most(now)
		got = append(got, n)
		for range n {
			p.outcome(now, success)
		}
	}
	for i, want := range []int{2, 4, 8, 16, 16} { // the first was the one that was let try
		if got[i] != want {
			t.Fatalf("got %v at once, round by round, want 2, 4, 8, 16, 16", got)
		}
	}
}

func TestPace_OverloadHalvesAndRetryAfterPauses(t *testing.T) {
	p, now := newPace(), time.Now()
	for _, want := range []int{8, 4, 2, 1, 1} {
		p.outcome(now, overload)
		p.failures = 0
		if got := p.most(now); got != want {
			t.Fatalf("got %d at once, want %d", got, want)
		}
	}
	p = newPace()
	p.outcome(now, &postrider.Outcome{StatusCode: 429, Failure: postrider.FailHTTP4xx, RetryAfter: time.Minute})
	if yes, wait := p.may(now, 0); yes || wait != time.Minute {
		t.Errorf("got %v, %v after Retry-After: 60, want to wait a minute", yes, wait)
	}
	p.outcome(now, &postrider.Outcome{StatusCode: 429, Failure: postrider.FailHTTP4xx, RetryAfter: 24 * time.Hour})
	if _, wait := p.may(now, 0); wait != maxPause {
		t.Errorf("got a pause of %v, want at most %v", wait, maxPause)
	}
}

func TestPace_RateLimitIsKept(t *testing.T) {
	p, now := newPace(), time.Now()
	p.setBudget(16, 10)
	sent, end := 0, now.Add(10*time.Second)
	for now.Before(end) {
		if yes, wait := p.may(now, 0); !yes {
			if wait <= 0 {
				t.Fatal("a rate limit is no reason to wait for an outcome")
			}
			now = now.Add(wait)
			continue
		}
		p.start(now)
		sent++
	}
	if sent < 100 || sent > 101 {
		t.Errorf("got %d attempts in 10 s at 10/s, want 100", sent)
	}
}

func TestSlots_HungLanesLeaveSomeForOthers(t *testing.T) {
	s := &slots{total: 100}
	lanes := make([]*lane, 50)
	has := map[*lane]int{}
	for i := range lanes {
		lanes[i] = &lane{}
	}
	for range 16 {
		for _, l := range lanes {
			if s.take(l, has[l]) {
				has[l]++
			}
		}
	}
	if s.used == s.total {
		t.Error("50 hung lanes took all slots")
	}
	fresh := &lane{}
	if !s.take(fresh, 0) {
		t.Error("a fresh lane got no slot beside 50 hung ones")
	}
	for range 100 { // all that are free, one lane each
		s.take(&lane{}, 0)
	}
	if s.used != s.total {
		t.Errorf("got %d slots in use, want all %d", s.used, s.total)
	}
	late := &lane{}
	if s.take(late, 0) {
		t.Error("more slots were given than there are")
	}
	for range s.total { // two are named each time
		if slices.Contains(s.give(), late) {
			return
		}
	}
	t.Error("a refused lane was never named")
}
