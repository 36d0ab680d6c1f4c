package publish

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"postrider"
)

// zen are the lines of which a ping carries one.
var zen = []string{
	"Answer first, work later.",
	"A signature covers bytes, not meaning.",
	"What arrives twice was sent once.",
	"The log remembers what the network forgets.",
	"Retry with patience, fail with a reason.",
	"A quiet endpoint is not always a healthy one.",
	"Trust the sender, but verify the header.",
}

// Ping sends a ping to every active webhook of a tenant, whatever each
// subscribes to. A nil payload means the default one. It is attempted once.
func (p *Publisher) Ping(ctx context.Context, tenant string, payload []byte) ([]postrider.Pinged, error) {
	return p.ping(ctx, tenant, p.o.Webhooks.ActiveWebhooks(tenant), payload)
}

// PingWebhook sends a ping to one webhook.
func (p *Publisher) PingWebhook(
	ctx context.Context, tenant string, id postrider.ID, payload []byte,
) (postrider.Pinged, error) {
	w, err := p.o.Webhooks.Webhook(tenant, id)
	if err != nil {
		return postrider.Pinged{}, err
	}
	if !w.Sending() {
		return postrider.Pinged{}, notSending(w.Status())
	}
	pinged, err := p.ping(ctx, tenant, []*postrider.Webhook{&w}, payload)
	if err != nil {
		return postrider.Pinged{}, err
	}
	return pinged[0], nil
}

func notSending(status postrider.WebhookStatus) error {
	next := `Switch it on first: PATCH it with {"active": true}.`
	if status == postrider.WebhookPaused {
		next = "The operator resumes it."
	}
	return &postrider.Error{
		Kind: postrider.Conflict, Code: "webhook_inactive",
		Detail: fmt.Sprintf("The webhook is %s, so nothing is sent to it. %s", status, next),
	}
}

// ping makes one event for all webhooks when the payload is the caller's, and
// one for each when each is told of itself.
func (p *Publisher) ping(
	ctx context.Context, tenant string, webhooks []*postrider.Webhook, payload []byte,
) ([]postrider.Pinged, error) {
	event := postrider.Event{Tenant: tenant, Type: postrider.PingEvent, CreatedAt: time.Now().UTC()}
	var accepted []postrider.Accepted
	add := func(payload []byte, webhooks ...*postrider.Webhook) {
		event.ID, event.Payload = postrider.NewID().String(), payload
		a := newAccepted(event, webhooks, postrider.TriggerPing)
		a.Publication = len(accepted)
		accepted = append(accepted, a)
	}
	switch {
	case len(webhooks) == 0:
		return nil, nil
	case payload != nil:
		if err := p.checkPayload("", payload, false); err != nil {
			return nil, err
		}
		add(payload, webhooks...)
	default:
		for _, w := range webhooks {
			payload, err := defaultPing(w)
			if err != nil {
				return nil, err
			}
			add(payload, w)
		}
	}
	if _, err := p.commit(ctx, accepted, nil); err != nil {
		return nil, err
	}
	var pinged []postrider.Pinged
	for _, a := range accepted {
		for _, d := range a.Deliveries {
			pinged = append(pinged, postrider.Pinged{WebhookID: d.WebhookID, EventID: d.EventID})
		}
	}
	return pinged, nil
}

// A hook is what a ping tells a webhook of itself.
type hook struct {
	ID          postrider.ID          `json:"id"`
	URL         string                `json:"url"`
	ContentType postrider.ContentType `json:"content_type"`
	Events      []string              `json:"events"`
	Active      bool                  `json:"active"`
	Description string                `json:"description"`
	InsecureSSL bool                  `json:"insecure_ssl"`
	HasSecret   bool                  `json:"has_secret"`
	CreatedAt   time.Time             `json:"created_at"`
	UpdatedAt   time.Time             `json:"updated_at"`
}

func defaultPing(w *postrider.Webhook) ([]byte, error) {
	payload, err := json.Marshal(struct {
		Zen    string       `json:"zen"`
		HookID postrider.ID `json:"hook_id"`
		Hook   hook         `json:"hook"`
	}{
		Zen: zen[rand.IntN(len(zen))], HookID: w.ID, //nolint:gosec // a proverb is no secret
		Hook: hook{
			ID: w.ID, URL: w.URL, ContentType: w.ContentType, Events: w.Events, Active: w.Active,
			Description: w.Description, InsecureSSL: w.InsecureSSL, HasSecret: w.Secret != "",
			CreatedAt: w.CreatedAt, UpdatedAt: w.UpdatedAt,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("encode a ping: %w", err)
	}
	return payload, nil
}

// Announce publishes an event of the system's about a webhook to the other
// webhooks of its tenant that subscribe. The webhook itself is left out: it is
// the one that does not answer.
func (p *Publisher) Announce(ctx context.Context, about *postrider.Webhook, eventType string, payload []byte) error {
	others := slices.DeleteFunc(slices.Clone(p.o.Webhooks.Match(about.Tenant, eventType)), func(w *postrider.Webhook) bool {
		return w.ID == about.ID
	})
	if len(others) == 0 {
		return nil
	}
	event := postrider.Event{
		ID: postrider.NewID().String(), Tenant: about.Tenant, Type: eventType, Payload: payload, CreatedAt: time.Now().UTC(),
	}
	_, err := p.commit(ctx, []postrider.Accepted{newAccepted(event, others, postrider.TriggerEvent)}, nil)
	return err
}
