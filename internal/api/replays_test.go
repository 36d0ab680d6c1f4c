package api_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postrider"
)

func TestReplay_IsAskedForAndShown(t *testing.T) {
	c := newClient(t)
	hook := c.webhook(t, "acme")
	path := "/v0/api_webhooks/" + hook.ID.String() + "/replay"
	shown := c.do("acme", "POST", path, `{"from": "2026-03-14T00:00:00Z", "to": "2026-03-14T02:00:00+01:00", "status": "all",
		"events": ["a.*"], "rate": 0.5, "dry_run": true}`).want(202).object()
	asked := postrider.Replay{
		ID: c.replays[0].ID, Tenant: "acme", WebhookID: hook.ID, State: postrider.ReplayCollecting, CreatedAt: epoch,
		From: time.Date(2026, 3, 14, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 3, 14, 1, 0, 0, 0, time.UTC),
		Status: postrider.ReplayAll, Events: []string{"a.*"}, Rate: 0.5, DryRun: true,
	}
	if diff := cmp.Diff(asked, c.replays[0]); diff != "" {
		t.Error(diff)
	}
	want := map[string]any{
		"id": asked.ID.String(), "webhook_id": hook.ID.String(), "state": "collecting", "dry_run": true,
		"from": "2026-03-14T00:00:00.000Z", "to": "2026-03-14T01:00:00.000Z", "status": "all", "events": []any{"a.*"}, "rate": 0.5,
		"total": 0.0, "queued": 0.0, "skipped": 0.0, "created_at": "2026-03-14T15:09:26.535Z", "ended_at": nil,
	}
	if diff := cmp.Diff(want, shown); diff != "" {
		t.Error(diff)
	}
	one := "/v0/replays/" + asked.ID.String()
	c.replays[0].Total, c.replays[0].Queued, c.replays[0].Skipped = 9, 4, 1
	want["total"], want["queued"], want["skipped"] = 9.0, 4.0, 1.0
	if diff := cmp.Diff(want, c.do("acme", "GET", one, "").want(200).object()); diff != "" {
		t.Error(diff)
	}
	want["state"], want["ended_at"] = "cancelled", "2026-03-14T15:09:26.535Z"
	for _, method := range []string{"DELETE", "DELETE", "GET"} {
		if diff := cmp.Diff(want, c.do("acme", method, one, "").want(200).object()); diff != "" {
			t.Errorf("%s: %s", method, diff)
		}
	}

	for _, body := range []string{`{}`, `{"from": null, "to": null, "status": null, "events": null, "rate": null}`} {
		shown := c.do("acme", "POST", path, body).want(202).object()
		if last := c.replays[len(c.replays)-1]; !last.From.IsZero() || !last.To.IsZero() || last.Status != "" || last.Rate != 0 || last.DryRun {
			t.Errorf("%s: got asked %+v, want the defaults left to the replays", body, last)
		}
		if shown["from"] != nil || len(shown["events"].([]any)) != 0 {
			t.Errorf("got %v", shown)
		}
	}
}

func TestReplay_Faults(t *testing.T) {
	for body, want := range map[string]struct {
		status int
		code   string
		field  string
	}{
		`{"status": ""}`:        {422, "invalid_status", "status"},
		`{"rate": 0}`:           {422, "invalid_rate", "rate"},
		`{"rate": "fast"}`:      {422, "invalid_type", "rate"},
		`{"from": "yesterday"}`: {422, "invalid_type", "from"},
		`{"webhook_id": "x"}`:   {400, "unknown_field", "webhook_id"},
	} {
		c := newClient(t)
		hook := c.webhook(t, "acme")
		c.do("acme", "POST", "/v0/api_webhooks/"+hook.ID.String()+"/replay", body).wantCode(want.status, want.code, want.field)
		if len(c.replays) > 0 {
			t.Errorf("%s: started a replay", body)
		}
	}
}
