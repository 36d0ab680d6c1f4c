package publish_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postrider"
	"postrider/internal/dispatch"
	"postrider/internal/publish"
	"postrider/internal/registry"
	"postrider/internal/sealing"
	"postrider/internal/sqlite"
	"postrider/internal/testkit"
)

// An event that is accepted while Run starts is both among the unfinished ones
// that Run reads and among those that it is told of.
func TestFanout_AnEventAcceptedWhileRunStartsIsExpandedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const webhooks = 2500
		sealer, err := sealing.New(make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		store, err := sqlite.Open(t.Context(), t.TempDir(), sealer)
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close() //nolint:errcheck // nothing of the test depends on it
		var all sync.WaitGroup
		for i := range webhooks {
			all.Go(func() {
				w := postrider.Webhook{
					ID: postrider.NewID(), Tenant: postrider.DefaultTenant, URL: fmt.Sprintf("http://%d.test/", i),
					ContentType: postrider.JSON, Events: []string{"*"}, Active: true, CreatedAt: time.Now(), UpdatedAt: time.Now(),
				}
				if err := store.PutWebhook(t.Context(), w); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if err := store.CreateTenant(t.Context(), postrider.Tenant{Name: postrider.DefaultTenant, CreatedAt: time.Now()}); err != nil {
			t.Fatal(err)
		}
		known, err := registry.New(t.Context(), registry.Options{Store: store})
		if err != nil {
			t.Fatal(err)
		}
		lanes := dispatch.New(dispatch.Options{Store: store, Webhooks: known}) // not running: nothing is sent
		publisher := publish.New(publish.Options{Webhooks: known, Store: store, Lanes: lanes, PayloadLimit: 100})
		accept := func() string {
			receipts, err := publisher.Publish(t.Context(), []postrider.Publication{stay()}, nil)
			if err != nil || receipts[0].Deliveries != webhooks {
				t.Fatalf("got %+v, %v, want %d deliveries", receipts, err, webhooks)
			}
			return receipts[0].ID
		}

		first := accept()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- publisher.Run(ctx) }()
		testkit.Advance(time.Minute)
		second := accept()
		testkit.Advance(time.Minute)
		for _, id := range []string{first, second} {
			_, deliveries, err := store.Event(t.Context(), postrider.DefaultTenant, id)
			if err != nil || len(deliveries) != webhooks {
				t.Errorf("got %d deliveries, %v, want %d", len(deliveries), err, webhooks)
			}
		}
		if left, err := store.Fanouts(t.Context()); err != nil || len(left) > 0 {
			t.Errorf("got %d fan-outs left, %v, want none", len(left), err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
