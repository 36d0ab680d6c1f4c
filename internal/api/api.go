// Package api is the JSON API: routes, authentication, strict decoding,
// problem documents, cursors, and the OpenAPI document with its reference
// page.
//
// It knows HTTP and JSON, and which key may do what. It must not know SQL,
// sockets of receivers, or how an event finds its webhooks: it calls the
// interfaces below, and what they refuse with a *postrider.Error is what the
// caller is told. Package app builds it and gives it to the server.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"postrider"
)

// Keys knows the API keys.
type Keys interface {
	Authenticate(text string) (postrider.APIKey, error)
	CreateAPIKey(ctx context.Context, tenant, name string) (postrider.APIKey, string, error)
	APIKeys(tenant string, before postrider.ID, limit int) (page []postrider.APIKey, more bool)
	DeleteAPIKey(ctx context.Context, id postrider.ID) error
}

// Tenants knows the tenants.
type Tenants interface {
	CreateTenant(ctx context.Context, name string) (postrider.Tenant, error)
	Tenant(name string) (postrider.Tenant, error)
	Tenants(after string, limit int) (page []postrider.Tenant, more bool)
	PauseTenant(ctx context.Context, name string, paused bool) (postrider.Tenant, error)
}

// Webhooks knows the webhooks of every tenant. It checks what it is given.
type Webhooks interface {
	CreateWebhook(ctx context.Context, w postrider.Webhook) (postrider.Webhook, error)
	UpdateWebhook(
		ctx context.Context, tenant string, id postrider.ID, change func(*postrider.Webhook),
	) (postrider.Webhook, error)
	DeleteWebhook(ctx context.Context, tenant string, id postrider.ID) error
	Webhook(tenant string, id postrider.ID) (postrider.Webhook, error)
	Webhooks(tenant string, before postrider.ID, limit int) (page []postrider.Webhook, more bool)
}

// Catalogue knows the event types.
type Catalogue interface {
	PutEventType(ctx context.Context, t postrider.EventType) (saved postrider.EventType, created bool, err error)
	DeleteEventType(ctx context.Context, name string) error
	EventType(name string) (postrider.EventType, error)
	EventTypes(after string, limit int) (page []postrider.EventType, more bool)
}

// Publisher accepts events. The payloads that it is given are well-formed JSON
// in UTF-8 and are not changed afterwards: it may keep them.
type Publisher interface {
	Publish(
		ctx context.Context, publications []postrider.Publication, key *postrider.IdempotencyKey,
	) ([]postrider.Receipt, error)
	Ping(ctx context.Context, tenant string, payload []byte) ([]postrider.Pinged, error)
	PingWebhook(ctx context.Context, tenant string, id postrider.ID, payload []byte) (postrider.Pinged, error)
	Redeliver(ctx context.Context, tenant string, attempt, to postrider.ID) (postrider.Redelivery, error)
	TryMatch(publication postrider.Publication, limit int) (postrider.Trial, error)
}

// History reads what happened.
type History interface {
	Attempts(ctx context.Context, filter postrider.AttemptFilter) (postrider.AttemptPage, error)
	Attempt(ctx context.Context, tenant string, id postrider.ID) (postrider.Attempt, error)
	LastAttempts(ctx context.Context, tenant string, webhooks []postrider.ID) (map[postrider.ID]postrider.Attempt, error)
	Event(ctx context.Context, tenant, id string) (postrider.Event, []postrider.DeliveryStatus, error)
}

// Options are what the API works with. All interfaces are required.
type Options struct {
	Keys      Keys
	Tenants   Tenants
	Webhooks  Webhooks
	Catalogue Catalogue
	Publisher Publisher
	Replays   Replays
	History   History
	Recorded  Recorded
	Tail      Tail
	Links     Links
	Relay     Relay

	Logger  *slog.Logger // where internal errors go; nil: nowhere
	Brand   string       // stands in header names and in the reference; empty: Clubmed
	Version string       // of the OpenAPI document
	// PublicURL is where browsers reach the server, without a slash at the end.
	PublicURL string
	// PayloadLimit is the size of the largest payload in bytes; 0: 1 MiB. The
	// publisher holds each payload to it; the API derives its body limits.
	PayloadLimit int64
	// BatchLimit is the size of the largest batch in bytes; 0: 16 MiB.
	BatchLimit int64
	// RequestRate and OperatorRate are the requests a second that each key of a
	// partner's or of an operator's may make; 0: any number.
	RequestRate, OperatorRate float64
	// CursorKey authenticates cursors. Nodes that share it accept each other's.
	CursorKey [32]byte
}

const (
	// bodyLimit holds for every route that does not carry a payload.
	bodyLimit = 256 << 10
	// envelopeAllowance is what the envelope around one payload may take.
	envelopeAllowance = 64 << 10
	// batchSize is how many events one batch may hold.
	batchSize = 1000
)

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Brand == "" {
		o.Brand = "Clubmed"
	}
	if o.PayloadLimit == 0 {
		o.PayloadLimit = 1 << 20
	}
	if o.BatchLimit == 0 {
		o.BatchLimit = 16 << 20
	}
}

// API serves the routes. It is safe for concurrent use and starts nothing.
type API struct {
	Options

	mux     *http.ServeMux
	huma    huma.API
	listed  []*huma.Operation // in the order of routes.go
	cursors cursors
	rates   *rates
	streams chan struct{} // one element for each open stream
	// The OpenAPI document without its webhooks section, and the reference page:
	// made when they are first asked for, since most servers start to deliver.
	document  func() []byte
	reference func() []byte
}

// New makes the API. It panics when its own routes contradict each other.
func New(o Options) *API {
	o.setDefaults()
	a := &API{
		Options: o, mux: http.NewServeMux(), cursors: cursors{key: o.CursorKey}, rates: newRates(o.RequestRate, o.OperatorRate),
		streams: make(chan struct{}, maxStreams),
	}
	a.huma = newHuma(a)
	a.routes()
	a.mux.HandleFunc("/", a.noRoute)
	a.completeDocument()
	a.document, a.reference = sync.OnceValue(a.encodeDocument), sync.OnceValue(a.renderReference)
	return a
}

// The header values that every answer shares, as slices so that no request
// allocates them. "none" suits answers that are data: a browser that is tricked
// into showing one as a page runs and loads nothing.
var (
	contentJSON    = []string{"application/json"}
	contentProblem = []string{"application/problem+json"}
	noStore        = []string{"no-store"}
	noSniff        = []string{"nosniff"}
	policyNone     = []string{"default-src 'none'; frame-ancestors 'none'"}
)

// ServeHTTP answers one request. A panic of a handler is logged and answered
// like any internal error.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header["Cache-Control"] = noStore
	header["X-Content-Type-Options"] = noSniff
	header["Content-Security-Policy"] = policyNone
	defer a.recoverPanic(w, r)
	a.mux.ServeHTTP(w, r)
}

func (a *API) recoverPanic(w http.ResponseWriter, r *http.Request) {
	switch cause := recover(); cause {
	case nil:
	case http.ErrAbortHandler:
		panic(cause)
	default:
		a.fail(w, r, &panicError{cause})
	}
}

// logsOfWebhook stands for GET /v0/api_webhooks/{id}/logs. That pattern and
// /v0/api_webhooks/logs/{attempt_id} both match …/logs/logs without either
// being more specific, which ServeMux refuses; this one is less specific.
const logsOfWebhook = "GET /v0/api_webhooks/{id}/{logs}"

// router puts huma's routes on the ServeMux.
type router struct{ *API }

// HandleFunc adds a route.
func (rt router) HandleFunc(pattern string, handle func(http.ResponseWriter, *http.Request)) {
	if pattern != "GET /v0/api_webhooks/{id}/logs" {
		rt.mux.HandleFunc(pattern, handle)
		return
	}
	rt.mux.HandleFunc(logsOfWebhook, func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("logs") != "logs" {
			rt.noRoute(w, r)
			return
		}
		handle(w, r)
	})
}

// noRoute answers what no route takes: 405 when the path is known with another
// method, else 404.
func (a *API) noRoute(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		probe := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		_, pattern := a.mux.Handler(probe)
		if pattern != "/" && pattern != "" && (pattern != logsOfWebhook || strings.HasSuffix(r.URL.Path, "/logs")) {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		a.fail(w, r, &postrider.Error{
			Kind: postrider.NotFound, Code: "no_such_route",
			Detail: "There is no such route. GET /openapi.json lists them all.",
		})
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	a.fail(w, r, errMethod)
}
