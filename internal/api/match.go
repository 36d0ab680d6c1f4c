package api

import (
	"context"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"postrider"
)

// matchLimit is how many webhooks a dry run tells of.
const matchLimit = 1000

// trialBody is an event as it would be published. It is read as a publication
// is, so that what is refused here is refused there.
type trialBody struct {
	publication postrider.Publication // its payload is good until the handler returns
	err         error
}

func (b *trialBody) decode(data []byte) { b.publication, b.err = decodePublication(data, hasEvent) }

// Schema is that of a publication whose payload may be absent.
func (b *trialBody) Schema(r huma.Registry) *huma.Schema {
	s := *resolve(r, r.Schema(reflect.TypeFor[publication](), true, ""))
	s.Required = []string{"event"}
	return &s
}

type match struct {
	WebhookID postrider.ID `json:"webhook_id" format:"uuid"`
	Tenant    string       `json:"tenant" example:"default"`
	URL       string       `json:"url" example:"https://partner.example/callback"`
	Delivery  string       `json:"delivery" enum:"sent,held,none" doc:"sent: it would go out at once. held: it would be kept, and go out when the webhook sends again. none: the webhook would not get it."`
	MatchedBy *string      `json:"matched_by" doc:"Which of the webhook's events takes the event type; null when none does." example:"room_status.*"`
	Reason    *string      `json:"reason" enum:"not_subscribed,inactive,disabled,paused" doc:"Why it would not be sent at once; null when it would."`
}

type matches struct {
	Data       []match `json:"data" nullable:"false" doc:"The webhooks of the tenants that the event names, newest first, those before the others that would get it. At most 1,000."`
	Deliveries int     `json:"deliveries" doc:"How many webhooks would get it, those that data leaves out included." example:"1"`
	Truncated  bool    `json:"truncated" doc:"Whether there are more webhooks than data tells of." example:"false"`
}

type (
	matchInput  struct{ Body trialBody }
	matchOutput struct{ Body matches }
)

func (in *matchInput) fault() error { return in.Body.err }

func (a *API) matchEvent(_ context.Context, _ *call, in *matchInput) (*matchOutput, error) {
	asked := in.Body.publication
	tried, err := a.Publisher.TryMatch(asked, matchLimit)
	if err != nil {
		return nil, err
	}
	out := &matchOutput{matches{Data: make([]match, len(tried.Webhooks)), Deliveries: tried.Deliveries, Truncated: tried.Truncated}}
	for i, w := range tried.Webhooks {
		out.Body.Data[i] = showMatch(w, asked.Event)
	}
	return out, nil
}

func showMatch(w *postrider.Webhook, eventType string) match {
	shown := match{WebhookID: w.ID, Tenant: w.Tenant, URL: w.URL, Delivery: "sent", MatchedBy: orNull(w.Subscription(eventType))}
	reason := string(w.Status())
	switch {
	case shown.MatchedBy == nil:
		shown.Delivery, reason = "none", "not_subscribed"
	case w.Sending():
		return shown
	default:
		shown.Delivery = "held"
	}
	shown.Reason = &reason
	return shown
}
