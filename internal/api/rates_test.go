package api_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"postrider"
	"postrider/internal/api"
	"postrider/internal/testkit"
)

// limited is a client of a server with rates, whose keys are told apart as the
// registry's are.
func limited(tb testing.TB, partner, operator float64) *client {
	tb.Helper()
	c := newClient(tb, func(o *api.Options) { o.RequestRate, o.OperatorRate = partner, operator })
	for text, key := range c.keys {
		key.Hash = postrider.HashAPIKey(text)
		c.keys[text] = key
	}
	return c
}

func TestRates_AKeyOverItsRateIsToldWhenToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := limited(t, 5, 0)
		for range 5 {
			c.do("acme", "GET", "/v0/api_webhooks", "").want(200)
		}
		refused := c.do("acme", "POST", "/v0/api_webhooks", `{"url": "https://a.example/", "events": ["*"]}`)
		refused.wantCode(429, "too_many_requests")
		if got := refused.Header().Get("Retry-After"); got != "1" {
			t.Errorf("got Retry-After %q, want 1", got)
		}
		if len(c.webhooks) != 0 {
			t.Error("a refused request had an effect")
		}
		// A refusal takes nothing from the requests that come in time.
		testkit.Advance(time.Second)
		for range 5 {
			c.do("acme", "GET", "/v0/api_webhooks", "").want(200)
		}
	})
}

func TestRates_OneKeyTakesNothingFromAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := limited(t, 1, 2)
		c.do("acme", "GET", "/v0/api_webhooks", "").want(200)
		c.do("acme", "GET", "/v0/api_webhooks", "").wantCode(429, "too_many_requests")
		c.do("globex", "GET", "/v0/api_webhooks", "").want(200)
		for range 2 {
			c.do("operator", "POST", "/v0/events", `{"event": "a.b", "payload": 1}`).want(202)
		}
		c.do("operator", "POST", "/v0/events", `{"event": "a.b", "payload": 1}`).wantCode(429, "too_many_requests")
		if len(c.published) != 2 {
			t.Errorf("got %d events published, want the two within the rate", len(c.published))
		}
	})
}

func TestRates_NoneIsSetByNought(t *testing.T) {
	c := limited(t, 0, 0)
	for range 1000 {
		if got := c.do("acme", "GET", "/v0/api_webhooks", "").Code; got != http.StatusOK {
			t.Fatalf("got status %d, want 200", got)
		}
	}
}
