package signature_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"reflect"
	"testing"
	"time"

	"postrider/signature"
)

// The vectors are made by testdata/make.mjs with Node's crypto.

type hexVectors struct {
	Sign []struct {
		Name, Secret, Value string
		vectorBody
	}
	Verify []struct {
		Name, Value, Want string
		Secrets           []string
		vectorBody
	}
}

type standardVectors struct {
	Sign []struct {
		Name, Secret, ID, Entry string
		PrivateKey              string `json:"private_key"`
		Timestamp               int64
		vectorBody
	}
	Verify []struct {
		Name, Want       string
		Secrets          []string
		PublicKeys       []string            `json:"public_keys"`
		Header           map[string][]string // names as in the specification
		Now              int64
		ToleranceSeconds int64 `json:"tolerance_seconds"`
		vectorBody
	}
}

type requestVector struct {
	Name, Want       string
	Secrets          []string
	PublicKeys       []string            `json:"public_keys"`
	AcceptHex        bool                `json:"accept_hex"`
	Brand            string              // empty is the default
	Header           map[string][]string // names as in the documentation
	Now              int64
	ToleranceSeconds int64 `json:"tolerance_seconds"`
	Delivery         struct {
		ID, Event, Payload string
		WebhookID          string `json:"webhook_id"`
		Attempt            int
	}
	vectorBody
}

func (v requestVector) options() signature.ReceiverOptions {
	return signature.ReceiverOptions{
		Secrets: v.Secrets, PublicKeys: v.PublicKeys, AcceptHex: v.AcceptHex, Brand: v.Brand,
		Tolerance: time.Duration(v.ToleranceSeconds) * time.Second,
	}
}

// vectorBody is text, or base64 where it is no UTF-8.
type vectorBody struct {
	Body       string
	BodyBase64 []byte `json:"body_base64"`
}

func (b vectorBody) bytes() []byte {
	if b.BodyBase64 != nil {
		return b.BodyBase64
	}
	return []byte(b.Body)
}

func readVectors[T any](tb testing.TB, name string) (vectors T) {
	tb.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		tb.Fatal(err)
	}
	return vectors
}

// wants are the words for errors that the vectors use.
var wants = map[string]error{
	"ok":            nil,
	"missing":       signature.ErrMissing,
	"malformed":     signature.ErrMalformed,
	"bad timestamp": signature.ErrTimestamp,
	"too old":       signature.ErrTooOld,
	"too new":       signature.ErrTooNew,
	"no match":      signature.ErrNoMatch,
	"no payload":    signature.ErrPayload,
}

func checkWant(t *testing.T, got error, want string) {
	t.Helper()
	wanted, known := wants[want]
	if !known {
		t.Fatalf("the vector wants %q, which is no word of these tests", want)
	}
	if !errors.Is(got, wanted) {
		t.Errorf("got %v, want %v", got, wanted)
	}
}

func newVerifier(tb testing.TB, options signature.Options) *signature.Verifier {
	tb.Helper()
	verifier, err := signature.NewVerifier(options)
	if err != nil {
		tb.Fatal(err)
	}
	return verifier
}

func newReceiver(tb testing.TB, options signature.ReceiverOptions) *signature.Receiver {
	tb.Helper()
	receiver, err := signature.NewReceiver(options)
	if err != nil {
		tb.Fatal(err)
	}
	return receiver
}

// header canonicalises names, as net/http does with those it receives.
func header(names map[string][]string) http.Header {
	h := http.Header{}
	for name, values := range names {
		for _, value := range values {
			h.Add(name, value)
		}
	}
	return h
}

func TestSigner_SignsTheHexVectors(t *testing.T) {
	for _, vector := range readVectors[hexVectors](t, "hex.json").Sign {
		t.Run(vector.Name, func(t *testing.T) {
			got := string(signature.NewSigner(vector.Secret).AppendHex(nil, vector.bytes()))
			if got != vector.Value {
				t.Errorf("got %s, want %s", got, vector.Value)
			}
			verifier := newVerifier(t, signature.Options{Secrets: []string{vector.Secret}})
			if err := verifier.VerifyHex(vector.Value, vector.bytes()); err != nil {
				t.Errorf("got %v, want the signature accepted", err)
			}
		})
	}
}

func TestVerifier_JudgesTheHexVectors(t *testing.T) {
	for _, vector := range readVectors[hexVectors](t, "hex.json").Verify {
		t.Run(vector.Name, func(t *testing.T) {
			verifier := newVerifier(t, signature.Options{Secrets: vector.Secrets})
			checkWant(t, verifier.VerifyHex(vector.Value, vector.bytes()), vector.Want)
		})
	}
}

func TestSigner_SignsTheStandardVectors(t *testing.T) {
	for _, vector := range readVectors[standardVectors](t, "standard.json").Sign {
		t.Run(vector.Name, func(t *testing.T) {
			at := time.Unix(vector.Timestamp, 0)
			var got []byte
			var options signature.Options
			if vector.PrivateKey != "" {
				key, err := signature.ParsePrivateKey(vector.PrivateKey)
				if err != nil {
					t.Fatal(err)
				}
				got = signature.AppendAsymmetric(nil, key, vector.ID, at, vector.bytes())
				options.PublicKeys = []string{publicText(key)}
			} else {
				got = signature.NewSigner(vector.Secret).AppendStandard(nil, vector.ID, at, vector.bytes())
				options.Secrets = []string{vector.Secret}
			}
			if string(got) != vector.Entry {
				t.Errorf("got %s, want %s", got, vector.Entry)
			}
			h := standardHeader(vector.ID, at, vector.Entry)
			if err := newVerifier(t, options).VerifyStandard(h, vector.bytes(), at); err != nil {
				t.Errorf("got %v, want the signature accepted", err)
			}
		})
	}
}

func TestVerifier_JudgesTheStandardVectors(t *testing.T) {
	for _, vector := range readVectors[standardVectors](t, "standard.json").Verify {
		t.Run(vector.Name, func(t *testing.T) {
			verifier := newVerifier(t, signature.Options{
				Secrets: vector.Secrets, PublicKeys: vector.PublicKeys,
				Tolerance: time.Duration(vector.ToleranceSeconds) * time.Second,
			})
			got := verifier.VerifyStandard(header(vector.Header), vector.bytes(), time.Unix(vector.Now, 0))
			checkWant(t, got, vector.Want)
		})
	}
}

func TestReceiver_JudgesTheRequestVectors(t *testing.T) {
	for _, vector := range readVectors[[]requestVector](t, "request.json") {
		t.Run(vector.Name, func(t *testing.T) {
			receiver := newReceiver(t, vector.options())
			got, err := receiver.Receive(header(vector.Header), vector.bytes(), time.Unix(vector.Now, 0))
			checkWant(t, err, vector.Want)
			want := signature.Delivery{
				ID: vector.Delivery.ID, Event: vector.Delivery.Event, WebhookID: vector.Delivery.WebhookID,
				Attempt: vector.Delivery.Attempt,
			}
			if vector.Want == "ok" {
				want.Payload = []byte(vector.Delivery.Payload)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}
