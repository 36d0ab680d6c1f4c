package nodetest

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"testing"

	"postrider/internal/e2e"
	"postrider/internal/pgtest"
)

// A listener is attached to one node. What any node accepts reaches it, and a
// redelivery that another one is asked for does too.
func TestListen_GetsWhatEveryNodeAccepts(t *testing.T) {
	cluster := pgtest.For(t, false)
	flags := []string{
		"--database-url", cluster.URL(e2e.NewDatabase(t, cluster)), "--encryption-key", e2e.EncryptionKey, "--relay-ping", "300ms",
	}
	near, far := e2e.Start(t, t.TempDir(), flags...), e2e.Start(t, t.TempDir(), flags...)
	local := e2e.Listen(t)
	listener := exec.CommandContext(context.WithoutCancel(t.Context()), e2e.Binary(t),
		"listen", "--server", near.URL, "--key", near.Key, "--forward", local.URL)
	listener.Env = append(os.Environ(), "HOME="+t.TempDir())
	if err := listener.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- listener.Wait() }()
	t.Cleanup(func() {
		listener.Process.Kill() //nolint:errcheck // it may have ended
		ended <- <-ended
	})
	ping := local.Wait(t, func(e2e.Received) bool { return true })
	hook := ping.Header.Get("X-Clubmed-Hook-ID")

	publish := func(node *e2e.Server, id string) {
		t.Helper()
		body := fmt.Sprintf(`{"event": "room_status.updated", "id": %q, "payload": {"n": 1.0}}`, id)
		node.Call(http.MethodPost, "/v0/events", []byte(body)).Must(http.StatusAccepted)
	}
	e2e.Until(t, "the webhook on the other node", func() bool {
		return far.Call(http.MethodGet, "/v0/api_webhooks/"+hook, nil).Status == http.StatusOK
	})
	for i := range 50 {
		publish(far, fmt.Sprintf("far_%d", i))
		publish(near, fmt.Sprintf("near_%d", i))
	}
	for i := range 50 {
		for _, name := range []string{"far", "near"} {
			if got := local.Event(t, fmt.Sprintf("%s_%d", name, i)); string(got.Body) != `{"n": 1.0}` {
				t.Errorf("got %s, want the payload as it was", got.Body)
			}
		}
	}
	logs := "/v0/api_webhooks/" + hook + "/logs?event_id=near_0"
	e2e.Until(t, "the logs", func() bool { return len(far.Pages(logs, 10)) == 1 })
	again := fmt.Sprintf("/v0/api_webhooks/logs/%v/redeliver", far.Pages(logs, 10)[0]["id"])
	far.Call(http.MethodPost, again, []byte(`{"target": "relay"}`)).Must(http.StatusAccepted)
	local.Wait(t, func(got e2e.Received) bool {
		return got.Header.Get("X-Clubmed-Delivery") == "near_0" && got.Header.Get("X-Clubmed-Attempt") == "2"
	})
	if failures := far.Pages("/v0/api_webhooks/"+hook+"/logs?status=failure", 10); len(failures) != 0 {
		t.Errorf("got %v, want no failure", failures)
	}

	far.Call(http.MethodDelete, "/v0/api_webhooks/"+hook, nil).Must(http.StatusNoContent)
	err := <-ended
	ended <- err
	if err == nil {
		t.Error("got exit code 0 from the listener of a webhook that another node deleted, want 1")
	}
}
