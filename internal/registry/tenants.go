package registry

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"maps"
	"slices"

	"postrider"
)

// A TenantStore keeps tenants.
type TenantStore interface {
	CreateTenant(context.Context, postrider.Tenant) error
	PauseTenant(ctx context.Context, name string, paused bool) error
	Tenants(context.Context) ([]postrider.Tenant, error)
}

// A KeyStore keeps API keys.
type KeyStore interface {
	CreateAPIKey(context.Context, postrider.APIKey) error
	DeleteAPIKey(context.Context, postrider.ID) (existed bool, err error)
	APIKeys(context.Context) ([]postrider.APIKey, error)
}

func (r *Registry) loadTenants(ctx context.Context) error {
	tenants, err := r.o.Store.Tenants(ctx)
	if err != nil {
		return fmt.Errorf("load the tenants: %w", err)
	}
	for _, t := range tenants {
		r.tenants[t.Name] = &tenant{Tenant: t}
	}
	keys, err := r.o.Store.APIKeys(ctx)
	if err != nil {
		return fmt.Errorf("load the API keys: %w", err)
	}
	for _, key := range keys {
		r.keys[key.Hash] = key
	}
	if r.o.AdminKey != "" {
		hash := postrider.HashAPIKey(r.o.AdminKey)
		r.keys[hash] = postrider.APIKey{Name: "configured", Hash: hash}
	}
	return nil
}

// Authenticate returns the API key whose text is given.
//
// Looking a hash up in a map takes a time that depends on the hash, and a
// caller cannot choose hashes: nothing about other keys can be learned.
func (r *Registry) Authenticate(text string) (postrider.APIKey, error) {
	hash := postrider.HashAPIKey(text)
	r.mu.RLock()
	key := r.keys[hash]
	r.mu.RUnlock()
	if subtle.ConstantTimeCompare(key.Hash[:], hash[:]) != 1 {
		return postrider.APIKey{}, &postrider.Error{
			Kind: postrider.Unauthenticated, Code: "unauthenticated",
			Detail: "The API key is missing or unknown: send it as x-api-key, or as a Bearer token in Authorization.",
		}
	}
	return key, nil
}

// HasOperator reports whether any operator's key exists.
func (r *Registry) HasOperator() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, key := range r.keys {
		if key.Operator() {
			return true
		}
	}
	return false
}

// CreateTenant registers a partner's account.
func (r *Registry) CreateTenant(ctx context.Context, name string) (postrider.Tenant, error) {
	t := postrider.Tenant{Name: name, CreatedAt: now()}
	if err := postrider.CheckTenantName("name", name); err != nil {
		return t, err
	}
	return t, r.changing(ctx, func() error {
		if err := r.o.Store.CreateTenant(ctx, t); err != nil {
			return err
		}
		r.keepTenant(t)
		return nil
	})
}

// PauseTenant switches a tenant's deliveries off, or on again. Those of its
// webhooks are held meanwhile.
func (r *Registry) PauseTenant(ctx context.Context, name string, paused bool) (saved postrider.Tenant, err error) {
	err = r.changing(ctx, func() error {
		t, err := r.Tenant(name)
		if err != nil {
			return err
		}
		if err := r.o.Store.PauseTenant(ctx, name, paused); err != nil {
			return fmt.Errorf("pause a tenant: %w", err)
		}
		t.Paused = paused
		r.keepTenant(t)
		saved = t
		return nil
	})
	return saved, err
}

// keepTenant puts a tenant that is new or has changed into memory.
func (r *Registry) keepTenant(now postrider.Tenant) {
	r.mu.Lock()
	t, found := r.tenants[now.Name]
	if !found {
		t = &tenant{}
		r.tenants[now.Name] = t
	}
	switched := t.Paused != now.Paused
	t.Tenant = now
	var webhooks []*postrider.Webhook
	if switched {
		t.matches = nil
		for i, old := range t.webhooks {
			w := *old
			w.TenantPaused = now.Paused
			t.webhooks[i], r.webhooks[w.ID] = &w, &w
		}
		webhooks = slices.Clone(t.webhooks)
	}
	r.mu.Unlock()
	for _, w := range webhooks {
		r.changed(w.ID)
	}
}

// Tenant returns the tenant of a name.
func (r *Registry) Tenant(name string) (postrider.Tenant, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if t, found := r.tenants[name]; found {
		return t.Tenant, nil
	}
	return postrider.Tenant{}, postrider.Missing("tenant")
}

// Tenants returns a page of tenants, newest first, from below the one named
// after.
func (r *Registry) Tenants(after string, limit int) (page []postrider.Tenant, more bool) {
	newest := func(a, b postrider.Tenant) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.Name, a.Name))
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	start, found := r.tenants[after]
	for _, t := range r.tenants {
		if !found || newest(start.Tenant, t.Tenant) < 0 {
			page = append(page, t.Tenant)
		}
	}
	slices.SortFunc(page, newest)
	return cut(page, limit)
}

// cut keeps a page's first rows and reports whether there were more.
func cut[T any](list []T, limit int) (page []T, more bool) {
	if len(list) > limit {
		return list[:limit], true
	}
	return list, false
}

// CreateAPIKey makes a key for a tenant, or with an empty tenant for an
// operator. Its text is not to be had again.
func (r *Registry) CreateAPIKey(ctx context.Context, tenant, name string) (postrider.APIKey, string, error) {
	var faults postrider.Faults
	if tenant != "" {
		faults.Add(r.CheckTenant("tenant", tenant))
	}
	faults.Add(postrider.CheckName("name", name))
	if err := faults.Err(); err != nil {
		return postrider.APIKey{}, "", err
	}
	key, text := postrider.NewAPIKey(tenant, name, now())
	if err := r.changing(ctx, func() error { return r.createKey(ctx, key) }); err != nil {
		return postrider.APIKey{}, "", err
	}
	return key, text, nil
}

// CreateFirstKey makes an operator's key when there is none, over all nodes
// once. The text is empty when there was one.
func (r *Registry) CreateFirstKey(ctx context.Context, name string) (text string, err error) {
	err = r.changing(ctx, func() error {
		if text = ""; r.HasOperator() {
			return nil
		}
		var key postrider.APIKey
		key, text = postrider.NewAPIKey("", name, now())
		return r.createKey(ctx, key)
	})
	return text, err
}

func (r *Registry) createKey(ctx context.Context, key postrider.APIKey) error {
	if err := r.o.Store.CreateAPIKey(ctx, key); err != nil {
		return fmt.Errorf("create an API key: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[key.Hash] = key
	return nil
}

// CheckTenant refuses a field that names no tenant.
func (r *Registry) CheckTenant(field, name string) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if _, found := r.tenants[name]; !found {
		return &postrider.Error{
			Kind: postrider.Invalid, Code: "unknown_tenant", Field: field,
			Detail: "There is no tenant of this name. Create it first with POST /v0/tenants.",
		}
	}
	return nil
}

// APIKeys returns a page of keys, newest first, from below the id before: a
// tenant's, or with an empty tenant all.
func (r *Registry) APIKeys(tenant string, before postrider.ID, limit int) (page []postrider.APIKey, more bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, key := range r.keys {
		stored := !key.ID.IsZero()
		if stored && (tenant == "" || key.Tenant == tenant) && below(key.ID, before) {
			page = append(page, key)
		}
	}
	slices.SortFunc(page, func(a, b postrider.APIKey) int { return compareIDs(b.ID, a.ID) })
	return cut(page, limit)
}

// DeleteAPIKey revokes a key; it stops working at once.
func (r *Registry) DeleteAPIKey(ctx context.Context, id postrider.ID) error {
	return r.changing(ctx, func() error {
		existed, err := r.o.Store.DeleteAPIKey(ctx, id)
		if err != nil {
			return fmt.Errorf("delete an API key: %w", err)
		}
		if !existed {
			return postrider.Missing("API key")
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.dropKey(id)
		return nil
	})
}

// dropKey forgets a key. The caller holds the lock.
func (r *Registry) dropKey(id postrider.ID) {
	maps.DeleteFunc(r.keys, func(_ [sha256.Size]byte, key postrider.APIKey) bool { return key.ID == id })
}
