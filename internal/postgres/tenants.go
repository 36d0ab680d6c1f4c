package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"postrider"
)

const (
	insertTenantSQL = `INSERT INTO tenants (name, paused, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
	pauseTenantSQL  = `UPDATE tenants SET paused = $2 WHERE name = $1`
	tenantsSQL      = `SELECT name, paused, created_at FROM tenants`

	//nolint:gosec // queries, not credentials
	insertAPIKeySQL = `INSERT INTO api_keys (id, tenant_id, name, prefix, hash, created_at) VALUES ($1, $2, $3, $4, $5, $6)`
	//nolint:gosec // as above
	deleteAPIKeySQL = `DELETE FROM api_keys WHERE id = $1`
	//nolint:gosec // as above
	apiKeysSQL = `SELECT id, tenant_id, name, prefix, hash, created_at FROM api_keys`
)

// CreateTenant stores a new tenant; a name that is taken is a conflict.
func (s *Store) CreateTenant(ctx context.Context, t postrider.Tenant) error {
	change := postrider.Change{Noun: postrider.NounTenant, Tenant: t.Name, Key: t.Name}
	return s.change(ctx, change, func(ctx context.Context, tx pgx.Tx) error {
		done, err := tx.Exec(ctx, insertTenantSQL, t.Name, t.Paused, t.CreatedAt)
		if err == nil && done.RowsAffected() == 0 {
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
	change := postrider.Change{Noun: postrider.NounTenant, Tenant: name, Key: name}
	return s.change(ctx, change, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, pauseTenantSQL, name, paused)
		return err
	})
}

// Tenants returns all tenants, in no order.
func (s *Store) Tenants(ctx context.Context) ([]postrider.Tenant, error) {
	list, err := readAll(ctx, s, tenantsSQL, nil, scanTenant)
	if err != nil {
		return nil, fmt.Errorf("read the tenants: %w", err)
	}
	return list, nil
}

func scanTenant(row pgx.CollectableRow) (t postrider.Tenant, err error) {
	err = row.Scan(&t.Name, &t.Paused, &t.CreatedAt)
	t.CreatedAt = t.CreatedAt.UTC()
	return t, err
}

// CreateAPIKey stores a new key.
func (s *Store) CreateAPIKey(ctx context.Context, k postrider.APIKey) error {
	change := postrider.Change{Noun: postrider.NounAPIKey, Tenant: k.Tenant, Key: k.ID.String()}
	return s.change(ctx, change, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, insertAPIKeySQL, k.ID, k.Tenant, k.Name, k.Prefix, k.Hash[:], k.CreatedAt)
		return err
	})
}

// DeleteAPIKey removes a key; whether it existed is reported.
func (s *Store) DeleteAPIKey(ctx context.Context, id postrider.ID) (existed bool, err error) {
	change := postrider.Change{Noun: postrider.NounAPIKey, Key: id.String()}
	err = s.change(ctx, change, func(ctx context.Context, tx pgx.Tx) error {
		done, err := tx.Exec(ctx, deleteAPIKeySQL, id)
		existed = done.RowsAffected() > 0
		return err
	})
	return existed, err
}

// APIKeys returns all keys, in no order.
func (s *Store) APIKeys(ctx context.Context) ([]postrider.APIKey, error) {
	list, err := readAll(ctx, s, apiKeysSQL, nil, scanAPIKey)
	if err != nil {
		return nil, fmt.Errorf("read the API keys: %w", err)
	}
	return list, nil
}

func scanAPIKey(row pgx.CollectableRow) (k postrider.APIKey, err error) {
	var hash []byte
	err = row.Scan(&k.ID, &k.Tenant, &k.Name, &k.Prefix, &hash, &k.CreatedAt)
	copy(k.Hash[:], hash)
	k.CreatedAt = k.CreatedAt.UTC()
	return k, err
}
