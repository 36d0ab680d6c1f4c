package postrider

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A Webhook is a partner's registration: where to send which events, and how.
type Webhook struct {
	ID          ID
	Tenant      string
	URL         string
	ContentType ContentType
	Secret      Secret // empty: deliveries are not signed
	// Previous are the secrets before it that still sign along, the newest
	// first; none outlives the one after it. What has expired may still be here.
	Previous    []PreviousSecret
	Events      []string
	Active      bool // the partner's own switch; while off, deliveries are held
	Description string
	Headers     map[string]string // sent with every delivery; values may be credentials
	InsecureSSL bool              // do not verify the receiver's certificate
	Timeout     time.Duration     // total time of one attempt; 0: the server's default
	// RetrySchedule is the wait before each retry; nil: the server's default;
	// empty: no retries.
	RetrySchedule []time.Duration
	MaxInFlight   int     // attempts at once; 0: the server's default
	RateLimit     float64 // attempts a second; 0: no limit
	// Ordered sends one delivery at a time, in the order in which events were
	// accepted: the next one only once the one before has succeeded or ended.
	Ordered bool
	Paused  bool // the operator's switch; while on, deliveries are held
	// What follows is set by the system.
	Disabled     *Disabled
	Failing      Failing
	TenantPaused bool // Paused of its tenant, not stored with the webhook
	CreatedAt    time.Time
	UpdatedAt    time.Time
	DeletedAt    time.Time // zero while the webhook exists
}

// Disabled is why the system stopped sending to a webhook.
type Disabled struct {
	At     time.Time
	Code   string // stable: "gone"
	Reason string // a sentence for people, with the evidence
}

// Failing is how long a webhook has failed without a success between.
type Failing struct {
	Since  time.Time // of the first failure; zero: the last attempt succeeded
	Warned int       // the warning last given, as a part of the time until it is disabled: 0, 50, 70 or 90 percent
}

// Sending reports whether deliveries go out now. Those of a webhook that
// exists but is not sending are held.
func (w *Webhook) Sending() bool {
	return w.Active && !w.Paused && !w.TenantPaused && w.Disabled == nil && w.DeletedAt.IsZero()
}

// WebhookStatus says in one word whether deliveries go out.
type WebhookStatus string

// The states of a webhook.
const (
	WebhookActive   WebhookStatus = "active"
	WebhookInactive WebhookStatus = "inactive" // switched off by its partner
	WebhookDisabled WebhookStatus = "disabled" // switched off by the system; Disabled says why
	WebhookPaused   WebhookStatus = "paused"   // held back by the operator, itself or with its tenant
)

// Status of a webhook that exists.
func (w *Webhook) Status() WebhookStatus {
	switch {
	case w.Disabled != nil:
		return WebhookDisabled
	case !w.Active:
		return WebhookInactive
	case w.Paused || w.TenantPaused:
		return WebhookPaused
	}
	return WebhookActive
}

// Subscribes reports whether the webhook's events take an event type.
func (w *Webhook) Subscribes(eventType string) bool { return w.Subscription(eventType) != "" }

// Subscription is the first of the webhook's events that takes an event type;
// empty: none does.
func (w *Webhook) Subscription(eventType string) string {
	for _, pattern := range w.Events {
		if MatchEvent(pattern, eventType) {
			return pattern
		}
	}
	return ""
}

// ContentType is how the payload travels.
type ContentType string

// The two content types.
const (
	JSON ContentType = "application/json"                  // the payload is the body
	Form ContentType = "application/x-www-form-urlencoded" // the payload is the form's field "payload"
)

// Masked stands where a secret is not shown.
const Masked = "[redacted]"

// sensitiveHeaders are parts of the names of headers that carry credentials.
var sensitiveHeaders = []string{"authorization", "cookie", "credential", "key", "password", "secret", "session", "token"}

// SensitiveHeader reports whether a custom header's value is likely to be a
// credential, and is masked wherever headers are shown.
func SensitiveHeader(name string) bool {
	lower := strings.ToLower(name)
	return slices.ContainsFunc(sensitiveHeaders, func(part string) bool { return strings.Contains(lower, part) })
}

// A Secret is text that must not be seen: printing, logging or encoding one
// gives [redacted]. Convert it to a string to use it.
type Secret string

const redacted = Masked

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format hides the secret from every verb. Those that do not fit text, such as
// %d, would print its bytes without asking String. Only %p asks nothing.
func (s Secret) Format(state fmt.State, verb rune) {
	fmt.Fprintf(state, fmt.FormatString(state, verb), s.String())
}

// LogValue hides the secret from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText hides the secret from JSON and every other text encoding.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// NewSecret makes a signing secret of 24 random bytes in the form of Standard
// Webhooks: whsec_ and base64.
func NewSecret() Secret {
	var random [24]byte
	rand.Read(random[:]) // never returns an error since Go 1.24
	return Secret("whsec_" + base64.StdEncoding.EncodeToString(random[:]))
}

// A PreviousSecret was rotated out, and signs beside its successor until its
// time is over.
type PreviousSecret struct {
	Secret Secret
	Until  time.Time
}

// MaxPreviousSecrets bounds the signatures in one header.
const MaxPreviousSecrets = 10

// MaxGrace is how long a secret that was rotated out may sign along.
const MaxGrace = 7 * 24 * time.Hour

// Rotate puts a new secret in the place of the present one, which signs along
// for the grace, as do those before it for no longer than that: with a grace of
// 0 all of them are revoked at once. The same rotation again changes nothing.
func (w *Webhook) Rotate(secret Secret, grace time.Duration, now time.Time) {
	var previous []PreviousSecret
	end := now.Add(grace)
	for _, old := range slices.Insert(slices.Clone(w.Previous), 0, PreviousSecret{w.Secret, end}) {
		if old.Until.After(end) {
			old.Until = end
		}
		if old.Secret != "" && old.Secret != secret && old.Until.After(now) && len(previous) < MaxPreviousSecrets {
			previous = append(previous, old)
		}
	}
	w.Secret, w.Previous = secret, previous
}

// PreviousUntil is when the last of the previous secrets expires; zero when
// none signs any more.
func (w *Webhook) PreviousUntil(now time.Time) time.Time {
	if len(w.Previous) == 0 || !w.Previous[0].Until.After(now) {
		return time.Time{}
	}
	return w.Previous[0].Until
}

// Limits of a webhook's fields.
const (
	MaxURL         = 2048
	MaxEvents      = 100
	MaxDescription = 1000
	MaxHeaders     = 20
	MaxHeaderBytes = 4096
	MinTimeout     = time.Second
	MaxTimeout     = 30 * time.Second
	MaxRetries     = 30
	MaxRetryWait   = 7 * 24 * time.Hour
	MaxInFlight    = 256
	MaxRateLimit   = 10_000
)

// Check reports every fault of the fields that the partner sets, except the
// URL's, which the address guard judges.
func (w *Webhook) Check() error {
	var faults Faults
	if w.ContentType != JSON && w.ContentType != Form {
		faults.Add(invalid("content_type", "invalid_content_type",
			`The content type is "application/json" or "application/x-www-form-urlencoded".`))
	}
	faults.Add(checkSecret(w.Secret))
	faults.Add(checkEvents(w.Events))
	if len(w.Description) > MaxDescription || !utf8.ValidString(w.Description) {
		faults.Add(invalid("description", "invalid_description", "A description is at most 1,000 bytes of UTF-8 text."))
	}
	faults.Add(checkHeaders(w.Headers))
	if w.Timeout != 0 && (w.Timeout < MinTimeout || w.Timeout > MaxTimeout) {
		faults.Add(invalid("timeout_seconds", "invalid_timeout", "The timeout is 1 to 30 seconds."))
	}
	faults.Add(CheckRetrySchedule("retry_schedule", w.RetrySchedule))
	if w.MaxInFlight < 0 || w.MaxInFlight > MaxInFlight {
		faults.Add(invalid("max_in_flight", "invalid_max_in_flight", "A webhook has 1 to 256 attempts in flight at once."))
	}
	// Below one in an hour a limit would outlast every retry schedule.
	if w.RateLimit != 0 && !(w.RateLimit >= 1.0/3600 && w.RateLimit <= MaxRateLimit) {
		faults.Add(invalid("rate_limit", "invalid_rate_limit", "The rate limit is up to 10,000 attempts a second, and at least one in an hour."))
	}
	return faults.Err()
}

func checkSecret(secret Secret) error {
	if secret == "" {
		return nil
	}
	if n := utf8.RuneCountInString(string(secret)); n < 8 || n > 256 || hasControl(string(secret)) {
		return invalid("secret", "invalid_secret", "A secret is 8 to 256 printable characters.")
	}
	// A whsec_ secret promises that what follows is the key in base64: one that
	// is not could not be verified by any Standard Webhooks library.
	if encoded, found := strings.CutPrefix(string(secret), "whsec_"); found {
		if key, err := base64.StdEncoding.DecodeString(encoded); err != nil || len(key) == 0 {
			return invalid("secret", "invalid_secret", "What follows whsec_ must be base64 (standard alphabet, padded).")
		}
	}
	return nil
}

func checkEvents(events []string) error {
	if len(events) == 0 || len(events) > MaxEvents {
		return invalid("events", "invalid_events", `A webhook subscribes to 1 to 100 events; "*" takes them all.`)
	}
	var faults Faults
	for i, pattern := range events {
		faults.Add(CheckEventPattern(fmt.Sprintf("events[%d]", i), pattern))
	}
	return faults.Err()
}

// reservedHeaders are set by the sender or by HTTP itself.
var reservedHeaders = map[string]bool{
	"accept-encoding": true, "connection": true, "content-encoding": true, "content-length": true, "content-type": true,
	"expect": true, "host": true, "keep-alive": true, "te": true, "trailer": true, "transfer-encoding": true,
	"upgrade": true, "user-agent": true,
}

func checkHeaders(headers map[string]string) error {
	if len(headers) > MaxHeaders {
		return invalid("headers", "too_many_headers", "A webhook has at most 20 headers of its own.")
	}
	var faults Faults
	seen := map[string]bool{}
	size := 0
	for _, name := range slices.Sorted(maps.Keys(headers)) { // the same faults each time
		value := headers[name]
		size += len(name) + len(value)
		lower := strings.ToLower(name)
		field := "headers." + name
		switch {
		case !isToken(name):
			faults.Add(invalid("headers", "invalid_header_name", fmt.Sprintf("%q is no header name (RFC 9110, section 5.1).", name)))
		case reservedHeaders[lower] || strings.HasPrefix(lower, "webhook-") || strings.HasPrefix(lower, "proxy-"):
			faults.Add(invalid(field, "reserved_header", "This header is set by the sender and cannot be overridden."))
		case seen[lower]:
			faults.Add(invalid(field, "duplicate_header", "Header names differ in more than case."))
		case !isFieldValue(value):
			faults.Add(invalid(field, "invalid_header_value", "A header's value is visible ASCII, with single spaces or tabs inside."))
		}
		seen[lower] = true
	}
	if size > MaxHeaderBytes {
		faults.Add(invalid("headers", "headers_too_large", "The headers are at most 4,096 bytes in all."))
	}
	return faults.Err()
}

// CheckRetrySchedule refuses a schedule that is too long or has a wait out of
// range.
func CheckRetrySchedule(field string, schedule []time.Duration) error {
	if len(schedule) > MaxRetries {
		return invalid(field, "invalid_retry_schedule", "A retry schedule has at most 30 waits.")
	}
	for i, wait := range schedule {
		if wait < 0 || wait > MaxRetryWait {
			return invalid(fmt.Sprintf("%s[%d]", field, i), "invalid_retry_schedule", "A wait is 0 to 604,800 seconds (7 days).")
		}
	}
	return nil
}

// isToken is RFC 9110, section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != "" && len(s) <= 256
}

// isFieldValue is RFC 9110, section 5.5, without the obsolete bytes over 0x7f.
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c >= 0x7f || c < ' ' && c != '\t' {
			return false
		}
	}
	return s == strings.TrimSpace(s)
}

func hasControl(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// Wrap is the body that carries a payload: its bytes as JSON, "payload=" and
// its form encoding as a form.
func (c ContentType) Wrap(payload []byte) []byte {
	if c != Form {
		return payload
	}
	return append([]byte("payload="), url.QueryEscape(string(payload))...)
}
