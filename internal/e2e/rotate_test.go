package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"postrider/internal/e2e"
	"postrider/signature"
)

// verifies reports whether each of the two families accepts a delivery under a
// secret: by the official library and by ours.
func verifies(t *testing.T, got e2e.Received, secret string) bool {
	t.Helper()
	judge, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := signature.NewVerifier(signature.Options{Secrets: []string{secret}})
	if err != nil {
		t.Fatal(err)
	}
	official := judge.Verify(got.Body, got.Header) == nil
	if ours := verifier.VerifyStandard(got.Header, got.Body, time.Now()) == nil; ours != official {
		t.Fatalf("the official library says %v, ours %v", official, ours)
	}
	hex := verifier.VerifyHex(got.Header.Get("X-Clubmed-Signature"), got.Body) == nil ||
		verifier.VerifyHex(got.Header.Get("X-Clubmed-Signature-Previous"), got.Body) == nil
	if hex != official {
		t.Fatalf("Standard Webhooks says %v, the hexadecimal headers %v", official, hex)
	}
	return official
}

// A receiver may change its secret at any moment of the grace: until then it
// verifies with the old one, from then on with the new one.
func TestRotate_ReceiversVerifyUnderBothSecretsDuringTheGrace(t *testing.T) {
	dir := t.TempDir()
	operator := e2e.Start(t, dir)
	api, receiver := partner(operator), e2e.Listen(t)
	id := api.Call(http.MethodPost, "/v0/api_webhooks", fmt.Appendf(nil, `{"url": %q, "secret": %q, "events": ["*"]}`,
		receiver.URL, secret)).Must(http.StatusCreated).Text("id")
	deliver := func() e2e.Received {
		t.Helper()
		event := operator.Call(http.MethodPost, "/v0/events", []byte(`{"event": "room_status.updated", "payload": {"é": 1.0}}`))
		return receiver.Event(t, event.Must(http.StatusAccepted).Text("id"))
	}
	rotate := func(body string) (secret, expires string) {
		t.Helper()
		answer := api.Call(http.MethodPost, "/v0/api_webhooks/"+id+"/rotate_secret", []byte(body)).Must(http.StatusOK)
		if shown := api.Call(http.MethodGet, "/v0/api_webhooks/"+id, nil).Must(http.StatusOK); bytes.Contains(shown.Body, []byte("whsec_")) ||
			shown.Text("previous_secret_expires_at") != answer.Text("previous_secret_expires_at") {
			t.Errorf("got shown %s after %s", shown.Body, answer.Body)
		}
		return answer.Text("secret"), answer.Text("previous_secret_expires_at")
	}
	if got := deliver(); !verifies(t, got, secret) {
		t.Error("the first secret does not verify")
	}
	second, expires := rotate(`{}`)
	if at, err := time.Parse(time.RFC3339, expires); err != nil || time.Until(at) < 23*time.Hour || time.Until(at) > 24*time.Hour {
		t.Errorf("got the expiry %q, want a day from now", expires)
	}
	if got := deliver(); !verifies(t, got, secret) || !verifies(t, got, second) {
		t.Error("one of two secrets does not verify during the grace")
	}
	if err := operator.Stop(); err != nil {
		t.Fatalf("the server stopped with %v\n%s", err, operator.Log())
	}
	restarted := e2e.Start(t, dir)
	api, operator = restarted.As(api.Key), restarted
	if got := deliver(); !verifies(t, got, secret) || !verifies(t, got, second) {
		t.Error("one of two secrets does not verify after a restart")
	}

	third, _ := rotate(`{"grace_seconds": 0, "secret": "whsec_b25lIG9mIG91ciBvd24="}`)
	got := deliver()
	if verifies(t, got, secret) || verifies(t, got, second) || !verifies(t, got, third) {
		t.Error("without a grace more than the new secret verifies")
	}
	if old := got.Header.Get("X-Clubmed-Signature-Previous"); old != "" {
		t.Errorf("got the previous signature %q, want none", old)
	}
	fourth, _ := rotate(`{"grace_seconds": 604800}`)
	wantSealed(t, operator.Storage(), secret, second, third, fourth)
	if err := operator.Stop(); err != nil {
		t.Fatalf("the server stopped with %v\n%s", err, operator.Log())
	}
	wantSealed(t, operator.Storage(), secret, second, third, fourth)
	for _, secret := range []string{secret, second, third, fourth} {
		if bytes.Contains([]byte(operator.Log()), []byte(secret)) {
			t.Error("the log holds a secret")
		}
	}
}

// wantSealed fails when a file of the store holds one of the texts.
func wantSealed(t *testing.T, dir string, texts ...string) {
	t.Helper()
	read := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a database goes on working
		}
		read += len(content)
		for i, text := range texts {
			if bytes.Contains(content, []byte(text)) {
				t.Errorf("%s holds the secret %d as it is", entry.Name(), i)
			}
		}
		return err
	})
	if err != nil || read < 10_000 {
		t.Fatalf("got %d bytes of the store, %v", read, err)
	}
}
