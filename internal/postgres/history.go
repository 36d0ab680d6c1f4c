package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// daysAhead is how many days have their partitions before they come: a job that
// is missed for a week fails nothing. After that, rows go to the rest.
const daysAhead = 7

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
	err = s.exclusively(ctx, func(ctx context.Context, c *pgx.Conn) error {
		there, err := partitions(ctx, c)
		if err != nil {
			return err
		}
		today := dayOf(now)
		for _, table := range historyTables {
			for d := today; d <= today+daysAhead; d++ {
				if slices.Contains(there, partition(table, d)) {
					continue
				}
				if err := makeDay(ctx, c, table, d); err != nil {
					return fmt.Errorf("make a partition of %s for %s: %w", table, d, err)
				}
			}
		}
		return nil
	})
	if err != nil {
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

// exclusively runs changes of the schema, those of one node at a time, on a
// connection of its own.
func (s *Store) exclusively(ctx context.Context, run func(context.Context, *pgx.Conn) error) (err error) {
	config := s.patient()
	config.RuntimeParams["lock_timeout"] = "0"
	c, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return withoutPassword(err)
	}
	defer func() { err = errors.Join(err, c.Close(context.WithoutCancel(ctx))) }() // which frees the lock
	if _, err := c.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(migrationLock)); err != nil {
		return fmt.Errorf("wait for another node: %w", err)
	}
	// From here on locks of tables are waited for, which hold others up.
	if _, err := c.Exec(ctx, fmt.Sprintf(`SET lock_timeout = %d`, lockWait.Milliseconds())); err != nil {
		return err
	}
	return run(ctx, c)
}

// A beginner is a connection, or a transaction, which begins a part of itself.
type beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// makeDay makes a table's partition of one day. It is attached, which locks the
// table less than making it in place; rows of the day that went to the rest,
// since it was missing, are moved.
func makeDay(ctx context.Context, c beginner, table string, d day) error {
	name := partition(table, d)
	column, from, to := bounds(table, d)
	for {
		err := pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			for _, sql := range []string{
				`CREATE TABLE ` + name + ` (LIKE ` + table + ` INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)
    WITH (autovacuum_vacuum_scale_factor = 0.2, autovacuum_analyze_scale_factor = 0.2)`,
				`WITH moved AS (DELETE FROM ` + table + `_rest WHERE ` + column + ` >= '` + from + `' AND ` + column + ` < '` + to + `' RETURNING *)
INSERT INTO ` + name + ` TABLE moved`,
				`ALTER TABLE ` + table + ` ATTACH PARTITION ` + name + ` FOR VALUES FROM ('` + from + `') TO ('` + to + `')`,
			} {
				if _, err := tx.Exec(ctx, sql); err != nil {
					return err
				}
			}
			return nil
		})
		// A lock that is not free in time is let go and asked for again: what
		// waits behind it would wait for us.
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "55P03" {
			return err
		}
		if !wait(ctx, time.Second) {
			return ctx.Err()
		}
	}
}

// DropHistory removes the events and attempts of the days that ended before
// the retention, whole partitions at a time. Events that unsettled deliveries
// still need are kept, in the rest.
func (s *Store) DropHistory(ctx context.Context, retention time.Duration) error {
	err := s.exclusively(ctx, func(ctx context.Context, c *pgx.Conn) error {
		var now time.Time
		if err := c.QueryRow(ctx, clockSQL).Scan(&now); err != nil {
			return err
		}
		there, err := partitions(ctx, c)
		if err != nil {
			return err
		}
		first := dayOf(now.Add(-retention)) // the first day that is kept
		for _, table := range historyTables {
			for _, name := range there {
				if strings.HasPrefix(name, table+"_") && !strings.HasSuffix(name, "_rest") && name < partition(table, first) {
					if err := dropDay(ctx, c, table, name); err != nil {
						return fmt.Errorf("drop %s: %w", name, err)
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
// drops it. Whoever reads history waits for the moment that this takes: what is
// needed is looked for beforehand, and once more under the lock only for what
// has come to the queue meanwhile.
func dropDay(ctx context.Context, c *pgx.Conn, table, name string) error {
	for {
		err := pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			steps := []string{`ALTER TABLE ` + table + ` DETACH PARTITION ` + name}
			if table == "events" {
				steps = append(steps, `
INSERT INTO events_rest (tenant_id, id, created_at, occurred_at, day, deliveries, type, payload)
SELECT e.tenant_id, e.id, e.created_at, e.occurred_at, e.day, e.deliveries, e.type, e.payload FROM (
    SELECT tenant_id, event_id FROM queue UNION SELECT tenant_id, event_id FROM fanouts
) k JOIN `+name+` e ON e.tenant_id = k.tenant_id AND e.id = k.event_id`)
			}
			for _, sql := range append(steps, `DROP TABLE `+name) {
				if _, err := tx.Exec(ctx, sql); err != nil {
					return err
				}
			}
			return nil
		})
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "55P03" {
			return err
		}
		if !wait(ctx, time.Second) {
			return ctx.Err()
		}
	}
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
