package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"postrider"
)

// A Sender makes the request to the local server.
type Sender interface {
	Send(context.Context, *postrider.Request) postrider.Outcome
}

// ListenOptions are what Listen works with; all but Tenant, WebhookID, Events,
// InsecureSSL and the waits are required.
type ListenOptions struct {
	Server  string // its URL, without a slash at the end
	Header  http.Header
	Client  *http.Client // for the way to the server
	Sender  Sender       // for the way to the forward URL
	Forward string       // where deliveries go

	Tenant      string
	WebhookID   string   // of a webhook to attach to; empty: a new temporary one
	Events      []string // none: all
	InsecureSSL bool     // do not verify the local server's certificate

	// FirstWait and LongestWait bound the wait before the next try to attach;
	// defaults 250 ms and 15 s.
	FirstWait, LongestWait time.Duration

	Observer Observer
}

// An Observer is told what happens, one thing after another. Done, asked after
// each delivery, ends the listening.
type Observer interface {
	Ready(r *Ready, again bool)
	Away(err error, wait time.Duration) // the session is lost; it is tried again after wait
	Standby(on bool)                    // another session of the webhook has the deliveries, or this one again
	Delivered(r *postrider.Request, o *postrider.Outcome) (done bool)
}

// A Refusal is the server's answer when it lets nobody attach.
type Refusal struct {
	Status int
	Header http.Header
	Body   []byte // the first 1,024 bytes
}

func (r *Refusal) Error() string { return fmt.Sprintf("the server refused with status %d", r.Status) }

// passing reports whether a refusal may be another answer a moment later.
func (r *Refusal) passing() bool {
	return r.Status == http.StatusTooManyRequests || r.Status >= 500 && r.Status != http.StatusNotImplemented
}

// ErrLeft reports that the listening ended while the server could not be told:
// the temporary webhook stays there until nobody has come back for its time.
var ErrLeft = errors.New("the server could not be told that the listener ended")

// An Ended session is one that the server does not want again.
type Ended struct{ Reason string }

func (e *Ended) Error() string { return "the server ended the session: " + e.Reason }

// remembered is how many answers are kept for a server that may not have got
// them: no webhook has more requests on their way.
const remembered = 1024

// A listener keeps what outlives a connection.
type listener struct {
	ListenOptions

	token   string
	ready   *Ready
	telling sync.Mutex // one thing after another

	mu      sync.Mutex
	conn    *websocket.Conn // nil while there is none
	answers map[string][]byte
	order   []string // of answers, the oldest first
	working sync.WaitGroup
	done    context.CancelFunc // ends the listening
}

// Listen attaches to a server and forwards deliveries until the context ends or
// the observer has had enough; then the temporary webhook is removed, or the
// error is ErrLeft. It comes back by itself when the connection or the server
// fails; only the first time is that an error, and a server that does not want
// it any more always is: a *Refusal, an *Ended, or what broke the connection.
func Listen(ctx context.Context, o ListenOptions) error {
	if o.FirstWait == 0 {
		o.FirstWait = 250 * time.Millisecond
	}
	if o.LongestWait == 0 {
		o.LongestWait = 15 * time.Second
	}
	ctx, done := context.WithCancel(ctx)
	defer done()
	l := &listener{ListenOptions: o, token: postrider.NewToken(), answers: map[string][]byte{}, done: done}
	defer l.working.Wait()
	for wait := o.FirstWait; ; {
		attached, err := l.session(ctx)
		if ctx.Err() != nil {
			return l.left(err)
		}
		refusal, refused := errors.AsType[*Refusal](err)
		_, ended := errors.AsType[*Ended](err)
		if ended || refused && !refusal.passing() || l.ready == nil {
			return err
		}
		if attached {
			wait = o.FirstWait
		}
		pause := wait/2 + rand.N(wait/2) //nolint:gosec // it only spreads those that come back
		l.tell(func() { o.Observer.Away(err, pause) })
		select {
		case <-ctx.Done():
			return ErrLeft
		case <-time.After(pause):
		}
		wait = min(2*wait, o.LongestWait)
	}
}

// left is how the listening ends when a session ended by its own wish.
func (l *listener) left(err error) error {
	if l.ready == nil || websocket.CloseStatus(err) == websocket.StatusNormalClosure {
		return nil
	}
	return ErrLeft
}

func (l *listener) tell(what func()) {
	l.telling.Lock()
	defer l.telling.Unlock()
	what()
}

// session is one connection from its beginning to its end.
func (l *listener) session(ctx context.Context) (attached bool, err error) {
	query := url.Values{"session": {l.token}, "forward": {l.Forward}}
	if l.Tenant != "" {
		query.Set("tenant", l.Tenant)
	}
	switch {
	case l.ready != nil:
		query.Set("webhook_id", l.ready.WebhookID.String())
	default:
		if l.WebhookID != "" {
			query.Set("webhook_id", l.WebhookID)
		}
		if len(l.Events) > 0 {
			query.Set("events", strings.Join(l.Events, ","))
		}
	}
	conn, response, err := websocket.Dial(ctx, l.Server+"/v0/api_webhooks/listen?"+query.Encode(), //nolint:bodyclose // the library does it
		&websocket.DialOptions{HTTPClient: l.Client, HTTPHeader: l.Header})
	if err != nil {
		if response != nil && response.StatusCode != http.StatusSwitchingProtocols {
			body, _ := io.ReadAll(response.Body) // what there is of it
			return false, &Refusal{response.StatusCode, response.Header, body}
		}
		return false, fmt.Errorf("attach: %w", err)
	}
	defer conn.CloseNow() //nolint:errcheck // it is closed already when all went well
	conn.SetReadLimit(maxDelivery)
	// Reading outlives the context: a good-bye is answered.
	reading, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { l.goodbye(ctx, conn, stop) })()
	return l.read(reading, ctx, conn)
}

// maxDelivery bounds what a server can make a listener read at once: any
// payload that it can be set to take, as a form.
const maxDelivery = 256 << 20

// goodbyeTime is how long the server may take to say good-bye, too.
const goodbyeTime = 5 * time.Second

func (l *listener) goodbye(ctx context.Context, conn *websocket.Conn, stop context.CancelFunc) {
	time.AfterFunc(goodbyeTime, stop)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTime)
	defer cancel()
	if err := conn.Write(ctx, websocket.MessageBinary, encode(&head{Type: typeBye}, nil)); err != nil {
		stop()
	}
}

// read takes messages until the connection ends. Work is what the requests to
// the local server live in.
func (l *listener) read(ctx, work context.Context, conn *websocket.Conn) (attached bool, err error) {
	defer l.use(nil)
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			return attached, ending(err)
		}
		h, body, err := decode(text)
		if err != nil {
			return attached, err
		}
		switch {
		case h.Type == typeReady && h.Ready != nil && !attached:
			attached = true
			again := l.ready != nil
			l.ready = h.Ready
			l.use(conn)
			l.tell(func() { l.Observer.Ready(h.Ready, again) })
			every := time.Duration(h.Ready.PingMilli) * time.Millisecond
			watching.Go(func() { watch(ctx, conn, min(max(every, 10*time.Millisecond), time.Minute)) })
		case h.Type == typeStandby || h.Type == typeActive:
			l.tell(func() { l.Observer.Standby(h.Type == typeStandby) })
		case h.Type == typeDelivery && h.Delivery != nil && attached:
			l.deliver(work, h.ID, h.Delivery, body)
		}
	}
}

// ending tells a server that goes away for a while from one that is done.
func ending(err error) error {
	if closed, ok := errors.AsType[websocket.CloseError](err); ok {
		if code := closed.Code; code == closeRevoked || code == closeRemoved || code == websocket.StatusPolicyViolation {
			return &Ended{cut(closed.Reason, 200)}
		}
		if closed.Reason != "" {
			return errors.New(cut(closed.Reason, 200))
		}
		return err
	}
	socket, ok := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, net.ErrClosed):
		return errors.New("the server gave no sign of life")
	case ok:
		return socket.Err
	case errors.Is(err, io.EOF):
		return errors.New("the connection broke off")
	}
	return err
}

// watch pings the server: a network that was cut says nothing by itself.
func watch(ctx context.Context, conn *websocket.Conn, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if !alive(ctx, conn, every) {
				conn.CloseNow() //nolint:errcheck // the read loop sees it
				return
			}
		}
	}
}

// use sets the connection that answers go out on.
func (l *listener) use(conn *websocket.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = conn
}

// deliver makes a request that is new, and answers again one that was made. A
// request under way is answered when it ends, on the connection of then.
func (l *listener) deliver(ctx context.Context, id string, d *delivery, body []byte) {
	l.mu.Lock()
	text, known := l.answers[id]
	if !known {
		l.answers[id] = nil
	}
	l.mu.Unlock()
	switch {
	case known && text == nil:
	case known:
		l.answer(ctx, text)
	default:
		l.working.Go(func() {
			request := requestOf(d, body, l.Forward, l.InsecureSSL)
			outcome := l.Sender.Send(ctx, request)
			if ctx.Err() != nil && outcome.StatusCode == 0 {
				return // cut short by the end of the listening: that is no answer
			}
			l.remember(ctx, id, encode(&head{Type: typeAnswer, ID: id, Answer: answerOf(&outcome)}, outcome.Response.Body))
			l.tell(func() {
				if ctx.Err() == nil && l.Observer.Delivered(request, &outcome) {
					l.done()
				}
			})
		})
	}
}

// remember keeps an answer and sends it.
func (l *listener) remember(ctx context.Context, id string, text []byte) {
	l.mu.Lock()
	l.answers[id] = text
	l.order = append(l.order, id)
	if len(l.order) > remembered {
		delete(l.answers, l.order[0])
		l.order = l.order[1:]
	}
	l.mu.Unlock()
	l.answer(ctx, text)
}

// answer sends an answer, if there is a connection. Otherwise the server asks
// again when there is. An answer that was made is sent even as the listening
// ends.
func (l *listener) answer(ctx context.Context, text []byte) {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTime)
	defer cancel()
	if err := conn.Write(ctx, websocket.MessageBinary, text); err != nil {
		conn.CloseNow() //nolint:errcheck // the read loop sees it
	}
}
