package dispatch

import (
	"strings"
	"testing"
	"time"

	"postrider"
)

// A header of the webhook's that is named like one of ours is not sent beside it.
func TestHeader_OfAWebhookDoesNotStandBesideOurs(t *testing.T) {
	out := New(Options{}).newOutbound(&postrider.Webhook{
		ID: postrider.NewID(), ContentType: postrider.JSON, Secret: postrider.NewSecret(),
		Headers: map[string]string{"X-Clubmed-Event": "forged", "x-clubmed-signature": "forged", "X-Env": "production"},
	})
	seen := map[string]string{}
	for _, field := range out.header("room_status.updated", "evt_1", 1, time.Now(), []byte("{}")) {
		name := strings.ToLower(field.Name)
		if before, twice := seen[name]; twice {
			t.Errorf("%s: got %q and %q, want one", name, before, field.Value)
		}
		seen[name] = field.Value
	}
	if seen["x-clubmed-event"] != "room_status.updated" || !strings.HasPrefix(seen["x-clubmed-signature"], "sha256=") || seen["x-env"] != "production" {
		t.Errorf("got %q, want our own headers and what is the webhook's alone", seen)
	}
}
