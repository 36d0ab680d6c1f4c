package registry_test

import (
	"fmt"
	"testing"

	"postrider"
	"postrider/internal/registry"
	"postrider/internal/sealing"
	"postrider/internal/sqlite"
)

// Match is asked once for each event: what it costs must not depend on how
// many webhooks there are that do not match.
func BenchmarkMatch(b *testing.B) {
	for _, webhooks := range []int{1, 100, 2000} {
		b.Run(fmt.Sprintf("webhooks=%d", webhooks), func(b *testing.B) {
			sealer, err := sealing.New(make([]byte, 32))
			if err != nil {
				b.Fatal(err)
			}
			store, err := sqlite.Open(b.Context(), b.TempDir(), sealer)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() {
				if err := store.Close(); err != nil {
					b.Error(err)
				}
			})
			r, err := registry.New(b.Context(), registry.Options{Store: store})
			if err != nil {
				b.Fatal(err)
			}
			for i := range webhooks {
				if _, err := r.CreateWebhook(b.Context(), postrider.Webhook{
					Tenant: postrider.DefaultTenant, URL: "https://one.test/", ContentType: postrider.JSON,
					Events: []string{fmt.Sprintf("room_%d.*", i), "booking.created"}, Active: true,
				}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				if len(r.Match(postrider.DefaultTenant, "room_0.updated")) != 1 {
					b.Fatal("no match")
				}
			}
		})
	}
}
