package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"postrider"
)

// exportSQL are the queries of the tables whose rows are kept here in another
// form than that in which they move.
var exportSQL = map[string]string{
	"queue": `
SELECT q.tenant_id, q.event_id, q.webhook_id, q.trigger, q.attempts, q.retries, q.accepted_at, q.due_at,
    coalesce(e.created_at, q.accepted_at), q.size
FROM queue q LEFT JOIN events e ON e.tenant_id = q.tenant_id AND e.id = q.event_id AND e.day = q.day
ORDER BY q.webhook_id, q.due_at, q.place`,
	"fanouts": `
SELECT f.tenant_id, f.event_id, f.after, e.created_at
FROM fanouts f JOIN events e ON e.tenant_id = f.tenant_id AND e.id = f.event_id AND e.day = f.day`,
}

const (
	// Nobody becomes a node while it is held: who tries waits for as long as
	// for any lock, and ends with an error.
	lockNodesSQL  = `LOCK TABLE nodes IN SHARE MODE`
	otherNodesSQL = `SELECT count(*) FROM nodes WHERE ended_at IS NULL AND beat_at > now() - $1::interval AND id <> $2`
	// All is read and written once: an index helps only where rows are wanted
	// in its order.
	wholeTablesSQL = `SET LOCAL enable_seqscan = on`
)

// alone runs a transaction on a connection of its own, in which this process is
// the only node and stays so.
func (s *Store) alone(ctx context.Context, run func(context.Context, pgx.Tx) error) (err error) {
	c, err := pgx.ConnectConfig(ctx, s.patient())
	if err != nil {
		return userError(withoutPassword(err))
	}
	defer func() { err = errors.Join(err, c.Close(context.WithoutCancel(ctx))) }()
	return userError(pgx.BeginTxFunc(ctx, c, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockNodesSQL); err != nil {
			return fmt.Errorf("keep other nodes out: %w", err)
		}
		var others int
		if err := tx.QueryRow(ctx, otherNodesSQL, Lease, s.run.Load()).Scan(&others); err != nil {
			return fmt.Errorf("look for other nodes: %w", err)
		}
		if others > 0 {
			return postrider.ErrInUse
		}
		if _, err := tx.Exec(ctx, wholeTablesSQL); err != nil {
			return err
		}
		return run(ctx, tx)
	}))
}

// Export hands over all rows, as they are at one moment: first about how many
// each table has, then row by row, in slices that are used again. No other node
// may run.
func (s *Store) Export(ctx context.Context, begin func(rows []int64) error, row func(*postrider.ExportTable, []any) error) error {
	return s.alone(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := countRows(ctx, tx)
		if err != nil {
			return err
		}
		if err := begin(rows); err != nil {
			return err
		}
		for i := range postrider.ExportTables {
			if err := exportTable(ctx, tx, &postrider.ExportTables[i], row); err != nil {
				return fmt.Errorf("export %s: %w", postrider.ExportTables[i].Name, err)
			}
		}
		return nil
	})
}

func countRows(ctx context.Context, tx pgx.Tx) (rows []int64, err error) {
	for i := range postrider.ExportTables {
		var n int64
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM `+postrider.ExportTables[i].Name).Scan(&n); err != nil {
			return nil, fmt.Errorf("count the rows of %s: %w", postrider.ExportTables[i].Name, err)
		}
		rows = append(rows, n)
	}
	return rows, nil
}

func exportTable(ctx context.Context, tx pgx.Tx, table *postrider.ExportTable, row func(*postrider.ExportTable, []any) error) error {
	text, special := exportSQL[table.Name]
	if !special {
		names := make([]string, len(table.Columns))
		for i, column := range table.Columns {
			names[i] = column.Name
			if column.Kind == postrider.ExportJSON {
				names[i] += "::text"
			}
		}
		text = `SELECT ` + strings.Join(names, ", ") + ` FROM ` + table.Name
	}
	found, err := tx.Query(ctx, text)
	if err != nil {
		return err
	}
	defer found.Close()
	values, into := make([]any, len(table.Columns)), make([]any, len(table.Columns))
	for i, column := range table.Columns {
		into[i] = column0(column.Kind)
	}
	for found.Next() {
		if err := found.Scan(into...); err != nil {
			return err
		}
		for i, column := range table.Columns {
			if values[i], err = exported(column.Kind, into[i]); err != nil {
				return fmt.Errorf("%s: %w", column.Name, err)
			}
		}
		if err := row(table, values); err != nil {
			return err
		}
	}
	return found.Err()
}
