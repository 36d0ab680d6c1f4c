package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postrider"
)

// limitPages lets the database grow by so many pages and no more, as a full
// disk would.
func limitPages(t *testing.T, s *Store, more int) {
	t.Helper()
	var pages int
	if err := s.conn.QueryRowContext(t.Context(), `PRAGMA page_count`).Scan(&pages); err != nil {
		t.Fatal(err)
	}
	if _, err := s.conn.ExecContext(t.Context(), fmt.Sprintf(`PRAGMA max_page_count = %d`, pages+more)); err != nil {
		t.Fatal(err)
	}
}

func eventFor(webhook postrider.ID, payload string) postrider.Accepted {
	e := postrider.Event{
		ID: postrider.NewID().String(), Tenant: "default", Type: "room_status.updated", Payload: []byte(payload),
		CreatedAt: time.Now(), Deliveries: 1,
	}
	return postrider.Accepted{Event: e, Deliveries: []postrider.Delivery{{
		DeliveryKey: postrider.DeliveryKey{Tenant: e.Tenant, EventID: e.ID, WebhookID: webhook},
		EventType:   e.Type, Payload: e.Payload, Trigger: postrider.TriggerEvent,
	}}}
}

func TestDisk_WhenItIsFullNothingIsHalfStoredAndItGoesOnAfterwards(t *testing.T) {
	s := openPlain(t)
	ctx := t.Context()
	webhook := postrider.NewID()
	before := eventFor(webhook, "1")
	if _, err := s.Accept(ctx, []postrider.Accepted{before}, nil); err != nil {
		t.Fatal(err)
	}
	limitPages(t, s, 8)
	large := strings.Repeat("x", 3000)
	var refused []string
	for range 4 {
		batch := make([]postrider.Accepted, 20)
		for i := range batch {
			batch[i] = eventFor(webhook, large)
			batch[i].Publication = i
			refused = append(refused, batch[i].Event.ID)
		}
		_, err := s.Accept(ctx, batch, nil)
		e, ok := errors.AsType[*postrider.Error](err)
		if !ok || e.Kind != postrider.StorageFull || e.Code != "storage_full" || e.RetryAfter <= 0 {
			t.Fatalf("got error %v, want storage_full and when to try again", err)
		}
	}
	for _, id := range refused {
		if _, _, err := s.Event(ctx, "default", id); err == nil {
			t.Errorf("got event %s stored, want nothing of a request that was refused", id)
		}
	}
	// What takes no more room goes on.
	claimed, err := s.Claim(ctx, webhook, postrider.ClaimLimit{Rows: 100, Bytes: 1 << 20})
	if err != nil || len(claimed.Deliveries) != 1 || claimed.Deliveries[0].EventID != before.Event.ID {
		t.Errorf("got %+v, %v, want the one delivery from before", claimed, err)
	}
	if err := s.Ping(ctx); err != nil {
		t.Errorf("got error %v, want a full disk to be no reason for a restart", err)
	}
	select {
	case <-s.Failed():
		t.Error("got the store failed, want it to wait for room")
	default:
	}

	limitPages(t, s, 10_000)
	if _, err := s.Accept(ctx, []postrider.Accepted{eventFor(webhook, large)}, nil); err != nil {
		t.Errorf("got error %v once there was room, want none", err)
	}
	checkIntegrity(t, s)
}

func TestDisk_AFullOneIsNoFaultOfARequestThatFits(t *testing.T) {
	s := openPlain(t)
	ctx := context.WithoutCancel(t.Context())
	webhook := postrider.NewID()
	limitPages(t, s, 12)
	large := strings.Repeat("x", 100_000)
	const clients = 40
	errs := make([]error, clients)
	events := make([]string, clients)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			payload := "1"
			if i%4 == 0 {
				payload = large
			}
			a := eventFor(webhook, payload)
			events[i] = a.Event.ID
			_, errs[i] = s.Accept(ctx, []postrider.Accepted{a}, nil)
		})
	}
	all.Wait()
	for i, err := range errs {
		_, _, missing := s.Event(ctx, "default", events[i])
		if fits := i%4 != 0; fits != (err == nil) || fits != (missing == nil) {
			t.Errorf("client %d: got error %v at its publish and %v at a read, want both only where it does not fit", i, err, missing)
		}
	}
	checkIntegrity(t, s)
}

func checkIntegrity(t *testing.T, s *Store) {
	t.Helper()
	var verdict string
	if err := s.read.QueryRowContext(t.Context(), `PRAGMA integrity_check`).Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("got %q, %v, want ok", verdict, err)
	}
}

// A 202 promises that the disk has it: that holds only with these settings.
func TestSettings_EveryCommitWaitsForTheDisk(t *testing.T) {
	s := openPlain(t)
	var mode string
	if err := s.conn.QueryRowContext(t.Context(), `PRAGMA journal_mode`).Scan(&mode); err != nil || mode != "wal" {
		t.Errorf("got journal_mode %q, %v, want wal", mode, err)
	}
	var synchronous int
	if err := s.conn.QueryRowContext(t.Context(), `PRAGMA synchronous`).Scan(&synchronous); err != nil || synchronous != 2 {
		t.Errorf("got synchronous %d, %v, want 2, which is FULL", synchronous, err)
	}
}

func TestSettings_ReadersCannotWrite(t *testing.T) {
	s := openPlain(t)
	if _, err := s.read.ExecContext(t.Context(), `DELETE FROM tenants`); err == nil {
		t.Error("got a write through a reader's connection")
	}
}

func TestWriter_ADatabaseThatIsCorruptTakesNoMoreWrites(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), dir, plainSealer{})
	if err != nil {
		t.Fatal(err)
	}
	var page, size int64
	err = s.conn.QueryRowContext(t.Context(), `SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_schema WHERE name = 'events'`).
		Scan(&page, &size)
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(filepath.Join(dir, FileName), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteAt(bytes.Repeat([]byte{0xff}, int(size)), (page-1)*size)
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}

	if s, err = Open(t.Context(), dir, plainSealer{}); err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // nothing of the test depends on it
	if _, err := s.Accept(t.Context(), []postrider.Accepted{eventFor(postrider.NewID(), "1")}, nil); err == nil {
		t.Fatal("got an event accepted into a corrupt table")
	}
	<-s.Failed()
	err = s.CreateTenant(t.Context(), postrider.Tenant{Name: "a"}) // into another table
	if e, ok := errors.AsType[*postrider.Error](err); !ok || e.Code != "store_unavailable" {
		t.Errorf("got error %v from the next write, want store_unavailable", err)
	}
	if s.Ping(t.Context()) == nil {
		t.Error("got no error from a ping, want the reason")
	}
}

// One caller's operation is run again when another's has failed: what it sees
// of itself must be the second run's alone.
func TestWriter_AnOperationThatIsRunTwiceAnswersOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openPlain(t)
		webhook := postrider.NewID()
		var ids []string
		for range 30 {
			a := eventFor(webhook, "1")
			ids = append(ids, a.Event.ID)
			if _, err := s.Accept(t.Context(), []postrider.Accepted{a}, nil); err != nil {
				t.Fatal(err)
			}
		}
		// The next three come while the writer is held up, so that they share a
		// transaction, which the last one fails.
		hold := make(chan struct{})
		var all sync.WaitGroup
		write := func(run func() error) {
			all.Go(func() {
				if err := run(); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		runs := 0
		write(func() error { return s.write(t.Context(), func(tx) error { <-hold; return nil }) })
		var claimed postrider.Claimed
		write(func() (err error) {
			claimed, err = s.Claim(t.Context(), webhook, postrider.ClaimLimit{Rows: 30, Bytes: 1 << 20})
			return err
		})
		var receipts []postrider.Receipt
		write(func() (err error) {
			receipts, err = s.Accept(t.Context(), []postrider.Accepted{eventFor(webhook, "2")}, nil)
			return err
		})
		write(func() error { return s.write(t.Context(), func(tx) error { runs++; return nil }) })
		write(func() error {
			if err := s.write(t.Context(), func(tx) error { return errors.New("no") }); err == nil {
				return errors.New("got no error from the operation that fails")
			}
			return nil
		})
		close(hold)
		all.Wait()

		if runs != 2 {
			t.Errorf("got an operation run %d times, want twice: the test has not made them share a transaction", runs)
		}
		var got []string
		for _, d := range claimed.Deliveries {
			got = append(got, d.EventID)
		}
		if !slices.Equal(got, ids) {
			t.Errorf("got %d deliveries claimed, want each of %d once", len(got), len(ids))
		}
		if len(receipts) != 1 || receipts[0].Deliveries != 1 {
			t.Errorf("got receipts %+v, want one for one delivery", receipts)
		}
	})
}
