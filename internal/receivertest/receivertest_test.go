package receivertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"postrider"
	"postrider/signature"
)

const (
	ownSecret = "clé secrète ☂"
	whsec     = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

// A subject is a receiver under test, and what it promises beyond the others.
type subject struct {
	program  Program
	secret   string
	standard bool   // it verifies the signature that covers the time
	unset    string // what it says without a secret
	anyID    bool   // it leaves the form of ids to its user
}

const unset = "WEBHOOK_SECRET is not set"

// TestReceivers sends the same messages to every receiver that the documentation
// has.
func TestReceivers(t *testing.T) {
	standard := StandardWebhooks(t)
	testReceivers(t, map[string]subject{
		"NodeExpress":                     {program: Node(t), secret: ownSecret, unset: unset},
		"Go":                              {program: Go(t), secret: ownSecret, unset: unset},
		"Python":                          {program: Python(t), secret: ownSecret, unset: unset},
		"PHP":                             {program: PHP(t), secret: ownSecret, unset: unset},
		"StandardWebhooks":                {program: standard, secret: whsec, unset: unset, standard: true},
		"StandardWebhooksWithATextSecret": {program: standard, secret: ownSecret, unset: unset, standard: true},
	})
}

func testReceivers(t *testing.T, subjects map[string]subject) {
	t.Helper()
	for name, s := range subjects {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Run("TakesNothingWithoutASecret", func(t *testing.T) { takesNothingWithoutASecret(t, s) })
			r := s.program.Start(t, s.secret)
			t.Run("RecordsWhatIsSigned", func(t *testing.T) { recordsWhatIsSigned(t, r, s.secret) })
			t.Run("RefusesTheRest", func(t *testing.T) { refusesTheRest(t, r, s.secret) })
			if !s.anyID {
				t.Run("RefusesOddIDs", func(t *testing.T) { refusesOddIDs(t, r, s.secret) })
			}
			t.Run("RecordsADeliveryOnce", func(t *testing.T) { recordsADeliveryOnce(t, r, s.secret) })
			if s.standard {
				t.Run("RefusesWhatWasSignedLongAgo", func(t *testing.T) { refusesWhatWasSignedLongAgo(t, r, s.secret) })
			}
		})
	}
}

// A message is one POST, made by hand as a sender makes it.
type message struct {
	header http.Header
	body   []byte
}

// sign makes a message whole. What is signed may be another thing than the body.
func sign(secret, delivery, contentType string, body, signed []byte) message {
	signer := signature.NewSigner(secret)
	now := time.Now()
	header := http.Header{}
	header.Set("Content-Type", contentType)
	header.Set("X-Clubmed-Event", "room_status.updated")
	header.Set("X-Clubmed-Delivery", delivery)
	header.Set("X-Clubmed-Signature", string(signer.AppendHex(nil, signed)))
	header.Set("webhook-id", delivery)
	header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	header.Set("webhook-signature", string(signer.AppendStandard(nil, delivery, now, signed)))
	return message{header, body}
}

func form(payload []byte) []byte {
	return []byte(url.Values{"payload": {string(payload)}}.Encode())
}

// A way is how a message travels. Pieces of 101 bytes end inside characters of
// two, three and four bytes.
type way struct {
	client *http.Client
	body   func([]byte) io.Reader
}

var ways = map[string]way{
	"whole": {
		client: &http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second},
		body:   func(b []byte) io.Reader { return bytes.NewReader(b) },
	},
	"in many TCP writes": {
		client: &http.Client{Transport: &http.Transport{DialContext: dialPieces}, Timeout: 30 * time.Second},
		body:   func(b []byte) io.Reader { return bytes.NewReader(b) },
	},
	"in many chunks": {
		client: &http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second},
		// A reader of unknown length is sent chunked, each read in a chunk.
		body: func(b []byte) io.Reader { return &pieceReader{b} },
	},
}

const piece = 101

type pieceReader struct{ rest []byte }

func (r *pieceReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.rest[:min(piece, len(r.rest))])
	r.rest = r.rest[n:]
	return n, nil
}

func dialPieces(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address) // a net.TCPConn sends each write at once
	return pieceConn{conn}, err
}

type pieceConn struct{ net.Conn }

func (c pieceConn) Write(p []byte) (written int, err error) {
	for len(p) > 0 && err == nil {
		var n int
		n, err = c.Conn.Write(p[:min(piece, len(p))])
		written += n
		p = p[n:]
	}
	return written, err
}

// post sends a message and returns the status of the answer.
func (w way) post(t *testing.T, target string, m message) (int, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, w.body(m.body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = m.header
	answer, err := w.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return 0, err
	}
	return answer.StatusCode, nil
}

func (w way) wantStatus(t *testing.T, target string, m message, want int) bool {
	t.Helper()
	got, err := w.post(t, target, m)
	if err != nil || got != want {
		t.Errorf("got status %d and error %v, want %d", got, err, want)
	}
	return !t.Failed()
}

// wantRecorded sends a payload and wants it to be the next that is recorded.
func (w way) wantRecorded(t *testing.T, r *Receiver, m message, payload []byte) {
	t.Helper()
	if w.wantStatus(t, r.URL, m, http.StatusNoContent) {
		wantEvent(t, r, m.header.Get("X-Clubmed-Delivery"), payload)
	}
}

func wantEvent(t *testing.T, r *Receiver, delivery string, payload []byte) {
	t.Helper()
	sum := sha256.Sum256(payload)
	want := Event{Type: "room_status.updated", Delivery: delivery, Bytes: len(payload), SHA256: hex.EncodeToString(sum[:])}
	if got := r.Next(t); got != want {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

// wantNothing sends one more event and wants it to be the next.
func wantNothing(t *testing.T, r *Receiver, secret string) {
	t.Helper()
	payload := []byte("1")
	m := sign(secret, postrider.NewID().String(), "application/json", payload, payload)
	ways["whole"].wantRecorded(t, r, m, payload)
}

// A receiver whose secret is not set would take what anyone signs with nothing.
// PHP's server cannot be kept from starting, so that one answers with an error.
func takesNothingWithoutASecret(t *testing.T, s subject) {
	t.Helper()
	if s.program.args[0] == "php" {
		r := s.program.Start(t, "")
		body := []byte("1")
		ways["whole"].wantStatus(t, r.URL, sign("another", "id", "application/json", body, body), http.StatusInternalServerError)
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	said, err := s.program.command(ctx, t, "").CombinedOutput()
	if err == nil || !strings.Contains(string(said), s.unset) {
		t.Errorf("got error %v and %q, want it to end and say %q", err, said, s.unset)
	}
}

func recordsWhatIsSigned(t *testing.T, r *Receiver, secret string) {
	t.Helper()
	payloads := map[string]string{
		"small":               `{"room":"1204","status":"ready"}`,
		"a number":            `12345678901234567890`,
		"marks of forms":      `{"sum":"1+1=2 & 100%25;","url":"https://example.com/?a=b&payload=c#d"}`,
		"white space kept":    "{ \"a\" : 1,\r\n\t\"a\" : 1.0 }",
		"beyond ASCII":        `{"resort":"Val d’Isère","note":"早安 🏝️","escaped":"\u00e9\ud83c\udfdd"}`,
		"half a surrogate":    `{"half":"\ud800","\u0000":1}`,
		"arrays in arrays":    strings.Repeat("[", 900) + strings.Repeat("]", 900),
		"300 kB beyond ASCII": `{"note":"` + strings.Repeat("é早🏝x", 30_000) + `"}`,
	}
	for wayName, way := range ways {
		for name, payload := range payloads {
			for contentType, body := range map[string][]byte{
				"application/json":                                 []byte(payload),
				"application/x-www-form-urlencoded":                form([]byte(payload)),
				"application/x-www-form-urlencoded; charset=utf-8": form([]byte(payload)),
			} {
				t.Run(name+", "+wayName+", "+contentType, func(t *testing.T) {
					m := sign(secret, postrider.NewID().String(), contentType, body, body)
					way.wantRecorded(t, r, m, []byte(payload))
				})
			}
		}
	}
}

func recordsADeliveryOnce(t *testing.T, r *Receiver, secret string) {
	t.Helper()
	delivery := postrider.NewID().String()
	payload := []byte(`{"room":"1204"}`)
	t.Run("sent eight times at once", func(t *testing.T) {
		var group sync.WaitGroup
		for range 8 {
			m := sign(secret, delivery, "application/json", payload, payload)
			group.Go(func() { ways["whole"].wantStatus(t, r.URL, m, http.StatusNoContent) })
		}
		group.Wait()
		wantEvent(t, r, delivery, payload)
		wantNothing(t, r, secret)
	})
	t.Run("sent again as a form", func(t *testing.T) {
		m := sign(secret, delivery, "application/x-www-form-urlencoded", form(payload), form(payload))
		ways["whole"].wantStatus(t, r.URL, m, http.StatusNoContent)
		wantNothing(t, r, secret)
	})
}

func refusesTheRest(t *testing.T, r *Receiver, secret string) {
	t.Helper()
	const jsonType, formType = "application/json", "application/x-www-form-urlencoded"
	payload := []byte(`{"room":"1204"}`)
	resigned := func(secret, id string, change func(string) string) message {
		m := sign(secret, id, jsonType, payload, payload)
		for _, name := range []string{"X-Clubmed-Signature", "webhook-signature"} {
			m.header.Set(name, change(m.header.Get(name)))
		}
		return m
	}
	cases := map[string]struct {
		message func(secret, id string) message
		want    int
	}{
		"no signature": {func(secret, id string) message {
			m := sign(secret, id, jsonType, payload, payload)
			m.header.Del("X-Clubmed-Signature")
			m.header.Del("webhook-signature")
			return m
		}, http.StatusUnauthorized},
		"an empty signature": {func(secret, id string) message {
			return resigned(secret, id, func(string) string { return "" })
		}, http.StatusUnauthorized},
		"a cut signature": {func(secret, id string) message {
			return resigned(secret, id, func(s string) string { return s[:len(s)-4] })
		}, http.StatusUnauthorized},
		"a signature with more behind it": {func(secret, id string) message {
			return resigned(secret, id, func(s string) string { return s + "00" })
		}, http.StatusUnauthorized},
		"a signature beyond ASCII": {func(secret, id string) message {
			return resigned(secret, id, func(s string) string { return s[:len(s)-2] + "é" })
		}, http.StatusUnauthorized},
		"the prefix alone": {func(secret, id string) message {
			return resigned(secret, id, func(s string) string { return s[:strings.IndexAny(s, "=,")+1] })
		}, http.StatusUnauthorized},
		"another secret": {func(secret, id string) message {
			return sign(secret+"x", id, jsonType, payload, payload)
		}, http.StatusUnauthorized},
		"another body": {func(secret, id string) message {
			return sign(secret, id, jsonType, []byte(`{"room":"1205"}`), payload)
		}, http.StatusUnauthorized},
		"a body with a byte more": {func(secret, id string) message {
			return sign(secret, id, jsonType, append(bytes.Clone(payload), ' '), payload)
		}, http.StatusUnauthorized},
		"a form of which the payload alone is signed": {func(secret, id string) message {
			return sign(secret, id, formType, form(payload), payload)
		}, http.StatusUnauthorized},
		"an empty body": {func(secret, id string) message {
			return sign(secret, id, jsonType, nil, payload)
		}, http.StatusUnauthorized},
		"an empty body, signed": {func(secret, id string) message {
			return sign(secret, id, jsonType, nil, nil)
		}, http.StatusBadRequest},
		"no JSON": {func(secret, id string) message {
			return sign(secret, id, jsonType, []byte(`{"room":`), []byte(`{"room":`))
		}, http.StatusBadRequest},
		"a form without payload": {func(secret, id string) message {
			return sign(secret, id, formType, []byte("load=1"), []byte("load=1"))
		}, http.StatusBadRequest},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			ways["whole"].wantStatus(t, r.URL, c.message(secret, postrider.NewID().String()), c.want)
			wantNothing(t, r, secret)
		})
	}
	t.Run("another path", func(t *testing.T) {
		m := sign(secret, postrider.NewID().String(), jsonType, payload, payload)
		ways["whole"].wantStatus(t, strings.TrimSuffix(r.URL, "callback"), m, http.StatusNotFound)
		wantNothing(t, r, secret)
	})
	for _, wayName := range []string{"whole", "in many chunks"} {
		t.Run("a body over 4 MiB, "+wayName, func(t *testing.T) {
			huge := []byte(`"` + strings.Repeat("x", 4<<20) + `"`)
			m := sign(secret, postrider.NewID().String(), jsonType, huge, huge)
			// A receiver that answers before it has read all may cut the sender short.
			if got, err := ways[wayName].post(t, r.URL, m); err == nil && got != http.StatusRequestEntityTooLarge {
				t.Errorf("got status %d, want %d or a cut connection", got, http.StatusRequestEntityTooLarge)
			}
			wantNothing(t, r, secret)
		})
	}
}

func refusesOddIDs(t *testing.T, r *Receiver, secret string) {
	t.Helper()
	payload := []byte(`{"room":"1204"}`)
	for name, id := range map[string]string{"no id": "a b", "an endless id": strings.Repeat("a", 65)} {
		t.Run(name, func(t *testing.T) {
			ways["whole"].wantStatus(t, r.URL, sign(secret, id, "application/json", payload, payload), http.StatusBadRequest)
			wantNothing(t, r, secret)
		})
	}
}

func refusesWhatWasSignedLongAgo(t *testing.T, r *Receiver, secret string) {
	t.Helper()
	for _, age := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		body := []byte("1")
		at := time.Now().Add(-age)
		m := sign(secret, "id", "application/json", body, body)
		m.header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
		m.header.Set("webhook-signature", string(signature.NewSigner(secret).AppendStandard(nil, "id", at, body)))
		ways["whole"].wantStatus(t, r.URL, m, http.StatusUnauthorized)
		wantNothing(t, r, secret)
	}
}
