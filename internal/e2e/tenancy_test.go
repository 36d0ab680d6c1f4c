package e2e_test

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"postrider"
	"postrider/internal/e2e"
)

// A crossing is what the matrix needs to know of a route beside what the
// OpenAPI document says.
type crossing struct {
	body   string // that the route accepts; empty: none is needed
	status int    // of success; 0: the one that the document has
}

// crossings has every route. A path's {…} stand in bodies, too, and are
// replaced by something of the tenant acme's.
var crossings = map[string]crossing{
	"POST /v0/api_webhooks":                             {body: `{"url": "https://partner.example/", "events": ["none"], "active": false}`},
	"GET /v0/api_webhooks":                              {},
	"GET /v0/api_webhooks/{id}":                         {},
	"PATCH /v0/api_webhooks/{id}":                       {body: `{"description": "changed"}`},
	"DELETE /v0/api_webhooks/{id}":                      {},
	"POST /v0/api_webhooks/ping":                        {},
	"POST /v0/api_webhooks/{id}/ping":                   {},
	"POST /v0/api_webhooks/{id}/rotate_secret":          {body: `{}`},
	"POST /v0/api_webhooks/{id}/pause":                  {},
	"POST /v0/api_webhooks/{id}/resume":                 {},
	"POST /v0/api_webhooks/{id}/replay":                 {body: `{"dry_run": true}`},
	"GET /v0/api_webhooks/listen":                       {status: http.StatusBadRequest}, // it asks for an upgrade
	"GET /v0/api_webhooks/logs":                         {},
	"GET /v0/api_webhooks/{id}/logs":                    {},
	"GET /v0/api_webhooks/logs/{attempt_id}":            {},
	"POST /v0/api_webhooks/logs/{attempt_id}/redeliver": {},
	"GET /v0/api_webhooks/logs/stream":                  {},
	"GET /v0/replays/{id}":                              {},
	"DELETE /v0/replays/{id}":                           {},
	"GET /v0/api_webhooks/events":                       {},
	"GET /v0/api_webhooks/events/{event}":               {},
	"PUT /v0/api_webhooks/events/{event}":               {body: `{"description": "changed"}`},
	"DELETE /v0/api_webhooks/events/{event}":            {},
	"POST /v0/events":                                   {body: `{"event": "a.b", "payload": 1}`},
	"POST /v0/events/batch":                             {body: `[{"event": "a.b", "payload": 1}]`},
	"POST /v0/events/match":                             {body: `{"event": "a.b"}`},
	"GET /v0/events/{id}":                               {},
	"POST /v0/tenants":                                  {body: `{"name": "{new}"}`},
	"GET /v0/tenants":                                   {},
	"GET /v0/tenants/{tenant}":                          {},
	"POST /v0/tenants/{tenant}/pause":                   {},
	"POST /v0/tenants/{tenant}/resume":                  {},
	"POST /v0/api_keys":                                 {body: `{"tenant": "acme", "name": "x"}`},
	"GET /v0/api_keys":                                  {},
	"DELETE /v0/api_keys/{id}":                          {},
	"POST /v0/portal_links":                             {body: `{"tenant": "acme"}`},
}

// A documented operation, as far as the matrix looks into it.
type documented struct {
	OperatorOnly bool `json:"x-operator-only"`
	Parameters   []struct{ Name, In string }
	Responses    map[string]any
}

func (d *documented) takesTenant() bool {
	return slices.ContainsFunc(d.Parameters, func(p struct{ Name, In string }) bool { return p.In == "query" && p.Name == "tenant" })
}

func (d *documented) succeeds(status int) bool {
	return status < 300 && d.Responses[strconv.Itoa(status)] != nil
}

// Every route of the OpenAPI document, with every kind of key. A route that the
// matrix has no row for fails it.
func TestTenancy_OfEveryRouteByEveryKey(t *testing.T) {
	server := e2e.Start(t, t.TempDir(), "--request-rate=0", "--webhooks-per-tenant=0")
	var document struct {
		Paths map[string]map[string]documented
	}
	server.Call("GET", "/openapi.json", nil).Must(200).Into(&document)
	w := newHousehold(t, server)
	unseen := maps.Clone(crossings)
	for _, path := range slices.Sorted(maps.Keys(document.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(document.Paths[path])) {
			route := strings.ToUpper(method) + " " + path
			row, found := crossings[route]
			if delete(unseen, route); !found {
				t.Errorf("%s: the matrix has no row for it", route)
				continue
			}
			operation := document.Paths[path][method]
			t.Run(route, func(t *testing.T) { w.cross(t, strings.ToUpper(method), path, row, &operation) })
		}
	}
	for route := range unseen {
		t.Errorf("%s: there is no such route any more", route)
	}
}

// A household is two partners of a server, and what they have.
type household struct {
	server                *e2e.Server
	acme, globex, revoked *e2e.Server
	nobody                *e2e.Server
	cookie                string // of acme's session in the portal
	receiver              *e2e.Receiver
}

func newHousehold(t *testing.T, server *e2e.Server) *household {
	t.Helper()
	w := &household{server: server, nobody: server.As(""), receiver: e2e.Listen(t)}
	for _, tenant := range []string{"acme", "globex"} {
		server.Call("POST", "/v0/tenants", []byte(`{"name": "`+tenant+`"}`)).Must(201)
	}
	w.acme, _ = w.key("acme")
	w.globex, _ = w.key("globex")
	var id string
	w.revoked, id = w.key("acme")
	w.revoked.Call("GET", "/v0/api_webhooks", nil).Must(200)
	server.Call("DELETE", "/v0/api_keys/"+id, nil).Must(204)

	link := server.Call("POST", "/v0/portal_links", []byte(`{"tenant": "acme"}`)).Must(201).Text("url")
	w.cookie = enter(t, link)
	return w
}

func (w *household) key(tenant string) (holder *e2e.Server, id string) {
	made := w.server.Call("POST", "/v0/api_keys", []byte(`{"tenant": "`+tenant+`", "name": "x"}`)).Must(201)
	return w.server.As(made.Text("key")), made.Text("id")
}

// things makes one of each kind for acme, and gives what replaces the {…}: what
// acme has, and what nobody has.
func (w *household) things(t *testing.T, path string) (own, missing *strings.Replacer) {
	t.Helper()
	webhook := w.acme.Call("POST", "/v0/api_webhooks", []byte(`{"url": "`+w.receiver.URL+`", "events": ["a.b"]}`)).Must(201).Text("id")
	t.Cleanup(func() { // so that nothing of it is held while the next things are made
		w.acme.Call("DELETE", "/v0/api_webhooks/"+webhook, nil)
		w.server.Call("POST", "/v0/tenants/acme/resume", nil).Must(200)
	})
	w.server.Call("PUT", "/v0/api_webhooks/events/a.b", []byte(`{}`))
	event := w.server.Call("POST", "/v0/events", []byte(`{"event": "a.b", "payload": 1, "tenant": "acme"}`)).Must(202).Text("id")
	id, attempt := webhook, ""
	e2e.Until(t, "every delivery of acme being in the logs", func() bool {
		rows := w.acme.Pages("/v0/api_webhooks/"+webhook+"/logs", 10)
		if len(rows) > 0 {
			attempt, _ = rows[0]["id"].(string)
		}
		delivered := w.acme.Call("GET", "/v0/events/"+event, nil).Must(200)
		return len(rows) == 2 && !strings.Contains(string(delivered.Body), `"pending"`)
	})
	switch {
	case strings.HasPrefix(path, "/v0/replays"):
		id = w.acme.Call("POST", "/v0/api_webhooks/"+id+"/replay", []byte(`{"dry_run": true}`)).Must(202).Text("id")
		e2e.Until(t, "the replay's end", func() bool { return openReplays(t, w.server) == "0" })
	case strings.HasPrefix(path, "/v0/events"):
		id = event
	case strings.HasPrefix(path, "/v0/api_keys"):
		_, id = w.key("acme")
	}
	none := postrider.NewID().String()
	own = strings.NewReplacer("{id}", id, "{attempt_id}", attempt, "{event}", "a.b", "{tenant}", "acme", "{new}", "t"+none)
	missing = strings.NewReplacer("{id}", none, "{attempt_id}", none, "{event}", "a.b", "{tenant}", "acme", "{new}", "t"+none)
	return own, missing
}

func (w *household) cross(t *testing.T, method, path string, row crossing, operation *documented) {
	own, missing := w.things(t, path)
	ask := func(who *e2e.Server, names *strings.Replacer, query string, headers ...string) e2e.Answer {
		var body []byte
		if row.body != "" {
			body = []byte(names.Replace(row.body))
		}
		return who.Head(method, names.Replace(path)+query, body, headers...)
	}
	succeeds := func(who *e2e.Server, query string) {
		t.Helper()
		got := ask(who, own, query).Status
		if row.status != got && (row.status != 0 || !operation.succeeds(got)) {
			t.Errorf("with the query %q: got status %d, want success", query, got)
		}
	}
	before := dump(t, w.server)
	wantProblem(t, ask(w.nobody, own, ""), 401, "unauthenticated", "")
	wantProblem(t, ask(w.revoked, own, ""), 401, "unauthenticated", "")
	wantProblem(t, ask(w.server.As("prk_"+strings.Repeat("A", 32)), own, ""), 401, "unauthenticated", "")
	wantProblem(t, ask(w.nobody, own, "", "Cookie", w.cookie), 401, "unauthenticated", "") // a session is no key
	ofTenant := strings.Contains(path, "id}") && !strings.HasPrefix(path, "/v0/api_keys")
	switch {
	case operation.OperatorOnly:
		wantProblem(t, ask(w.acme, own, ""), 403, "operator_only", "")
		if ofTenant {
			wantProblem(t, ask(w.server, own, ""), 404, "not_found", "") // it acts for the default tenant
		}
	case ofTenant:
		foreign, none := ask(w.globex, own, ""), ask(w.globex, missing, "")
		wantProblem(t, foreign, 404, "not_found", "")
		if string(foreign.Body) != string(none.Body) {
			t.Errorf("got for what is another's %s, for what is nobody's %s", foreign.Body, none.Body)
		}
	}
	if operation.takesTenant() && !operation.OperatorOnly {
		wantProblem(t, ask(w.acme, own, "?tenant=globex"), 403, "other_tenant", "tenant")
		wantProblem(t, ask(w.server, own, "?tenant=nobody"), 404, "unknown_tenant", "tenant")
	}
	wantUnchanged(t, w.server, before)

	switch {
	case !operation.OperatorOnly:
		succeeds(w.acme, "")
	case operation.takesTenant() && ofTenant:
		succeeds(w.server, "?tenant=acme")
	default:
		succeeds(w.server, "")
	}
	if method == http.MethodGet && !ofTenant && !operation.OperatorOnly && row.status == 0 && !strings.HasSuffix(path, "/stream") {
		list := w.globex.Call(method, own.Replace(path), nil).Must(200)
		if strings.Contains(string(list.Body), own.Replace("{id}")) || strings.Contains(string(list.Body), own.Replace("{attempt_id}")) {
			t.Errorf("got something of acme's for globex: %s", list.Body)
		}
	}
}

// A producer's own event id names another event in each tenant.
func TestTenancy_ChosenIDsOfTwoTenantsDoNotMeet(t *testing.T) {
	w := newHousehold(t, e2e.Start(t, t.TempDir()))
	for tenant, payload := range map[string]string{"acme": `{"of": "acme"}`, "globex": `{"of": "globex"}`} {
		body := []byte(`{"id": "evt_1", "event": "a.b", "tenant": "` + tenant + `", "payload": ` + payload + `}`)
		w.server.Call("POST", "/v0/events", body).Must(202)
		w.server.Call("POST", "/v0/events", body).Must(202)
	}
	for who, want := range map[*e2e.Server]string{w.acme: "acme", w.globex: "globex"} {
		if got := who.Call("GET", "/v0/events/evt_1", nil).Must(200).Text("payload", "of"); got != want {
			t.Errorf("got the event of %s, want that of %s", got, want)
		}
	}
	other := []byte(`{"id": "evt_1", "event": "a.b", "tenant": "acme", "payload": 2}`)
	wantProblem(t, w.server.Call("POST", "/v0/events", other), 409, "event_id_taken", "id")
}

// openReplays counts those for which the server has something to do still.
func openReplays(t *testing.T, server *e2e.Server) string {
	t.Helper()
	db := database(t, server)
	defer db.Close() //nolint:errcheck // it was only read
	return texts(t, db, `SELECT CAST(count(*) AS TEXT) FROM replays WHERE open = TRUE`)[0]
}

// enter follows a link into the portal and returns the session's cookie.
func enter(t *testing.T, link string) string {
	t.Helper()
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer browser.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, link, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := browser.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	for _, cookie := range response.Cookies() {
		return cookie.Name + "=" + cookie.Value
	}
	t.Fatalf("got status %d and no cookie for a link into the portal", response.StatusCode)
	return ""
}
