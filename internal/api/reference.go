package api

import (
	"bytes"
	_ "embed" // the page and its style
	stdjson "encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

//go:embed reference.html
var referenceHTML string

//go:embed reference.css
var referenceCSS []byte

var referencePage = template.Must(template.New("reference").Parse(referenceHTML))

// The parts of the reference page. It is made from the OpenAPI document, so
// that the two cannot disagree.
type (
	refPage struct {
		Title, Version, Description string
		Groups                      []refGroup
		Headers                     []refField // of deliveries
		Codes                       []refCode
	}
	refGroup struct {
		ID, Name, Description string
		Operations            []refOperation
	}
	refOperation struct {
		ID, Method, Path, Summary, Description string
		Operator                               bool
		Parameters                             []refField
		Bodies                                 string // media types
		Body                                   []refField
		Curl                                   string
		Answers                                []refAnswer
		Errors                                 []string // statuses
	}
	refAnswer struct {
		Status, Meaning string
		Fields          []refField
		Example         string
	}
	// A refCode is the target of a link from problem documents, and the first of
	// its status that of links from operations.
	refCode struct {
		Code
		ID, StatusID string
	}
	refField struct {
		Name, Kind, Where string
		Required          bool
		Description       string
		Limits            []string
	}
)

// renderReference makes the page.
func (a *API) renderReference() []byte {
	api := a.huma.OpenAPI()
	page := refPage{
		Title: api.Info.Title, Version: api.Info.Version, Description: api.Info.Description,
		Codes: referCodes(),
	}
	for _, header := range a.deliveryHeaders() {
		page.Headers = append(page.Headers, refField{
			Name: header.Name, Kind: "header", Required: header.Required, Description: header.Description,
		})
	}
	for _, tag := range api.Tags {
		group := refGroup{ID: anchor(tag.Name), Name: tag.Name, Description: tag.Description}
		for _, op := range a.listed {
			if op.Tags[0] == tag.Name {
				group.Operations = append(group.Operations, refer(api.Components.Schemas, op))
			}
		}
		page.Groups = append(page.Groups, group)
	}
	var out bytes.Buffer
	if err := referencePage.Execute(&out, page); err != nil {
		panic(fmt.Sprintf("api: rendering the reference: %v", err))
	}
	return out.Bytes()
}

func referCodes() (list []refCode) {
	linked := map[string]bool{}
	once := func(id string) string {
		if linked[id] {
			return ""
		}
		linked[id] = true
		return id
	}
	for _, code := range Codes() {
		list = append(list, refCode{code, once("error-" + code.Code), once("errors-" + strconv.Itoa(code.Status))})
	}
	return list
}

func anchor(name string) string { return strings.ReplaceAll(strings.ToLower(name), " ", "-") }

func refer(registry huma.Registry, op *huma.Operation) refOperation {
	ref := refOperation{
		ID: op.OperationID, Method: op.Method, Path: op.Path, Summary: op.Summary, Description: op.Description,
		Operator: op.Extensions["x-operator-only"] == true, Curl: curl(op),
	}
	for _, p := range op.Parameters {
		ref.Parameters = append(ref.Parameters, referField(p.Name, p.In, p.Required, p.Description, p.Schema))
	}
	if op.RequestBody != nil {
		ref.Bodies = strings.Join(slices.Sorted(maps.Keys(op.RequestBody.Content)), " or ")
		schema := op.RequestBody.Content[typeJSON].Schema
		if ref.Body = referFields(registry, "", schema); ref.Body == nil {
			ref.Body = []refField{referField("(body)", "", op.RequestBody.Required, resolve(registry, schema).Description, schema)}
		}
	}
	for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
		answer := op.Responses[status]
		if media := answer.Content[contentProblem[0]]; media != nil {
			ref.Errors = append(ref.Errors, status)
			continue
		}
		shown := refAnswer{Status: status, Meaning: answer.Description}
		if media := answer.Content[typeJSON]; media != nil {
			shown.Fields = referFields(registry, "", media.Schema)
			shown.Example = pretty(exampleOf(registry, media.Schema))
		}
		ref.Answers = append(ref.Answers, shown)
	}
	return ref
}

// referFields lists the fields of an object, those of objects in it with
// their path; of an array those of its items.
func referFields(registry huma.Registry, path string, s *huma.Schema) (fields []refField) {
	s = resolve(registry, s)
	if s.Type == huma.TypeArray {
		return referFields(registry, path+"[].", s.Items)
	}
	for _, name := range fieldNames(s) {
		field := s.Properties[name]
		fields = append(fields, referField(path+name, "", slices.Contains(s.Required, name), field.Description, field))
		inner := field
		if len(field.AnyOf) > 0 {
			inner = field.AnyOf[0]
		}
		if inner = resolve(registry, inner); inner.Type == huma.TypeArray {
			fields = append(fields, referFields(registry, path+name, inner)...)
		} else {
			fields = append(fields, referFields(registry, path+name+".", inner)...)
		}
	}
	return fields
}

func referField(name, where string, required bool, description string, s *huma.Schema) refField {
	return refField{Name: name, Kind: kind(s), Where: where, Required: required, Description: description, Limits: limits(s)}
}

func kind(s *huma.Schema) string {
	name := s.Type
	switch {
	case s.Ref != "":
		name = "object"
	case len(s.AnyOf) > 0:
		return "object or null"
	case s.Type == huma.TypeArray:
		name = "array of " + kind(s.Items)
	case s.Type == "":
		return "any JSON value"
	}
	if s.Nullable {
		name += " or null"
	}
	return name
}

// limits says in words what values a field takes.
func limits(s *huma.Schema) (list []string) {
	if s.Type == huma.TypeArray {
		list = limits(s.Items)
	}
	if len(s.Enum) > 0 {
		var values []string
		for _, value := range s.Enum {
			values = append(values, fmt.Sprint(value))
		}
		list = append(list, "one of "+strings.Join(values, ", "))
	}
	add := func(text string, limit *int) {
		if limit != nil {
			list = append(list, fmt.Sprintf(text, *limit))
		}
	}
	add("at least %d characters", s.MinLength)
	add("at most %d characters", s.MaxLength)
	add("%d or more entries", s.MinItems)
	add("at most %d entries", s.MaxItems)
	add("at most %d entries", s.MaxProperties)
	if s.Minimum != nil {
		list = append(list, "at least "+strconv.FormatFloat(*s.Minimum, 'f', -1, 64))
	}
	if s.Maximum != nil {
		list = append(list, "at most "+strconv.FormatFloat(*s.Maximum, 'f', -1, 64))
	}
	if s.Pattern != "" {
		list = append(list, "matches "+s.Pattern)
	}
	if s.Format != "" && s.Type == huma.TypeString {
		list = append(list, s.Format)
	}
	if s.Default != nil {
		list = append(list, fmt.Sprintf("default %v", s.Default))
	}
	return list
}

// curl is a command to paste, for a server on this machine.
func curl(op *huma.Operation) string {
	var command strings.Builder
	command.WriteString("curl")
	if op.Method != http.MethodGet {
		command.WriteString(" -X " + op.Method)
	}
	path := op.Path
	for _, p := range op.Parameters {
		if p.In == "path" && len(p.Schema.Examples) > 0 {
			path = strings.ReplaceAll(path, "{"+p.Name+"}", fmt.Sprint(p.Schema.Examples[0]))
		}
	}
	path = strings.NewReplacer("{id}", "$ID", "{attempt_id}", "$ATTEMPT_ID").Replace(path)
	command.WriteString(` "http://127.0.0.1:8080` + path + "\" \\\n  -H \"x-api-key: $API_KEY\"")
	if op.RequestBody != nil {
		body := pretty(op.RequestBody.Content[typeJSON].Example)
		if body == "null" {
			body = `{"hello": "world"}`
		}
		command.WriteString(" \\\n  -H 'content-type: application/json' \\\n  -d '" + strings.ReplaceAll(body, "'", `'\''`) + "'")
	}
	return command.String()
}

func pretty(v any) string {
	var out bytes.Buffer
	encoder := stdjson.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		panic(fmt.Sprintf("api: encoding an example: %v", err))
	}
	return strings.TrimSpace(out.String())
}

// The reference loads its own style and nothing else, and runs no script.
const policyReference = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func (a *API) serveReference(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", policyReference)
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Cache-Control", "no-cache")
	w.Write(a.reference()) //nolint:errcheck // the caller is gone
}

func (a *API) serveStyle(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "text/css; charset=utf-8")
	header.Set("Cache-Control", "no-cache")
	w.Write(referenceCSS) //nolint:errcheck // the caller is gone
}
