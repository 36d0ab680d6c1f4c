package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"postrider/internal/e2e"
)

// crashRounds is how often the server is killed: enough to hit the moments
// between accepting, sending and recording, few enough for every run of CI.
const crashRounds = 25

// Killed at a random moment while events come in, over and over, the server
// loses nothing that it has accepted, and repeats at most what was in flight.
func TestCrash_EveryAcceptedEventIsDelivered(t *testing.T) {
	const publishers = 8
	// In flight is what is on the wire and what has been answered but is not
	// yet recorded: for one webhook 16 and at most 8 times as many.
	const inFlight = 16 + 8*16
	dir, receiver := t.TempDir(), e2e.Listen(t)
	server := e2e.Start(t, dir)
	server.Call(http.MethodPost, "/v0/api_webhooks", fmt.Appendf(nil, `{"url": %q, "events": ["*"], "secret": %q}`,
		receiver.URL, secret)).Must(http.StatusCreated)

	var mu sync.Mutex
	var accepted []string
	for range crashRounds {
		var wait sync.WaitGroup
		for range publishers {
			wait.Go(func() {
				for {
					answer, err := server.TryCall(http.MethodPost, "/v0/events", []byte(`{"event":"room_status.updated","payload":{"a":1}}`))
					if err != nil {
						return // killed
					}
					answer.Must(http.StatusAccepted)
					mu.Lock()
					accepted = append(accepted, answer.Text("id"))
					mu.Unlock()
				}
			})
		}
		<-time.After(time.Duration(20+rand.IntN(60)) * time.Millisecond)
		server.Kill()
		wait.Wait()
		server = e2e.Start(t, dir)
	}
	got := map[string]int{}
	e2e.Until(t, "everything accepted is delivered", func() bool {
		got = map[string]int{}
		for _, r := range receiver.All() {
			got[r.Header.Get("X-Clubmed-Delivery")]++
		}
		for _, id := range accepted {
			if got[id] == 0 {
				return false
			}
		}
		return true
	})
	repeated := 0
	for id, times := range got {
		if times > 1 {
			repeated += times - 1
		}
		if times > 1+crashRounds {
			t.Errorf("event %s came %d times in %d crashes", id, times, crashRounds)
		}
	}
	if repeated > crashRounds*inFlight {
		t.Errorf("%d deliveries were repeated in %d crashes, want at most %d a crash", repeated, crashRounds, inFlight)
	}
	t.Logf("%d crashes, %d events accepted, 0 lost, %d repeated", crashRounds, len(accepted), repeated)
	e2e.Until(t, "the queue is empty", func() bool {
		answer := server.Call(http.MethodGet, "/v0/events/"+accepted[len(accepted)-1], nil).Must(http.StatusOK)
		var event struct {
			Deliveries []struct {
				State string `json:"state"`
			} `json:"deliveries"`
		}
		answer.Into(&event)
		return len(event.Deliveries) == 1 && event.Deliveries[0].State == "succeeded"
	})
}
