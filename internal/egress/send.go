package egress

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"postrider"
)

// An attempt is the state of one Send.
type attempt struct {
	deadline time.Time
	exchange exchange
	dialing  *dialing // nil unless a connection had to be made
	conn     *conn    // nil until there is one
	reused   bool
	stop     func() bool // the watch over the context

	// The rest of a large body is written while the answer is read.
	written  chan struct{} // closed once that has ended; nil: there is no rest
	writeErr error
}

const (
	// writeAtOnce is the most that is written before the answer is read. It must
	// fit into the buffer of a fresh socket, or a receiver that answers without
	// reading would not be heard.
	writeAtOnce = 32 << 10
	// writeGrace is how long the rest of a body may take behind the answer, for
	// the connection to be used again.
	writeGrace = 50 * time.Millisecond
)

// Send makes one attempt and says how it went. It neither fails nor panics,
// whatever the receiver does; there is nothing here to recover from, and a
// panic of ours must not look like the receiver's fault.
//
// Success is decided at the headers: once a 2xx has come, the attempt has
// succeeded, even if the body breaks off, never ends, or outlasts the timeout.
//
// When it returns, nothing of it goes on.
func (c *Client) Send(ctx context.Context, r *postrider.Request) postrider.Outcome {
	started := time.Now()
	out := c.send(ctx, r, started)
	out.Timings.Total = time.Since(started)
	return out
}

func (c *Client) send(ctx context.Context, r *postrider.Request, started time.Time) (out postrider.Outcome) {
	g := c.current.Load()
	t, fault := g.urls.parse(g.guard, r.URL)
	if fault != nil {
		return failed(&failure{postrider.FailUnsendable, fault.detail})
	}
	timeout := r.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	pool := g.verified
	if r.InsecureSSL {
		pool = g.unverified
	}
	request := requests.Get().(*[]byte) //nolint:forcetypeassert // the pool holds nothing else
	defer requests.Put(request)
	head, f := t.appendHead((*request)[:0], r.Header, len(r.Body))
	if f != nil {
		return failed(f)
	}
	// Headers and body leave in one packet where they can.
	first := min(len(r.Body), max(writeAtOnce-len(head), 0))
	*request = append(head, r.Body[:first]...)

	a := &attempt{deadline: started.Add(timeout)}
	resp, err := a.ask(ctx, g, pool, t, *request, r.Body[first:]) //nolint:bodyclose // closing would read it to its end; the connection is closed instead
	if err != nil {
		out = failed(a.failure(ctx, err, t.url.Host, timeout))
		a.describe(&out)
		return out
	}
	out.StatusCode = resp.StatusCode
	out.Response.Header = postrider.SortedHeader(resp.Header)
	if f := a.verdict(resp); f != nil {
		out.Failure, out.Detail = f.code, f.detail
		out.RetryAfter = parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	if resp.StatusCode != http.StatusSwitchingProtocols { // whose body is the connection
		a.limitBody(ctx, resp)
		out.Response.Body, out.Response.Truncated = readBody(resp.Body, c.options.MaxResponseBytes)
	}
	a.conn.expires = expiry(resp.Header.Get("Keep-Alive"))
	a.end(pool, !resp.Close && !out.Response.Truncated && out.Failure != postrider.FailProtocol)
	a.describe(&out)
	return out
}

// requests are where the beginnings of requests are put together.
var requests = sync.Pool{New: func() any {
	b := make([]byte, 0, 4<<10)
	return &b
}}

// ask writes a request and reads the headers of its answer, over a kept
// connection or a new one. On an error nothing is left open.
//
// A request that has a byte on the wire is not repeated: a receiver that ends
// the connection without an answer may have worked on it. What remains is the
// close that crosses with a request, where a receiver ends a connection between
// the look at it and the write. That attempt fails, and its delivery goes by
// its schedule. Where not even the first byte could be written, another
// connection takes the place of the kept one.
func (a *attempt) ask(ctx context.Context, g *generation, p *pool, t *target, first, rest []byte) (*http.Response, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := a.connect(ctx, g, p, t); err != nil {
			return nil, err
		}
		_ = a.conn.SetDeadline(a.deadline) // fails only where the write does
		a.stop = context.AfterFunc(ctx, a.conn.giveUp)
		resp, err := a.converse(a.conn, first, rest)
		if err == nil {
			return resp, nil
		}
		a.end(p, false)
		if !a.reused || a.exchange.flushed.Load() != 0 || !time.Now().Before(a.deadline) {
			return nil, err
		}
	}
}

// connect takes a kept connection, or makes one.
func (a *attempt) connect(ctx context.Context, g *generation, p *pool, t *target) (err error) {
	if a.conn = p.take(t.key); a.conn != nil {
		a.reused = true
	} else {
		a.reused = false
		a.dialing = &dialing{guard: g.guard, port: t.port, open: g.guard.opensHost(t.host)}
		ctx, cancel := context.WithDeadline(ctx, a.deadline)
		defer cancel()
		if a.conn, err = g.dial(ctx, a.dialing, t, p.config); err != nil {
			return err
		}
		a.conn.quiet() // what is there already is no answer; see verdict
	}
	a.conn.begin(&a.exchange)
	return nil
}

// converse writes what comes first and reads the headers of the answer. A
// receiver may answer, and end the connection, before it has read everything:
// what it said counts.
func (a *attempt) converse(c *conn, first, rest []byte) (*http.Response, error) {
	_, a.writeErr = c.Write(first)
	if a.writeErr != nil && (a.exchange.flushed.Load() == 0 || errors.Is(a.writeErr, os.ErrDeadlineExceeded)) {
		return nil, a.writeErr
	}
	if a.written = nil; a.writeErr == nil && len(rest) > 0 {
		a.written = make(chan struct{})
		go func() {
			defer close(a.written)
			_, a.writeErr = c.Write(rest)
		}()
	}
	return c.readResponse()
}

// limitBody gives the body its own, shorter time, unless it is here already.
func (a *attempt) limitBody(ctx context.Context, resp *http.Response) {
	if n := resp.ContentLength; n >= 0 && n <= int64(a.conn.reader.Buffered()) || time.Until(a.deadline) <= bodyTimeout {
		return
	}
	_ = a.conn.SetDeadline(time.Now().Add(bodyTimeout))
	if ctx.Err() != nil {
		a.conn.giveUp() // whose deadline may have been the one before
	}
}

// end returns the connection to the pool, or closes it, and waits for the rest
// of the body.
func (a *attempt) end(p *pool, keep bool) {
	if !a.stop() { // giveUp is under way, and may hit whoever has the connection next
		keep = false
	}
	if keep && a.written != nil {
		grace := time.NewTimer(writeGrace)
		defer grace.Stop()
		select {
		case <-a.written:
		case <-grace.C:
			keep = false
		}
	}
	if keep && a.writeErr == nil && a.conn.reusable() {
		p.put(a.conn)
		return
	}
	a.conn.Close()
	if a.written != nil {
		<-a.written
	}
}

// describe fills in the way that the attempt took, and its times.
func (a *attempt) describe(out *postrider.Outcome) {
	var way route
	switch {
	case a.conn != nil:
		way = a.conn.route
	case a.dialing != nil:
		way = a.dialing.snapshot()
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
