package api_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postrider"
)

func TestMatch_SaysOfEachWebhookWhetherAndWhy(t *testing.T) {
	c := newClient(t)
	add := func(change func(*postrider.Webhook)) string {
		hook := c.webhook(t, "acme")
		change(&c.webhooks[len(c.webhooks)-1])
		return hook.ID.String()
	}
	row := func(id, delivery string, matchedBy, reason any) any {
		return map[string]any{
			"webhook_id": id, "tenant": "acme", "url": "https://partner.example/a",
			"delivery": delivery, "matched_by": matchedBy, "reason": reason,
		}
	}
	want := []any{
		row(add(func(*postrider.Webhook) {}), "sent", "*", nil),
		row(add(func(w *postrider.Webhook) { w.Events = []string{"b", "a.*", "*"} }), "sent", "a.*", nil),
		row(add(func(w *postrider.Webhook) { w.Events = []string{"a", "b.*"} }), "none", nil, "not_subscribed"),
		row(add(func(w *postrider.Webhook) { w.Active = false }), "held", "*", "inactive"),
		row(add(func(w *postrider.Webhook) { w.Paused = true }), "held", "*", "paused"),
		row(add(func(w *postrider.Webhook) { w.TenantPaused = true }), "held", "*", "paused"),
		row(add(func(w *postrider.Webhook) { w.Disabled = &postrider.Disabled{Code: "gone"} }), "held", "*", "disabled"),
		row(add(func(w *postrider.Webhook) { w.Events, w.Active = []string{"b"}, false }), "none", nil, "not_subscribed"),
	}
	got := c.do("operator", "POST", "/v0/events/match", `{"event": "a.b", "tenant": "acme", "payload": {"n": 1, "n": 2}}`).want(200).object()
	if diff := cmp.Diff(map[string]any{"data": want, "deliveries": 8.0, "truncated": false}, got); diff != "" {
		t.Error(diff)
	}
	if tried := c.tried[0]; string(tried.Payload) != `{"n": 1, "n": 2}` || len(c.published) > 0 {
		t.Errorf("got tried %+v, published %v", tried, c.published)
	}
	if got := c.do("operator", "POST", "/v0/events/match", `{"event": "a.b"}`).want(200).Body.String(); got != "{\"data\":[],\"deliveries\":0,\"truncated\":false}\n" {
		t.Errorf("got %s of a tenant without webhooks", got)
	}
	if c.tried[1].Payload != nil {
		t.Errorf("got the payload %q, want none", c.tried[1].Payload)
	}
}

func TestMatch_TellsOfAThousandWebhooksAtMost(t *testing.T) {
	c := newClient(t)
	for range 1001 {
		c.webhook(t, "default")
	}
	var got struct {
		Data       []any
		Deliveries int
		Truncated  bool
	}
	c.do("operator", "POST", "/v0/events/match", `{"event": "a.b"}`).want(200).decode(&got)
	if len(got.Data) != 1000 || got.Deliveries != 1001 || !got.Truncated {
		t.Errorf("got %d rows of %d, truncated: %v", len(got.Data), got.Deliveries, got.Truncated)
	}
}

// What POST /v0/events refuses is refused alike, but for a payload that is
// absent.
func TestMatch_RefusesWhatCouldNotBePublished(t *testing.T) {
	for _, body := range []string{
		``, ` `, `{`, `[]`, `null`, `{}`, `{"event": null, "payload": 1}`, `{"event": 5, "payload": 1}`, `{"event": "a", "payload": 1, "colour": 1}`,
		`{"event": "a", "payload": 1}{}`, `{"event": "a", "payload": [1`, `{"event": "a", "event": "a", "payload": 1}`, "{\"event\": \"\xff\"}",
		`{"event": "a", "payload": 1, "occurred_at": "now"}`, `{"payload": 1}`,
	} {
		c := newClient(t)
		published := c.do("operator", "POST", "/v0/events", body).problem()
		tried := c.do("operator", "POST", "/v0/events/match", body).problem()
		if body == `{}` {
			continue // there a payload is missing, too
		}
		if diff := cmp.Diff(published, tried); diff != "" || tried.Code == "" || len(c.tried) > 0 {
			t.Errorf("%s: %s", body, diff)
		}
	}
	c := newClient(t)
	c.do("operator", "POST", "/v0/events/match", `{}`).wantCode(422, "required", "event")
	c.do("operator", "POST", "/v0/events/match?tenant=acme", `{"event": "a"}`).wantCode(422, "unknown_parameter", "tenant")
	c.do("operator", "POST", "/v0/events/match", `{"event": "a", "payload": "`+strings.Repeat("a", 2<<20)+`"}`).wantCode(413, "body_too_large")
	c.fail = &postrider.Error{Kind: postrider.Invalid, Field: "tenant", Code: "unknown_tenant", Detail: "There is none."}
	c.do("operator", "POST", "/v0/events/match", `{"event": "a"}`).wantCode(422, "unknown_tenant", "tenant")
	c.fail = errors.New("the disk smells of smoke")
	c.do("operator", "POST", "/v0/events/match", `{"event": "a"}`).wantCode(500, "internal")
}
