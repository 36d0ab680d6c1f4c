package faulttest

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"time"
)

// A history is what happened to a server over several runs of it: what its
// producers, its receivers and its own logs say of the same deliveries.
type history struct {
	hooks    map[string]hook // by webhook id
	accepted map[string]publication
	receipts []receipt // as they came
	entries  []entry   // of the logs
	states   map[delivery]string
	killed   map[int]bool // the runs that were not stopped in order
	late     map[int]bool // the runs that were frozen for longer than an attempt may take
}

// A hook is a webhook.
type hook struct {
	name    string
	ordered bool
	takes   func(event string) bool
	budget  int // attempts at once
}

// atStake is how many outcomes of one webhook a crash can lose: those on the
// wire, and eight times as many that are not on disk yet.
func (h hook) atStake() int {
	if h.ordered {
		return 1
	}
	return 9 * h.budget
}

// A publication is an event that its producer got a 202 for.
type publication struct {
	event string // its type
	sum   [sha256.Size]byte
	turn  int // of an event of the one producer who waits for each answer; 0: of another
}

type delivery struct{ event, webhook string }

// A receipt is one request as its receiver saw it.
type receipt struct {
	delivery

	run        int // of the server that sent it
	attempt    int
	sum        [sha256.Size]byte
	start, end time.Time
	status     int // what it was answered; 0: nothing
}

func (r *receipt) ok() bool { return r.status >= 200 && r.status <= 299 }

// An entry is one line of the logs.
type entry struct {
	delivery

	attempt int
	ok      bool
	status  int // 0: no answer
}

// faults are all that the history has and should not. Nothing in it may be
// unknown, lost, altered, or repeated more than the guarantees say.
func (h *history) faults() (found []string) {
	receipts, entries := map[delivery][]receipt{}, map[delivery][]entry{}
	for _, r := range h.receipts {
		receipts[r.delivery] = append(receipts[r.delivery], r)
		if p, known := h.accepted[r.event]; !known {
			found = append(found, fmt.Sprintf("%s received %s, which nobody published", h.hooks[r.webhook].name, r.event))
		} else if p.sum != r.sum {
			found = append(found, fmt.Sprintf("%s received %s with other bytes than were published", h.hooks[r.webhook].name, r.event))
		}
	}
	for _, e := range h.entries {
		entries[e.delivery] = append(entries[e.delivery], e)
	}
	for event, p := range h.accepted {
		for id, hook := range h.hooks {
			if !hook.takes(p.event) {
				continue
			}
			d := delivery{event, id}
			for _, fault := range h.deliveryFaults(h.states[d], receipts[d], entries[d]) {
				found = append(found, fmt.Sprintf("%s to %s: %s", event, hook.name, fault))
			}
		}
	}
	found = append(found, h.repeats()...)
	for id, hook := range h.hooks {
		if hook.ordered {
			found = append(found, h.orderFaults(id)...)
		}
	}
	slices.Sort(found)
	return found
}

// deliveryFaults judges one delivery by its state, its receipts and its log.
func (h *history) deliveryFaults(state string, receipts []receipt, entries []entry) (found []string) {
	fault := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	logged, successes, answered := map[int]int{}, 0, 0
	for _, e := range entries {
		logged[e.attempt]++
		if logged[e.attempt] == 2 {
			fault("attempt %d is in the log twice", e.attempt)
		}
		if e.ok {
			successes++
		}
		if e.status == 0 {
			continue
		}
		answered++
		if !slices.ContainsFunc(receipts, func(r receipt) bool { return r.attempt == e.attempt && r.status == e.status }) {
			fault("the log says that attempt %d was answered %d, the receiver does not", e.attempt, e.status)
		}
	}
	switch state {
	case "succeeded":
		if successes != 1 || !slices.ContainsFunc(receipts, func(r receipt) bool { return r.ok() }) {
			fault("it succeeded, with %d successes in the log and %d requests received", successes, len(receipts))
		}
	case "pending", "held", "failed", "cancelled":
		if successes != 0 {
			fault("it is %s, with %d successes in the log", state, successes)
		}
	default:
		fault("it is lost: its state is %q", state)
	}

	runs, done := map[int]bool{}, map[int]bool{}
	unlogged := -answered
	for _, r := range receipts {
		for before := range done {
			if before == r.run || before < r.run && !h.killed[before] {
				fault("it was sent again in run %d after a success in run %d", r.run, before)
			}
		}
		// A run that slept through an answer does not know of it.
		missed := h.late[r.run] && slices.Contains(entries, entry{r.delivery, r.attempt, false, 0})
		if r.ok() && !missed {
			done[r.run] = true
		}
		if r.status != 0 && !missed {
			unlogged++
		}
		if h.killed[r.run] {
			runs[r.run] = true
		}
	}
	if unlogged > len(runs) {
		fault("%d outcomes are not in the log, after %d crashes", unlogged, len(runs))
	}
	return found
}

// repeats holds every crash to its bound: the receipts of a run that were made
// again because their outcome was lost.
func (h *history) repeats() (found []string) {
	type place struct {
		run     int
		webhook string
	}
	again := map[place]int{}
	for _, r := range h.repeated() {
		again[place{r.run, r.webhook}]++
	}
	for at, n := range again {
		if most := h.hooks[at.webhook].atStake(); n > most {
			found = append(found, fmt.Sprintf("%s: %d deliveries of run %d were repeated, want at most %d", h.hooks[at.webhook].name, n, at.run, most))
		}
	}
	return found
}

// repeated are the receipts whose attempt was made once more.
func (h *history) repeated() (list []receipt) {
	type made struct {
		delivery

		attempt int
	}
	last := map[made]receipt{}
	for _, r := range h.receipts {
		key := made{r.delivery, r.attempt}
		if before, found := last[key]; found {
			list = append(list, before)
		}
		last[key] = r
	}
	return list
}

// orderFaults judges a webhook that is sent to in order: one request at a time,
// and none before all that were accepted before it have succeeded.
func (h *history) orderFaults(webhook string) (found []string) {
	busy, ends := map[int]time.Time{}, map[int]string{}
	succeeded := map[int]bool{}
	reached := 0 // every turn up to here has succeeded
	for _, r := range h.receipts {
		if r.webhook != webhook {
			continue
		}
		if r.start.Before(busy[r.run]) {
			found = append(found, fmt.Sprintf("%s came while %s was still being answered", r.event, ends[r.run]))
		}
		busy[r.run], ends[r.run] = r.end, r.event
		turn := h.accepted[r.event].turn
		for succeeded[reached+1] {
			reached++
		}
		if turn > reached+1 {
			found = append(found, fmt.Sprintf("%s, the %d. event, came before the %d. had succeeded", r.event, turn, reached+1))
		}
		if r.ok() {
			succeeded[turn] = true
		}
	}
	return found
}
