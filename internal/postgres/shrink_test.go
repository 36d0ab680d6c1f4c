package postgres

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"postrider"
)

const (
	fillQueueSQL = `
INSERT INTO queue (tenant_id, event_id, webhook_id, accepted_at, due_at, node, day, size, trigger)
SELECT 'full', gen_random_uuid()::text, gen_random_uuid(), now(), now(), CASE WHEN n % 2 = 0 THEN 1 END, current_date, 100, 'event'
FROM generate_series(1, 60000) n`
	emptyQueueSQL = `DELETE FROM queue WHERE tenant_id = 'full'`
	countQueueSQL = `ANALYZE queue` // what a delete tells of itself may come late
)

// housekeeper is a connection as the housekeeping has it.
func housekeeper(t *testing.T, s *Store) *pgx.Conn {
	t.Helper()
	config := s.patient()
	config.RuntimeParams["lock_timeout"] = "300"
	c, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) }) //nolint:errcheck // of a database that nobody needs any more
	return c
}

// hold opens a transaction that sees the database as it is now.
func hold(t *testing.T, s *Store) (end func()) {
	t.Helper()
	c := housekeeper(t, s)
	tx, err := c.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT 1 FROM tenants`); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// queueBytes are the sizes of the queue's files.
func queueBytes(t *testing.T, c *pgx.Conn) (sizes []int64) {
	t.Helper()
	found, err := c.Query(t.Context(), `
SELECT pg_relation_size('queue') UNION ALL SELECT pg_relation_size(indexrelid) FROM pg_index WHERE indrelid = 'queue'::regclass`)
	if err == nil {
		sizes, err = pgx.CollectRows(found, pgx.RowTo[int64])
	}
	if err != nil {
		t.Fatal(err)
	}
	return sizes
}

func do(t *testing.T, c *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := c.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

func TestShrink_TheQueueGivesBackWhatAnOldTransactionHasMadeOfIt(t *testing.T) {
	for name, rows := range map[string]int{"empty": 0, "with rows at its end": 2} {
		t.Run(name, func(t *testing.T) {
			s := openNode(t, newDatabase(t))
			c := housekeeper(t, s)
			const spare = 512 << 10
			end := hold(t, s)
			do(t, c, fillQueueSQL, emptyQueueSQL, fillQueueSQL, emptyQueueSQL, countQueueSQL)
			webhook := postrider.NewID()
			var ids []string
			for range rows {
				ids = append(ids, accept(t, s, eventFor(webhook, false))...)
			}

			// While the transaction is open nothing can be done, and nothing is waited for.
			do(t, c, `VACUUM queue`)
			grown := queueBytes(t, c)
			time.Sleep(time.Second - time.Since(transactionBegan(t, c))) //nolint:forbidigo // the age of a transaction is by the database's clock
			began := time.Now()
			if err := s.shrinkQueue(t.Context(), c, spare); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("got %v beside an old transaction, want it left for the next time", took)
			}
			if still := queueBytes(t, c); !slices.Equal(still, grown) || slices.Max(grown) < 20*spare {
				t.Errorf("got %d bytes, then %d, want as many and some 20 times more than what is left alone", grown, still)
			}

			end()
			before := tableFile(t, c)
			if err := s.shrinkQueue(t.Context(), c, spare); err != nil {
				t.Fatal(err)
			}
			if anew := tableFile(t, c) != before; anew != (rows > 0) {
				t.Errorf("got the table written anew: %t, want it cut off where that is possible", anew)
			}
			if small := queueBytes(t, c); slices.Max(small) > spare {
				t.Errorf("got %d bytes of once %d, want at most %d in each file", small, grown, spare)
			}
			wantEvents(t, "what was in it", claim(t, s, webhook, 10, false), ids...)
		})
	}
}

// tableFile is the number of the file that the table is in.
func tableFile(t *testing.T, c *pgx.Conn) (number uint32) {
	t.Helper()
	if err := c.QueryRow(t.Context(), `SELECT pg_relation_filenode('queue')`).Scan(&number); err != nil {
		t.Fatal(err)
	}
	return number
}

// transactionBegan is when the oldest transaction of somebody else's began.
func transactionBegan(t *testing.T, c *pgx.Conn) (at time.Time) {
	t.Helper()
	if err := c.QueryRow(t.Context(), `
SELECT min(xact_start) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`).Scan(&at); err != nil {
		t.Fatal(err)
	}
	return at
}

func TestShrink_WhatTheRowsNeedIsLeftAlone(t *testing.T) {
	s := openNode(t, newDatabase(t))
	c := housekeeper(t, s)
	do(t, c, fillQueueSQL, `VACUUM (ANALYZE) queue`)
	var before, after []uint32
	for _, into := range []*[]uint32{&before, &after} {
		found, err := c.Query(t.Context(), `SELECT relfilenode FROM pg_class WHERE relname LIKE 'queue%' ORDER BY relname`)
		if err == nil {
			*into, err = pgx.CollectRows(found, pgx.RowTo[uint32])
		}
		if err == nil {
			err = s.shrinkQueue(t.Context(), c, 1<<10)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(before, after) {
		t.Errorf("got the files %d, then %d, want none made anew", before, after)
	}
}

// locked is a node whose queue has grown and is locked by somebody else.
func locked(t *testing.T) (s *Store, c *pgx.Conn) {
	t.Helper()
	s = openNode(t, newDatabase(t))
	c = housekeeper(t, s)
	do(t, c, fillQueueSQL, emptyQueueSQL, countQueueSQL)
	do(t, housekeeper(t, s), `BEGIN`, `LOCK TABLE queue IN SHARE ROW EXCLUSIVE MODE`)
	return s, c
}

func TestShrink_ALockThatIsNotFreeIsNoFault(t *testing.T) {
	s, c := locked(t)
	if err := s.shrinkQueue(t.Context(), c, 1<<20); err != nil {
		t.Errorf("got error %v, want it left for the next time", err)
	}
}

func TestShrink_ARebuildThatWasBrokenOffLeavesNothing(t *testing.T) {
	s := openNode(t, newDatabase(t))
	c := housekeeper(t, s)
	do(t, c, fillQueueSQL, emptyQueueSQL, countQueueSQL)
	end := hold(t, s) // for which the last step of a rebuild has to wait
	_, err := c.Exec(t.Context(), `REINDEX INDEX CONCURRENTLY queue_due`)
	if err == nil {
		t.Fatal("got the index made anew beside an old transaction, want it broken off")
	}
	left, err := names(t.Context(), c, leftIndexesSQL)
	if err != nil || len(left) != 1 {
		t.Fatalf("got %q, %v, want one index left behind", left, err)
	}
	end()
	if err := s.shrinkQueue(t.Context(), c, spareBytes); err != nil {
		t.Fatal(err)
	}
	if left, err := names(t.Context(), c, leftIndexesSQL); err != nil || len(left) > 0 {
		t.Errorf("got %q, %v, want nothing left behind", left, err)
	}
}

func TestShrink_EndsWithItsContext(t *testing.T) {
	s, c := locked(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.shrinkQueue(ctx, c, 1<<20); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want that of the context", err)
	}
}

func TestHousekeeping_ShrinksTheQueue(t *testing.T) {
	s := openNode(t, newDatabase(t))
	c := housekeeper(t, s)
	do(t, c, `ALTER TABLE queue SET (autovacuum_enabled = false, fillfactor = 10)`, fillQueueSQL, emptyQueueSQL, countQueueSQL)
	grown := queueBytes(t, c)
	if slices.Max(grown) <= spareBytes {
		t.Fatalf("got %d bytes, want more than %d", grown, spareBytes)
	}
	if err := s.housekeep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if small := queueBytes(t, c); slices.Max(small) > spareBytes {
		t.Errorf("got %d bytes of once %d, want at most %d in each file", small, grown, spareBytes)
	}
}
