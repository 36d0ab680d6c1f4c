package api_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"postrider"
	"postrider/internal/api"
)

// world is everything behind the API, in memory: enough of the rules of the
// rooms behind it to see what the API asks for and how it answers.
type world struct {
	keys      map[string]postrider.APIKey // by text
	tenants   []postrider.Tenant          // oldest first
	webhooks  []postrider.Webhook
	types     map[string]postrider.EventType
	events    []postrider.Event
	attempts  []postrider.Attempt
	published [][]postrider.Publication
	tried     []postrider.Publication
	idemKeys  []*postrider.IdempotencyKey
	pings     [][]byte
	replays   []postrider.Replay
	filters   []postrider.AttemptFilter
	links     []postrider.Session
	listeners []postrider.Listener
	fail      error // what the publisher and the history answer
}

var epoch = time.Date(2026, 3, 14, 15, 9, 26, 535_897_932, time.UTC)

func newWorld() *world {
	return &world{
		keys: map[string]postrider.APIKey{
			"operator": {ID: postrider.NewID(), Name: "operator"},
			"acme":     {ID: postrider.NewID(), Tenant: "acme", Name: "acme"},
			"globex":   {ID: postrider.NewID(), Tenant: "globex", Name: "globex"},
			"default":  {ID: postrider.NewID(), Tenant: "default", Name: "default"},
		},
		tenants: []postrider.Tenant{{Name: "default", CreatedAt: epoch}, {Name: "acme", CreatedAt: epoch}, {Name: "globex", CreatedAt: epoch}},
		types:   map[string]postrider.EventType{},
	}
}

func (w *world) Authenticate(text string) (postrider.APIKey, error) {
	if key, found := w.keys[text]; found {
		return key, nil
	}
	return postrider.APIKey{}, &postrider.Error{Kind: postrider.Unauthenticated, Code: "unauthenticated", Detail: "The API key is missing or unknown."}
}

func (w *world) CreateAPIKey(_ context.Context, tenant, name string) (postrider.APIKey, string, error) {
	if tenant != "" {
		if _, err := w.Tenant(tenant); err != nil {
			return postrider.APIKey{}, "", &postrider.Error{Kind: postrider.Invalid, Field: "tenant", Code: "unknown_tenant", Detail: "There is no tenant of this name."}
		}
	}
	if err := postrider.CheckName("name", name); err != nil {
		return postrider.APIKey{}, "", err
	}
	key, text := postrider.NewAPIKey(tenant, name, epoch)
	w.keys[text] = key
	return key, text, nil
}

func (w *world) APIKeys(tenant string, before postrider.ID, limit int) ([]postrider.APIKey, bool) {
	var list []postrider.APIKey
	for _, key := range w.keys {
		if (tenant == "" || key.Tenant == tenant) && below(key.ID, before) {
			list = append(list, key)
		}
	}
	slices.SortFunc(list, func(a, b postrider.APIKey) int { return bytes.Compare(b.ID[:], a.ID[:]) })
	return cut(list, limit)
}

func (w *world) DeleteAPIKey(_ context.Context, id postrider.ID) error {
	before := len(w.keys)
	maps.DeleteFunc(w.keys, func(_ string, key postrider.APIKey) bool { return key.ID == id })
	if len(w.keys) == before {
		return postrider.Missing("API key")
	}
	return nil
}

func (w *world) CreateTenant(_ context.Context, name string) (postrider.Tenant, error) {
	if err := postrider.CheckTenantName("name", name); err != nil {
		return postrider.Tenant{}, err
	}
	if _, err := w.Tenant(name); err == nil {
		return postrider.Tenant{}, &postrider.Error{Kind: postrider.Conflict, Field: "name", Code: "tenant_exists", Detail: "There is one."}
	}
	w.tenants = append(w.tenants, postrider.Tenant{Name: name, CreatedAt: epoch})
	return w.tenants[len(w.tenants)-1], nil
}

func (w *world) Tenant(name string) (postrider.Tenant, error) {
	for _, t := range w.tenants {
		if t.Name == name {
			return t, nil
		}
	}
	return postrider.Tenant{}, postrider.Missing("tenant")
}

func (w *world) Tenants(after string, limit int) ([]postrider.Tenant, bool) {
	list := slices.Clone(w.tenants)
	slices.Reverse(list)
	if i := slices.IndexFunc(list, func(t postrider.Tenant) bool { return t.Name == after }); i >= 0 {
		list = list[i+1:]
	}
	return cut(list, limit)
}

func (w *world) PauseTenant(_ context.Context, name string, paused bool) (postrider.Tenant, error) {
	i := slices.IndexFunc(w.tenants, func(t postrider.Tenant) bool { return t.Name == name })
	if i < 0 {
		return postrider.Tenant{}, postrider.Missing("tenant")
	}
	w.tenants[i].Paused = paused
	return w.tenants[i], nil
}

func (w *world) CreateWebhook(_ context.Context, hook postrider.Webhook) (postrider.Webhook, error) {
	if _, err := w.Tenant(hook.Tenant); err != nil {
		return hook, &postrider.Error{Kind: postrider.Invalid, Field: "tenant", Code: "unknown_tenant", Detail: "There is no tenant of this name."}
	}
	hook.ID, hook.CreatedAt, hook.UpdatedAt = postrider.NewID(), epoch, epoch
	if err := hook.Check(); err != nil {
		return hook, err
	}
	w.webhooks = append(w.webhooks, hook)
	return hook, nil
}

func (w *world) UpdateWebhook(_ context.Context, tenant string, id postrider.ID, change func(*postrider.Webhook)) (postrider.Webhook, error) {
	i := w.find(tenant, id)
	if i < 0 {
		return postrider.Webhook{}, postrider.Missing("webhook")
	}
	changed := w.webhooks[i]
	change(&changed)
	if err := changed.Check(); err != nil {
		return changed, err
	}
	w.webhooks[i] = changed
	return changed, nil
}

func (w *world) find(tenant string, id postrider.ID) int {
	return slices.IndexFunc(w.webhooks, func(hook postrider.Webhook) bool { return hook.Tenant == tenant && hook.ID == id })
}

func (w *world) DeleteWebhook(_ context.Context, tenant string, id postrider.ID) error {
	i := w.find(tenant, id)
	if i < 0 {
		return postrider.Missing("webhook")
	}
	w.webhooks = slices.Delete(w.webhooks, i, i+1)
	return nil
}

func (w *world) Webhook(tenant string, id postrider.ID) (postrider.Webhook, error) {
	if i := w.find(tenant, id); i >= 0 {
		return w.webhooks[i], nil
	}
	return postrider.Webhook{}, postrider.Missing("webhook")
}

func (w *world) Webhooks(tenant string, before postrider.ID, limit int) ([]postrider.Webhook, bool) {
	var list []postrider.Webhook
	for _, hook := range slices.Backward(w.webhooks) {
		if hook.Tenant == tenant && below(hook.ID, before) {
			list = append(list, hook)
		}
	}
	return cut(list, limit)
}

func (w *world) PutEventType(_ context.Context, t postrider.EventType) (postrider.EventType, bool, error) {
	if err := postrider.CheckEventType("event", t.Name); err != nil {
		return t, false, err
	}
	_, found := w.types[t.Name]
	t.CreatedAt, t.UpdatedAt = epoch, epoch
	w.types[t.Name] = t
	return t, !found, nil
}

func (w *world) DeleteEventType(_ context.Context, name string) error {
	if _, found := w.types[name]; !found {
		return postrider.Missing("event type")
	}
	delete(w.types, name)
	return nil
}

func (w *world) EventType(name string) (postrider.EventType, error) {
	if t, found := w.types[name]; found {
		return t, nil
	}
	return postrider.EventType{}, postrider.Missing("event type")
}

func (w *world) EventTypes(after string, limit int) ([]postrider.EventType, bool) {
	var list []postrider.EventType
	for _, name := range slices.Sorted(maps.Keys(w.types)) {
		if name > after {
			list = append(list, w.types[name])
		}
	}
	return cut(list, limit)
}

func (w *world) Publish(_ context.Context, list []postrider.Publication, key *postrider.IdempotencyKey) ([]postrider.Receipt, error) {
	if w.fail != nil {
		return nil, w.fail
	}
	w.published = append(w.published, slices.Clone(list))
	w.idemKeys = append(w.idemKeys, key)
	var receipts []postrider.Receipt
	for _, p := range list {
		if err := postrider.CheckEventType("event", p.Event); err != nil {
			return nil, err
		}
		tenant := cmp.Or(p.Tenant, postrider.DefaultTenant)
		id := cmp.Or(p.ID, postrider.NewID().String())
		w.events = append(w.events, postrider.Event{ID: id, Tenant: tenant, Type: p.Event, Payload: p.Payload, OccurredAt: p.OccurredAt, CreatedAt: epoch})
		receipts = append(receipts, postrider.Receipt{ID: id, Deliveries: 3})
	}
	return receipts, nil
}

func (w *world) Ping(_ context.Context, tenant string, payload []byte) (list []postrider.Pinged, err error) {
	w.pings = append(w.pings, payload)
	for _, hook := range w.webhooks {
		if hook.Tenant == tenant && hook.Sending() {
			list = append(list, postrider.Pinged{WebhookID: hook.ID, EventID: "ping_1"})
		}
	}
	return list, w.fail
}

func (w *world) PingWebhook(_ context.Context, tenant string, id postrider.ID, payload []byte) (postrider.Pinged, error) {
	hook, err := w.Webhook(tenant, id)
	if err != nil {
		return postrider.Pinged{}, err
	}
	if !hook.Sending() {
		return postrider.Pinged{}, &postrider.Error{Kind: postrider.Conflict, Code: "webhook_inactive", Detail: "It is off."}
	}
	w.pings = append(w.pings, payload)
	return postrider.Pinged{WebhookID: id, EventID: "ping_1"}, nil
}

func (w *world) Redeliver(ctx context.Context, tenant string, id, to postrider.ID) (postrider.Redelivery, error) {
	t, err := w.Attempt(ctx, tenant, id)
	if !to.IsZero() {
		t.WebhookID = to
	}
	return postrider.Redelivery{EventID: t.EventID, WebhookID: t.WebhookID}, err
}

func (w *world) StartReplay(_ context.Context, asked postrider.Replay) (postrider.Replay, error) {
	if _, err := w.Webhook(asked.Tenant, asked.WebhookID); err != nil {
		return asked, err
	}
	asked.ID, asked.State, asked.CreatedAt = postrider.NewID(), postrider.ReplayCollecting, epoch
	w.replays = append(w.replays, asked)
	return asked, w.fail
}

func (w *world) Replay(_ context.Context, tenant string, id postrider.ID) (postrider.Replay, error) {
	for _, r := range w.replays {
		if r.Tenant == tenant && r.ID == id {
			return r, nil
		}
	}
	return postrider.Replay{}, postrider.Missing("replay")
}

func (w *world) CancelReplay(ctx context.Context, tenant string, id postrider.ID) (postrider.Replay, error) {
	r, err := w.Replay(ctx, tenant, id)
	for i := range w.replays {
		if err == nil && w.replays[i].ID == id {
			w.replays[i].State, w.replays[i].EndedAt = postrider.ReplayStopped, epoch
			r = w.replays[i]
		}
	}
	return r, err
}

func (w *world) TryMatch(p postrider.Publication, limit int) (trial postrider.Trial, err error) {
	w.tried = append(w.tried, p)
	for i := range w.webhooks {
		if hook := &w.webhooks[i]; hook.Tenant == cmp.Or(p.Tenant, postrider.DefaultTenant) {
			trial.Webhooks = append(trial.Webhooks, hook)
		}
	}
	trial.Deliveries = len(trial.Webhooks)
	trial.Webhooks, trial.Truncated = cut(trial.Webhooks, limit)
	return trial, w.fail
}

func (w *world) Attempts(_ context.Context, filter postrider.AttemptFilter) (page postrider.AttemptPage, err error) {
	w.filters = append(w.filters, filter)
	var list []postrider.Attempt
	for _, t := range slices.Backward(w.attempts) {
		if t.Tenant == filter.Tenant && (filter.WebhookID.IsZero() || filter.WebhookID == t.WebhookID) && below(t.ID, filter.Before) {
			list = append(list, t)
		}
	}
	found, more := cut(list, filter.Limit)
	page.Attempts = found
	if more {
		page.Next = found[len(found)-1].ID
	}
	return page, w.fail
}

func (w *world) Attempt(_ context.Context, tenant string, id postrider.ID) (postrider.Attempt, error) {
	for _, t := range w.attempts {
		if t.Tenant == tenant && t.ID == id {
			return t, nil
		}
	}
	return postrider.Attempt{}, postrider.Missing("log entry")
}

func (w *world) LastAttempts(_ context.Context, tenant string, ids []postrider.ID) (map[postrider.ID]postrider.Attempt, error) {
	last := map[postrider.ID]postrider.Attempt{}
	for _, t := range w.attempts {
		if t.Tenant == tenant && slices.Contains(ids, t.WebhookID) {
			last[t.WebhookID] = t
		}
	}
	return last, nil
}

func (w *world) Event(_ context.Context, tenant, id string) (postrider.Event, []postrider.DeliveryStatus, error) {
	for _, e := range w.events {
		if e.Tenant == tenant && e.ID == id {
			return e, []postrider.DeliveryStatus{{WebhookID: postrider.NewID(), State: postrider.DeliveryPending, Attempts: 1, NextAttemptAt: epoch}}, w.fail
		}
	}
	return postrider.Event{}, nil, postrider.Missing("event")
}

func below(id, before postrider.ID) bool {
	return before.IsZero() || bytes.Compare(id[:], before[:]) < 0
}

func cut[T any](list []T, limit int) ([]T, bool) {
	if len(list) > limit {
		return list[:limit], true
	}
	return list, false
}

// webhook adds one to the world.
func (w *world) webhook(tb testing.TB, tenant string) postrider.Webhook {
	tb.Helper()
	hook, err := w.CreateWebhook(tb.Context(), postrider.Webhook{
		Tenant: tenant, URL: "https://partner.example/a", Events: []string{"*"}, Active: true, ContentType: postrider.JSON,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return hook
}

// attempt adds one of a webhook to the world.
func (w *world) attempt(hook postrider.Webhook) postrider.Attempt {
	t := postrider.Attempt{
		ID: postrider.NewID(), Tenant: hook.Tenant, WebhookID: hook.ID, EventID: "evt_1", EventType: "room_status.updated",
		Number: 2, Trigger: postrider.TriggerRetry, At: epoch, URL: hook.URL, Status: postrider.AttemptFailure,
		Outcome: postrider.Outcome{
			StatusCode: 500, Failure: postrider.FailHTTP5xx, Detail: "The receiver answered 500.", RemoteIP: "203.0.113.7",
			Timings:  postrider.Timings{Connect: 1500 * time.Microsecond, Total: 48215 * time.Microsecond},
			Response: postrider.Response{Header: postrider.Header{{Name: "X-Two", Value: "a"}, {Name: "X-Two", Value: "b"}}, Body: []byte{0xff, 0x00}},
		},
		NextAttemptAt: epoch.Add(time.Minute), RequestHeader: postrider.Header{{Name: "webhook-id", Value: "evt_1"}}, RequestBody: []byte(`{"a": 1}`),
	}
	w.attempts = append(w.attempts, t)
	return t
}

// A client asks the API for things.
type client struct {
	*world
	tb   testing.TB
	api  http.Handler
	logs *bytes.Buffer
}

func newClient(tb testing.TB, options ...func(*api.Options)) *client {
	tb.Helper()
	w := newWorld()
	logs := &bytes.Buffer{}
	o := api.Options{
		Keys: w, Tenants: w, Webhooks: w, Catalogue: w, Publisher: w, Replays: w, History: w,
		Recorded: w, Tail: newQuiet(), Links: w, Relay: w,
		Logger: slog.New(slog.NewTextHandler(logs, nil)), Version: "1.2.3",
	}
	for _, option := range options {
		option(&o)
	}
	return &client{world: w, tb: tb, api: api.New(o), logs: logs}
}

// An answer is what came back.
type answer struct {
	*httptest.ResponseRecorder
	tb testing.TB
}

// do sends a request with a key ("" for none) and a body ("" for none), and
// headers in pairs. Every answer is held to what all answers promise.
func (c *client) do(key, method, path, body string, headers ...string) *answer {
	c.tb.Helper()
	var reader io.Reader = http.NoBody
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequestWithContext(c.tb.Context(), method, path, reader)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		r.Header.Set("X-Api-Key", key)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	a := &answer{httptest.NewRecorder(), c.tb}
	c.api.ServeHTTP(a, r)
	a.checkPromises(method + " " + path)
	return a
}

var knownCodes = func() map[api.Code]bool {
	known := map[api.Code]bool{}
	for _, code := range api.Codes() {
		known[api.Code{Code: code.Code, Status: code.Status}] = true
	}
	return known
}()

func (a *answer) checkPromises(route string) {
	a.tb.Helper()
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'"} {
		if got := a.Header().Get(name); !strings.HasPrefix(got, want) {
			a.tb.Errorf("%s: got %s %q, want %q", route, name, got, want)
		}
	}
	if a.Code < 400 {
		return
	}
	if got, want := a.Header().Get("Content-Type"), "application/problem+json"; got != want {
		a.tb.Errorf("%s: got a problem of type %q, want %q", route, got, want)
	}
	p := a.problem()
	if p.Status != a.Code || p.Title != http.StatusText(a.Code) || p.Detail == "" || p.Type != "/docs/api#error-"+p.Code {
		a.tb.Errorf("%s: got status %d with problem %+v", route, a.Code, p)
	}
	if !knownCodes[api.Code{Code: p.Code, Status: p.Status}] {
		a.tb.Errorf("%s: the code %q with status %d is not documented", route, p.Code, p.Status)
	}
}

type problem struct {
	Type, Title, Detail, Code string
	Status                    int
	Errors                    []struct{ Field, Code, Message string }
}

func (a *answer) problem() problem {
	a.tb.Helper()
	var p problem
	a.decode(&p)
	return p
}

// fields are the fields at fault.
func (p problem) fields() (list []string) {
	for _, e := range p.Errors {
		list = append(list, e.Field)
	}
	return list
}

func (a *answer) decode(v any) {
	a.tb.Helper()
	if err := json.Unmarshal(a.Body.Bytes(), v); err != nil {
		a.tb.Fatalf("got %v for %s", err, a.Body)
	}
}

// object is the answer's body.
func (a *answer) object() map[string]any {
	a.tb.Helper()
	var v map[string]any
	a.decode(&v)
	return v
}

// want fails the test unless the status is as it should be.
func (a *answer) want(status int) *answer {
	a.tb.Helper()
	if a.Code != status {
		a.tb.Fatalf("got status %d, want %d: %s", a.Code, status, a.Body)
	}
	return a
}

// wantCode fails the test unless the problem is as it should be.
func (a *answer) wantCode(status int, code string, fields ...string) {
	a.tb.Helper()
	if p := a.problem(); a.Code != status || p.Code != code || !slices.Equal(p.fields(), fields) {
		a.tb.Errorf("got %d %s %q, want %d %s %q: %s", a.Code, p.Code, p.fields(), status, code, fields, p.Detail)
	}
}
