package sqlite

import (
	"context"
	"fmt"

	"postrider"
)

var (
	putEventType = prepared(`
INSERT INTO event_types (name, description, notes, schema, example, deprecated, created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
ON CONFLICT (name) DO UPDATE SET description = ?2, notes = ?3, schema = ?4, example = ?5, deprecated = ?6, updated_at = ?8`)
	deleteEventType = prepared(`DELETE FROM event_types WHERE name = ?`)
)

const eventTypesSQL = `
SELECT name, description, notes, schema, example, deprecated, created_at, updated_at FROM event_types`

// PutEventType writes an entry of the catalogue, new or changed.
func (s *Store) PutEventType(ctx context.Context, t postrider.EventType) error {
	return s.write(ctx, func(tx tx) error {
		_, err := tx.exec(putEventType, t.Name, t.Description, t.Notes, t.Schema, t.Example, t.Deprecated,
			micros(t.CreatedAt), micros(t.UpdatedAt))
		return err
	})
}

// DeleteEventType removes an entry; whether it existed is reported.
func (s *Store) DeleteEventType(ctx context.Context, name string) (existed bool, err error) {
	err = s.write(ctx, func(tx tx) error {
		n, err := tx.exec(deleteEventType, name)
		existed = n > 0
		return err
	})
	return existed, err
}

// EventTypes returns the whole catalogue, in no order.
func (s *Store) EventTypes(ctx context.Context) ([]postrider.EventType, error) {
	rows, err := s.read.QueryContext(ctx, eventTypesSQL)
	if err != nil {
		return nil, fmt.Errorf("read the catalogue: %w", err)
	}
	defer rows.Close()
	var types []postrider.EventType
	for rows.Next() {
		var t postrider.EventType
		var created, updated int64
		if err := rows.Scan(&t.Name, &t.Description, &t.Notes, &t.Schema, &t.Example, &t.Deprecated,
			&created, &updated); err != nil {
			return nil, fmt.Errorf("read an entry of the catalogue: %w", err)
		}
		t.CreatedAt, t.UpdatedAt = fromMicros(created), fromMicros(updated)
		types = append(types, t)
	}
	return types, rows.Err()
}
