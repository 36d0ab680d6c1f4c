package api

import (
	"cmp"
	stdjson "encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"postrider"
)

// alsoAnswers marks an operation that has a second status of success.
const alsoAnswers = "also-answers"

// newHuma is the part of huma that is used: parameters, the OpenAPI document
// and the order of things. Bodies and errors are the API's own.
func newHuma(a *API) huma.API {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	// huma documents its own error model where the API answers with problems.
	registry.RegisterTypeAlias(reflect.TypeFor[huma.ErrorModel](), reflect.TypeFor[problem]())
	format := huma.Format{Marshal: func(w io.Writer, v any) error { return writeJSON(w, v) }, Unmarshal: unmarshalBody}
	return humago.New(router{a}, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: a.Brand + " webhooks API", Version: cmp.Or(a.Version, "0"),
				Description: "Register webhooks, publish events to them, and see every delivery attempt. JSON in and out, " +
					"matched exactly: unknown fields, names that come twice and trailing data are refused.",
			},
			Servers:    []*huma.Server{{URL: "/"}},
			Components: &huma.Components{Schemas: registry, SecuritySchemes: securitySchemes},
			Security:   []map[string][]string{{"apiKey": {}}, {"bearer": {}}},
			Tags: []*huma.Tag{
				{Name: webhooksGroup, Description: "A webhook says where events are sent, which, and how."},
				{Name: logsGroup, Description: "Every attempt of every delivery, with what was sent and answered."},
				{Name: replaysGroup, Description: "A replay sends many past deliveries of a webhook again."},
				{Name: relayGroup, Description: "A listener gets deliveries on its own machine."},
				{Name: catalogueGroup, Description: "The event types that there are, with schema and example."},
				{Name: eventsGroup, Description: "Producers publish events; anyone looks up what became of one."},
				{Name: accountsGroup, Description: "The operator's: partners' accounts and keys."},
			},
			OnAddOperation: []huma.AddOpFunc{func(_ *huma.OpenAPI, op *huma.Operation) { a.listed = append(a.listed, op) }},
		},
		Formats:       map[string]huma.Format{typeJSON: format, "json": format},
		DefaultFormat: typeJSON,
		Transformers:  []huma.Transformer{humaProblem},
	})
}

var securitySchemes = map[string]*huma.SecurityScheme{
	"apiKey": {Type: "apiKey", In: "header", Name: "x-api-key", Description: "The API key."},
	"bearer": {Type: "http", Scheme: "bearer", Description: "The API key as a bearer token."},
}

// completeDocument is called when all routes are registered. From then on the
// document does not change: huma reads it with each request.
func (a *API) completeDocument() {
	for _, op := range a.listed {
		a.complete(op)
	}
}

func (a *API) encodeDocument() []byte {
	document, err := stdjson.Marshal(a.huma.OpenAPI())
	if err != nil {
		panic(fmt.Sprintf("api: encoding the OpenAPI document: %v", err))
	}
	return document
}

// complete adds what huma leaves out of an operation: the second answer, the
// other media types, an example of the body.
func (a *API) complete(op *huma.Operation) {
	if also, ok := op.Metadata[alsoAnswers].(int); ok {
		op.Responses[strconv.Itoa(also)] = &huma.Response{
			Description: http.StatusText(also), Content: op.Responses[strconv.Itoa(op.DefaultStatus)].Content,
		}
	}
	if op.RequestBody == nil {
		return
	}
	content := op.RequestBody.Content
	if op.Method == http.MethodPatch {
		content[typePatch] = &huma.MediaType{Schema: content[typeJSON].Schema}
	}
	for _, media := range content {
		media.Example = exampleOf(a.huma.OpenAPI().Components.Schemas, media.Schema)
	}
}

// resolve follows a reference.
func resolve(registry huma.Registry, s *huma.Schema) *huma.Schema {
	if s != nil && s.Ref != "" {
		return registry.SchemaFromRef(s.Ref)
	}
	return s
}

// exampleOf builds a value from the examples of a schema's fields. Fields that
// have none and are not required stay out of it.
func exampleOf(registry huma.Registry, s *huma.Schema) any {
	s = resolve(registry, s)
	switch {
	case len(s.Examples) > 0:
		return s.Examples[0]
	case len(s.Enum) > 0:
		return s.Enum[0]
	case len(s.AnyOf) > 0:
		return exampleOf(registry, s.AnyOf[0])
	case s.Nullable && s.Type != huma.TypeObject:
		return nil
	}
	switch s.Type {
	case huma.TypeObject:
		return exampleOfObject(registry, s)
	case huma.TypeArray:
		return []any{exampleOf(registry, s.Items)}
	case huma.TypeBoolean:
		return true
	case huma.TypeInteger, huma.TypeNumber:
		return 1
	case huma.TypeString:
		if s.Format == "uuid" {
			return "0195b3f4-8c1e-7a52-9d3b-6f2a41c0e7d8"
		}
		return "text"
	}
	return nil
}

// members are an object whose names keep their order.
type members []member

type member struct {
	name  string
	value any
}

// MarshalJSON writes the object.
func (m members) MarshalJSON() ([]byte, error) {
	text := []byte{'{'}
	for i, member := range m {
		if i > 0 {
			text = append(text, ',')
		}
		value, err := stdjson.Marshal(member.value)
		if err != nil {
			return nil, err
		}
		text = append(strconv.AppendQuote(text, member.name), ':')
		text = append(text, value...)
	}
	return append(text, '}'), nil
}

func exampleOfObject(registry huma.Registry, s *huma.Schema) any {
	example := members{}
	for _, name := range fieldNames(s) {
		if field := s.Properties[name]; hasExample(registry, field) || slices.Contains(s.Required, name) {
			example = append(example, member{name, exampleOf(registry, field)})
		}
	}
	return example
}

// fieldNames puts the required fields first, in the order of their type.
func fieldNames(s *huma.Schema) []string {
	place := func(name string) int {
		if i := slices.Index(s.Required, name); i >= 0 {
			return i
		}
		return len(s.Required)
	}
	return slices.SortedFunc(maps.Keys(s.Properties), func(a, b string) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a, b))
	})
}

func hasExample(registry huma.Registry, s *huma.Schema) bool {
	return len(resolve(registry, s).Examples) > 0
}

// serveDocument gives the OpenAPI document with a webhooks section of the
// catalogue as it is now.
func (a *API) serveDocument(w http.ResponseWriter, r *http.Request) {
	hooks, err := stdjson.Marshal(a.webhooksSection())
	if err != nil {
		a.fail(w, r, fmt.Errorf("encoding the catalogue for OpenAPI: %w", err))
		return
	}
	w.Header()["Content-Type"] = []string{"application/openapi+json"}
	w.Header().Set("Access-Control-Allow-Origin", "*") // public, and read by tools in browsers
	document := a.document()
	text := append(slices.Clone(document[:len(document)-1]), `,"webhooks":`...)
	w.Write(append(append(text, hooks...), "}\n"...)) //nolint:errcheck // the caller is gone
}

// webhooksSection describes what partners receive, for each event type and for
// the ping.
func (a *API) webhooksSection() map[string]*huma.PathItem {
	section := map[string]*huma.PathItem{postrider.PingEvent: a.pingItem()}
	for after, more := "", true; more; {
		var page []postrider.EventType
		page, more = a.Catalogue.EventTypes(after, 100)
		for _, t := range page {
			section[t.Name] = a.deliveryItem(t)
			after = t.Name
		}
	}
	return section
}

func (a *API) pingItem() *huma.PathItem {
	return a.deliveryItem(postrider.EventType{
		Name:        postrider.PingEvent,
		Description: "Sent when a webhook is created, and on POST /v0/api_webhooks/ping.",
		Schema: []byte(`{"type": "object", "properties": {
			"zen": {"type": "string"}, "hook_id": {"type": "string", "format": "uuid"}, "hook": {"type": "object"}}}`),
	})
}

// deliveryItem describes the request that a delivery of an event type is.
func (a *API) deliveryItem(t postrider.EventType) *huma.PathItem {
	media := &huma.MediaType{Schema: eventSchema(t)}
	if len(t.Example) > 0 {
		media.Example = stdjson.RawMessage(t.Example)
	}
	form := &huma.MediaType{Schema: &huma.Schema{
		Type: huma.TypeObject, Required: []string{"payload"},
		Properties: map[string]*huma.Schema{"payload": {Type: huma.TypeString, Description: "The JSON payload as text."}},
	}}
	return &huma.PathItem{Post: &huma.Operation{
		OperationID: "on-" + strings.ReplaceAll(t.Name, ".", "-"), Summary: t.Name,
		Description: strings.TrimSpace(t.Description + "\n\n" + t.Notes), Deprecated: t.Deprecated,
		Parameters: a.deliveryHeaders(),
		RequestBody: &huma.RequestBody{
			Required: true, Content: map[string]*huma.MediaType{typeJSON: media, string(postrider.Form): form},
		},
		Responses: map[string]*huma.Response{
			"2XX": {
				Description: "Received. Every other answer is a failure and is tried again, but for 410, which disables the webhook.",
			},
		},
		Security: []map[string][]string{},
	}}
}

// eventSchema carries a catalogue's schema over as it is. One that refers to
// its own parts is given a name, so that it does so in the document too.
func eventSchema(t postrider.EventType) *huma.Schema {
	members := map[string]stdjson.RawMessage{}
	if stdjson.Unmarshal(t.Schema, &members) != nil {
		return &huma.Schema{} // none, or true or false
	}
	if _, named := members["$id"]; !named && strings.Contains(string(t.Schema), `"$ref"`) {
		members["$id"] = stdjson.RawMessage(strconv.Quote("/schemas/" + t.Name))
	}
	schema := &huma.Schema{Extensions: map[string]any{}}
	for name, value := range members {
		schema.Extensions[name] = value
	}
	return schema
}

// deliveryHeaders are those of every delivery.
func (a *API) deliveryHeaders() (list []*huma.Param) {
	headers := map[string]string{
		"X-" + a.Brand + "-Event":              "The event type.",
		"X-" + a.Brand + "-Delivery":           "The event id: the same over retries and webhooks.",
		"X-" + a.Brand + "-Hook-ID":            "The webhook's id.",
		"X-" + a.Brand + "-Attempt":            "1, 2, …",
		"X-" + a.Brand + "-Signature":          "Only with a secret: sha256= and the hexadecimal HMAC-SHA256 of the exact body; the key is the secret's text.",
		"X-" + a.Brand + "-Signature-Previous": "Only while a secret that was rotated out signs along: the same, by that secret.",
		"webhook-id":                           "Only with a secret: the event id (Standard Webhooks).",
		"webhook-timestamp":                    "Only with a secret: the time of this attempt, in seconds since 1970.",
		"webhook-signature":                    "Only with a secret: v1, and the base64 HMAC-SHA256 of id, timestamp and body, joined by dots. After a rotation one such entry for each secret that still signs, the newest first, with spaces between.",
	}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		list = append(list, &huma.Param{
			Name: name, In: "header", Description: headers[name], Schema: &huma.Schema{Type: huma.TypeString},
			Required: strings.HasPrefix(name, "X-") && !strings.Contains(name, "-Signature"),
		})
	}
	return list
}
