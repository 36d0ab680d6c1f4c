// Package postgres is the store that many nodes share: PostgreSQL 14 or later,
// all SQL of its dialect, one file per noun.
//
// It knows tables, transactions and which nodes are alive. It must not know
// HTTP, lanes or what an outcome means for a delivery: it writes what it is
// told. The app opens it; publish, dispatch, registry and api use it through
// interfaces of their own.
//
// What is written for each delivery goes through a writer that lets concurrent
// callers share a transaction (group commit): when a method returns without an
// error, what it wrote is committed. What two nodes must agree on is decided in
// the database, by its clock: now() is the only one that these statements ask.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"postrider"
)

// A Sealer encrypts what must not be readable in the database. The context
// binds a sealed value to the row it belongs to.
type Sealer = interface {
	Seal(plain, context []byte) []byte
	Open(sealed, context []byte) ([]byte, error)
}

// Options are what a Store is opened with.
type Options struct {
	URL    string // postgres://…, or any connection string that libpq takes
	Sealer Sealer
	Logger *slog.Logger // nil: nothing is logged
	// Retention is how long history is kept by Run; 0: for ever.
	Retention time.Duration
	// Committers is how many transactions of the writer are under way at once;
	// 0: one, which was measured to be the best.
	Committers int
}

// A Store is this process's part of the shared store: a node. Its methods may
// be called concurrently.
type Store struct {
	writer
	o      Options
	config *pgx.ConnConfig // of the connections beside the pool
	pool   *pgxpool.Pool
	room   chan struct{} // a token for each caller that uses the pool or waits for it

	run     atomic.Int64 // the node's id, whose claims are valid
	doubted atomic.Int64 // a run that may have claims of which this process does not know
	nodes   atomic.Int64
	lease   atomic.Pointer[time.Time]

	turn     sync.Mutex // changes of the registry, one after another
	revision int64      // guarded by turn: the last that was handed out

	orphaned, changed chan struct{}
	ended             chan struct{} // a heartbeat has looked for dead nodes
	lost              failure
	counts            tallyCounts
}

// Bounds on what waits for the database.
const (
	readers      = 8                // connections of the pool
	maxWaiting   = 256              // callers that use the pool or wait for it
	readTimeout  = 10 * time.Second // of a statement of a reader
	writeTimeout = 10 * time.Second // of a transaction of the writer
	acquireWait  = 3 * time.Second
	connectWait  = 3 * time.Second
	lockWait     = 4 * time.Second
)

// Open connects to the database, brings its schema up to date, and makes this
// process one of its nodes.
func Open(ctx context.Context, o Options) (_ *Store, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		o: o, room: make(chan struct{}, maxWaiting), orphaned: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		ended: make(chan struct{}, 1), lost: failure{set: make(chan struct{})},
	}
	pool, err := pgxpool.ParseConfig(o.URL)
	if err != nil {
		return nil, fmt.Errorf("read the database's URL: %w", withoutPassword(err))
	}
	configure(pool.ConnConfig)
	pool.MaxConns = readers
	s.config = pool.ConnConfig.Copy()
	defer func() { //nolint:contextcheck // what was opened is closed, even if the context has ended
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.pool, err = pgxpool.NewWithConfig(ctx, pool); err != nil {
		return nil, fmt.Errorf("open the database: %w", withoutPassword(err))
	}
	if err := s.checkServer(ctx); err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		return nil, fmt.Errorf("bring the database's schema up to date: %w", err)
	}
	if err := s.makeDays(ctx); err != nil {
		return nil, err
	}
	if err := s.join(ctx); err != nil {
		return nil, err
	}
	if err := s.pool.QueryRow(ctx, revisionSQL).Scan(&s.revision); err != nil {
		return nil, fmt.Errorf("read the registry's revision: %w", err)
	}
	s.writer.start(s, max(1, o.Committers))
	return s, nil
}

// configure makes the settings of every connection. Plans are generic and use
// indexes, one row after another: a statement is planned once, when the tables
// may be empty, and runs when they are large.
func configure(c *pgx.ConnConfig) {
	c.ConnectTimeout = connectWait
	for name, value := range map[string]string{
		"application_name":                    "postrider",
		"timezone":                            "UTC",
		"jit":                                 "off",
		"plan_cache_mode":                     "force_generic_plan",
		"enable_seqscan":                      "off",
		"enable_bitmapscan":                   "off",
		"enable_hashjoin":                     "off",
		"enable_mergejoin":                    "off",
		"statement_timeout":                   fmt.Sprint(readTimeout.Milliseconds()),
		"lock_timeout":                        fmt.Sprint(lockWait.Milliseconds()),
		"idle_in_transaction_session_timeout": fmt.Sprint(writeTimeout.Milliseconds()),
	} {
		if name != "application_name" || c.RuntimeParams[name] == "" {
			c.RuntimeParams[name] = value
		}
	}
}

// withoutPassword keeps the URL out of an error: pgx shows it, with the
// password taken out only where it can find it.
func withoutPassword(err error) error {
	if e, ok := errors.AsType[*pgconn.ParseConfigError](err); ok && errors.Unwrap(e) != nil {
		return errors.Unwrap(e)
	}
	return err
}

// unreachable says that no connection can be made, or that it was lost.
func unreachable(err error) error {
	return fmt.Errorf("%w: %w", postrider.ErrUnreachable, withoutPassword(err))
}

const serverSQL = `
SELECT current_setting('server_version_num')::int, current_setting('server_version'),
    ARRAY(SELECT name || ' = off' FROM (VALUES ('fsync'), ('full_page_writes'), ('synchronous_commit')) AS s (name)
        WHERE current_setting(name) = 'off')`

// oldestServer is the first version that this was made for.
const oldestServer = 14_00_00

// checkServer refuses a server that is too old and names settings that break
// the promise of a 202.
func (s *Store) checkServer(ctx context.Context) error {
	var number int
	var version string
	var dangerous []string
	if err := s.pool.QueryRow(ctx, serverSQL).Scan(&number, &version, &dangerous); err != nil {
		return unreachable(err)
	}
	if number < oldestServer {
		return fmt.Errorf("the database is PostgreSQL %s, which is too old: use 14 or later", version)
	}
	for _, setting := range dangerous {
		s.o.Logger.Warn("a setting of the database can lose events that were accepted", "setting", setting)
	}
	return nil
}

// Close waits for the writes under way, gives up this node's claims and closes
// the connections.
func (s *Store) Close() error {
	var errs []error
	s.writer.close()
	if s.pool != nil {
		errs = append(errs, s.leave())
		s.pool.Close()
	}
	return errors.Join(errs...)
}

// Ping reports whether the database can be reached and accepts writes.
func (s *Store) Ping(ctx context.Context) error {
	var standby bool
	err := s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, `SELECT pg_is_in_recovery()`).Scan(&standby)
	})
	if err == nil && standby {
		return errors.Join(unavailable(), errors.New("the database is a standby, which cannot be written to"))
	}
	return err
}

// read lends a connection of the pool. It waits for one, and for the database,
// a bounded time, as one of a bounded number.
func (s *Store) read(ctx context.Context, run func(context.Context, *pgx.Conn) error) error {
	select {
	case s.room <- struct{}{}:
		defer func() { <-s.room }()
	default:
		return errors.Join(unavailable(), errors.New("too many callers wait for the database"))
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	waiting, stop := context.WithTimeout(ctx, acquireWait)
	c, err := s.pool.Acquire(waiting)
	stop()
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return errors.Join(unavailable(), fmt.Errorf("connect to the database: %w", withoutPassword(err)))
	}
	defer c.Release()
	return userError(run(ctx, c.Conn()))
}

// readAll reads what a query finds.
func readAll[T any](ctx context.Context, s *Store, sql string, args []any, scan pgx.RowToFunc[T]) (list []T, err error) {
	err = s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		found, err := c.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		list, err = pgx.AppendRows(list, found, scan)
		return err
	})
	return list, err
}

// transact runs a transaction of one caller.
func (s *Store) transact(ctx context.Context, run func(context.Context, pgx.Tx) error) error {
	return s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error { return run(ctx, tx) })
	})
}

// userError turns the errors that an operator can act on into ones that may be
// shown.
func userError(err error) error {
	if err == nil {
		return nil
	}
	if _, shown := errors.AsType[*postrider.Error](err); shown {
		return err
	}
	e, ours := errors.AsType[*pgconn.PgError](err)
	switch {
	case ours && (e.Code == "53100" || e.Code == "53200"): // disk full, out of memory
		return errors.Join(&postrider.Error{
			Kind: postrider.StorageFull, Code: "storage_full", RetryAfter: 30 * time.Second,
			Detail: "The server's disk is full; nothing of this request was stored. Try again later.",
		}, err)
	case ours && transient(e.Code), !ours && (pgconn.Timeout(err) || connectionLost(err)):
		return errors.Join(unavailable(), err)
	}
	return err
}

// Codes of PostgreSQL's answers: that a lock was waited for too long, that a
// statement took longer than it may, and that a row is not as its table wants it.
const (
	lockNotAvailable = "55P03"
	queryCanceled    = "57014"
	checkViolation   = "23514"
	deadlockDetected = "40P01"
)

// hasCode reports whether an error is PostgreSQL's, with one of these codes.
func hasCode(err error, codes ...string) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains(codes, e.Code)
}

// transient reports whether an error's code tells of the server's state, not of
// the statement: it goes down or comes up, has no connection left, has become a
// standby, or did not get to it in time.
func transient(code string) bool {
	switch code[:min(2, len(code))] {
	case "08", "53", "57", "58":
		return true
	}
	return code == "25006" || code == lockNotAvailable || code == deadlockDetected || code == "25P03"
}

func connectionLost(err error) bool {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	return pgconn.SafeToRetry(err) || isNetwork(err)
}

func unavailable() *postrider.Error {
	return &postrider.Error{
		Kind: postrider.Unavailable, Code: "store_unavailable", RetryAfter: 2 * time.Second,
		Detail: "The server's store is not available. Try again in a few seconds; with the same id or Idempotency-Key nothing is stored twice.",
	}
}

// Failed is closed when this node can no longer follow the others; only a
// restart helps.
func (s *Store) Failed() <-chan struct{} { return s.lost.set }

// A failure happens at most once and stays.
type failure struct {
	once sync.Once
	err  error
	set  chan struct{} // closed once err is there
}

func (f *failure) because(err error) {
	f.once.Do(func() {
		f.err = err
		close(f.set)
	})
}
