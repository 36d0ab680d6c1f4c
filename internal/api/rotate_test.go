package api_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"postrider"
	"postrider/internal/testkit"
)

func TestRotate_ShowsTheNewSecretOnceAndWhenTheOldExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t)
		hook := c.webhook(t, "acme")
		c.webhooks[0].Secret = "the first one"
		path := "/v0/api_webhooks/" + hook.ID.String()
		now := time.Now().UTC()

		made := c.do("acme", "POST", path+"/rotate_secret", `{"grace_seconds": null, "secret": null}`).want(200).object()
		secret, _ := made["secret"].(string)
		tomorrow := now.Add(24 * time.Hour).Format("2006-01-02T15:04:05.000Z")
		want := map[string]any{"id": hook.ID.String(), "secret": secret, "previous_secret_expires_at": tomorrow}
		if diff := cmp.Diff(want, made); diff != "" || !strings.HasPrefix(secret, "whsec_") {
			t.Errorf("got %v: %s", made, diff)
		}
		stored := []postrider.PreviousSecret{{Secret: "the first one", Until: now.Add(24 * time.Hour)}}
		if got := c.webhooks[0]; string(got.Secret) != secret || !cmp.Equal(stored, got.Previous) {
			t.Errorf("got stored %q before %v", string(got.Secret), got.Previous)
		}
		shown := c.do("acme", "GET", path, "").want(200)
		if strings.Contains(shown.Body.String(), secret) || shown.object()["previous_secret_expires_at"] != tomorrow {
			t.Errorf("got shown %s", shown.Body)
		}
		testkit.Advance(24 * time.Hour)
		if got := c.do("acme", "GET", path, "").object()["previous_secret_expires_at"]; got != nil {
			t.Errorf("got the expiry %v when it is over, want null", got)
		}

		made = c.do("acme", "POST", path+"/rotate_secret", `{"grace_seconds": 0.5, "secret": "one of our own"}`).want(200).object()
		if made["secret"] != "one of our own" || made["previous_secret_expires_at"] != time.Now().UTC().Add(500*time.Millisecond).Format("2006-01-02T15:04:05.000Z") {
			t.Errorf("got %v", made)
		}
		made = c.do("acme", "POST", path+"/rotate_secret", `{"grace_seconds": 0}`).want(200).object()
		if got := c.webhooks[0]; made["previous_secret_expires_at"] != nil || len(got.Previous) != 0 {
			t.Errorf("got %v with %v before, want every old secret revoked", made, got.Previous)
		}
	})
}

func TestRotate_Faults(t *testing.T) {
	for body, want := range map[string]struct {
		status int
		code   string
		fields []string
	}{
		`{"grace_seconds": -1}`:                    {422, "invalid_grace", []string{"grace_seconds"}},
		`{"grace_seconds": 604801}`:                {422, "invalid_grace", []string{"grace_seconds"}},
		`{"grace_seconds": 1e300}`:                 {422, "invalid_grace", []string{"grace_seconds"}},
		`{"grace_seconds": "1 day"}`:               {422, "invalid_type", []string{"grace_seconds"}},
		`{"secret": ""}`:                           {422, "invalid_secret", []string{"secret"}},
		`{"secret": "short"}`:                      {422, "invalid_secret", []string{"secret"}},
		`{"secret": "whsec_not base64"}`:           {422, "invalid_secret", []string{"secret"}},
		`{"secret": "", "grace_seconds": -1}`:      {422, "invalid", []string{"grace_seconds", "secret"}},
		`{"grace": 1}`:                             {400, "unknown_field", []string{"grace"}},
		`{"grace_seconds": 1, "grace_seconds": 2}`: {400, "duplicate_field", []string{"grace_seconds"}},
		``: {400, "body_required", nil},
	} {
		c := newClient(t)
		hook := c.webhook(t, "acme")
		c.do("acme", "POST", "/v0/api_webhooks/"+hook.ID.String()+"/rotate_secret", body).wantCode(want.status, want.code, want.fields...)
		if diff := cmp.Diff(hook, c.webhooks[0]); diff != "" {
			t.Errorf("%s: changed the webhook: %s", body, diff)
		}
	}
}
