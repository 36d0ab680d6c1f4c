package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"postrider/internal/e2e"
	"postrider/internal/pgtest"
)

// What was not delivered before the move is delivered after it, in its order,
// also when the first try of the move was killed.
func TestImport_UnsettledDeliveriesGoOnInTheTarget(t *testing.T) {
	cluster := pgtest.For(t, true)
	database := cluster.URL(e2e.NewDatabase(t, cluster))
	dir := t.TempDir()
	receiver := e2e.Listen(t)
	receiver.Answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })

	run := func(args ...string) *exec.Cmd {
		command := exec.CommandContext(t.Context(), e2e.Binary(t), args...)
		command.Env = append(os.Environ(), "POSTRIDER_ENCRYPTION_KEY="+e2e.EncryptionKey)
		return command
	}
	server := e2e.Start(t, dir, "--encryption-key", e2e.EncryptionKey)
	call := func(method, path, body string) e2e.Answer { return server.Call(method, path, []byte(body)) }
	from := dir
	if server.Database != "" {
		from = server.Database
	}
	call("POST", "/v0/api_webhooks", `{"url": "`+receiver.URL+`", "events": ["a.b"], "secret": "a secret of eight", "ordered": true, "retry_schedule": [1, 1, 1, 1, 1, 1, 1, 1]}`).Must(201)
	var want []string
	for n := range 20 {
		want = append(want, call("POST", "/v0/events", fmt.Sprintf(`{"event": "a.b", "payload": {"n" : %d.0}}`, n)).Must(202).Text("id"))
	}
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}

	killed := run("import", "--from", from, "--database-url", database)
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(30*time.Millisecond, func() { killed.Process.Kill() }) //nolint:errcheck // it may have ended
	if killed.Wait() == nil {
		t.Fatal("the first import ended before it was killed")
	}
	e2e.Until(t, "the import after the one that was killed", func() bool {
		out, err := run("import", "--from", from, "--database-url", database, "--json").CombinedOutput()
		if err != nil && !strings.Contains(string(out), "a server is running on this database") {
			t.Fatalf("import: %v\n%s", err, out)
		}
		return err == nil
	})
	if out, err := run("import", "--from", from, "--database-url", database).CombinedOutput(); err == nil || !strings.Contains(string(out), "is not empty") {
		t.Errorf("got %v and %s, want the second import refused", err, out)
	}

	receiver.Answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	before := len(receiver.All())
	server = e2e.Start(t, t.TempDir(), "--encryption-key", e2e.EncryptionKey, "--database-url", database)
	delivered := func(r e2e.Received) bool { return r.Header.Get("X-Clubmed-Delivery") == want[len(want)-1] }
	receiver.Wait(t, delivered)
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, r := range receiver.All()[before:] {
		if id := r.Header.Get("X-Clubmed-Delivery"); len(got) < len(want) && id == want[len(got)] {
			got = append(got, id)
			if text := fmt.Sprintf(`{"n" : %d.0}`, len(got)-1); string(r.Body) != text {
				t.Errorf("got the body %s, want %s", r.Body, text)
			}
		} else if id != "" && r.Header.Get("X-Clubmed-Event") == "a.b" {
			t.Errorf("delivery %d is of %s, which is not its turn", i, id)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d deliveries after the move, want %d", len(got), len(want))
	}
}
