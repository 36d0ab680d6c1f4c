package nodetest

import (
	"bufio"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"postrider/internal/e2e"
	"postrider/internal/pgtest"
)

// What is changed at one node acts at the other, in requests as in streams.
func TestNodes_HearOfEachOther(t *testing.T) {
	cluster := pgtest.For(t, false)
	url := cluster.URL(e2e.NewDatabase(t, cluster))
	flags := []string{"--database-url", url, "--encryption-key", e2e.EncryptionKey}
	one, two := e2e.Start(t, t.TempDir(), flags...), e2e.Start(t, t.TempDir(), flags...)
	receiver := e2e.Listen(t)

	entries := follow(t, two)
	changed := time.Now()
	key := one.Call(http.MethodPost, "/v0/api_keys", []byte(`{"tenant": "default", "name": "k"}`)).Must(http.StatusCreated).Text("key")
	id := one.Call(http.MethodPost, "/v0/api_webhooks", fmt.Appendf(nil, `{"url": %q, "events": ["*"], "secret": "a secret to sign with"}`,
		receiver.URL)).Must(http.StatusCreated).Text("id")
	e2e.Until(t, "the other node knows webhook and key", func() bool {
		return two.As(key).Call(http.MethodGet, "/v0/api_webhooks/"+id, nil).Status == http.StatusOK
	})
	if took := time.Since(changed); took > 2*time.Second {
		t.Errorf("a change took %v to act on the other node, want at most 2s", took)
	}
	published := two.Call(http.MethodPost, "/v0/events", []byte(`{"event": "room_status.updated", "payload": {}}`)).Must(http.StatusAccepted)
	if published.Text("deliveries") != "1" {
		t.Errorf("got %s, want one delivery", published.Body)
	}
	receiver.Event(t, published.Text("id"))
	atOne := one.Call(http.MethodPost, "/v0/events", []byte(`{"event": "room_status.updated", "payload": {}}`)).Must(http.StatusAccepted)
	for deadline := time.After(15 * time.Second); ; {
		select {
		case entry := <-entries:
			if strings.Contains(entry, atOne.Text("id")) {
				return
			}
		case <-deadline:
			t.Fatal("the stream of one node did not show what the other has sent")
		}
	}
}

// follow reads the stream of attempts of a node.
func follow(t *testing.T, node *e2e.Server) <-chan string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, node.URL+"/v0/api_webhooks/logs/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("x-api-key", node.Key)
	response, err := new(http.Transport).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	entries := make(chan string, 1000)
	go func() {
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "data: ") {
				entries <- lines.Text()
			}
		}
	}()
	return entries
}

// Two nodes that start at once on an empty database print one key, and one with
// another encryption key does not start.
func TestNodes_StartOnceWithOneKey(t *testing.T) {
	cluster := pgtest.For(t, false)
	url := cluster.URL(e2e.NewDatabase(t, cluster))
	flags := []string{"--admin-key=", "--database-url", url, "--encryption-key", e2e.EncryptionKey}
	started := make(chan *e2e.Server, 2)
	for range 2 {
		go func() { started <- e2e.Start(t, t.TempDir(), flags...) }()
	}
	told := 0
	for range 2 {
		server := <-started
		e2e.Until(t, "it is ready", func() bool { return strings.Contains(server.Log(), "is ready") })
		told += strings.Count(server.Log(), "prk_")
	}
	if told != 1 {
		t.Errorf("got %d keys told, want one over all nodes", told)
	}
	other := exec.CommandContext(t.Context(), e2e.Binary(t), "serve", "--listen", "127.0.0.1:0", "--data-dir", t.TempDir(),
		"--database-url", url, "--encryption-key", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=")
	if out, err := other.CombinedOutput(); err == nil || !strings.Contains(string(out), "give this node the same encryption_key as the others") {
		t.Errorf("got %v, %s, want it to be refused with the next step", err, out)
	}
}
