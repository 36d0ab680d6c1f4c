package signature_test

import (
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"postrider/signature"
)

// The official library judges what this package signs, and the other way round.
// It knows v1 only, and reads the clock itself.

var judgedBodies = map[string]string{
	"empty":        "",
	"JSON":         `{"test": 2432232314}`,
	"beyond ASCII": `{"note":"早安 🏝️"}`,
	"a form":       "payload=%7B%22a%22%3A1%7D",
	"no UTF-8":     "\xff\x00",
}

// judges are the official library's view of the secrets: it decodes one unless
// told that it is raw.
func judges(t *testing.T) map[string]*standardwebhooks.Webhook {
	t.Helper()
	decoded, err := standardwebhooks.NewWebhook(whsec)
	if err != nil {
		t.Fatal(err)
	}
	const text = "correct horse battery staple"
	raw, err := standardwebhooks.NewWebhookRaw([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*standardwebhooks.Webhook{whsec: decoded, text: raw}
}

func TestOfficialLibrary_AcceptsWhatWeSign(t *testing.T) {
	for secret, judge := range judges(t) {
		for name, body := range judgedBodies {
			now := time.Now()
			entry := signature.NewSigner(secret).AppendStandard(nil, "msg_1", now, []byte(body))
			if err := judge.Verify([]byte(body), standardHeader("msg_1", now, string(entry))); err != nil {
				t.Errorf("secret %s, body %s: got %v, want it accepted", secret, name, err)
			}
			// During a rotation.
			list := signature.NewSigner("another secret").AppendStandard(nil, "msg_1", now, []byte(body))
			list = signature.NewSigner(secret).AppendStandard(append(list, ' '), "msg_1", now, []byte(body))
			if err := judge.Verify([]byte(body), standardHeader("msg_1", now, string(list))); err != nil {
				t.Errorf("secret %s, body %s, two signatures: got %v, want it accepted", secret, name, err)
			}
			if judge.Verify([]byte(body+" "), standardHeader("msg_1", now, string(entry))) == nil {
				t.Errorf("secret %s, body %s changed: got it accepted, want it refused", secret, name)
			}
		}
	}
}

func TestVerifier_AcceptsWhatTheOfficialLibrarySigns(t *testing.T) {
	for secret, judge := range judges(t) {
		verifier := newVerifier(t, signature.Options{Secrets: []string{secret}})
		for name, body := range judgedBodies {
			now := time.Now()
			entry, err := judge.Sign("msg_1", now, []byte(body))
			if err != nil {
				t.Fatal(err)
			}
			if err := verifier.VerifyStandard(standardHeader("msg_1", now, entry), []byte(body), now); err != nil {
				t.Errorf("secret %s, body %s: got %v, want it accepted", secret, name, err)
			}
		}
	}
}
