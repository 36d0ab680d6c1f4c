package sqlite

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	sqlite "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// A writer runs write operations in shared transactions. Whoever comes while a
// commit is on its way to the disk waits in pending; the next transaction
// takes all that wait. So a lone caller pays one fsync and no delay. Where
// several share a transaction, the next one does not begin at once: the batch
// size adapts by itself to the load.
type writer struct {
	conn        *conn
	claims      claims
	checkpoints checkpointer

	mu      sync.Mutex
	pending []*operation
	closed  bool
	recent  int       // operations in the last transaction
	began   time.Time // of the last transaction
	wake    chan struct{}
	done    chan struct{}
	failed  failure

	answered sync.Pool // of operations that are of no more use
}

// An operation is one caller's part of a transaction. It may be run twice,
// when the transaction of which it was a part failed because of another.
type operation struct {
	run    func(tx) error
	answer chan error // holds one
}

// A statement is one that the writer keeps prepared.
type statement int

var writeSQL []string

// prepared is called by each noun's file for each of its write statements.
func prepared(sql string) statement {
	writeSQL = append(writeSQL, sql)
	return statement(len(writeSQL) - 1)
}

var (
	beginTx    = prepared(`BEGIN IMMEDIATE`)
	commitTx   = prepared(`COMMIT`)
	rollbackTx = prepared(`ROLLBACK`)
)

// A tx runs prepared statements inside the writer's transaction.
type tx struct{ conn *conn }

func (t tx) exec(id statement, args ...any) (int64, error) { return t.conn.exec(id, args) }

func (t tx) query(id statement, args ...any) (*rows, error) { return t.conn.query(id, args) }

func (t tx) queryRow(id statement, args ...any) oneRow {
	found, err := t.conn.query(id, args)
	return oneRow{found, err}
}

const (
	// maxBatch bounds a transaction, so that nobody waits for an endless one.
	maxBatch = 512
	// apart is how far transactions begin from each other at least when the
	// last one had from company up to crowd operations.
	apart   = 1500 * time.Microsecond
	company = 4
	crowd   = 96
)

func (w *writer) start() {
	w.wake = make(chan struct{}, 1)
	w.done = make(chan struct{})
	go w.loop()
}

// close lets the pending operations finish first.
func (w *writer) close() error {
	if w.done != nil {
		w.mu.Lock()
		w.closed = true
		w.mu.Unlock()
		w.signal()
		<-w.done
	}
	if w.conn == nil {
		return nil
	}
	return w.conn.Close()
}

func (w *writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// broken is why no more writes are accepted, nil while they are.
func (w *writer) broken() error { return w.failed.reason() }

var errClosed = errors.New("the store is closed")

// write runs one operation inside a shared transaction and returns when that
// is on disk. The caller's context only matters before the operation starts:
// what is on its way to the disk is waited for, since its outcome must be
// known.
func (w *writer) write(ctx context.Context, run func(tx) error) error {
	op, found := w.answered.Get().(*operation)
	if !found {
		op = &operation{answer: make(chan error, 1)}
	}
	op.run = run
	w.mu.Lock()
	if err := w.refusal(ctx); err != nil {
		w.mu.Unlock()
		return err
	}
	w.pending = append(w.pending, op)
	first := len(w.pending) == 1
	w.mu.Unlock()
	if first {
		w.signal()
	}
	err := <-op.answer
	op.run = nil
	w.answered.Put(op)
	return err
}

func (w *writer) refusal(ctx context.Context) error {
	if w.closed {
		return errClosed
	}
	if err := w.broken(); err != nil {
		return err
	}
	return ctx.Err()
}

func (w *writer) loop() {
	defer close(w.done)
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
			w.checkpoints.copyRest()
			w.began = time.Now()
			w.commit(batch)
			w.checkpoints.wrote()
		}
	}
}

// gather waits for company where the last transaction had some. What a commit
// costs beside its rows is then shared by more; nobody waits who is alone, or
// in a crowd that is large already. The wait counts from the begin of the last
// transaction: part of the callers are served while the others are committed.
func (w *writer) gather() {
	if w.recent < company || w.recent >= crowd {
		return
	}
	if wait := time.Until(w.began.Add(apart)); wait > 0 {
		pause := time.NewTimer(wait)
		<-pause.C
	}
}

func (w *writer) take() (batch []*operation, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.pending), maxBatch)
	batch = w.pending[:n:n]
	w.recent = n
	w.pending = w.pending[n:]
	return batch, w.closed
}

// commit runs a batch in one transaction. When an operation or the commit
// fails, everything is rolled back and each operation is run in a transaction
// of its own, so that a fault of one caller is not the fault of another.
func (w *writer) commit(batch []*operation) {
	err := w.transact(batch)
	if err != nil && len(batch) > 1 && w.broken() == nil {
		for _, op := range batch {
			op.answer <- w.transact([]*operation{op})
		}
		return
	}
	for _, op := range batch {
		op.answer <- err
	}
}

func (w *writer) transact(batch []*operation) (err error) {
	if err := w.broken(); err != nil {
		return err
	}
	t := tx{w.conn}
	w.claims.begin()
	defer func() {
		if err == nil {
			w.claims.committed()
		} else {
			w.claims.rolledBack()
		}
	}()
	if _, err := t.exec(beginTx); err != nil {
		return userError(err)
	}
	for _, op := range batch {
		if err = op.run(t); err != nil {
			break
		}
	}
	if err == nil {
		err = w.claims.writeDrafts(t)
	}
	if err == nil {
		_, err = t.exec(commitTx)
	}
	if err == nil {
		return nil
	}
	w.checkDisk(err)
	// A full disk or an I/O error may have rolled back already.
	if _, rollbackErr := t.exec(rollbackTx); rollbackErr != nil && w.broken() == nil && !isNoTransaction(rollbackErr) {
		w.failed.because(errors.Join(unavailable(), rollbackErr))
	}
	return userError(err)
}

// checkDisk stops all writes after a failed fsync: the kernel may have dropped
// the pages that it could not write, and a later fsync would report success
// for data that is not there.
func (w *writer) checkDisk(err error) {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return
	}
	switch e.Code() {
	case sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC, sqlite3.SQLITE_CORRUPT:
		w.failed.because(errors.Join(unavailable(), fmt.Errorf("the disk cannot be trusted any more, restart needed: %w", err)))
	}
}

func isNoTransaction(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_ERROR
}

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

func (f *failure) reason() error {
	select {
	case <-f.set:
		return f.err
	default:
		return nil
	}
}
