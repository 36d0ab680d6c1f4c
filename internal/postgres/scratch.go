package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// tables are all that the migrations make, partitions and goose's own aside.
var tables = []string{
	"nodes", "revision", "changes", "tenants", "api_keys", "webhooks", "event_types", "events", "chosen_ids", "queue", "lanes", "fanouts",
	"attempts", "idempotency_keys", "sessions", "tallies", "replays", "replay_deliveries", "encryption_check",
}

const foundSQL = `
SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
ORDER BY relname LIMIT 1`

// CheckEmpty refuses a database that has anything in it.
func CheckEmpty(ctx context.Context, url string) error {
	return scratch(ctx, url, func(c *pgx.Conn) error {
		var found string
		switch err := c.QueryRow(ctx, foundSQL).Scan(&found); {
		case errors.Is(err, pgx.ErrNoRows):
			return nil
		case err != nil:
			return fmt.Errorf("look into the database: %w", err)
		}
		return fmt.Errorf("the database is not empty: it has %s; make one of its own for this, with createdb, since what is in it is dropped at the end", found)
	})
}

// DropTables removes the store from a database, with all that is in it. It is
// for one that was made for the purpose, and that no node works on any more.
func DropTables(ctx context.Context, url string) error {
	return scratch(ctx, url, func(c *pgx.Conn) error {
		if _, err := c.Exec(ctx, `DROP TABLE IF EXISTS goose_db_version, `+strings.Join(tables, ", ")); err != nil {
			return fmt.Errorf("drop the tables: %w", err)
		}
		return nil
	})
}

// scratch does something on a connection of its own.
func scratch(ctx context.Context, url string, do func(*pgx.Conn) error) (err error) {
	pool, err := pgxpool.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("read the database's URL: %w", withoutPassword(err))
	}
	configure(pool.ConnConfig)
	pool.ConnConfig.RuntimeParams["statement_timeout"] = "0" // of years of history
	c, err := pgx.ConnectConfig(ctx, pool.ConnConfig)
	if err != nil {
		return unreachable(err)
	}
	defer func() { err = errors.Join(err, c.Close(context.WithoutCancel(ctx))) }()
	return do(c)
}
