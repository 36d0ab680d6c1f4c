package signature_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"postrider/signature"
)

func decodeHex(t *testing.T, text string) []byte {
	t.Helper()
	value, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func decodeBase64(t *testing.T, text string) []byte {
	t.Helper()
	value, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// FuzzVerifyHex wants every header refused for a stated reason, unless it is
// what the signer writes.
func FuzzVerifyHex(f *testing.F) {
	for _, vector := range readVectors[hexVectors](f, "hex.json").Verify {
		f.Add(vector.Secrets[0], vector.Value, vector.bytes())
	}
	f.Fuzz(func(t *testing.T, secret, value string, body []byte) {
		verifier, err := signature.NewVerifier(signature.Options{Secrets: []string{secret}})
		if err != nil {
			return
		}
		want := string(signature.NewSigner(secret).AppendHex(nil, body))
		checkFuzzed(t, verifier.VerifyHex(value, body), value == want)
		checkFuzzed(t, verifier.VerifyHex(want, body), true)
	})
}

// FuzzVerifyStandard wants headers judged as the official library judges them,
// except where this package is the stricter one.
func FuzzVerifyStandard(f *testing.F) {
	for _, vector := range readVectors[standardVectors](f, "standard.json").Verify {
		h := header(vector.Header)
		f.Add(h.Get("webhook-id"), h.Get("webhook-timestamp"), h.Get("webhook-signature"), vector.bytes(), vector.Now)
	}
	judge, err := standardwebhooks.NewWebhook(whsec)
	if err != nil {
		f.Fatal(err)
	}
	verifier := newVerifier(f, signature.Options{Secrets: []string{whsec}})
	signer := signature.NewSigner(whsec)
	f.Fuzz(func(t *testing.T, id, timestamp, list string, body []byte, seconds int64) {
		now := time.Unix(seconds, 0)
		h := http.Header{}
		h.Set(signature.HeaderID, id)
		h.Set(signature.HeaderTimestamp, timestamp)
		h.Set(signature.HeaderSignature, list)
		got := verifier.VerifyStandard(h, body, now)
		checkFuzzed(t, got, got == nil)
		judged := judge.VerifyIgnoringTimestamp(body, h)
		if got == nil && judged != nil {
			t.Errorf("got it accepted, the official library refuses it: %v", judged)
		}
		if errors.Is(got, signature.ErrNoMatch) && judged == nil && !hasSecondComma(list) {
			t.Error("got it refused, the official library accepts it")
		}

		// What the signer writes is accepted, wherever it stands in the list.
		at := time.Unix(max(seconds, 0)&(1<<40-1), 0)
		if id == "" || len(id) > signature.MaxID || strings.Contains(id, ".") {
			return
		}
		right := string(signer.AppendStandard(nil, id, at, body))
		checkFuzzed(t, verifier.VerifyStandard(standardHeader(id, at, right), body, at), true)
		if strings.Count(list, " ") < signature.MaxSignatures-1 {
			checkFuzzed(t, verifier.VerifyStandard(standardHeader(id, at, list+" "+right), body, at), true)
		}
	})
}

// hasSecondComma finds the entries of which the official library ignores what
// follows a second comma.
func hasSecondComma(list string) bool {
	for entry := range strings.SplitSeq(list, " ") {
		if strings.Count(entry, ",") > 1 {
			return true
		}
	}
	return false
}

func checkFuzzed(t *testing.T, got error, accepted bool) {
	t.Helper()
	if (got == nil) != accepted {
		t.Errorf("got %v, want accepted: %v", got, accepted)
	}
	if got == nil {
		return
	}
	for _, reason := range wants {
		if reason != nil && errors.Is(got, reason) {
			return
		}
	}
	t.Errorf("got %v, which states none of the reasons", got)
}

// FuzzParseKeys wants a key that is read to be written again as it was.
func FuzzParseKeys(f *testing.F) {
	for _, vector := range readVectors[standardVectors](f, "standard.json").Verify[:1] {
		f.Add(vector.PublicKeys[0])
	}
	for _, vector := range readVectors[standardVectors](f, "standard.json").Sign {
		f.Add(vector.PrivateKey)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if key, err := signature.ParsePublicKey(text); err == nil {
			checkSameKey(t, text, signature.FormatPublicKey(key))
		} else if !errors.Is(err, signature.ErrKey) {
			t.Errorf("got %v, want %v", err, signature.ErrKey)
		}
		if key, err := signature.ParsePrivateKey(text); err == nil {
			checkSameKey(t, text, signature.FormatPrivateKey(key))
		} else if !errors.Is(err, signature.ErrKey) {
			t.Errorf("got %v, want %v", err, signature.ErrKey)
		}
	})
}

// checkSameKey compares keys as bytes: base64 has several spellings of them.
func checkSameKey(t *testing.T, read, written string) {
	t.Helper()
	if read[:5] != written[:5] || !bytes.Equal(decodeBase64(t, read[5:]), decodeBase64(t, written[5:])) {
		t.Errorf("got %q, want the key that was read", written)
	}
}

// FuzzReceive wants every body refused for a stated reason, or its payload to be
// JSON that stands in it.
func FuzzReceive(f *testing.F) {
	for _, vector := range readVectors[[]requestVector](f, "request.json") {
		f.Add(header(vector.Header).Get("Content-Type"), vector.bytes())
	}
	receiver := newReceiver(f, signature.ReceiverOptions{Secrets: []string{whsec}})
	signer := signature.NewSigner(whsec)
	at := time.Unix(1614265330, 0)
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		h := standardHeader("id", at, string(signer.AppendStandard(nil, "id", at, body)))
		h.Set("Content-Type", contentType)
		got, err := receiver.Receive(h, body, at)
		switch {
		case errors.Is(err, signature.ErrPayload):
		case err != nil:
			t.Errorf("got %v, want the signature accepted", err)
		case !json.Valid(got.Payload):
			t.Errorf("got payload %q, want JSON", got.Payload)
		case !bytes.Equal(got.Payload, body):
			if form, err := url.ParseQuery(string(body)); err != nil || form.Get("payload") != string(got.Payload) {
				t.Errorf("got payload %q of %q, want the body or what its form holds", got.Payload, body)
			}
		}
	})
}
