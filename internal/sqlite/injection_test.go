package sqlite

import (
	"strings"
	"testing"
	"time"

	"postrider"
)

// Every text that a caller chooses reaches the database as a value, and matches
// itself and nothing else: no quote, wildcard or NUL opens another row.
func TestAttempts_FilterValuesAreValues(t *testing.T) {
	store := openPlain(t)
	webhook := postrider.NewID()
	a := eventFor(webhook, "1")
	a.Deliveries[0].Claimed = true
	if _, err := store.Accept(t.Context(), []postrider.Accepted{a}, nil); err != nil {
		t.Fatal(err)
	}
	made := attemptOf(&a.Deliveries[0])
	made.EventType, made.At = "room_status.updated", time.Now()
	if err := store.Settle(t.Context(), []postrider.Settlement{{Key: a.Deliveries[0].DeliveryKey, Done: true, Attempt: made}}); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"", "' OR '1'='1", `" OR ""="`, "x'; DROP TABLE attempts; --", "%", "_", "default\x00", "room_status.%", "*", "\\", "1) UNION SELECT * FROM api_keys --",
		"default", "room_status.updated", "success",
	} {
		for name, filter := range map[string]postrider.AttemptFilter{
			"tenant":     {Tenant: text},
			"event id":   {Tenant: made.Tenant, EventID: text},
			"event type": {Tenant: made.Tenant, EventType: text},
			"status":     {Tenant: made.Tenant, Status: postrider.AttemptStatus(text)},
			"failure":    {Tenant: made.Tenant, Failure: postrider.FailureCode(text)},
		} {
			own := map[string]bool{
				"tenant": text == made.Tenant, "event id": text == "" || text == made.EventID, "event type": text == "" || text == made.EventType,
				"status": text == "" || text == string(made.Status), "failure": text == "",
			}[name]
			filter.Limit = 10
			page, err := store.Attempts(t.Context(), filter)
			if err != nil {
				t.Fatalf("%s %q: %v", name, text, err)
			}
			if got := len(page.Attempts) == 1; got != own {
				t.Errorf("%s %q: got %d attempts", name, text, len(page.Attempts))
			}
		}
		if _, _, err := store.Event(t.Context(), made.Tenant, text); (err == nil) != (text == made.EventID) && !strings.EqualFold(text, made.EventID) {
			t.Errorf("event %q: got %v", text, err)
		}
	}
}
