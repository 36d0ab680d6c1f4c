package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"postrider/internal/e2e"
)

// After an outage: count what failed, send it again, be killed in the middle,
// and have all of it arrive in the end.
func TestReplay_AfterAnOutageAndAKill(t *testing.T) {
	// Never so many failures in a row that the lane takes the receiver for down:
	// it would hold back what is to fail.
	const failed, fine = 120, 40
	dir, receiver := t.TempDir(), e2e.Listen(t)
	operator := e2e.Start(t, dir, "--request-rate", "0") // it asks again and again
	api := partner(operator)
	var down atomic.Bool
	receiver.Answer(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() && r.Header.Get("X-Clubmed-Event") == "room_status.lost" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	id := api.Call(http.MethodPost, "/v0/api_webhooks", fmt.Appendf(nil, `{"url": %q, "secret": %q, "events": ["*"], "retry_schedule": [],
		"max_in_flight": 1}`, receiver.URL, secret)).Must(http.StatusCreated).Text("id")
	settled := func(query string, n int) {
		t.Helper()
		e2e.Until(t, fmt.Sprintf("%d attempts are %s", n, query), func() bool {
			return len(api.Pages("/v0/api_webhooks/logs?"+query, 100)) == n
		})
	}
	down.Store(true)
	var lost []string
	for i := range failed + fine {
		event := "room_status.lost"
		if i%4 == 0 {
			event = "room_status.fine"
		}
		accepted := operator.Call(http.MethodPost, "/v0/events", fmt.Appendf(nil, `{"event": %q, "payload": {}}`, event)).Must(http.StatusAccepted)
		if i%4 != 0 {
			lost = append(lost, accepted.Text("id"))
		}
	}
	settled("status=failure", failed)
	settled("event=room_status.fine", fine)
	down.Store(false)
	before := len(receiver.All())

	replay := func(body string) e2e.Answer {
		t.Helper()
		return api.Call(http.MethodPost, "/v0/api_webhooks/"+id+"/replay", []byte(body)).Must(http.StatusAccepted)
	}
	for body, want := range map[string]string{
		`{"dry_run": true}`: fmt.Sprint(failed), `{"dry_run": true, "status": "succeeded"}`: fmt.Sprint(fine),
		`{"dry_run": true, "status": "all"}`: fmt.Sprint(failed + fine), `{"dry_run": true, "events": ["booking.*"]}`: "0",
	} {
		if got := replay(body); got.Text("state") != "done" || got.Text("total") != want || got.Text("queued") != "0" {
			t.Errorf("%s: got %s, want a count of %s", body, got.Body, want)
		}
	}
	if got := len(receiver.All()); got != before {
		t.Errorf("got %d requests because of dry runs", got-before)
	}
	run := "/v0/replays/" + replay(`{"rate": 60}`).Text("id")
	e2e.Until(t, "the replay is in the middle", func() bool {
		at := api.Call(http.MethodGet, run, nil).Must(http.StatusOK)
		return at.Text("state") == "running" && len(at.Text("queued")) >= 2
	})
	operator.Kill()
	operator = e2e.Start(t, dir, "--request-rate", "0")
	api = operator.As(api.Key)
	if at := api.Call(http.MethodGet, run, nil).Must(http.StatusOK); at.Text("state") != "running" || at.Text("total") != fmt.Sprint(failed) {
		t.Errorf("got %s after the kill, want the replay to go on", at.Body)
	}
	e2e.Until(t, "the replay is done", func() bool {
		return api.Call(http.MethodGet, run, nil).Must(http.StatusOK).Text("state") == "done"
	})
	settled("event=room_status.lost&status=success", failed)
	var again []string
	for _, got := range receiver.All()[before:] {
		if event := got.Header.Get("X-Clubmed-Delivery"); !slices.Contains(again, event) {
			again = append(again, event)
			checkSignatures(t, got)
		}
	}
	if operator.Database != "" { // what the killed node had claimed comes when its lease is over, behind the others
		slices.Sort(again)
		slices.Sort(lost)
	}
	if !slices.Equal(again, lost) {
		t.Errorf("got %d events again, want the %d that had failed, in the order of acceptance", len(again), len(lost))
	}
	triggers := api.Pages("/v0/api_webhooks/logs?event_id="+lost[0], 10)
	if triggers[0]["trigger"] != "replay" || triggers[len(triggers)-1]["trigger"] != "event" {
		t.Errorf("got the log entries %v", triggers)
	}

	slow := "/v0/replays/" + replay(`{"status": "all", "rate": 0.01}`).Text("id")
	e2e.Until(t, "the slow replay runs", func() bool { return api.Call(http.MethodGet, slow, nil).Text("queued") == "1" })
	if got := api.Call(http.MethodDelete, slow, nil).Must(http.StatusOK); got.Text("state") != "cancelled" || got.Text("ended_at") == "" {
		t.Errorf("got %s, want it cancelled", got.Body)
	}
	if got := replay(`{"dry_run": true}`); got.Text("total") != "0" {
		t.Errorf("got %s, want nothing failed any more", got.Body)
	}
	if got := api.Call(http.MethodGet, slow+"?tenant=default", nil).Must(http.StatusOK); got.Text("queued") != "1" {
		t.Errorf("got %s, want the cancelled replay to be seen", got.Body)
	}
}
