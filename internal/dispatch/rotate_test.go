package dispatch_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postrider"
	"postrider/internal/dispatch"
	"postrider/internal/testkit"
	"postrider/signature"
)

// wantSigned fails unless a request is signed with exactly these secrets, the
// newest first.
func wantSigned(t *testing.T, r testkit.Received, secrets ...string) {
	t.Helper()
	value := func(name string) string { return strings.Join(r.Header.Map()[name], "|") }
	entries := strings.Split(value("webhook-signature"), " ")
	if len(entries) != len(secrets) {
		t.Fatalf("got %d signatures, want %d", len(entries), len(secrets))
	}
	for i, secret := range secrets {
		verifier, err := signature.NewVerifier(signature.Options{Secrets: []string{secret}})
		if err != nil {
			t.Fatal(err)
		}
		header := http.Header{}
		header.Set("webhook-id", value("webhook-id"))
		header.Set("webhook-timestamp", value("webhook-timestamp"))
		for _, list := range []string{value("webhook-signature"), entries[i]} {
			header.Set("webhook-signature", list)
			if err := verifier.VerifyStandard(header, r.Body, r.At); err != nil {
				t.Errorf("secret %d: got %v for %q, want it verified", i, err, list)
			}
		}
		if i < 2 {
			name := []string{"X-Clubmed-Signature", "X-Clubmed-Signature-Previous"}[i]
			if err := verifier.VerifyHex(value(name), r.Body); err != nil {
				t.Errorf("secret %d: got %v for %s %q, want it verified", i, err, name, value(name))
			}
		}
	}
	if old, found := r.Header.Map()["X-Clubmed-Signature-Previous"]; found != (len(secrets) > 1) {
		t.Errorf("got the previous signature %q with %d secrets", old, len(secrets))
	}
}

// rotate is what POST …/rotate_secret does.
func rotate(to postrider.Secret, grace time.Duration) func(*postrider.Webhook) {
	return func(w *postrider.Webhook) { w.Rotate(to, grace, time.Now().UTC().Truncate(time.Microsecond)) }
}

// Nothing changes of the webhook while the old secret expires.
func TestRotate_BothSecretsSignUntilTheGraceIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		h := testkit.NewHouse(t, dir, unswept(dispatch.Options{}))
		w := h.Webhook("http://one.test/", func(w *postrider.Webhook) { w.Secret = "the old secret" })
		testkit.Advance(time.Second)
		next := func() testkit.Received {
			t.Helper()
			h.Publish(1)
			testkit.Advance(time.Millisecond)
			all := h.To(w.URL)
			return all[len(all)-1]
		}
		wantSigned(t, next(), "the old secret")
		h.Update(w, rotate("the new secret", time.Hour))
		end := time.Now().Add(time.Hour)
		wantSigned(t, next(), "the new secret", "the old secret")
		h.Update(w, func(w *postrider.Webhook) { w.Description = "an edit that has nothing to do with it" })
		testkit.Advance(time.Until(end) - time.Second)
		wantSigned(t, next(), "the new secret", "the old secret")
		testkit.Advance(time.Until(end))
		wantSigned(t, next(), "the new secret")

		h.Update(w, rotate("a third secret", 3*time.Hour))
		h.Update(w, rotate("whsec_Zm91cnRoIHNlY3JldA==", 2*time.Hour))
		h.Stop()
		h = testkit.NewHouse(t, dir, unswept(dispatch.Options{}))
		wantSigned(t, next(), "whsec_Zm91cnRoIHNlY3JldA==", "a third secret", "the new secret")
		h.Update(w, rotate("one to be safe with", 0))
		wantSigned(t, next(), "one to be safe with")
	})
}

// A retry is signed with the secrets of its own time.
func TestRotate_RetriesAreSignedWithTheSecretsOfNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{RetrySchedule: []time.Duration{time.Hour, 24 * time.Hour}}))
		w := h.Webhook("http://one.test/", func(w *postrider.Webhook) { w.Secret = "the old secret" })
		testkit.Advance(time.Second)
		h.Script(testkit.Status(http.StatusInternalServerError))
		h.Publish(1)
		testkit.Advance(time.Second)
		h.Update(w, rotate("the new secret", 3*time.Hour))
		testkit.Advance(100 * time.Hour)
		attempts := h.To(w.URL)
		if len(attempts) != 3 {
			t.Fatalf("got %d attempts, want 3", len(attempts))
		}
		wantSigned(t, attempts[0], "the old secret")
		wantSigned(t, attempts[1], "the new secret", "the old secret")
		wantSigned(t, attempts[2], "the new secret")
	})
}

func TestRotate_ASecretThatIsReplacedSignsNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testkit.NewHouse(t, t.TempDir(), unswept(dispatch.Options{}))
		w := h.Webhook("http://one.test/", func(w *postrider.Webhook) { w.Secret = "the old secret" })
		h.Update(w, rotate("the new secret", time.Hour))
		h.Update(w, func(w *postrider.Webhook) { w.Secret = "put in its place" })
		h.Publish(1)
		testkit.Advance(time.Second)
		wantSigned(t, h.To(w.URL)[0], "put in its place")
		h.Update(w, rotate("the next secret", time.Hour))
		h.Update(w, func(w *postrider.Webhook) { w.Secret = "" })
		h.Publish(1)
		testkit.Advance(time.Second)
		for _, field := range h.To(w.URL)[1].Header {
			if strings.Contains(strings.ToLower(field.Name), "signature") {
				t.Errorf("got the header %s without a secret", field.Name)
			}
		}
	})
}
