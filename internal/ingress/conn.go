package ingress

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"
)

// bufferSize is what is read at once, and the most that a plain head can be.
const bufferSize = 4 << 10

// A conn is a connection on which plain requests come. All that a request needs is
// used again for the next one: a handler keeps nothing of it, which net/http's
// handlers may not either.
type conn struct {
	net.Conn
	server  *Server
	remote  string
	waiting atomic.Bool // for a request: it may be closed

	buffer     [bufferSize]byte
	start, end int // of what was read and is not used yet
	broken     bool

	request  http.Request
	header   http.Header
	values   []string
	body     body
	response response
	renewAt  time.Time // when the limits of time are moved
}

func newConn(s *Server, raw net.Conn) *conn {
	c := &conn{Conn: raw, server: s, remote: raw.RemoteAddr().String(), header: make(http.Header, 8)}
	c.response.header = make(http.Header, 8)
	return c
}

// renewEvery is how often the limits of time are moved on a busy connection. An
// idle one is closed up to this much earlier than it may be.
const renewEvery = 15 * time.Second

// serve answers plain requests. It returns with the connection to be kept when
// something else came, which is not used up.
func (c *conn) serve() (keep bool) {
	c.SetDeadline(time.Now().Add(c.server.rest.ReadHeaderTimeout)) //nolint:errcheck // fails only where reading does
	for c.await() {
		head := c.readHead(c.buffer[c.start:c.end])
		if head == 0 {
			return c.SetDeadline(time.Time{}) == nil // net/http sets its own
		}
		c.start += head
		if !c.answer() {
			return false
		}
	}
	return false
}

// await waits for the beginning of a request.
func (c *conn) await() (came bool) {
	if c.start < c.end { // a client that does not wait for answers
		return true
	}
	c.start, c.end = 0, 0
	c.waiting.Store(true)
	if c.server.closing.Load() {
		return false
	}
	n, err := c.Conn.Read(c.buffer[:])
	c.end = n
	return c.waiting.CompareAndSwap(true, false) && err == nil && n > 0
}

// rest is the connection for net/http.
func (c *conn) rest() net.Conn {
	return &begun{Conn: c.Conn, read: bytes.Clone(c.buffer[c.start:c.end])}
}

// answer has the request answered that was read.
func (c *conn) answer() (next bool) {
	c.renew(time.Now())
	c.response.reset()
	if !c.handle() {
		return false
	}
	c.response.closes = c.broken || c.server.closing.Load()
	if _, err := c.Conn.Write(c.response.wire()); err != nil || c.response.closes {
		return false
	}
	if c.body.left > 0 { // of which the handler did not want to know
		io.Copy(io.Discard, &c.body) //nolint:errcheck // it has broken the connection then
	}
	if c.body.slow {
		c.renew(time.Now())
	}
	return !c.broken
}

// renew moves the limits of time, if it is time to.
func (c *conn) renew(now time.Time) {
	if now.After(c.renewAt) {
		c.renewAt = now.Add(renewEvery)
		c.SetDeadline(now.Add(c.server.rest.IdleTimeout)) //nolint:errcheck // fails only where reading or writing does
	}
}

// handle calls the handler. One that panics has said nothing that can be sent.
func (c *conn) handle() (done bool) {
	defer func() {
		if cause := recover(); cause != nil && cause != http.ErrAbortHandler { //nolint:errorlint // that value alone is meant
			c.log(fmt.Sprintf("ingress: panic serving %s: %v\n%s", c.remote, cause, debug.Stack()))
		}
	}()
	c.server.rest.Handler.ServeHTTP(&c.response, &c.request)
	return true
}

func (c *conn) log(text string) {
	if logger := c.server.rest.ErrorLog; logger != nil {
		logger.Print(text)
	}
}

// A body is that of a plain request: a part of it may be in the buffer.
type body struct {
	conn *conn
	left int
	slow bool // it is waited for
}

// Read says with the last byte that it was the last.
func (b *body) Read(p []byte) (n int, err error) {
	c := b.conn
	switch p = p[:min(len(p), b.left)]; {
	case b.left == 0:
		return 0, io.EOF
	case c.broken:
		return 0, io.ErrUnexpectedEOF
	case c.start < c.end:
		n = copy(p, c.buffer[c.start:c.end])
		c.start += n
	default:
		b.limit()
		if n, err = c.Conn.Read(p); err != nil {
			c.broken = true
			if err == io.EOF { //nolint:errorlint // a Reader's own
				err = io.ErrUnexpectedEOF
			}
		}
	}
	if b.left -= n; b.left == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// limit bounds how long the rest of the body may take.
func (b *body) limit() {
	if !b.slow {
		b.slow = true
		b.conn.SetReadDeadline(time.Now().Add(b.conn.server.rest.ReadTimeout)) //nolint:errcheck // fails only where reading does
		b.conn.renewAt = time.Time{}
	}
}

// Close leaves what was not read to the connection.
func (*body) Close() error { return nil }

// A response is gathered, and sent in one piece.
type response struct {
	header http.Header
	status int
	body   []byte
	closes bool // the connection ends with it
	out    bytes.Buffer
}

// keptResponse bounds the memory that is kept for the next response.
const keptResponse = 16 << 10

func (w *response) reset() {
	clear(w.header)
	w.status, w.body, w.closes = 0, w.body[:0], false
	if cap(w.body) > keptResponse {
		w.body = nil
	}
	if w.out.Reset(); w.out.Cap() > keptResponse {
		w.out = bytes.Buffer{}
	}
}

// Header is sent as it is when the handler returns.
func (w *response) Header() http.Header { return w.header }

// WriteHeader sets the status; the first time counts.
func (w *response) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
}

// Write adds to the body.
func (w *response) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.body = append(w.body, p...)
	return len(p), nil
}

// wire is the whole response.
func (w *response) wire() []byte {
	w.WriteHeader(http.StatusOK)
	b := w.out.AvailableBuffer()
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(w.status), 10)
	b = append(append(b, ' '), http.StatusText(w.status)...)
	b = time.Now().UTC().AppendFormat(append(b, "\r\nDate: "...), http.TimeFormat)
	if w.status != http.StatusNoContent && w.status != http.StatusNotModified {
		b = strconv.AppendInt(append(b, "\r\nContent-Length: "...), int64(len(w.body)), 10)
	} else {
		w.body = w.body[:0]
	}
	w.closes = w.closes || w.header.Get("Connection") == "close"
	if w.closes {
		b = append(b, "\r\nConnection: close"...)
	}
	w.out.Write(append(b, "\r\n"...))
	w.header.WriteSubset(&w.out, ownHeaders) //nolint:errcheck // a buffer takes everything
	w.out.WriteString("\r\n")
	w.out.Write(w.body)
	return w.out.Bytes()
}

// ownHeaders are those that a handler does not write.
var ownHeaders = map[string]bool{"Date": true, "Content-Length": true, "Connection": true, "Transfer-Encoding": true}
