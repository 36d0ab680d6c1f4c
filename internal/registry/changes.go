package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postrider"
)

// Shared is a store that other nodes write to, too. It refuses a change with
// ErrStale that was decided without knowing of another node's.
type Shared interface {
	// Changes are what was changed after a revision, in order.
	Changes(ctx context.Context, after int64) ([]postrider.Change, error)
	// Changed signals that there may be changes.
	Changed() <-chan struct{}
	// Revision is the last change that the store has handed out or made.
	Revision() int64
	Rows
}

// Rows read what a change names.
type Rows interface {
	Tenant(ctx context.Context, name string) (t postrider.Tenant, found bool, err error)
	APIKey(ctx context.Context, id postrider.ID) (key postrider.APIKey, found bool, err error)
	Webhook(ctx context.Context, tenant string, id postrider.ID) (w postrider.Webhook, found bool, err error)
	EventType(ctx context.Context, name string) (t postrider.EventType, found bool, err error)
}

const (
	// refreshEvery is how often changes are asked for that nothing told of.
	refreshEvery = time.Second
	// changePatience is how long a change is decided again because others were
	// first.
	changePatience = 10 * time.Second
)

// Run takes over what other nodes change, until the context ends.
func (r *Registry) Run(ctx context.Context) error {
	if r.o.Shared == nil {
		return nil
	}
	for away := false; ; {
		nap := time.NewTimer(refreshEvery)
		changed := r.o.Shared.Changed()
		if away {
			changed = nil // the store is asked once a second, whatever it signals
		}
		select {
		case <-ctx.Done():
			nap.Stop()
			return nil
		case <-changed:
			nap.Stop()
		case <-nap.C:
		}
		err := r.Refresh(ctx)
		if err != nil && !away && ctx.Err() == nil {
			r.o.Logger.Error("the registry hears of no changes", "error", err)
		}
		away = err != nil
	}
}

// Refresh takes over what other nodes have changed by now.
func (r *Registry) Refresh(ctx context.Context) error {
	if r.o.Shared == nil {
		return nil
	}
	r.writing.Lock()
	defer r.writing.Unlock()
	return r.refresh(ctx)
}

// changing makes a change: one at a time, so that memory and store agree, and
// decided again when another node's came first.
func (r *Registry) changing(ctx context.Context, change func() error) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	for start := time.Now(); ; {
		known := r.o.Shared == nil || r.revision == r.o.Shared.Revision()
		if known { // otherwise changes were handed out that could not be read
			err := change()
			if err == nil && r.o.Shared != nil {
				r.revision = r.o.Shared.Revision()
			}
			if !errors.Is(err, postrider.ErrStale) {
				return err
			}
		}
		if time.Since(start) > changePatience {
			return errors.Join(&postrider.Error{
				Kind: postrider.Unavailable, Code: "store_unavailable", RetryAfter: time.Second,
				Detail: "Other nodes change so much that this change did not get its turn. Nothing was changed; try again.",
			}, postrider.ErrStale)
		}
		if err := r.refresh(ctx); err != nil {
			return err
		}
	}
}

// refresh reads anew what has changed. Whoever calls it has the turn.
func (r *Registry) refresh(ctx context.Context) error {
	for {
		changes, err := r.o.Shared.Changes(ctx, r.revision)
		if err != nil {
			return fmt.Errorf("ask for changes of the registry: %w", err)
		}
		if len(changes) == 0 {
			return nil
		}
		for i := range changes {
			if err := r.apply(ctx, &changes[i]); err != nil {
				return fmt.Errorf("take over a change of %s %q: %w", changes[i].Noun, changes[i].Key, err)
			}
			r.revision = changes[i].Revision
		}
	}
}

func (r *Registry) apply(ctx context.Context, c *postrider.Change) error {
	switch c.Noun {
	case postrider.NounTenant:
		t, found, err := r.o.Shared.Tenant(ctx, c.Key)
		if found && err == nil {
			r.keepTenant(t)
		}
		return err
	case postrider.NounAPIKey:
		return r.applyKey(ctx, c.Key)
	case postrider.NounWebhook:
		return r.applyWebhook(ctx, c)
	case postrider.NounEventType:
		t, found, err := r.o.Shared.EventType(ctx, c.Key)
		if err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if delete(r.types, c.Key); found {
			r.types[t.Name] = t
		}
	}
	return nil // a newer node's noun is none of ours
}

func (r *Registry) applyKey(ctx context.Context, text string) error {
	id, err := postrider.ParseID(text)
	if err != nil {
		return err
	}
	key, found, err := r.o.Shared.APIKey(ctx, id)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropKey(id)
	if found {
		r.keys[key.Hash] = key
	}
	return nil
}

func (r *Registry) applyWebhook(ctx context.Context, c *postrider.Change) error {
	id, err := postrider.ParseID(c.Key)
	if err != nil {
		return err
	}
	w, found, err := r.o.Shared.Webhook(ctx, c.Tenant, id)
	if err != nil {
		return err
	}
	if !found {
		return nil // it has been deleted, and forgotten by the store
	}
	r.keep(w)
	r.changed(id)
	return nil
}
