// Package portal is the web application for partners and operators, and the
// developer documentation: pages, sessions, forms, charts and the live tail.
//
// It knows HTML and who is signed in. It must not know SQL, how an event finds
// its webhooks, or how anything is sent: it calls the interfaces below, the
// same that the API calls, and what they refuse with a *postrider.Error is what
// the visitor is told. Package app builds it and gives it to the server.
package portal

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"postrider"
)

// Keys knows the API keys.
type Keys interface {
	Authenticate(text string) (postrider.APIKey, error)
	// HasKey reports whether a key of this hash is valid now.
	HasKey(hash [sha256.Size]byte) bool
	CreateAPIKey(ctx context.Context, tenant, name string) (postrider.APIKey, string, error)
	APIKeys(tenant string, before postrider.ID, limit int) (page []postrider.APIKey, more bool)
	DeleteAPIKey(ctx context.Context, id postrider.ID) error
}

// Tenants knows the tenants.
type Tenants interface {
	CreateTenant(ctx context.Context, name string) (postrider.Tenant, error)
	Tenant(name string) (postrider.Tenant, error)
	Tenants(after string, limit int) (page []postrider.Tenant, more bool)
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
	EventType(name string) (postrider.EventType, error)
	EventTypes(after string, limit int) (page []postrider.EventType, more bool)
}

// Publisher accepts events.
type Publisher interface {
	Publish(
		ctx context.Context, publications []postrider.Publication, key *postrider.IdempotencyKey,
	) ([]postrider.Receipt, error)
	PingWebhook(ctx context.Context, tenant string, id postrider.ID, payload []byte) (postrider.Pinged, error)
	Redeliver(ctx context.Context, tenant string, attempt, to postrider.ID) (postrider.Redelivery, error)
}

// History reads what happened.
type History interface {
	Attempts(ctx context.Context, filter postrider.AttemptFilter) (postrider.AttemptPage, error)
	AttemptsAfter(
		ctx context.Context, filter postrider.AttemptFilter, after postrider.ID,
	) (found []postrider.Attempt, last postrider.ID, err error)
	Attempt(ctx context.Context, tenant string, id postrider.ID) (postrider.Attempt, error)
	LastAttempts(ctx context.Context, tenant string, webhooks []postrider.ID) (map[postrider.ID]postrider.Attempt, error)
	Event(ctx context.Context, tenant, id string) (postrider.Event, []postrider.DeliveryStatus, error)
}

// Counters are what charts and sums are made from, so that no page reads the
// history to count it.
type Counters interface {
	Tallies(ctx context.Context, q postrider.TallyQuery) ([]postrider.Tally, error)
	// OldestDue is since when the oldest unsettled delivery of the webhooks has
	// been due; zero when none is.
	OldestDue(ctx context.Context, webhooks []postrider.ID) (time.Time, error)
}

// Sessions keeps who is signed in, by hashes of tokens.
type Sessions interface {
	PutSession(ctx context.Context, session postrider.Session) error
	Session(ctx context.Context, hash [sha256.Size]byte) (postrider.Session, error)
	DeleteSession(ctx context.Context, hash [sha256.Size]byte) error
	TakePortalLink(ctx context.Context, hash [sha256.Size]byte) (postrider.Session, error)
}

// Tail says when there is something new to read.
type Tail interface {
	// Changed is closed once attempts of the tenant were recorded after the
	// call, or the server stops.
	Changed(tenant string) <-chan struct{}
	// Stopped is closed when the server stops, so that streams end.
	Stopped() <-chan struct{}
}

// A LaneState is how the lane of one webhook stands on this node.
type LaneState struct {
	Queued   int // deliveries in memory that wait for their turn
	InFlight int // attempts under way
	Budget   int // attempts at once, as of now
	// Breaker is "closed", "open" or "half_open"; empty where there is none.
	Breaker string
	RetryAt time.Time // when an open breaker lets one delivery through; zero otherwise
	Reason  string    // a sentence about why the breaker is not closed
}

// Lanes knows the lanes of this node.
type Lanes interface {
	Lane(webhook postrider.ID) (LaneState, bool)
}

// Nodes are the servers that work on the store.
type Nodes struct {
	Store     string // which engine
	Available bool   // the store answers; if not, only the node that tells is known
	List      []postrider.Node
}

// Options are what the portal works with. All interfaces but Lanes are
// required.
type Options struct {
	Keys      Keys
	Tenants   Tenants
	Webhooks  Webhooks
	Catalogue Catalogue
	Publisher Publisher
	History   History
	Counters  Counters
	Sessions  Sessions
	Tail      Tail
	Lanes     Lanes                       // nil: lanes are not shown
	Nodes     func(context.Context) Nodes // the one that is asked among them

	CheckURL func(field, url string) error // judges a URL while it is typed

	Logger *slog.Logger // where internal errors go; nil: nowhere
	// Brand stands in header names and on every page.
	Brand string
	// Accent is the brand's colour, #rrggbb; empty: a blue.
	Accent string
	// Logo is an image, and LogoType its media type; nil: the brand's initial.
	Logo     []byte
	LogoType string
	// FrameAncestors are the sites that may show the portal in a frame.
	FrameAncestors []string
	// PublicURL is where browsers reach the server, without a slash at the end.
	// With https, cookies are sent over TLS only.
	PublicURL string
	// Key seals what a browser carries from one page to the next.
	Key [32]byte
	// RetrySchedule and Timeout are the server's defaults, for the guide.
	RetrySchedule []time.Duration
	Timeout       time.Duration
}

// Portal serves the pages. It is safe for concurrent use and starts nothing.
type Portal struct {
	o       Options
	mux     *http.ServeMux
	guarded http.Handler // the mux, closed to other sites' forms
	look    look
	pages   pages
	guide   *guide
	flashes flashes
	streams chan struct{} // one element for each open stream
	policy  string
}

// maxStreams bounds the live tails that are open at once.
const maxStreams = 256

// New makes the portal. It panics when its own templates are wrong.
func New(o Options) *Portal {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Portal{
		o: o, mux: http.NewServeMux(), look: newLook(o), flashes: newFlashes(o.Key),
		streams: make(chan struct{}, maxStreams), policy: contentPolicy(o.FrameAncestors),
	}
	p.pages = loadPages(p)
	p.guide = newGuide(&p.o)
	p.routes()
	protection := http.NewCrossOriginProtection()
	if o.PublicURL != "" {
		// A proxy may rewrite Host, with which browsers' Origin is compared.
		if err := protection.AddTrustedOrigin(o.PublicURL); err != nil {
			o.Logger.Warn("the public url is no origin", "error", err)
		}
	}
	protection.SetDenyHandler(http.HandlerFunc(p.refuseCrossSite))
	p.guarded = protection.Handler(p.mux)
	return p
}

// contentPolicy allows nothing but our own files: what a stranger wrote could
// neither run nor load anything, even if it came to stand in a page as markup.
func contentPolicy(ancestors []string) string {
	frames := "'none'"
	if len(ancestors) > 0 {
		frames = "'self' " + strings.Join(ancestors, " ")
	}
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; " +
		"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors " + frames
}

// ServeHTTP answers one request.
func (p *Portal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", p.policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
	if len(p.o.FrameAncestors) == 0 {
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		header.Set("X-Frame-Options", "DENY")
	}
	p.guarded.ServeHTTP(w, r)
}

// routes is the one list of all pages.
func (p *Portal) routes() {
	p.mux.HandleFunc("GET /portal/assets/", p.serveAsset)
	p.mux.HandleFunc("GET /portal/assets/look.css", p.serveLook)
	p.mux.HandleFunc("GET /portal/assets/logo", p.serveLogo)

	p.open("GET /portal/sign_in", p.showSignIn)
	p.open("POST /portal/sign_in", p.signIn)
	p.open("GET /portal/enter", p.enter)
	p.open("POST /portal/sign_out", p.signOut)
	p.open("GET /portal/{$}", p.home)
	p.open("GET /portal", p.home)
	p.open("/", p.noPage)

	p.tenant("GET /{$}", p.overview)
	p.tenant("GET /webhooks", p.listWebhooks)
	p.tenant("POST /webhooks", p.createWebhook)
	p.tenant("GET /webhooks/new", p.newWebhook)
	p.tenant("POST /webhooks/check", p.checkWebhook)
	p.tenant("GET /webhooks/{id}", p.showWebhook)
	p.tenant("POST /webhooks/{id}", p.updateWebhook)
	p.tenant("GET /webhooks/{id}/edit", p.editWebhook)
	p.tenant("GET /webhooks/{id}/delete", p.askDelete)
	p.tenant("POST /webhooks/{id}/delete", p.deleteWebhook)
	p.tenant("POST /webhooks/{id}/ping", p.pingWebhook)
	p.tenant("POST /webhooks/{id}/active", p.switchWebhook)
	p.tenant("GET /logs", p.listLogs)
	p.tenant("GET /logs/stream", p.streamLogs)
	p.tenant("GET /logs/{id}", p.showAttempt)
	p.tenant("GET /logs/{id}/{part}", p.downloadBody)
	p.tenant("POST /logs/{id}/redeliver", p.redeliver)
	p.tenant("GET /events/{id}", p.showEvent)
	p.tenant("GET /catalogue", p.listCatalogue)
	p.tenant("GET /catalogue/{event}", p.showEventType)
	p.tenant("POST /catalogue/{event}/send", p.sendExample)
	p.tenant("GET /debugger", p.showDebugger)
	p.tenant("POST /debugger", p.debug)

	p.operator("GET /{$}", p.operatorOverview)
	p.operator("GET /webhooks", p.allWebhooks)
	p.operator("GET /tenants", p.listTenants)
	p.operator("POST /tenants", p.createTenant)
	p.operator("GET /keys", p.listKeys)
	p.operator("POST /keys", p.createKey)
	p.operator("POST /keys/{id}/delete", p.deleteKey)
	p.operator("GET /nodes", p.listNodes)

	p.open("GET /docs", p.showGuide)
	p.open("GET /docs/{$}", p.showGuide)
	p.open("GET /docs/events", p.docsEvents)
	p.open("GET /docs/events/{event}", p.docsEvent)
	p.open("GET /docs/receivers", p.docsReceivers)
	p.open("GET /docs/receivers/{name}", p.docsReceiver)
}
