package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"postrider"
)

// What a change of the registry names is read here, one row at a time.
const (
	tenantSQL    = tenantsSQL + ` WHERE name = $1`
	apiKeySQL    = apiKeysSQL + ` WHERE id = $1`
	webhookSQL   = `SELECT ` + webhookColumns + ` FROM webhooks WHERE tenant_id = $1 AND id = $2`
	eventTypeSQL = eventTypesSQL + ` WHERE name = $1`
)

// Tenant reads a tenant.
func (s *Store) Tenant(ctx context.Context, name string) (postrider.Tenant, bool, error) {
	return readOne(ctx, s, tenantSQL, []any{name}, scanTenant)
}

// APIKey reads a key.
func (s *Store) APIKey(ctx context.Context, id postrider.ID) (postrider.APIKey, bool, error) {
	return readOne(ctx, s, apiKeySQL, []any{id}, scanAPIKey)
}

// Webhook reads a webhook, deleted or not.
func (s *Store) Webhook(ctx context.Context, tenant string, id postrider.ID) (postrider.Webhook, bool, error) {
	return readOne(ctx, s, webhookSQL, []any{tenant, id}, s.scanWebhook)
}

// EventType reads an entry of the catalogue.
func (s *Store) EventType(ctx context.Context, name string) (postrider.EventType, bool, error) {
	return readOne(ctx, s, eventTypeSQL, []any{name}, scanEventType)
}

// readOne reads the row that a key names, if it is there.
func readOne[T any](ctx context.Context, s *Store, sql string, args []any, scan pgx.RowToFunc[T]) (row T, found bool, err error) {
	list, err := readAll(ctx, s, sql, args, scan)
	if err != nil {
		return row, false, fmt.Errorf("read what has changed: %w", err)
	}
	if len(list) == 0 {
		return row, false, nil
	}
	return list[0], true, nil
}
