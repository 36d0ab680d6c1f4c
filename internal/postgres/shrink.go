package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// The queue is as large on the disk as it ever was. A transaction that somebody
// leaves open for minutes keeps all that was settled meanwhile from being
// cleaned away, and what has grown by then is used again but not given back.
const (
	// spareBytes is how much a file may have that its rows do not need: what
	// comes to be dead under load between two turns of the autovacuum.
	spareBytes = 64 << 20
	// bytesPerRow is the size of a file that is small enough for its rows; one
	// of them takes about 150 bytes in the table and 100 in an index.
	bytesPerRow = 1000
	// shrinkFor bounds a step for which nobody waits, lockFor its wait for a lock.
	shrinkFor = 5 * time.Minute
	lockFor   = time.Second
	// holdUpFor bounds a step for which all wait. For its lock it waits a tenth of
	// that.
	holdUpFor = time.Second
)

// The number of rows is what the last vacuum has found or the statistics have
// counted, whichever is more.
const (
	tooLargeSQL = `
WITH queue AS (
    SELECT oid, greatest(reltuples, pg_stat_get_live_tuples(oid), 0) AS rows FROM pg_class WHERE oid = 'queue'::regclass
), files AS (
    SELECT oid, oid AS of FROM queue
    UNION ALL SELECT indexrelid, indrelid FROM pg_index JOIN queue ON indrelid = oid WHERE indisvalid
)
SELECT f.oid::regclass::text, f.oid <> f.of FROM files f JOIN queue q ON q.oid = f.of
WHERE pg_relation_size(f.oid) > $1 + q.rows * $2
ORDER BY f.oid <> f.of, 1`

	// A rebuild that was broken off leaves an index that only costs.
	leftIndexesSQL = `
SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class ON oid = indexrelid
WHERE indrelid = 'queue'::regclass AND NOT indisvalid AND relname ~ '_cc(new|old)[0-9]*$'`

	// Whoever may not see what others do sees none.
	oldTransactionsSQL = `
SELECT EXISTS (SELECT 1 FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
        AND coalesce(backend_xmin, backend_xid) IS NOT NULL AND xact_start < clock_timestamp() - interval '1 second')`
)

// shrinkQueue gives back what the queue's files have too much: the table is cut
// off behind its last row, and the indexes are made anew beside the old ones,
// for both of which nobody waits. Only where rows at the end of a large table
// keep it from being cut off is it written anew, for which the others wait, but
// not long. Where an old transaction is in the way, all is left for the next
// time.
func (s *Store) shrinkQueue(ctx context.Context, c *pgx.Conn, spare int64) error {
	left, err := names(ctx, c, leftIndexesSQL)
	if err != nil {
		return fmt.Errorf("look for indexes of the queue that were left behind: %w", err)
	}
	for _, index := range left {
		if done, err := s.shrinkStep(ctx, c, `DROP INDEX CONCURRENTLY IF EXISTS `+index, lockFor, shrinkFor); !done {
			return err
		}
	}
	files, err := tooLarge(ctx, c, spare)
	if err != nil || len(files) == 0 {
		return err
	}
	var hindered bool
	if err := c.QueryRow(ctx, oldTransactionsSQL).Scan(&hindered); err != nil {
		return fmt.Errorf("look for old transactions: %w", err)
	}
	if hindered {
		s.o.Logger.Info("the queue has grown, and is made smaller once no old transaction is open")
		return nil
	}
	if !files[0].index {
		if done, err := s.shrinkStep(ctx, c, `VACUUM (TRUNCATE) queue`, lockFor, shrinkFor); !done {
			return err
		}
		if files, err = tooLarge(ctx, c, spare); err != nil || len(files) == 0 {
			return err
		}
	}
	if !files[0].index {
		if _, err := s.shrinkStep(ctx, c, `VACUUM (FULL) queue`, holdUpFor/10, holdUpFor); err != nil {
			return err
		}
		if files, err = tooLarge(ctx, c, spare); err != nil {
			return err
		}
	}
	for _, f := range files {
		if !f.index {
			continue
		}
		if done, err := s.shrinkStep(ctx, c, `REINDEX INDEX CONCURRENTLY `+f.name, lockFor, shrinkFor); !done {
			return err
		}
	}
	return nil
}

// A file of the queue: its table, or an index of it.
type file struct {
	name  string
	index bool
}

// tooLarge are the files that have more than their rows need; the table is the
// first.
func tooLarge(ctx context.Context, c *pgx.Conn, spare int64) ([]file, error) {
	found, err := c.Query(ctx, tooLargeSQL, spare, bytesPerRow)
	if err != nil {
		return nil, fmt.Errorf("look how large the queue is: %w", err)
	}
	return pgx.CollectRows(found, func(row pgx.CollectableRow) (f file, err error) {
		err = row.Scan(&f.name, &f.index)
		return f, err
	})
}

func names(ctx context.Context, c *pgx.Conn, sql string) ([]string, error) {
	found, err := c.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(found, pgx.RowTo[string])
}

// shrinkStep runs a statement outside of any transaction. A lock that is not
// free in time, or a step that takes longer, is no error: the next time comes.
func (s *Store) shrinkStep(ctx context.Context, c *pgx.Conn, sql string, forLock, inAll time.Duration) (done bool, err error) {
	if _, err := c.Exec(ctx, `SELECT set_config('lock_timeout', $1, false), set_config('statement_timeout', $2, false)`,
		fmt.Sprint(forLock.Milliseconds()), fmt.Sprint(inAll.Milliseconds())); err != nil {
		return false, fmt.Errorf("bound a step: %w", err)
	}
	_, err = c.Exec(ctx, sql)
	if hasCode(err, lockNotAvailable, queryCanceled) {
		s.o.Logger.Info("the queue could not be made smaller yet", "step", sql, "reason", err)
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", sql, err)
	}
	s.o.Logger.Info("the queue was made smaller", "step", sql)
	return true, nil
}
