package dispatch

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"postrider"
)

// warnings are the parts, in percent, of the time until a failing webhook is
// disabled at which its tenant is warned.
var warnings = []int{90, 70, 50}

// noteHealth follows a webhook from its first failure without a success since
// to its recovery, or to its end. What it notes is stored, since this takes
// days; as long as all is well, or all is as bad as before, it writes nothing.
func (d *Dispatcher) noteHealth(a *postrider.Attempt) {
	w, found := d.o.Webhooks.WebhookByID(a.WebhookID)
	if !found || !d.stillAt(a) || w.Disabled != nil {
		return
	}
	ctx := context.WithoutCancel(d.attempts)
	switch o := &a.Outcome; {
	case o.OK() && !w.Failing.Since.IsZero():
		if d.setFailing(ctx, w, postrider.Failing{}) && w.Failing.Warned > 0 {
			d.announce(ctx, w, postrider.WebhookRecoveredEvent, health{FailingSince: &w.Failing.Since})
		}
	case o.OK():
	case o.StatusCode == statusGone:
		d.disable(ctx, w, postrider.Disabled{
			At: a.At.UTC(), Code: "gone",
			Reason: "The receiver answered 410 Gone, which means that it wants no more deliveries. " +
				"Later events are held; switch the webhook on again to have them sent.",
		})
	case w.Failing.Since.IsZero():
		d.setFailing(ctx, w, postrider.Failing{Since: a.At.UTC().Truncate(time.Microsecond)})
	default:
		d.stillFailing(ctx, w, a)
	}
}

func (d *Dispatcher) stillFailing(ctx context.Context, w *postrider.Webhook, a *postrider.Attempt) {
	since := w.Failing.Since
	percent := int(100 * a.At.Sub(since) / d.o.DisableAfter)
	if percent >= 100 {
		d.disable(ctx, w, postrider.Disabled{
			At: a.At.UTC(), Code: "failing",
			Reason: fmt.Sprintf("Every attempt since %s has failed; the last one with %s: %s Deliveries are held; "+
				"mend the receiver, then switch the webhook on again to have them sent.",
				since.Format(time.RFC3339), a.Outcome.Failure, a.Outcome.Detail),
		})
		return
	}
	for _, warning := range warnings {
		if percent < warning {
			continue
		}
		if w.Failing.Warned < warning && d.setFailing(ctx, w, postrider.Failing{Since: since, Warned: warning}) {
			end := since.Add(d.o.DisableAfter)
			d.announce(ctx, w, postrider.WebhookFailingEvent, health{
				FailingSince: &since, Percent: warning, DisabledAt: &end,
				StatusCode: a.Outcome.StatusCode, ErrorCode: a.Outcome.Failure, Error: a.Outcome.Detail,
			})
		}
		return
	}
}

func (d *Dispatcher) setFailing(ctx context.Context, w *postrider.Webhook, to postrider.Failing) (changed bool) {
	changed, err := d.o.Webhooks.SetFailing(ctx, w.ID, w.Failing, to)
	if err != nil {
		d.o.Logger.Error("a webhook's health was not noted", "webhook", w.ID, "error", err)
	}
	return changed
}

func (d *Dispatcher) disable(ctx context.Context, w *postrider.Webhook, reason postrider.Disabled) {
	disabled, err := d.o.Webhooks.DisableWebhook(ctx, w.ID, reason)
	if err != nil {
		d.o.Logger.Error("a webhook was not disabled", "webhook", w.ID, "code", reason.Code, "error", err)
	}
	if disabled {
		d.o.Logger.Warn("a webhook was disabled", "webhook", w.ID, "tenant", w.Tenant, "code", reason.Code)
		d.announce(ctx, w, postrider.WebhookDisabledEvent, health{Code: reason.Code, Reason: reason.Reason})
	}
}

// health is the payload of the system's events.
type health struct {
	WebhookID    postrider.ID          `json:"webhook_id"`
	URL          string                `json:"url"`
	FailingSince *time.Time            `json:"failing_since,omitempty"`
	Percent      int                   `json:"percent,omitempty"`
	DisabledAt   *time.Time            `json:"disabled_at,omitempty"`
	StatusCode   int                   `json:"status_code,omitempty"`
	ErrorCode    postrider.FailureCode `json:"error_code,omitempty"`
	Error        string                `json:"error,omitempty"`
	Code         string                `json:"code,omitempty"`
	Reason       string                `json:"reason,omitempty"`
}

func (d *Dispatcher) announce(ctx context.Context, w *postrider.Webhook, eventType string, h health) {
	if d.o.Announce == nil {
		return
	}
	h.WebhookID, h.URL = w.ID, w.URL
	payload, err := json.Marshal(h)
	if err != nil {
		d.o.Logger.Error("a system event could not be encoded", "webhook", w.ID, "type", eventType, "error", err)
		return
	}
	d.o.Announce(ctx, w, eventType, payload)
}
