package api_test

import (
	"context"
	"net/http"
	"testing"

	"postrider"
)

func (w *world) Admit(_ context.Context, asked postrider.Listener) (func(http.ResponseWriter, *http.Request), error) {
	w.listeners = append(w.listeners, asked)
	return func(answer http.ResponseWriter, _ *http.Request) { answer.WriteHeader(http.StatusAccepted) }, w.fail
}

func (w *world) Newest(tenant string) (postrider.ID, error) {
	for i := range w.webhooks {
		if hook := &w.webhooks[i]; hook.Tenant == tenant && hook.Temporary() {
			return hook.ID, nil
		}
	}
	return postrider.ID{}, &postrider.Error{Kind: postrider.Conflict, Code: "no_listener", Detail: "Nobody listens."}
}

func TestListen_AsksTheRelayForTheCallersTenant(t *testing.T) {
	c := newClient(t)
	hook := c.webhook(t, "acme")
	const path = "/v0/api_webhooks/listen?session=abcdefghijklmnop&forward=http://localhost:4567/&events=room_status.*,stay.ended"
	upgrade := []string{"Upgrade", "websocket"}
	c.do("acme", "GET", path+"&webhook_id="+hook.ID.String(), "", upgrade...).want(202)
	c.do("operator", "GET", path+"&tenant=globex", "", upgrade...).want(202)
	c.do("acme", "GET", path+"&tenant=globex", "", upgrade...).wantCode(403, "other_tenant", "tenant")
	c.do("acme", "GET", path, "").wantCode(400, "websocket_required")
	c.do("acme", "GET", path, "", "Upgrade", "h2c").wantCode(400, "websocket_required")
	if len(c.listeners) != 2 {
		t.Fatalf("got %d listeners, want 2", len(c.listeners))
	}
	first, second := c.listeners[0], c.listeners[1]
	if first.Tenant != "acme" || first.WebhookID != hook.ID || first.Token != "abcdefghijklmnop" ||
		first.Forward != "http://localhost:4567/" || len(first.Events) != 2 || first.Events[1] != "stay.ended" {
		t.Errorf("got %+v", first)
	}
	if second.Tenant != "globex" || !second.WebhookID.IsZero() {
		t.Errorf("got %+v", second)
	}
	c.fail = &postrider.Error{Kind: postrider.RateLimited, Code: "too_many_sessions", Detail: "Too many."}
	c.do("acme", "GET", path, "", upgrade...).wantCode(429, "too_many_sessions")
}

func TestRedeliver_ToAListener(t *testing.T) {
	c := newClient(t)
	hook := c.webhook(t, "acme")
	path := "/v0/api_webhooks/logs/" + c.attempt(hook).ID.String() + "/redeliver"
	c.do("acme", "POST", path, `{"target": "relay"}`).wantCode(409, "no_listener")

	mine, foreign := postrider.NewID(), postrider.NewID()
	c.webhooks = append(c.webhooks,
		postrider.Webhook{ID: mine, Tenant: "acme", URL: "relay:http://localhost/", Active: true},
		postrider.Webhook{ID: foreign, Tenant: "globex", URL: "relay:http://localhost/", Active: true})
	for body, want := range map[string]postrider.ID{
		`{"target": "relay"}`: mine,
		`{"target": "relay", "webhook_id": "` + mine.String() + `"}`: mine,
		`{"target": "relay", "webhook_id": null}`:                    mine,
		`{"target": "webhook"}`:                                      hook.ID,
		`{}`:                                                         hook.ID,
		``:                                                           hook.ID,
	} {
		if got := c.do("acme", "POST", path, body).want(202).object()["webhook_id"]; got != want.String() {
			t.Errorf("%s: got webhook %v, want %s", body, got, want)
		}
	}
	c.do("acme", "POST", path, `{"target": "relay", "webhook_id": "`+foreign.String()+`"}`).wantCode(404, "not_found")
	c.do("acme", "POST", path, `{"target": "relay", "webhook_id": "1"}`).wantCode(404, "not_found")
	c.do("acme", "POST", path, `{"target": "relay", "webhook_id": "`+hook.ID.String()+`"}`).wantCode(422, "not_temporary", "webhook_id")
	c.do("acme", "POST", path, `{"webhook_id": "`+mine.String()+`"}`).wantCode(422, "conflicting_fields", "webhook_id")
	c.do("acme", "POST", path, `{"target": "laptop"}`).wantCode(422, "invalid_target", "target")
	c.do("acme", "POST", path, `{"target": "relay", "x": 1}`).wantCode(400, "unknown_field", "x")
}
