// Package sink is a receiver to look at: it answers deliveries as it is told,
// checks their signatures, and prints a line for each.
//
// It knows HTTP requests, signatures and terminals. It must not know stores,
// nor how deliveries come to be. `postrider sink` runs it as a command,
// `postrider serve --dev` as its built-in receiver.
package sink

import (
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"postrider"
	"postrider/signature"
)

// DefaultListen is where the documentation tells partners to listen.
const DefaultListen = "127.0.0.1:4567"

// Options say how a Sink answers and prints. The zero value answers 204 and
// prints nothing.
type Options struct {
	// Secrets are those that deliveries may be signed with, as they are now;
	// nil, or none: signatures are not checked.
	Secrets func() []string
	Status  int           // of the answer; 0: 204
	Delay   time.Duration // before the answer
	Fail    float64       // the fraction that is answered 500, 0 to 1
	Brand   string        // in the names of headers; empty: Clubmed
	Out     io.Writer     // for the lines; nil: none
	Color   bool          // the terminal behind Out shows ANSI colours
	JSON    bool          // each line is a JSON object
	Quiet   bool          // no lines
}

// maxBody is how much of a request is read. Payloads are at most 1 MiB unless
// the server was told otherwise, and a form is three times as long.
const maxBody = 10 << 20

// A Sink is the receiver, an http.Handler.
type Sink struct {
	options Options
	headers headerNames

	verifying sync.Mutex
	secrets   []string // that verifier was made for
	verifier  *signature.Verifier
	unusable  error // why it could not be made

	printing sync.Mutex
	count    counter
}

type headerNames struct{ event, delivery, hookID, attempt, signature string }

// New makes a sink. It starts nothing.
func New(options Options) *Sink {
	if options.Status == 0 {
		options.Status = http.StatusNoContent
	}
	if options.Brand == "" {
		options.Brand = "Clubmed"
	}
	if options.Out == nil {
		options.Out, options.Quiet = io.Discard, true
	}
	prefix := "X-" + options.Brand + "-"
	return &Sink{options: options, headers: headerNames{
		event: prefix + "Event", delivery: prefix + "Delivery", hookID: prefix + "Hook-ID",
		attempt: prefix + "Attempt", signature: prefix + "Signature",
	}}
}

// Counts are what has come so far.
func (s *Sink) Counts() Counts { return s.count.now() }

func (s *Sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "This is a receiver of webhooks: it takes POST.", http.StatusMethodNotAllowed)
		return
	}
	arrived := time.Now()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	d := s.read(r, body, arrived)
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		d.Status, d.verdict = http.StatusRequestEntityTooLarge, unread
	case err != nil:
		return // the sender is gone
	default:
		d.verdict, d.Reason = s.verify(r.Header, body, arrived)
		d.Status = s.answer(d.verdict)
	}
	s.count.add(d)
	s.print(d)
	s.pause(r)
	w.WriteHeader(d.Status)
}

// answer is the status of the answer. What is not signed as it should be is
// refused, as every receiver has to.
func (s *Sink) answer(v verdict) int {
	switch {
	case v == wrong || v == stripped:
		return http.StatusUnauthorized
	case s.options.Fail > 0 && rand.Float64() < s.options.Fail: //nolint:gosec // no secret: which answers fail
		return http.StatusInternalServerError
	}
	return s.options.Status
}

// pause is the delay before the answer. When the sink ends meanwhile, the
// connection is broken off: an answer now would be one that nobody asked for.
func (s *Sink) pause(r *http.Request) {
	if s.options.Delay <= 0 {
		return
	}
	timer := time.NewTimer(s.options.Delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

// A verdict is what the sink thinks of a signature.
type verdict string

const (
	verified  verdict = "ok"
	wrong     verdict = "wrong"
	stripped  verdict = "missing"   // a secret is known, and there is no signature
	unchecked verdict = "unchecked" // there is one, and no secret to check it with
	unsigned  verdict = "unsigned"
	unread    verdict = "unread" // too large
)

// verify checks both families: Postrider always sends both, and a receiver
// that sees one of them only has lost the other on the way.
func (s *Sink) verify(header http.Header, body []byte, now time.Time) (v verdict, reason string) {
	verifier, err := s.current()
	hex := header.Get(s.headers.signature)
	signed := hex != "" || header.Get(signature.HeaderSignature) != ""
	switch {
	case err != nil:
		return wrong, err.Error()
	case verifier == nil && signed:
		return unchecked, ""
	case verifier == nil:
		return unsigned, ""
	case !signed:
		return stripped, "a secret is known, and the delivery has no signature"
	}
	if err := verifier.VerifyHex(hex, body); err != nil {
		return wrong, s.headers.signature + ": " + plain(err)
	}
	if err := verifier.VerifyStandard(header, body, now); err != nil {
		return wrong, signature.HeaderSignature + ": " + plain(err)
	}
	return verified, ""
}

func plain(err error) string { return strings.TrimPrefix(err.Error(), "signature: ") }

// current is the verifier of the secrets as they are now; nil without any.
func (s *Sink) current() (*signature.Verifier, error) {
	if s.options.Secrets == nil {
		return nil, nil
	}
	secrets := s.options.Secrets()
	if len(secrets) == 0 {
		return nil, nil
	}
	s.verifying.Lock()
	defer s.verifying.Unlock()
	if !slices.Equal(secrets, s.secrets) {
		s.secrets = slices.Clone(secrets)
		s.verifier, s.unusable = signature.NewVerifier(signature.Options{Secrets: secrets})
	}
	return s.verifier, s.unusable
}

// A delivery is one request as it is printed. Its texts are the sender's.
type delivery struct {
	At          time.Time
	Event       string
	ID          string
	WebhookID   string
	Attempt     string
	ContentType string
	Bytes       int
	Payload     string
	Age         time.Duration // since the event was accepted; negative: not known
	Status      int           // of the answer
	Reason      string        // why the signature is not right

	verdict verdict
}

func (s *Sink) read(r *http.Request, body []byte, arrived time.Time) delivery {
	d := delivery{
		At: arrived, Event: r.Header.Get(s.headers.event), ID: r.Header.Get(s.headers.delivery),
		WebhookID: r.Header.Get(s.headers.hookID), Attempt: r.Header.Get(s.headers.attempt),
		ContentType: r.Header.Get("Content-Type"), Bytes: len(body), Payload: string(body), Age: -1,
	}
	if d.ID == "" {
		d.ID = r.Header.Get(signature.HeaderID)
	}
	if strings.HasPrefix(d.ContentType, string(postrider.Form)) {
		if form, err := url.ParseQuery(d.Payload); err == nil {
			d.Payload = form.Get("payload")
		}
	}
	if accepted, ok := acceptedAt(d.ID); ok {
		d.Age = max(0, arrived.Sub(accepted))
	}
	return d
}

// acceptedAt reads the time out of an event id that Postrider made: a UUID of
// version 7 begins with its milliseconds.
func acceptedAt(eventID string) (time.Time, bool) {
	id, err := postrider.ParseID(eventID)
	if err != nil || id[6]>>4 != 7 {
		return time.Time{}, false
	}
	var milliseconds int64
	for _, b := range id[:6] {
		milliseconds = milliseconds<<8 | int64(b)
	}
	return time.UnixMilli(milliseconds), true
}
