package registry

import (
	"time"

	"postrider"
)

// systemTypes are the entries of the catalogue that the system itself
// publishes. They are always there.
var systemTypes = map[string]postrider.EventType{
	postrider.WebhookFailingEvent: systemType(postrider.WebhookFailingEvent, "A webhook keeps failing.",
		"Sent when half, 70 % and 90 % of the time are over after which a webhook that fails without a success between is "+
			"disabled. It goes to the other webhooks of the tenant that subscribe to it, never to the failing one.",
		`{"webhook_id":"0190a6e2-5a3c-7c1e-8f7a-3d2b1c0a9f8e","url":"https://partner.example/hooks","failing_since":"2026-01-15T09:30:00Z",`+
			`"percent":50,"disabled_at":"2026-01-20T09:30:00Z","status_code":503,"error_code":"http_5xx","error":"The receiver answered 503."}`),
	postrider.WebhookRecoveredEvent: systemType(postrider.WebhookRecoveredEvent, "A webhook that was failing succeeds again.",
		"Sent at the first success after at least one `webhook.failing`.",
		`{"webhook_id":"0190a6e2-5a3c-7c1e-8f7a-3d2b1c0a9f8e","url":"https://partner.example/hooks","failing_since":"2026-01-15T09:30:00Z"}`),
	postrider.WebhookDisabledEvent: systemType(postrider.WebhookDisabledEvent, "A webhook was disabled by the system.",
		"Because it failed for too long without a success, or because its receiver answered `410 Gone`. Its deliveries are "+
			"held until its partner switches it on again.",
		`{"webhook_id":"0190a6e2-5a3c-7c1e-8f7a-3d2b1c0a9f8e","url":"https://partner.example/hooks","code":"failing",`+
			`"reason":"Every attempt since 2026-01-15T09:30:00Z has failed."}`),
}

func systemType(name, description, notes, example string) postrider.EventType {
	introduced := time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)
	return postrider.EventType{
		Name: name, Description: description, Notes: notes, Example: []byte(example), CreatedAt: introduced, UpdatedAt: introduced,
	}
}
