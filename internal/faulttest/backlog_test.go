package faulttest

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postrider"
	"postrider/internal/e2e"
	"postrider/internal/sealing"
	"postrider/internal/sqlite"
)

var backlog = flag.Int("backlog", 100_000, "how many deliveries are due at the restart with a backlog")

// preload accepts events for one webhook into the store of a server that is
// stopped.
func preload(t *testing.T, dir, webhook string, count int) {
	t.Helper()
	key, err := sealing.KeyInDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := sealing.New(key)
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.Context(), dir, sealer)
	if err != nil {
		t.Fatal(err)
	}
	id, err := postrider.ParseID(webhook)
	if err != nil {
		t.Fatal(err)
	}
	payload := []byte(`{"pad": "` + strings.Repeat("x", 300) + `"}`)
	for done := 0; done < count; {
		batch := make([]postrider.Accepted, min(5000, count-done))
		for i := range batch {
			e := postrider.Event{
				ID: postrider.NewID().String(), Tenant: postrider.DefaultTenant, Type: "old.event", Payload: payload,
				CreatedAt: time.Now(), Deliveries: 1,
			}
			batch[i] = postrider.Accepted{Publication: i, Event: e, Deliveries: []postrider.Delivery{{
				DeliveryKey: postrider.DeliveryKey{Tenant: e.Tenant, EventID: e.ID, WebhookID: id},
				EventType:   e.Type, Payload: payload, Trigger: postrider.TriggerEvent, AcceptedAt: e.CreatedAt,
			}}}
		}
		if _, err := store.Accept(t.Context(), batch, nil); err != nil {
			t.Fatal(err)
		}
		done += len(batch)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// peak is the most memory that a process has had, in bytes.
func peak(t *testing.T, pid int) (size int64) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscan(after, &size); err != nil {
		t.Fatalf("read the peak: %v", err)
	}
	return size << 10
}

// A backlog costs neither time nor memory at a start, holds up no other
// webhook, and is worked off.
func TestRestart_ALargeBacklogCostsNothing(t *testing.T) {
	dir, old, fresh := t.TempDir(), e2e.Listen(t), e2e.Listen(t)
	open := make(chan struct{})
	server := e2e.Start(t, dir)
	behind := register(server, old.URL, "old.*")
	register(server, fresh.URL, "new.*")
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	preload(t, dir, behind, *backlog)
	old.Answer(func(w http.ResponseWriter, request *http.Request) {
		select {
		case <-open:
		case <-request.Context().Done():
		}
		w.WriteHeader(http.StatusNoContent)
	})

	start := time.Now()
	server = e2e.Start(t, dir)
	if ready := time.Since(start); ready > 5*time.Second {
		t.Errorf("got the server ready after %v, want less than 5s", ready)
	} else {
		t.Logf("ready after %v with %d deliveries due", ready, *backlog)
	}
	start = time.Now()
	fresh.Event(t, server.Call(http.MethodPost, "/v0/events", event("new.event", 10)).Must(http.StatusAccepted).Text("id"))
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("got a new event of another webhook delivered after %v", took)
	}
	close(open)
	e2e.Until(t, "a good part of the backlog's deliveries", func() bool { return len(old.All()) > min(*backlog/2, 20_000) })
	most := peak(t, server.PID())
	t.Logf("%d MiB of memory at most", most>>20)
	if most > 256<<20 {
		t.Errorf("got %d MiB of memory, want no more than without a backlog", most>>20)
	}
}

// shift moves all times that a stopped server has kept into the past, as if its
// clock had been set forward by so much before its next start; or back, when
// negative.
func shift(t *testing.T, dir string, forward time.Duration) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, sqlite.FileName))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		`UPDATE queue SET due_at = due_at - ?1, accepted_at = accepted_at - ?1`,
		`UPDATE events SET created_at = created_at - ?1`,
		`UPDATE attempts SET at = at - ?1, next_attempt_at = next_attempt_at - ?1`,
		`UPDATE webhooks SET created_at = created_at - ?1, updated_at = updated_at - ?1, failing_since = failing_since - ?1`,
	} {
		if _, err := db.ExecContext(context.WithoutCancel(t.Context()), text, forward.Microseconds()); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// A server that starts under a clock that was an hour off skips no retry and
// makes none more than once, and what is new goes out at once.
func TestClock_AnHourOffAtARestart(t *testing.T) {
	for _, test := range []struct {
		name    string
		forward time.Duration
		second  int // how many second attempts come at once
	}{
		{"set forward, retries come early and once", time.Hour, 4},
		{"set back, retries wait and can be seen", -time.Hour, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir, receiver := t.TempDir(), e2e.Listen(t)
			receiver.Answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
			server := e2e.Start(t, dir)
			id := server.Call(http.MethodPost, "/v0/api_webhooks", fmt.Appendf(nil,
				`{"url": %q, "events": ["old.*"], "retry_schedule": [600, 600]}`, receiver.URL)).Must(http.StatusCreated).Text("id")
			register(server, receiver.URL, "new.*")
			failed := func() []map[string]any {
				return server.Pages("/v0/api_webhooks/"+id+"/logs?event=old.event&status=failure", 100)
			}
			var events []string
			for range 4 { // fewer than open the breaker
				events = append(events, server.Call(http.MethodPost, "/v0/events", event("old.event", 10)).Must(http.StatusAccepted).Text("id"))
			}
			e2e.Until(t, "a failure of each", func() bool { return len(failed()) == len(events) })
			if err := server.Stop(); err != nil {
				t.Fatal(err)
			}
			shift(t, dir, test.forward)
			server = e2e.Start(t, dir)

			e2e.Until(t, "the retries that are due", func() bool { return len(failed()) == len(events)+test.second })
			receiver.Event(t, server.Call(http.MethodPost, "/v0/events", event("new.event", 10)).Must(http.StatusAccepted).Text("id"))
			for _, id := range events {
				if n, want := times(receiver, id), 1+test.second/len(events); n != want {
					t.Errorf("got %s %d times, want %d", id, n, want)
				}
				var shown struct {
					Deliveries []struct {
						State string    `json:"state"`
						Next  time.Time `json:"next_attempt_at"`
					} `json:"deliveries"`
				}
				server.Call(http.MethodGet, "/v0/events/"+id, nil).Must(http.StatusOK).Into(&shown)
				if d := shown.Deliveries; len(d) != 1 || d[0].State != "pending" || time.Until(d[0].Next) < 7*time.Minute || time.Until(d[0].Next) > 75*time.Minute {
					t.Errorf("got %+v, want it pending with its next attempt to come", d)
				}
			}
		})
	}
}
