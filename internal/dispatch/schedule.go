package dispatch

import (
	"math/rand/v2"
	"time"

	"postrider"
)

// DefaultRetrySchedule is the wait before each retry: ten attempts over three
// days. It is the example schedule of the Standard Webhooks specification.
var DefaultRetrySchedule = []time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
	10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

const (
	// jitter spreads retries, so that what failed together does not come back
	// together: each wait is up to this part shorter or longer.
	jitter = 0.2
	// maxRetryAfter bounds what a receiver can ask for.
	maxRetryAfter = 24 * time.Hour
)

// retryIn decides whether and when a failed delivery is tried again.
func (d *Dispatcher) retryIn(w *postrider.Webhook, delivery *postrider.Delivery, o *postrider.Outcome) (wait time.Duration, again bool) {
	if delivery.EventType == postrider.PingEvent {
		return 0, false // a ping is attempted once
	}
	schedule := d.schedule(w)
	if delivery.Retries >= len(schedule) {
		return 0, false
	}
	wait = schedule[delivery.Retries]
	wait += time.Duration(float64(wait) * jitter * (2*rand.Float64() - 1)) //nolint:gosec // jitter is no secret
	return max(wait, min(o.RetryAfter, maxRetryAfter)), true
}

func (d *Dispatcher) schedule(w *postrider.Webhook) []time.Duration {
	if w.RetrySchedule != nil {
		return w.RetrySchedule
	}
	return d.o.RetrySchedule
}

// over reports whether a delivery's schedule would have ended by now, had all
// its retries been made. The time counts from when the webhook was last edited,
// or switched on again: what was held meanwhile has its whole schedule before
// it.
func (d *Dispatcher) over(w *postrider.Webhook, delivery *postrider.Delivery) bool {
	since := delivery.AcceptedAt
	if w.UpdatedAt.After(since) {
		since = w.UpdatedAt
	}
	end := openMost // a breaker that opens late does not end short schedules at once
	for _, wait := range d.schedule(w) {
		end += wait + time.Duration(float64(wait)*jitter)
	}
	return time.Since(since) > end
}

// statusGone is a receiver's word that it wants no deliveries any more: the
// webhook is disabled (Standard Webhooks, section "Deliverability").
const statusGone = 410
