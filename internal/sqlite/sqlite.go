// Package sqlite is the embedded store: one process, one file, all SQL of the
// SQLite dialect, one file per noun.
//
// It knows tables and transactions. It must not know HTTP, lanes or what an
// outcome means for a delivery: it writes what it is told. The app opens it;
// publish, dispatch, registry and api use it through interfaces of their own.
//
// All writes go through one writer that lets concurrent callers share a
// transaction (group commit): when a method returns without an error, what it
// wrote is on disk.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/pressly/goose/v3"
	sqlite "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"postrider"
)

// FileName is the database's name in the data directory.
const FileName = "postrider.db"

//go:embed migrations/*.sql
var migrations embed.FS

// A Sealer encrypts what must not be readable on disk. The context binds a
// sealed value to the row it belongs to.
type Sealer = interface {
	Seal(plain, context []byte) []byte
	Open(sealed, context []byte) ([]byte, error)
}

// A Store is an open database. Its methods may be called concurrently.
type Store struct {
	writer
	read    *sql.DB
	lock    *os.File
	sealer  Sealer
	lastDue int64 // owned by the writer: due times of new deliveries strictly rise
	tallied int64 // owned by the writer: the minute in which old tallies were last removed
}

// Open opens or makes the database in dir and brings its schema up to date.
// Only one process at a time can have it open.
func Open(ctx context.Context, dir string, sealer Sealer) (_ *Store, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	s := &Store{sealer: sealer}
	s.writer.failed.set = make(chan struct{})
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.lock, err = lockDirectory(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, FileName)
	if err := migrate(ctx, path); err != nil {
		return nil, fmt.Errorf("bring the schema of %s up to date: %w", path, err)
	}
	if s.read, err = sql.Open("sqlite", dsn(path, largeCache, "_pragma=query_only(1)")); err != nil {
		return nil, fmt.Errorf("open %s for reading: %w", path, err)
	}
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	var last sql.NullInt64
	if err := s.read.QueryRowContext(ctx, lastTransactionSQL).Scan(&last); err != nil {
		return nil, fmt.Errorf("look for the last transaction: %w", err)
	}
	s.writer.claims = newClaims(max(last.Int64+1, micros(time.Now())))
	if s.writer.conn, err = openConn(s.read.Driver(), dsn(path, writeCache, "")); err != nil {
		return nil, err
	}
	checkpoints, err := sql.Open("sqlite", dsn(path, writeCache, "_pragma=query_only(1)"))
	if err != nil {
		return nil, fmt.Errorf("open %s for checkpoints: %w", path, err)
	}
	s.writer.checkpoints.start(checkpoints, s.writer.checkDisk)
	s.writer.start()
	return s, s.checkKey(ctx)
}

// readers is how many reads run side by side; more than the cores of a small
// machine, since a read may wait for the disk.
const readers = 4

// The pages that a connection keeps, in KiB. The writer's are few: where a commit
// has split pages of an index, SQLite looks through all that are kept, which took
// a fifth of the commits' time when they were 32 MiB. What it needs again soon
// fits, and the rest is in the system's memory.
const (
	largeCache = 16 << 10
	writeCache = 6 << 10
)

// dsn spells the settings of every connection. synchronous=FULL makes each
// commit wait for the disk: that is the promise of a 202.
func dsn(path string, cache int, extra string) string {
	return "file:" + path + "?_pragma=journal_mode(wal)&_pragma=synchronous(full)&_pragma=busy_timeout(5000)" +
		"&_pragma=cache_size(-" + strconv.Itoa(cache) + ")&_pragma=wal_autocheckpoint(" + strconv.Itoa(checkpointLate) + ")&_pragma=journal_size_limit(67108864)" +
		"&_pragma=temp_store(memory)&" + extra
}

func migrate(ctx context.Context, path string) error {
	return migrateWith(ctx, path, func(ctx context.Context, p *goose.Provider) error {
		_, err := p.Up(ctx)
		return err
	})
}

// Migrations hands out the migrations of the database in dir. While a server
// has it open they can be looked at and not run.
func Migrations(ctx context.Context, dir string, run func(context.Context, *goose.Provider) error) error {
	if _, err := os.Stat(filepath.Join(dir, FileName)); err != nil {
		return fmt.Errorf("look for the store: %w", err)
	}
	return migrateWith(ctx, filepath.Join(dir, FileName), run)
}

func migrateWith(ctx context.Context, path string, run func(context.Context, *goose.Provider) error) error {
	db, err := sql.Open("sqlite", dsn(path, largeCache, "_txlock=immediate"))
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // what was migrated is committed
	db.SetMaxOpenConns(1)
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	return run(ctx, provider)
}

// lockDirectory keeps a second process out. The lock is the kernel's, so a
// killed process leaves none behind.
func lockDirectory(dir string) (*os.File, error) {
	path := filepath.Join(dir, "postrider.lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the data directory's lock: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close() //nolint:errcheck // nothing was written
		return nil, fmt.Errorf("%s is in use by another postrider process: %w", dir, err)
	}
	return file, nil
}

// Close waits for the writes under way and closes the database. The writer's
// connection is the last to be closed, since that one may write what is in the
// log into the database: a data directory that was closed holds it in one file.
func (s *Store) Close() error {
	var errs []error
	errs = append(errs, s.writer.checkpoints.close())
	if s.read != nil {
		errs = append(errs, s.read.Close())
	}
	errs = append(errs, s.writer.close())
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// Ping reports whether the store can be read and still accepts writes.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.writer.broken(); err != nil {
		return err
	}
	var one int
	return s.read.QueryRowContext(ctx, `SELECT 1`).Scan(&one)
}

// userError turns the engine's errors that an operator can act on into ones
// that may be shown.
func userError(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return errors.Join(&postrider.Error{
			Kind: postrider.StorageFull, Code: "storage_full", RetryAfter: 30 * time.Second,
			Detail: "The server's disk is full; nothing of this request was stored. Try again later.",
		}, err)
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY:
		return errors.Join(unavailable(), err)
	}
	return err
}

func unavailable() *postrider.Error {
	return &postrider.Error{
		Kind: postrider.Unavailable, Code: "store_unavailable", RetryAfter: 5 * time.Second,
		Detail: "The server's store is not available; nothing of this request was stored. Try again in a few seconds.",
	}
}

// micros and its inverse are how times are kept.
func micros(t time.Time) int64 { return t.UnixMicro() }

func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }

// optional is NULL for the zero time.
func optional(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

func fromOptional(us sql.NullInt64) time.Time {
	if !us.Valid {
		return time.Time{}
	}
	return fromMicros(us.Int64)
}

// scanID reads an ID column.
type scanID struct{ id *postrider.ID }

func (s scanID) Scan(value any) error {
	b, ok := value.([]byte)
	if !ok || len(b) != len(s.id) {
		return fmt.Errorf("an id column holds %T of unexpected form", value)
	}
	copy(s.id[:], b)
	return nil
}

// Failed is closed when the store can no longer be trusted and accepts no more
// writes; Ping says why. Only a restart helps.
func (s *Store) Failed() <-chan struct{} { return s.writer.failed.set }
