package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A writer runs what is written for each delivery in shared transactions.
// Whoever comes while a transaction is on its way waits in pending; the next
// one takes all that wait. So a lone caller pays one commit and no delay. Where
// several share a transaction, the next one waits a moment for more of them:
// the batch size adapts by itself to the load.
//
// A transaction is one round trip: its statements are sent together, and the
// answer to the last says that all are committed.
type writer struct {
	store *Store

	mu      sync.Mutex
	pending []*operation
	closed  bool
	recent  int // operations in the last transaction
	wake    chan struct{}
	done    sync.WaitGroup
}

// An operation is one caller's part of a transaction. Its part may be added to
// a second transaction, when the first failed because of another's.
type operation struct {
	add    func(*batch)
	answer chan error
}

// A statement is one that each committer keeps prepared.
type statement int

var writeSQL []string

// prepared is called by each noun's file for each statement of the writer.
func prepared(sql string) statement {
	writeSQL = append(writeSQL, sql)
	return statement(len(writeSQL) - 1)
}

func (s statement) String() string { return fmt.Sprintf("w%d", int(s)) }

const (
	// maxBatch bounds a transaction, so that nobody waits for an endless one.
	maxBatch = 512
	// maxPending bounds how many wait when the database is slow.
	maxPending = 8192
	// gatherFor is how long a transaction waits for more when the last one had
	// from company up to crowd operations.
	gatherFor = 500 * time.Microsecond
	company   = 4
	crowd     = 96
	// redialAfter is how long nothing is tried after a connection was refused.
	redialAfter = 250 * time.Millisecond
)

func (w *writer) start(s *Store, committers int) {
	w.store = s
	w.wake = make(chan struct{}, 1)
	for range committers {
		w.done.Go(w.loop)
	}
}

// close lets the pending operations finish first.
func (w *writer) close() {
	if w.wake == nil {
		return
	}
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.signal()
	w.done.Wait()
}

func (w *writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

var (
	errClosed = errors.New("the store is closed")
	errCrowd  = errors.New("too much waits to be written")
)

// write adds one operation to a shared transaction and returns when that is
// committed. The caller's context only matters before: what is on its way is
// waited for, since its outcome must be known.
func (w *writer) write(ctx context.Context, add func(*batch)) error {
	op := &operation{add: add, answer: make(chan error, 1)}
	w.mu.Lock()
	err := ctx.Err()
	switch {
	case w.closed:
		err = errClosed
	case err == nil && len(w.pending) >= maxPending:
		err = errors.Join(unavailable(), errCrowd)
	}
	if err != nil {
		w.mu.Unlock()
		return err
	}
	w.pending = append(w.pending, op)
	first := len(w.pending) == 1
	w.mu.Unlock()
	if first {
		w.signal()
	}
	return <-op.answer
}

func (w *writer) take() (batch []*operation, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.pending), maxBatch)
	batch = w.pending[:n:n]
	w.pending = w.pending[n:]
	if n > 0 {
		w.recent = n
	}
	if len(w.pending) > 0 || w.closed {
		w.signal() // another committer, too
	}
	return batch, w.closed
}

func (w *writer) loop() {
	c := committer{store: w.store}
	defer c.hangUp()
	for range w.wake {
		for {
			w.gather()
			batch, closed := w.take()
			if len(batch) == 0 {
				if closed {
					return
				}
				break
			}
			c.commit(batch)
		}
	}
}

// gather waits for company where the last transaction had some. What a commit
// costs beside its rows is then shared by more; nobody waits who is alone, or
// in a crowd that is large already.
func (w *writer) gather() {
	w.mu.Lock()
	recent := w.recent
	w.mu.Unlock()
	if recent < company || recent >= crowd {
		return
	}
	pause := time.NewTimer(gatherFor)
	<-pause.C
}

// A committer is one connection with the writer's statements prepared. It
// belongs to one goroutine.
type committer struct {
	store   *Store
	conn    *pgx.Conn
	refused time.Time // when the last connection was
	why     error
}

// uncut is the context of every statement: a transaction has many callers, and
// is not cut short for one of them. Deadlines bound it.
var uncut = context.Background()

// commit runs a batch in one transaction. When one statement fails, all of it
// is rolled back and each operation is run in a transaction of its own, so that
// a fault of one caller is not the fault of another. So is one whose row was on
// its way to the rest of history when its day was made.
func (c *committer) commit(batch []*operation) {
	err := c.transact(batch)
	if err != nil && (len(batch) > 1 || hasCode(err, checkViolation)) && c.conn != nil {
		for _, op := range batch {
			op.answer <- c.transact([]*operation{op})
		}
		return
	}
	for _, op := range batch {
		op.answer <- err
	}
}

func (c *committer) transact(operations []*operation) error {
	if err := c.dial(); err != nil {
		return errors.Join(unavailable(), err)
	}
	b := newBatch(c.store.run.Load())
	for _, op := range operations {
		op.add(b)
	}
	err := c.run(b.calls())
	if err == nil {
		return nil
	}
	if b.claims && !told(err) {
		c.store.doubted.Store(b.node)
	}
	if e, ours := errors.AsType[*pgconn.PgError](err); !ours || transient(e.Code) && e.Code != deadlockDetected || c.conn.IsClosed() {
		// A server that goes down, or has become a standby, is asked for anew.
		c.hangUp()
	}
	return userError(err)
}

// told reports whether the server has said itself why a transaction failed: then
// nothing of it is committed. Otherwise it may be, now or when a server that hangs
// goes on.
func told(err error) bool {
	return errors.As(err, new(*pgconn.PgError)) && !errors.Is(err, errEnd)
}

var errEnd = errors.New("the connection ended in the commit")

// dial makes the connection when there is none. Where one was refused a moment
// ago there is no use in another try, and callers are not kept waiting for it.
func (c *committer) dial() (err error) {
	if c.conn != nil && !c.conn.IsClosed() {
		return nil
	}
	c.conn = nil
	if !c.refused.IsZero() && time.Since(c.refused) < redialAfter {
		return c.why
	}
	defer func() {
		c.refused, c.why = time.Time{}, err
		if err != nil {
			c.refused = time.Now()
		}
	}()
	ctx, cancel := context.WithTimeout(uncut, 2*connectWait)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, c.store.writing())
	if err != nil {
		return fmt.Errorf("connect to the database for writing: %w", withoutPassword(err))
	}
	for i, text := range writeSQL {
		if _, err := conn.PgConn().Prepare(ctx, statement(i).String(), text, nil); err != nil {
			return errors.Join(fmt.Errorf("prepare %q: %w", text, err), conn.Close(ctx))
		}
	}
	c.conn = conn
	return nil
}

// writing is the configuration of a committer's connection: a queue is read in
// the order of its index, of which a limit takes the beginning.
func (s *Store) writing() *pgx.ConnConfig {
	config := s.config.Copy()
	config.RuntimeParams["enable_sort"] = "off"
	return config
}

func (c *committer) hangUp() {
	if c.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(uncut, time.Second)
	defer cancel()
	c.conn.Close(ctx) //nolint:errcheck // it is given up
	c.conn = nil
}

// A call is one statement of a transaction.
type call struct {
	id     statement
	params [][]byte
	// row reads what it returns, row by row; nil: nothing. It may be called
	// again, when the transaction is run again.
	row func(values [][]byte) error
}

var binaryFormat = []int16{1}

// run sends the calls together. Up to the one Sync they are one transaction,
// which the server commits before it answers.
func (c *committer) run(calls []call) error {
	pg := c.conn.PgConn()
	if err := pg.Conn().SetDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("bound a transaction: %w", err)
	}
	p := pg.StartPipeline(uncut)
	for i := range calls {
		p.SendQueryPrepared(calls[i].id.String(), calls[i].params, binaryFormat, binaryFormat)
	}
	if err := p.Sync(); err != nil {
		return errors.Join(fmt.Errorf("send a transaction: %w", err), p.Close())
	}
	var failed error
	for i := 0; ; {
		result, err := p.GetResults()
		if err != nil {
			if failed == nil {
				failed = fmt.Errorf("run %q: %w", writeSQL[calls[min(i, len(calls)-1)].id], err)
			}
			if pg.IsClosed() || !errors.As(err, new(*pgconn.PgError)) {
				if i == len(calls) {
					failed = errors.Join(failed, errEnd)
				}
				break
			}
			continue // up to the Sync
		}
		reader, isRows := result.(*pgconn.ResultReader)
		if !isRows {
			break // the Sync: it is committed, or was rolled back
		}
		if err := readRows(reader, calls[i].row); err != nil && failed == nil {
			failed = fmt.Errorf("run %q: %w", writeSQL[calls[i].id], err)
		}
		i++
	}
	return errors.Join(failed, p.Close())
}

func readRows(reader *pgconn.ResultReader, row func([][]byte) error) (err error) {
	for reader.NextRow() {
		if row != nil && err == nil {
			err = row(reader.Values())
		}
	}
	_, closeErr := reader.Close()
	return errors.Join(err, closeErr)
}

func isNetwork(err error) bool {
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}
