package postrider

import (
	"fmt"
	"time"
)

// A Replay sends past deliveries of a webhook again: those of the events that
// were accepted in a span of time and whose delivery has ended in a way. First
// they are collected, then they are queued at a rate, in the order in which the
// events were accepted.
type Replay struct {
	ID        ID
	Tenant    string
	WebhookID ID
	From      time.Time // of acceptance, inclusive; zero: the beginning
	To        time.Time // exclusive
	Status    ReplayStatus
	Events    []string // the event types and patterns that are taken; none: all
	DryRun    bool     // collect, and queue nothing
	Rate      float64  // deliveries queued in a second
	// What follows is set by the system.
	State     ReplayState
	After     ID  // the last attempt that was looked at while collecting
	Total     int // deliveries collected
	Queued    int // of those, how many were put into the queue
	Skipped   int // of those, how many were in the queue again already
	CreatedAt time.Time
	EndedAt   time.Time // zero before it is done or cancelled
}

// ReplayStatus is how a delivery has ended that is to be sent again.
type ReplayStatus string

// The ends of a delivery. What still waits for a retry has not ended.
const (
	ReplayFailed    ReplayStatus = "failed"
	ReplaySucceeded ReplayStatus = "succeeded"
	ReplayCancelled ReplayStatus = "cancelled"
	ReplayAll       ReplayStatus = "all"
)

// Takes reports whether a delivery whose last attempt has a status is one to
// send again.
func (s ReplayStatus) Takes(last AttemptStatus) bool {
	switch s {
	case ReplayFailed:
		return last == AttemptFailure
	case ReplaySucceeded:
		return last == AttemptSuccess
	case ReplayCancelled:
		return last == AttemptCancelled
	case ReplayAll:
		return true
	}
	return false
}

// ReplayState is how far a replay is.
type ReplayState string

// The states of a replay.
const (
	ReplayCollecting ReplayState = "collecting"
	ReplayRunning    ReplayState = "running"
	ReplayDone       ReplayState = "done"
	ReplayStopped    ReplayState = "cancelled"
)

// Ended reports whether nothing more is queued.
func (s ReplayState) Ended() bool { return s == ReplayDone || s == ReplayStopped }

// Rates of replays, in deliveries a second.
const (
	DefaultReplayRate = 100
	MaxReplayRate     = 1000
	minReplayRate     = 0.01
)

// Takes reports whether an event belongs to the replay. Pings never do.
func (r *Replay) Takes(eventType string, accepted time.Time) bool {
	if accepted.Before(r.From) || !accepted.Before(r.To) || eventType == PingEvent {
		return false
	}
	for _, pattern := range r.Events {
		if MatchEvent(pattern, eventType) {
			return true
		}
	}
	return len(r.Events) == 0
}

// Check reports every fault of the fields that are asked for.
func (r *Replay) Check() error {
	var faults Faults
	if !r.From.Before(r.To) {
		faults.Add(invalid("to", "invalid_time_range", "The time range ends after it starts. Without a to it ends now."))
	}
	switch r.Status {
	case ReplayFailed, ReplaySucceeded, ReplayCancelled, ReplayAll:
	default:
		faults.Add(invalid("status", "invalid_status", `The status is "failed", "succeeded", "cancelled" or "all".`))
	}
	if len(r.Events) > MaxEvents {
		faults.Add(invalid("events", "invalid_events", "A replay takes at most 100 event types and patterns; without any it takes all."))
	}
	for i, pattern := range r.Events {
		faults.Add(CheckEventPattern(fmt.Sprintf("events[%d]", i), pattern))
	}
	if !(r.Rate >= minReplayRate && r.Rate <= MaxReplayRate) {
		faults.Add(invalid("rate", "invalid_rate", "The rate is 0.01 to 1,000 deliveries a second."))
	}
	return faults.Err()
}
