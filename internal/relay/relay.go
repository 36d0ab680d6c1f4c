// Package relay is the tunnel of postrider listen: deliveries go through a
// WebSocket to a developer's machine, which makes the request there and answers
// how it ended.
//
//	dispatch ── Send ──▶ Relay ══ WebSocket ══▶ Listen ── Sender ──▶ local server
//	         ◀─ Outcome ──       ◀═════════════       ◀── Outcome ──
//
// It knows both ends of the tunnel, which session gets a delivery, and when a
// temporary webhook is removed. It must not know the queue, SQL, or whose key
// may do what: the API admits a listener, dispatch keeps the deliveries, and
// they wait there as long as Holds says that nobody is attached. Package app
// builds the Relay, the command line calls Listen.
package relay

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"postrider"
)

// Webhooks keeps the temporary webhooks beside the others.
type Webhooks interface {
	Webhook(tenant string, id postrider.ID) (postrider.Webhook, error)
	CreateTemporary(context.Context, postrider.Webhook) (postrider.Webhook, error)
	UpdateWebhook(
		ctx context.Context, tenant string, id postrider.ID, change func(*postrider.Webhook),
	) (postrider.Webhook, error)
	DeleteWebhook(ctx context.Context, tenant string, id postrider.ID) error
	// Temporary returns the temporary webhooks of a tenant, or of all with an
	// empty one, in the order of their ids.
	Temporary(tenant string) []*postrider.Webhook
}

// Options are a Relay's settings. Webhooks, Wake and HasKey are required; zero
// durations mean the defaults.
type Options struct {
	Webhooks Webhooks
	Wake     func(postrider.ID)           // a webhook's deliveries need not wait any more
	HasKey   func([sha256.Size]byte) bool // whether the API key with this hash is still valid
	Logger   *slog.Logger
	Brand    string

	Hold time.Duration // how long deliveries wait for a listener; default 24 h
	Ping time.Duration // between two signs of life, and as long for an answer to one; default 10 s
	// Margin is what an answer may take beyond the attempt's own time: the way
	// there and back, and a listener's way back to a broken session; default 5 s.
	Margin time.Duration
}

// Bounds of what listeners may take.
const (
	maxSessions  = 1000 // of this server
	maxPerHook   = 16   // of one webhook
	maxTemporary = 50   // webhooks of one tenant
)

// A Relay holds the sessions that are attached to this server. Its methods may
// be called concurrently.
type Relay struct {
	o Options

	mu       sync.Mutex
	lines    map[postrider.ID]*line
	count    int // sessions
	stopping bool
	serving  sync.WaitGroup
}

// A line is one webhook's way out: the sessions at its end, and what they have
// not answered.
type line struct {
	sessions []*session // the newest last: it gets the deliveries
	pending  map[string]*exchange
}

// An exchange is a request that waits for its answer.
type exchange struct {
	id      string
	text    []byte // the message
	started time.Time
	token   string // of the listener that was given it; empty: nobody was there
	answer  chan postrider.Outcome
}

// New makes a Relay. It starts nothing.
func New(o Options) *Relay {
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	o.Brand = cmp.Or(o.Brand, "Clubmed")
	o.Hold, o.Ping = cmp.Or(o.Hold, postrider.DefaultRelayHold), cmp.Or(o.Ping, 10*time.Second)
	o.Margin = cmp.Or(o.Margin, 5*time.Second)
	return &Relay{o: o, lines: map[postrider.ID]*line{}}
}

// Run removes temporary webhooks that nobody has been attached to for longer
// than deliveries are held, until the context ends. A session, on whichever
// node, renews its webhook's time well before that.
func (r *Relay) Run(ctx context.Context) error {
	for {
		for _, w := range r.o.Webhooks.Temporary("") {
			if time.Since(w.UpdatedAt) > r.o.Hold && r.Holds(w) {
				r.remove(ctx, w.Tenant, w.ID, "nobody was attached")
			}
		}
		nap := time.NewTimer(min(max(r.o.Hold/20, 100*time.Millisecond), 10*time.Minute))
		select {
		case <-ctx.Done():
			nap.Stop()
			return nil
		case <-nap.C:
		}
	}
}

// Close ends all sessions; their listeners come back when the server does. It
// is called once nothing is sent any more, and returns when the last is over.
func (r *Relay) Close() {
	r.mu.Lock()
	r.stopping = true
	var all []*session
	for _, l := range r.lines {
		all = append(all, l.sessions...)
	}
	r.mu.Unlock()
	for _, s := range all {
		s.restart()
	}
	r.serving.Wait()
}

// Holds reports whether a webhook's deliveries are to wait here, since it is a
// temporary one and no session is attached to this node.
func (r *Relay) Holds(w *postrider.Webhook) bool {
	if !w.Temporary() {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.lines[w.ID]
	return l == nil || len(l.sessions) == 0
}

// Newest is the temporary webhook of a tenant that a listener attached to last.
func (r *Relay) Newest(tenant string) (postrider.ID, error) {
	var newest *postrider.Webhook
	for _, w := range r.o.Webhooks.Temporary(tenant) {
		here := newest != nil && !r.Holds(newest)
		if newest == nil || !r.Holds(w) && !here || r.Holds(w) != here && w.UpdatedAt.After(newest.UpdatedAt) {
			newest = w
		}
	}
	if newest == nil {
		return postrider.ID{}, &postrider.Error{
			Kind: postrider.Conflict, Code: "no_listener", Detail: "Nobody listens. Start postrider listen first.",
		}
	}
	return newest.ID, nil
}

// Send hands an attempt to the newest session of its webhook and waits for the
// answer. A session that breaks off may come back for it within the attempt's
// time.
func (r *Relay) Send(ctx context.Context, request *postrider.Request) postrider.Outcome {
	ctx, cancel := context.WithTimeout(ctx, request.Timeout+r.o.Margin)
	defer cancel()
	id := postrider.NewID().String()
	e := &exchange{
		id: id, started: time.Now(), answer: make(chan postrider.Outcome, 1),
		text: encode(&head{Type: typeDelivery, ID: id, Delivery: &delivery{
			Header: request.Header.Map(), TimeoutMilli: request.Timeout.Milliseconds(),
		}}, request.Body),
	}
	if s := r.begin(request.WebhookID, e); s != nil {
		s.write(ctx, e.text)
	}
	select {
	case outcome := <-e.answer:
		return outcome
	case <-ctx.Done():
	}
	if r.end(request.WebhookID, e) {
		return postrider.Outcome{
			Failure: postrider.FailTimeout, Timings: postrider.Timings{Total: time.Since(e.started)},
			Detail: "The listener is attached but did not say in time how its request ended.",
		}
	}
	return lost(e)
}

func lost(e *exchange) postrider.Outcome {
	return postrider.Outcome{
		Failure: postrider.FailRelayLost, Timings: postrider.Timings{Total: time.Since(e.started)},
		Detail: "The listener went away before it answered. The delivery waits for the next one, and no retry is used up.",
	}
}

// begin notes an exchange and returns the session that is to get it; nil: the
// next one to attach will.
func (r *Relay) begin(webhook postrider.ID, e *exchange) *session {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.line(webhook)
	l.pending[e.id] = e
	if len(l.sessions) == 0 {
		return nil
	}
	s := l.sessions[len(l.sessions)-1]
	e.token = s.Token
	return s
}

// end forgets an exchange, and reports whether the listener that has it is
// still attached.
func (r *Relay) end(webhook postrider.ID, e *exchange) (attached bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.line(webhook)
	delete(l.pending, e.id)
	attached = l.find(e.token) != nil
	r.tidy(webhook)
	return attached
}

// line returns a webhook's line. The caller holds the lock.
func (r *Relay) line(webhook postrider.ID) *line {
	l, found := r.lines[webhook]
	if !found {
		l = &line{pending: map[string]*exchange{}}
		r.lines[webhook] = l
	}
	return l
}

// tidy forgets a line that has nothing at its end. The caller holds the lock.
func (r *Relay) tidy(webhook postrider.ID) {
	if l := r.lines[webhook]; l != nil && len(l.sessions) == 0 && len(l.pending) == 0 {
		delete(r.lines, webhook)
	}
}

func (l *line) find(token string) *session {
	for _, s := range l.sessions {
		if s.Token == token {
			return s
		}
	}
	return nil
}

var (
	errToken = &postrider.Error{
		Kind: postrider.Invalid, Field: "session", Code: "invalid_session",
		Detail: "A session's name is 16 to 64 letters, digits, underscores or dashes.",
	}
	errForward = &postrider.Error{
		Kind: postrider.Invalid, Field: "forward", Code: "invalid_forward",
		Detail: "Where deliveries are forwarded to is told in 1 to 1,000 visible ASCII characters.",
	}
	errEvents = &postrider.Error{
		Kind: postrider.Invalid, Field: "events", Code: "conflicting_fields",
		Detail: "The temporary webhook has its events already. Attach to it without events.",
	}
	errSessions = &postrider.Error{
		Kind: postrider.RateLimited, Code: "too_many_sessions", RetryAfter: 5 * time.Second,
		Detail: "Too many listeners are attached. End some, or try again later.",
	}
	errTemporary = &postrider.Error{
		Kind: postrider.RateLimited, Code: "too_many_temporary_webhooks", RetryAfter: time.Minute,
		Detail: "There are 50 temporary webhooks already. Attach to one of them, or delete some.",
	}
)

// Admit makes ready what a listener asks for, and returns the function that
// upgrades its request and serves it until the session ends.
func (r *Relay) Admit(ctx context.Context, asked postrider.Listener) (func(http.ResponseWriter, *http.Request), error) {
	if err := check(&asked); err != nil {
		return nil, err
	}
	s := &session{relay: r, Listener: asked}
	s.ready = Ready{
		Brand: r.o.Brand, HoldSecond: int64(r.o.Hold.Seconds()), PingMilli: r.o.Ping.Milliseconds(),
	}
	if err := r.enter(asked.WebhookID); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		r.leave()
		return nil, err
	}
	return s.serve, nil
}

func check(asked *postrider.Listener) error {
	var faults postrider.Faults
	word := func(c byte) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
	}
	if n := len(asked.Token); n < 16 || n > 64 || !each(asked.Token, word) {
		faults.Add(errToken)
	}
	if n := len(asked.Forward); n < 1 || n > 1000 || !each(asked.Forward, func(c byte) bool { return ' ' < c && c < 0x7f }) {
		faults.Add(errForward)
	}
	return faults.Err()
}

func each(text string, is func(byte) bool) bool {
	for i := range len(text) {
		if !is(text[i]) {
			return false
		}
	}
	return true
}

// enter counts a session in.
func (r *Relay) enter(webhook postrider.ID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.lines[webhook]
	switch {
	case r.stopping:
		return &postrider.Error{Kind: postrider.Unavailable, Code: "unavailable", Detail: "The server stops. Come back in a moment."}
	case r.count >= maxSessions || l != nil && len(l.sessions) >= maxPerHook:
		return errSessions
	}
	r.count++
	r.serving.Add(1)
	return nil
}

func (r *Relay) leave() {
	r.mu.Lock()
	r.count--
	r.mu.Unlock()
	r.serving.Done()
}

// temporary makes the webhook of a new session: a new one, or a copy of one
// that has a receiver already, which goes on receiving.
func (r *Relay) temporary(ctx context.Context, asked *postrider.Listener, like *postrider.Webhook) (postrider.Webhook, error) {
	if len(r.o.Webhooks.Temporary(asked.Tenant)) >= maxTemporary {
		return postrider.Webhook{}, errTemporary
	}
	w := postrider.Webhook{ContentType: postrider.JSON, Secret: postrider.NewSecret(), Events: []string{"*"}}
	w.Description = "Made for postrider listen"
	if like != nil {
		w = *like
		w.Description = "A copy of webhook " + like.ID.String() + ", made for postrider listen"
		w.Paused, w.Disabled, w.Failing = false, nil, postrider.Failing{}
	}
	if len(asked.Events) > 0 {
		w.Events = asked.Events
	}
	w.Tenant, w.URL, w.Active = asked.Tenant, postrider.RelayScheme+asked.Forward, true
	return r.o.Webhooks.CreateTemporary(ctx, w)
}

// remove deletes a temporary webhook.
func (r *Relay) remove(ctx context.Context, tenant string, id postrider.ID, why string) {
	if err := r.o.Webhooks.DeleteWebhook(ctx, tenant, id); err != nil {
		r.o.Logger.Error("a temporary webhook was not removed", "webhook", id, "error", err)
		return
	}
	r.o.Logger.Info("a temporary webhook was removed", "webhook", id, "tenant", tenant, "why", why)
}

// renew begins a webhook's time anew. It is an edit of the webhook, so that
// what its last listener failed at does not hold up the next.
func (r *Relay) renew(ctx context.Context, tenant string, id postrider.ID) (postrider.Webhook, error) {
	w, err := r.o.Webhooks.UpdateWebhook(ctx, tenant, id, func(*postrider.Webhook) {})
	if err != nil {
		return w, fmt.Errorf("renew a temporary webhook: %w", err)
	}
	return w, nil
}
