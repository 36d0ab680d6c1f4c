package faulttest

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"postrider/internal/e2e"
)

// An event for more webhooks than one commit writes deliveries for is accepted
// at once. A server that is killed before it has written or sent them all goes
// on where it was.
func TestFanout_GoesOnAfterAKillInTheMiddle(t *testing.T) { e2e.WithEachEngine(t, testFanout) }

func testFanout(t *testing.T, flags ...string) {
	const webhooks = 2000
	dir, receiver := t.TempDir(), e2e.Listen(t)
	flags = append(flags, "--webhooks-per-tenant", "0")
	server := e2e.Start(t, dir, flags...)
	var group sync.WaitGroup
	for part := range 8 {
		group.Go(func() {
			for i := part; i < webhooks; i += 8 {
				answer, err := server.TryCall(http.MethodPost, "/v0/api_webhooks",
					fmt.Appendf(nil, `{"url": "%s/%d", "events": ["wide.event"]}`, receiver.URL, i))
				if err != nil || answer.Status != http.StatusCreated {
					t.Errorf("got %s and error %v for a new webhook, want status 201", answer.Body, err)
					return
				}
			}
		})
	}
	group.Wait()
	e2e.Until(t, "every webhook's ping", func() bool { return len(receiver.All()) == webhooks })

	some := make(chan struct{})
	first := sync.OnceFunc(func() { close(some) })
	receiver.Answer(func(w http.ResponseWriter, _ *http.Request) {
		first()
		w.WriteHeader(http.StatusNoContent)
	})
	start := time.Now()
	answer := server.Call(http.MethodPost, "/v0/events", event("wide.event", 500)).Must(http.StatusAccepted)
	took, id := time.Since(start), answer.Text("id")
	if took > time.Second {
		t.Errorf("got the event accepted after %v, want less than 1s", took)
	}
	if !strings.Contains(string(answer.Body), fmt.Sprintf(`"deliveries":%d`, webhooks)) {
		t.Errorf("got %s, want %d deliveries", answer.Body, webhooks)
	}
	<-some
	server.Kill()
	before := times(receiver, id)
	if before == webhooks {
		t.Fatal("got everything sent before the kill: nothing is shown")
	}

	restart := time.Now()
	e2e.Start(t, dir, flags...)
	receivedBy := func() map[string]int {
		got := map[string]int{}
		for _, r := range receiver.All() {
			if r.Header.Get("X-Clubmed-Delivery") == id {
				got[r.Path]++
			}
		}
		return got
	}
	e2e.Until(t, "the event at every webhook", func() bool { return len(receivedBy()) == webhooks })
	whole := time.Since(restart)
	again := 0
	for path, n := range receivedBy() {
		if n > 2 {
			t.Errorf("got the event %d times at %s, want at most twice after one kill", n, path)
		}
		again += n - 1
	}
	t.Logf("accepted after %v; %d of %d sent before the kill, %d sent twice, all %v after the restart", took, before, webhooks, again, whole)
}
