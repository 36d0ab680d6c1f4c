package sqlite

import (
	"context"
	"fmt"

	"postrider"
)

var (
	insertTenant = prepared(`INSERT INTO tenants (name, paused, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`)
	pauseTenant  = prepared(`UPDATE tenants SET paused = ? WHERE name = ?`)
	insertAPIKey = prepared(`INSERT INTO api_keys (id, tenant_id, name, prefix, hash, created_at) VALUES (?, ?, ?, ?, ?, ?)`)
	deleteAPIKey = prepared(`DELETE FROM api_keys WHERE id = ?`)
)

const (
	tenantsSQL = `SELECT name, paused, created_at FROM tenants`
	//nolint:gosec // a query, not a credential
	apiKeysSQL = `SELECT id, tenant_id, name, prefix, hash, created_at FROM api_keys`
)

// CreateTenant stores a new tenant; a name that is taken is a conflict.
func (s *Store) CreateTenant(ctx context.Context, t postrider.Tenant) error {
	return s.write(ctx, func(tx tx) error {
		n, err := tx.exec(insertTenant, t.Name, t.Paused, micros(t.CreatedAt))
		if err == nil && n == 0 {
			return &postrider.Error{
				Kind: postrider.Conflict, Code: "tenant_exists", Field: "name",
				Detail: "There is a tenant of this name already.",
			}
		}
		return err
	})
}

// PauseTenant switches a tenant's deliveries off or on.
func (s *Store) PauseTenant(ctx context.Context, name string, paused bool) error {
	return s.write(ctx, func(tx tx) error {
		_, err := tx.exec(pauseTenant, paused, name)
		return err
	})
}

// Tenants returns all tenants, in no order.
func (s *Store) Tenants(ctx context.Context) ([]postrider.Tenant, error) {
	rows, err := s.read.QueryContext(ctx, tenantsSQL)
	if err != nil {
		return nil, fmt.Errorf("read the tenants: %w", err)
	}
	defer rows.Close()
	var tenants []postrider.Tenant
	for rows.Next() {
		var t postrider.Tenant
		var created int64
		if err := rows.Scan(&t.Name, &t.Paused, &created); err != nil {
			return nil, fmt.Errorf("read a tenant: %w", err)
		}
		t.CreatedAt = fromMicros(created)
		tenants = append(tenants, t)
	}
	return tenants, rows.Err()
}

// CreateAPIKey stores a new key.
func (s *Store) CreateAPIKey(ctx context.Context, k postrider.APIKey) error {
	return s.write(ctx, func(tx tx) error {
		_, err := tx.exec(insertAPIKey, k.ID[:], k.Tenant, k.Name, k.Prefix, k.Hash[:], micros(k.CreatedAt))
		return err
	})
}

// DeleteAPIKey removes a key; whether it existed is reported.
func (s *Store) DeleteAPIKey(ctx context.Context, id postrider.ID) (existed bool, err error) {
	err = s.write(ctx, func(tx tx) error {
		n, err := tx.exec(deleteAPIKey, id[:])
		existed = n > 0
		return err
	})
	return existed, err
}

// APIKeys returns all keys, in no order.
func (s *Store) APIKeys(ctx context.Context) ([]postrider.APIKey, error) {
	rows, err := s.read.QueryContext(ctx, apiKeysSQL)
	if err != nil {
		return nil, fmt.Errorf("read the API keys: %w", err)
	}
	defer rows.Close()
	var keys []postrider.APIKey
	for rows.Next() {
		var k postrider.APIKey
		var hash []byte
		var created int64
		if err := rows.Scan(scanID{&k.ID}, &k.Tenant, &k.Name, &k.Prefix, &hash, &created); err != nil {
			return nil, fmt.Errorf("read an API key: %w", err)
		}
		copy(k.Hash[:], hash)
		k.CreatedAt = fromMicros(created)
		keys = append(keys, k)
	}
	return keys, rows.Err()
}
