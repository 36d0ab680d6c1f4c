package e2e_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"postrider/internal/e2e"
)

// payloads that a decoder, an encoder or a database would change on the way.
var payloads = map[string]string{
	"duplicate keys":      `{"a":1,"a":2}`,
	"big integer":         `{"n":12345678901234567890}`,
	"one point zero":      `{"n":1.0,"m":1e400,"z":-0.0}`,
	"escapes":             `{"s":"\u003cb\u003e \/ \u0000 \ud800 \n","t":"<&>"}`,
	"line separators":     "{\"s\":\"\u2028\u2029\"}",
	"spaces":              "{ \"b\" : 1 ,\n\t\"a\":\t[ 1,  2 ] }",
	"order":               `{"z":1,"a":2,"m":{"y":1,"b":2}}`,
	"scalar":              `"just text"`,
	"null":                `null`,
	"multi-byte":          `{"resort":"Méribel 梅里贝尔 🏔️"}`,
	"form metacharacters": `{"s":"a+b&c=d%20;\"#?"}`,
	"large":               `{"s":"` + strings.Repeat("é", 150_000) + `"}`,
}

// What the producer put into payload is what the partner receives, through
// the first attempt, a retry, a restart and a redelivery.
func TestPayload_ArrivesByteForByte(t *testing.T) {
	dir := t.TempDir()
	server := e2e.Start(t, dir)
	receivers := map[string]*e2e.Receiver{"application/json": e2e.Listen(t), "application/x-www-form-urlencoded": e2e.Listen(t)}
	for contentType, receiver := range receivers {
		receiver.Answer(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Clubmed-Attempt") == "1" {
				w.WriteHeader(http.StatusInternalServerError) // a retry follows
			}
		})
		server.Call(http.MethodPost, "/v0/api_webhooks", fmt.Appendf(nil,
			`{"url": %q, "content_type": %q, "secret": %q, "events": ["golden.*"], "retry_schedule": [0, 1]}`,
			receiver.URL, contentType, secret)).Must(http.StatusCreated)
	}
	ids := map[string]string{}
	check := func(name, attempt string) {
		t.Helper()
		payload := payloads[name]
		for contentType, receiver := range receivers {
			got := receiver.Wait(t, func(got e2e.Received) bool {
				return got.Header.Get("X-Clubmed-Delivery") == ids[name] && got.Header.Get("X-Clubmed-Attempt") == attempt
			})
			if sha256.Sum256(got.Payload(t)) != sha256.Sum256([]byte(payload)) {
				t.Errorf("%s as %s, attempt %s: got %.200q, want %.200q", name, contentType, attempt, got.Payload(t), payload)
			}
			checkSignatures(t, got)
		}
	}
	// One after the other: a receiver that fails many in a row is left alone for a while.
	for name, payload := range payloads {
		ids[name] = server.Call(http.MethodPost, "/v0/events",
			[]byte(`{"payload":`+payload+`,"event":"golden.case"}`)).Must(http.StatusAccepted).Text("id")
		check(name, "1")
		check(name, "2")
	}

	if err := server.Stop(); err != nil {
		t.Fatalf("the server stopped with %v\n%s", err, server.Log())
	}
	server = e2e.Start(t, dir)
	for name, id := range ids {
		for _, entry := range server.Pages("/v0/api_webhooks/logs?event_id="+id+"&status=success", 10) {
			server.Call(http.MethodPost, fmt.Sprintf("/v0/api_webhooks/logs/%v/redeliver", entry["id"]), nil).Must(http.StatusAccepted)
		}
		event := server.Call(http.MethodGet, "/v0/events/"+id, nil).Must(http.StatusOK)
		if !strings.Contains(string(event.Body), `"payload":`+payloads[name]) {
			t.Errorf("%s: the event is shown as %.300q", name, event.Body)
		}
	}
	for name := range payloads {
		check(name, "3")
	}
}
