// Package registry knows what is registered: tenants, API keys, webhooks and
// the catalogue of event types. It keeps them in memory, so that publishing
// and sending ask no database, and writes every change to the store first.
//
// It must not know events, deliveries or sockets. The api and the portal
// change it, publish matches against it, dispatch reads webhooks from it.
package registry

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"postrider"
)

// A Store keeps what is registered.
type Store interface {
	TenantStore
	KeyStore
	WebhookStore
	CatalogueStore
}

// Options are a Registry's settings; the zero value of each but Store is
// usable.
type Options struct {
	Store Store
	// Shared is the store once more where other nodes write to it, too; nil: no
	// other does.
	Shared Shared
	Logger *slog.Logger // nil: nowhere
	// AdminKey is an operator's key that is valid without being stored.
	AdminKey string
	// CheckURL judges where a webhook may point.
	CheckURL func(field, url string) error
	// StrictCatalogue refuses webhooks for event types that the catalogue
	// lacks.
	StrictCatalogue bool
	// WebhooksPerTenant is how many a tenant may have; 0: any number.
	WebhooksPerTenant int
	// Created is called with every new webhook, and Changed with the id of
	// every changed or deleted one, after the store has it. Changed is called
	// with those of other nodes, too.
	Created func(context.Context, *postrider.Webhook)
	Changed func(postrider.ID)
}

// A Registry may be used concurrently.
type Registry struct {
	o Options

	writing  turn         // one change at a time, so that memory and store agree
	revision int64        // the last change that was taken over; guarded by the turn
	mu       sync.RWMutex // guards what follows; never held during a write to the store
	tenants  map[string]*tenant
	webhooks map[postrider.ID]*postrider.Webhook // also deleted ones with queued deliveries
	keys     map[[sha256.Size]byte]postrider.APIKey
	types    map[string]postrider.EventType
}

// A turn is held during a write to the store, which can take a while. It is a
// mutex that a test in simulated time may wait for.
type turn chan struct{}

func (t turn) Lock()   { t <- struct{}{} }
func (t turn) Unlock() { <-t }

// A tenant with its webhooks. A webhook behind a pointer never changes: a
// change puts another in its place.
type tenant struct {
	postrider.Tenant

	webhooks []*postrider.Webhook            // oldest first, without deleted ones
	matches  map[string][]*postrider.Webhook // by event type, made when first asked for
}

// New reads everything registered from the store, and makes the default
// tenant when it is missing. Changes of other nodes are taken over by Run.
func New(ctx context.Context, o Options) (*Registry, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Registry{
		o: o, writing: make(turn, 1), tenants: map[string]*tenant{}, webhooks: map[postrider.ID]*postrider.Webhook{},
		keys: map[[sha256.Size]byte]postrider.APIKey{}, types: map[string]postrider.EventType{},
	}
	if o.Shared != nil {
		r.revision = o.Shared.Revision() // before the first read: what is newer is read again
	}
	if err := r.loadTenants(ctx); err != nil {
		return nil, err
	}
	if err := r.loadWebhooks(ctx); err != nil {
		return nil, err
	}
	types, err := o.Store.EventTypes(ctx)
	if err != nil {
		return nil, fmt.Errorf("load the catalogue: %w", err)
	}
	maps.Copy(r.types, systemTypes)
	for _, t := range types {
		r.types[t.Name] = t
	}
	if _, found := r.tenants[postrider.DefaultTenant]; !found {
		_, err := r.CreateTenant(ctx, postrider.DefaultTenant)
		if _, found := r.tenants[postrider.DefaultTenant]; err != nil && !found { // another node may have made it meanwhile
			return nil, fmt.Errorf("make the default tenant: %w", err)
		}
	}
	return r, nil
}

// now is the time that a change is given: to the microsecond, as it is kept.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
