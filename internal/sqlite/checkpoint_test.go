package sqlite

import (
	"database/sql"
	"strings"
	"testing"
	"time"

	"postrider"
)

// fillLog commits until so many pages more have been written.
func fillLog(t *testing.T, s *Store, pages int) {
	t.Helper()
	const each = 100 // pages
	payload := strings.Repeat("x", each*4096)
	for range pages / each {
		if _, err := s.Accept(t.Context(), []postrider.Accepted{eventFor(postrider.NewID(), payload)}, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func logLength(t *testing.T, s *Store) (length, copied int) {
	t.Helper()
	length, copied, err := s.checkpoints.look(t.Context(), logLengthSQL)
	if err != nil {
		t.Fatal(err)
	}
	return length, copied
}

// eventually waits for what happens beside the writer.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !happened(); time.Sleep(5 * time.Millisecond) { //nolint:forbidigo // what happens is SQLite's, beside any simulated time
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func TestCheckpoint_TheLogIsCopiedBesideTheWriterAndBeginsAnew(t *testing.T) {
	s := openPlain(t)
	longest := 0
	for range 30 { // without a pause, in which the log would be copied whole
		fillLog(t, s, checkpointAt/8)
		length, _ := logLength(t, s)
		longest = max(longest, length)
	}
	if longest < checkpointAt || longest > 3*checkpointAt {
		t.Errorf("got up to %d pages in the log, want it to have begun anew soon after %d", longest, checkpointAt)
	}
	checkIntegrity(t, s)
}

func TestCheckpoint_AReaderInTheWayIsWaitedFor(t *testing.T) {
	s := openPlain(t)
	reading, err := s.read.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var events int
	if err := reading.QueryRowContext(t.Context(), `SELECT count(*) FROM events`).Scan(&events); err != nil {
		t.Fatal(err)
	}
	fillLog(t, s, checkpointAt+500)
	if pause := s.checkpoints.copy(t.Context()); pause != checkpointWait {
		t.Errorf("got a pause of %v, want %v while a reader needs the log", pause, checkpointWait)
	}
	if err := reading.Rollback(); err != nil {
		t.Fatal(err)
	}
	fillLog(t, s, 100)
	eventually(t, "the log is copied", func() bool {
		length, copied := logLength(t, s)
		return length-copied < checkpointAt
	})
}

// Whoever reads for long holds up neither the writer nor the log.
func TestCheckpoint_WaitsForNoReader(t *testing.T) {
	s := openPlain(t)
	for range readers {
		reading, err := s.read.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer reading.Rollback()
	}
	s.checkpoints.rest.Store(true)
	written := make(chan struct{})
	go func() {
		defer close(written)
		fillLog(t, s, 100)
	}()
	select {
	case <-written:
	case <-time.After(10 * time.Second):
		t.Fatal("got the writer waiting for those who read")
	}
	if s.checkpoints.rest.Load() {
		t.Error("got the rest left, want it copied before the next transaction")
	}
}

// What a power cut would tear apart is a fault of the checkpoint's as of a
// commit's.
func TestCheckpoint_AFailureIsTold(t *testing.T) {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	var told []error
	c := &checkpointer{db: db, failed: func(err error) { told = append(told, err) }}
	c.rest.Store(true)
	c.copyRest()
	if c.copy(t.Context()); len(told) != 2 {
		t.Errorf("got %v, want both failures told", told)
	}
}
