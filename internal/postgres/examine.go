package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A Condition is what was found of a database.
type Condition struct {
	Version   string
	Supported bool
	Dangerous []string // settings that can lose what was accepted
	Latency   time.Duration
	// OldestTransaction is how long the oldest transaction has been open: what
	// it might still see is not cleaned up.
	OldestTransaction time.Duration
	// QueueVacuumed is how long ago the queue was last cleaned up; negative when
	// it never was. QueueDead is how many dead rows it has.
	QueueVacuumed time.Duration
	QueueDead     int64
	Nodes         int // that are alive; negative without a schema
}

const (
	oldestTransactionSQL = `
SELECT coalesce(extract(epoch FROM max(now() - xact_start)), 0)::float8 FROM pg_stat_activity
WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = 'client backend'`
	queueSQL = `
SELECT coalesce(extract(epoch FROM now() - greatest(last_vacuum, last_autovacuum)), -1)::float8, n_dead_tup
FROM pg_stat_user_tables WHERE relid = to_regclass('queue')`
	aliveSQL = `SELECT count(*) FROM nodes WHERE ended_at IS NULL AND beat_at > now() - $1::interval`
)

// Examine looks at the database that a URL names, and changes nothing.
func Examine(ctx context.Context, url string) (c Condition, err error) {
	pool, err := pgxpool.ParseConfig(url)
	if err != nil {
		return c, fmt.Errorf("read the database's URL: %w", withoutPassword(err))
	}
	configure(pool.ConnConfig)
	conn, err := pgx.ConnectConfig(ctx, pool.ConnConfig)
	if err != nil {
		return c, unreachable(err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it was only read
	var number int
	if err := conn.QueryRow(ctx, serverSQL).Scan(&number, &c.Version, &c.Dangerous); err != nil {
		return c, fmt.Errorf("ask the database for its version: %w", err)
	}
	start := time.Now()
	if err := conn.Ping(ctx); err != nil {
		return c, fmt.Errorf("ping the database: %w", err)
	}
	c.Latency, c.Supported, c.Nodes, c.QueueVacuumed = time.Since(start), number >= oldestServer, -1, -1
	var oldest, vacuumed float64
	if err := conn.QueryRow(ctx, oldestTransactionSQL).Scan(&oldest); err != nil {
		return c, fmt.Errorf("look for the oldest transaction: %w", err)
	}
	c.OldestTransaction = seconds(oldest)
	switch err := conn.QueryRow(ctx, queueSQL).Scan(&vacuumed, &c.QueueDead); {
	case errors.Is(err, pgx.ErrNoRows):
		return c, nil
	case err != nil:
		return c, fmt.Errorf("look at the queue: %w", err)
	}
	c.QueueVacuumed = seconds(vacuumed)
	if err := conn.QueryRow(ctx, aliveSQL, Lease).Scan(&c.Nodes); err != nil {
		return c, fmt.Errorf("count the nodes: %w", err)
	}
	return c, nil
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
