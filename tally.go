package postrider

import "time"

// A Tally counts attempts that were started in the same span of time. What was
// cancelled without being sent is in none.
type Tally struct {
	At        time.Time // the start of the span
	Successes int64
	Failures  int64
	// Latency counts the attempts by their total time: each element those of
	// at most the bound of the same index, and the last those above all bounds.
	Latency [len(LatencyBounds) + 1]int64
}

// LatencyBounds are the upper bounds by which a Tally sorts total times.
var LatencyBounds = [...]time.Duration{
	5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
	250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// MaxTally is how far back tallies are kept.
const MaxTally = 31 * 24 * time.Hour

// Count adds an attempt.
func (t *Tally) Count(a *Attempt) {
	switch a.Status {
	case AttemptSuccess:
		t.Successes++
	case AttemptFailure:
		t.Failures++
	case AttemptCancelled:
		return
	}
	t.Latency[latencyBucket(a.Outcome.Timings.Total)]++
}

func latencyBucket(total time.Duration) int {
	for i, bound := range LatencyBounds {
		if total <= bound {
			return i
		}
	}
	return len(LatencyBounds)
}

// Add adds what another tally has counted.
func (t *Tally) Add(other *Tally) {
	t.Successes += other.Successes
	t.Failures += other.Failures
	for i, n := range other.Latency {
		t.Latency[i] += n
	}
}

// Attempts is how many were counted.
func (t *Tally) Attempts() int64 { return t.Successes + t.Failures }

// Quantile estimates the total time that the fraction q of the attempts stayed
// within, by a straight line inside the bucket where it falls. It is zero when
// nothing was counted, and the last bound when it lies above all of them.
func (t *Tally) Quantile(q float64) time.Duration {
	rank := q * float64(t.Attempts())
	if rank == 0 {
		return 0
	}
	below, seen := time.Duration(0), 0.0
	for i, bound := range LatencyBounds {
		n := float64(t.Latency[i])
		if seen+n >= rank && n > 0 {
			return below + time.Duration(float64(bound-below)*(rank-seen)/n)
		}
		below, seen = bound, seen+n
	}
	return below
}

// A TallyQuery asks for the tallies of a span of time, in steps.
type TallyQuery struct {
	// Tenant whose attempts are counted; empty: those of all tenants.
	Tenant    string
	WebhookID ID        // zero: all webhooks of the tenant
	From      time.Time // inclusive, a whole step
	To        time.Time // exclusive
	Step      time.Duration
}
