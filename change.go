package postrider

import "errors"

// A Change is one of the registry's, as a node that shares its store with
// others hears of it: what it names is to be read anew.
type Change struct {
	Revision int64 // rises by one with each change
	Noun     Noun
	Tenant   string // whose it is; the tenant's own name when it is a tenant; empty: the operator's, or nobody's
	Key      string // the id or name within the tenant
}

// A Noun is what sort of thing has changed.
type Noun string

// The nouns whose changes are told.
const (
	NounTenant    Noun = "tenant"
	NounAPIKey    Noun = "api_key"
	NounWebhook   Noun = "webhook"
	NounEventType Noun = "event_type"
)

// ErrStale is a store's refusal of a change of the registry that was decided
// without knowing of another node's. Nothing was written: hear of the changes,
// decide again, and try again.
var ErrStale = errors.New("another node has changed the registry meanwhile")
