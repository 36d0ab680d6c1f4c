package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrationWait is for another node's migration, and for one's own.
const migrationWait = 5 * time.Minute

// The advisory locks: under each, one node at a time changes the schema, does
// the housekeeping, and changes the days of history.
const (
	migrationLock = 0x706f73747269646 + iota
	housekeepingLock
	historyLock
)

// migrate runs what is missing. A node that finds nothing missing does not wait
// for one that is at work: its schema is there.
func (s *Store) migrate(ctx context.Context) error {
	var missing bool
	if err := s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		list, _, err := migrationsOf(ctx, c)
		missing = slices.ContainsFunc(list, func(m Migration) bool { return m.AppliedAt.IsZero() })
		return err
	}); err != nil {
		return err
	}
	if !missing {
		return nil
	}
	return migrateWith(ctx, s.config, func(ctx context.Context, p *goose.Provider) error {
		_, err := Up(ctx, p)
		return err
	})
}

// A migration waits for a table that is in use, and whoever wants the table
// waits behind it, publishes too: so it waits for a moment, and comes again.
const (
	migrationTries   = 10
	migrationPause   = time.Second
	migrationLockFor = time.Second
)

// Up runs what is missing, and returns what it ran. A table that is in use is
// asked for a few times.
func Up(ctx context.Context, p *goose.Provider) (done []*goose.MigrationResult, err error) {
	for try := 1; ; try++ {
		part, err := p.Up(ctx)
		if partial, ok := errors.AsType[*goose.PartialError](err); ok {
			part = partial.Applied
		}
		done = append(done, part...)
		if !hasCode(err, lockNotAvailable) || try == migrationTries || !wait(ctx, migrationPause) {
			return done, err
		}
	}
}

// A Migration is one of this binary's, and when the database got it; the zero
// time: not yet.
type Migration struct {
	Version   int64
	Name      string // of its file
	AppliedAt time.Time
}

// MigrationStatus looks at the database that a URL names, and changes nothing:
// what migrationsOf says of it.
func MigrationStatus(ctx context.Context, url string) (list []Migration, newest int64, err error) {
	err = scratch(ctx, url, func(c *pgx.Conn) error {
		list, newest, err = migrationsOf(ctx, c)
		return err
	})
	return list, newest, err
}

const appliedSQL = `SELECT version_id, max(tstamp) FROM goose_db_version WHERE is_applied GROUP BY version_id`

// migrationsOf are this binary's migrations, and the newest that a database
// has, which may be one of a later binary. It only reads.
func migrationsOf(ctx context.Context, c *pgx.Conn) (list []Migration, newest int64, err error) {
	files, err := migrations.ReadDir("migrations")
	if err != nil {
		return nil, 0, err
	}
	applied := map[int64]time.Time{}
	var begun bool
	if err := c.QueryRow(ctx, `SELECT to_regclass('goose_db_version') IS NOT NULL`).Scan(&begun); err != nil {
		return nil, 0, fmt.Errorf("look for a schema: %w", err)
	}
	if begun {
		var version int64
		var at time.Time
		found, err := c.Query(ctx, appliedSQL)
		if err != nil {
			return nil, 0, fmt.Errorf("look for the schema's version: %w", err)
		}
		if _, err := pgx.ForEachRow(found, []any{&version, &at}, func() error {
			applied[version], newest = at, max(newest, version)
			return nil
		}); err != nil {
			return nil, 0, fmt.Errorf("look for the schema's version: %w", err)
		}
	}
	for _, file := range files {
		version, err := goose.NumericComponent(file.Name())
		if err != nil {
			return nil, 0, err
		}
		list = append(list, Migration{Version: version, Name: file.Name(), AppliedAt: applied[version]})
	}
	return list, newest, nil
}

// Migrations hands out the migrations of the database that a URL names, which
// nobody else changes meanwhile.
func Migrations(ctx context.Context, url string, run func(context.Context, *goose.Provider) error) error {
	pool, err := pgxpool.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("read the database's URL: %w", withoutPassword(err))
	}
	configure(pool.ConnConfig)
	return migrateWith(ctx, pool.ConnConfig, run)
}

// migrateWith works with the migrations, one process at a time. The lock has a
// connection of its own: it may be waited for longer than a table.
func migrateWith(ctx context.Context, config *pgx.ConnConfig, run func(context.Context, *goose.Provider) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, migrationWait)
	defer cancel()
	config = config.Copy()
	config.RuntimeParams["statement_timeout"] = "0"
	config.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	config.RuntimeParams["lock_timeout"] = fmt.Sprint(migrationLockFor.Milliseconds())
	db := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, db.Close()) }()
	patient := config.Copy() // the other is used for each connection to come
	patient.RuntimeParams["lock_timeout"] = "0"
	guard, err := pgx.ConnectConfig(ctx, patient)
	if err != nil {
		return unreachable(err)
	}
	defer func() { err = errors.Join(err, guard.Close(context.WithoutCancel(ctx))) }() // which frees the lock
	if _, err := guard.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(migrationLock)); err != nil {
		return fmt.Errorf("wait for another node's migration: %w", err)
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	return run(ctx, provider)
}
