package postrider

import (
	"regexp"
	"strings"
	"time"
)

// PingEvent is the event type of pings. It is reserved: a ping goes to a
// webhook whatever that webhook subscribes to, and nobody publishes or
// subscribes to it.
const PingEvent = "ping"

// The system's own event types: what happens to a webhook is told to the other
// webhooks of its tenant that subscribe.
const (
	WebhookFailingEvent   = "webhook.failing"
	WebhookRecoveredEvent = "webhook.recovered"
	WebhookDisabledEvent  = "webhook.disabled"
)

// systemPrefix begins the event types that only the system publishes.
const systemPrefix = "webhook."

// An Event is one published occurrence. Its payload is kept and sent as the
// exact bytes that the producer gave. An event belongs to one tenant; one
// published to every tenant is kept once for each tenant that it matches.
type Event struct {
	ID         string // unique per tenant; the producer's own, or made by NewID
	Tenant     string
	Type       string
	Payload    []byte
	OccurredAt time.Time // when it happened, as the producer says; zero when not said
	CreatedAt  time.Time // when it was accepted
	Deliveries int       // how many webhooks it matched
}

// A Publication asks for an event to be accepted. Nothing in it is checked yet.
type Publication struct {
	Event      string // the event type
	Payload    []byte // JSON, kept as these exact bytes
	Valid      bool   // the payload is known to be JSON in UTF-8: whoever read it has checked
	Tenant     string // empty: DefaultTenant; EveryTenant: all of them
	ID         string // empty: one is made
	OccurredAt time.Time
}

// A Trial is what publishing an event would come to.
type Trial struct {
	Deliveries int // how many webhooks would get it, at once or when they send again
	// Webhooks are those of the tenants that the event names, the ones that
	// subscribe to it first. They are shared: read only.
	Webhooks  []*Webhook
	Truncated bool // there are more webhooks than were asked for
}

// An EventType is an entry of the catalogue that partners read.
type EventType struct {
	Name        string
	Description string
	Notes       string // Markdown
	Schema      []byte // JSON Schema of the payload; empty when there is none
	Example     []byte // an example payload, JSON; empty when there is none
	Deprecated  bool
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

var (
	eventType    = regexp.MustCompile(`^[a-z0-9_]+(\.[a-z0-9_]+)*$`)
	eventPattern = regexp.MustCompile(`^[a-z0-9_]+(\.[a-z0-9_]+)*\.\*$`)
	eventID      = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
)

const maxEventType = 128

// CheckEventType refuses what cannot name an event type: dotted lower-case
// identifiers of a-z, 0-9 and _, at most 128 characters, and not "ping".
func CheckEventType(field, name string) error {
	if len(name) > maxEventType || !eventType.MatchString(name) {
		return invalid(field, "invalid_event",
			"An event type is dotted lower-case identifiers of a-z, 0-9 and _, such as room_status.updated, of at most 128 characters.")
	}
	if name == PingEvent {
		return invalid(field, "reserved_event", `"ping" is reserved: send one with POST /v0/api_webhooks/ping.`)
	}
	return nil
}

// CheckPublished refuses what a producer cannot publish: what names no event
// type, and the system's own types.
func CheckPublished(field, name string) error {
	if strings.HasPrefix(name, systemPrefix) {
		return invalid(field, "reserved_event", `Event types that begin with "webhook." are the system's own.`)
	}
	return CheckEventType(field, name)
}

// CheckEventPattern refuses what a webhook cannot subscribe to: an event type,
// or one with ".*" at its end, or "*".
func CheckEventPattern(field, pattern string) error {
	if pattern == "*" || len(pattern) <= maxEventType && eventPattern.MatchString(pattern) {
		return nil
	}
	if strings.Contains(pattern, "*") {
		return invalid(field, "invalid_event", `A pattern is "*", or identifiers with ".*" at the end, such as room_status.*.`)
	}
	return CheckEventType(field, pattern)
}

// MatchEvent reports whether a pattern of a webhook's events takes an event
// type. "a.*" takes every type below "a", at any depth, and not "a" itself.
func MatchEvent(pattern, name string) bool {
	if pattern == "*" || pattern == name {
		return true
	}
	stem, found := strings.CutSuffix(pattern, "*")
	return found && len(name) > len(stem) && strings.HasPrefix(name, stem)
}

// CheckEventID refuses what cannot be an event's id. A dot is refused because
// Standard Webhooks signs id, timestamp and body joined by dots.
func CheckEventID(field, id string) error {
	if !eventID.MatchString(id) {
		return invalid(field, "invalid_id", "An event's id is 1 to 64 characters of A-Z, a-z, 0-9, _ and -.")
	}
	return nil
}
