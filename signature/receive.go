package signature

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// ErrPayload says that a request which is signed as it should be has no JSON in
// its body, or in the field payload of its form.
var ErrPayload = errors.New("signature: no JSON payload in the body")

// DefaultMaxBody is how many bytes of body a Receiver reads. A form is up to
// three times as long as the payload in it.
const DefaultMaxBody = 4 << 20

// ReceiverOptions say whom a Receiver trusts and what it does beside. At least
// one secret or public key must be given.
type ReceiverOptions struct {
	// Secrets in their text as the partner sees it. During a rotation there are
	// two: the new one may be added before it is in use, and the old one taken
	// away when it no longer is.
	Secrets []string
	// PublicKeys for v1a, each whpk_ and base64.
	PublicKeys []string
	// Tolerance of timestamps; 0 means DefaultTolerance.
	Tolerance time.Duration
	// AcceptHex also takes a request that has no header of Standard Webhooks, by
	// its hex signature. Whoever got hold of one request can make such a one of
	// it, and send it at any time and under any delivery id: the hex family signs
	// neither. Postrider's own requests never need it.
	AcceptHex bool
	// Brand is the word in the names of the sender's headers, X-Brand-Event and
	// so on; empty means Clubmed.
	Brand string
	// MaxBody is how many bytes of body are read; 0 means DefaultMaxBody.
	MaxBody int64
	// Remember is how many deliveries Middleware remembers, to answer those that
	// come again without handing them on; 0 means none. They are kept in memory:
	// where there is a database, a unique index over the id is better, since it
	// outlives a restart and counts for all processes.
	Remember int
	// Refused, when set, is told why Middleware did not hand on a request. It may
	// be called by many goroutines.
	Refused func(*http.Request, error)
}

// A Receiver takes the deliveries of a sender. It may be used by many
// goroutines.
type Receiver struct {
	verifier  *Verifier
	acceptHex bool
	maxBody   int64
	refused   func(*http.Request, error)
	seen      *seen // nil when nothing is remembered

	event, delivery, webhook, attempt, signature, previous string // names of headers
}

// NewReceiver makes a receiver. Its errors wrap ErrKey when it would trust
// nobody, or anybody; see NewVerifier.
func NewReceiver(options ReceiverOptions) (*Receiver, error) {
	verifier, err := NewVerifier(Options{
		Secrets: options.Secrets, PublicKeys: options.PublicKeys, Tolerance: options.Tolerance,
	})
	if err != nil {
		return nil, err
	}
	if options.AcceptHex && len(options.Secrets) == 0 {
		return nil, fmt.Errorf("%w: the hex family needs a secret", ErrKey)
	}
	if options.MaxBody < 0 || options.Remember < 0 {
		return nil, errors.New("signature: a limit is below zero")
	}
	brand := cmp.Or(options.Brand, "Clubmed")
	if strings.Trim(brand, brandLetters) != "" {
		return nil, fmt.Errorf("signature: %q cannot stand in the name of a header", brand)
	}
	rc := &Receiver{
		verifier: verifier, acceptHex: options.AcceptHex, refused: options.Refused,
		maxBody: cmp.Or(options.MaxBody, DefaultMaxBody),
		event:   "X-" + brand + "-Event", delivery: "X-" + brand + "-Delivery", webhook: "X-" + brand + "-Hook-ID",
		attempt: "X-" + brand + "-Attempt", signature: "X-" + brand + "-Signature",
		previous: "X-" + brand + "-Signature-Previous",
	}
	if options.Remember > 0 {
		rc.seen = newSeen(options.Remember)
	}
	return rc, nil
}

const brandLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-"

// A Delivery is what a request brings. Payload is signed; ID is, unless the
// request was taken by its hex signature; the rest is what the sender's headers
// say, as trustworthy as the connection.
type Delivery struct {
	// ID is the same however often the event is sent: drop what has come before.
	ID string
	// Event is the event type, such as room_status.updated; ping for pings.
	Event string
	// WebhookID is the id of the webhook that it was sent for.
	WebhookID string
	// Attempt counts from 1, and is 0 when the request does not say.
	Attempt int
	// Payload is JSON, byte for byte what the producer published, whether it came
	// as the body or in a form.
	Payload json.RawMessage
}

// Receive verifies a request and takes out what it brings. The body must be the
// exact bytes that were received, and the header's names in canonical form. It
// is for servers that Middleware does not fit; it neither limits the body nor
// drops what has come before.
//
// A request with any header of Standard Webhooks is verified by those. Its
// errors are those of VerifyStandard and VerifyHex, to be answered with 401,
// and ErrPayload, to be answered with 400.
func (rc *Receiver) Receive(header http.Header, body []byte, now time.Time) (Delivery, error) {
	id, err := rc.verify(header, body, now)
	if err != nil {
		return Delivery{}, err
	}
	payload, err := readPayload(header.Get("Content-Type"), body)
	if err != nil {
		return Delivery{}, err
	}
	d := Delivery{ID: id, Event: header.Get(rc.event), WebhookID: header.Get(rc.webhook), Payload: payload}
	if attempt, err := strconv.ParseUint(header.Get(rc.attempt), 10, 31); err == nil {
		d.Attempt = int(attempt)
	}
	return d, nil
}

// verify returns the delivery's id. A request that has but one header of
// Standard Webhooks is never judged by its hex signature: a stale one would pass
// with its timestamp taken out.
func (rc *Receiver) verify(header http.Header, body []byte, now time.Time) (id string, err error) {
	standard := len(header.Values(HeaderID))+len(header.Values(HeaderTimestamp))+len(header.Values(HeaderSignature)) > 0
	if standard || !rc.acceptHex {
		return header.Get(HeaderID), rc.verifier.VerifyStandard(header, body, now)
	}
	if id, err = oneID(header, rc.delivery); err != nil {
		return "", err
	}
	return id, rc.verifyHex(header, body)
}

// verifyHex considers the signature of the secret before, which a sender adds
// while a secret is rotated: a receiver that has not heard of the new one yet
// goes on working.
func (rc *Receiver) verifyHex(header http.Header, body []byte) error {
	value, err := one(header, rc.signature)
	if err != nil {
		return err
	}
	if err = rc.verifier.VerifyHex(value, body); !errors.Is(err, ErrNoMatch) || len(header.Values(rc.previous)) == 0 {
		return err
	}
	if value, err = one(header, rc.previous); err != nil {
		return err
	}
	return rc.verifier.VerifyHex(value, body)
}

// readPayload gives the bytes of the JSON.
func readPayload(contentType string, body []byte) (json.RawMessage, error) {
	mediaType, _, _ := strings.Cut(contentType, ";")
	if strings.EqualFold(strings.TrimSpace(mediaType), "application/x-www-form-urlencoded") {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, fmt.Errorf("%w: the form cannot be decoded", ErrPayload)
		}
		body = []byte(form.Get("payload"))
	}
	// json.Valid takes strings of bytes that are no text.
	if !utf8.Valid(body) || !json.Valid(body) {
		return nil, ErrPayload
	}
	return body, nil
}

type deliveryKey struct{}

// DeliveryFrom returns what the request of this context brings. It is false
// where no Middleware stands before the handler.
func DeliveryFrom(ctx context.Context) (Delivery, bool) {
	d, ok := ctx.Value(deliveryKey{}).(Delivery)
	return d, ok
}

// Middleware hands on to next the requests that are signed as they should be:
// with their body whole and unread, and with a Delivery in their context. Others
// are answered with a short text that says why: 401 for the signature, 400
// without a payload, 413 beyond the limit of the body.
//
// The answer of next counts: after a 2xx the sender does not send the delivery
// again. With Remember, one that comes again all the same is answered 204; while
// the first is still being handled, the second waits for its answer, and takes
// its place when that is no 2xx.
func (rc *Receiver) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, rc.maxBody))
		if err != nil {
			status := http.StatusBadRequest // the sender went away in the middle
			if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
				status = http.StatusRequestEntityTooLarge
			}
			rc.refuse(w, r, status, fmt.Errorf("signature: read the body: %w", err))
			return
		}
		delivery, err := rc.Receive(r.Header, body, time.Now())
		if err != nil {
			status := http.StatusUnauthorized
			if errors.Is(err, ErrPayload) {
				status = http.StatusBadRequest
			}
			rc.refuse(w, r, status, err)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), deliveryKey{}, delivery))
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		if rc.seen == nil {
			next.ServeHTTP(w, r)
			return
		}
		rc.once(w, r, delivery.ID, next)
	})
}

// once hands on a request unless its delivery has been handled.
func (rc *Receiver) once(w http.ResponseWriter, r *http.Request, id string, next http.Handler) {
	first, err := rc.seen.begin(r.Context(), id)
	switch {
	case err != nil: // the sender has gone
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case !first:
		w.WriteHeader(http.StatusNoContent)
		return
	}
	answer := &answer{ResponseWriter: w}
	handled := false
	defer func() { rc.seen.end(id, handled) }() // also when next panics
	next.ServeHTTP(answer, r)
	handled = answer.status == 0 || answer.status/100 == 2
}

func (rc *Receiver) refuse(w http.ResponseWriter, r *http.Request, status int, err error) {
	if rc.refused != nil {
		rc.refused(r, err)
	}
	http.Error(w, strings.TrimPrefix(err.Error(), "signature: "), status)
}

// An answer remembers the status that a handler gives.
type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 { // those below are followed by another
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(text []byte) (int, error) {
	a.status = cmp.Or(a.status, http.StatusOK)
	return a.ResponseWriter.Write(text)
}

// Unwrap lets an http.ResponseController reach what lies below.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
