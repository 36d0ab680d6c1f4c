package sqlite_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"postrider"
	"postrider/internal/sqlite"
)

// An acknowledged is what the child says once a write has been answered.
type acknowledged struct {
	Event   string       // accepted, with a delivery for each of webhooks
	Attempt postrider.ID // or settled
}

// crashWebhooks are those that the child's events go to.
var crashWebhooks = []postrider.ID{{15: 1}, {15: 2}, {15: 3}}

// acceptUntilKilled writes from several goroutines at once, and says of each
// write that was answered what it was.
func acceptUntilKilled(dir string) {
	ctx := context.Background()
	store, err := openIn(ctx, dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	var mu sync.Mutex
	say := func(a acknowledged) {
		mu.Lock()
		defer mu.Unlock()
		json.NewEncoder(os.Stdout).Encode(a) //nolint:errcheck,errchkjson // the parent may be gone
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 10_000 { // bounded, should nobody kill it
				var err error
				if i < 5 {
					err = acceptOne(ctx, store, say)
				} else {
					err = settleSome(ctx, store, crashWebhooks[(i+n)%3], say)
				}
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
			}
		})
	}
	all.Wait()
}

func acceptOne(ctx context.Context, store *sqlite.Store, say func(acknowledged)) error {
	e := postrider.Event{
		ID: postrider.NewID().String(), Tenant: "default", Type: "room_status.updated", Payload: []byte("{}"),
		CreatedAt: time.Now(), Deliveries: len(crashWebhooks),
	}
	a := postrider.Accepted{Event: e}
	for _, w := range crashWebhooks {
		a.Deliveries = append(a.Deliveries, postrider.Delivery{
			DeliveryKey: postrider.DeliveryKey{Tenant: e.Tenant, EventID: e.ID, WebhookID: w},
			EventType:   e.Type, Payload: e.Payload, Trigger: postrider.TriggerEvent,
		})
	}
	if _, err := store.Accept(ctx, []postrider.Accepted{a}, nil); err != nil {
		return err
	}
	say(acknowledged{Event: e.ID})
	return nil
}

func settleSome(ctx context.Context, store *sqlite.Store, webhook postrider.ID, say func(acknowledged)) error {
	claimed, err := store.Claim(ctx, webhook, postrider.ClaimLimit{Rows: 2, Bytes: 1 << 20})
	if err != nil {
		return err
	}
	for _, d := range claimed.Deliveries {
		made := postrider.Attempt{
			ID: postrider.NewID(), Tenant: d.Tenant, WebhookID: d.WebhookID, EventID: d.EventID, EventType: d.EventType,
			Number: 1, Trigger: d.Trigger, At: time.Now(), Status: postrider.AttemptSuccess,
		}
		if err := store.Settle(ctx, []postrider.Settlement{{Key: d.DeliveryKey, Attempt: made, Done: true}}); err != nil {
			return err
		}
		say(acknowledged{Attempt: made.ID})
	}
	return nil
}

func TestCrash_AKilledProcessHasKeptEverythingItAcknowledged(t *testing.T) {
	dir := t.TempDir()
	var events []string
	var attempts []postrider.ID
	for round := range 4 {
		for _, a := range killAfter(t, dir, 150+40*round) {
			if a.Event != "" {
				events = append(events, a.Event)
			} else {
				attempts = append(attempts, a.Attempt)
			}
		}
		checkAfterCrash(t, dir, events, attempts)
	}
	if len(events) < 100 || len(attempts) < 50 {
		t.Errorf("got %d events and %d attempts acknowledged, want enough to tell", len(events), len(attempts))
	}
}

// killAfter starts a child, kills it in the middle of its work once it has
// acknowledged so many writes, and returns all that it has.
func killAfter(t *testing.T, dir string, writes int) (list []acknowledged) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	process := exec.CommandContext(ctx, os.Args[0], "-child", dir)
	process.Stderr = os.Stderr
	out, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var a acknowledged
		if json.Unmarshal(lines.Bytes(), &a) != nil {
			break // the line that the kill cut off
		}
		list = append(list, a)
		if len(list) == writes {
			if err := process.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	process.Wait() //nolint:errcheck // it was killed
	if len(list) < writes {
		t.Fatalf("got %d writes before the child ended by itself, want %d", len(list), writes)
	}
	return list
}

// checkAfterCrash opens what a crash left and wants every event that was
// acknowledged, whole: each of its deliveries is queued or has its attempt.
func checkAfterCrash(t *testing.T, dir string, events []string, attempts []postrider.ID) {
	t.Helper()
	store := open(t, dir)
	defer store.Close() //nolint:errcheck // nothing of the test depends on it
	for _, id := range events {
		_, deliveries, err := store.Event(t.Context(), "default", id)
		if err != nil || len(deliveries) != len(crashWebhooks) {
			t.Errorf("got %d deliveries, %v, of an event that was acknowledged, want %d", len(deliveries), err, len(crashWebhooks))
		}
	}
	for _, id := range attempts {
		a, err := store.Attempt(t.Context(), "default", id)
		if err != nil {
			t.Errorf("got error %v for an attempt that was acknowledged", err)
			continue
		}
		if _, deliveries, err := store.Event(t.Context(), "default", a.EventID); err != nil || !settledBy(deliveries, &a) {
			t.Errorf("got %+v, %v, want the delivery of attempt %s settled", deliveries, err, id)
		}
	}
}

func settledBy(deliveries []postrider.DeliveryStatus, a *postrider.Attempt) bool {
	for _, d := range deliveries {
		if d.WebhookID == a.WebhookID {
			return d.State == postrider.DeliverySucceeded && d.Last.ID == a.ID
		}
	}
	return false
}

// The files are copied while the store is open and its last commits are in the
// log alone: what a backup, or a machine without power, has of it.
func TestCrash_ACopyOfTheFilesHasEverythingThatWasAcknowledged(t *testing.T) {
	dir := t.TempDir()
	store := open(t, dir)
	defer store.Close() //nolint:errcheck // nothing of the test depends on it
	var events []string
	var attempts []postrider.ID
	note := func(a acknowledged) {
		if a.Event != "" {
			events = append(events, a.Event)
		} else {
			attempts = append(attempts, a.Attempt)
		}
	}
	for range 3 {
		for range 30 {
			if err := acceptOne(t.Context(), store, note); err != nil {
				t.Fatal(err)
			}
			if err := settleSome(t.Context(), store, crashWebhooks[1], note); err != nil {
				t.Fatal(err)
			}
		}
		checkAfterCrash(t, copyOf(t, dir), events, attempts)
	}
}

func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(to, sqlite.FileName+"-wal")); err != nil {
		t.Fatalf("the copy has no log of the last commits: %v", err)
	}
	return to
}
