package api_test

import (
	"net/http"
	"net/url"
	"testing"
)

// What strangers send is answered or refused, never with a fault of ours.
func wantNoFault(t *testing.T, a *answer, sent string) {
	t.Helper()
	if a.Code >= http.StatusInternalServerError {
		t.Errorf("got %d for %q: %s", a.Code, sent, a.Body)
	}
}

func FuzzCursor(f *testing.F) {
	c := newClient(f)
	for range 3 {
		c.attempt(c.webhook(f, "acme"))
		c.attempt(c.webhook(f, "globex"))
	}
	given, _ := c.do("acme", "GET", "/v0/api_webhooks?limit=1", "").object()["next_cursor"].(string)
	f.Add(given)
	f.Add(given + "=")
	f.Add(given[1:])
	f.Fuzz(func(t *testing.T, cursor string) {
		c.tb = t
		a := c.do("globex", "GET", "/v0/api_webhooks?limit=1&cursor="+url.QueryEscape(cursor), "")
		wantNoFault(t, a, cursor)
		if cursor != "" && a.Code == http.StatusOK {
			t.Errorf("globex was given a page by the cursor %q, which is not its own", cursor)
		}
	})
}

func FuzzWebhook(f *testing.F) {
	for _, body := range []string{
		`{"url": "https://a.example/", "events": ["*"]}`, `{"url": null, "secret": null, "headers": {"X-A": "b"}}`,
		`{"events": ["a.b", "a.*"], "active": false, "timeout_seconds": 1.5, "retry_schedule": [0, 604800]}`,
		`{"url": "https://a.example/", "url": "https://b.example/"}`, `{"headers": {"X-A": "[redacted]"}}{}`, "\xef\xbb\xbf{}", `[]`,
	} {
		f.Add([]byte(body))
	}
	c := newClient(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		c.tb, c.webhooks = t, nil
		hook := c.webhook(t, "acme")
		wantNoFault(t, c.do("acme", "POST", "/v0/api_webhooks", string(body)), string(body))
		wantNoFault(t, c.do("acme", "PATCH", "/v0/api_webhooks/"+hook.ID.String(), string(body)), string(body))
		for i := range c.webhooks {
			if c.webhooks[i].Tenant != "acme" || c.webhooks[i].ID.IsZero() {
				t.Errorf("%q made or changed a webhook of %q", body, c.webhooks[i].Tenant)
			}
		}
	})
}

func FuzzQuery(f *testing.F) {
	for _, query := range []string{
		"status=failure&code_class=5&from=2026-01-01T00:00:00Z", "event=a.b%27%20OR%201=1--&event_id=%00", "limit=1e9&offset=1", "tenant=*",
		"webhook_id=..%2f..%2f&error_code=%25%5f", "limit=100;tenant=acme", "from=0000-00-00T99:99:99Z&to=%F0", "status[]=success&status=failure&status=",
	} {
		f.Add(query)
	}
	c := newClient(f)
	f.Fuzz(func(t *testing.T, query string) {
		if _, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/?"+query, http.NoBody); err != nil || !sendable(query) {
			return
		}
		c.tb = t
		for _, path := range []string{"/v0/api_webhooks/logs", "/v0/api_webhooks", "/v0/api_webhooks/events"} {
			c.filters = nil
			wantNoFault(t, c.do("globex", "GET", path+"?"+query, ""), query)
			for _, filter := range c.filters {
				if filter.Tenant != "globex" || filter.Limit < 1 || filter.Limit > 101 {
					t.Errorf("%q asks the store for %+v", query, filter)
				}
			}
		}
	})
}

// sendable reports whether a text can stand in the first line of a request.
func sendable(query string) bool {
	for i := range len(query) {
		if query[i] <= ' ' || query[i] >= 0x7f {
			return false
		}
	}
	return true
}
