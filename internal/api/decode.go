package api

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"postrider"
)

var (
	errBodyRequired = malformed("", "body_required", "This route needs a JSON body.")
	errBodyTimeout  = malformed("", "body_timeout", "The request body came too slowly.")
	errBodyBroken   = malformed("", "body_incomplete", "The request body ended before its announced end.")
	errUTF8         = malformed("", "invalid_utf8", "The body is not valid UTF-8.")
	errTrailing     = malformed("", "trailing_data", "Something follows the JSON value. Send exactly one.")
	errBodyTooLarge = &postrider.Error{
		Kind: postrider.TooLarge, Code: "body_too_large", Detail: "The request body is larger than this route takes.",
	}
)

const (
	typeJSON   = "application/json"
	typePatch  = "application/merge-patch+json"
	typeNDJSON = "application/x-ndjson"
)

// checkMediaType refuses a body that says to be of a type which the route does
// not take. One that says nothing is taken as the first of the types.
func checkMediaType(r *http.Request, types ...string) (mediaType string, err error) {
	header := r.Header["Content-Type"]
	if r.ContentLength == 0 || len(header) == 0 {
		return types[0], nil
	}
	if len(header) == 1 && header[0] == types[0] {
		return types[0], nil
	}
	mediaType, params, err := mime.ParseMediaType(strings.Join(header, ", "))
	charset, said := params["charset"]
	if err != nil || !slices.Contains(types, mediaType) || said && !strings.EqualFold(charset, "utf-8") {
		return "", &mediaTypeError{want: strings.Join(types, " or ")}
	}
	return mediaType, nil
}

// readBody reads a whole body of at most limit bytes into memory of its own.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		// Reading what will not be used would only please a slow sender.
		w.Header().Set("Connection", "close")
		return nil, errBodyTooLarge
	}
	source := io.Reader(r.Body)
	if r.ContentLength < 0 {
		source = http.MaxBytesReader(w, r.Body, limit)
	}
	// An announced length is believed up to 1 MiB: beyond it memory is only
	// spent on bytes that came. The byte more lets the loop see the end.
	body := make([]byte, 0, min(max(r.ContentLength, 511), 1<<20)+1)
	for {
		n, err := source.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if err == io.EOF {
			return body, nil
		}
		if err != nil {
			return nil, bodyError(err)
		}
		if len(body) == cap(body) {
			body = slices.Grow(body, len(body))
		}
	}
}

func bodyError(err error) error {
	var tooLarge *http.MaxBytesError
	var network net.Error
	switch {
	case errors.As(err, &tooLarge):
		return errBodyTooLarge
	case errors.As(err, &network) && network.Timeout():
		return errBodyTimeout
	}
	return errBodyBroken
}

// content is a request's body, decoded strictly. What is wrong with it is kept
// in err, since huma would reduce it to a text.
type content[T any] struct {
	Value T
	err   error
}

func (c *content[T]) decode(data []byte) { c.err = decodeStrict(data, &c.Value) }

// Schema is that of the value.
func (c *content[T]) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[T](), true, "")
}

// WithBody is embedded in the input of an operation that has a body.
type WithBody[T any] struct{ Body content[T] }

func (b *WithBody[T]) fault() error { return b.Body.err }

// anyJSON is a body that is kept as its exact bytes.
type anyJSON struct {
	data []byte
	err  error
}

// Schema takes every value.
func (*anyJSON) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Description: "Any JSON value. Its exact bytes are kept."}
}

// WithAnyJSON is embedded in the input of an operation that takes any JSON
// value, or none.
type WithAnyJSON struct{ Body *anyJSON }

func (b *WithAnyJSON) fault() error {
	if b.Body == nil {
		return nil
	}
	return b.Body.err
}

// payload is nil without a body.
func (b *WithAnyJSON) payload() []byte {
	if b.Body == nil {
		return nil
	}
	return b.Body.data
}

// unmarshalBody is how huma decodes a body. The buffer is huma's.
func unmarshalBody(data []byte, v any) error {
	switch v := v.(type) {
	case interface{ decode([]byte) }:
		v.decode(data)
		return nil
	case **content[redeliverTo]: // a body that may be absent
		*v = new(content[redeliverTo])
		(*v).decode(data)
		return nil
	case **anyJSON:
		*v = &anyJSON{data: bytes.Clone(data), err: checkJSON(data)}
		return nil
	}
	return fmt.Errorf("a body is decoded into %T", v)
}

// decodeStrict decodes one JSON value and refuses duplicate names, unknown
// names and other spellings of known ones, trailing data and invalid UTF-8.
func decodeStrict(data []byte, v any) error {
	if !utf8.Valid(data) {
		return errUTF8
	}
	decoder := jsontext.NewDecoder(bytes.NewBuffer(data))
	if err := json.UnmarshalDecode(decoder, v, json.RejectUnknownMembers(true)); err != nil {
		return jsonError("", err)
	}
	return checkEnd(data, decoder)
}

// checkEnd refuses what follows the value that a decoder has read.
func checkEnd(data []byte, decoder *jsontext.Decoder) error {
	if len(bytes.TrimLeft(data[decoder.InputOffset():], " \t\r\n")) > 0 {
		return errTrailing
	}
	return nil
}

// payloadOptions say what a payload may be: any JSON text in UTF-8. Names may
// repeat and escapes may stand for half a surrogate pair, since nobody here
// reads them. The bytes themselves are found to be UTF-8 before.
var payloadOptions = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// checkJSON refuses what is not one JSON value in UTF-8.
func checkJSON(data []byte) error {
	if !utf8.Valid(data) {
		return errUTF8
	}
	decoder := jsontext.NewDecoder(bytes.NewBuffer(data), payloadOptions)
	if _, err := decoder.ReadValue(); err != nil {
		return jsonError("", err)
	}
	return checkEnd(data, decoder)
}

// jsonError turns an error of the JSON library into one for the caller. The
// prefix stands before the field's path.
func jsonError(prefix string, err error) error {
	var own *postrider.Error
	var syntactic *jsontext.SyntacticError
	var semantic *json.SemanticError
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &semantic):
		field := joinPath(prefix, fieldPath(semantic.JSONPointer))
		if errors.Is(err, json.ErrUnknownName) {
			return unknownField(field)
		}
		return wrongType(field, "The value has the wrong JSON type.")
	case errors.As(err, &syntactic):
		field := joinPath(prefix, fieldPath(syntactic.JSONPointer))
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return duplicateField(field)
		}
		return malformed(field, "malformed_json",
			fmt.Sprintf("The body is not well-formed JSON: %v (byte %d).", syntactic.Err, syntactic.ByteOffset))
	}
	// Only the end of the input comes without a wrapping.
	return malformed(prefix, "malformed_json", "The body is not well-formed JSON: it holds no value.")
}

// malformed is the error of a request that cannot be read.
func malformed(field, code, detail string) *postrider.Error {
	return &postrider.Error{Kind: postrider.Malformed, Field: field, Code: code, Detail: detail}
}

// invalid is the error of a value that cannot be.
func invalid(field, code, detail string) *postrider.Error {
	return &postrider.Error{Kind: postrider.Invalid, Field: field, Code: code, Detail: detail}
}

func unknownField(field string) error {
	return malformed(field, "unknown_field", "There is no such field. Names are matched exactly.")
}

func duplicateField(field string) error {
	return malformed(field, "duplicate_field", "The field stands there twice.")
}

func wrongType(field, detail string) error { return invalid(field, "invalid_type", detail) }

func required(field string) error {
	return invalid(field, "required", "This field is required and cannot be null.")
}

// maxPath is how many steps of a path are told: a payload can be 10,000 deep.
const maxPath = 8

// fieldPath writes a JSON pointer as the field path of our errors:
// /events/2 is events[2].
func fieldPath(p jsontext.Pointer) string {
	path, steps := "", 0
	for token := range p.Tokens() {
		if steps++; steps > maxPath {
			return path + "…"
		}
		if token != "" && strings.Trim(token, "0123456789") == "" {
			path += "[" + token + "]"
		} else {
			path = joinPath(path, token)
		}
	}
	return path
}

func joinPath(prefix, name string) string {
	if prefix == "" || name == "" || name[0] == '[' {
		return prefix + name
	}
	return prefix + "." + name
}

// optional is a field of which it matters whether it was absent, null or given.
type optional[T any] struct {
	Set   bool // it was there
	Null  bool // as null
	Value T
}

// UnmarshalJSONFrom reads the value or null.
func (o *optional[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	o.Set = true
	if d.PeekKind() == 'n' {
		o.Null = true
		return d.SkipValue()
	}
	return json.UnmarshalDecode(d, &o.Value)
}

// Schema is that of the value, or null.
func (o *optional[T]) Schema(r huma.Registry) *huma.Schema {
	s := *r.Schema(reflect.TypeFor[T](), true, "")
	s.Nullable = true
	return &s
}

// given reports a value that is there and not null.
func (o *optional[T]) given() bool { return o.Set && !o.Null }

// instant is a time as the API shows it: UTC, with milliseconds.
type instant time.Time

const instantLayout = "2006-01-02T15:04:05.000Z"

// MarshalText is for JSON.
func (t instant) MarshalText() ([]byte, error) {
	return time.Time(t).UTC().AppendFormat(nil, instantLayout), nil
}

// Schema is that of a time.
func (instant) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time", Examples: []any{"2026-03-14T15:09:26.535Z"}}
}

// instantOrNull is nil for the zero time.
func instantOrNull(t time.Time) *instant {
	if t.IsZero() {
		return nil
	}
	return (*instant)(&t)
}

// orNull is nil for the zero value.
func orNull[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// rawJSON is a value that is shown as it was given.
type rawJSON = jsontext.Value

// text shows bytes: as text where they are UTF-8, else in base64. A text that
// was cut in the middle of a character ends before that character.
func text(body []byte, cut bool) (shown, encoding string) {
	whole := body
	if cut {
		whole = withoutPartialRune(body)
	}
	if utf8.Valid(whole) {
		return string(whole), "utf-8"
	}
	return base64.StdEncoding.EncodeToString(body), "base64"
}

// withoutPartialRune drops the beginning of a character at the end.
func withoutPartialRune(body []byte) []byte {
	for n := 1; n < utf8.UTFMax && n <= len(body); n++ {
		if tail := body[len(body)-n:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				return body[:len(body)-n]
			}
			break
		}
	}
	return body
}
