package e2e_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"postrider/internal/e2e"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// checkSignatures verifies a delivery as the documentation tells partners to,
// and as the Standard Webhooks library does.
func checkSignatures(t *testing.T, got e2e.Received) {
	t.Helper()
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(got.Body)
	if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); got.Header.Get("X-Clubmed-Signature") != want {
		t.Errorf("got X-Clubmed-Signature %q, want %q", got.Header.Get("X-Clubmed-Signature"), want)
	}
	judge, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := judge.Verify(got.Body, got.Header); err != nil {
		t.Errorf("the Standard Webhooks library says: %v", err)
	}
}

// partner makes a key of a partner of the default tenant.
func partner(s *e2e.Server) *e2e.Server {
	key := s.Call(http.MethodPost, "/v0/api_keys", []byte(`{"tenant": "default", "name": "partner"}`)).Must(http.StatusCreated)
	return s.As(key.Text("key"))
}

// The story that partners are told, from the first request to the last, in
// both content types.
func TestSeed_TheWholeStory(t *testing.T) {
	for _, contentType := range []string{"application/json", "application/x-www-form-urlencoded"} {
		t.Run(contentType, func(t *testing.T) {
			operator := e2e.Start(t, t.TempDir())
			api := partner(operator)
			receiver, moved := e2e.Listen(t), e2e.Listen(t)

			created := api.Call(http.MethodPost, "/v0/api_webhooks", fmt.Appendf(nil,
				`{"url": %q, "content_type": %q, "secret": %q, "events": ["room_status.updated"]}`,
				receiver.URL+"/api/callback", contentType, secret)).Must(http.StatusCreated)
			id := created.Text("id")
			if bytes.Contains(created.Body, []byte(secret)) || created.Text("has_secret") != "true" {
				t.Errorf("the answer shows the secret, or hides that there is one: %s", created.Body)
			}

			ping := receiver.Wait(t, func(e2e.Received) bool { return true })
			if got := ping.Header.Get("X-Clubmed-Event"); got != "ping" {
				t.Errorf("got %q as the first event, want ping", got)
			}
			if got := ping.Header.Get("Content-Type"); got != contentType {
				t.Errorf("got content type %q, want %q", got, contentType)
			}
			if got := ping.Header.Get("X-Clubmed-Hook-Id"); got != id {
				t.Errorf("got X-Clubmed-Hook-ID %q, want %q", got, id)
			}
			checkSignatures(t, ping)
			for _, field := range []string{`"zen"`, `"hook_id":"` + id + `"`, `"hook"`} {
				if payload := ping.Payload(t); !bytes.Contains(payload, []byte(field)) {
					t.Errorf("the ping's payload lacks %s: %s", field, payload)
				}
			}

			own := []byte("{\"hello\" :  \"w\u00f6rld\", \"n\": 1.0}\n")
			pinged := api.Call(http.MethodPost, "/v0/api_webhooks/ping", own).Must(http.StatusAccepted)
			var entries struct {
				Data []struct {
					WebhookID string `json:"webhook_id"`
					EventID   string `json:"event_id"`
				} `json:"data"`
			}
			if pinged.Into(&entries); len(entries.Data) != 1 || entries.Data[0].WebhookID != id {
				t.Fatalf("got %s, want one entry for the webhook", pinged.Body)
			}
			custom := receiver.Event(t, entries.Data[0].EventID)
			if got := custom.Payload(t); !bytes.Equal(bytes.TrimSpace(got), bytes.TrimSpace(own)) {
				t.Errorf("got ping payload %q, want %q", got, own)
			}
			checkSignatures(t, custom)

			payload := `{"room":"204",  "status":"clean","big":12345678901234567890}`
			event := operator.Call(http.MethodPost, "/v0/events",
				[]byte(`{"event": "room_status.updated", "payload": `+payload+`}`)).Must(http.StatusAccepted)
			if got := event.Text("deliveries"); got != "1" {
				t.Errorf("got %s deliveries, want 1", got)
			}
			delivery := receiver.Event(t, event.Text("id"))
			if got := string(delivery.Payload(t)); got != payload {
				t.Errorf("got payload %q, want %q", got, payload)
			}
			if got := delivery.Header.Get("X-Clubmed-Attempt"); got != "1" {
				t.Errorf("got X-Clubmed-Attempt %q, want 1", got)
			}
			checkSignatures(t, delivery)
			operator.Call(http.MethodPost, "/v0/events", []byte(`{"event": "booking.created", "payload": {}}`)).Must(http.StatusAccepted)

			patched := api.Call(http.MethodPatch, "/v0/api_webhooks/"+id, fmt.Appendf(nil, `{"url": %q}`, moved.URL+"/moved")).Must(http.StatusOK)
			if patched.Text("url") != moved.URL+"/moved" || patched.Text("content_type") != contentType || patched.Text("has_secret") != "true" {
				t.Errorf("a PATCH of the URL alone gave %s", patched.Body)
			}
			api.Call(http.MethodPost, "/v0/api_webhooks/ping", nil).Must(http.StatusAccepted)
			atNewPlace := moved.Wait(t, func(e2e.Received) bool { return true })
			if atNewPlace.Path != "/moved" {
				t.Errorf("got path %q, want /moved", atNewPlace.Path)
			}
			checkSignatures(t, atNewPlace)

			e2e.Until(t, "all attempts are in the logs", func() bool { return len(api.Pages("/v0/api_webhooks/logs", 100)) == 4 })
			logs := api.Pages("/v0/api_webhooks/logs", 1) // one a page: the cursor is walked
			var triggers, events []string
			for _, entry := range logs {
				triggers, events = append(triggers, fmt.Sprint(entry["trigger"])), append(events, fmt.Sprint(entry["event"]))
				if entry["status"] != "success" || entry["status_code"] != 204.0 {
					t.Errorf("got %v, want a success with status code 204", entry)
				}
			}
			if got, want := fmt.Sprint(triggers), "[ping event ping ping]"; got != want {
				t.Errorf("got triggers %s, want %s, newest first", got, want)
			}
			if got, want := fmt.Sprint(events), "[ping room_status.updated ping ping]"; got != want {
				t.Errorf("got events %s, want %s, newest first", got, want)
			}
			for query, want := range map[string]int{
				"event=ping": 3, "event=room_status.updated": 1, "status=failure": 0, "status=success": 4, "code_class=2xx": 4,
				"code_class=5xx": 0, "event_id=" + event.Text("id"): 1, "webhook_id=" + id: 4, "from=2100-01-01T00:00:00Z": 0,
				"to=2100-01-01T00:00:00Z": 4, "error_code=timeout": 0,
			} {
				if got := len(api.Pages("/v0/api_webhooks/logs?"+query, 2)); got != want {
					t.Errorf("got %d log entries for %s, want %d", got, query, want)
				}
				if strings.HasPrefix(query, "webhook_id=") {
					continue // the path says it
				}
				if got := len(api.Pages("/v0/api_webhooks/"+id+"/logs?"+query, 2)); got != want {
					t.Errorf("got %d log entries of the webhook for %s, want %d", got, query, want)
				}
			}
			attempt := api.Call(http.MethodGet, "/v0/api_webhooks/logs/"+fmt.Sprint(logs[1]["id"]), nil).Must(http.StatusOK)
			if got := attempt.Text("request", "body"); got != string(delivery.Body) {
				t.Errorf("the log has request body %q, the receiver got %q", got, delivery.Body)
			}
			if got := attempt.Text("request", "headers", "X-Clubmed-Signature"); got != delivery.Header.Get("X-Clubmed-Signature") {
				t.Errorf("the log has signature %q, the receiver got %q", got, delivery.Header.Get("X-Clubmed-Signature"))
			}

			api.Call(http.MethodPost, "/v0/api_webhooks/logs/"+fmt.Sprint(logs[1]["id"])+"/redeliver", nil).Must(http.StatusAccepted)
			again := moved.Event(t, event.Text("id"))
			if !bytes.Equal(again.Body, delivery.Body) || again.Header.Get("X-Clubmed-Attempt") != "2" {
				t.Errorf("got redelivery %q, attempt %s, want %q, attempt 2", again.Body, again.Header.Get("X-Clubmed-Attempt"), delivery.Body)
			}
			checkSignatures(t, again)

			api.Call(http.MethodDelete, "/v0/api_webhooks/"+id, nil).Must(http.StatusNoContent)
			api.Call(http.MethodGet, "/v0/api_webhooks/"+id, nil).Must(http.StatusNotFound)
			e2e.Until(t, "all 5 log entries stay after the deletion", func() bool {
				return len(api.Pages("/v0/api_webhooks/logs", 100)) == 5
			})
			if after := operator.Call(http.MethodPost, "/v0/events",
				[]byte(`{"event": "room_status.updated", "payload": {}}`)).Must(http.StatusAccepted); after.Text("deliveries") != "0" {
				t.Errorf("got %s, want no deliveries to a deleted webhook", after.Body)
			}
		})
	}
}
