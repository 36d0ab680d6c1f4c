// Package ingress takes connections. What producers send all day, a plain request
// that comes in one piece, is read and answered here, in one goroutine for each
// connection and with one call to the system each way. A connection on which
// anything else comes is net/http's from then on, with the bytes that came.
//
// It knows the form of HTTP/1.1. It must not know what is asked for: it calls a
// handler, as net/http does. The app builds it.
//
//	listener ──▶ Server ── plain ──▶ handler
//	                └── anything else ──▶ http.Server ──▶ handler
package ingress

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
)

// A Server answers plain requests, and has an http.Server for everything else.
// Its limits of time are those of the http.Server.
type Server struct {
	rest    *http.Server
	targets map[string]*url.URL // by request line
	handed  handedOver

	mu      sync.Mutex
	conns   map[*conn]struct{}
	closing atomic.Bool
	serving sync.WaitGroup
}

// New makes a Server before one of net/http's. Plain requests are POSTs to one of
// the paths. It starts nothing.
func New(rest *http.Server, paths ...string) *Server {
	s := &Server{
		rest: rest, targets: map[string]*url.URL{}, conns: map[*conn]struct{}{},
		handed: handedOver{conns: make(chan net.Conn), done: make(chan struct{})},
	}
	for _, path := range paths {
		s.targets["POST "+path+" HTTP/1.1"] = &url.URL{Path: path}
	}
	rest.RegisterOnShutdown(s.closeIdle)
	return s
}

// Serve takes connections until Shutdown or Close; it then returns
// http.ErrServerClosed. It closes the listener.
func (s *Server) Serve(listener net.Listener) error {
	s.handed.address = listener.Addr()
	var rest sync.WaitGroup
	defer rest.Wait()
	defer s.handed.Close()                      //nolint:errcheck // it never fails
	rest.Go(func() { s.rest.Serve(&s.handed) }) //nolint:errcheck // it ends with ErrServerClosed, as the other does, or after it
	return s.rest.Serve(&accepting{listener, s})
}

// Shutdown takes no more connections, lets the requests under way end, and waits
// for that as long as the context lasts.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.rest.Shutdown(ctx)
	s.closeIdle()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.serving.Wait()
	}()
	select {
	case <-ended:
		return err
	case <-ctx.Done():
		return errors.Join(ctx.Err(), s.Close())
	}
}

// Close ends every connection at once, and waits for what worked on them.
func (s *Server) Close() error {
	err := s.rest.Close()
	s.mu.Lock()
	s.closing.Store(true)
	for c := range s.conns {
		c.Conn.Close()
	}
	s.mu.Unlock()
	s.serving.Wait()
	return err
}

// closeIdle ends the connections on which no request is under way; the others end
// with the answer.
func (s *Server) closeIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing.Store(true)
	for c := range s.conns {
		if c.waiting.CompareAndSwap(true, false) {
			c.Conn.Close()
		}
	}
}

// take has a new connection served.
func (s *Server) take(raw net.Conn) {
	c := newConn(s, raw)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		raw.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.serving.Go(func() {
		keep := c.serve()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		if !keep || !s.handed.give(c.rest()) {
			raw.Close()
		}
	})
}

// An accepting listener keeps what it accepts: net/http's loop around it knows
// what to do when connections cannot be accepted for a while.
type accepting struct {
	net.Listener

	server *Server
}

// Accept returns no connection.
func (l *accepting) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.server.take(c)
	}
}

// handedOver is the listener of connections that are net/http's from now on.
type handedOver struct {
	address net.Addr
	conns   chan net.Conn
	once    sync.Once
	done    chan struct{}
}

// give reports false when net/http takes no more.
func (h *handedOver) give(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.done:
		return false
	}
}

// Accept waits for a connection that is handed over.
func (h *handedOver) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (h *handedOver) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr is that of the listener from which the connections came.
func (h *handedOver) Addr() net.Addr { return h.address }

// A begun connection has been read from.
type begun struct {
	net.Conn

	read []byte
}

// Read gives again what was read.
func (b *begun) Read(p []byte) (int, error) {
	if len(b.read) == 0 {
		return b.Conn.Read(p)
	}
	n := copy(p, b.read)
	if b.read = b.read[n:]; len(b.read) == 0 {
		b.read = nil
	}
	return n, nil
}

// CloseWrite ends this side's half, where the connection can: net/http does so
// after an answer to a request that it has not read to the end.
func (b *begun) CloseWrite() error {
	if half, can := b.Conn.(interface{ CloseWrite() error }); can {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
