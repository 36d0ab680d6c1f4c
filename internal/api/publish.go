package api

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json/jsontext"

	"postrider"
)

// publication documents what publicationReader reads.
type publication struct {
	Event      string  `json:"event" maxLength:"128" doc:"The event type." example:"room_status.updated"`
	Payload    rawJSON `json:"payload" doc:"Any JSON value. Partners receive exactly these bytes."`
	Tenant     string  `json:"tenant,omitempty" nullable:"true" doc:"Whose webhooks get it: a tenant's name, or * for every tenant. Absent: default." example:"default"`
	ID         string  `json:"id,omitempty" nullable:"true" pattern:"^[A-Za-z0-9_-]{1,64}$" doc:"The event's id; one is made when absent. The same id again is refused or answered as before." example:"evt_2048"`
	OccurredAt instant `json:"occurred_at,omitzero" nullable:"true" doc:"When it happened (RFC 3339)."`
}

// TransformSchema says what the payload is.
func (*publication) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	describeRaw(s, "payload")
	s.Properties["payload"].Examples = []any{map[string]any{"room": 12, "status": "clean"}}
	s.Properties["occurred_at"].Nullable = true
	return s
}

type receipt struct {
	ID         string `json:"id" doc:"The event's id." example:"evt_2048"`
	Deliveries int    `json:"deliveries" doc:"How many webhooks it matched." example:"3"`
}

type receipts struct {
	Data []receipt `json:"data" nullable:"false" doc:"One entry per event, in the order of the request."`
}

// publishEvent is POST /v0/events. It does without huma: it is called once for
// each event, and the payload must stay the bytes that came.
func (a *API) publishEvent(o operation) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, body, key, _, err := a.admitPublication(w, r, o)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		var one [1]postrider.Publication
		if one[0], err = decodePublication(body, isPublished); err != nil {
			a.fail(w, r, err)
			return
		}
		done, err := a.Publisher.Publish(r.Context(), one[:], scoped(key, c))
		if err != nil {
			a.fail(w, r, err)
			return
		}
		writeAccepted(w, appendReceipt(make([]byte, 0, 96), done[0]))
	}
}

// publishBatch is POST /v0/events/batch.
func (a *API) publishBatch(o operation) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, body, key, mediaType, err := a.admitPublication(w, r, o)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		batch, err := decodeBatch(body, mediaType == typeNDJSON)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		done, err := a.Publisher.Publish(r.Context(), batch, scoped(key, c))
		if err != nil {
			a.fail(w, r, indexed(err, len(batch)))
			return
		}
		answer := append(make([]byte, 0, 16+80*len(done)), `{"data":[`...)
		for i := range done {
			if i > 0 {
				answer = append(answer, ',')
			}
			answer = appendReceipt(answer, done[i])
		}
		writeAccepted(w, append(answer, `]}`...))
	}
}

// admitPublication is admit, and the idempotency key of the request.
func (a *API) admitPublication(
	w http.ResponseWriter, r *http.Request, o operation,
) (c *call, body []byte, key *postrider.IdempotencyKey, mediaType string, err error) {
	if c, body, mediaType, err = a.admit(w, r, o); err != nil {
		return c, nil, nil, "", err
	}
	if r.URL.RawQuery != "" {
		// A tenant in the query would go unnoticed, and the event to another.
		return c, nil, nil, "", invalid("", "unknown_parameter",
			"This route has no query parameters. The tenant is a field of the body.")
	}
	if keys, found := r.Header["Idempotency-Key"]; found {
		key, err = idempotencyKey(keys, body)
	}
	return c, body, key, mediaType, err
}

func idempotencyKey(keys []string, body []byte) (*postrider.IdempotencyKey, error) {
	visible := len(keys) == 1 && len(keys[0]) >= 1 && len(keys[0]) <= 255
	for i := 0; visible && i < len(keys[0]); i++ {
		visible = keys[0][i] > ' ' && keys[0][i] < 0x7f
	}
	if !visible {
		return nil, invalid("Idempotency-Key", "invalid_idempotency_key",
			"An idempotency key is 1 to 255 visible ASCII characters without spaces, given once.")
	}
	return &postrider.IdempotencyKey{Key: keys[0], BodyHash: sha256.Sum256(body)}, nil
}

// scoped keeps the keys of one caller apart from those of others.
func scoped(key *postrider.IdempotencyKey, c *call) *postrider.IdempotencyKey {
	if key != nil {
		key.Scope = c.key.Tenant
	}
	return key
}

func appendReceipt(b []byte, r postrider.Receipt) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, r.ID...) // A-Z, a-z, 0-9, _ and - only
	b = append(b, `","deliveries":`...)
	b = strconv.AppendInt(b, int64(r.Deliveries), 10)
	return append(b, '}')
}

func writeAccepted(w http.ResponseWriter, answer []byte) {
	w.Header()["Content-Type"] = contentJSON
	w.WriteHeader(http.StatusAccepted)
	w.Write(append(answer, '\n')) //nolint:errcheck // the caller is gone: there is nobody to tell
}

// A publicationReader reads publications in one pass. The envelope's names are
// matched here, strictly; the decoder is told to let payloads be as they are,
// and gives their place in the body, so that they are neither copied nor
// written anew.
type publicationReader struct {
	decoder jsontext.Decoder
	source  bytes.Buffer
	body    []byte
}

var publicationReaders = sync.Pool{New: func() any { return new(publicationReader) }}

func newPublicationReader(body []byte) *publicationReader {
	p := publicationReaders.Get().(*publicationReader)
	p.reset(body)
	return p
}

func (p *publicationReader) reset(body []byte) {
	p.body = body
	p.source = *bytes.NewBuffer(body)
	p.decoder.Reset(&p.source, payloadOptions)
}

// free gives the reader back without the body, which the publisher may keep.
func (p *publicationReader) free() {
	p.reset(nil)
	publicationReaders.Put(p)
}

// decodePublication reads one event with at least the members that it needs.
func decodePublication(body []byte, needs int) (postrider.Publication, error) {
	if err := checkBody(body); err != nil {
		return postrider.Publication{}, err
	}
	p := newPublicationReader(body)
	defer p.free()
	read, err := p.publication("", needs)
	if err != nil {
		return read, err
	}
	return read, checkEnd(body, &p.decoder)
}

// decodeBatch reads an array, or a value on each line. It stops at the first
// event that cannot be read.
func decodeBatch(body []byte, lines bool) ([]postrider.Publication, error) {
	if err := checkBody(body); err != nil {
		return nil, err
	}
	read := decodeArray
	if lines {
		read = decodeLines
	}
	batch, err := read(body)
	if err == nil && len(batch) == 0 {
		err = invalid("", "empty_batch", "A batch holds at least one event.")
	}
	return batch, err
}

var errBatchSize = invalid("", "too_many_events", fmt.Sprintf("A batch holds at most %d events.", batchSize))

func decodeArray(body []byte) ([]postrider.Publication, error) {
	p := newPublicationReader(body)
	defer p.free()
	if p.decoder.PeekKind() != '[' {
		if _, err := p.decoder.ReadValue(); err != nil {
			return nil, jsonError("", err)
		}
		return nil, wrongType("", "A batch is an array of events.")
	}
	if _, err := p.decoder.ReadToken(); err != nil {
		return nil, jsonError("", err)
	}
	var batch []postrider.Publication
	for p.decoder.PeekKind() != ']' {
		if len(batch) == batchSize {
			return nil, errBatchSize
		}
		read, err := p.publication(index(len(batch)), isPublished)
		if err != nil {
			return nil, err
		}
		batch = append(batch, read)
	}
	if _, err := p.decoder.ReadToken(); err != nil {
		return nil, jsonError("", err)
	}
	return batch, checkEnd(body, &p.decoder)
}

func decodeLines(body []byte) ([]postrider.Publication, error) {
	p := newPublicationReader(nil)
	defer p.free()
	var batch []postrider.Publication
	for line := range bytes.Lines(body) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if len(batch) == batchSize {
			return nil, errBatchSize
		}
		p.reset(line)
		prefix := index(len(batch))
		read, err := p.publication(prefix, isPublished)
		if err == nil {
			err = at(prefix, checkEnd(line, &p.decoder))
		}
		if err != nil {
			return nil, err
		}
		batch = append(batch, read)
	}
	return batch, nil
}

// at names the event at fault, where the error names nothing yet.
func at(prefix string, err error) error {
	var e *postrider.Error
	if !errors.As(err, &e) || e.Field != "" {
		return err
	}
	placed := *e
	placed.Field = prefix
	return &placed
}

func index(i int) string { return "[" + strconv.Itoa(i) + "]" }

// indexed names the event also in a batch of one, of which the publisher
// speaks as of a single event.
func indexed(err error, size int) error {
	var e *postrider.Error
	if size != 1 || !errors.As(err, &e) {
		return err
	}
	placed := *e
	if e.Field != "" {
		placed.Field = joinPath(index(0), e.Field)
	}
	placed.Fields = nil
	for _, f := range e.Fields {
		f.Field = joinPath(index(0), f.Field)
		placed.Fields = append(placed.Fields, f)
	}
	return &placed
}

func checkBody(body []byte) error {
	if len(body) == 0 {
		return errBodyRequired
	}
	if !utf8.Valid(body) {
		return errUTF8
	}
	return nil
}

// The members of a publication, as bits, to see one that comes twice.
const (
	hasEvent = 1 << iota
	hasPayload
	hasTenant
	hasID
	hasOccurredAt
)

// isPublished are the members that nothing is published without.
const isPublished = hasEvent | hasPayload

// publication reads the next value. The prefix is the path of it.
func (p *publicationReader) publication(prefix string, needs int) (read postrider.Publication, err error) {
	if p.decoder.PeekKind() != '{' {
		if _, err := p.decoder.ReadValue(); err != nil {
			return read, p.fault(prefix, err)
		}
		return read, wrongType(prefix, "An event is an object with event and payload.")
	}
	if _, err := p.decoder.ReadToken(); err != nil {
		return read, p.fault(prefix, err)
	}
	seen := 0
	for p.decoder.PeekKind() == '"' {
		bit, err := p.member(prefix, &read)
		if err != nil {
			return read, err
		}
		if bit == seen&bit {
			return read, duplicateField(joinPath(prefix, memberName(bit)))
		}
		seen |= bit
	}
	if _, err := p.decoder.ReadToken(); err != nil {
		return read, p.fault(prefix, err)
	}
	var faults postrider.Faults
	for _, bit := range []int{hasEvent, hasPayload} {
		if needs&^seen&bit != 0 {
			faults.Add(required(joinPath(prefix, memberName(bit))))
		}
	}
	return read, faults.Err()
}

// member reads one name and its value.
func (p *publicationReader) member(prefix string, read *postrider.Publication) (bit int, err error) {
	name, err := p.decoder.ReadValue()
	if err != nil {
		return 0, p.fault(prefix, err)
	}
	if bytes.IndexByte(name, '\\') >= 0 {
		name, _ = jsontext.AppendUnquote(nil, name)
	} else {
		name = name[1 : len(name)-1]
	}
	switch string(name) {
	case "event":
		if p.decoder.PeekKind() == 'n' {
			return 0, required(joinPath(prefix, "event"))
		}
		read.Event, err = p.text(prefix, "event")
		return hasEvent, err
	case "payload":
		read.Payload, err = p.value(prefix)
		read.Valid = err == nil // it was read as a value of a body in UTF-8
		return hasPayload, err
	case "tenant":
		read.Tenant, err = p.text(prefix, "tenant")
		return hasTenant, err
	case "id":
		read.ID, err = p.text(prefix, "id")
		return hasID, err
	case "occurred_at":
		read.OccurredAt, err = p.time(prefix, "occurred_at")
		return hasOccurredAt, err
	}
	return 0, unknownField(joinPath(prefix, string(name)))
}

func memberName(bit int) string {
	switch bit {
	case hasEvent:
		return "event"
	case hasPayload:
		return "payload"
	case hasTenant:
		return "tenant"
	case hasID:
		return "id"
	}
	return "occurred_at"
}

// value is the next value's own bytes, where they stand in the body.
func (p *publicationReader) value(prefix string) ([]byte, error) {
	value, err := p.decoder.ReadValue()
	if err != nil {
		return nil, p.fault(prefix, err)
	}
	end := int(p.decoder.InputOffset())
	return p.body[end-len(value) : end : end], nil
}

// text reads a string; null is the empty one.
func (p *publicationReader) text(prefix, name string) (string, error) {
	token, err := p.decoder.ReadToken()
	switch {
	case err != nil:
		return "", p.fault(prefix, err)
	case token.Kind() == '"':
		return token.String(), nil
	case token.Kind() == 'n':
		return "", nil
	}
	return "", wrongType(joinPath(prefix, name), "This field is a string.")
}

func (p *publicationReader) time(prefix, name string) (t time.Time, err error) {
	value, err := p.text(prefix, name)
	if err != nil || value == "" {
		return t, err
	}
	if t.UnmarshalText([]byte(value)) != nil {
		return t, invalid(joinPath(prefix, name), "invalid_time",
			"A time is written as in RFC 3339: 2026-03-14T15:09:26Z.")
	}
	return t, nil
}

// fault names the place from the decoder's own pointer, which in an array
// begins with the index that the prefix says for lines.
func (p *publicationReader) fault(prefix string, err error) error {
	if p.decoder.StackDepth() > 0 && p.inArray() {
		prefix = ""
	}
	return jsonError(prefix, err)
}

// inArray reports whether the body is one array.
func (p *publicationReader) inArray() bool {
	kind, _ := p.decoder.StackIndex(1)
	return kind == '['
}

// document adds the two operations to the OpenAPI document, which huma would
// do for those that it serves.
func (a *API) documentPublish(o operation, request, answer reflect.Type) {
	op := o.huma()
	registry := a.huma.OpenAPI().Components.Schemas
	schema := registry.Schema(request, true, "")
	schema.Nullable = false
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{}}
	for _, mediaType := range o.mediaTypes() {
		op.RequestBody.Content[mediaType] = &huma.MediaType{Schema: schema}
	}
	if lines := op.RequestBody.Content[typeNDJSON]; lines != nil {
		lines.Schema = schema.Items // one on each line
	}
	op.Parameters = []*huma.Param{{
		Name: "Idempotency-Key", In: "header",
		Schema: &huma.Schema{Type: huma.TypeString, MaxLength: new(255), Pattern: "^[!-~]+$"},
		Description: "Makes a request that is sent twice count once, for 24 hours: the same key and body get the first " +
			"answer again, another body is refused with 409.",
	}}
	op.Responses[strconv.Itoa(o.status)] = &huma.Response{
		Description: http.StatusText(o.status),
		Content:     map[string]*huma.MediaType{typeJSON: {Schema: registry.Schema(answer, true, "")}},
	}
	a.documentErrors(&op)
	a.huma.OpenAPI().AddOperation(&op)
}

// documentErrors says that every error is a problem document.
func (a *API) documentErrors(op *huma.Operation) {
	schema := a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[problem](), true, "")
	for _, status := range op.Errors {
		op.Responses[strconv.Itoa(status)] = &huma.Response{
			Description: http.StatusText(status),
			Content:     map[string]*huma.MediaType{contentProblem[0]: {Schema: schema}},
		}
	}
}
