package dispatch

import (
	"time"

	"golang.org/x/time/rate"

	"postrider"
)

const (
	// breakerFailures in a row open the breaker.
	breakerFailures = 5
	// An open breaker lets one delivery try after openFirst, then after twice
	// as long, and so on up to openMost.
	openFirst = 5 * time.Second
	openMost  = 5 * time.Minute
	// maxPause bounds for how long a receiver's Retry-After stops a whole lane;
	// the delivery that was answered with it waits for as long as it says.
	maxPause = 5 * time.Minute
)

// A pace decides how many attempts of a lane may be on the wire: its budget
// when all is well, fewer for a receiver that asks for less or is coming back,
// one at a time for one that fails.
//
//	closed ── failures in a row ──▶ open ── time ──▶ half-open: one attempt
//	  ▲                              ▲                   │        │
//	  └── slow start: 1, 2, 4, … ◀── │ ── success ───────┘        │
//	                                 └──────────── failure ───────┘
//
// It is pure: it is told the time and what happened. The lane's lock guards it.
type pace struct {
	budget  int // attempts at once when all is well
	limit   int // attempts at once now, from 1 to budget
	grown   int // successes since limit was last doubled
	limiter *rate.Limiter

	failures int       // in a row
	openings int       // of the breaker without a success between
	until    time.Time // nothing is sent before
}

// setBudget takes over a webhook's settings.
func (p *pace) setBudget(budget int, perSecond float64) {
	if p.limit == 0 || p.limit == p.budget || p.limit > budget {
		p.limit = budget
	}
	p.budget = budget
	switch {
	case perSecond == 0:
		p.limiter = nil
	case p.limiter == nil || p.limiter.Limit() != rate.Limit(perSecond):
		p.limiter = rate.NewLimiter(rate.Limit(perSecond), 1)
	}
}

// may reports whether one more attempt may start beside those on the wire. If
// it may not, wait says when time alone changes that; 0: only an outcome does.
func (p *pace) may(now time.Time, sending int) (yes bool, wait time.Duration) {
	switch {
	case sending >= p.limit:
		return false, 0
	case now.Before(p.until):
		return false, p.until.Sub(now)
	case p.limiter != nil && p.limiter.TokensAt(now) < 1:
		missing := 1 - p.limiter.TokensAt(now)
		return false, time.Duration(missing/float64(p.limiter.Limit())*float64(time.Second)).Round(time.Microsecond) + time.Microsecond
	}
	return true, 0
}

// start counts an attempt that starts now.
func (p *pace) start(now time.Time) {
	if p.limiter != nil {
		p.limiter.AllowN(now, 1)
	}
}

// open reports whether the breaker is not closed.
func (p *pace) open() bool { return p.openings > 0 }

// outcome takes note of how an attempt ended.
func (p *pace) outcome(now time.Time, o *postrider.Outcome) {
	if o.OK() {
		p.succeeded()
		return
	}
	p.failures++
	if throttles(o.StatusCode) {
		p.limit, p.grown = max(1, p.limit/2), 0
		p.pause(now.Add(min(o.RetryAfter, maxPause)))
	}
	// Attempts that were under way when the breaker opened say nothing new.
	if p.failures >= breakerFailures && !now.Before(p.until) {
		wait := openMost
		if p.openings < 8 {
			wait = min(openFirst<<p.openings, openMost)
		}
		p.openings++
		p.limit, p.grown = 1, 0
		p.pause(now.Add(wait))
	}
}

func (p *pace) pause(until time.Time) {
	if until.After(p.until) {
		p.until = until
	}
}

func (p *pace) succeeded() {
	if p.open() {
		p.openings, p.until = 0, time.Time{}
		p.limit, p.grown = 1, 0
	}
	p.failures = 0
	if p.limit == p.budget {
		return
	}
	if p.grown++; p.grown >= p.limit {
		p.limit, p.grown = min(p.limit*2, p.budget), 0
	}
}

// throttles reports whether an answer asks for less (RFC 6585, section 4, and
// what proxies say when what is behind them is overloaded).
func throttles(statusCode int) bool {
	switch statusCode {
	case 429, 502, 503, 504:
		return true
	}
	return false
}
