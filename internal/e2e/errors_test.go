package e2e_test

import (
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // to look at the database from outside
	_ "modernc.org/sqlite"

	"postrider/internal/api"
	"postrider/internal/e2e"
	"postrider/internal/sqlite"
)

// problem is an RFC 9457 document.
type problem struct {
	Type, Title, Detail, Code string
	Status                    int
	Errors                    []struct{ Field, Code, Message string }
}

func (p problem) fields() string {
	var list []string
	for _, e := range p.Errors {
		list = append(list, e.Field)
	}
	return strings.Join(list, " ")
}

// wantProblem fails unless an answer is the problem document that it should be.
func wantProblem(t *testing.T, a e2e.Answer, status int, code, fields string) {
	t.Helper()
	var p problem
	a.Into(&p)
	if a.Status != status || p.Status != status || p.Code != code || p.fields() != fields {
		t.Errorf("got %d %s %q, want %d %s %q: %s", a.Status, p.Code, p.fields(), status, code, fields, a.Body)
	}
	if got := a.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("got a problem of type %q", got)
	}
	if p.Title != http.StatusText(status) || p.Detail == "" || p.Type != "/docs/api#error-"+code {
		t.Errorf("got the problem %+v", p)
	}
	for _, e := range p.Errors {
		if e.Code == "" || e.Message == "" {
			t.Errorf("got the fault %+v", e)
		}
	}
}

// refusal is a request and what it is refused with. The body's and path's {…}
// are replaced by what the table's servers hold.
type refusal struct {
	request string // method and path
	body    string
	status  int
	code    string
	fields  string // at fault, with spaces between
	headers []string
}

func webhookWith(fields string) string {
	return `{"url": "{receiver}/x", "events": ["*"], ` + fields + `}`
}

func eventWith(fields string) string { return `{"id": "refused", "payload": 1, ` + fields + `}` }

const (
	hooks  = "POST /v0/api_webhooks"
	hook   = "PATCH /v0/api_webhooks/{webhook}"
	events = "POST /v0/events"
	batch  = "POST /v0/events/batch"
	types  = "PUT /v0/api_webhooks/events/new.type"
)

// refusals has at least one row for each code that can be provoked from outside.
var refusals = []refusal{
	{request: hooks, status: 400, code: "body_required"},
	{request: "PATCH /v0/api_webhooks/{webhook}", status: 400, code: "body_required"},
	{request: hooks, body: `{"url": "{receiver}", "url": "{receiver}/2", "events": ["*"]}`, status: 400, code: "duplicate_field", fields: "url"},
	{request: events, body: eventWith(`"event": "a.b", "event": "c.d"`), status: 400, code: "duplicate_field", fields: "event"},
	{request: "GET /v0/api_webhooks?cursor=made-up", status: 400, code: "invalid_cursor", fields: "cursor"},
	{request: events, body: eventWith("\"event\": \"\xff\""), status: 400, code: "invalid_utf8"},
	{request: events, body: eventWith(`"event": `), status: 400, code: "malformed_json", fields: "event"},
	{request: hooks, body: `url=https://partner.example`, status: 400, code: "malformed_json"},
	{request: events, body: eventWith(`"event": "a.b"`) + `{}`, status: 400, code: "trailing_data"},
	{request: hooks, body: webhookWith(`"URL": "{receiver}/2"`), status: 400, code: "unknown_field", fields: "URL"},

	{request: hooks, body: webhookWith(`"active": false`), status: 401, code: "unauthenticated", headers: []string{"x-api-key", "nobody's"}},
	{request: events, body: eventWith(`"event": "a.b"`), status: 403, code: "operator_only", headers: []string{"x-api-key", "{partner}"}},
	{request: hooks, body: webhookWith(`"tenant": "acme"`), status: 403, code: "other_tenant", fields: "tenant", headers: []string{"x-api-key", "{partner}"}},
	{request: "DELETE /v0/api_webhooks/{webhook}?tenant=acme", status: 403, code: "other_tenant", fields: "tenant", headers: []string{"x-api-key", "{partner}"}},
	{request: "DELETE /v0/webhooks/{webhook}", status: 404, code: "no_such_route"},
	{request: "DELETE /v0/api_webhooks/{id of acme}", status: 404, code: "not_found", headers: []string{"x-api-key", "{partner}"}},
	{request: "POST /v0/api_webhooks/{id of acme}/rotate_secret", body: `{}`, status: 404, code: "not_found"},
	{request: "POST /v0/api_webhooks/ping?tenant=nobody", status: 404, code: "unknown_tenant", fields: "tenant"},
	{request: "PUT /v0/api_webhooks/{webhook}", body: `{}`, status: 405, code: "method_not_allowed"},
	{request: events, body: `{"id": "accepted", "event": "room_status.updated", "payload": {"other": 1}}`, status: 409, code: "event_id_taken", fields: "id"},
	{request: events, body: eventWith(`"event": "a.b"`), status: 409, code: "idempotency_key_reused", fields: "Idempotency-Key", headers: []string{"Idempotency-Key", "used"}},
	{request: "POST /v0/api_webhooks/{webhook}/replay", body: `{"dry_run": true}`, status: 409, code: "replay_running"},
	{request: "POST /v0/tenants", body: `{"name": "acme"}`, status: 409, code: "tenant_exists", fields: "name"},
	{request: "POST /v0/api_webhooks/logs/{log of a deleted webhook}/redeliver", status: 409, code: "webhook_deleted"},
	{request: "POST /v0/api_webhooks/{inactive webhook}/ping", status: 409, code: "webhook_inactive"},
	{request: "POST /v0/tenants", body: `{"name": "` + strings.Repeat("a", 256<<10) + `"}`, status: 413, code: "body_too_large"},
	{request: events, body: `{"event": "a.b", "payload": "` + strings.Repeat("a", 1<<20) + `"}`, status: 413, code: "payload_too_large", fields: "payload"},
	{request: events, body: eventWith(`"event": "a.b"`), status: 415, code: "unsupported_media_type", headers: []string{"Content-Type", "text/plain"}},

	{request: hooks, body: `{"url": "https://10.0.0.1/", "events": ["*"]}`, status: 422, code: "blocked_address", fields: "url"},
	{request: hook, body: `{"url": "{itself}/v0/events"}`, status: 422, code: "blocked_address", fields: "url"},
	{request: hooks, body: webhookWith(`"secret": "long enough", "generate_secret": true`), status: 422, code: "conflicting_fields", fields: "generate_secret"},
	{request: hooks, body: webhookWith(`"headers": {"X-A": "1", "x-a": "2"}`), status: 422, code: "duplicate_header", fields: "headers.x-a"},
	{request: batch, body: `[` + eventWith(`"event": "a.b"`) + `,` + eventWith(`"event": "c.d"`) + `]`, status: 422, code: "duplicate_id", fields: "[1].id"},
	{request: batch, body: `[]`, status: 422, code: "empty_batch"},
	{request: hooks, body: webhookWith(`"headers": {"X-A": "` + strings.Repeat("a", 5000) + `"}`), status: 422, code: "headers_too_large", fields: "headers"},
	{request: hooks, body: `{}`, status: 422, code: "invalid", fields: "url events"},
	{request: hooks, body: webhookWith(`"content_type": "text/plain"`), status: 422, code: "invalid_content_type", fields: "content_type"},
	{request: hook, body: `{"description": "` + strings.Repeat("é", 501) + `"}`, status: 422, code: "invalid_description", fields: "description"},
	{request: events, body: eventWith(`"event": "Room Status"`), status: 422, code: "invalid_event", fields: "event"},
	{request: hook, body: `{"events": ["*.updated"]}`, status: 422, code: "invalid_event", fields: "events[0]"},
	{request: batch, body: `[` + eventWith(`"event": "a.b"`) + `, {"event": "A", "payload": 1}]`, status: 422, code: "invalid_event", fields: "[1].event"},
	{request: hook, body: `{"events": []}`, status: 422, code: "invalid_events", fields: "events"},
	{request: "POST /v0/portal_links", body: `{"tenant": "acme", "expires_in": 3601}`, status: 422, code: "invalid_expires_in", fields: "expires_in"},
	{request: types, body: `{"example": "` + strings.Repeat("a", 257<<10) + `"}`, status: 422, code: "invalid_example", fields: "example"},
	{request: "POST /v0/api_webhooks/{webhook}/rotate_secret", body: `{"grace_seconds": 604801}`, status: 422, code: "invalid_grace", fields: "grace_seconds"},
	{request: hooks, body: webhookWith(`"headers": {"X A": "1"}`), status: 422, code: "invalid_header_name", fields: "headers"},
	{request: hooks, body: webhookWith(`"headers": {"X-A": "1\r\nX-B: 2"}`), status: 422, code: "invalid_header_value", fields: "headers.X-A"},
	{request: hook, body: `{"url": "https://127.1/"}`, status: 422, code: "invalid_host", fields: "url"},
	{request: events, body: `{"id": "with.dot", "event": "a.b", "payload": 1}`, status: 422, code: "invalid_id", fields: "id"},
	{request: events, body: eventWith(`"event": "a.b"`), status: 422, code: "invalid_idempotency_key", fields: "Idempotency-Key", headers: []string{"Idempotency-Key", "with a space"}},
	{request: hook, body: `{"max_in_flight": 257}`, status: 422, code: "invalid_max_in_flight", fields: "max_in_flight"},
	{request: "POST /v0/api_keys", body: `{"tenant": "acme", "name": " "}`, status: 422, code: "invalid_name", fields: "name"},
	{request: types, body: `{"notes": "` + strings.Repeat("a", 65<<10) + `"}`, status: 422, code: "invalid_notes", fields: "notes"},
	{request: "GET /v0/api_webhooks/logs?limit=101", status: 422, code: "invalid_parameter", fields: "limit"},
	{request: hook, body: `{"url": "https://partner.example:0/"}`, status: 422, code: "invalid_port", fields: "url"},
	{request: "POST /v0/api_webhooks/{inactive webhook}/replay", body: `{"rate": 1001}`, status: 422, code: "invalid_rate", fields: "rate"},
	{request: hook, body: `{"rate_limit": 0}`, status: 422, code: "invalid_rate_limit", fields: "rate_limit"},
	{request: hook, body: `{"retry_schedule": [1, 604801]}`, status: 422, code: "invalid_retry_schedule", fields: "retry_schedule[1]"},
	{request: types, body: `{"schema": {"description": "` + strings.Repeat("a", 257<<10) + `"}}`, status: 422, code: "invalid_schema", fields: "schema"},
	{request: hook, body: `{"url": "ftp://partner.example/"}`, status: 422, code: "invalid_scheme", fields: "url"},
	{request: hook, body: `{"secret": "short"}`, status: 422, code: "invalid_secret", fields: "secret"},
	{request: "POST /v0/api_webhooks/{inactive webhook}/replay", body: `{"status": "lost"}`, status: 422, code: "invalid_status", fields: "status"},
	{request: "POST /v0/tenants", body: `{"name": "*"}`, status: 422, code: "invalid_tenant", fields: "name"},
	{request: events, body: eventWith(`"event": "a.b", "occurred_at": "yesterday"`), status: 422, code: "invalid_time", fields: "occurred_at"},
	{request: "POST /v0/api_webhooks/{inactive webhook}/replay", body: `{"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}`, status: 422, code: "invalid_time_range", fields: "to"},
	{request: hook, body: `{"timeout_seconds": 31}`, status: 422, code: "invalid_timeout", fields: "timeout_seconds"},
	{request: hook, body: `{"active": "yes"}`, status: 422, code: "invalid_type", fields: "active"},
	{request: hook, body: `{"url": "https://partner.example/a b"}`, status: 422, code: "invalid_url", fields: "url"},
	{request: hook, body: `{"headers": {"X-Token": "[redacted]"}}`, status: 422, code: "masked_value", fields: "headers.X-Token"},
	{request: hook, body: `{"url": "https://partner.example:25/"}`, status: 422, code: "port_not_allowed", fields: "url"},
	{request: hook, body: `{"url": null}`, status: 422, code: "required", fields: "url"},
	{request: events, body: eventWith(`"event": "ping"`), status: 422, code: "reserved_event", fields: "event"},
	{request: "POST /v0/events/match", body: `{"event": "ping"}`, status: 422, code: "reserved_event", fields: "event"},
	{request: "POST /v0/events/match", body: `{"event": "a.b", "tenant": "nobody"}`, status: 422, code: "unknown_tenant", fields: "tenant"},
	{request: events, body: eventWith(`"event": "webhook.disabled"`), status: 422, code: "reserved_event", fields: "event"},
	{request: hook, body: `{"headers": {"webhook-id": "1"}}`, status: 422, code: "reserved_header", fields: "headers.webhook-id"},
	{request: batch, body: `[` + strings.Repeat(`{"event": "a.b", "payload": 1},`, 1000) + `{"event": "a.b", "payload": 1}]`, status: 422, code: "too_many_events"},
	{request: hooks, body: webhookWith(`"headers": {` + headersOf(21) + `}`), status: 422, code: "too_many_headers", fields: "headers"},
	{request: "DELETE /v0/api_webhooks/{webhook}?force=true", status: 422, code: "unknown_parameter", fields: "force"},
	{request: events, body: eventWith(`"event": "a.b", "tenant": "nobody"`), status: 422, code: "unknown_tenant", fields: "tenant"},
	{request: hook, body: `{"url": "https://partner.example/#top"}`, status: 422, code: "url_fragment", fields: "url"},
	{request: hook, body: `{"url": "https://partner.example/` + strings.Repeat("a", 2048) + `"}`, status: 422, code: "url_too_long", fields: "url"},
	{request: hook, body: `{"url": "https://user:password@partner.example/"}`, status: 422, code: "url_userinfo", fields: "url"},
}

// strictRefusals are those of a server with --strict-catalogue and --https-only.
var strictRefusals = []refusal{
	{request: "POST /v0/events/match", body: `{"event": "a.b"}`, status: 422, code: "unknown_event", fields: "event"},
	{request: events, body: eventWith(`"event": "a.b"`), status: 422, code: "unknown_event", fields: "event"},
	{request: hooks, body: `{"url": "https://partner.example/", "events": ["a.*"]}`, status: 422, code: "unknown_event", fields: "events[0]"},
	{request: hooks, body: `{"url": "http://partner.example/", "events": ["*"]}`, status: 422, code: "https_required", fields: "url"},
}

// notProvoked are the codes without a row, and why.
var notProvoked = map[string]string{
	"body_incomplete":             "no HTTP client sends it: TestErrors_ABodyThatEndsEarly does by hand",
	"body_timeout":                "it takes the server's 30 seconds; the tests of the api have a clock of their own",
	"invalid_payload":             "the api's decoder finds every such payload first, and says malformed_json or invalid_utf8",
	"internal":                    "only a fault of the server's own brings it about",
	"store_unavailable":           "it takes a broken disk; the store's tests break one",
	"storage_full":                "it takes a full disk; the store's tests fill one",
	"too_many_requests":           "the table's server has no such limit: TestErrors_OverTheLimitsOfATenant sets one",
	"too_many_webhooks":           "the table's server has room: TestErrors_OverTheLimitsOfATenant gives one little",
	"too_many_streams":            "it takes hundreds of open connections: TestErrors_TooManyStreams opens them",
	"unavailable":                 "nobody is left to read it",
	"invalid_forward":             listeners,
	"invalid_session":             listeners,
	"invalid_target":              listeners,
	"no_listener":                 listeners,
	"not_temporary":               listeners,
	"too_many_sessions":           listeners,
	"too_many_temporary_webhooks": listeners,
	"websocket_required":          listeners,
}

const listeners = "the table's server has no listener: the tests of the api and of the relay have"

func headersOf(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf(`"X-%d": "1"`, i))
	}
	return strings.Join(list, ", ")
}

func TestErrors_EveryCodeIsProvokedOrSaysWhyNot(t *testing.T) {
	provoked := map[string]bool{}
	for _, row := range slices.Concat(refusals, strictRefusals) {
		provoked[fmt.Sprint(row.status, row.code)] = true
	}
	for _, code := range api.Codes() {
		if _, excused := notProvoked[code.Code]; provoked[fmt.Sprint(code.Status, code.Code)] == excused {
			t.Errorf("%d %s: provoked %v, excused %v", code.Status, code.Code, !excused, excused)
		}
		delete(provoked, fmt.Sprint(code.Status, code.Code))
	}
	for code := range provoked {
		t.Errorf("%s is provoked and not listed", code)
	}
}

// What is refused leaves no trace in the store.
func TestErrors_OfEachKindAgainstTheRealServer(t *testing.T) {
	server := e2e.Start(t, t.TempDir())
	replace := furnish(t, server)
	checkRefusals(t, server, replace, refusals)
	strict := e2e.Start(t, t.TempDir(), "--strict-catalogue", "--https-only")
	checkRefusals(t, strict, strings.NewReplacer(), strictRefusals)
	// What is not refused would have been seen.
	before := dump(t, server)
	server.Call(http.MethodPost, "/v0/tenants", []byte(`{"name": "initech"}`)).Must(http.StatusCreated)
	if maps.Equal(before, dump(t, server)) {
		t.Error("got the same database after a tenant was made: the search for traces is blind")
	}
}

func checkRefusals(t *testing.T, server *e2e.Server, replace *strings.Replacer, rows []refusal) {
	before := dump(t, server)
	for _, row := range rows {
		t.Run(row.code+" "+row.request, func(t *testing.T) {
			method, path, _ := strings.Cut(replace.Replace(row.request), " ")
			var body []byte
			if row.body != "" {
				body = []byte(replace.Replace(row.body))
			}
			var headers []string
			for _, header := range row.headers {
				headers = append(headers, replace.Replace(header))
			}
			wantProblem(t, server.Call(method, path, body, headers...), row.status, row.code, row.fields)
			wantUnchanged(t, server, before)
		})
	}
}

func wantUnchanged(t *testing.T, server *e2e.Server, before map[string]string) {
	t.Helper()
	after := dump(t, server)
	for _, table := range slices.Sorted(maps.Keys(after)) {
		if after[table] != before[table] {
			t.Errorf("the table %s is not what it was: something was stored", table)
		}
	}
}

// furnish fills a server with what the table refers to, and returns once it is
// at rest.
func furnish(t *testing.T, s *e2e.Server) *strings.Replacer {
	t.Helper()
	receiver := e2e.Listen(t)
	create := func(fields string) string {
		t.Helper()
		body := fmt.Appendf(nil, `{"url": %q, "events": ["*"], %s}`, receiver.URL, fields)
		return s.Call(http.MethodPost, "/v0/api_webhooks", body).Must(http.StatusCreated).Text("id")
	}
	s.Call(http.MethodPost, "/v0/tenants", []byte(`{"name": "acme"}`)).Must(http.StatusCreated)
	webhook, inactive := create(`"active": true`), create(`"active": false`)
	foreign, deleted := create(`"tenant": "acme"`), create(`"headers": {"X-Env": "test"}`)
	logOf := ""
	e2e.Until(t, "the pings are in the logs", func() bool {
		done := len(s.Pages("/v0/api_webhooks/"+webhook+"/logs", 10)) + len(s.Pages("/v0/api_webhooks/"+foreign+"/logs?tenant=acme", 10))
		logs := s.Pages("/v0/api_webhooks/"+deleted+"/logs", 10)
		if done == 2 && len(logs) == 1 {
			logOf = fmt.Sprint(logs[0]["id"])
		}
		return logOf != ""
	})
	s.Call(http.MethodDelete, "/v0/api_webhooks/"+deleted, nil).Must(http.StatusNoContent)
	s.Call(http.MethodPost, "/v0/events", []byte(`{"id": "accepted", "event": "room_status.updated", "payload": {}}`),
		"Idempotency-Key", "used").Must(http.StatusAccepted)
	s.Call(http.MethodPost, "/v0/events", []byte(`{"id": "second", "event": "room_status.updated", "payload": {}}`)).Must(http.StatusAccepted)
	logged := func(event string, attempts int) func() bool {
		return func() bool { return len(s.Pages("/v0/api_webhooks/logs?event_id="+event, 10)) == attempts }
	}
	e2e.Until(t, "the first event is delivered", logged("accepted", 1))
	e2e.Until(t, "the second event is delivered", logged("second", 1))
	// Of this replay the second delivery comes long after the test.
	s.Call(http.MethodPost, "/v0/api_webhooks/"+webhook+"/replay", []byte(`{"status": "succeeded", "rate": 0.01}`)).Must(http.StatusAccepted)
	e2e.Until(t, "the first event is replayed", logged("accepted", 2))
	return strings.NewReplacer("{webhook}", webhook, "{inactive webhook}", inactive, "{id of acme}", foreign,
		"{log of a deleted webhook}", logOf, "{partner}", partner(s).Key, "{receiver}", receiver.URL, "{itself}", s.URL)
}

// dump reads the database past the server: a digest of every table's rows.
func dump(t *testing.T, server *e2e.Server) map[string]string {
	t.Helper()
	list := `SELECT name FROM sqlite_master WHERE type = 'table'`
	if server.Database != "" {
		// What a node writes by itself, again and again, is no trace of a request.
		list = `SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT IN ('nodes', 'tallies')`
	}
	db := database(t, server)
	defer db.Close() //nolint:errcheck // it was only read
	tables := map[string]string{}
	for _, name := range texts(t, db, list) {
		row := `"` + name + `"::text`
		if server.Database == "" {
			row = strings.Join(texts(t, db, `SELECT 'quote("' || name || '")' FROM pragma_table_info('`+name+`')`), ` || ',' || `)
		}
		rows := texts(t, db, `SELECT `+row+` FROM "`+name+`"`)
		slices.Sort(rows)
		tables[name] = fmt.Sprintf("%d rows %x", len(rows), sha256.Sum256([]byte(strings.Join(rows, "\n"))))
	}
	if len(tables) < 8 {
		t.Fatalf("got %d tables, want the whole database", len(tables))
	}
	return tables
}

// database opens a server's database from outside.
func database(t *testing.T, server *e2e.Server) *sql.DB {
	t.Helper()
	engine, source := "sqlite", "file:"+filepath.Join(server.Dir, sqlite.FileName)+"?mode=ro&_pragma=busy_timeout(5000)"
	if server.Database != "" {
		engine, source = "pgx", server.Database
	}
	db, err := sql.Open(engine, source)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func texts(t *testing.T, db *sql.DB, query string) (list []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		list = append(list, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// A proxy that breaks in the middle leaves half an event.
func TestErrors_ABodyThatEndsEarly(t *testing.T) {
	server := e2e.Start(t, t.TempDir())
	before := dump(t, server)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := `{"event": "a.b", "payload": 1}`
	fmt.Fprintf(conn, "POST /v0/events HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s",
		e2e.AdminKey, len(body)+1, body)
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	head, text, _ := strings.Cut(string(answer), "\r\n\r\n")
	if !strings.HasPrefix(head, "HTTP/1.1 400 ") || !strings.Contains(text, `"code":"body_incomplete"`) {
		t.Errorf("got %s", answer)
	}
	wantUnchanged(t, server, before)
}

func TestErrors_TooManyStreams(t *testing.T) {
	server := e2e.Start(t, t.TempDir())
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for opened := range 1000 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/v0/api_webhooks/logs/stream", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Api-Key", server.Key)
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode == http.StatusOK {
			continue
		}
		text, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusTooManyRequests || !strings.Contains(string(text), `"code":"too_many_streams"`) {
			t.Errorf("got %d %s, %v", response.StatusCode, text, err)
		}
		if opened < 16 || response.Header.Get("Retry-After") == "" {
			t.Errorf("got it after %d streams, to be tried again in %q seconds", opened, response.Header.Get("Retry-After"))
		}
		return
	}
	t.Error("a thousand streams are open")
}

// forbidden are URLs that lead where a webhook must not, or could be taken for
// ones that do not.
var forbidden = map[string][]string{
	"blocked_address": {
		"http://0.0.0.0/", "http://10.0.0.1/", "http://10.255.255.255/", "http://100.64.0.1/", "http://127.0.0.1/", "http://127.255.255.254:8080/",
		"http://169.254.169.254/latest/meta-data/", "http://172.16.0.1/", "http://172.31.255.255/", "http://192.0.0.1/", "http://192.0.2.1/",
		"http://192.88.99.1/", "http://192.168.0.1/", "http://198.18.0.1/", "http://198.19.255.255/", "http://198.51.100.1/", "http://203.0.113.1/",
		"http://224.0.0.1/", "http://239.255.255.255/", "http://240.0.0.1/", "http://255.255.255.255/",
		"http://[::]/", "http://[::1]/", "http://[::1]:8080/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:169.254.169.254]/", "http://[::ffff:10.0.0.1]/",
		"http://[64:ff9b::7f00:1]/", "http://[64:ff9b:1::1]/", "http://[100::1]/", "http://[2001::1]/", "http://[2001:db8::1]/", "http://[2002:7f00:1::]/",
		"http://[3fff::1]/", "http://[5f00::1]/", "http://[fc00::1]/", "http://[fd00:ec2::254]/", "http://[fe80::1]/", "http://[fec0::1]/", "http://[ff02::1]/",
	},
	"invalid_host": {
		"http://127.1/", "http://127.0.1/", "http://2130706433/", "http://017700000001/", "http://0177.0.0.1/", "http://0x7f000001/", "http://0x7f.1/",
		"http://0/", "http://0x/", "http://1.2.3.4.5/", "http://256.0.0.1/", "http://127.0.0.1./", "http://partner.example./", "http://partner.123/",
		"http://１２７.０.０.１/", "http://①②⑦.⓪.⓪.①/", "http://١٢٧.٠.٠.١/", "http://127。0。0。1/", "http://%31%32%37.0.0.1/",
		"http://[fe80::1%25lo]/", "http://[fe80::1%lo]/", "http://[127.0.0.1]/", "http://[::1/", "http://::1/", "http://[2606:4700:0::1111]/",
		"http://", "http:///path", "http://:80/", "http://-partner.example/", "http://part!ner.example/", "http://partner..example/",
	},
	"url_userinfo":     {"http://user@127.0.0.1/", "http://127.0.0.1%2f@partner.example", "http://a:b@partner.example/", "http://partner.example@10.0.0.1/", "http://@partner.example/"},
	"url_fragment":     {"http://partner.example/#", "http://partner.example#@10.0.0.1/"},
	"invalid_scheme":   {"file:///etc/passwd", "gopher://127.0.0.1:6379/_", "javascript://partner.example/%0aalert(1)", "unix:///run/docker.sock", "//partner.example/", "partner.example"},
	"invalid_url":      {"", "http://partner.example/a b", "http://partner.example/?a HTTP/1.1\r\nX-Evil: 1", "http://partner.example\\@10.0.0.1/", "http://partner.example/\x00", "http://partner.example/é"},
	"invalid_port":     {"http://partner.example:/", "http://partner.example:0/", "http://partner.example:99999/", "http://partner.example:080/", "http://partner.example:８０/"},
	"port_not_allowed": {"http://partner.example:22/", "http://partner.example:1023/", "http://93.184.216.34:25/"},
	"url_too_long":     {"http://partner.example/" + strings.Repeat("a", 2048)},
}

// A URL that could reach the provider's own network is refused when it is
// written, by a creation and by a change, and nothing is stored of it.
func TestErrors_OverTheLimitsOfATenant(t *testing.T) {
	server := e2e.Start(t, t.TempDir(), "--request-rate=0.01", "--webhooks-per-tenant=1")
	create := []byte(`{"url": "https://partner.example/", "events": ["*"], "active": false}`) // nothing is sent
	server.Call(http.MethodPost, "/v0/api_webhooks", create).Must(http.StatusCreated)
	before := dump(t, server)
	wantProblem(t, server.Call(http.MethodPost, "/v0/api_webhooks", create), http.StatusConflict, "too_many_webhooks", "")
	wantUnchanged(t, server, before)

	partner := server.As(server.Call(http.MethodPost, "/v0/api_keys", []byte(`{"tenant": "default", "name": "x"}`)).Must(201).Text("key"))
	partner.Call(http.MethodGet, "/v0/api_webhooks", nil).Must(http.StatusOK)
	refused := partner.Call(http.MethodGet, "/v0/api_webhooks", nil)
	wantProblem(t, refused, http.StatusTooManyRequests, "too_many_requests", "")
	if seconds, err := strconv.Atoi(refused.Header.Get("Retry-After")); err != nil || seconds < 90 || seconds > 100 {
		t.Errorf("got Retry-After %q, want what is left of 100 seconds", refused.Header.Get("Retry-After"))
	}
	server.Call(http.MethodGet, "/v0/api_webhooks", nil).Must(http.StatusOK) // the operator's key has no limit
}

func TestErrors_AWebhookCannotPointInside(t *testing.T) {
	server := e2e.StartGuarded(t, t.TempDir())
	own := server.URL + "/v0/events"
	forbidden := maps.Clone(forbidden)
	forbidden["blocked_address"] = append(slices.Clone(forbidden["blocked_address"]), own)
	// It is switched off: nothing is to go out to the public address.
	id := server.Call(http.MethodPost, "/v0/api_webhooks",
		[]byte(`{"url": "https://partner.example/hooks", "events": ["*"], "active": false}`)).Must(http.StatusCreated).Text("id")
	for _, accepted := range []string{"http://93.184.216.34:8080/", "https://[2606:4700::1111]/", "https://bücher.example/"} {
		server.Call(http.MethodPatch, "/v0/api_webhooks/"+id, []byte(`{"url": `+quote(t, accepted)+`}`)).Must(http.StatusOK)
	}
	before := dump(t, server)
	for _, code := range slices.Sorted(maps.Keys(forbidden)) {
		for _, url := range forbidden[code] {
			t.Run(strconv.QuoteToASCII(url[:min(len(url), 60)]), func(t *testing.T) {
				field := `"url": ` + quote(t, url)
				created := server.Call(http.MethodPost, "/v0/api_webhooks", []byte(`{`+field+`, "events": ["*"]}`))
				wantProblem(t, created, http.StatusUnprocessableEntity, code, "url")
				changed := server.Call(http.MethodPatch, "/v0/api_webhooks/"+id, []byte(`{`+field+`}`))
				wantProblem(t, changed, http.StatusUnprocessableEntity, code, "url")
				if string(created.Body) != string(changed.Body) {
					t.Errorf("got %s for a creation and %s for a change", created.Body, changed.Body)
				}
			})
		}
	}
	wantUnchanged(t, server, before)
}

func quote(t *testing.T, text string) string {
	t.Helper()
	quoted, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(quoted)
}
