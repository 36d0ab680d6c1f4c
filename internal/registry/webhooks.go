package registry

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"postrider"
)

// A WebhookStore keeps webhooks.
type WebhookStore interface {
	PutWebhook(context.Context, postrider.Webhook) error
	Webhooks(context.Context) ([]postrider.Webhook, error)
}

// maxMatches bounds how many event types' matches a tenant keeps in memory.
const maxMatches = 1000

func (r *Registry) loadWebhooks(ctx context.Context) error {
	list, err := r.o.Store.Webhooks(ctx)
	if err != nil {
		return fmt.Errorf("load the webhooks: %w", err)
	}
	slices.SortFunc(list, func(a, b postrider.Webhook) int { return compareIDs(a.ID, b.ID) })
	for i := range list {
		w := &list[i]
		r.webhooks[w.ID] = w
		t, found := r.tenants[w.Tenant]
		if !found {
			return fmt.Errorf("webhook %s belongs to tenant %q, which does not exist", w.ID, w.Tenant)
		}
		w.TenantPaused = t.Paused
		if w.DeletedAt.IsZero() {
			t.webhooks = append(t.webhooks, w)
		}
	}
	return nil
}

// CreateWebhook registers a webhook. Its id and times are filled in.
func (r *Registry) CreateWebhook(ctx context.Context, w postrider.Webhook) (postrider.Webhook, error) {
	return r.create(ctx, w, nil)
}

// CreateTemporary is CreateWebhook for one that listeners attach to. What its
// URL says is for people: nothing is sent there.
func (r *Registry) CreateTemporary(ctx context.Context, w postrider.Webhook) (postrider.Webhook, error) {
	return r.create(ctx, w, &postrider.Webhook{URL: w.URL})
}

// Temporary returns the temporary webhooks of a tenant, or of all with an empty
// name, in the order of their ids.
func (r *Registry) Temporary(tenant string) []*postrider.Webhook {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var list []*postrider.Webhook
	for _, w := range r.webhooks {
		if w.Temporary() && w.DeletedAt.IsZero() && (tenant == "" || tenant == w.Tenant) {
			list = append(list, w)
		}
	}
	slices.SortFunc(list, func(a, b *postrider.Webhook) int { return compareIDs(a.ID, b.ID) })
	return list
}

// create registers a webhook of which checked, which may be nil, was found good
// before.
func (r *Registry) create(ctx context.Context, w postrider.Webhook, checked *postrider.Webhook) (postrider.Webhook, error) {
	w.ID, w.CreatedAt = postrider.NewID(), now()
	w.UpdatedAt = w.CreatedAt
	if err := r.check(&w, checked); err != nil {
		return w, err
	}
	return w, r.changing(ctx, func() error {
		if err := r.CheckTenant("tenant", w.Tenant); err != nil {
			return err
		}
		if r.full(w.Tenant) {
			return &postrider.Error{
				Kind: postrider.Conflict, Code: "too_many_webhooks",
				Detail: fmt.Sprintf("A tenant has at most %d webhooks here. Delete one that is not needed any more; "+
					"one webhook can take many event types.", r.o.WebhooksPerTenant),
			}
		}
		if err := r.put(ctx, &w); err != nil {
			return fmt.Errorf("create a webhook: %w", err)
		}
		if r.o.Created != nil {
			r.o.Created(ctx, &w)
		}
		return nil
	})
}

// full reports whether a tenant has as many webhooks as it may have.
func (r *Registry) full(tenant string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.o.WebhooksPerTenant > 0 && len(r.tenants[tenant].webhooks) >= r.o.WebhooksPerTenant
}

// UpdateWebhook changes a webhook by a function that is given a copy of it.
func (r *Registry) UpdateWebhook(
	ctx context.Context, tenant string, id postrider.ID, change func(*postrider.Webhook),
) (saved postrider.Webhook, err error) {
	err = r.changing(ctx, func() (err error) {
		saved, err = r.update(ctx, tenant, id, change)
		return err
	})
	return saved, err
}

func (r *Registry) update(
	ctx context.Context, tenant string, id postrider.ID, change func(*postrider.Webhook),
) (postrider.Webhook, error) {
	before, err := r.Webhook(tenant, id)
	if err != nil {
		return before, err
	}
	w := before
	w.Events, w.Headers, w.RetrySchedule = slices.Clone(w.Events), maps.Clone(w.Headers), slices.Clone(w.RetrySchedule)
	change(&w)
	if w.Secret != before.Secret && slices.Equal(w.Previous, before.Previous) {
		w.Previous = nil // replaced and not rotated: what was before is not to be trusted
	}
	w.ID, w.Tenant, w.CreatedAt, w.UpdatedAt = before.ID, before.Tenant, before.CreatedAt, now()
	if w.URL != before.URL || before.Disabled != nil && w.Disabled == nil {
		w.Failing = postrider.Failing{} // another receiver, or another chance
	}
	if err := r.check(&w, &before); err != nil {
		return before, err
	}
	if err := r.put(ctx, &w); err != nil {
		return before, fmt.Errorf("update a webhook: %w", err)
	}
	r.changed(id)
	return w, nil
}

// DisableWebhook stops sending to a webhook, for a reason of the system's, and
// reports whether it did: one that is disabled or deleted already stays as it
// is.
func (r *Registry) DisableWebhook(ctx context.Context, id postrider.ID, reason postrider.Disabled) (disabled bool, err error) {
	w, found := r.WebhookByID(id)
	if !found || w.Disabled != nil || !w.DeletedAt.IsZero() {
		return false, nil
	}
	_, err = r.UpdateWebhook(ctx, w.Tenant, id, func(w *postrider.Webhook) {
		if disabled = w.Disabled == nil; disabled {
			w.Disabled = &reason
		}
	})
	return disabled && err == nil, err
}

// SetFailing notes since when a webhook fails, or with a zero Failing that it
// does no longer, if what is noted of it is still as given; whoever changes it
// first has to tell. It is no change of the webhook's that anybody made.
func (r *Registry) SetFailing(ctx context.Context, id postrider.ID, from, to postrider.Failing) (changed bool, err error) {
	err = r.changing(ctx, func() error {
		before, found := r.WebhookByID(id)
		if !found || !before.DeletedAt.IsZero() || before.Failing != from {
			return nil
		}
		w := *before
		w.Failing = to
		if err := r.put(ctx, &w); err != nil {
			return fmt.Errorf("note a webhook's failures: %w", err)
		}
		changed = true
		return nil
	})
	return changed, err
}

// DeleteWebhook ends a webhook. Its queued deliveries are left to be
// cancelled; its secrets are forgotten at once.
func (r *Registry) DeleteWebhook(ctx context.Context, tenant string, id postrider.ID) error {
	return r.changing(ctx, func() error {
		w, err := r.Webhook(tenant, id)
		if err != nil {
			return err
		}
		w.DeletedAt = now()
		w.Secret, w.Previous, w.Headers = "", nil, nil
		if err := r.put(ctx, &w); err != nil {
			return fmt.Errorf("delete a webhook: %w", err)
		}
		r.changed(id)
		return nil
	})
}

// check judges what the partner sets. The URL and the event names are judged
// when they are new, so that a rule that has become stricter since does not
// stand in the way of an unrelated change.
func (r *Registry) check(w, before *postrider.Webhook) error {
	var faults postrider.Faults
	if r.o.CheckURL != nil && (before == nil || before.URL != w.URL) {
		faults.Add(r.o.CheckURL("url", w.URL))
	}
	faults.Add(w.Check())
	if r.o.StrictCatalogue && (before == nil || !slices.Equal(before.Events, w.Events)) {
		for i, pattern := range w.Events {
			faults.Add(r.CheckCatalogued(fmt.Sprintf("events[%d]", i), pattern))
		}
	}
	return faults.Err()
}

// put writes a webhook to the store, then to memory.
func (r *Registry) put(ctx context.Context, w *postrider.Webhook) error {
	if err := r.o.Store.PutWebhook(ctx, *w); err != nil {
		return err
	}
	r.keep(*w)
	return nil
}

// keep puts a webhook that is new or has changed into memory.
func (r *Registry) keep(kept postrider.Webhook) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, found := r.tenants[kept.Tenant]
	if !found {
		return // cannot be: a tenant is told of before its webhooks
	}
	kept.TenantPaused = t.Paused
	t.webhooks = slices.DeleteFunc(slices.Clone(t.webhooks), func(old *postrider.Webhook) bool { return old.ID == kept.ID })
	if kept.DeletedAt.IsZero() {
		at, _ := slices.BinarySearchFunc(t.webhooks, kept.ID, func(w *postrider.Webhook, id postrider.ID) int {
			return compareIDs(w.ID, id)
		})
		t.webhooks = slices.Insert(t.webhooks, at, &kept)
	}
	t.matches = nil
	r.webhooks[kept.ID] = &kept
}

func (r *Registry) changed(id postrider.ID) {
	if r.o.Changed != nil {
		r.o.Changed(id)
	}
}

// Forget drops a deleted webhook from memory once its last queued delivery is
// gone.
func (r *Registry) Forget(id postrider.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w, found := r.webhooks[id]; found && !w.DeletedAt.IsZero() {
		delete(r.webhooks, id)
	}
}

// Webhook returns a tenant's webhook. One of another tenant is as missing as
// one that does not exist.
func (r *Registry) Webhook(tenant string, id postrider.ID) (postrider.Webhook, error) {
	w, found := r.WebhookByID(id)
	if !found || w.Tenant != tenant || !w.DeletedAt.IsZero() {
		return postrider.Webhook{}, postrider.Missing("webhook")
	}
	return *w, nil
}

// WebhookByID returns a webhook as it is now, deleted or not. What the pointer
// points at never changes.
func (r *Registry) WebhookByID(id postrider.ID) (*postrider.Webhook, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	w, found := r.webhooks[id]
	return w, found
}

// Webhooks returns a page of a tenant's webhooks, newest first, from below the
// id before.
func (r *Registry) Webhooks(tenant string, before postrider.ID, limit int) (page []postrider.Webhook, more bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	t, found := r.tenants[tenant]
	if !found {
		return nil, false
	}
	for _, w := range slices.Backward(t.webhooks) {
		if !below(w.ID, before) {
			continue
		}
		if len(page) == limit {
			return page, true
		}
		page = append(page, *w)
	}
	return page, false
}

// ActiveWebhooks returns the webhooks of a tenant that deliveries go out to.
func (r *Registry) ActiveWebhooks(tenant string) []*postrider.Webhook {
	r.mu.RLock()
	defer r.mu.RUnlock()
	t, found := r.tenants[tenant]
	if !found {
		return nil
	}
	active := make([]*postrider.Webhook, 0, len(t.webhooks))
	for _, w := range t.webhooks {
		if w.Sending() {
			active = append(active, w)
		}
	}
	return active
}

// Match returns a tenant's webhooks that subscribe to an event type, also
// those that are not sending now, for which deliveries are held. The slice is
// shared: it is read only.
func (r *Registry) Match(tenantName, eventType string) []*postrider.Webhook {
	r.mu.RLock()
	t, found := r.tenants[tenantName]
	if !found {
		r.mu.RUnlock()
		return nil
	}
	matched, known := t.matches[eventType]
	r.mu.RUnlock()
	if known {
		return matched
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range t.webhooks {
		if w.Subscribes(eventType) {
			matched = append(matched, w)
		}
	}
	if t.matches == nil || len(t.matches) >= maxMatches {
		t.matches = map[string][]*postrider.Webhook{}
	}
	t.matches[eventType] = matched
	return matched
}

// MatchAll is Match over every tenant.
func (r *Registry) MatchAll(eventType string) map[string][]*postrider.Webhook {
	r.mu.RLock()
	names := slices.Collect(maps.Keys(r.tenants))
	r.mu.RUnlock()
	all := map[string][]*postrider.Webhook{}
	for _, name := range names {
		if matched := r.Match(name, eventType); len(matched) > 0 {
			all[name] = matched
		}
	}
	return all
}

// TryMatch looks at up to limit webhooks of a tenant, or of every one, newest
// first and those before the others that subscribe to an event type.
func (r *Registry) TryMatch(tenantName, eventType string, limit int) (trial postrider.Trial) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names := []string{tenantName}
	if tenantName == postrider.EveryTenant {
		names = slices.Sorted(maps.Keys(r.tenants))
	}
	var others []*postrider.Webhook
	add := func(list *[]*postrider.Webhook, w *postrider.Webhook) {
		if len(*list) == limit {
			trial.Truncated = true
			return
		}
		*list = append(*list, w)
	}
	for _, name := range names {
		t, found := r.tenants[name]
		if !found {
			continue
		}
		for _, w := range slices.Backward(t.webhooks) {
			if w.Subscribes(eventType) {
				trial.Deliveries++
				add(&trial.Webhooks, w)
			} else {
				add(&others, w)
			}
		}
	}
	room := min(len(others), limit-len(trial.Webhooks))
	trial.Webhooks = append(trial.Webhooks, others[:room]...)
	trial.Truncated = trial.Truncated || room < len(others)
	return trial
}

func compareIDs(a, b postrider.ID) int { return bytes.Compare(a[:], b[:]) }

// below reports whether a row belongs to a page that starts below the id
// before; the zero id starts at the top.
func below(id, before postrider.ID) bool { return before.IsZero() || compareIDs(id, before) < 0 }
