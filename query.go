package postrider

import "time"

// An AttemptFilter asks for a page of a tenant's attempts, newest first. The
// zero value of a field asks for all.
type AttemptFilter struct {
	Tenant    string // required
	WebhookID ID
	EventType string
	EventID   string
	Status    AttemptStatus
	CodeClass int // 2 for 2xx, … 5 for 5xx
	Failure   FailureCode
	From      time.Time // inclusive
	To        time.Time // exclusive
	Before    ID        // the page starts below this attempt
	Limit     int       // at least 1
}

// An AttemptPage is a page of attempts. A page may hold fewer than were asked
// for although more follow: a filter that matches little gives up its search
// after a bounded number of rows, so that no request reads the whole history.
type AttemptPage struct {
	Attempts []Attempt
	Next     ID // the next page's Before; zero on the last page
}

// A DeliveryStatus is where one delivery of an event stands.
type DeliveryStatus struct {
	WebhookID     ID
	State         DeliveryState
	Attempts      int
	NextAttemptAt time.Time // zero when none is planned
	Last          *Attempt  // nil before the first attempt
}

// WithAttempts completes the deliveries of an event that are still queued with
// its attempts, newest first: what is not queued any more has ended, and how is
// told by its last attempt.
func WithAttempts(queued []DeliveryStatus, attempts []Attempt) []DeliveryStatus {
	list, at := queued, make(map[ID]int, len(queued))
	for i := range list {
		at[list[i].WebhookID] = i
	}
	for i := range attempts {
		a := &attempts[i]
		n, found := at[a.WebhookID]
		if !found {
			n = len(list)
			at[a.WebhookID] = n
			list = append(list, DeliveryStatus{WebhookID: a.WebhookID, State: stateAfter(a), Attempts: a.Number})
		}
		if list[n].Last == nil {
			list[n].Last = a
		}
	}
	return list
}

// stateAfter is a settled delivery's state, told from its last attempt.
func stateAfter(last *Attempt) DeliveryState {
	switch last.Status {
	case AttemptSuccess:
		return DeliverySucceeded
	case AttemptCancelled:
		return DeliveryCancelled
	case AttemptFailure:
	}
	return DeliveryFailed
}

// An IdempotencyKey makes a publish that is sent twice count once: the same
// key with the same body gives the first answer again.
type IdempotencyKey struct {
	Scope    string // whose key it is: the tenant of the API key, empty for the operator's
	Key      string // 1 to 255 characters
	BodyHash [32]byte
}

// IdempotencyTTL is how long a key is remembered.
const IdempotencyTTL = 24 * time.Hour

// A Receipt answers the publication of one event.
type Receipt struct {
	ID         string
	Deliveries int
}
