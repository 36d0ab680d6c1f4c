package faulttest

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// good is a history of three events for two webhooks, one of them ordered, over
// two runs of which the first was killed: the second event was repeated.
func good() *history {
	h := &history{
		hooks: map[string]hook{
			"w1": {name: "quick", budget: 1, takes: func(string) bool { return true }},
			"w2": {name: "ordered", ordered: true, takes: func(string) bool { return true }},
		},
		accepted: map[string]publication{},
		states:   map[delivery]string{},
		killed:   map[int]bool{1: true},
	}
	clock := time.Now()
	receive := func(event, webhook string, run, attempt, status int) {
		clock = clock.Add(time.Second)
		h.receipts = append(h.receipts, receipt{
			delivery: delivery{event, webhook}, run: run, attempt: attempt, sum: h.accepted[event].sum,
			start: clock, end: clock.Add(time.Millisecond), status: status,
		})
	}
	for turn, event := range []string{"e1", "e2", "e3"} {
		h.accepted[event] = publication{event: "a", sum: sha256.Sum256([]byte(event)), turn: turn + 1}
	}
	for _, webhook := range []string{"w1", "w2"} {
		receive("e1", webhook, 1, 1, 500)
		receive("e1", webhook, 1, 2, 204)
		receive("e2", webhook, 1, 1, 204) // and killed
		receive("e2", webhook, 2, 1, 204)
		receive("e3", webhook, 2, 1, 204)
		h.entries = append(h.entries, entry{delivery{"e1", webhook}, 1, false, 500})
		for _, d := range []struct {
			event   string
			attempt int
		}{{"e1", 2}, {"e2", 1}, {"e3", 1}} {
			h.entries = append(h.entries, entry{delivery{d.event, webhook}, d.attempt, true, 204})
			h.states[delivery{d.event, webhook}] = "succeeded"
		}
	}
	return h
}

func TestHistory_FindsEachFault(t *testing.T) {
	first := delivery{"e1", "w1"}
	for _, test := range []struct {
		name  string
		spoil func(*history)
		want  string // part of a fault; empty: there is none
	}{
		{"nothing wrong", func(*history) {}, ""},
		{"still pending", func(h *history) {
			h.states[delivery{"e3", "w1"}] = "pending"
			h.entries = slices.DeleteFunc(h.entries, func(e entry) bool { return e.delivery == delivery{"e3", "w1"} })
			h.receipts = slices.DeleteFunc(h.receipts, func(r receipt) bool { return r.delivery == delivery{"e3", "w1"} })
		}, ""},
		{"lost", func(h *history) { delete(h.states, first) }, "lost"},
		{"never sent", func(h *history) {
			h.receipts = slices.DeleteFunc(h.receipts, func(r receipt) bool { return r.delivery == first })
		}, "the receiver does not"},
		{"no log", func(h *history) { h.entries = nil }, "with 0 successes"},
		{"unknown", func(h *history) { h.receipts[0].event = "e9" }, "nobody published"},
		{"altered", func(h *history) { h.receipts[0].sum[0]++ }, "other bytes"},
		{"a log that lies", func(h *history) { h.entries[0].status = 503 }, "the receiver does not"},
		{"logged twice", func(h *history) { h.entries = append(h.entries, h.entries[0]) }, "in the log twice"},
		{"repeated in one run", func(h *history) {
			again := h.receipts[1]
			again.start = again.end
			h.receipts = slices.Insert(h.receipts, 2, again)
		}, "sent again in run 1 after a success in run 1"},
		{"repeated after a stop", func(h *history) { h.killed = nil }, "sent again in run 2 after a success in run 1"},
		{"an answer slept through", func(h *history) {
			h.late, h.killed = map[int]bool{1: true}, nil
			h.receipts = slices.DeleteFunc(h.receipts, func(r receipt) bool { return r.webhook == "w2" })
			delete(h.hooks, "w2")
			h.entries[2] = entry{delivery{"e2", "w1"}, 1, false, 0}
			h.receipts[3].attempt = 2
			h.entries = append(h.entries, entry{delivery{"e2", "w1"}, 2, true, 204})
		}, ""},
		{"an outcome forgotten", func(h *history) {
			h.entries = h.entries[1:]
			h.killed = nil
		}, "1 outcomes are not in the log, after 0 crashes"},
		{"more at stake than said", func(h *history) {
			for i := range 10 {
				event := fmt.Sprint("x", i)
				h.accepted[event] = publication{}
				for run := range 2 {
					h.receipts = append(h.receipts, receipt{delivery: delivery{event, "w1"}, run: run + 1, attempt: 1, status: 204})
				}
			}
		}, "11 deliveries of run 1 were repeated, want at most 9"},
		{"overlapping", func(h *history) { h.receipts[5].end = h.receipts[5].end.Add(time.Hour) }, "still being answered"},
		{"out of turn", func(h *history) {
			ordered := h.receipts[5:]
			ordered[0], ordered[2] = ordered[2], ordered[0]
			ordered[0].start, ordered[2].start = ordered[2].start, ordered[0].start
			ordered[0].end, ordered[2].end = ordered[2].end, ordered[0].end
		}, "before the 1. had succeeded"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := good()
			test.spoil(h)
			found := strings.Join(h.faults(), "\n")
			if test.want == "" && found != "" || !strings.Contains(found, test.want) {
				t.Errorf("got %q, want %q", found, test.want)
			}
		})
	}
}
