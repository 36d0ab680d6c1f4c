package egress

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"
)

// A socket can be looked at without waiting: while glancing is set, Read gives
// errQuiet where there is nothing to read. It lies below TLS, whose own buffer
// holds what no look at the socket finds.
type socket struct {
	net.Conn
	raw      syscall.RawConn
	glancing bool

	// The look, made once, with what it takes and gives.
	look func(fd uintptr)
	into []byte
	n    int
	err  error
}

func newSocket(c net.Conn) (*socket, error) {
	tcp, ok := c.(syscall.Conn)
	if !ok {
		return nil, errors.New("the connection is no socket")
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{Conn: c, raw: raw}
	s.look = func(fd uintptr) { s.n, s.err = syscall.Read(int(fd), s.into) } // which Go has made non-blocking
	return s, nil
}

// Read, in a glance, asks the system itself: a deadline in the past would make
// net give up before it had looked.
func (s *socket) Read(b []byte) (int, error) {
	if !s.glancing {
		return s.Conn.Read(b)
	}
	s.into = b
	err := s.raw.Control(s.look)
	s.into = nil
	switch {
	case err != nil:
		return 0, err
	case errors.Is(s.err, syscall.EAGAIN) || errors.Is(s.err, syscall.EINTR):
		return 0, errQuiet
	case s.err != nil:
		return 0, s.err
	case s.n == 0:
		return 0, io.EOF
	}
	return s.n, nil
}

// quiet is temporary in the sense of net.Error, so that crypto/tls goes on with
// the connection.
type quiet struct{}

var errQuiet error = quiet{}

func (quiet) Error() string   { return "nothing to read" }
func (quiet) Timeout() bool   { return false }
func (quiet) Temporary() bool { return true }

// A conn is a connection to a receiver. It serves one attempt at a time, in the
// goroutine of its Send, and notes when the request was written and answered.
type conn struct {
	net.Conn // the socket, or TLS over it
	socket   *socket
	reader   *bufio.Reader // of the conn
	route    route
	giveUp   func()

	now     *exchange // of the attempt that has the connection
	heading bool      // a response's headers are being read
	headers int64     // bytes read of them
	expires int64     // when the receiver said that it closes the connection, as given by clock; 0: never
	err     error     // that ended reading

	// Of the pool.
	key          string
	rested       time.Time
	older, newer *conn
}

func newConn(key string, s *socket, c net.Conn, way route) *conn {
	kept := &conn{Conn: c, socket: s, route: way, key: key}
	kept.reader = bufio.NewReader(kept)
	kept.giveUp = func() { _ = kept.SetDeadline(time.Unix(1, 0)) }
	return kept
}

// An exchange is what a connection notes for one attempt. Its moments are as
// given by clock; 0: not yet.
type exchange struct {
	wrote    atomic.Int64 // the first byte of the request was about to be written
	flushed  atomic.Int64 // the last byte so far was written
	answered atomic.Int64 // the first byte of the response was read
}

var epoch = time.Now()

func clock() int64 { return int64(time.Since(epoch)) }

// begin gives the connection to an attempt.
func (c *conn) begin(x *exchange) {
	x.wrote.Store(0)
	x.flushed.Store(0)
	x.answered.Store(0)
	c.now = x
}

// Write may run beside Read: a receiver may answer before it has read all.
func (c *conn) Write(b []byte) (int, error) {
	x := c.now
	if x.wrote.Load() == 0 {
		x.wrote.Store(clock())
	}
	n, err := c.Conn.Write(b)
	if n > 0 {
		x.flushed.Store(clock())
	}
	return n, err
}

func (c *conn) Read(b []byte) (int, error) {
	if c.heading {
		if c.headers >= maxHeaderBytes {
			c.err = errHeaders
			return 0, errHeaders
		}
		b = b[:min(int64(len(b)), maxHeaderBytes-c.headers)]
	}
	n, err := c.Conn.Read(b)
	if c.heading {
		c.headers += int64(n)
	}
	if x := c.now; n > 0 && x != nil && x.answered.Load() == 0 && x.wrote.Load() != 0 {
		x.answered.Store(clock())
	}
	if err != nil && !errors.Is(err, errQuiet) {
		c.err = err
	}
	return n, err
}

var errHeaders = errors.New("the response's headers are too large")

// quiet reports whether there is nothing to read: neither in the buffers, TLS's
// included, nor in the socket. Whatever a receiver says unasked, its goodbye
// included, is there to be read.
func (c *conn) quiet() bool {
	if c.err != nil {
		return false
	}
	c.socket.glancing = true
	_, err := c.reader.Peek(1)
	c.socket.glancing = false
	return errors.Is(err, errQuiet)
}

// reusable reports whether a connection that was answered may serve again: the
// receiver has neither ended it nor said more than the answer.
func (c *conn) reusable() bool {
	return c.err == nil && c.reader.Buffered() == 0
}

func (c *conn) expired() bool { return c.expires != 0 && clock() >= c.expires }

// readResponse reads the one response that ends the request. Its headers and
// those of all the 1xx responses before it share one limit.
func (c *conn) readResponse() (*http.Response, error) {
	c.heading, c.headers = true, 0
	defer func() { c.heading = false }()
	for {
		resp, err := http.ReadResponse(c.reader, nil)
		if err != nil {
			return nil, err
		}
		if code := resp.StatusCode; code < 100 || code > 199 || code == http.StatusSwitchingProtocols {
			return resp, nil
		}
	}
}
