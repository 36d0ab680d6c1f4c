package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"

	"postrider"
)

// Event is an event without its payload.
type Event struct {
	ID         string     `json:"id" example:"evt_2048"`
	Event      string     `json:"event" doc:"The event type." example:"room_status.updated"`
	Tenant     string     `json:"tenant" example:"default"`
	OccurredAt *instant   `json:"occurred_at" nullable:"true" doc:"When it happened, as the producer said; null when not said."`
	CreatedAt  instant    `json:"created_at" doc:"When it was accepted."`
	Deliveries []delivery `json:"deliveries" nullable:"false" doc:"One entry per webhook that it matched."`
}

type delivery struct {
	WebhookID     postrider.ID `json:"webhook_id" format:"uuid"`
	State         string       `json:"state" enum:"pending,held,succeeded,failed,cancelled" doc:"held: its webhook does not send now. cancelled: its webhook was deleted first."`
	Attempts      int          `json:"attempts" doc:"How many were made." example:"1"`
	NextAttemptAt *instant     `json:"next_attempt_at" nullable:"true" doc:"null when none is planned."`
	LastAttempt   *lastAttempt `json:"last_attempt" doc:"null before the first."`
}

// TransformSchema says that last_attempt can be null.
func (*delivery) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	nullable(s, "last_attempt")
	return s
}

// wholeEvent is an event with its payload.
type wholeEvent struct {
	Event
	Payload rawJSON `json:"payload" doc:"The exact bytes that were published."`
}

// TransformSchema says what the payload is.
func (*wholeEvent) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	describeRaw(s, "payload")
	s.Properties["payload"].Examples = []any{map[string]any{"room": 12, "status": "clean"}}
	return s
}

// encode puts the payload in as it is: an encoder would compact it.
func (e wholeEvent) encode() ([]byte, error) {
	text, err := json.Marshal(e.Event, writeOptions)
	if err != nil {
		return nil, err
	}
	text = append(text[:len(text)-1], `,"payload":`...)
	text = append(text, e.Payload...)
	return append(text, '}'), nil
}

type (
	eventInput struct {
		TenantQuery
		ID string `path:"id" doc:"The event's id." example:"evt_2048"`
	}
	eventOutput struct{ Body wholeEvent }
)

func showEvent(e postrider.Event, deliveries []postrider.DeliveryStatus) wholeEvent {
	shown := wholeEvent{Payload: e.Payload, Event: Event{
		ID: e.ID, Event: e.Type, Tenant: e.Tenant, OccurredAt: instantOrNull(e.OccurredAt), CreatedAt: instant(e.CreatedAt),
		Deliveries: make([]delivery, len(deliveries)),
	}}
	for i, d := range deliveries {
		shown.Deliveries[i] = delivery{
			WebhookID: d.WebhookID, State: string(d.State), Attempts: d.Attempts,
			NextAttemptAt: instantOrNull(d.NextAttemptAt), LastAttempt: showLast(d.Last),
		}
	}
	return shown
}

func (a *API) getEvent(ctx context.Context, c *call, in *eventInput) (*eventOutput, error) {
	tenant, err := a.tenant(c, in.Tenant)
	if err != nil {
		return nil, err
	}
	event, deliveries, err := a.History.Event(ctx, tenant, in.ID)
	if err != nil {
		return nil, err
	}
	return &eventOutput{showEvent(event, deliveries)}, nil
}
