package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// daysAhead is how many days have their partitions before they come: a job that
// is missed for a week fails nothing. After that, rows go to the rest.
const daysAhead = 7

// For the locks that a change of the partitions takes, all that reads history
// waits, and so do the publishes behind it: never for long. Where somebody reads
// for longer, the change is left for the next housekeeping. Nothing depends on
// its moment: what no day was made for goes to the rest.
const (
	historyTries   = 3
	historyPause   = 500 * time.Millisecond // between two tries
	historyLockFor = 100 * time.Millisecond
	historyTurnFor = time.Second // until another node has changed its days
	// historyHoldUpFor bounds what is done with rows while all wait.
	historyHoldUpFor = time.Second
)

// The tables that are kept by the day.
var historyTables = []string{"events", "attempts"}

// partition is the name of a table's part for a day.
func partition(table string, d day) string {
	return table + "_" + strings.ReplaceAll(d.String(), "-", "")
}

// bounds are those of a day in a table's key, as SQL.
func bounds(table string, d day) (column, from, to string) {
	if table == "attempts" {
		return "id", idAt(d.start()).String(), idAt((d + 1).start()).String()
	}
	return "day", d.String(), (d + 1).String()
}

const partitionsSQL = `
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = ANY (ARRAY['events'::regclass, 'attempts'::regclass]) ORDER BY 1`

// makeDays makes the partitions of today and the days ahead that are missing.
func (s *Store) makeDays(ctx context.Context) error {
	var now time.Time
	var missing []string
	err := s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		if err := c.QueryRow(ctx, clockSQL).Scan(&now); err != nil {
			return err
		}
		there, err := partitions(ctx, c)
		if err != nil {
			return err
		}
		missing = missingDays(there, dayOf(now))
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for the days that have partitions: %w", err)
	}
	if len(missing) == 0 {
		return nil
	}
	if err := s.changeDays(ctx, func(ctx context.Context, c *pgx.Conn) error {
		there, err := partitions(ctx, c)
		if err != nil {
			return err
		}
		today := dayOf(now)
		for _, table := range historyTables {
			for d := today; d <= today+daysAhead; d++ {
				name := partition(table, d)
				if slices.Contains(there, name) {
					continue
				}
				if err := s.changeDay(ctx, c, "make "+name, func(ctx context.Context, tx pgx.Tx) error {
					return makeDay(ctx, tx, table, d)
				}); err != nil {
					return fmt.Errorf("make %s: %w", name, err)
				}
			}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("make the days ahead: %w", err)
	}
	return nil
}

func missingDays(there []string, today day) (missing []string) {
	for _, table := range historyTables {
		for d := today; d <= today+daysAhead; d++ {
			if name := partition(table, d); !slices.Contains(there, name) {
				missing = append(missing, name)
			}
		}
	}
	return missing
}

func partitions(ctx context.Context, c querier) ([]string, error) {
	found, err := c.Query(ctx, partitionsSQL)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(found, pgx.RowTo[string])
}

// errLater is that a change has to be left for the next housekeeping.
var errLater = errors.New("history is in use")

// changeDays runs changes of the partitions, those of one node at a time, on a
// connection of its own. What has to be left for later is no error.
func (s *Store) changeDays(ctx context.Context, run func(context.Context, *pgx.Conn) error) (err error) {
	config := s.patient()
	config.RuntimeParams["lock_timeout"] = fmt.Sprint(historyTurnFor.Milliseconds())
	c, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return withoutPassword(err)
	}
	defer func() { err = errors.Join(err, c.Close(context.WithoutCancel(ctx))) }() // which frees the lock
	switch _, err := c.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(historyLock)); {
	case hasCode(err, lockNotAvailable):
		s.o.Logger.Info("another node changes the days of history; this one does so later")
		return nil
	case err != nil:
		return fmt.Errorf("wait for another node: %w", err)
	}
	if _, err := c.Exec(ctx, fmt.Sprintf(`SET lock_timeout = %d`, historyLockFor.Milliseconds())); err != nil {
		return err
	}
	if err := run(ctx, c); !errors.Is(err, errLater) {
		return err
	}
	return nil
}

// changeDay changes one partition. A lock that is not free in a moment is let
// go and asked for again, a few times; then errLater is returned, since the
// next partition would need the same. A change that takes too long is left
// alone.
func (s *Store) changeDay(ctx context.Context, c *pgx.Conn, what string, change func(context.Context, pgx.Tx) error) error {
	for try := 1; ; try++ {
		err := pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error { return change(ctx, tx) })
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case hasCode(err, queryCanceled):
			s.o.Logger.Info("a day of history was left as it is: too much of it would have to be moved", "step", what)
			return nil
		case !hasCode(err, lockNotAvailable, checkViolation):
			return err
		case try == historyTries:
			s.o.Logger.Info("a day of history is left for later, since somebody reads history", "step", what)
			return errLater
		}
		if !wait(ctx, historyPause) {
			return ctx.Err()
		}
	}
}

// holdUp bounds the statements of a transaction that follow, for which all
// wait. They may read whole tables: then that takes less.
var holdUp = fmt.Sprintf(`SET LOCAL statement_timeout = %d; SET LOCAL enable_seqscan = on`, historyHoldUpFor.Milliseconds())

// makeDay makes a table's partition of one day. It is attached, which locks the
// table less than making it in place; rows of the day that went to the rest,
// since it was missing, are moved, while no more of them come. One that comes
// where there was none is a checkViolation.
func makeDay(ctx context.Context, tx pgx.Tx, table string, d day) error {
	name := partition(table, d)
	column, from, to := bounds(table, d)
	ofDay := table + `_rest WHERE ` + column + ` >= '` + from + `' AND ` + column + ` < '` + to + `'`
	var came bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM `+ofDay+`)`).Scan(&came); err != nil {
		return err
	}
	steps := []string{`CREATE TABLE ` + name + ` (LIKE ` + table + ` INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)
    WITH (autovacuum_vacuum_scale_factor = 0.2, autovacuum_analyze_scale_factor = 0.2)`}
	if came {
		steps = append(steps, `LOCK TABLE `+table+`_rest IN ACCESS EXCLUSIVE MODE`, holdUp,
			`WITH moved AS (DELETE FROM `+ofDay+` RETURNING *) INSERT INTO `+name+` TABLE moved`, `SET LOCAL statement_timeout = 0`)
	}
	for _, sql := range append(steps,
		`ALTER TABLE `+table+` ATTACH PARTITION `+name+` FOR VALUES FROM ('`+from+`') TO ('`+to+`')`) {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// DropHistory removes the events and attempts of the days that ended before
// the retention, whole partitions at a time. Events that unsettled deliveries
// still need are kept, in the rest.
func (s *Store) DropHistory(ctx context.Context, retention time.Duration) error {
	err := s.changeDays(ctx, func(ctx context.Context, c *pgx.Conn) error {
		var now time.Time
		if err := c.QueryRow(ctx, clockSQL).Scan(&now); err != nil {
			return err
		}
		there, err := partitions(ctx, c)
		if err != nil {
			return err
		}
		first := dayOf(now.Add(-retention)) // the first day that is kept
		var later error
		for _, table := range historyTables {
			for _, name := range there {
				if later == nil && strings.HasPrefix(name, table+"_") && !strings.HasSuffix(name, "_rest") && name < partition(table, first) {
					later = s.changeDay(ctx, c, "drop "+name, func(ctx context.Context, tx pgx.Tx) error { return dropDay(ctx, tx, table, name) })
					if later != nil && !errors.Is(later, errLater) {
						return fmt.Errorf("drop %s: %w", name, later)
					}
				}
			}
		}
		return dropRest(ctx, c, first)
	})
	if err != nil {
		return fmt.Errorf("drop old history: %w", err)
	}
	return nil
}

// stillNeeded is what the queue and the fan-outs need of events, as e.
const stillNeeded = `(EXISTS (SELECT 1 FROM queue q WHERE q.tenant_id = e.tenant_id AND q.event_id = e.id)
    OR EXISTS (SELECT 1 FROM fanouts f WHERE f.tenant_id = e.tenant_id AND f.event_id = e.id))`

// dropDay takes a partition out, brings back what is still needed of it, and
// drops it. Whoever reads history waits for the moment that this takes.
func dropDay(ctx context.Context, tx pgx.Tx, table, name string) error {
	steps := []string{`ALTER TABLE ` + table + ` DETACH PARTITION ` + name}
	if table == "events" {
		of := `'` + strings.TrimPrefix(name, table+"_") + `'`
		steps = append(steps, holdUp, `
INSERT INTO events_rest (tenant_id, id, created_at, occurred_at, day, deliveries, type, payload)
SELECT e.tenant_id, e.id, e.created_at, e.occurred_at, e.day, e.deliveries, e.type, e.payload FROM (
    SELECT tenant_id, event_id FROM queue WHERE day = `+of+` UNION SELECT tenant_id, event_id FROM fanouts WHERE day = `+of+`
) k JOIN `+name+` e ON e.tenant_id = k.tenant_id AND e.id = k.event_id`)
	}
	for _, sql := range append(steps, `DROP TABLE `+name) {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// dropRest removes from the rest what is old and not needed any more, and the
// chosen ids of what is gone, in small parts.
func dropRest(ctx context.Context, c *pgx.Conn, first day) error {
	const part = 5000
	for _, step := range []struct {
		sql string
		arg any
	}{
		{`DELETE FROM attempts_rest WHERE ctid = ANY (ARRAY(SELECT ctid FROM attempts_rest WHERE id < $1 LIMIT $2))`, idAt(first.start())},
		{`DELETE FROM events_rest WHERE ctid = ANY (ARRAY(SELECT e.ctid FROM events_rest e WHERE e.day < $1 AND NOT ` + stillNeeded + ` LIMIT $2))`, first.start()},
		{`DELETE FROM chosen_ids WHERE ctid = ANY (ARRAY(SELECT i.ctid FROM chosen_ids i WHERE i.day < $1
    AND NOT EXISTS (SELECT 1 FROM events_rest e WHERE e.tenant_id = i.tenant_id AND e.id = i.event_id) LIMIT $2))`, first.start()},
	} {
		for {
			done, err := c.Exec(ctx, step.sql, step.arg, part)
			if err != nil {
				return fmt.Errorf("remove old rows: %w", err)
			}
			if done.RowsAffected() < part {
				break
			}
		}
	}
	return nil
}
