package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"postrider"
)

const (
	putEventTypeSQL = `
INSERT INTO event_types (name, description, notes, schema, example, deprecated, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (name) DO UPDATE SET description = $2, notes = $3, schema = $4, example = $5, deprecated = $6, updated_at = $8`
	deleteEventTypeSQL = `DELETE FROM event_types WHERE name = $1`
	eventTypesSQL      = `SELECT name, description, notes, schema, example, deprecated, created_at, updated_at FROM event_types`
)

// PutEventType writes an entry of the catalogue, new or changed.
func (s *Store) PutEventType(ctx context.Context, t postrider.EventType) error {
	change := postrider.Change{Noun: postrider.NounEventType, Key: t.Name}
	return s.change(ctx, change, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, putEventTypeSQL, t.Name, t.Description, t.Notes, t.Schema, t.Example, t.Deprecated, t.CreatedAt, t.UpdatedAt)
		return err
	})
}

// DeleteEventType removes an entry; whether it existed is reported.
func (s *Store) DeleteEventType(ctx context.Context, name string) (existed bool, err error) {
	change := postrider.Change{Noun: postrider.NounEventType, Key: name}
	err = s.change(ctx, change, func(ctx context.Context, tx pgx.Tx) error {
		done, err := tx.Exec(ctx, deleteEventTypeSQL, name)
		existed = done.RowsAffected() > 0
		return err
	})
	return existed, err
}

// EventTypes returns the whole catalogue, in no order.
func (s *Store) EventTypes(ctx context.Context) ([]postrider.EventType, error) {
	list, err := readAll(ctx, s, eventTypesSQL, nil, scanEventType)
	if err != nil {
		return nil, fmt.Errorf("read the catalogue: %w", err)
	}
	return list, nil
}

func scanEventType(row pgx.CollectableRow) (t postrider.EventType, err error) {
	err = row.Scan(&t.Name, &t.Description, &t.Notes, &t.Schema, &t.Example, &t.Deprecated, &t.CreatedAt, &t.UpdatedAt)
	t.CreatedAt, t.UpdatedAt = t.CreatedAt.UTC(), t.UpdatedAt.UTC()
	return t, err
}
