package postrider

import (
	"time"
)

// A DeliveryKey names a delivery: one event for one webhook.
type DeliveryKey struct {
	Tenant    string
	EventID   string
	WebhookID ID
}

// A Delivery is one event for one webhook, as long as it is not settled. It
// carries the event, so that sending it needs no further read. The payload is
// shared between the deliveries of an event: it is read only.
type Delivery struct {
	DeliveryKey

	EventType string
	Payload   []byte
	Trigger   Trigger // of the next attempt
	Attempts  int     // how many were made
	Retries   int     // how many of the schedule's retries are used up
	// AcceptedAt is when the delivery was queued. The store sets it.
	AcceptedAt time.Time
	// Claimed is set while a node's run has the right to send it. A delivery
	// committed unclaimed waits in the store until a lane claims it.
	Claimed bool
}

// Pinged says which event a ping made for a webhook.
type Pinged struct {
	WebhookID ID
	EventID   string
}

// Redelivery says what is sent again: an event, to one webhook.
type Redelivery struct {
	EventID   string
	WebhookID ID
}

// Trigger is why an attempt was made.
type Trigger string

// The triggers.
const (
	TriggerEvent      Trigger = "event"
	TriggerPing       Trigger = "ping"
	TriggerRetry      Trigger = "retry"
	TriggerRedelivery Trigger = "redelivery"
	TriggerReplay     Trigger = "replay"
)

// DeliveryState is where a delivery stands.
type DeliveryState string

// The states of a delivery.
const (
	DeliveryPending   DeliveryState = "pending"   // waits for its first attempt or a retry, or is being sent
	DeliveryHeld      DeliveryState = "held"      // waits for its webhook to send again
	DeliverySucceeded DeliveryState = "succeeded" // the receiver answered 2xx
	DeliveryFailed    DeliveryState = "failed"    // the schedule ended without a 2xx
	DeliveryCancelled DeliveryState = "cancelled" // the webhook was deleted first
)

// A Request is one attempt, ready for the wire: signed, header names in their
// exact spelling.
type Request struct {
	WebhookID   ID // whose delivery it is
	URL         string
	Header      Header
	Body        []byte
	Timeout     time.Duration // over DNS, connect, TLS, headers and body
	InsecureSSL bool
}

// An Outcome is how one attempt ended. A receiver that answers 500 is not an
// error of ours.
type Outcome struct {
	StatusCode int         // 0 when no status line came
	Failure    FailureCode // empty on success
	Detail     string      // a sentence that says what happened and what to do; empty on success
	// RetryAfter is what the receiver asked for, not yet bounded; 0 when it
	// did not.
	RetryAfter time.Duration
	RemoteIP   string // the address dialled; empty when none was
	TLSVersion string // such as "TLS 1.3"; empty without TLS
	Timings    Timings
	Response   Response
}

// OK reports whether the delivery succeeded.
func (o *Outcome) OK() bool { return o.Failure == "" }

// Timings split an attempt's time. A part that did not happen (no lookup on a
// connection that was kept alive) is zero.
type Timings struct {
	DNS       time.Duration
	Connect   time.Duration
	TLS       time.Duration
	FirstByte time.Duration // from the request written to the response's first byte
	Total     time.Duration
}

// A Response is what the receiver answered, capped.
type Response struct {
	Header    Header
	Body      []byte
	Truncated bool // more came than is kept, or it broke off
}

// FailureCode is the stable code of why an attempt failed.
type FailureCode string

// The failure codes.
const (
	FailDNS            FailureCode = "dns"
	FailConnect        FailureCode = "connect" // no route, network unreachable, any other refusal to connect
	FailConnectRefused FailureCode = "connect_refused"
	FailConnectTimeout FailureCode = "connect_timeout"
	FailTLS            FailureCode = "tls" // a handshake failure with no code of its own
	FailTLSExpired     FailureCode = "tls_expired"
	FailTLSHostname    FailureCode = "tls_hostname"
	FailTLSUntrusted   FailureCode = "tls_untrusted"
	FailTimeout        FailureCode = "timeout"
	FailReset          FailureCode = "reset"
	FailHTTP4xx        FailureCode = "http_4xx"
	FailHTTP5xx        FailureCode = "http_5xx"
	FailRedirect       FailureCode = "redirect"
	FailBlocked        FailureCode = "blocked_address"
	FailTooLarge       FailureCode = "too_large"
	FailProtocol       FailureCode = "protocol"
	FailCancelled      FailureCode = "cancelled"  // not sent because the webhook was deleted, or cut short by a stop
	FailExpired        FailureCode = "expired"    // not sent: the schedule ended while the receiver failed
	FailRelayLost      FailureCode = "relay_lost" // the listener that it was handed to went away; this uses up no retry
	FailUnsendable     FailureCode = "unsendable" // not sent: the request could not be built, or the stored URL is not valid any more
)

// AttemptStatus is an attempt's result in one word.
type AttemptStatus string

// The results of an attempt.
const (
	AttemptSuccess   AttemptStatus = "success"
	AttemptFailure   AttemptStatus = "failure"
	AttemptCancelled AttemptStatus = "cancelled" // the mark of a delivery that was ended without being sent
)

// An Attempt is one HTTP POST of a delivery, written down. The API calls the
// list of attempts logs.
type Attempt struct {
	ID        ID
	Tenant    string
	WebhookID ID
	EventID   string
	EventType string
	Number    int // 1 for the first attempt of the delivery
	Trigger   Trigger
	At        time.Time
	URL       string // as used, even if the webhook's URL changed since
	Status    AttemptStatus
	Outcome   Outcome
	// NextAttemptAt is when the delivery is tried again; zero when it is not.
	NextAttemptAt time.Time
	// RequestHeader is what was sent, in the exact spelling, with the values
	// of sensitive headers masked.
	RequestHeader Header
	// RequestBody is only filled when one attempt is read by its id.
	RequestBody []byte
}

// A Settlement records the outcome of an attempt and says what becomes of its
// delivery. It applies only while the claim is still the settling run's own.
type Settlement struct {
	Key     DeliveryKey
	Attempt Attempt
	// Done ends the delivery. Otherwise it is due again after RetryIn, with
	// Attempts and Retries as given, and no longer claimed.
	Done    bool
	RetryIn time.Duration
	// Keep leaves the claim and the place in the queue as they are: the head of
	// an ordered lane is tried again before anything behind it.
	Keep     bool
	Attempts int
	Retries  int
}

// An Accepted is an event with its deliveries, as one commit writes them.
type Accepted struct {
	// Publication is the index of the publication that it answers; one to
	// every tenant makes several.
	Publication int
	Event       Event
	ChosenID    bool // the producer chose the event's id: it may have been used before
	Deliveries  []Delivery
	// Fanout is set when Deliveries are only the first part.
	Fanout bool
	// Repeated is set by the store when the event had been accepted before,
	// under the same id or idempotency key, and nothing was written now.
	Repeated bool
}

// A ClaimLimit bounds what one claim brings into memory.
type ClaimLimit struct {
	Rows  int
	Bytes int // of payloads; the first delivery is claimed whatever its size
	// Early claims deliveries that are not yet due, too: those of a deleted
	// webhook are all cancelled at once.
	Early bool
	// Ordered claims only what no other node could send at the same time: the
	// webhook's lane is first taken for this node as a whole.
	Ordered bool
}

// Claimed is what a lane gets when it asks the store for work.
type Claimed struct {
	Deliveries []Delivery
	// More reports that due deliveries were left behind by the limit.
	More bool
	// NextDue is how long to wait for the next delivery that is not yet due;
	// negative when there is none.
	NextDue time.Duration
}

// A Fanout is an event that goes to more webhooks than one commit should write
// deliveries for. What is not yet written is known by the last webhook that was.
type Fanout struct {
	Event Event
	After ID // the deliveries of webhooks up to this one are written
}

// A Waiting webhook has deliveries in the queue.
type Waiting struct {
	WebhookID ID
	// Due is how long until its first delivery is due; negative when it has
	// been due for that long.
	Due time.Duration
}
