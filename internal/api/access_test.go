package api_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"postrider"
)

// A route of the API, with a body that it accepts.
type route struct {
	method, path, body string
	operator           bool // only for the operator's key
	status             int  // of success
}

// allRoutes is the whole API as the design lists it. A path's {…} is replaced
// by something of the tenant acme.
var allRoutes = []route{
	{"POST", "/v0/api_webhooks", `{"url": "https://a.example/", "events": ["*"]}`, false, 201},
	{"GET", "/v0/api_webhooks", "", false, 200},
	{"GET", "/v0/api_webhooks/{id}", "", false, 200},
	{"PATCH", "/v0/api_webhooks/{id}", `{"url": "https://b.example/"}`, false, 200},
	{"POST", "/v0/api_webhooks/ping", "", false, 202},
	{"POST", "/v0/api_webhooks/{id}/ping", "", false, 202},
	{"POST", "/v0/api_webhooks/{id}/rotate_secret", `{}`, false, 200},
	{"POST", "/v0/api_webhooks/{id}/pause", "", true, 200},
	{"POST", "/v0/api_webhooks/{id}/resume", "", true, 200},
	{"GET", "/v0/api_webhooks/logs", "", false, 200},
	{"GET", "/v0/api_webhooks/{id}/logs", "", false, 200},
	{"GET", "/v0/api_webhooks/logs/{attempt_id}", "", false, 200},
	{"POST", "/v0/api_webhooks/logs/{attempt_id}/redeliver", "", false, 202},
	{"GET", "/v0/api_webhooks/logs/stream", "", false, 200},
	{"GET", "/v0/api_webhooks/listen", "", false, 400}, // no upgrade is asked for
	{"DELETE", "/v0/api_webhooks/{id}", "", false, 204},
	{"POST", "/v0/api_webhooks/{id}/replay", `{}`, false, 202},
	{"GET", "/v0/replays/{replay_id}", "", false, 200},
	{"DELETE", "/v0/replays/{replay_id}", "", false, 200},
	{"GET", "/v0/api_webhooks/events", "", false, 200},
	{"GET", "/v0/api_webhooks/events/{event}", "", false, 200},
	{"PUT", "/v0/api_webhooks/events/{event}", `{}`, true, 200},
	{"DELETE", "/v0/api_webhooks/events/{event}", "", true, 204},
	{"POST", "/v0/events", `{"event": "a", "payload": 1}`, true, 202},
	{"POST", "/v0/events/batch", `[{"event": "a", "payload": 1}]`, true, 202},
	{"POST", "/v0/events/match", `{"event": "a"}`, true, 200},
	{"GET", "/v0/events/{event_id}", "", false, 200},
	{"POST", "/v0/tenants", `{"name": "initech"}`, true, 201},
	{"GET", "/v0/tenants", "", true, 200},
	{"GET", "/v0/tenants/{tenant}", "", true, 200},
	{"POST", "/v0/tenants/{tenant}/pause", "", true, 200},
	{"POST", "/v0/tenants/{tenant}/resume", "", true, 200},
	{"POST", "/v0/api_keys", `{"tenant": "acme", "name": "x"}`, true, 201},
	{"GET", "/v0/api_keys", "", true, 200},
	{"DELETE", "/v0/api_keys/{key_id}", "", true, 204},
	{"POST", "/v0/portal_links", `{"tenant": "acme"}`, true, 201},
}

// perTenant reports whether what the route's path names belongs to a tenant.
func (r route) perTenant() bool {
	return !r.operator && strings.Contains(r.path, "id}")
}

// acme fills a world with one thing of each kind for the tenant acme, and
// gives what replaces the {…} of a path.
func acme(tb testing.TB, w *world) *strings.Replacer {
	tb.Helper()
	hook := w.webhook(tb, "acme")
	attempt := w.attempt(hook)
	w.types["a.b"] = postrider.EventType{Name: "a.b"}
	w.events = append(w.events, postrider.Event{ID: "evt_1", Tenant: "acme", Type: "a.b", Payload: []byte("1"), CreatedAt: epoch})
	w.replays = append(w.replays, postrider.Replay{ID: postrider.NewID(), Tenant: "acme", WebhookID: hook.ID, State: postrider.ReplayRunning})
	return strings.NewReplacer("{id}", hook.ID.String(), "{replay_id}", w.replays[0].ID.String(), "{attempt_id}", attempt.ID.String(), "{event}", "a.b",
		"{event_id}", "evt_1", "{tenant}", "acme", "{key_id}", w.keys["acme"].ID.String())
}

func TestAccess_OfEachRouteByEachKey(t *testing.T) {
	for _, r := range allRoutes {
		t.Run(r.method+" "+r.path, func(t *testing.T) {
			ask := func(key, query string) *answer {
				c := newClient(t)
				return c.do(key, r.method, acme(t, c.world).Replace(r.path)+query, r.body)
			}
			for _, key := range []string{"", "unknown", "Acme", "acme "} {
				a := ask(key, "")
				a.wantCode(401, "unauthenticated")
				if got := a.Header().Get("WWW-Authenticate"); got != `Bearer realm="postrider"` {
					t.Errorf("got WWW-Authenticate %q", got)
				}
			}
			if r.operator {
				ask("acme", "").wantCode(403, "operator_only")
				if !strings.Contains(r.path, "{id}") {
					ask("operator", "").want(r.status)
					return
				}
				ask("operator", "").wantCode(404, "not_found") // it acts for the default tenant
				ask("operator", "?tenant=acme").want(r.status)
				ask("operator", "?tenant=nobody").wantCode(404, "unknown_tenant", "tenant")
				return
			}
			ask("acme", "").want(r.status)
			if r.perTenant() {
				ask("globex", "").wantCode(404, "not_found")
				ask("operator", "").wantCode(404, "not_found") // it acts for the default tenant
			}
			if r.body == "" && !strings.Contains(r.path, "events") || r.method == "PATCH" || r.perTenant() {
				ask("acme", "?tenant=acme").want(r.status)
				ask("operator", "?tenant=acme").want(r.status)
				ask("acme", "?tenant=globex").wantCode(403, "other_tenant", "tenant")
				ask("acme", "?tenant=nobody").wantCode(403, "other_tenant", "tenant")
				ask("operator", "?tenant=nobody").wantCode(404, "unknown_tenant", "tenant")
			}
		})
	}
}

// What another tenant has looks like what nobody has, byte by byte.
func TestAccess_ForeignIsTheSameAsMissing(t *testing.T) {
	missing := strings.NewReplacer("{id}", postrider.NewID().String(), "{attempt_id}", postrider.NewID().String(), "{event_id}", "evt_2", "{replay_id}", postrider.NewID().String())
	malformed := strings.NewReplacer("{id}", "1", "{attempt_id}", "..%2f1", "{event_id}", "evt.2", "{replay_id}", "1")
	for _, r := range allRoutes {
		if !r.perTenant() {
			continue
		}
		c := newClient(t)
		foreign := c.do("globex", r.method, acme(t, c.world).Replace(r.path), r.body)
		for name, other := range map[string]*strings.Replacer{"missing": missing, "malformed": malformed} {
			if got := c.do("globex", r.method, other.Replace(r.path), r.body); got.Code != 404 || got.Body.String() != foreign.Body.String() {
				t.Errorf("%s %s: got for a foreign id %s, for a %s one %s", r.method, r.path, foreign.Body, name, got.Body)
			}
		}
		if len(c.webhooks) != 1 || c.webhooks[0].URL != "https://partner.example/a" || len(c.pings) > 0 ||
			len(c.replays) != 1 || c.replays[0].State != postrider.ReplayRunning {
			t.Errorf("%s %s: a foreign key had an effect", r.method, r.path)
		}
	}
}

func TestAccess_KeyInEitherHeader(t *testing.T) {
	c := newClient(t)
	for _, row := range []struct {
		header, value string
		status        int
	}{
		{"X-Api-Key", "acme", 200},
		{"Authorization", "Bearer acme", 200},
		{"Authorization", "bearer  acme", 200},
		{"Authorization", "Basic acme", 401},
		{"Authorization", "acme", 401},
		{"Authorization", "Bearer", 401},
	} {
		c.do("", "GET", "/v0/api_webhooks", "", row.header, row.value).want(row.status)
	}
	// The key decides, not whichever of two is the better one.
	c.do("unknown", "GET", "/v0/api_webhooks", "", "Authorization", "Bearer acme").want(401)
}

func TestAccess_TenantFieldOfACreation(t *testing.T) {
	const body = `{"url": "https://a.example/", "events": ["*"], "tenant": "TENANT"}`
	c := newClient(t)
	ask := func(key, tenant string) *answer {
		return c.do(key, "POST", "/v0/api_webhooks", strings.Replace(body, "TENANT", tenant, 1))
	}
	for _, row := range []struct{ key, tenant, want string }{
		{"acme", "acme", "acme"}, {"acme", "", "acme"}, {"operator", "acme", "acme"}, {"operator", "", "default"},
	} {
		if got := ask(row.key, row.tenant).want(201).object()["tenant"]; got != row.want {
			t.Errorf("%s names %q: got a webhook of %v, want one of %s", row.key, row.tenant, got, row.want)
		}
	}
	ask("acme", "globex").wantCode(403, "other_tenant", "tenant")
	ask("operator", "nobody").wantCode(422, "unknown_tenant", "tenant")
	ask("operator", "*").wantCode(422, "unknown_tenant", "tenant")
	c.do("operator", "POST", "/v0/api_webhooks?tenant=acme", body).wantCode(422, "unknown_parameter", "tenant")
}

// The body is not read for a key that may not call the route.
func TestAccess_IsDecidedBeforeTheBody(t *testing.T) {
	c := newClient(t)
	c.do("", "POST", "/v0/events", "not json", "Content-Type", "text/plain").wantCode(401, "unauthenticated")
	c.do("acme", "POST", "/v0/events", "not json", "Content-Type", "text/plain").wantCode(403, "operator_only")
}

func TestTenantsAndKeys(t *testing.T) {
	c := newClient(t)
	made := c.do("operator", "POST", "/v0/tenants", `{"name": "initech"}`).want(201).object()
	if made["id"] != "initech" || made["name"] != "initech" || made["paused"] != false || made["created_at"] != "2026-03-14T15:09:26.535Z" {
		t.Errorf("got the tenant %v", made)
	}
	c.do("operator", "POST", "/v0/tenants", `{"name": "initech"}`).wantCode(409, "tenant_exists", "name")
	c.do("operator", "POST", "/v0/tenants", `{"name": "*"}`).wantCode(422, "invalid_tenant", "name")
	c.do("operator", "POST", "/v0/tenants", `{}`).wantCode(422, "required", "name")

	for _, row := range []struct {
		action string
		paused bool
	}{{"pause", true}, {"pause", true}, {"resume", false}, {"resume", false}} {
		if got := c.do("operator", "POST", "/v0/tenants/initech/"+row.action, "").want(200).object(); got["paused"] != row.paused || got["name"] != "initech" {
			t.Errorf("%s: got %v", row.action, got)
		}
		if got := c.do("operator", "GET", "/v0/tenants/initech", "").want(200).object(); got["paused"] != row.paused {
			t.Errorf("after %s: got %v", row.action, got)
		}
	}
	c.do("operator", "POST", "/v0/tenants/nobody/pause", "").wantCode(404, "not_found")

	key := c.do("operator", "POST", "/v0/api_keys", `{"tenant": "initech", "name": "x"}`).want(201).object()
	text, _ := key["key"].(string)
	if key["tenant"] != "initech" || key["operator"] != false || !strings.HasPrefix(text, key["prefix"].(string)) {
		t.Errorf("got the key %v", key)
	}
	c.do(text, "GET", "/v0/api_webhooks", "").want(200)
	list := c.do("operator", "GET", "/v0/api_keys?tenant=initech", "").want(200)
	if strings.Contains(list.Body.String(), text) || !strings.Contains(list.Body.String(), key["id"].(string)) {
		t.Errorf("got the list %s, want the key's id and not its text", list.Body)
	}
	c.do("operator", "GET", "/v0/api_keys?tenant=nobody", "").wantCode(404, "unknown_tenant", "tenant")
	c.do("operator", "DELETE", "/v0/api_keys/"+key["id"].(string), "").want(204)
	c.do(text, "GET", "/v0/api_webhooks", "").want(401)

	operator := c.do("operator", "POST", "/v0/api_keys", `{"operator": true, "name": "x"}`).want(201).object()
	if operator["tenant"] != nil || operator["operator"] != true {
		t.Errorf("got the key %v, want an operator's", operator)
	}
	c.do("operator", "POST", "/v0/api_keys", `{"name": "x"}`).wantCode(422, "required", "tenant")
	c.do("operator", "POST", "/v0/api_keys", `{"name": "x", "tenant": ""}`).wantCode(422, "required", "tenant")
	c.do("operator", "POST", "/v0/api_keys", `{"name": "x", "tenant": null}`).wantCode(422, "required", "tenant")
	c.do("operator", "POST", "/v0/api_keys", `{"name": "x", "tenant": "acme", "operator": true}`).wantCode(422, "conflicting_fields", "operator")
	c.do("operator", "POST", "/v0/api_keys", `{"name": "x", "tenant": "nobody"}`).wantCode(422, "unknown_tenant", "tenant")
}

// pages follows a list from its start by its Link header, and gives the ids.
func (c *client) pages(key, path string) (ids []string) {
	c.tb.Helper()
	for range 20 {
		var list struct {
			Data       []map[string]any
			NextCursor string `json:"next_cursor"`
		}
		a := c.do(key, "GET", path, "").want(200)
		if err := json.Unmarshal(a.Body.Bytes(), &list); err != nil {
			c.tb.Fatal(err)
		}
		for _, entry := range list.Data {
			id, found := entry["id"].(string)
			if !found {
				id = entry["event"].(string)
			}
			ids = append(ids, id)
		}
		link := a.Header().Get("Link")
		if (link == "") != (list.NextCursor == "") {
			c.tb.Fatalf("got the link %q with the cursor %q", link, list.NextCursor)
		}
		if link == "" {
			return ids
		}
		path = strings.TrimSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
		if !strings.Contains(path, "cursor="+list.NextCursor) {
			c.tb.Fatalf("got the link %q with the cursor %q", link, list.NextCursor)
		}
	}
	c.tb.Fatal("the list has no end")
	return nil
}

func TestLists_EveryPageOnceNewestFirst(t *testing.T) {
	c := newClient(t)
	var hooks, attempts []string
	for range 7 {
		hook := c.webhook(t, "acme")
		hooks = append(hooks, hook.ID.String())
		attempts = append(attempts, c.attempt(hook).ID.String())
	}
	hook := c.webhooks[3]
	attempts = append(attempts, c.attempt(hook).ID.String())
	slices.Reverse(hooks)
	slices.Reverse(attempts)
	for _, name := range []string{"a.a", "a.b", "a.c", "a.d"} {
		c.types[name] = postrider.EventType{Name: name}
	}
	for _, row := range []struct {
		key, path string
		want      []string
	}{
		{"acme", "/v0/api_webhooks?limit=3", hooks},
		{"operator", "/v0/api_webhooks?limit=3&tenant=acme", hooks},
		{"acme", "/v0/api_webhooks?limit=7", hooks},
		{"globex", "/v0/api_webhooks", nil},
		{"acme", "/v0/api_webhooks/logs?limit=3&from=2026-01-01T00:00:00Z", attempts},
		{"acme", "/v0/api_webhooks/" + hook.ID.String() + "/logs?limit=1", []string{attempts[0], attempts[4]}},
		{"acme", "/v0/api_webhooks/events?limit=2", []string{"a.a", "a.b", "a.c", "a.d"}},
		{"operator", "/v0/tenants?limit=1", []string{"globex", "acme", "default"}},
	} {
		if got := c.pages(row.key, row.path); !slices.Equal(got, row.want) {
			t.Errorf("%s: got %v, want %v", row.path, got, row.want)
		}
	}
	if got := c.pages("operator", "/v0/api_keys?limit=1"); len(got) != 4 {
		t.Errorf("got %d keys, want 4", len(got))
	}
	if got := c.filters[len(c.filters)-1]; got.WebhookID != hook.ID {
		t.Errorf("got the filter %+v, want one of the webhook", got)
	}
}

func TestCursor_IsGoodForItsOwnListOnly(t *testing.T) {
	c := newClient(t)
	for range 3 {
		c.attempt(c.webhook(t, "acme"))
		c.attempt(c.webhook(t, "globex"))
	}
	cursor, _ := c.do("acme", "GET", "/v0/api_webhooks?limit=1", "").object()["next_cursor"].(string)
	if cursor == "" {
		t.Fatal("got no cursor")
	}
	c.do("acme", "GET", "/v0/api_webhooks?cursor="+cursor, "").want(200)
	c.do("operator", "GET", "/v0/api_webhooks?tenant=acme&cursor="+cursor, "").want(200)
	other := "A"
	if cursor[0] == 'A' {
		other = "B"
	}
	hook := c.webhooks[0].ID.String()
	for _, row := range []struct{ key, path string }{
		{"globex", "/v0/api_webhooks?cursor=" + cursor},
		{"operator", "/v0/api_webhooks?cursor=" + cursor},
		{"operator", "/v0/api_webhooks?tenant=globex&cursor=" + cursor},
		{"acme", "/v0/api_webhooks/logs?cursor=" + cursor},
		{"acme", "/v0/api_webhooks/" + hook + "/logs?cursor=" + cursor},
		{"acme", "/v0/api_webhooks/events?cursor=" + cursor},
		{"operator", "/v0/tenants?cursor=" + cursor},
		{"operator", "/v0/api_keys?cursor=" + cursor},
		{"acme", "/v0/api_webhooks?cursor=" + cursor[:len(cursor)-2]},
		{"acme", "/v0/api_webhooks?cursor=" + other + cursor[1:]},
		{"acme", "/v0/api_webhooks?cursor=" + cursor + "="},
		{"acme", "/v0/api_webhooks?cursor=" + cursor[:20]},
		{"acme", "/v0/api_webhooks?cursor=%00"},
		{"acme", "/v0/api_webhooks?cursor=" + hook},
	} {
		c.do(row.key, "GET", row.path, "").wantCode(400, "invalid_cursor", "cursor")
	}
}
