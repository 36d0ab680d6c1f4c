package api_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"postrider"
	"postrider/internal/api"
)

// Every way to get a request's body wrong has one row.
func TestBody_WhatIsWrongIsSaidByCodeAndField(t *testing.T) {
	const hooks, events, batch, keys = "POST /v0/api_webhooks", "POST /v0/events", "POST /v0/events/batch", "POST /v0/api_keys"
	for _, row := range []struct {
		name, route, body string
		status            int
		code              string
		fields            []string
	}{
		{"no body", hooks, "", 400, "body_required", nil},
		{"blanks", hooks, " \n", 400, "malformed_json", nil},
		{"not JSON", hooks, "url=x", 400, "malformed_json", nil},
		{"cut off", hooks, `{"url": "https://a.example/`, 400, "malformed_json", []string{"url"}},
		{"name twice", hooks, `{"url": "https://a.example/", "url": "https://b.example/"}`, 400, "duplicate_field", []string{"url"}},
		{"inner name twice", hooks, `{"headers": {"A": "1", "A": "2"}}`, 400, "duplicate_field", []string{"headers.A"}},
		{"unknown name", hooks, `{"url": "https://a.example/", "colour": 1}`, 400, "unknown_field", []string{"colour"}},
		{"other case", hooks, `{"url": "https://good.example/", "Url": "https://evil.example/"}`, 400, "unknown_field", []string{"Url"}},
		{"trailing value", hooks, `{"url": "https://a.example/"} {}`, 400, "trailing_data", nil},
		{"trailing text", hooks, `{"url": "https://a.example/"}x`, 400, "trailing_data", nil},
		{"not UTF-8", hooks, "{\"url\": \"https://a.example/\xff\"}", 400, "invalid_utf8", nil},
		{"byte order mark", hooks, "\ufeff{}", 400, "malformed_json", nil},
		{"half a pair", hooks, `{"description": "\ud800"}`, 400, "malformed_json", []string{"description"}},
		{"an array", hooks, `[]`, 422, "invalid_type", nil},
		{"null", hooks, `null`, 422, "invalid", []string{"url", "events"}},
		{"number for text", hooks, `{"url": 5}`, 422, "invalid_type", []string{"url"}},
		{"text for number", hooks, `{"timeout_seconds": "5"}`, 422, "invalid_type", []string{"timeout_seconds"}},
		{"number in the list", hooks, `{"events": ["a", 5]}`, 422, "invalid_type", []string{"events[1]"}},
		{"nothing required", hooks, `{}`, 422, "invalid", []string{"url", "events"}},
		{"no name", keys, `{"tenant": "acme"}`, 422, "required", []string{"name"}},

		{"no body", events, "", 400, "body_required", nil},
		{"blanks", events, " ", 400, "malformed_json", nil},
		{"not JSON", events, "payload", 400, "malformed_json", nil},
		{"cut off", events, `{"event": "a", "payload": {"b": [1`, 400, "malformed_json", []string{"payload.b"}},
		{"cut after the name", events, `{"event"`, 400, "malformed_json", []string{"event"}},
		{"no colon", events, `{"event" "a"}`, 400, "malformed_json", []string{"event"}},
		{"comma at the end", events, `{"event": "a", "payload": 1,}`, 400, "malformed_json", nil},
		{"name twice", events, `{"event": "a", "payload": 1, "event": "b"}`, 400, "duplicate_field", []string{"event"}},
		{"payload twice", events, `{"event": "a", "payload": 1, "payload": 2}`, 400, "duplicate_field", []string{"payload"}},
		{"twice by an escape", events, `{"tenant": "a", "ten\u0061nt": "b"}`, 400, "duplicate_field", []string{"tenant"}},
		{"unknown name", events, `{"event": "a", "payload": 1, "colour": 1}`, 400, "unknown_field", []string{"colour"}},
		{"other case", events, `{"event": "a", "payload": 1, "Tenant": "*"}`, 400, "unknown_field", []string{"Tenant"}},
		{"trailing value", events, `{"event": "a", "payload": 1}{}`, 400, "trailing_data", nil},
		{"not UTF-8", events, "{\"event\": \"a\", \"payload\": \"\xff\"}", 400, "invalid_utf8", nil},
		{"half a character", events, "{\"event\": \"a\", \"payload\": \"\xe2\x82\"}", 400, "invalid_utf8", nil},
		{"byte order mark", events, "\ufeff{\"event\": \"a\", \"payload\": 1}", 400, "malformed_json", nil},
		{"mark before the payload", events, "{\"event\": \"a\", \"payload\": \ufeff1}", 400, "malformed_json", []string{"payload"}},
		{"too deep", events, `{"event": "a", "payload": ` + strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001) + `}`, 400, "malformed_json", []string{"payload[0][0][0][0][0][0][0]…"}},
		{"endless name", events, `{"` + strings.Repeat("x", 1000) + `": 1}`, 400, "unknown_field", []string{strings.Repeat("x", 300) + "…"}},
		{"an array", events, `[]`, 422, "invalid_type", nil},
		{"number for text", events, `{"event": 5, "payload": 1}`, 422, "invalid_type", []string{"event"}},
		{"object for text", events, `{"event": "a", "payload": 1, "tenant": {}}`, 422, "invalid_type", []string{"tenant"}},
		{"no event", events, `{"payload": 1}`, 422, "required", []string{"event"}},
		{"null event", events, `{"event": null, "payload": 1}`, 422, "required", []string{"event"}},
		{"nothing", events, `{}`, 422, "invalid", []string{"event", "payload"}},
		{"no time", events, `{"event": "a", "payload": 1, "occurred_at": "yesterday"}`, 422, "invalid_time", []string{"occurred_at"}},

		{"no body", batch, "", 400, "body_required", nil},
		{"blanks", batch, " ", 400, "malformed_json", nil},
		{"not an array", batch, `{"event": "a", "payload": 1}`, 422, "invalid_type", nil},
		{"empty", batch, `[]`, 422, "empty_batch", nil},
		{"not of objects", batch, `[{"event": "a", "payload": 1}, 5]`, 422, "invalid_type", []string{"[1]"}},
		{"fault inside", batch, `[{"event": "a", "payload": 1}, {"event": "a"}]`, 422, "required", []string{"[1].payload"}},
		{"unknown name inside", batch, `[{"event": "a", "payload": 1, "colour": 1}]`, 400, "unknown_field", []string{"[0].colour"}},
		{"name twice inside", batch, `[{"event": "a", "event": "a"}]`, 400, "duplicate_field", []string{"[0].event"}},
		{"cut off", batch, `[{"event": "a", "payload": [1,`, 400, "malformed_json", []string{"[0].payload"}},
		{"no end", batch, `[{"event": "a", "payload": 1}`, 400, "malformed_json", nil},
		{"trailing value", batch, `[{"event": "a", "payload": 1}] []`, 400, "trailing_data", nil},
		{"not UTF-8", batch, "[\"\xff\"]", 400, "invalid_utf8", nil},
		{"too many", batch, `[` + strings.Repeat(`{"event": "a", "payload": 1},`, 1000) + `{"event": "a", "payload": 1}]`, 422, "too_many_events", nil},

		{"not JSON", "POST /v0/api_webhooks/ping", "hello", 400, "malformed_json", nil},
		{"trailing value", "POST /v0/api_webhooks/ping", "{} {}", 400, "trailing_data", nil},
		{"not UTF-8", "POST /v0/api_webhooks/ping", "\"\xff\"", 400, "invalid_utf8", nil},
		{"schema with a name twice", "PUT /v0/api_webhooks/events/a.b", `{"schema": {"type": 1, "type": 2}}`, 400, "duplicate_field", []string{"schema.type"}},
	} {
		t.Run(row.route+" "+row.name, func(t *testing.T) {
			c := newClient(t)
			method, path, _ := strings.Cut(row.route, " ")
			c.do("operator", method, path, row.body).wantCode(row.status, row.code, row.fields...)
			if len(c.webhooks)+len(c.published)+len(c.pings)+len(c.types) > 0 {
				t.Error("a request that was refused had an effect")
			}
		})
	}
}

func TestBatch_LinesNameTheEventAtFault(t *testing.T) {
	const good = `{"event": "a", "payload": {"x": 1}}`
	for _, row := range []struct {
		name, body string
		status     int
		code       string
		fields     []string
	}{
		{"fault inside", good + "\n\n" + `{"event": "a"}`, 422, "required", []string{"[1].payload"}},
		{"two on a line", good + good, 400, "trailing_data", []string{"[0]"}},
		{"a value over two lines", "{\"event\": \"a\",\n\"payload\": 1}", 400, "malformed_json", []string{"[0]"}},
		{"broken payload", good + "\n" + `{"event": "a", "payload": {"b": tru}}`, 400, "malformed_json", []string{"[1].payload.b"}},
		{"name twice", good + "\n" + `{"event": "a", "event": "b"}`, 400, "duplicate_field", []string{"[1].event"}},
		{"an array", "[" + good + "]", 422, "invalid_type", []string{"[0]"}},
		{"only blank lines", "\n \r\n", 422, "empty_batch", nil},
		{"too many", strings.Repeat(good+"\n", 1001), 422, "too_many_events", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := newClient(t)
			c.do("operator", "POST", "/v0/events/batch", row.body, "Content-Type", "application/x-ndjson").
				wantCode(row.status, row.code, row.fields...)
		})
	}
}

func TestBody_MediaTypes(t *testing.T) {
	for _, row := range []struct {
		route, mediaType string
		status           int
	}{
		{"POST /v0/events", "application/json", 202},
		{"POST /v0/events", "application/json; charset=UTF-8", 202},
		{"POST /v0/events", "Application/JSON", 202},
		{"POST /v0/events", "application/json; charset=latin1", 415},
		{"POST /v0/events", "application/x-www-form-urlencoded", 415},
		{"POST /v0/events", "application/x-ndjson", 415},
		{"POST /v0/events", "text/plain", 415},
		{"POST /v0/events", "nonsense", 415},
		{"POST /v0/events/batch", "application/x-ndjson", 202},
		{"POST /v0/events/batch", "text/plain", 415},
		{"POST /v0/api_webhooks/ping", "application/x-www-form-urlencoded", 415},
		{"POST /v0/api_webhooks/ping", "application/merge-patch+json", 415},
	} {
		method, path, _ := strings.Cut(row.route, " ")
		c := newClient(t)
		a := c.do("operator", method, path, `{"event": "a", "payload": 1}`, "Content-Type", row.mediaType)
		if a.Code != row.status {
			t.Errorf("%s as %s: got status %d, want %d: %s", row.route, row.mediaType, a.Code, row.status, a.Body)
		}
	}
	c := newClient(t)
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/v0/events", strings.NewReader(`{"event": "a", "payload": 1}`))
	r.Header.Set("X-Api-Key", "operator")
	w := httptest.NewRecorder()
	if c.api.ServeHTTP(w, r); w.Code != http.StatusAccepted {
		t.Errorf("without a media type: got status %d, want it to be taken as JSON", w.Code)
	}
}

func TestBody_LimitsHold(t *testing.T) {
	limits := func(o *api.Options) { o.PayloadLimit, o.BatchLimit = 1000, 5000 }
	for _, row := range []struct {
		route string
		limit int
	}{
		{"POST /v0/events", 1000 + 64<<10},
		{"POST /v0/events/batch", 5000},
		{"POST /v0/api_webhooks/ping", 1000},
		{"POST /v0/api_webhooks", 256 << 10},
	} {
		method, path, _ := strings.Cut(row.route, " ")
		for _, chunked := range []bool{false, true} {
			for over, want := range map[int]bool{0: false, 1: true} {
				c := newClient(t, limits)
				body := bytes.Repeat([]byte(" "), row.limit+over)
				r := httptest.NewRequestWithContext(t.Context(), method, path, bytes.NewReader(body))
				r.Header.Set("X-Api-Key", "operator")
				if chunked {
					r.ContentLength = -1
				}
				a := &answer{httptest.NewRecorder(), t}
				c.api.ServeHTTP(a, r)
				if got := a.problem().Code == "body_too_large"; got != want {
					t.Errorf("%s with %d bytes over its limit (chunked: %v): got %d %s", row.route, over, chunked, a.Code, a.problem().Code)
				}
			}
		}
	}
}

// A body of more than was announced to be believed is read to its end.
func TestBody_LargeOnesAreReadWhole(t *testing.T) {
	c := newClient(t)
	payload := `"` + strings.Repeat("ü", 3<<20) + `"`
	c.do("operator", "POST", "/v0/events/batch", `[{"event": "a", "payload": `+payload+`}]`).want(202)
	if got := string(c.published[0][0].Payload); got != payload {
		t.Errorf("got %d bytes, want the %d that were sent", len(got), len(payload))
	}
}

type slowBody struct{}

func (slowBody) Error() string            { return "i/o timeout" }
func (slowBody) Timeout() bool            { return true }
func (slowBody) Temporary() bool          { return true }
func (slowBody) Read([]byte) (int, error) { return 0, slowBody{} }

func TestBody_ThatDoesNotArriveIsNoFaultOfOurs(t *testing.T) {
	for code, r := range map[string]*http.Request{
		"body_timeout":    httptest.NewRequestWithContext(t.Context(), "POST", "/v0/events", slowBody{}),
		"body_incomplete": httptest.NewRequestWithContext(t.Context(), "POST", "/v0/events", iotest.ErrReader(errors.New("unexpected EOF"))),
	} {
		c := newClient(t)
		r.Header.Set("X-Api-Key", "operator")
		a := &answer{httptest.NewRecorder(), t}
		c.api.ServeHTTP(a, r)
		a.wantCode(400, code)
		if c.logs.Len() > 0 {
			t.Errorf("got a line in the log: %s", c.logs)
		}
	}
}

// Errors that are not the caller's are logged and not shown; those that are get
// the status of their kind.
func TestProblem_OfEachKind(t *testing.T) {
	const body = `{"event": "a", "payload": "canary-payload"}`
	for _, row := range []struct {
		err        error
		status     int
		code       string
		retryAfter string
	}{
		{&postrider.Error{Kind: postrider.Invalid, Code: "invalid_event", Detail: "No."}, 422, "invalid_event", ""},
		{&postrider.Error{Kind: postrider.Conflict, Code: "event_id_taken", Detail: "No."}, 409, "event_id_taken", ""},
		{&postrider.Error{Kind: postrider.TooLarge, Code: "payload_too_large", Detail: "No."}, 413, "payload_too_large", ""},
		{&postrider.Error{Kind: postrider.Unavailable, Code: "store_unavailable", Detail: "No."}, 503, "store_unavailable", "2"},
		{&postrider.Error{Kind: postrider.Unavailable, Code: "store_unavailable", Detail: "No.", RetryAfter: 1500e6}, 503, "store_unavailable", "2"},
		{&postrider.Error{Kind: postrider.StorageFull, Code: "storage_full", Detail: "No."}, 507, "storage_full", "60"},
		{errors.New("canary-secret: the disk is on fire"), 500, "internal", ""},
	} {
		for _, path := range []string{"/v0/events", "/v0/events/batch"} {
			c := newClient(t)
			c.fail = row.err
			sent := body
			if path == "/v0/events/batch" {
				sent = "[" + body + "]"
			}
			a := c.do("operator", "POST", path, sent)
			a.wantCode(row.status, row.code)
			if got := a.Header().Get("Retry-After"); got != row.retryAfter {
				t.Errorf("%v: got Retry-After %q, want %q", row.err, got, row.retryAfter)
			}
			if strings.Contains(a.Body.String(), "canary") || strings.Contains(c.logs.String(), "canary-payload") {
				t.Errorf("the answer or the log says too much: %s%s", a.Body, c.logs)
			}
			if got := strings.Contains(c.logs.String(), "the disk is on fire"); got != (row.status == 500) {
				t.Errorf("%v: got the log %q", row.err, c.logs)
			}
		}
	}
	c := newClient(t)
	c.fail = errors.New("the disk is on fire")
	c.do("acme", "GET", "/v0/api_webhooks/logs", "").wantCode(500, "internal")
	if !strings.Contains(c.logs.String(), "the disk is on fire") {
		t.Errorf("got the log %q, want the error in it", c.logs)
	}
}

type panicking struct{ *world }

func (panicking) Webhooks(string, postrider.ID, int) ([]postrider.Webhook, bool) { panic("a bug") }

func TestPanic_IsAnInternalError(t *testing.T) {
	c := newClient(t, func(o *api.Options) { o.Webhooks = panicking{o.Webhooks.(*world)} })
	c.do("acme", "GET", "/v0/api_webhooks", "").wantCode(500, "internal")
	if !strings.Contains(c.logs.String(), "a bug") || !strings.Contains(c.logs.String(), "strict_test.go") {
		t.Errorf("got the log %q, want the cause and the stack in it", c.logs)
	}
}

func TestRoutes_ThatDoNotExist(t *testing.T) {
	c := newClient(t)
	c.do("", "GET", "/v0/nothing", "").wantCode(404, "no_such_route")
	c.do("", "GET", "/", "").wantCode(404, "no_such_route")
	c.do("", "GET", "/v0/api_webhooks/x/nothing", "").wantCode(404, "no_such_route")
	c.do("", "POST", "/v0/api_webhooks/x/nothing", "").wantCode(404, "no_such_route")
	for route, allow := range map[string]string{
		"PUT /v0/api_webhooks":             "GET, HEAD, POST",
		"PUT /v0/api_webhooks/x":           "GET, HEAD, PATCH, DELETE",
		"GET /v0/events":                   "POST",
		"DELETE /v0/api_webhooks/x/logs":   "GET, HEAD",
		"OPTIONS /v0/tenants":              "GET, HEAD, POST",
		"POST /v0/api_webhooks/events/a.b": "GET, HEAD, PUT, DELETE",
	} {
		method, path, _ := strings.Cut(route, " ")
		a := c.do("", method, path, "")
		a.wantCode(405, "method_not_allowed")
		if got := a.Header().Get("Allow"); got != allow {
			t.Errorf("%s: got Allow %q, want %q", route, got, allow)
		}
	}
}

func TestQuery_IsStrict(t *testing.T) {
	c := newClient(t)
	for _, row := range []struct{ path, code, field string }{
		{"/v0/api_webhooks?limit=0", "invalid_parameter", "limit"},
		{"/v0/api_webhooks?limit=101", "invalid_parameter", "limit"},
		{"/v0/api_webhooks?limit=1e9", "invalid_parameter", "limit"},
		{"/v0/api_webhooks?limit=-1", "invalid_parameter", "limit"},
		{"/v0/api_webhooks?offset=3", "unknown_parameter", "offset"},
		{"/v0/api_webhooks/logs?status=perhaps", "invalid_parameter", "status"},
		{"/v0/api_webhooks/logs?code_class=200", "invalid_parameter", "code_class"},
		{"/v0/api_webhooks/logs?error_code=x", "invalid_parameter", "error_code"},
		{"/v0/api_webhooks/logs?from=yesterday", "invalid_parameter", "from"},
		{"/v0/api_webhooks/logs?webhook_id=1", "invalid_parameter", "webhook_id"},
	} {
		c.do("acme", "GET", row.path, "").wantCode(422, row.code, row.field)
	}
	c.do("acme", "GET", "/v0/api_webhooks/logs?status=perhaps&limit=0", "").wantCode(422, "invalid", "limit", "status")
	c.do("operator", "POST", "/v0/events?tenant=acme", `{"event": "a", "payload": 1}`).wantCode(422, "unknown_parameter")
	for limit, want := range map[string]int{"": 30, "limit=1": 1, "limit=100": 100} {
		c.do("acme", "GET", "/v0/api_webhooks/logs?"+limit, "").want(200)
		if got := c.filters[len(c.filters)-1].Limit; got != want {
			t.Errorf("%q: got a limit of %d, want %d", limit, got, want)
		}
	}
}
