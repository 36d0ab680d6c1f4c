package postgres

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"postrider"
)

// aged is a node that keeps 30 days of history, and has events of 40 days ago.
func aged(t *testing.T) (s *Store, database string, now time.Time) {
	t.Helper()
	database = newDatabase(t)
	o := options(database)
	o.Retention = 30 * dayLength
	s = openWith(t, o)
	accept(t, s, eventFor(postrider.NewID(), false))
	now = time.Now().Add(40 * dayLength)
	if err := setClock(database, now); err != nil {
		t.Fatal(err)
	}
	return s, database, now
}

// hasDay reports whether a day has a partition of its own.
func hasDay(t *testing.T, c *pgx.Conn, at time.Time) bool {
	t.Helper()
	list, err := partitions(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Contains(list, partition("events", dayOf(at))) && slices.Contains(list, partition("attempts", dayOf(at)))
}

// eventOf is an event that was accepted on a day.
func eventOf(webhook postrider.ID, at time.Time) postrider.Accepted {
	e := eventFor(webhook, false)
	e.ChosenID, e.Event.CreatedAt = true, at
	e.Event.ID = "chosen" + e.Event.ID
	e.Deliveries[0].EventID = e.Event.ID
	return e
}

func housekeep(t *testing.T, s *Store) {
	t.Helper()
	if err := s.housekeep(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestHistory_WhoReadsItHoldsUpNobody(t *testing.T) {
	s, database, now := aged(t)
	old := time.Now()
	c := housekeeper(t, s)
	reader := housekeeper(t, s)
	do(t, reader, `BEGIN`, `SELECT count(*) FROM events`, `SELECT count(*) FROM attempts`)

	tidied := make(chan error)
	go func() { tidied <- s.housekeep(t.Context()) }()
	webhook := postrider.NewID()
	var slowest time.Duration
	published := 0
	for tidying := true; tidying; published++ {
		select {
		case err := <-tidied:
			if err != nil {
				t.Error(err)
			}
			tidying = false
		case <-time.After(5 * time.Millisecond):
		}
		if published == 20 {
			openNode(t, database)
		}
		e := eventOf(webhook, now)
		began := time.Now()
		accept(t, s, e)
		claim(t, s, webhook, 1, false)
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("%d publishes, each with a claim, took %v at most", published, slowest)
	if slowest > 500*time.Millisecond {
		t.Errorf("got a publish and a claim that took %v beside the housekeeping", slowest)
	}
	if published < 20 {
		t.Errorf("got %d publishes beside the housekeeping, want it to try more than once", published)
	}
	if !hasDay(t, c, old) || hasDay(t, c, now) {
		t.Error("got the days changed while somebody reads, want them left for later")
	}

	do(t, reader, `COMMIT`)
	housekeep(t, s)
	if hasDay(t, c, old) || !hasDay(t, c, now) {
		t.Error("got the old day kept, or none for today, once nobody reads")
	}
	var own, rest int
	day := partition("events", dayOf(now))
	if err := c.QueryRow(t.Context(), fmt.Sprintf(`SELECT (SELECT count(*) FROM %s), (SELECT count(*) FROM events_rest)`, day)).Scan(&own, &rest); err != nil {
		t.Fatal(err)
	}
	if own != published || rest != 1 {
		t.Errorf("got %d events in %s and %d in the rest, want %d, and the one that was not sent yet", own, day, rest, published)
	}
}

// A row that comes while its day is made is in it, like those that came before.
func TestHistory_WhatComesWhileItsDayIsMadeIsInIt(t *testing.T) {
	s, database, now := aged(t)
	other := openNode(t, database) // which made the days
	c := housekeeper(t, s)
	const days = 30
	published := make(chan int)
	var day atomic.Int64
	var made atomic.Bool
	go func() {
		n := 0
		for ; !made.Load(); n++ {
			e := eventOf(postrider.NewID(), now.Add(time.Duration(day.Load())*dayLength))
			if _, err := s.Accept(t.Context(), []postrider.Accepted{e}, nil); err != nil {
				t.Error(err)
			}
		}
		published <- n
	}()
	for d := range days {
		day.Store(int64(10 + d))
		if err := setClock(database, now.Add(time.Duration(10+d)*dayLength)); err != nil {
			t.Error(err)
		}
		if err := other.makeDays(t.Context()); err != nil {
			t.Error(err)
		}
	}
	made.Store(true)
	want := <-published
	var own, rest int
	if err := c.QueryRow(t.Context(), `
SELECT count(*) FILTER (WHERE tableoid <> 'events_rest'::regclass), count(*) FILTER (WHERE tableoid = 'events_rest'::regclass)
FROM events WHERE id LIKE 'chosen%'`).Scan(&own, &rest); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d events in their days, %d in the rest", own, rest)
	if own+rest != want || own == 0 {
		t.Errorf("got %d events in their days and %d in the rest, want all %d, and as good as none in the rest", own, rest, want)
	}
}

func TestHousekeeping_DropsOldDaysWholeOnOneNodeAlone(t *testing.T) {
	s, database, _ := aged(t)
	old := time.Now()
	forever := openNode(t, database)
	c := housekeeper(t, s)
	housekeep(t, forever)
	if !hasDay(t, c, old) {
		t.Error("got the old day dropped by a node without a retention")
	}
	other := housekeeper(t, s)
	do(t, other, fmt.Sprintf(`SELECT pg_advisory_lock(%d)`, int64(housekeepingLock)))
	housekeep(t, s)
	if !hasDay(t, c, old) {
		t.Error("got the old day dropped while another node does the housekeeping")
	}
	do(t, other, fmt.Sprintf(`SELECT pg_advisory_unlock(%d)`, int64(housekeepingLock)))
	housekeep(t, s)
	if hasDay(t, c, old) {
		t.Error("got the old day kept beyond the retention")
	}
	if !hasDay(t, c, old.Add(40*dayLength)) {
		t.Error("got no day for today")
	}
}

func TestHistory_WhoChangesItsDaysIsNotWaitedForLong(t *testing.T) {
	s, database, now := aged(t)
	c := housekeeper(t, s)
	do(t, c, fmt.Sprintf(`SELECT pg_advisory_lock(%d)`, int64(historyLock)))
	openNode(t, database)
	housekeep(t, s)
	do(t, c, fmt.Sprintf(`SELECT pg_advisory_unlock(%d)`, int64(historyLock)))
	housekeep(t, s)
	if !hasDay(t, c, now) {
		t.Error("got no day for today, want it made by the next housekeeping")
	}
}

// The schema is there: whoever works on a newer one is not waited for.
func TestOpen_DoesNotWaitForAMigrationThatItHasAlready(t *testing.T) {
	database := newDatabase(t)
	s := openNode(t, database)
	do(t, housekeeper(t, s), fmt.Sprintf(`SELECT pg_advisory_lock(%d)`, int64(migrationLock)))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	other, err := Open(ctx, options(database))
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
}
