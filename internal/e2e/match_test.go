package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"postrider/internal/e2e"
)

// A dry run tells what publishing the same event then does, and leaves no trace
// itself.
func TestMatch_TellsWhatPublishingDoes(t *testing.T) {
	server := e2e.Start(t, t.TempDir())
	receiver := e2e.Listen(t)
	server.Call(http.MethodPost, "/v0/tenants", []byte(`{"name": "acme"}`)).Must(http.StatusCreated)
	create := func(tenant, fields string) string {
		t.Helper()
		return server.Call(http.MethodPost, "/v0/api_webhooks", fmt.Appendf(nil, `{"url": %q, "tenant": %q, %s}`,
			receiver.URL, tenant, fields)).Must(http.StatusCreated).Text("id")
	}
	sent := create("default", `"events": ["room_status.*"]`)
	held := create("default", `"events": ["room_status.updated"]`)
	none := create("default", `"events": ["booking.*"]`)
	foreign := create("acme", `"events": ["*"], "active": false`)
	server.Call(http.MethodPost, "/v0/api_webhooks/"+held+"/pause", nil).Must(http.StatusOK)
	e2e.Until(t, "the pings are in the logs", func() bool { return len(server.Pages("/v0/api_webhooks/logs", 10)) == 3 })

	for _, row := range []struct {
		tenant     string
		want       []string
		deliveries string
	}{
		{`"default"`, []string{held + " held paused", sent + " sent <nil>", none + " none not_subscribed"}, "2"},
		{`null`, []string{held + " held paused", sent + " sent <nil>", none + " none not_subscribed"}, "2"},
		{`"acme"`, []string{foreign + " held inactive"}, "1"},
		{`"*"`, []string{foreign + " held inactive", held + " held paused", sent + " sent <nil>", none + " none not_subscribed"}, "3"},
	} {
		before := dump(t, server)
		body := []byte(`{"event": "room_status.updated", "payload": {}, "tenant": ` + row.tenant + `}`)
		answer := server.Call(http.MethodPost, "/v0/events/match", body).Must(http.StatusOK)
		wantUnchanged(t, server, before)
		var got struct {
			Data []map[string]any `json:"data"`
		}
		answer.Into(&got)
		var rows []string
		for _, webhook := range got.Data {
			rows = append(rows, fmt.Sprint(webhook["webhook_id"], " ", webhook["delivery"], " ", webhook["reason"]))
		}
		if !slices.Equal(rows, row.want) || answer.Text("deliveries") != row.deliveries || answer.Text("truncated") != "false" {
			t.Errorf("%s: got %s, want %q", row.tenant, answer.Body, row.want)
		}
		published := server.Call(http.MethodPost, "/v0/events", body).Must(http.StatusAccepted)
		if got := published.Text("deliveries"); got != row.deliveries {
			t.Errorf("%s: got %s deliveries of the event, the dry run told of %s", row.tenant, got, row.deliveries)
		}
		if row.tenant != `"acme"` {
			receiver.Event(t, published.Text("id"))
		}
		e2e.Until(t, "what was sent is in the logs", func() bool {
			logged := len(server.Pages("/v0/api_webhooks/logs?event_id="+published.Text("id"), 10))
			return logged == 1 || row.tenant == `"acme"`
		})
	}
}
