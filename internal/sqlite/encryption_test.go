package sqlite_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"postrider"
	"postrider/internal/sealing"
	"postrider/internal/sqlite"
)

func sealerOf(t *testing.T, n byte) *sealing.Sealer {
	t.Helper()
	sealer, err := sealing.New(bytes.Repeat([]byte{n}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return sealer
}

// openSealed opens a store whose key it must be.
func openSealed(t *testing.T, dir string, sealer sqlite.Sealer) *sqlite.Store {
	t.Helper()
	store, err := sqlite.Open(t.Context(), dir, sealer)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func closeStore(t *testing.T, store *sqlite.Store) {
	t.Helper()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpen_AnotherKeyIsRefusedThoughNothingIsSecretYet(t *testing.T) {
	dir := t.TempDir()
	closeStore(t, openSealed(t, dir, sealerOf(t, 1)))
	if store, err := sqlite.Open(t.Context(), dir, sealerOf(t, 2)); !errors.Is(err, sealing.ErrKey) {
		t.Errorf("got %v and store %v, want %v", err, store, sealing.ErrKey)
	}
	closeStore(t, openSealed(t, dir, sealerOf(t, 1)))
}

func TestReseal_ChangesEverySecretAndTheOldKeyOpensNothing(t *testing.T) {
	dir := t.TempDir()
	was, next := sealerOf(t, 1), sealerOf(t, 2)
	store := openSealed(t, dir, was)
	const webhooks = 1203 // more than are in memory at once
	want := map[postrider.ID]postrider.Secret{}
	for i := range webhooks {
		w := postrider.Webhook{
			ID: postrider.NewID(), Tenant: fmt.Sprint("tenant", i%3), Events: []string{"*"}, CreatedAt: time.Now(), UpdatedAt: time.Now(),
		}
		if i%4 != 0 { // the others have nothing to hide
			w.Secret = postrider.Secret(fmt.Sprintf("a secret of number %d", i))
		}
		want[w.ID] = w.Secret
		if err := store.PutWebhook(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	closeStore(t, store)
	store = openSealed(t, dir, was)
	changed, err := store.Reseal(t.Context(), next)
	if err != nil || changed != webhooks-(webhooks+3)/4 {
		t.Errorf("got %d webhooks, %v, want those with a secret", changed, err)
	}
	closeStore(t, store)
	if _, err := sqlite.Open(t.Context(), dir, was); !errors.Is(err, sealing.ErrKey) {
		t.Errorf("got %v with the old key, want %v", err, sealing.ErrKey)
	}
	store = openSealed(t, dir, next)
	defer closeStore(t, store)
	list, err := store.Webhooks(t.Context())
	if err != nil || len(list) != webhooks {
		t.Fatalf("got %d webhooks, %v, want %d", len(list), err, webhooks)
	}
	for i := range list {
		if list[i].Secret != want[list[i].ID] {
			t.Fatalf("webhook %s has another secret than before", list[i].ID)
		}
	}
}

// One value that the key does not open leaves all as it was.
func TestReseal_ChangesAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	store := openSealed(t, dir, sealerOf(t, 1))
	for range 3 {
		w := postrider.Webhook{ID: postrider.NewID(), Tenant: "a", Events: []string{"*"}, Secret: "a secret"}
		if err := store.PutWebhook(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	closeStore(t, store)
	corruptLastSecret(t, filepath.Join(dir, sqlite.FileName))
	store = openSealed(t, dir, sealerOf(t, 1))
	if n, err := store.Reseal(t.Context(), sealerOf(t, 2)); err == nil {
		t.Errorf("got %d webhooks changed though one cannot be opened", n)
	}
	closeStore(t, store)
	closeStore(t, openSealed(t, dir, sealerOf(t, 1)))
}

func corruptLastSecret(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `UPDATE webhooks SET sealed = zeroblob(40) WHERE id = (SELECT max(id) FROM webhooks)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
