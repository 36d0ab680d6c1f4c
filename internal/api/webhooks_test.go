package api_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postrider"
)

func TestWebhook_IsShownFlatAndWithoutItsSecret(t *testing.T) {
	c := newClient(t)
	made := c.do("acme", "POST", "/v0/api_webhooks", `{
		"url": "https://a.example/x?y=1", "content_type": "application/x-www-form-urlencoded", "secret": "canary-secret",
		"events": ["a.b", "c.*"], "active": false, "description": "Für später", "insecure_ssl": true,
		"headers": {"X-Env": "prod", "Authorization": "Bearer canary", "x-my-TOKEN": "canary"},
		"timeout_seconds": 2.5, "retry_schedule": [0, 1.5, 3600], "max_in_flight": 4, "rate_limit": 0.5, "ordered": true
	}`).want(201)
	shown := made.object()
	id, _ := shown["id"].(string)
	want := map[string]any{
		"id": id, "tenant": "acme", "url": "https://a.example/x?y=1", "content_type": "application/x-www-form-urlencoded",
		"events": []any{"a.b", "c.*"}, "active": false, "description": "Für später", "insecure_ssl": true,
		"headers":         map[string]any{"X-Env": "prod", "Authorization": "[redacted]", "x-my-TOKEN": "[redacted]"},
		"timeout_seconds": 2.5, "retry_schedule": []any{0.0, 1.5, 3600.0}, "has_secret": true,
		"max_in_flight": 4.0, "rate_limit": 0.5, "ordered": true,
		"status": "inactive", "disabled_reason": nil, "failing_since": nil, "last_attempt": nil,
		"previous_secret_expires_at": nil,
		"created_at":                 "2026-03-14T15:09:26.535Z", "updated_at": "2026-03-14T15:09:26.535Z",
	}
	if diff := cmp.Diff(want, shown); diff != "" {
		t.Error(diff)
	}
	stored := c.webhooks[0]
	if stored.Secret != "canary-secret" || stored.Headers["Authorization"] != "Bearer canary" || stored.Timeout != 2500*time.Millisecond ||
		!slices.Equal(stored.RetrySchedule, []time.Duration{0, 1500 * time.Millisecond, time.Hour}) {
		t.Errorf("got stored %+v", stored)
	}
	attempt := c.attempt(stored)
	c.webhooks[0].Disabled = &postrider.Disabled{Code: "gone", Reason: "The receiver answered 410."}
	c.webhooks[0].Failing = postrider.Failing{Since: epoch.Add(-time.Hour), Warned: 50}
	got := c.do("acme", "GET", "/v0/api_webhooks/"+id, "").want(200)
	want["status"], want["disabled_reason"] = "disabled", "The receiver answered 410."
	want["failing_since"] = "2026-03-14T14:09:26.535Z"
	want["last_attempt"] = map[string]any{
		"id": attempt.ID.String(), "at": "2026-03-14T15:09:26.535Z", "status": "failure", "status_code": 500.0, "error_code": "http_5xx",
	}
	if diff := cmp.Diff(want, got.object()); diff != "" {
		t.Error(diff)
	}
	list := c.do("acme", "GET", "/v0/api_webhooks", "")
	for _, a := range []*answer{made, got, list} {
		if strings.Contains(a.Body.String(), "canary") {
			t.Errorf("the answer shows a secret: %s", a.Body)
		}
	}
}

func TestWebhook_DefaultsOfACreation(t *testing.T) {
	c := newClient(t)
	for _, body := range []string{
		`{"url": "https://a.example/", "events": ["*"]}`,
		`{"url": "https://a.example/", "events": ["*"], "content_type": null, "secret": null, "active": null, "description": null,
			"headers": null, "timeout_seconds": null, "retry_schedule": null, "max_in_flight": null, "rate_limit": null}`,
	} {
		shown := c.do("acme", "POST", "/v0/api_webhooks", body).want(201).object()
		for field, want := range map[string]any{
			"content_type": "application/json", "active": true, "description": "", "insecure_ssl": false,
			"timeout_seconds": nil, "retry_schedule": nil, "has_secret": false, "status": "active",
			"max_in_flight": nil, "rate_limit": nil, "ordered": false, "failing_since": nil,
		} {
			if shown[field] != want {
				t.Errorf("got %s %v, want %v", field, shown[field], want)
			}
		}
		if stored := c.webhooks[len(c.webhooks)-1]; stored.RetrySchedule != nil || stored.Timeout != 0 || stored.MaxInFlight != 0 || stored.RateLimit != 0 {
			t.Errorf("got stored %+v, want the server's defaults", stored)
		}
	}
	c.do("acme", "POST", "/v0/api_webhooks", `{"url": "https://a.example/", "events": ["*"], "retry_schedule": []}`).want(201)
	if stored := c.webhooks[2]; stored.RetrySchedule == nil || len(stored.RetrySchedule) != 0 {
		t.Errorf("got the schedule %v, want an empty one: no retries", stored.RetrySchedule)
	}
}

func TestWebhook_GeneratedSecretIsShownOnce(t *testing.T) {
	c := newClient(t)
	made := c.do("acme", "POST", "/v0/api_webhooks", `{"url": "https://a.example/", "events": ["*"], "generate_secret": true}`).want(201).object()
	secret, _ := made["secret"].(string)
	if !strings.HasPrefix(secret, "whsec_") || made["has_secret"] != true || string(c.webhooks[0].Secret) != secret {
		t.Errorf("got the secret %q, stored is %q", secret, string(c.webhooks[0].Secret))
	}
	if got := c.do("acme", "GET", "/v0/api_webhooks/"+made["id"].(string), ""); strings.Contains(got.Body.String(), "whsec_") {
		t.Errorf("got it again: %s", got.Body)
	}
}

func TestWebhook_FaultsOfACreation(t *testing.T) {
	for body, want := range map[string]struct {
		code   string
		fields []string
	}{
		`"events": []`:                    {"invalid_events", []string{"events"}},
		`"events": ["*", "Nope", "ping"]`: {"invalid", []string{"events[1]", "events[2]"}},
		`"secret": ""`:                    {"invalid_secret", []string{"secret"}},
		`"secret": "short"`:               {"invalid_secret", []string{"secret"}},
		`"secret": "long enough", "generate_secret": true`: {"conflicting_fields", []string{"generate_secret"}},
		`"timeout_seconds": 0`:                             {"invalid_timeout", []string{"timeout_seconds"}},
		`"timeout_seconds": 30.1`:                          {"invalid_timeout", []string{"timeout_seconds"}},
		`"timeout_seconds": -1e300`:                        {"invalid_timeout", []string{"timeout_seconds"}},
		`"retry_schedule": [1, 1e300]`:                     {"invalid_retry_schedule", []string{"retry_schedule[1]"}},
		`"retry_schedule": [-1]`:                           {"invalid_retry_schedule", []string{"retry_schedule[0]"}},
		`"max_in_flight": 0`:                               {"invalid_max_in_flight", []string{"max_in_flight"}},
		`"max_in_flight": 257`:                             {"invalid_max_in_flight", []string{"max_in_flight"}},
		`"max_in_flight": 1.5`:                             {"invalid_type", []string{"max_in_flight"}},
		`"rate_limit": 0`:                                  {"invalid_rate_limit", []string{"rate_limit"}},
		`"rate_limit": -1`:                                 {"invalid_rate_limit", []string{"rate_limit"}},
		`"rate_limit": 0.0001`:                             {"invalid_rate_limit", []string{"rate_limit"}},
		`"rate_limit": 10001`:                              {"invalid_rate_limit", []string{"rate_limit"}},
		`"headers": {"X-Key": "[redacted]"}`:               {"masked_value", []string{"headers.X-Key"}},
		`"headers": {"Host": "x"}`:                         {"reserved_header", []string{"headers.Host"}},
		`"content_type": "text/plain"`:                     {"invalid_content_type", []string{"content_type"}},
	} {
		c := newClient(t)
		if !strings.HasPrefix(body, `"events"`) {
			body = `"events": ["*"], ` + body
		}
		c.do("acme", "POST", "/v0/api_webhooks", `{"url": "https://a.example/", `+body+`}`).wantCode(422, want.code, want.fields...)
	}
}

func TestPatch_AbsentKeepsAndNullClears(t *testing.T) {
	full := postrider.Webhook{
		URL: "https://a.example/", ContentType: postrider.Form, Secret: "long enough", Events: []string{"a.b"}, Active: true,
		Description: "d", Headers: map[string]string{"X-A": "1", "X-Key": "canary"}, InsecureSSL: true,
		Timeout: 5 * time.Second, RetrySchedule: []time.Duration{time.Second}, MaxInFlight: 3, RateLimit: 7, Ordered: true,
		Previous: []postrider.PreviousSecret{{Secret: "canary", Until: epoch}},
		Paused:   true,
	}
	for name, row := range map[string]struct {
		patch  string
		change func(*postrider.Webhook)
	}{
		"nothing":      {`{}`, func(*postrider.Webhook) {}},
		"documented":   {`{"url": "http://7e9ea9dc.ngrok.io"}`, func(w *postrider.Webhook) { w.URL = "http://7e9ea9dc.ngrok.io" }},
		"events":       {`{"events": ["c"]}`, func(w *postrider.Webhook) { w.Events = []string{"c"} }},
		"type":         {`{"content_type": "application/json"}`, func(w *postrider.Webhook) { w.ContentType = postrider.JSON }},
		"off":          {`{"active": false}`, func(w *postrider.Webhook) { w.Active = false }},
		"secret":       {`{"secret": "another one"}`, func(w *postrider.Webhook) { w.Secret, w.Previous = "another one", nil }},
		"no secret":    {`{"secret": null}`, func(w *postrider.Webhook) { w.Secret, w.Previous = "", nil }},
		"description":  {`{"description": null}`, func(w *postrider.Webhook) { w.Description = "" }},
		"insecure":     {`{"insecure_ssl": null}`, func(w *postrider.Webhook) { w.InsecureSSL = false }},
		"timeout":      {`{"timeout_seconds": 7}`, func(w *postrider.Webhook) { w.Timeout = 7 * time.Second }},
		"no timeout":   {`{"timeout_seconds": null}`, func(w *postrider.Webhook) { w.Timeout = 0 }},
		"schedule":     {`{"retry_schedule": [2]}`, func(w *postrider.Webhook) { w.RetrySchedule = []time.Duration{2 * time.Second} }},
		"no retries":   {`{"retry_schedule": []}`, func(w *postrider.Webhook) { w.RetrySchedule = []time.Duration{} }},
		"no schedule":  {`{"retry_schedule": null}`, func(w *postrider.Webhook) { w.RetrySchedule = nil }},
		"budget":       {`{"max_in_flight": 256}`, func(w *postrider.Webhook) { w.MaxInFlight = 256 }},
		"no budget":    {`{"max_in_flight": null}`, func(w *postrider.Webhook) { w.MaxInFlight = 0 }},
		"rate":         {`{"rate_limit": 0.01}`, func(w *postrider.Webhook) { w.RateLimit = 0.01 }},
		"no rate":      {`{"rate_limit": null}`, func(w *postrider.Webhook) { w.RateLimit = 0 }},
		"unordered":    {`{"ordered": false}`, func(w *postrider.Webhook) { w.Ordered = false }},
		"no order":     {`{"ordered": null}`, func(w *postrider.Webhook) { w.Ordered = false }},
		"one header":   {`{"headers": {"X-B": "2"}}`, func(w *postrider.Webhook) { w.Headers["X-B"] = "2" }},
		"header again": {`{"headers": {"x-a": "2"}}`, func(w *postrider.Webhook) { delete(w.Headers, "X-A"); w.Headers["x-a"] = "2" }},
		"header gone":  {`{"headers": {"x-a": null}}`, func(w *postrider.Webhook) { delete(w.Headers, "X-A") }},
		"no headers":   {`{"headers": null}`, func(w *postrider.Webhook) { w.Headers = nil }},
		"no change":    {`{"headers": {}}`, func(*postrider.Webhook) {}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, mediaType := range []string{"application/json", "application/merge-patch+json"} {
				c := newClient(t)
				before := c.webhook(t, "acme")
				was := full
				was.ID, was.Tenant, was.CreatedAt, was.UpdatedAt, was.Headers = before.ID, before.Tenant, before.CreatedAt, before.UpdatedAt, maps.Clone(full.Headers)
				c.webhooks[0] = was
				want := was
				want.Headers = maps.Clone(was.Headers)
				row.change(&want)
				a := c.do("acme", "PATCH", "/v0/api_webhooks/"+was.ID.String(), row.patch, "Content-Type", mediaType).want(200)
				if diff := cmp.Diff(want, c.webhooks[0]); diff != "" {
					t.Error(diff)
				}
				if !maps.Equal(was.Headers, full.Headers) {
					t.Error("the map of the webhook before was changed")
				}
				if strings.Contains(a.Body.String(), "canary") {
					t.Errorf("the answer shows a credential: %s", a.Body)
				}
			}
		})
	}
}

func TestPatch_Faults(t *testing.T) {
	for patch, want := range map[string]struct {
		status int
		code   string
		fields []string
	}{
		`{"url": null}`:                            {422, "required", []string{"url"}},
		`{"events": null}`:                         {422, "required", []string{"events"}},
		`{"content_type": null}`:                   {422, "required", []string{"content_type"}},
		`{"active": null}`:                         {422, "required", []string{"active"}},
		`{"events": []}`:                           {422, "invalid_events", []string{"events"}},
		`{"secret": ""}`:                           {422, "invalid_secret", []string{"secret"}},
		`{"timeout_seconds": 0}`:                   {422, "invalid_timeout", []string{"timeout_seconds"}},
		`{"max_in_flight": 0}`:                     {422, "invalid_max_in_flight", []string{"max_in_flight"}},
		`{"rate_limit": 0}`:                        {422, "invalid_rate_limit", []string{"rate_limit"}},
		`{"ordered": 1}`:                           {422, "invalid_type", []string{"ordered"}},
		`{"paused": false}`:                        {400, "unknown_field", []string{"paused"}},
		`{"headers": {"X-Key": "[redacted]"}}`:     {422, "masked_value", []string{"headers.X-Key"}},
		`{"headers": {"X-A": 5}}`:                  {422, "invalid_type", []string{"headers.X-A"}},
		`{"id": "x"}`:                              {400, "unknown_field", []string{"id"}},
		`{"tenant": "globex"}`:                     {400, "unknown_field", []string{"tenant"}},
		`{"has_secret": false}`:                    {400, "unknown_field", []string{"has_secret"}},
		`{"generate_secret": true}`:                {400, "unknown_field", []string{"generate_secret"}},
		`{"url": "http://a/", "url": "http://b/"}`: {400, "duplicate_field", []string{"url"}},
	} {
		c := newClient(t)
		hook := c.webhook(t, "acme")
		c.do("acme", "PATCH", "/v0/api_webhooks/"+hook.ID.String(), patch).wantCode(want.status, want.code, want.fields...)
		if diff := cmp.Diff(hook, c.webhooks[0]); diff != "" {
			t.Errorf("%s: changed the webhook: %s", patch, diff)
		}
	}
}

func TestPatch_ActiveEnablesAWebhookThatTheSystemDisabled(t *testing.T) {
	c := newClient(t)
	hook := c.webhook(t, "acme")
	c.webhooks[0].Disabled = &postrider.Disabled{Code: "gone", Reason: "410"}
	c.do("acme", "PATCH", "/v0/api_webhooks/"+hook.ID.String(), `{"description": "x"}`).want(200)
	if c.webhooks[0].Disabled == nil {
		t.Error("another change enabled it")
	}
	if got := c.do("acme", "PATCH", "/v0/api_webhooks/"+hook.ID.String(), `{"active": true}`).want(200).object()["status"]; got != "active" {
		t.Errorf("got the status %v, want active", got)
	}
}

// The operator's switch and the partner's do not move each other.
func TestPause_HoldsAWebhookWhateverItsPartnerSays(t *testing.T) {
	c := newClient(t)
	path := "/v0/api_webhooks/" + c.webhook(t, "acme").ID.String()
	for _, row := range []struct {
		key, method, path, body, status string
	}{
		{"operator", "POST", path + "/pause?tenant=acme", "", "paused"},
		{"operator", "POST", path + "/pause?tenant=acme", "", "paused"},
		{"acme", "PATCH", path, `{"active": false}`, "inactive"},
		{"acme", "PATCH", path, `{"active": true}`, "paused"},
		{"acme", "GET", path, "", "paused"},
		{"operator", "POST", path + "/resume?tenant=acme", "", "active"},
		{"operator", "POST", path + "/resume?tenant=acme", "", "active"},
	} {
		if got := c.do(row.key, row.method, row.path, row.body).want(200).object()["status"]; got != row.status {
			t.Errorf("%s %s: got the status %v, want %s", row.method, row.path, got, row.status)
		}
	}
	c.webhooks[0].TenantPaused = true
	if got := c.do("acme", "GET", path, "").want(200).object()["status"]; got != "paused" {
		t.Errorf("got the status %v of a webhook of a paused tenant", got)
	}
}

func TestPing_CarriesTheBytesOfTheBody(t *testing.T) {
	c := newClient(t)
	hook := c.webhook(t, "acme")
	c.webhook(t, "globex")
	for _, body := range payloads {
		for _, path := range []string{"/v0/api_webhooks/ping", "/v0/api_webhooks/" + hook.ID.String() + "/ping"} {
			a := c.do("acme", "POST", path, body).want(202)
			if got, want := strings.TrimSpace(a.Body.String()), `{"data":[{"webhook_id":"`+hook.ID.String()+`","event_id":"ping_1"}]}`; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			if got := string(c.pings[len(c.pings)-1]); got != body {
				t.Errorf("got the payload %q, want %q", got, body)
			}
		}
	}
	c.do("acme", "POST", "/v0/api_webhooks/ping", "").want(202)
	if got := c.pings[len(c.pings)-1]; got != nil {
		t.Errorf("got the payload %q, want none", got)
	}
	if got := c.do("default", "POST", "/v0/api_webhooks/ping", "").want(202).Body.String(); got != "{\"data\":[]}\n" {
		t.Errorf("got %s, want an empty list", got)
	}
	c.webhooks[0].Active = false
	c.do("acme", "POST", "/v0/api_webhooks/"+hook.ID.String()+"/ping", "").wantCode(409, "webhook_inactive")
}

func TestLogs_Entry(t *testing.T) {
	c := newClient(t)
	hook := c.webhook(t, "acme")
	attempt := c.attempt(hook)
	entry := map[string]any{
		"id": attempt.ID.String(), "event_id": "evt_1", "event": "room_status.updated", "webhook_id": hook.ID.String(),
		"attempt": 2.0, "trigger": "retry", "at": "2026-03-14T15:09:26.535Z", "url": hook.URL, "status": "failure",
		"status_code": 500.0, "error_code": "http_5xx", "error": "The receiver answered 500.", "duration": 48.215,
		"next_attempt_at": "2026-03-14T15:10:26.535Z", "remote_ip": "203.0.113.7",
		"timings": map[string]any{"dns": 0.0, "connect": 1.5, "tls": 0.0, "first_byte": 0.0, "total": 48.215},
	}
	list := c.do("acme", "GET", "/v0/api_webhooks/logs", "").want(200).object()
	if diff := cmp.Diff([]any{entry}, list["data"]); diff != "" {
		t.Error(diff)
	}
	entry["request"] = map[string]any{"headers": map[string]any{"webhook-id": "evt_1"}, "body": `{"a": 1}`}
	entry["response"] = map[string]any{"headers": map[string]any{"X-Two": "a, b"}, "body": "/wA=", "truncated": false, "encoding": "base64"}
	path := "/v0/api_webhooks/logs/" + attempt.ID.String()
	if diff := cmp.Diff(entry, c.do("acme", "GET", path, "").want(200).object()); diff != "" {
		t.Error(diff)
	}
	if got := c.do("acme", "POST", path+"/redeliver", "").want(202).object(); got["event_id"] != "evt_1" || got["webhook_id"] != hook.ID.String() {
		t.Errorf("got %v", got)
	}
	attempt = postrider.Attempt{ID: attempt.ID, Tenant: "acme", Status: postrider.AttemptSuccess, At: epoch}
	c.attempts[0] = attempt
	got := c.do("acme", "GET", path, "").want(200).object()
	for _, field := range []string{"status_code", "error_code", "error", "next_attempt_at", "remote_ip"} {
		if value, found := got[field]; !found || value != nil {
			t.Errorf("got %s %v, want null", field, value)
		}
	}
}

func TestLogs_ResponseBodies(t *testing.T) {
	c := newClient(t)
	attempt := c.attempt(c.webhook(t, "acme"))
	for _, row := range []struct {
		body     string
		cut      bool
		want     string
		encoding string
	}{
		{"", false, "", "utf-8"},
		{"grüß", false, "grüß", "utf-8"},
		{"a\x00<b>\u2028", false, "a\x00<b>\u2028", "utf-8"},
		{"gr\xc3", false, "Z3LD", "base64"},
		{"gr\xc3", true, "gr", "utf-8"},
		{"\xf0\x9f\x98", true, "", "utf-8"},
		{"a\xffb", true, "Yf9i", "base64"},
	} {
		c.attempts[0].Outcome.Response = postrider.Response{Body: []byte(row.body), Truncated: row.cut}
		var got struct {
			Response struct{ Body, Encoding string }
		}
		c.do("acme", "GET", "/v0/api_webhooks/logs/"+attempt.ID.String(), "").want(200).decode(&got)
		if got.Response.Body != row.want || got.Response.Encoding != row.encoding {
			t.Errorf("%q (cut: %v): got %q in %s, want %q in %s", row.body, row.cut, got.Response.Body, got.Response.Encoding, row.want, row.encoding)
		}
	}
	// What a receiver puts into a header need not be UTF-8.
	c.attempts[0].Outcome.Response.Header = postrider.Header{{Name: "X-Odd", Value: "a\xffb"}}
	c.do("acme", "GET", "/v0/api_webhooks/logs/"+attempt.ID.String(), "").want(200)
}

func TestLogs_Filters(t *testing.T) {
	c := newClient(t)
	hook := c.webhook(t, "acme")
	c.do("acme", "GET", "/v0/api_webhooks/logs?webhook_id="+hook.ID.String()+"&event=ping&event_id=evt_1&status=failure&code_class=5xx&error_code=dns"+
		"&from=2026-03-14T00:00:00Z&to=2026-03-15T00:00:00%2B01:00&limit=5", "").want(200)
	want := postrider.AttemptFilter{
		Tenant: "acme", WebhookID: hook.ID, EventType: "ping", EventID: "evt_1", Status: "failure", CodeClass: 5, Failure: "dns",
		From: time.Date(2026, 3, 14, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 3, 14, 23, 0, 0, 0, time.UTC), Limit: 5,
	}
	if diff := cmp.Diff(want, c.filters[0]); diff != "" {
		t.Error(diff)
	}
}

// A deleted webhook keeps its logs; one that never was has none to list.
func TestLogs_OfADeletedWebhook(t *testing.T) {
	c := newClient(t)
	hook := c.webhook(t, "acme")
	path := "/v0/api_webhooks/" + hook.ID.String() + "/logs"
	if got := c.pages("acme", path); len(got) != 0 {
		t.Errorf("got the logs %v, want none", got)
	}
	c.attempt(hook)
	c.do("acme", "DELETE", "/v0/api_webhooks/"+hook.ID.String(), "").want(204)
	if got := c.pages("acme", path); len(got) != 1 {
		t.Errorf("got the logs %v, want one", got)
	}
	c.attempts = nil
	c.do("acme", "GET", path, "").wantCode(404, "not_found")
}

func TestCatalogue_KeepsValuesAsTheyAre(t *testing.T) {
	c := newClient(t)
	const body = `{"description": "d", "notes": "*n*", "schema": {"type": "object", "maximum": 12345678901234567890}, "example": {"b":1.0,"a":[1]}, "deprecated": true}`
	c.do("operator", "PUT", "/v0/api_webhooks/events/a.b", body).want(201)
	a := c.do("operator", "PUT", "/v0/api_webhooks/events/a.b", body).want(200)
	if got, want := string(c.types["a.b"].Schema), `{"type": "object", "maximum": 12345678901234567890}`; got != want {
		t.Errorf("got stored %s, want %s", got, want)
	}
	var got struct{ Schema, Example json.RawMessage }
	a.decode(&got)
	if string(got.Schema) != `{"type":"object","maximum":12345678901234567890}` || string(got.Example) != `{"b":1.0,"a":[1]}` {
		t.Errorf("got %s", a.Body)
	}
	c.do("operator", "PUT", "/v0/api_webhooks/events/a.b", `{"schema": null}`).want(200)
	if shown := c.do("acme", "GET", "/v0/api_webhooks/events/a.b", "").want(200).object(); shown["schema"] != nil || shown["description"] != "" {
		t.Errorf("got %v, want it replaced whole", shown)
	}
	c.do("operator", "PUT", "/v0/api_webhooks/events/A.b", `{}`).wantCode(422, "invalid_event", "event")
	c.do("operator", "PUT", "/v0/api_webhooks/events/ping", `{}`).wantCode(422, "reserved_event", "event")
	c.do("operator", "DELETE", "/v0/api_webhooks/events/a.b", "").want(204)
	c.do("operator", "DELETE", "/v0/api_webhooks/events/a.b", "").wantCode(404, "not_found")
	c.do("acme", "GET", "/v0/api_webhooks/events/a.b", "").wantCode(404, "not_found")
}
