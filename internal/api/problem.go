package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"postrider"
)

// A problem is the body of every error (RFC 9457). It says nothing about the
// request's path or ids, so that "not yours" and "not there" are the same bytes.
type problem struct {
	Type   string         `json:"type" doc:"Where this code is explained: a link relative to this server." example:"/docs/api#error-invalid_event" format:"uri-reference"`
	Title  string         `json:"title" doc:"The status in words." example:"Unprocessable Entity"`
	Status int            `json:"status" doc:"The HTTP status." example:"422"`
	Detail string         `json:"detail" doc:"What is wrong and, where there is one, the next step. For people." example:"An event type is dotted lower-case identifiers."`
	Code   string         `json:"code" doc:"What is wrong, for programs: stable, listed in the reference." example:"invalid_event"`
	Errors []fieldProblem `json:"errors,omitempty" nullable:"false" doc:"Each field at fault."`

	header http.Header // sent with it
}

type fieldProblem struct {
	Field   string `json:"field" doc:"The field's JSON name with its path, or the parameter's name." example:"events[0]"`
	Code    string `json:"code" example:"invalid_event"`
	Message string `json:"message" example:"An event type is dotted lower-case identifiers."`
}

// The methods below make a *problem an error that huma sends as it stands.

func (p *problem) Error() string             { return p.Detail }
func (p *problem) GetStatus() int            { return p.Status }
func (p *problem) GetHeaders() http.Header   { return p.header }
func (p *problem) ContentType(string) string { return contentProblem[0] }

// errMethod has no Kind of its own: only HTTP knows methods.
var errMethod = errors.New("method not allowed")

// A mediaTypeError is a body of a type that the route does not take.
type mediaTypeError struct{ want string }

func (e *mediaTypeError) Error() string {
	return "Send the body as " + e.want + " and say so in Content-Type."
}

// A panicError is a handler's panic.
type panicError struct{ cause any }

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.cause) }

var statusOfKind = map[postrider.Kind]int{
	postrider.Invalid:         http.StatusUnprocessableEntity,
	postrider.Malformed:       http.StatusBadRequest,
	postrider.Unauthenticated: http.StatusUnauthorized,
	postrider.Forbidden:       http.StatusForbidden,
	postrider.NotFound:        http.StatusNotFound,
	postrider.Conflict:        http.StatusConflict,
	postrider.TooLarge:        http.StatusRequestEntityTooLarge,
	postrider.RateLimited:     http.StatusTooManyRequests,
	postrider.Unavailable:     http.StatusServiceUnavailable,
	postrider.StorageFull:     http.StatusInsufficientStorage,
}

// retryAfter is said when an error that waiting can cure does not say how long.
var retryAfter = map[postrider.Kind]time.Duration{
	postrider.RateLimited: time.Second,
	postrider.Unavailable: 2 * time.Second,
	postrider.StorageFull: time.Minute,
}

func newProblem(status int, code, detail string) *problem {
	return &problem{
		Type: "/docs/api#error-" + code, Title: http.StatusText(status),
		Status: status, Detail: detail, Code: code,
	}
}

// problemOf turns any error into what the caller may see. What is not the
// caller's to see is logged here, its last stop, and becomes "internal".
func (a *API) problemOf(ctx context.Context, err error) *problem {
	var shown *postrider.Error
	var mediaType *mediaTypeError
	switch {
	case errors.As(err, &shown) && statusOfKind[shown.Kind] != 0:
		return problemOfError(shown)
	case errors.As(err, &mediaType):
		return newProblem(http.StatusUnsupportedMediaType, "unsupported_media_type", mediaType.Error())
	case errors.Is(err, errMethod):
		return newProblem(http.StatusMethodNotAllowed, "method_not_allowed",
			"The route exists, but not with this method; Allow lists those that it takes.")
	case ctx.Err() != nil:
		// The caller is gone, or the server stops: nothing broke.
		return problemOfError(&postrider.Error{
			Kind: postrider.Unavailable, Code: "unavailable", Detail: "The request was interrupted. Send it again.",
		})
	}
	attrs := []any{"error", err.Error()}
	if _, panicked := errors.AsType[*panicError](err); panicked {
		attrs = append(attrs, "stack", string(debug.Stack()))
	}
	a.Logger.ErrorContext(ctx, "request failed", attrs...)
	return newProblem(http.StatusInternalServerError, "internal",
		"Something broke on this side. It is logged; try again later.")
}

func problemOfError(e *postrider.Error) *problem {
	p := newProblem(statusOfKind[e.Kind], e.Code, e.Detail)
	if e.Field != "" {
		p.Errors = []fieldProblem{{Field: shorten(e.Field), Code: e.Code, Message: e.Detail}}
	}
	for _, f := range e.Fields {
		p.Errors = append(p.Errors, fieldProblem{Field: shorten(f.Field), Code: f.Code, Message: f.Detail})
	}
	p.header = http.Header{}
	if e.Kind == postrider.Unauthenticated {
		p.header.Set("WWW-Authenticate", `Bearer realm="postrider"`)
	}
	if wait := cmp.Or(e.RetryAfter, retryAfter[e.Kind]); wait > 0 {
		p.header.Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	}
	return p
}

// fail answers with an error, for what huma does not answer itself.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := a.problemOf(r.Context(), err)
	header := w.Header()
	maps.Copy(header, p.header)
	header["Content-Type"] = contentProblem
	w.WriteHeader(p.Status)
	writeJSON(w, p) //nolint:errcheck // the caller is gone: there is nobody to tell
}

// humaProblem rewrites the errors that huma itself makes: about parameters, and
// about a body that is missing. It reads bodies from memory, so that nothing
// else goes wrong in it.
func humaProblem(_ huma.Context, _ string, body any) (any, error) {
	model, ok := body.(*huma.ErrorModel)
	if !ok {
		return body, nil
	}
	switch model.Status {
	case http.StatusUnprocessableEntity:
		return parameterProblem(model), nil
	case http.StatusBadRequest:
		return problemOfError(errBodyRequired), nil
	}
	return nil, fmt.Errorf("huma answers %d: %s", model.Status, model.Detail)
}

func parameterProblem(model *huma.ErrorModel) *problem {
	e := &postrider.Error{Kind: postrider.Invalid, Code: "invalid", Detail: "Several parameters are invalid."}
	for _, d := range model.Errors {
		_, field, _ := strings.Cut(d.Location, ".") // query.limit, path.id, header.Idempotency-Key
		code, detail := "invalid_parameter", upperFirst(d.Message)+"."
		if d.Message == "unknown query parameter" {
			code, detail = "unknown_parameter", "This route has no such query parameter."
		}
		e.Fields = append(e.Fields, postrider.FieldError{Field: field, Code: code, Detail: detail})
	}
	if len(e.Fields) == 1 {
		only := e.Fields[0]
		e = &postrider.Error{Kind: postrider.Invalid, Field: only.Field, Code: only.Code, Detail: only.Detail}
	}
	return problemOfError(e)
}

// shorten bounds what is told of a name that the caller made up.
func shorten(field string) string {
	const most = 300
	if len(field) <= most {
		return field
	}
	return strings.ToValidUTF8(field[:most], "") + "…"
}

func upperFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// writeOptions let everything through that was accepted once: what receivers
// answer is not always UTF-8, and what was stored may repeat names.
var writeOptions = json.JoinOptions(
	jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true), json.Deterministic(true),
)

// writeJSON encodes an answer. A type that holds bytes which must not change
// encodes itself.
func writeJSON(w interface{ Write([]byte) (int, error) }, v any) error {
	var text []byte
	var err error
	if own, ok := v.(interface{ encode() ([]byte, error) }); ok {
		text, err = own.encode()
	} else {
		text, err = json.Marshal(v, writeOptions)
	}
	if err != nil {
		return fmt.Errorf("encoding an answer: %w", err)
	}
	_, err = w.Write(append(text, '\n'))
	return err
}
