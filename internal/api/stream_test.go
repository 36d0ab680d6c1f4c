package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"postrider"
	"postrider/internal/api"
)

// quiet is the tail of a server that is about to stop: a stream sends what
// there is, and ends.
type quiet struct{ stopped chan struct{} }

func newQuiet() quiet {
	q := quiet{make(chan struct{})}
	close(q.stopped)
	return q
}

func (q quiet) Changed(string) <-chan struct{} { return nil }
func (q quiet) Stopped() <-chan struct{}       { return q.stopped }

func (w *world) NewestAttempt(_ context.Context, tenant string) (newest postrider.ID, err error) {
	for _, t := range w.attempts {
		if t.Tenant == tenant && bytes.Compare(t.ID[:], newest[:]) > 0 {
			newest = t.ID
		}
	}
	return newest, w.fail
}

func (w *world) AttemptsAfter(
	_ context.Context, filter postrider.AttemptFilter, after postrider.ID,
) (found []postrider.Attempt, last postrider.ID, err error) {
	last = after
	for _, t := range w.attempts {
		if t.Tenant != filter.Tenant || bytes.Compare(t.ID[:], after[:]) <= 0 {
			continue
		}
		last = t.ID
		if filter.Status == "" || filter.Status == t.Status {
			found = append(found, t)
		}
	}
	return found, last, w.fail
}

// recorder is what happens while a stream is open.
type recorder struct {
	*world

	mu      sync.Mutex
	changed chan struct{}
	stopped chan struct{}
}

func (r *recorder) Stopped() <-chan struct{} { return r.stopped }

func (r *recorder) Changed(string) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

func (r *recorder) record(attempts ...postrider.Attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempts = append(r.attempts, attempts...)
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) AttemptsAfter(
	ctx context.Context, filter postrider.AttemptFilter, after postrider.ID,
) ([]postrider.Attempt, postrider.ID, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.world.AttemptsAfter(ctx, filter, after)
}

func attemptOf(tenant string, status postrider.AttemptStatus) postrider.Attempt {
	return postrider.Attempt{
		ID: postrider.NewID(), Tenant: tenant, WebhookID: postrider.NewID(), EventID: "e", EventType: "a", Number: 1,
		Trigger: postrider.TriggerEvent, At: time.Now(), URL: "https://a.example/", Status: status,
	}
}

// A listener reads a stream.
type listener struct {
	t       *testing.T
	answer  *http.Response
	scanner *bufio.Scanner
}

func listen(t *testing.T, url, last string) *listener {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("x-api-key", "acme")
	if last != "" {
		request.Header.Set("Last-Event-ID", last)
	}
	answer, err := new(http.Client).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	if got := answer.Header.Get("Content-Type"); answer.StatusCode != http.StatusOK || got != "text/event-stream" {
		t.Fatalf("got %d %s, want 200 text/event-stream", answer.StatusCode, got)
	}
	l := &listener{t: t, answer: answer, scanner: bufio.NewScanner(answer.Body)}
	l.scanner.Scan() // retry, which says that the stream is open
	return l
}

// next is the id and the entry's id of the next event; empty at the end.
func (l *listener) next() (id, entry string) {
	l.t.Helper()
	for l.scanner.Scan() {
		line := l.scanner.Text()
		if text, found := strings.CutPrefix(line, "id: "); found {
			id = text
		}
		if text, found := strings.CutPrefix(line, "data: "); found {
			var decoded struct{ ID, Event string }
			if err := json.Unmarshal([]byte(text), &decoded); err != nil || decoded.Event != "a" {
				l.t.Fatalf("got the entry %s, %v", text, err)
			}
			return id, decoded.ID
		}
	}
	return "", ""
}

func (l *listener) want(attempts ...postrider.Attempt) {
	l.t.Helper()
	for _, a := range attempts {
		if id, entry := l.next(); id != a.ID.String() || entry != id {
			l.t.Fatalf("got id %q with entry %q, want %s", id, entry, a.ID)
		}
	}
}

func TestStream_SendsWhatIsRecordedAndGoesOnWithoutAGap(t *testing.T) {
	r := &recorder{changed: make(chan struct{}), stopped: make(chan struct{})}
	c := newClient(t, func(o *api.Options) { o.Recorded, o.Tail = r, r })
	r.world = c.world
	server := httptest.NewServer(c.api)
	defer server.Close()
	url := server.URL + "/v0/api_webhooks/logs/stream"

	before := attemptOf("acme", postrider.AttemptSuccess)
	r.record(before)
	first := listen(t, url, "")
	if got := first.scanner.Text(); got != "id: "+before.ID.String() {
		t.Errorf("got the first line %q, want the place where the stream begins", got)
	}
	a, foreign, b := attemptOf("acme", postrider.AttemptSuccess), attemptOf("globex", postrider.AttemptSuccess), attemptOf("acme", postrider.AttemptFailure)
	r.record(a, foreign, b)
	first.want(a, b)

	listen(t, url, before.ID.String()).want(a, b)
	listen(t, url, a.ID.String()).want(b)
	listen(t, url+"?status=failure", before.ID.String()).want(b)
	// Another tenant's id is a place in time, and shows nothing of theirs.
	listen(t, url, foreign.ID.String()).want(b)

	last := attemptOf("acme", postrider.AttemptSuccess)
	r.record(last)
	first.want(last)
	close(r.stopped)
	if id, _ := first.next(); id != "" {
		t.Errorf("got %s after the stop, want the end", id)
	}
}

func TestStream_RefusesWhatCannotBeAPlace(t *testing.T) {
	c := newClient(t)
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v0/api_webhooks/logs/stream", http.NoBody)
	request.Header.Set("x-api-key", "acme")
	request.Header.Set("Last-Event-ID", "yesterday")
	answer := httptest.NewRecorder()
	c.api.ServeHTTP(answer, request)
	if answer.Code != http.StatusBadRequest || !strings.Contains(answer.Body.String(), "invalid_cursor") {
		t.Errorf("got %d %s, want 400 invalid_cursor", answer.Code, answer.Body)
	}
}

func (w *world) PutPortalLink(_ context.Context, link postrider.Session) error {
	w.links = append(w.links, link)
	return w.fail
}

func TestPortalLinks_AreForOneTenantAndShort(t *testing.T) {
	c := newClient(t, func(o *api.Options) { o.PublicURL = "https://hooks.example" })
	operator := c.keys["operator"]
	operator.Hash = postrider.HashAPIKey("operator")
	c.keys["operator"] = operator
	made := c.do("operator", "POST", "/v0/portal_links", `{"tenant": "acme", "expires_in": 60}`).want(201).object()
	token, found := strings.CutPrefix(fmt.Sprint(made["url"]), "https://hooks.example/portal/enter?token=")
	if !found || len(c.links) != 1 {
		t.Fatalf("got %v and %d links", made, len(c.links))
	}
	link := c.links[0]
	if link.Hash != postrider.HashToken(token) || link.Tenant != "acme" || link.Key != operator.Hash ||
		time.Until(link.ExpiresAt) > time.Minute || time.Until(link.ExpiresAt) < 50*time.Second {
		t.Errorf("got the link %+v", link)
	}
	c.do("operator", "POST", "/v0/portal_links", `{"tenant": "nobody"}`).wantCode(422, "unknown_tenant", "tenant")
	c.do("operator", "POST", "/v0/portal_links", `{}`).wantCode(422, "required", "tenant")
	c.do("operator", "POST", "/v0/portal_links", `{"tenant": "acme", "expires_in": 3601}`).wantCode(422, "invalid_expires_in", "expires_in")
}
