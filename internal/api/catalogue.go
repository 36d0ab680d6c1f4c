package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"postrider"
)

// eventType is an entry of the catalogue.
type eventType struct {
	Event       string   `json:"event" doc:"The event type." example:"room_status.updated"`
	Description string   `json:"description" example:"A room's status has changed."`
	Notes       string   `json:"notes" doc:"Markdown." example:"Sent at most once a minute for a room."`
	Schema      *rawJSON `json:"schema" doc:"The JSON Schema of the payload; null when there is none."`
	Example     *rawJSON `json:"example" doc:"An example payload; null when there is none."`
	Deprecated  bool     `json:"deprecated"`
	CreatedAt   instant  `json:"created_at"`
	UpdatedAt   instant  `json:"updated_at"`
}

// TransformSchema describes the two values that are kept as they are.
func (*eventType) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	describeRaw(s, "schema", "example")
	return s
}

// describeRaw says that a field is any JSON value, where huma sees bytes.
func describeRaw(s *huma.Schema, fields ...string) {
	for _, field := range fields {
		was := s.Properties[field]
		s.Properties[field] = &huma.Schema{Description: was.Description, Examples: was.Examples}
	}
}

// eventTypePut is the whole entry: what is absent is empty afterwards.
type eventTypePut struct {
	Description string   `json:"description" required:"false" example:"A room's status has changed."`
	Notes       string   `json:"notes" required:"false" doc:"Markdown." example:"Sent at most once a minute for a room."`
	Schema      *rawJSON `json:"schema" required:"false" doc:"The JSON Schema of the payload."`
	Example     *rawJSON `json:"example" required:"false" doc:"An example payload."`
	Deprecated  bool     `json:"deprecated" required:"false"`
}

// TransformSchema describes the two values that are kept as they are.
func (*eventTypePut) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	describeRaw(s, "schema", "example")
	s.Properties["schema"].Examples = []any{map[string]any{"type": "object", "required": []string{"room", "status"}}}
	s.Properties["example"].Examples = []any{map[string]any{"room": 12, "status": "clean"}}
	return s
}

func showEventType(t postrider.EventType) eventType {
	return eventType{
		Event: t.Name, Description: t.Description, Notes: t.Notes, Schema: rawOrNull(t.Schema), Example: rawOrNull(t.Example),
		Deprecated: t.Deprecated, CreatedAt: instant(t.CreatedAt), UpdatedAt: instant(t.UpdatedAt),
	}
}

func rawOrNull(value []byte) *rawJSON {
	if len(value) == 0 {
		return nil
	}
	return (*rawJSON)(&value)
}

// bytesOf is nil for an absent value and for null.
func bytesOf(value *rawJSON) []byte {
	if value == nil {
		return nil
	}
	return *value
}

type (
	// EventTypeRef names an event type in the path.
	EventTypeRef struct {
		Event string `path:"event" doc:"The event type." example:"room_status.updated"`
	}
	putEventTypeInput struct {
		EventTypeRef
		WithBody[eventTypePut]
	}
	eventTypesInput struct{ PageQuery }
	eventTypeOutput struct{ Body eventType }
	putEventTypeOut struct {
		Status int
		Body   eventType
	}
)

func (a *API) listEventTypes(_ context.Context, c *call, in *eventTypesInput) (*listOutput[eventType], error) {
	after, err := a.cursors.open("events", "", in.Cursor)
	if err != nil {
		return nil, err
	}
	list, more := a.Catalogue.EventTypes(after, in.Limit)
	shown := make([]eventType, len(list))
	for i := range list {
		shown[i] = showEventType(list[i])
	}
	if !more {
		return newPage(c, shown, ""), nil
	}
	return newPage(c, shown, a.cursors.seal("events", "", list[len(list)-1].Name)), nil
}

func (a *API) getEventType(_ context.Context, _ *call, in *EventTypeRef) (*eventTypeOutput, error) {
	found, err := a.Catalogue.EventType(in.Event)
	return &eventTypeOutput{showEventType(found)}, err
}

func (a *API) putEventType(ctx context.Context, _ *call, in *putEventTypeInput) (*putEventTypeOut, error) {
	put := in.Body.Value
	saved, created, err := a.Catalogue.PutEventType(ctx, postrider.EventType{
		Name: in.Event, Description: put.Description, Notes: put.Notes,
		Schema: bytesOf(put.Schema), Example: bytesOf(put.Example), Deprecated: put.Deprecated,
	})
	if err != nil {
		return nil, err
	}
	out := &putEventTypeOut{Status: http.StatusOK, Body: showEventType(saved)}
	if created {
		out.Status = http.StatusCreated
	}
	return out, nil
}

func (a *API) deleteEventType(ctx context.Context, _ *call, in *EventTypeRef) (*struct{}, error) {
	return nil, a.Catalogue.DeleteEventType(ctx, in.Event)
}
