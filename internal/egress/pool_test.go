package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postrider"
)

// keptConn is the one connection that a client keeps.
func keptConn(t *testing.T, c *Client) *conn {
	t.Helper()
	p := c.current.Load().verified
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n != 1 {
		t.Fatalf("got %d kept connections, want 1", p.n)
	}
	return p.ends.newer
}

// untilHeard waits until something has arrived on a kept connection. Looking
// takes nothing away.
func untilHeard(t *testing.T, c *conn) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 500 { // the sweep, which looks as well, comes after a second
		if !c.quiet() {
			return
		}
		<-tick.C
	}
	t.Fatal("nothing has arrived")
}

func TestSend_AKeptConnectionOnWhichAnythingCameIsNotUsed(t *testing.T) {
	for name, idle := range map[string]func(c *net.TCPConn){
		"a response":       func(c *net.TCPConn) { say(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes") },
		"the start of one": func(c *net.TCPConn) { say(c, "H") },
		"its end":          halfClose,
		"a reset":          func(c *net.TCPConn) { reset(c); _ = c.Close() },
		"408 Request Timeout": func(c *net.TCPConn) {
			say(c, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")
			halfClose(c)
		},
		"a blank line": func(c *net.TCPConn) { say(c, "\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			answered := make(chan struct{})
			url := conversation(t, func(n int, c *net.TCPConn, r *bufio.Reader) {
				if readRequest(r); n > 1 {
					say(c, "HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno")
					readRequest(r)
					return
				}
				say(c, okKeepAlive)
				<-answered
				idle(c)
				if readRequest(r) {
					t.Error("a second request came on the first connection")
				}
			})
			c := newClient(t, Options{Policy: loopback})
			if out := c.Send(t.Context(), post(url)); !out.OK() {
				t.Fatalf("got %q (%s)", out.Failure, out.Detail)
			}
			first := keptConn(t, c)
			close(answered)
			untilHeard(t, first)
			out := c.Send(t.Context(), post(url))
			if out.StatusCode != http.StatusServiceUnavailable || string(out.Response.Body) != "no" || out.Timings.Connect == 0 {
				t.Errorf("got %q (%s) and %q, want the answer of a new connection", out.Failure, out.Detail, out.Response.Body)
			}
		})
	}
}

// A cork holds what is written, so that several records leave in one packet.
type cork struct {
	net.Conn
	held []byte
	shut atomic.Bool
}

func (c *cork) Write(b []byte) (int, error) {
	if c.shut.Load() {
		c.held = append(c.held, b...)
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// What crypto/tls has read from the socket and not yet decrypted is found by no
// look at the socket.
func TestSend_ASecondResponseInsideOfTLSAnswersNothing(t *testing.T) {
	root := newAuthority(t, "root", nil)
	config := &tls.Config{Certificates: []tls.Certificate{root.leaf(t, nil)}}
	url := script(t, func(_ context.Context, raw *net.TCPConn) {
		corked := &cork{Conn: raw}
		c := tls.Server(corked, config)
		for r := bufio.NewReader(c); readRequest(r); {
			corked.shut.Store(true)
			say(c, "HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno")
			say(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes")
			corked.shut.Store(false)
			if !say(raw, string(corked.held)) {
				return
			}
			corked.held = nil
		}
	})
	c := tlsClient(t, root)
	for range 5 {
		out := c.Send(t.Context(), post(strings.Replace(url, "http://127.0.0.1", "https://hook.test", 1)))
		if out.StatusCode != http.StatusServiceUnavailable || string(out.Response.Body) != "no" {
			t.Errorf("got %q (%s) and %q, want its own answer", out.Failure, out.Detail, out.Response.Body)
		}
	}
}

// A session ticket that comes while a connection is kept is no reason to drop
// it: a look goes through TLS, which takes it in.
func TestSend_AKeptConnectionOverTLSIsUsedAgain(t *testing.T) {
	root := newAuthority(t, "root", nil)
	url := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{root.leaf(t, nil)}})
	c := tlsClient(t, root)
	for i := range 5 {
		out := c.Send(t.Context(), post(url))
		if !out.OK() || (out.Timings.TLS != 0) != (i == 0) {
			t.Errorf("attempt %d: got %q (%s) after %v of a handshake", i, out.Failure, out.Detail, out.Timings.TLS)
		}
		keptConn(t, c)
	}
}

func TestSend_AnAnswerFromBeforeTheFirstRequestIsNone(t *testing.T) {
	url := script(t, func(_ context.Context, c *net.TCPConn) {
		say(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		readRequest(bufio.NewReader(c))
	})
	c := newClient(t, Options{Policy: loopback})
	g := c.current.Load()
	target, _ := g.urls.parse(g.guard, url)
	d := &dialing{guard: g.guard, port: target.port}
	early, err := g.dial(t.Context(), d, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	untilHeard(t, early) // as connect looks once
	a := &attempt{conn: early, deadline: time.Now().Add(time.Second), stop: func() bool { return true }}
	early.begin(&a.exchange)
	resp, err := a.converse(early, []byte("POST / HTTP/1.1\r\nHost: a\r\n\r\n"), nil) //nolint:bodyclose // end closes the connection
	if err != nil {
		t.Fatal(err)
	}
	if f := a.verdict(resp); f == nil || f.code != postrider.FailProtocol {
		t.Errorf("got %+v, want protocol", f)
	}
	a.end(g.verified, false)
}

// resting makes connections to one listener, for a pool under any key.
func resting(t *testing.T) func(key string) *conn {
	t.Helper()
	listener := listen(t, "127.0.0.1:0")
	return func(key string) *conn {
		t.Helper()
		raw, err := new(net.Dialer).DialContext(t.Context(), "tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { raw.Close() })
		s, err := newSocket(raw)
		if err != nil {
			t.Fatal(err)
		}
		return newConn(key, s, s, route{})
	}
}

func closed(c *conn) bool { return errors.Is(c.SetDeadline(time.Time{}), net.ErrClosed) }

func TestPool_GivesTheNewestAndDropsTheOldest(t *testing.T) {
	dial := resting(t)
	p := newPool(nil, 3, 2)
	defer p.close()
	a1, a2, a3, b1, c1 := dial("a"), dial("a"), dial("a"), dial("b"), dial("c")
	for _, c := range []*conn{a1, a2, a3, b1} {
		p.put(c)
	}
	if !closed(a3) || closed(a1) || closed(a2) || closed(b1) {
		t.Error("a third connection for one target was kept, or another one closed")
	}
	p.put(c1)
	if !closed(a1) || closed(a2) || closed(b1) || closed(c1) || p.n != 3 {
		t.Errorf("a fourth connection was kept beside three, or not the oldest closed for it: %d kept", p.n)
	}
	p.put(p.take("b"))
	p.put(dial("d"))
	if got := p.take("a"); got != nil {
		t.Error("the connection that was not used for longest is still kept")
	}
	for key, want := range map[string]*conn{"b": b1, "c": c1, "e": nil} {
		if got := p.take(key); got != want {
			t.Errorf("%s: got %p, want %p", key, got, want)
		}
	}
	a1, a2 = dial("a"), dial("a")
	p.put(a1)
	p.put(a2)
	if p.take("a") != a2 || p.take("a") != a1 || p.take("a") != nil {
		t.Error("the newest connection did not come first")
	}
}

func TestPool_KeepsNothingForTooLong(t *testing.T) {
	dial := resting(t)
	p := newPool(nil, 10, 10)
	defer p.close()
	age := func(c *conn, by time.Duration) *conn {
		p.put(c)
		p.mu.Lock()
		defer p.mu.Unlock()
		c.rested = c.rested.Add(-by)
		return c
	}
	if c := age(dial("a"), idleTimeout); p.take("a") != nil || !closed(c) {
		t.Error("an old connection was given")
	}
	old, said, young := age(dial("a"), idleTimeout), age(dial("b"), time.Minute), age(dial("c"), time.Minute)
	said.expires = 1
	p.sweep()
	if !closed(old) || !closed(said) || closed(young) || p.n != 1 || len(p.kept) != 1 {
		t.Errorf("the sweep left %d connections of %d targets, want the young one", p.n, len(p.kept))
	}
	ending := dial("d")
	ending.expires = clock()
	if p.put(ending); !closed(ending) {
		t.Error("a connection was kept that its receiver is about to close")
	}
	p.close()
	late := dial("c")
	if p.put(late); !closed(young) || !closed(late) || p.n != 0 {
		t.Error("a closed pool keeps connections")
	}
}

func TestPool_SweepsWhatReceiversHaveClosed(t *testing.T) {
	gone := make(chan struct{})
	url := conversation(t, func(_ int, c *net.TCPConn, r *bufio.Reader) {
		readRequest(r)
		say(c, okKeepAlive)
		halfClose(c)
		readRequest(r)
		close(gone)
	})
	c := newClient(t, Options{Policy: loopback})
	if out := c.Send(t.Context(), post(url)); !out.OK() {
		t.Fatalf("got %q (%s)", out.Failure, out.Detail)
	}
	select {
	case <-gone:
	case <-time.After(5 * sweepEvery):
		t.Error("the connection is still open")
	}
}

// Wherever an attempt is when it is given up, it ends at once and leaves
// nothing behind, which goleak sees.
func TestSend_IsGivenUpAtEveryStage(t *testing.T) {
	silent := listenUDP(t)
	hang := func(ctx context.Context, c *net.TCPConn) { <-ctx.Done() }
	afterRequest := func(says string) string {
		return script(t, func(ctx context.Context, c *net.TCPConn) {
			readRequest(bufio.NewReader(c))
			say(c, says)
			<-ctx.Done()
		})
	}
	large := post(script(t, hang))
	large.Body = make([]byte, 8<<20)
	for _, tt := range []struct {
		name    string
		request *postrider.Request
		want    postrider.FailureCode
	}{
		{"looking up", post("http://hook.test/"), postrider.FailCancelled},
		{"connecting", post("http://" + fullListener(t)), postrider.FailCancelled},
		{"shaking hands", post(strings.Replace(script(t, hang), "http", "https", 1)), postrider.FailCancelled},
		{"writing", large, postrider.FailCancelled},
		{"waiting", post(script(t, hang)), postrider.FailCancelled},
		{"reading headers", post(afterRequest("HTTP/1.1 200 OK\r\nX-A: b")), postrider.FailCancelled},
		{"reading the body", post(afterRequest("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, Options{Policy: loopback, Resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				conn, err := d.DialContext(ctx, "udp", silent.LocalAddr().String())
				if err == nil {
					t.Cleanup(func() { conn.Close() }) // the resolver itself waits on for seconds
				}
				return conn, err
			}}})
			ctx, cancel := context.WithCancel(t.Context())
			defer time.AfterFunc(100*time.Millisecond, cancel).Stop()
			out := c.Send(ctx, tt.request)
			if out.Failure != tt.want || out.Timings.Total > time.Second {
				t.Errorf("got %q (%s) after %v, want %q at once", out.Failure, out.Detail, out.Timings.Total, tt.want)
			}
			if p := c.current.Load().verified; p.n != 0 {
				t.Error("its connection was kept")
			}
		})
	}
	t.Run("before it began", func(t *testing.T) {
		receiver := setTrap(t, "127.0.0.1:0")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		out := newClient(t, Options{Policy: loopback}).Send(ctx, post("http://"+receiver.Addr().String()))
		if out.Failure != postrider.FailCancelled {
			t.Errorf("got %q (%s)", out.Failure, out.Detail)
		}
		receiver.check(t)
	})
}

// A receiver may refuse a large body by its headers, and read no more of it.
func TestSend_AnAnswerIsHeardWhileTheBodyIsWritten(t *testing.T) {
	const refusal = "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
	root := newAuthority(t, "root", nil)
	config := &tls.Config{Certificates: []tls.Certificate{root.leaf(t, nil)}}
	for name, play := range map[string]func(ctx context.Context, c *net.TCPConn){
		"and reads no more": func(ctx context.Context, c *net.TCPConn) {
			readSome(c)
			say(c, refusal)
			<-ctx.Done()
		},
		"and closes its side": func(_ context.Context, c *net.TCPConn) {
			readSome(c)
			say(c, refusal)
			halfClose(c)
			drain(c)
		},
		"and reads the rest": func(_ context.Context, c *net.TCPConn) {
			r := bufio.NewReader(c)
			_, _ = r.ReadSlice('\n')
			say(c, refusal)
			drain(r)
		},
		"over TLS": func(ctx context.Context, c *net.TCPConn) {
			secure := tls.Server(c, config)
			_, _ = secure.Read(make([]byte, 4096))
			say(secure, refusal)
			<-ctx.Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := script(t, play)
			if name == "over TLS" {
				url = strings.Replace(url, "http://127.0.0.1", "https://hook.test", 1)
			}
			r := post(url)
			r.Body = make([]byte, 8<<20)
			out := tlsClient(t, root).Send(t.Context(), r)
			if out.StatusCode != http.StatusRequestEntityTooLarge || out.Timings.Total > 2*time.Second || out.Timings.FirstByte <= 0 {
				t.Errorf("got %q (%s), %d after %v", out.Failure, out.Detail, out.StatusCode, out.Timings.Total)
			}
		})
	}
}
