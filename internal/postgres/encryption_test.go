package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"postrider"
	"postrider/internal/sealing"
)

func sealerOf(t *testing.T, n byte) *sealing.Sealer {
	t.Helper()
	sealer, err := sealing.New(bytes.Repeat([]byte{n}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return sealer
}

// openSealed opens a node with a key.
func openSealed(t *testing.T, database string, key byte) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{URL: cluster.URL(database), Sealer: sealerOf(t, key)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("close a node: %v", err)
	}
}

func TestReseal_ChangesEverySecretAndTheOldKeyOpensNothing(t *testing.T) {
	database := newDatabase(t)
	s := openSealed(t, database, 1)
	if err := s.CheckKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	const webhooks = 603 // more than are in memory at once
	want := map[postrider.ID]postrider.Secret{}
	for i := range webhooks {
		w := postrider.Webhook{
			ID: postrider.NewID(), Tenant: fmt.Sprint("tenant", i%3), Events: []string{"*"}, CreatedAt: time.Now(), UpdatedAt: time.Now(),
		}
		if i%20 != 0 { // the others have nothing to hide
			w.Secret = postrider.Secret(fmt.Sprintf("a secret of number %d", i))
		}
		want[w.ID] = w.Secret
		if err := s.PutWebhook(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}

	other := openSealed(t, database, 1)
	if n, err := s.Reseal(t.Context(), sealerOf(t, 2)); !errors.Is(err, postrider.ErrInUse) {
		t.Errorf("got %d webhooks changed and error %v beside another node, want %v", n, err, postrider.ErrInUse)
	}
	closeStore(t, other)
	if err := s.CheckKey(t.Context()); err != nil {
		t.Errorf("got %v after a rotation that was refused, want the old key to be right", err)
	}

	changed, err := s.Reseal(t.Context(), sealerOf(t, 2))
	if err != nil || changed != webhooks-(webhooks+19)/20 {
		t.Errorf("got %d webhooks and error %v, want those with a secret", changed, err)
	}
	closeStore(t, s)

	old := openSealed(t, database, 1)
	if err := old.CheckKey(t.Context()); !errors.Is(err, ErrKey) {
		t.Errorf("got %v with the old key, want %v", err, ErrKey)
	}
	closeStore(t, old)
	s = openSealed(t, database, 2)
	defer closeStore(t, s)
	if err := s.CheckKey(t.Context()); err != nil {
		t.Errorf("got %v with the new key", err)
	}
	list, err := s.Webhooks(t.Context())
	if err != nil || len(list) != webhooks {
		t.Fatalf("got %d webhooks and error %v, want %d", len(list), err, webhooks)
	}
	for i := range list {
		if list[i].Secret != want[list[i].ID] {
			t.Fatalf("webhook %s has another secret than before", list[i].ID)
		}
	}
}

// One value that the key does not open leaves all as it was.
func TestReseal_ChangesAllOrNothing(t *testing.T) {
	database := newDatabase(t)
	s := openSealed(t, database, 1)
	defer closeStore(t, s)
	var last postrider.ID
	for range 3 {
		last = postrider.NewID()
		w := postrider.Webhook{ID: last, Tenant: "a", Events: []string{"*"}, Secret: "a secret", CreatedAt: time.Now(), UpdatedAt: time.Now()}
		if err := s.PutWebhook(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	list := func() [][]byte {
		found, err := s.pool.Query(t.Context(), `SELECT sealed FROM webhooks ORDER BY id`)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := pgx.CollectRows(found, pgx.RowTo[[]byte])
		if err != nil || len(sealed) != 3 {
			t.Fatalf("got %d encrypted values and error %v, want 3", len(sealed), err)
		}
		return sealed
	}
	if _, err := s.pool.Exec(t.Context(), `UPDATE webhooks SET sealed = 'damaged' WHERE id = $1`, last); err != nil {
		t.Fatal(err)
	}
	before := list()
	if n, err := s.Reseal(t.Context(), sealerOf(t, 2)); err == nil {
		t.Errorf("got %d webhooks changed though one cannot be opened", n)
	}
	for i, sealed := range list() {
		if !bytes.Equal(sealed, before[i]) {
			t.Errorf("webhook %d was changed though another cannot be opened", i)
		}
	}
}
