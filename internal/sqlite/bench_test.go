package sqlite

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"postrider"
)

// A commit of as many events as wait for one under load, with a delivery each,
// and the settling of their first attempts: fsync included.
func BenchmarkCommitAndSettle(b *testing.B) {
	for _, rows := range []int{1, 64} {
		s, err := Open(b.Context(), b.TempDir(), plainSealer{})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			if err := s.Close(); err != nil {
				b.Error(err)
			}
		})
		webhook := postrider.NewID()
		payload := []byte(`{"a":"` + strings.Repeat("x", 500) + `"}`)
		events := func() []postrider.Accepted {
			accepted := make([]postrider.Accepted, rows)
			for i := range accepted {
				e := postrider.Event{
					ID: postrider.NewID().String(), Tenant: "default", Type: "room_status.updated", Payload: payload,
					CreatedAt: time.Now(), Deliveries: 1,
				}
				accepted[i] = postrider.Accepted{Publication: i, Event: e, Deliveries: []postrider.Delivery{{
					DeliveryKey: postrider.DeliveryKey{Tenant: "default", EventID: e.ID, WebhookID: webhook}, Trigger: postrider.TriggerEvent,
					Claimed: true, AcceptedAt: e.CreatedAt,
				}}}
			}
			return accepted
		}
		settlements := func(accepted []postrider.Accepted) []postrider.Settlement {
			settled := make([]postrider.Settlement, rows)
			for i, a := range accepted {
				settled[i] = postrider.Settlement{Key: a.Deliveries[0].DeliveryKey, Done: true, Attempt: postrider.Attempt{
					ID: postrider.NewID(), Tenant: "default", WebhookID: webhook, EventID: a.Event.ID, EventType: a.Event.Type,
					Number: 1, Trigger: postrider.TriggerEvent, At: time.Now(), URL: "https://one.test/callback",
					Status: postrider.AttemptSuccess, Outcome: postrider.Outcome{StatusCode: 204},
					RequestHeader: postrider.Header{{Name: "Content-Type", Value: "application/json"}, {Name: "X-Clubmed-Event", Value: "room_status.updated"}},
				}}
			}
			return settled
		}
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				accepted := events()
				if _, err := s.Accept(b.Context(), accepted, nil); err != nil {
					b.Fatal(err)
				}
				if err := s.Settle(b.Context(), settlements(accepted)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*rows), "us/delivery")
		})
	}
}
