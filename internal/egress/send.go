package egress

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postrider"
)

// attemptKey finds the attempt in the context of its dial.
type attemptKey struct{}

// An attempt is the state of one Send. It is not pooled: the transport's
// goroutines may hold on to it after Send has returned.
type attempt struct {
	deadline time.Time
	trace    httptrace.ClientTrace
	body     bytes.Reader
	payload  []byte
	exchange exchange
	dialing  atomic.Pointer[dialing] // the last one begun for this attempt, if any

	// Written and read by the goroutine of Send.
	conn   *conn
	reused bool
}

var errDeadline = errors.New("the attempt's time is up")

// Send makes one attempt and says how it went. It neither fails nor panics,
// whatever the receiver does; there is nothing here to recover from, and a
// panic of ours must not look like the receiver's fault.
//
// Success is decided at the headers: once a 2xx has come, the attempt has
// succeeded, even if the body breaks off, never ends, or outlasts the timeout.
//
// r's header and body must not be changed any more, not even after Send has
// returned: a receiver may answer before it has read them.
func (c *Client) Send(ctx context.Context, r *postrider.Request) postrider.Outcome {
	started := time.Now()
	out := c.send(ctx, r, started)
	out.Timings.Total = time.Since(started)
	return out
}

func (c *Client) send(ctx context.Context, r *postrider.Request, started time.Time) (out postrider.Outcome) {
	g := c.current.Load()
	u, fault := g.urls.parse(g.guard, r.URL)
	if fault != nil {
		return failed(&failure{postrider.FailUnsendable, fault.detail})
	}
	if name := connectionHeader(r.Header); name != "" {
		return failed(&failure{postrider.FailUnsendable, "The header " + strconv.Quote(name) + " cannot be set: it belongs to the connection."})
	}
	timeout := r.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	a := &attempt{deadline: started.Add(timeout), payload: r.Body}
	a.trace.GotConn = a.gotConn
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(timeout, func() { cancel(errDeadline) })
	defer timer.Stop()

	transport := g.verified
	if r.InsecureSSL {
		transport = g.unverified
	}
	// The transport itself and not an http.Client around it: a client follows
	// redirects, copies headers and guards against what cannot happen here.
	resp, err := transport.RoundTrip(a.request(ctx, u, r.Header))
	if err != nil {
		out = failed(a.failure(ctx, err, u.Host, timeout))
		a.describe(&out)
		return out
	}
	defer resp.Body.Close() // reads nothing more; the only end of a connection that switched protocols

	if resp.Body != http.NoBody && time.Until(a.deadline) > bodyTimeout {
		timer.Reset(bodyTimeout)
	}
	a.conn.expires.Store(expiry(resp.Header.Get("Keep-Alive")))
	out.StatusCode = resp.StatusCode
	out.Response.Header = resp.Header
	if f := a.verdict(resp); f != nil {
		out.Failure, out.Detail = f.code, f.detail
		out.RetryAfter = parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	if resp.StatusCode != http.StatusSwitchingProtocols { // whose body is the connection
		out.Response.Body, out.Response.Truncated = readBody(resp.Body, c.options.MaxResponseBytes)
	}
	a.describe(&out)
	return out
}

func (a *attempt) request(ctx context.Context, u *url.URL, header http.Header) *http.Request {
	req := http.Request{Method: http.MethodPost, URL: u, Header: header, Body: http.NoBody}
	if len(a.payload) > 0 {
		a.body.Reset(a.payload)
		// net/http knows these two types and sends headers and body in one
		// packet; a reader of our own would cost a second write.
		req.Body, req.GetBody, req.ContentLength = io.NopCloser(&a.body), a.rewind, int64(len(a.payload))
	}
	ctx = context.WithValue(ctx, attemptKey{}, a)
	return req.WithContext(httptrace.WithClientTrace(ctx, &a.trace))
}

// rewind gives net/http the body once more, for another connection when a kept
// one turned out dead. net/http would repeat even what may have arrived when a
// webhook's own headers have an Idempotency-Key; here nothing is repeated that
// has a byte on the wire.
func (a *attempt) rewind() (io.ReadCloser, error) {
	if a.exchange.flushed.Load() != 0 {
		return nil, errMayHaveArrived
	}
	return io.NopCloser(bytes.NewReader(a.payload)), nil
}

var errMayHaveArrived = errors.New("the request may have arrived")

func (a *attempt) gotConn(info httptrace.GotConnInfo) {
	a.conn = info.Conn.(*conn) // as both dial functions return
	a.reused = info.Reused
	a.conn.begin(&a.exchange)
}

// describe fills in the way that the attempt took, and its times.
func (a *attempt) describe(out *postrider.Outcome) {
	var way route
	switch d := a.dialing.Load(); {
	case a.conn != nil:
		way = a.conn.route
	case d != nil:
		way = d.snapshot()
	}
	out.RemoteIP, out.TLSVersion = way.remoteIP, way.tlsVersion
	if !a.reused {
		out.Timings = postrider.Timings{DNS: way.lookup, Connect: way.connect, TLS: way.handshake}
	}
	if a.conn == nil {
		return
	}
	if answered := a.exchange.answered.Load(); answered != 0 {
		from := a.exchange.flushed.Load()
		if from == 0 || from > answered { // answered while the request was being written
			from = a.exchange.wrote.Load()
		}
		out.Timings.FirstByte = time.Duration(answered - from)
	}
}

// connectionHeader names a header that would change what the request is rather
// than what it says. Webhooks cannot have them; a stored one that does must not
// reach the wire, where a second Host or length is a smuggled request.
func connectionHeader(header http.Header) string {
	for name := range header {
		for _, reserved := range connectionHeaders {
			if len(name) == len(reserved) && strings.EqualFold(name, reserved) {
				return name
			}
		}
	}
	return ""
}

var connectionHeaders = [...]string{
	"Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Upgrade", "Trailer", "TE", "Expect", "Accept-Encoding",
}

// expiry is when a connection should not be used any more, from the header
// `Keep-Alive: timeout=5`, which Node's server sends and enforces. Without it,
// every attempt at the end of those seconds may meet the receiver's close.
func expiry(keepAlive string) int64 {
	if keepAlive == "" {
		return 0
	}
	for part := range strings.SplitSeq(keepAlive, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if !strings.EqualFold(name, "timeout") {
			continue
		}
		seconds, err := strconv.ParseUint(value, 10, 16)
		if err != nil {
			return 0
		}
		timeout := time.Duration(seconds) * time.Second
		return clock() + int64(max(timeout-time.Second, timeout/2))
	}
	return 0
}

// buffers are where bodies are read, before a copy of the real size is kept.
// They grow with the largest body read.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, 4<<10)
	return &b
}}

// readBody keeps up to limit bytes. Truncated is true when there was more, or
// when the body did not come to its end.
func readBody(body io.Reader, limit int) (kept []byte, truncated bool) {
	if body == http.NoBody {
		return nil, false
	}
	pooled := buffers.Get().(*[]byte) //nolint:forcetypeassert // the pool holds nothing else
	defer buffers.Put(pooled)
	b := (*pooled)[:0]
	var err error
	for err == nil && len(b) <= limit {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		var n int
		n, err = body.Read(b[len(b):min(cap(b), limit+1)])
		b = b[:len(b)+n]
	}
	*pooled = b
	if len(b) > limit {
		return bytes.Clone(b[:limit]), true
	}
	if len(b) == 0 {
		return nil, !errors.Is(err, io.EOF)
	}
	return bytes.Clone(b), !errors.Is(err, io.EOF)
}
