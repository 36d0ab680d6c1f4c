package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"postrider"
)

// exportSQL are the queries of the tables whose rows are kept here in another
// form than that in which they move. Where two deliveries of a webhook are due
// at the same time, the table's key has the order, as it has for the lanes.
var exportSQL = map[string]string{
	"queue": `
SELECT q.tenant_id, q.event_id, q.webhook_id, q.trigger, q.attempts, q.retries, q.accepted_at, q.due_at,
    coalesce(e.created_at, q.accepted_at), coalesce(length(e.payload), 0)
FROM queue q INDEXED BY queue_due LEFT JOIN events e ON e.tenant_id = q.tenant_id AND e.id = q.event_id
ORDER BY q.webhook_id, q.due_at`,
	"fanouts": `
SELECT f.tenant_id, f.event_id, f.after, e.created_at
FROM fanouts f CROSS JOIN events e ON e.tenant_id = f.tenant_id AND e.id = f.event_id`,
	"replay_deliveries": `
SELECT r.tenant_id, d.replay_id, d.accepted_at, d.event_id, d.attempts
FROM replays r CROSS JOIN replay_deliveries d ON d.replay_id = r.id`,
	"replays": `
SELECT tenant_id, id, webhook_id, from_at, to_at, status, CASE events WHEN 'null' THEN '[]' ELSE events END, dry_run, rate, state,
    after, total, queued, skipped, open, created_at, ended_at
FROM replays`,
	"tallies": `
SELECT tenant_id, CASE webhook_id WHEN x'' THEN zeroblob(16) ELSE webhook_id END, minute, successes, failures, ` + latencyColumns + `
FROM tallies`,
}

// notKept are the columns that come with a row and are not kept with it here.
var notKept = map[string][]string{
	"queue": {"event_created_at", "size"}, "fanouts": {"event_created_at"}, "replay_deliveries": {"tenant_id"},
}

// Export hands over all rows: first about how many each table has, then row by
// row, in slices that are used again. The directory's lock keeps others out
// meanwhile; this store must not be written to. What waits in bundles is put
// into the queue before, since only that moves.
func (s *Store) Export(ctx context.Context, begin func(rows []int64) error, row func(*postrider.ExportTable, []any) error) error {
	if err := s.spillBefore(ctx, math.MaxInt64); err != nil {
		return fmt.Errorf("queue what is in bundles: %w", err)
	}
	rows := make([]int64, len(postrider.ExportTables))
	for i := range postrider.ExportTables {
		if err := s.read.QueryRowContext(ctx, `SELECT count(*) FROM `+postrider.ExportTables[i].Name).Scan(&rows[i]); err != nil {
			return fmt.Errorf("count the rows of %s: %w", postrider.ExportTables[i].Name, err)
		}
	}
	if err := begin(rows); err != nil {
		return err
	}
	for i := range postrider.ExportTables {
		if err := s.exportTable(ctx, &postrider.ExportTables[i], row); err != nil {
			return fmt.Errorf("export %s: %w", postrider.ExportTables[i].Name, err)
		}
	}
	return nil
}

func (s *Store) exportTable(ctx context.Context, table *postrider.ExportTable, row func(*postrider.ExportTable, []any) error) error {
	text, special := exportSQL[table.Name]
	if !special {
		text = `SELECT ` + strings.Join(columnNames(table, nil), ", ") + ` FROM ` + table.Name
	}
	found, err := s.read.QueryContext(ctx, text)
	if err != nil {
		return err
	}
	defer found.Close()
	values, into := make([]any, len(table.Columns)), make([]any, len(table.Columns))
	for i := range values {
		into[i] = &values[i]
	}
	for found.Next() {
		if err := found.Scan(into...); err != nil {
			return err
		}
		if err := row(table, values); err != nil {
			return err
		}
	}
	return found.Err()
}

func columnNames(table *postrider.ExportTable, without []string) (names []string) {
	for _, column := range table.Columns {
		if !slices.Contains(without, column.Name) {
			names = append(names, column.Name)
		}
	}
	return names
}

// Import writes what next returns, batch by batch until io.EOF. How many rows
// each table has then, is for check to judge. It is one transaction: when it
// does not come to its end, nothing was written. The store must be empty.
func (s *Store) Import(
	ctx context.Context, next func() (postrider.ExportBatch, error), check func(rows []int64) error,
) (err error) {
	db, err := sql.Open("sqlite", dsn(filepath.Join(filepath.Dir(s.lock.Name()), FileName), largeCache, "_txlock=immediate"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin the import: %w", err)
	}
	defer tx.Rollback() // after the commit it does nothing
	for i := range postrider.ExportTables {
		name := postrider.ExportTables[i].Name
		var filled bool
		if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM `+name+`)`).Scan(&filled); err != nil {
			return fmt.Errorf("look for rows in %s: %w", name, err)
		}
		if filled {
			return fmt.Errorf("%w: it has %s", postrider.ErrNotEmpty, name)
		}
	}
	if err := importAll(ctx, tx, next); err != nil {
		return err
	}
	var rows []int64
	for i := range postrider.ExportTables {
		var n int64
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM `+postrider.ExportTables[i].Name).Scan(&n); err != nil {
			return fmt.Errorf("count the rows of %s: %w", postrider.ExportTables[i].Name, err)
		}
		rows = append(rows, n)
	}
	if err := check(rows); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit the import: %w", userError(err))
	}
	return nil
}

func importAll(ctx context.Context, tx *sql.Tx, next func() (postrider.ExportBatch, error)) (err error) {
	var w *tableWriter
	defer func() {
		if w != nil {
			err = errors.Join(err, w.insert.Close())
		}
	}()
	for {
		batch, err := next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if w == nil || w.table != batch.Table {
			if w != nil {
				if err := w.insert.Close(); err != nil {
					return err
				}
			}
			if w, err = newTableWriter(ctx, tx, batch.Table); err != nil {
				return fmt.Errorf("import %s: %w", batch.Table.Name, err)
			}
		}
		for _, row := range batch.Rows {
			if err := w.write(ctx, row); err != nil {
				return fmt.Errorf("import %s: %w", batch.Table.Name, userError(err))
			}
		}
	}
}

// A tableWriter inserts the rows of one table.
type tableWriter struct {
	table  *postrider.ExportTable
	insert *sql.Stmt
	kept   []int // the places of the values that are kept
	args   []any

	// The last delivery in the queue. Those of a webhook that are due at the
	// same time are in an order which other stores keep apart from the time;
	// here each is due later than the one before.
	webhook string
	due     int64
}

func newTableWriter(ctx context.Context, tx *sql.Tx, table *postrider.ExportTable) (*tableWriter, error) {
	w := &tableWriter{table: table}
	names := columnNames(table, notKept[table.Name])
	marks := make([]string, len(names))
	for i, column := range table.Columns {
		if slices.Contains(names, column.Name) {
			w.kept = append(w.kept, i)
		}
	}
	for i, name := range names {
		marks[i] = "?"
		if table.Name == "tallies" && name == "webhook_id" {
			marks[i] = `coalesce(nullif(?, zeroblob(16)), x'')`
		}
	}
	var err error
	w.insert, err = tx.PrepareContext(ctx,
		`INSERT INTO `+table.Name+` (`+strings.Join(names, ", ")+`) VALUES (`+strings.Join(marks, ", ")+`)`) //nolint:gosec // names of our own
	return w, err
}

// The places of values in a row of the queue.
const (
	queueWebhook = 2
	queueDue     = 7
)

func (w *tableWriter) write(ctx context.Context, row []any) error {
	if w.table.Name == "queue" {
		webhook, _ := row[queueWebhook].([]byte)
		due, _ := row[queueDue].(int64)
		if string(webhook) == w.webhook {
			due = max(due, w.due+1)
		}
		w.webhook, w.due, row[queueDue] = string(webhook), due, due
	}
	w.args = w.args[:0]
	for _, i := range w.kept {
		w.args = append(w.args, row[i])
	}
	_, err := w.insert.ExecContext(ctx, w.args...)
	return err
}
