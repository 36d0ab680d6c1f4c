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
	"github.com/jackc/pgx/v5/pgconn"
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
		return unreachable(err)
	}
	defer func() { err = errors.Join(err, c.Close(context.WithoutCancel(ctx))) }()
	return lostError(pgx.BeginTxFunc(ctx, c, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
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

// lostError tells that the database went away. What else it says is shown as it
// is: who works on it alone is its operator.
func lostError(err error) error {
	e, answered := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil, errors.Is(err, postrider.ErrUnreachable):
	case answered && strings.HasPrefix(e.Code, "57"), !answered && connectionLost(err):
		return unreachable(err)
	}
	return err
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
		into[i] = newCell(column.Kind)
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

// newCell is what a column is scanned into.
func newCell(kind postrider.ExportKind) any {
	switch kind {
	case postrider.ExportText, postrider.ExportJSON:
		return new(pgtype.Text)
	case postrider.ExportRaw, postrider.ExportBytes:
		return new([]byte)
	case postrider.ExportID:
		return new(pgtype.UUID)
	case postrider.ExportInt:
		return new(pgtype.Int8)
	case postrider.ExportBool:
		return new(pgtype.Bool)
	case postrider.ExportTime:
		return new(pgtype.Timestamptz)
	case postrider.ExportFloat:
		return new(pgtype.Float8)
	case postrider.ExportTexts:
		return new([]string)
	case postrider.ExportInts:
		return new([]int64)
	}
	panic(fmt.Sprintf("no form for columns of kind %d", kind))
}

// exported is a cell's value as it moves.
func exported(kind postrider.ExportKind, cell any) (any, error) {
	switch cell := cell.(type) {
	case *pgtype.Text:
		return valid(cell.String, cell.Valid), nil
	case *[]byte:
		if kind == postrider.ExportRaw {
			return string(*cell), nil
		}
		return valid(*cell, *cell != nil), nil
	case *pgtype.UUID:
		return valid(cell.Bytes[:], cell.Valid), nil
	case *pgtype.Int8:
		return valid(cell.Int64, cell.Valid), nil
	case *pgtype.Bool:
		n := int64(0)
		if cell.Bool {
			n = 1
		}
		return valid(n, cell.Valid), nil
	case *pgtype.Timestamptz:
		return valid(cell.Time.UnixMicro(), cell.Valid), nil
	case *pgtype.Float8:
		return valid(cell.Float64, cell.Valid), nil
	case *[]string:
		return listText(*cell)
	case *[]int64:
		return listText(*cell)
	}
	return nil, fmt.Errorf("no form for a %T", cell)
}

func valid[T any](value T, valid bool) any {
	if !valid {
		return nil
	}
	return value
}

func listText[T any](list []T) (any, error) {
	if list == nil {
		return nil, nil
	}
	text, err := json.Marshal(list)
	return string(text), err
}

// imported is a value that has moved, as it is stored.
func imported(kind postrider.ExportKind, value any) (any, error) {
	if value == nil {
		return nil, nil
	}
	switch v := value.(type) {
	case string:
		switch kind { //nolint:exhaustive // the others are of other types
		case postrider.ExportText:
			return validText(v), nil
		case postrider.ExportJSON:
			return v, nil
		case postrider.ExportRaw:
			return []byte(v), nil
		case postrider.ExportTexts:
			list := []string{}
			err := json.Unmarshal([]byte(v), &list)
			return append([]string{}, list...), err // null is an empty list
		case postrider.ExportInts:
			list := []int64{}
			err := json.Unmarshal([]byte(v), &list)
			return list, err
		}
	case []byte:
		switch {
		case kind == postrider.ExportBytes:
			return v, nil
		case kind == postrider.ExportID && len(v) == len(postrider.ID{}):
			return [16]byte(v), nil
		}
	case int64:
		switch kind { //nolint:exhaustive // the others are of other types
		case postrider.ExportInt:
			return v, nil
		case postrider.ExportBool:
			return v != 0, nil
		case postrider.ExportTime:
			return time.UnixMicro(v), nil
		}
	case float64:
		if kind == postrider.ExportFloat {
			return v, nil
		}
	}
	return nil, fmt.Errorf("a %T of unexpected form", value)
}

// importedDays is for how many days before today an import makes partitions.
// Older history goes to the rest, so that one transaction needs no more locks
// than a server has by default.
const importedDays = 100

// Import writes what next returns, batch by batch until io.EOF. How many rows
// each table has then, is for check to judge. It is one transaction: when it
// does not come to its end, nothing was written. The database must be empty, and no other
// node may run.
func (s *Store) Import(
	ctx context.Context, next func() (postrider.ExportBatch, error), check func(rows []int64) error,
) error {
	return s.alone(ctx, func(ctx context.Context, tx pgx.Tx) error {
		for i := range postrider.ExportTables {
			name := postrider.ExportTables[i].Name
			var filled bool
			if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM `+name+`)`).Scan(&filled); err != nil {
				return fmt.Errorf("look for rows in %s: %w", name, err)
			}
			if filled {
				return fmt.Errorf("%w: it has %s", postrider.ErrNotEmpty, name)
			}
		}
		// Nobody waits behind an import, which may wait for whoever reads history.
		if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = 0`); err != nil {
			return err
		}
		i := importer{tx: tx}
		var now time.Time
		if err := tx.QueryRow(ctx, clockSQL).Scan(&now); err != nil {
			return err
		}
		i.today = dayOf(now)
		for {
			batch, err := next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if err := i.write(ctx, batch); err != nil {
				return fmt.Errorf("import %s: %w", batch.Table.Name, err)
			}
		}
		// What is planned before the database has looked at the rows by itself
		// should know of them.
		if _, err := tx.Exec(ctx, `ANALYZE tenants, webhooks, events, queue, attempts, tallies`); err != nil {
			return fmt.Errorf("analyze what was imported: %w", err)
		}
		rows, err := countRows(ctx, tx)
		if err != nil {
			return err
		}
		return check(rows)
	})
}

// An importer writes batches in a transaction.
type importer struct {
	tx    pgx.Tx
	today day
	// The first day that has a partition, of those before today: one more than
	// today when none has.
	made map[string]day
}

// write copies a batch into its table, with the event's day where the table
// has one.
func (i *importer) write(ctx context.Context, batch postrider.ExportBatch) error {
	table := batch.Table
	place := map[string]int{} // by column
	var names []string
	for n, column := range table.Columns {
		place[column.Name] = n
		if column.Name != "event_created_at" {
			names = append(names, column.Name)
		}
	}
	id, created := dayColumns(table.Name)
	if id != "" {
		names = append(names, "day")
	}
	var rows, chosen [][]any
	oldest := i.today + 1
	for _, values := range batch.Rows {
		row := make([]any, 0, len(names))
		for n, column := range table.Columns {
			if column.Name == "event_created_at" {
				continue
			}
			value, err := imported(column.Kind, values[n])
			if err != nil {
				return fmt.Errorf("%s: %w", column.Name, err)
			}
			row = append(row, value)
		}
		switch {
		case id != "":
			of, inID, err := dayOfEvent(values[place[id]], values[place[created]])
			if err != nil {
				return err
			}
			row = append(row, of.start())
			if table.Name == "events" {
				oldest = min(oldest, of)
				if !inID {
					chosen = append(chosen, []any{row[0], row[1], of.start()})
				}
			}
		case table.Name == "attempts":
			attempt, _ := values[place["id"]].([]byte) // imported has looked at it
			oldest = min(oldest, idDay(postrider.ID(attempt)))
		}
		rows = append(rows, row)
	}
	if err := i.makeDays(ctx, table.Name, oldest); err != nil {
		return err
	}
	if _, err := i.tx.CopyFrom(ctx, pgx.Identifier{table.Name}, names, pgx.CopyFromRows(rows)); err != nil {
		return err
	}
	if len(chosen) == 0 {
		return nil
	}
	_, err := i.tx.CopyFrom(ctx, pgx.Identifier{"chosen_ids"}, []string{"tenant_id", "event_id", "day"}, pgx.CopyFromRows(chosen))
	return err
}

// dayColumns are the columns of an event's id and acceptance, of the tables
// that have its day.
func dayColumns(table string) (id, created string) {
	switch table {
	case "events":
		return "id", "created_at"
	case "queue", "fanouts":
		return "event_id", "event_created_at"
	case "replay_deliveries":
		return "event_id", "accepted_at"
	}
	return "", ""
}

// dayOfEvent is the day under which an event is kept, and whether its id says
// so: what cannot be told from the id is told by chosen_ids, whoever chose it.
func dayOfEvent(id, created any) (of day, inID bool, err error) {
	text, isText := id.(string)
	at, isTime := created.(int64)
	if !isText || !isTime {
		return 0, false, fmt.Errorf("an event of id %v was accepted at %v", id, created)
	}
	of = dayOf(time.UnixMicro(at))
	made, err := postrider.ParseID(text)
	return of, err == nil && idDay(made) == of, nil
}

// makeDays makes the partitions from a day to yesterday that are missing,
// before there are rows for them.
func (i *importer) makeDays(ctx context.Context, table string, oldest day) error {
	if !slices.Contains(historyTables, table) {
		return nil
	}
	if i.made == nil {
		i.made = map[string]day{}
		for _, name := range historyTables {
			i.made[name] = i.today
		}
	}
	there, err := partitions(ctx, i.tx)
	if err != nil {
		return err
	}
	oldest = max(oldest, i.today-importedDays)
	for d := i.made[table] - 1; d >= oldest; d-- {
		if slices.Contains(there, partition(table, d)) {
			continue
		}
		if err := makeDay(ctx, i.tx, table, d); err != nil {
			return fmt.Errorf("make a partition for %s: %w", d, err)
		}
	}
	i.made[table] = min(i.made[table], oldest)
	return nil
}
