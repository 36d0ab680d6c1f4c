package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"postrider"
	"postrider/internal/sealing"
	"postrider/internal/sqlite"
)

// withStore opens a stopped server's store.
func withStore(t *testing.T, dir string, use func(*sqlite.Store)) {
	t.Helper()
	key, err := sealing.KeyInDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := sealing.New(key)
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.Context(), dir, sealer)
	if err != nil {
		t.Fatal(err)
	}
	use(store)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

func secretOf(i int) postrider.Secret {
	return postrider.Secret(fmt.Sprintf("a secret of number %d", i))
}

// A rotation that is killed leaves a store that starts, with every secret as it
// was, under the old key or the new one.
func TestSecrets_ARotationThatIsKilledLeavesAWorkingStore(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir).stop(os.Interrupt)
	const webhooks = 3000
	want := map[postrider.ID]postrider.Secret{}
	withStore(t, dir, func(store *sqlite.Store) {
		failed := make(chan error, webhooks)
		for i := range webhooks {
			w := postrider.Webhook{
				ID: postrider.NewID(), Tenant: postrider.DefaultTenant, URL: "https://partner.example/", ContentType: postrider.JSON,
				Events: []string{"none"}, Secret: secretOf(i), CreatedAt: time.Now(), UpdatedAt: time.Now(),
			}
			want[w.ID] = w.Secret
			go func() { failed <- store.PutWebhook(t.Context(), w) }()
		}
		for range webhooks {
			if err := <-failed; err != nil {
				t.Error(err)
			}
		}
	})

	killed := 0
	for round := range 12 {
		if rotateUntil(t, dir, time.Duration(15+4*round)*time.Millisecond) {
			killed++
		}
		serve(t, dir).stop(os.Interrupt) // it ends what the rotation has begun
		withStore(t, dir, func(store *sqlite.Store) {
			list, err := store.Webhooks(t.Context())
			if err != nil || len(list) != webhooks {
				t.Fatalf("round %d: got %d webhooks, %v, want %d", round, len(list), err, webhooks)
			}
			for i := range list {
				if list[i].Secret != want[list[i].ID] {
					t.Fatalf("round %d: webhook %s has another secret than before", round, list[i].ID)
				}
			}
		})
	}
	t.Logf("%d of 12 rotations were killed in their middle", killed)
	if killed == 0 {
		t.Error("no rotation was killed in its middle")
	}
}

// rotateUntil rotates the key and kills that after a while; it reports whether
// there was something to kill.
func rotateUntil(t *testing.T, dir string, while time.Duration) (killed bool) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "postrider", "secrets", "rotate", "--data-dir", dir)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(while, func() {
		command.Process.Kill() //nolint:errcheck // it may have ended
	})
	defer kill.Stop()
	var ended *exec.ExitError
	if err := command.Wait(); err != nil && (!errors.As(err, &ended) || ended.ExitCode() >= 0) {
		t.Fatalf("the rotation failed: %v", err)
	}
	return ended != nil
}
