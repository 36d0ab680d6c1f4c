package browsertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"postrider/internal/e2e"
)

// A world is a server with a partner who has seen a few things.
type world struct {
	t        *testing.T
	operator *e2e.Server
	partner  *e2e.Server
	receiver *e2e.Receiver
}

func newWorld(t *testing.T, flags ...string) *world {
	t.Helper()
	w := &world{t: t, operator: e2e.Start(t, t.TempDir(), flags...), receiver: e2e.Listen(t)}
	w.operator.Call(http.MethodPost, "/v0/tenants", []byte(`{"name": "lagoon-travel"}`)).Must(http.StatusCreated)
	w.partner = w.as("lagoon-travel")
	w.receiver.Answer(answerByPath)
	return w
}

// as is the API with a new key of a tenant.
func (w *world) as(tenant string) *e2e.Server {
	w.t.Helper()
	key := w.operator.Call(http.MethodPost, "/v0/api_keys", encode(w.t, map[string]any{"tenant": tenant, "name": "production"}))
	return w.operator.As(key.Must(http.StatusCreated).Text("key"))
}

// answerByPath is a receiver that does what its path says.
func answerByPath(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch {
	case strings.HasPrefix(r.URL.Path, "/crm"):
		w.Header().Set("X-Request-Id", "b7c1f0")
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintln(w, `{"error": "database is locked", "trace": "crm-7f3a"}`)
	case strings.HasPrefix(r.URL.Path, "/old"):
		w.Header().Set("Location", "https://partner.example/new-home")
		w.WriteHeader(http.StatusMovedPermanently)
	default:
		fmt.Fprintln(w, `{"received": true}`)
	}
}

func encode(t *testing.T, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// webhook creates a webhook of the partner and returns its id.
func (w *world) webhook(path, description string, events ...string) string {
	w.t.Helper()
	made := w.partner.Call(http.MethodPost, "/v0/api_webhooks", encode(w.t, map[string]any{
		"url": w.receiver.URL + path, "content_type": "application/json", "secret": "a secret to sign with",
		"events": events, "description": description, "headers": map[string]string{"X-Environment": "production"},
	}))
	return made.Must(http.StatusCreated).Text("id")
}

// publish publishes an event to the partner and returns its id.
func (w *world) publish(event, payload string) string {
	w.t.Helper()
	made := w.operator.Call(http.MethodPost, "/v0/events", encode(w.t, map[string]any{
		"event": event, "tenant": "lagoon-travel", "payload": json.RawMessage(payload),
	}))
	return made.Must(http.StatusAccepted).Text("id")
}

// describe puts an event type into the catalogue.
func (w *world) describe(event string, entry map[string]any) {
	w.t.Helper()
	answer := w.operator.Call(http.MethodPut, "/v0/api_webhooks/events/"+event, encode(w.t, entry))
	if answer.Status != http.StatusCreated && answer.Status != http.StatusOK {
		w.t.Fatalf("describe %s: %d %s", event, answer.Status, answer.Body)
	}
}

// catalogue is what a company that runs resorts might describe.
func (w *world) catalogue() {
	w.t.Helper()
	w.describe("room_status.updated", map[string]any{
		"description": "A room's housekeeping status changed.",
		"notes":       "Sent each time a room is reported `clean`, `dirty` or `out_of_order`.\n\n| status | meaning |\n|---|---|\n| `clean` | ready for guests |\n| `dirty` | to be cleaned |\n\nThe newest `reported_at` wins: deliveries may overtake each other.",
		"schema":      map[string]any{"type": "object", "required": []string{"room", "status"}, "properties": map[string]any{"room": map[string]any{"type": "string"}, "status": map[string]any{"enum": []string{"clean", "dirty", "out_of_order"}}}},
		"example":     map[string]any{"resort": "ALBC", "room": "204", "status": "clean", "reported_at": "2026-01-15T09:30:00Z"},
	})
	w.describe("booking.created", map[string]any{
		"description": "A booking was confirmed.", "notes": "Amounts are in the currency's smallest unit.",
		"example": map[string]any{"booking_id": "B-10482", "resort": "ALBC", "nights": 7, "amount": 289000, "currency": "EUR"},
	})
	w.describe("booking.cancelled", map[string]any{"description": "A booking was cancelled.", "deprecated": true})
}

// attempts waits until the partner's log has at least n attempts for which
// found is true, and returns the newest such.
func (w *world) attempts(n int, query string) map[string]any {
	w.t.Helper()
	var rows []map[string]any
	e2e.Until(w.t, fmt.Sprintf("%d attempts with %q", n, query), func() bool {
		rows = w.partner.Pages("/v0/api_webhooks/logs?"+query, 100)
		return len(rows) >= n
	})
	return rows[0]
}
