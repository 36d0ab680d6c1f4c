package registry

import (
	"cmp"
	"context"
	"crypto/subtle"
	"fmt"
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
	r.writing.Lock()
	defer r.writing.Unlock()
	if err := r.o.Store.CreateTenant(ctx, t); err != nil {
		return t, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tenants[name] = &tenant{Tenant: t}
	return t, nil
}

// PauseTenant switches a tenant's deliveries off, or on again. Those of its
// webhooks are held meanwhile.
func (r *Registry) PauseTenant(ctx context.Context, name string, paused bool) (postrider.Tenant, error) {
	r.writing.Lock()
	defer r.writing.Unlock()
	if _, err := r.Tenant(name); err != nil {
		return postrider.Tenant{}, err
	}
	if err := r.o.Store.PauseTenant(ctx, name, paused); err != nil {
		return postrider.Tenant{}, fmt.Errorf("pause a tenant: %w", err)
	}
	r.mu.Lock()
	t := r.tenants[name]
	t.Paused = paused
	t.matches = nil
	for i, old := range t.webhooks {
		w := *old
		w.TenantPaused = paused
		t.webhooks[i], r.webhooks[w.ID] = &w, &w
	}
	saved, webhooks := t.Tenant, slices.Clone(t.webhooks)
	r.mu.Unlock()
	for _, w := range webhooks {
		r.changed(w.ID)
	}
	return saved, nil
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
	r.writing.Lock()
	defer r.writing.Unlock()
	if err := r.o.Store.CreateAPIKey(ctx, key); err != nil {
		return postrider.APIKey{}, "", fmt.Errorf("create an API key: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[key.Hash] = key
	return key, text, nil
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
	r.writing.Lock()
	defer r.writing.Unlock()
	existed, err := r.o.Store.DeleteAPIKey(ctx, id)
	if err != nil {
		return fmt.Errorf("delete an API key: %w", err)
	}
	if !existed {
		return postrider.Missing("API key")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for hash, key := range r.keys {
		if key.ID == id {
			delete(r.keys, hash)
		}
	}
	return nil
}
