package relay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"postrider"
)

// A message of either side is a head in JSON, a line break, and a body: the
// bytes of a delivery or of an answer travel as they are. JSON on one line has
// no line break of its own.

// The types of messages.
const (
	typeReady    = "ready"    // server: the session has begun
	typeStandby  = "standby"  // server: a newer session has the deliveries now
	typeActive   = "active"   // server: this session has them again
	typeDelivery = "delivery" // server: here is a request, answer it
	typeAnswer   = "answer"   // listener: this is how it ended
	typeBye      = "bye"      // listener: it ends for good, and its webhook with it
)

// Close codes of our own (RFC 6455, section 7.4.2). A listener that meets one
// does not come back.
const (
	closeRevoked = 4401 // the API key is not valid any more
	closeRemoved = 4404 // the webhook was deleted, or sends to a URL now
)

// Ready tells a listener what it is attached to.
type Ready struct {
	WebhookID postrider.ID `json:"webhook_id"`
	// Secret signs the deliveries. It is told once, to the session for which
	// it was made.
	Secret     string   `json:"secret,omitempty"`
	CopyOf     string   `json:"copy_of,omitempty"` // the webhook whose settings the temporary one has
	Events     []string `json:"events"`
	Status     string   `json:"status"` // of the webhook: deliveries come while it is active
	Brand      string   `json:"brand"`  // stands in the names of headers
	HoldSecond int64    `json:"hold_seconds"`
	PingMilli  int64    `json:"ping_milliseconds"`
}

// Hold is how long deliveries wait when no listener is attached.
func (r *Ready) Hold() time.Duration { return time.Duration(r.HoldSecond) * time.Second }

type head struct {
	Type     string    `json:"type"`
	ID       string    `json:"id,omitempty"` // of the request, and of its answer
	Ready    *Ready    `json:"ready,omitempty"`
	Delivery *delivery `json:"delivery,omitempty"`
	Answer   *answer   `json:"answer,omitempty"`
}

// A delivery is a request without its body.
type delivery struct {
	Header       map[string][]string `json:"header"`
	TimeoutMilli int64               `json:"timeout_milliseconds"`
}

// An answer is an outcome without the response's body.
type answer struct {
	StatusCode      int                   `json:"status_code,omitempty"`
	Failure         postrider.FailureCode `json:"failure,omitempty"`
	Detail          string                `json:"detail,omitempty"`
	RetryAfterMilli int64                 `json:"retry_after_milliseconds,omitempty"`
	RemoteIP        string                `json:"remote_ip,omitempty"`
	TLSVersion      string                `json:"tls_version,omitempty"`
	Micros          [5]int64              `json:"timings_microseconds"` // DNS, connect, TLS, first byte, total
	Header          map[string][]string   `json:"header,omitempty"`
	Truncated       bool                  `json:"truncated,omitempty"`
}

func encode(h *head, body []byte) []byte {
	text, err := json.Marshal(h)
	if err != nil {
		panic("relay: a message of our own cannot be encoded: " + err.Error())
	}
	return append(append(text, '\n'), body...)
}

var errMessage = errors.New("a message cannot be read")

func decode(text []byte) (h head, body []byte, err error) {
	line, body, found := bytes.Cut(text, []byte{'\n'})
	if !found {
		return h, nil, errMessage
	}
	if err := json.Unmarshal(line, &h); err != nil {
		return h, nil, fmt.Errorf("%w: %w", errMessage, err)
	}
	return h, body, nil
}

func answerOf(o *postrider.Outcome) *answer {
	t := o.Timings
	return &answer{
		StatusCode: o.StatusCode, Failure: o.Failure, Detail: o.Detail, RetryAfterMilli: o.RetryAfter.Milliseconds(),
		RemoteIP: o.RemoteIP, TLSVersion: o.TLSVersion,
		Micros: [5]int64{
			t.DNS.Microseconds(), t.Connect.Microseconds(), t.TLS.Microseconds(), t.FirstByte.Microseconds(), t.Total.Microseconds(),
		},
		Header: o.Response.Header.Map(), Truncated: o.Response.Truncated,
	}
}

// What is kept of an answer: as much as of any other receiver's.
const (
	maxBody   = 64 << 10
	maxHeader = 64 << 10
	maxDetail = 1000
	maxWord   = 64
)

// failures are the codes that a listener can tell: those of its own attempt.
var failures = map[postrider.FailureCode]bool{
	postrider.FailDNS: true, postrider.FailConnect: true, postrider.FailConnectRefused: true,
	postrider.FailConnectTimeout: true, postrider.FailTLS: true, postrider.FailTLSExpired: true,
	postrider.FailTLSHostname: true, postrider.FailTLSUntrusted: true, postrider.FailTimeout: true,
	postrider.FailReset: true, postrider.FailHTTP4xx: true, postrider.FailHTTP5xx: true, postrider.FailRedirect: true,
	postrider.FailBlocked: true, postrider.FailTooLarge: true, postrider.FailProtocol: true, postrider.FailUnsendable: true,
}

// outcome is what an answer says, as far as it can be true. A listener writes
// into its own tenant's logs; it must not write there what no attempt could.
func (a *answer) outcome(body []byte, elapsed time.Duration) (postrider.Outcome, error) {
	ok := a.StatusCode >= 200 && a.StatusCode < 300
	switch {
	case a.StatusCode != 0 && (a.StatusCode < 100 || a.StatusCode > 999),
		a.Failure == "" && !ok, a.Failure != "" && (ok || !failures[a.Failure]):
		return postrider.Outcome{}, fmt.Errorf("%w: status %d with failure %q", errMessage, a.StatusCode, cut(string(a.Failure), maxWord))
	}
	span := func(i int) time.Duration {
		return min(max(0, time.Duration(a.Micros[i])*time.Microsecond), elapsed)
	}
	o := postrider.Outcome{
		StatusCode: a.StatusCode, Failure: a.Failure,
		RetryAfter: time.Duration(min(max(0, a.RetryAfterMilli), (48*time.Hour).Milliseconds())) * time.Millisecond,
		TLSVersion: cut(a.TLSVersion, maxWord),
		Timings:    postrider.Timings{DNS: span(0), Connect: span(1), TLS: span(2), FirstByte: span(3), Total: span(4)},
		Response:   postrider.Response{Header: keptHeader(a.Header), Truncated: a.Truncated},
	}
	if a.Failure != "" {
		o.Detail = cut(a.Detail, maxDetail)
	}
	if ip, err := netip.ParseAddr(a.RemoteIP); err == nil {
		o.RemoteIP = ip.String()
	}
	if len(body) > maxBody {
		body, o.Response.Truncated = body[:maxBody], true
	}
	if len(body) > 0 {
		o.Response.Body = body
	}
	return o, nil
}

// keptHeader drops what HTTP would not have carried, and everything of a header
// that is larger than HTTP clients of ours read.
func keptHeader(header map[string][]string) postrider.Header {
	kept := http.Header{}
	size := 0
	for name, values := range header {
		for _, value := range values {
			size += len(name) + len(value)
			if strings.ContainsFunc(name+value, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }) {
				continue
			}
			kept[name] = append(kept[name], value)
		}
	}
	if size > maxHeader {
		return nil
	}
	return postrider.SortedHeader(kept)
}

func cut(text string, most int) string {
	if len(text) > most {
		text = text[:most]
	}
	return strings.ToValidUTF8(text, "")
}

// requestOf is the request that a listener is to make.
func requestOf(d *delivery, body []byte, forward string, insecure bool) *postrider.Request {
	return &postrider.Request{
		URL: forward, Header: postrider.SortedHeader(d.Header), Body: body, Timeout: time.Duration(d.TimeoutMilli) * time.Millisecond, InsecureSSL: insecure,
	}
}
