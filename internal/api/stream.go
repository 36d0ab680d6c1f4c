package api

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"postrider"
)

// Recorded reads attempts in the order in which they were recorded.
type Recorded interface {
	NewestAttempt(ctx context.Context, tenant string) (postrider.ID, error)
	AttemptsAfter(
		ctx context.Context, filter postrider.AttemptFilter, after postrider.ID,
	) (found []postrider.Attempt, last postrider.ID, err error)
}

// Tail says when there is something new to read.
type Tail interface {
	// Changed is closed once attempts of the tenant were recorded after the
	// call, or the server stops.
	Changed(tenant string) <-chan struct{}
	// Stopped is closed when the server stops, so that streams end.
	Stopped() <-chan struct{}
}

const (
	// streamPause is the least time between two looks at the store.
	streamPause = 100 * time.Millisecond
	// streamIdle is how long a stream goes without a look when nothing is
	// heard: what other nodes record makes no sound here.
	streamIdle = 5 * time.Second
	// streamAge ends a stream. Whoever comes back shows the key again, and one
	// that was revoked meanwhile is refused.
	streamAge = 10 * time.Minute
	// streamWrite is how long a reader may take for what it is sent at a time.
	streamWrite = 10 * time.Second
	// streamPage is how many attempts are read at once.
	streamPage = 100
	// maxStreams bounds the streams that are open at once.
	maxStreams = 256
)

var errStreams = &postrider.Error{
	Kind: postrider.RateLimited, Code: "too_many_streams", RetryAfter: 5 * time.Second,
	Detail: "Too many streams are open. Close some, or try again later.",
}

type streamInput struct {
	TenantQuery
	LogFilter
	WebhookID   string `query:"webhook_id" format:"uuid" doc:"One webhook's attempts."`
	LastEventID string `header:"Last-Event-ID" doc:"The id of the last entry that was seen: the stream goes on behind it. Absent: with what is recorded from now on."`
}

func (a *API) registerStream() {
	const path = "/v0/api_webhooks/logs/stream"
	register(a, operation{
		method: "GET", path: path, id: "streamLogs", group: logsGroup, status: 200, errors: []int{400},
		summary: "Follow attempts as they are made",
		text: "Server-sent events, oldest first, each with an entry as the list of logs has it: `event: attempt`, its id as `id`, " +
			"and the entry as `data`. The stream ends after 10 minutes, and when the server stops; with Last-Event-ID it goes " +
			"on without a gap, which every EventSource does by itself. Comments keep it alive.",
	}, a.streamLogs)
	answer := a.huma.OpenAPI().Paths[path].Get.Responses["200"]
	answer.Description = "Attempts, as they are recorded."
	answer.Content = map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: "string"}}}
}

func (a *API) streamLogs(ctx context.Context, c *call, in *streamInput) (*huma.StreamResponse, error) {
	tenant, err := a.tenant(c, in.Tenant)
	if err != nil {
		return nil, err
	}
	filter := in.filter(tenant, postrider.ID{}, streamPage)
	if in.WebhookID != "" {
		if filter.WebhookID, err = postrider.ParseID(in.WebhookID); err != nil {
			return nil, invalid("webhook_id", "invalid_parameter", "A webhook's id is a UUID.")
		}
	}
	after, err := a.streamStart(ctx, tenant, in.LastEventID)
	if err != nil {
		return nil, err
	}
	select {
	case a.streams <- struct{}{}:
	default:
		return nil, errStreams
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) { //nolint:contextcheck // huma's has the request's
		defer func() { <-a.streams }()
		_, w := humago.Unwrap(hc)
		s := stream{api: a, w: w, control: http.NewResponseController(w), filter: filter, after: after}
		s.run(hc.Context())
	}}, nil
}

// streamStart is the attempt behind which a stream begins.
func (a *API) streamStart(ctx context.Context, tenant, last string) (postrider.ID, error) {
	if last == "" {
		return a.Recorded.NewestAttempt(ctx, tenant)
	}
	id, err := postrider.ParseID(last)
	if err != nil {
		return id, malformed("Last-Event-ID", "invalid_cursor", "Last-Event-ID is the id of an attempt.")
	}
	return id, nil
}

// A stream is an answer that goes on.
type stream struct {
	api     *API
	w       http.ResponseWriter
	control *http.ResponseController
	filter  postrider.AttemptFilter
	after   postrider.ID // everything up to it was sent, or filtered out
}

func (s *stream) run(ctx context.Context) {
	s.w.Header().Set("Content-Type", "text/event-stream")
	s.w.Header().Set("X-Accel-Buffering", "no") // a proxy that waits for more would hold back each entry
	s.w.WriteHeader(http.StatusOK)
	// The place where it begins is known before the first entry, so that whoever
	// comes back after a break in the beginning misses nothing either.
	if !s.write([]byte("id: " + s.after.String() + "\nretry: 2000\n\n")) {
		return
	}
	end := time.NewTimer(streamAge)
	defer end.Stop()
	for {
		changed := s.api.Tail.Changed(s.filter.Tenant) // before the look, so that nothing falls between
		before := s.after
		if !s.send(ctx) || !s.wait(ctx, end.C, time.After(streamPause), nil) {
			return
		}
		if s.after != before {
			continue // there may be more
		}
		if !s.wait(ctx, end.C, time.After(streamIdle), changed) {
			return
		}
	}
}

// wait reports whether to go on, once there is a reason to.
func (s *stream) wait(ctx context.Context, end, idle <-chan time.Time, changed <-chan struct{}) bool {
	select {
	case <-idle:
		return changed == nil || s.write([]byte(": still here\n\n"))
	case <-changed:
		return true
	case <-end:
	case <-ctx.Done():
	case <-s.api.Tail.Stopped():
	}
	return false
}

// send sends what was recorded since the last look.
func (s *stream) send(ctx context.Context) bool {
	found, last, err := s.api.Recorded.AttemptsAfter(ctx, s.filter, s.after)
	if err != nil {
		if ctx.Err() == nil {
			s.api.Logger.WarnContext(ctx, "a stream ended", "error", err)
		}
		return false // the answer has begun: whoever listens comes back
	}
	s.after = last
	if len(found) == 0 {
		return true
	}
	var text bytes.Buffer
	for i := range found {
		text.WriteString("id: " + found[i].ID.String() + "\nevent: attempt\ndata: ")
		if err := writeJSON(&text, showEntry(&found[i])); err != nil {
			s.api.Logger.ErrorContext(ctx, "a stream's entry was not encoded", "error", err)
			return false
		}
		text.WriteString("\n") // the entry itself is one line
	}
	return s.write(text.Bytes())
}

// write sends at once, and reports whether anybody reads. The server's limit
// on the whole answer is lifted for as long as somebody does.
func (s *stream) write(text []byte) bool {
	if err := s.control.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return false
	}
	if _, err := s.w.Write(text); err != nil {
		return false
	}
	return s.control.Flush() == nil
}
