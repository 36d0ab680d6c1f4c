package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"sync/atomic"
	"time"
)

// A checkpointer copies what the write-ahead log has gathered into the database
// while the writer goes on, whose callers would otherwise wait for it. What is
// written meanwhile is little, and is copied between two transactions: only when
// nothing is left does the log begin anew, and stay small. It has connections of
// its own, so that the writer never waits for those who read.
type checkpointer struct {
	db      *sql.DB
	failed  func(error)
	written chan struct{} // holds a token when there may be something to copy
	rest    atomic.Bool   // the writer is to copy the rest
	stop    context.CancelFunc
	done    chan struct{}
}

const (
	// checkpointAt is the length of the log, in pages, at which it is copied.
	checkpointAt = 4000
	// checkpointLate is where a commit does it, if that did not happen.
	checkpointLate = 16_000
	// checkpointPause is between two looks at a log that grows.
	checkpointPause = 20 * time.Millisecond
	// checkpointWait is the pause after a reader was in the way.
	checkpointWait = 500 * time.Millisecond
)

// SQLite's answer is whether it had to give way, the pages in the log, and those
// of them that are copied.
const (
	logLengthSQL  = `PRAGMA wal_checkpoint(NOOP)`
	checkpointSQL = `PRAGMA wal_checkpoint(PASSIVE)`
)

// start takes a database of its own, which it closes.
func (c *checkpointer) start(db *sql.DB, failed func(error)) {
	db.SetMaxOpenConns(2) // for what goes on beside the writer, and for the rest
	ctx, stop := context.WithCancel(context.Background())
	c.db, c.failed, c.stop = db, failed, stop
	c.written, c.done = make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(c.done)
		pause := time.NewTimer(0)
		defer pause.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-pause.C:
			}
			select {
			case <-ctx.Done():
				return
			case <-c.written:
				pause.Reset(c.copy(ctx))
			}
		}
	}()
}

// close waits for the end of what is under way.
func (c *checkpointer) close() error {
	if c.done == nil {
		return nil
	}
	c.stop()
	<-c.done
	return c.db.Close()
}

// wrote tells of a transaction.
func (c *checkpointer) wrote() {
	select {
	case c.written <- struct{}{}:
	default:
	}
}

// copy copies the log if it is long, and says when to look again.
func (c *checkpointer) copy(ctx context.Context) (pause time.Duration) {
	length, copied, err := c.look(ctx, logLengthSQL)
	if err != nil || length-copied < checkpointAt {
		return checkpointPause
	}
	if _, copied, err = c.look(ctx, checkpointSQL); err != nil || copied < length {
		return checkpointWait
	}
	c.rest.Store(true)
	return checkpointPause
}

// copyRest copies, for the writer, what it has written since the rest was
// copied beside it.
func (c *checkpointer) copyRest() {
	if c.rest.CompareAndSwap(true, false) {
		c.look(context.Background(), checkpointSQL) //nolint:errcheck // told already; the next copy makes up for it
	}
}

func (c *checkpointer) look(ctx context.Context, text string) (length, copied int, err error) {
	var busy int
	if err = c.db.QueryRowContext(ctx, text).Scan(&busy, &length, &copied); err != nil && ctx.Err() == nil {
		c.failed(fmt.Errorf("copy the log into the database: %w", err))
	}
	return length, copied, err
}
