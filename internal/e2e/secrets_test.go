package e2e_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"postrider"
	"postrider/internal/e2e"
	"postrider/internal/sealing"
	"postrider/internal/sqlite"
)

// fillSecrets gives a stopped server's store so many webhooks with secrets that
// a rotation of their key takes a while.
func fillSecrets(t *testing.T, dir string, n int) {
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
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	failed := make(chan error, n)
	for i := range n {
		go func() {
			failed <- store.PutWebhook(t.Context(), postrider.Webhook{
				ID: postrider.NewID(), Tenant: postrider.DefaultTenant, URL: "https://partner.example/", ContentType: postrider.JSON,
				Events: []string{"none"}, Secret: postrider.Secret(fmt.Sprintf("a secret of number %d", i)), CreatedAt: time.Now(), UpdatedAt: time.Now(),
			})
		}()
	}
	for range n {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
}

// A rotation that is killed leaves a store that starts and signs as before,
// with the old key or the new one, whichever it was.
func TestSecrets_ARotationThatIsKilledLeavesAWorkingStore(t *testing.T) {
	dir := t.TempDir()
	receiver := e2e.Listen(t)
	server := e2e.Start(t, dir)
	server.Call("POST", "/v0/api_webhooks",
		[]byte(`{"url": "`+receiver.URL+`", "events": ["a.b"], "secret": "the secret of all rounds"}`)).Must(201)
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	fillSecrets(t, dir, 3000)

	killed, ended := 0, 0
	for round := range 12 {
		command := exec.CommandContext(t.Context(), e2e.Binary(t), "secrets", "rotate", "--data-dir", dir) //nolint:gosec // our own program
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- command.Wait() }()
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("round %d: the rotation failed: %v", round, err)
			}
			ended++
		case <-time.After(time.Duration(15+4*round) * time.Millisecond):
			command.Process.Kill() //nolint:errcheck // it may have ended
			var exit *exec.ExitError
			if err := <-done; errors.As(err, &exit) {
				killed++
			} else {
				ended++
			}
		}
		server := e2e.Start(t, dir)
		id := server.Call("POST", "/v0/events", []byte(`{"event": "a.b", "payload": 1}`)).Must(202).Text("id")
		got := receiver.Event(t, id)
		mac := hmac.New(sha256.New, []byte("the secret of all rounds"))
		mac.Write(got.Body)
		if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); got.Header.Get("X-Clubmed-Signature") != want {
			t.Fatalf("round %d: got the signature %s, want %s", round, got.Header.Get("X-Clubmed-Signature"), want)
		}
		if err := server.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d rotations were killed, %d ended", killed, ended)
	if killed == 0 {
		t.Error("no rotation was killed in its middle")
	}
}
