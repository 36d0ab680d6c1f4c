package ingress

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patient is a server whose limits no test reaches. The test ends once its
// connections have: net/http lets those that it refuses linger for a moment.
func patient(tb testing.TB, handler http.HandlerFunc) *http.Server {
	tb.Helper()
	var open sync.WaitGroup
	tb.Cleanup(open.Wait)
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: time.Minute, ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: time.Minute,
		MaxHeaderBytes: 32 << 10, ErrorLog: log.New(io.Discard, "", 0),
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state { //nolint:exhaustive // between the two it is open
			case http.StateNew:
				open.Add(1)
			case http.StateClosed:
				open.Done()
			}
		},
	}
}

type served interface {
	Serve(listener net.Listener) error
	Close() error
}

// start serves on a port of its own until the test ends.
func start(tb testing.TB, s served) (address string) {
	tb.Helper()
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(listener) }()
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			tb.Errorf("got %v, want a server that was closed", err)
		}
	})
	return listener.Addr().String()
}

func dial(tb testing.TB, address string) *net.TCPConn {
	tb.Helper()
	c, err := new(net.Dialer).DialContext(tb.Context(), "tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		tb.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// plain is a request that is answered without net/http.
func plain(body string) string {
	return fmt.Sprintf("POST /events HTTP/1.1\r\nHost: a.test\r\nx-api-key: k\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// exchange sends bytes and reads an answer.
func exchange(t *testing.T, c net.Conn, in *bufio.Reader, request string) (status int, body string, last bool) {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return answer(t, in)
}

func answer(t *testing.T, in *bufio.Reader) (status int, body string, last bool) {
	t.Helper()
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatalf("got %v, want an answer", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Close
}

func closed(t *testing.T, in *bufio.Reader) {
	t.Helper()
	if b, err := in.ReadByte(); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %q, %v, want the connection closed", b, err)
	}
}

// echo tells what it was asked.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	w.Header()["Content-Type"] = []string{"text/plain"}
	w.WriteHeader(http.StatusAccepted)
	fmt.Fprintf(w, "%s %s %s host=%s length=%d close=%v body=%q %v\n", r.Method, r.RequestURI, r.Proto, r.Host, r.ContentLength, r.Close, body, err)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		fmt.Fprintf(w, "%s=%q\n", name, r.Header[name])
	}
}

// say writes to whoever may be gone.
func say(w io.Writer, text string) { _, _ = io.WriteString(w, text) }

// conversations are what clients say, and what those say who would be understood
// in two ways.
var conversations = map[string]string{
	"plain":                     plain(`{"a":1}`),
	"two, one after the other":  plain(`{"a":1}`) + plain(`{"a":2}`),
	"no body":                   plain(""),
	"lower and upper case":      "POST /events HTTP/1.1\r\nhOST: a.test\r\nX-API-KEY: k\r\ncontent-LENGTH: 2\r\n\r\n{}",
	"spaces around a value":     "POST /events HTTP/1.1\r\nHost:a.test\r\nX-A: \t b c \t\r\nContent-Length: 2\r\n\r\n{}",
	"a header twice":            "POST /events HTTP/1.1\r\nHost: a.test\r\nX-A: 1\r\nX-A: 2\r\nx-a: 3\r\nContent-Length: 0\r\n\r\n",
	"keep-alive":                "POST /events HTTP/1.1\r\nHost: a.test\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\n{}" + plain("1"),
	"close":                     "POST /events HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}" + plain("1"),
	"close among others":        "POST /events HTTP/1.1\r\nHost: a.test\r\nConnection: x, close\r\nContent-Length: 2\r\n\r\n{}",
	"HTTP/1.0":                  "POST /events HTTP/1.0\r\nHost: a.test\r\nContent-Length: 2\r\n\r\n{}" + plain("1"),
	"chunks":                    "POST /events HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + plain("1"),
	"expects":                   "POST /events HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
	"another method":            "GET /events HTTP/1.1\r\nHost: a.test\r\n\r\n" + plain("1"),
	"another path":              plain("1") + "POST /other HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\n{}" + plain("2"),
	"a query":                   "POST /events?a=b HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\n{}",
	"the absolute form":         "POST http://b.test/events HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\n{}",
	"an encoded path":           "POST /%65vents HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\n{}",
	"a length and chunks":       "POST /events HTTP/1.1\r\nHost: a.test\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX" + plain("1"),
	"chunks and a length":       "POST /events HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nX" + plain("1"),
	"chunks, spelt oddly":       "POST /events HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding : chunked\r\nContent-Length: 2\r\n\r\n{}",
	"two lengths":               "POST /events HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
	"one length twice":          "POST /events HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
	"a list of lengths":         "POST /events HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2, 2\r\n\r\n{}",
	"a length with a sign":      "POST /events HTTP/1.1\r\nHost: a.test\r\nContent-Length: +2\r\n\r\n{}",
	"a negative length":         "POST /events HTTP/1.1\r\nHost: a.test\r\nContent-Length: -2\r\n\r\n{}",
	"a length in hexadecimal":   "POST /events HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0x2\r\n\r\n{}",
	"a length with zeros":       "POST /events HTTP/1.1\r\nHost: a.test\r\nContent-Length: 00002\r\n\r\n{}",
	"an empty length":           "POST /events HTTP/1.1\r\nHost: a.test\r\nContent-Length:\r\n\r\n{}",
	"a length without end":      "POST /events HTTP/1.1\r\nHost: a.test\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
	"no length":                 "POST /events HTTP/1.1\r\nHost: a.test\r\n\r\n" + plain("1"),
	"a folded line":             "POST /events HTTP/1.1\r\nHost: a.test\r\nX-A: 1\r\n 2\r\nContent-Length: 2\r\n\r\n{}",
	"a space before the colon":  "POST /events HTTP/1.1\r\nHost: a.test\r\nX-A : 1\r\nContent-Length: 2\r\n\r\n{}",
	"a space before the name":   "POST /events HTTP/1.1\r\nHost: a.test\r\n X-A: 1\r\nContent-Length: 2\r\n\r\n{}",
	"no colon":                  "POST /events HTTP/1.1\r\nHost: a.test\r\nX-A\r\nContent-Length: 2\r\n\r\n{}",
	"no name":                   "POST /events HTTP/1.1\r\nHost: a.test\r\n: 1\r\nContent-Length: 2\r\n\r\n{}",
	"bare line feeds":           "POST /events HTTP/1.1\nHost: a.test\nContent-Length: 2\n\n{}",
	"a bare line feed":          "POST /events HTTP/1.1\r\nHost: a.test\r\nX-A: 1\nContent-Length: 2\r\n\r\n{}",
	"a bare carriage return":    "POST /events HTTP/1.1\r\nHost: a.test\r\nX-A: 1\rX-B: 2\r\nContent-Length: 2\r\n\r\n{}",
	"a zero byte":               "POST /events HTTP/1.1\r\nHost: a.test\r\nX-A: 1\x002\r\nContent-Length: 2\r\n\r\n{}",
	"bytes that are no ASCII":   "POST /events HTTP/1.1\r\nHost: a.test\r\nX-A: \xc3\xa9\r\nContent-Length: 2\r\n\r\n{}",
	"a name that is no token":   "POST /events HTTP/1.1\r\nHost: a.test\r\nX(A): 1\r\nContent-Length: 2\r\n\r\n{}",
	"a name of other signs":     "POST /events HTTP/1.1\r\nHost: a.test\r\nx_a!#: 1\r\nContent-Length: 2\r\n\r\n{}",
	"no host":                   "POST /events HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
	"an empty host":             "POST /events HTTP/1.1\r\nHost:\r\nContent-Length: 2\r\n\r\n{}",
	"two hosts":                 "POST /events HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\nContent-Length: 2\r\n\r\n{}",
	"a host that is none":       "POST /events HTTP/1.1\r\nHost: a b\r\nContent-Length: 2\r\n\r\n{}",
	"an upgrade":                "POST /events HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}",
	"a trailer":                 "POST /events HTTP/1.1\r\nHost: a.test\r\nTrailer: X-A\r\nContent-Length: 2\r\n\r\n{}",
	"pragma":                    "POST /events HTTP/1.1\r\nHost: a.test\r\nPragma: no-cache\r\nContent-Length: 2\r\n\r\n{}",
	"a line before the request": "\r\n" + plain("1"),
	"two spaces":                "POST  /events HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\n{}",
	"lower case":                "post /events http/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\n{}",
	"HTTP/1.2":                  "POST /events HTTP/1.2\r\nHost: a.test\r\nContent-Length: 2\r\n\r\n{}",
	"HTTP/2":                    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"a large body":              plain(strings.Repeat("x", maxPlainBody+1)) + plain("1"),
	"the largest plain body":    plain(strings.Repeat("x", maxPlainBody)) + plain("1"),
	"a large head":              "POST /events HTTP/1.1\r\nHost: a.test\r\nX-A: " + strings.Repeat("a", bufferSize) + "\r\nContent-Length: 2\r\n\r\n{}" + plain("1"),
	"too large a head":          "POST /events HTTP/1.1\r\nHost: a.test\r\nX-A: " + strings.Repeat("a", 64<<10) + "\r\nContent-Length: 2\r\n\r\n{}",
	"more than the body":        plain("1") + "garbage",
	"garbage":                   "\x16\x03\x01\x02\x00\x01\x00",
	"the half of a head":        "POST /events HTTP/1.1\r\nHost: a.te",
}

// said is all that a server answers, without what depends on the moment.
func said(t *testing.T, address, request string) string {
	t.Helper()
	c := dial(t, address)
	go func() {
		say(c, request)
		_ = c.CloseWrite() // the server may have closed it
	}()
	var all strings.Builder
	for in := bufio.NewReader(c); ; {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			fmt.Fprintf(&all, "then %v\n", errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF))
			return all.String()
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		resp.Header.Del("Date")
		resp.Header.Del("Content-Length") // net/http sends a long one in chunks
		fmt.Fprintf(&all, "%s %s close=%v %v %v\n%s\n", resp.Proto, resp.Status, resp.Close, resp.Header, err, body)
	}
}

// Whatever is said, the answers are those of net/http alone, and the handler is
// asked the same.
func TestServer_AnswersAsNetHTTPDoes(t *testing.T) {
	alone := start(t, patient(t, echo))
	front := start(t, New(patient(t, echo), "/events"))
	for name, conversation := range conversations {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(said(t, alone, conversation), said(t, front, conversation)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A plain head means to net/http what it means here.
func FuzzReadHead(f *testing.F) {
	for _, conversation := range conversations {
		f.Add([]byte(conversation))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &conn{server: New(&http.Server{}, "/events"), header: http.Header{}}
		n := c.readHead(b)
		if n == 0 {
			return
		}
		in := bufio.NewReader(bytes.NewReader(b))
		want, err := http.ReadRequest(in)
		if err != nil {
			t.Fatalf("%q: taken, and net/http says %v", b, err)
		}
		type request struct {
			Method, Path, Query, Proto, Host, URI string
			Header                                http.Header
			Length                                int64
			Close                                 bool
		}
		of := func(r *http.Request) request {
			return request{r.Method, r.URL.Path, r.URL.RawQuery, r.Proto, r.Host, r.RequestURI, r.Header, r.ContentLength, r.Close}
		}
		if diff := cmp.Diff(of(want), of(&c.request)); diff != "" {
			t.Errorf("%q: %s", b, diff)
		}
		if len(want.TransferEncoding) > 0 || want.Trailer != nil {
			t.Errorf("%q: taken with another end than its length", b)
		}
		if rest, _ := io.ReadAll(in); !bytes.Equal(rest, b[n:]) {
			t.Errorf("%q: got the body at %d, want it where net/http has it", b, n)
		}
	})
}

func TestServer_AConnectionIsNetHTTPsFromWhatIsNotPlain(t *testing.T) {
	seen := make(chan bool, 8)
	address := start(t, New(patient(t, func(w http.ResponseWriter, _ *http.Request) {
		_, quick := w.(*response)
		seen <- quick
	}), "/events"))
	c := dial(t, address)
	in := bufio.NewReader(c)
	for i, request := range []string{plain("1"), plain("2"), "GET /events HTTP/1.1\r\nHost: a.test\r\n\r\n", plain("3")} {
		if status, _, _ := exchange(t, c, in, request); status != http.StatusOK {
			t.Fatalf("request %d: got %d", i, status)
		}
		if quick := <-seen; quick != (i < 2) {
			t.Errorf("request %d: answered here: %v", i, quick)
		}
	}
}

func TestServer_ABodyMayComeInParts(t *testing.T) {
	address := start(t, New(patient(t, echo), "/events"))
	c := dial(t, address)
	in := bufio.NewReader(c)
	for range 2 {
		if _, err := io.WriteString(c, "POST /events HTTP/1.1\r\nHost: a.test\r\nContent-Length: 6\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{"ab", "cd"} {
			if _, err := io.WriteString(c, part); err != nil {
				t.Fatal(err)
			}
		}
		if status, body, _ := exchange(t, c, in, "ef"); status != http.StatusAccepted || !strings.Contains(body, `body="abcdef" <nil>`) {
			t.Errorf("got %d %s", status, body)
		}
	}
}

// What the handler leaves of a body is not the next request.
func TestServer_ABodyThatNobodyReadsIsNotTheNextRequest(t *testing.T) {
	address := start(t, New(patient(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }), "/events"))
	c := dial(t, address)
	in := bufio.NewReader(c)
	for _, size := range []int{10, bufferSize, maxPlainBody} {
		status, _, last := exchange(t, c, in, plain(strings.Repeat("POST /events HTTP/1.1\r\n", size)[:size]))
		if status != http.StatusUnauthorized || last {
			t.Fatalf("%d bytes: got %d, closed: %v", size, status, last)
		}
	}
}

func TestServer_AHandlerThatPanicsEndsItsConnection(t *testing.T) {
	var logged strings.Builder
	cause := make(chan any, 1)
	rest := patient(t, func(http.ResponseWriter, *http.Request) { panic(<-cause) })
	rest.ErrorLog = log.New(&logged, "", 0)
	s := New(rest, "/events")
	address := start(t, s)
	for _, test := range []struct {
		cause any
		log   bool
	}{{http.ErrAbortHandler, false}, {"oh", true}} {
		c := dial(t, address)
		cause <- test.cause
		if _, err := io.WriteString(c, plain("1")); err != nil {
			t.Fatal(err)
		}
		closed(t, bufio.NewReader(c))
		s.mu.Lock() // the connection has ended, and with it what it logs
		if got := strings.Contains(logged.String(), "oh"); got != test.log {
			t.Errorf("%v: got %q in the log", test.cause, logged.String())
		}
		s.mu.Unlock()
	}
}

func TestServer_LimitsOfTime(t *testing.T) {
	handled := make(chan error, 1)
	limited := func(change func(*http.Server)) string {
		rest := patient(t, func(w http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			handled <- err
			w.WriteHeader(http.StatusBadRequest)
		})
		change(rest)
		return start(t, New(rest, "/events"))
	}
	const short = 100 * time.Millisecond
	t.Run("a client that says nothing", func(t *testing.T) {
		closed(t, bufio.NewReader(dial(t, limited(func(s *http.Server) { s.ReadHeaderTimeout = short }))))
	})
	t.Run("a client that says no more", func(t *testing.T) {
		c := dial(t, limited(func(s *http.Server) { s.IdleTimeout = short }))
		in := bufio.NewReader(c)
		exchange(t, c, in, plain("1"))
		if err := <-handled; err != nil {
			t.Error(err)
		}
		closed(t, in)
	})
	t.Run("a body that does not come", func(t *testing.T) {
		c := dial(t, limited(func(s *http.Server) { s.ReadTimeout = short }))
		in := bufio.NewReader(c)
		status, _, last := exchange(t, c, in, "POST /events HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\n{}")
		var timeout net.Error
		if err := <-handled; !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("got %v, want a timeout", err)
		}
		if status != http.StatusBadRequest || !last {
			t.Errorf("got %d, closed: %v, want an answer and the connection closed", status, last)
		}
		closed(t, in)
	})
	t.Run("a body that ends early", func(t *testing.T) {
		c := dial(t, limited(func(*http.Server) {}))
		say(c, "POST /events HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\n{}")
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if err := <-handled; !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v, want an unexpected end", err)
		}
	})
}

func TestServer_ShutdownLetsRequestsEndAndClosesTheRest(t *testing.T) {
	begun, end := make(chan struct{}, 2), make(chan struct{})
	s := New(patient(t, func(w http.ResponseWriter, _ *http.Request) {
		begun <- struct{}{}
		<-end
		w.WriteHeader(http.StatusAccepted)
	}), "/events")
	address := start(t, s)
	idle, busy := dial(t, address), dial(t, address)
	if _, err := io.WriteString(busy, plain("1")); err != nil {
		t.Fatal(err)
	}
	<-begun
	var shutdown sync.WaitGroup
	shutdown.Go(func() {
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("got %v, want an orderly end", err)
		}
	})
	closed(t, bufio.NewReader(idle))
	close(end)
	in := bufio.NewReader(busy)
	if status, _, last := answer(t, in); status != http.StatusAccepted || !last {
		t.Errorf("got %d, last: %v, want the answer and that it is the last one", status, last)
	}
	closed(t, in)
	shutdown.Wait()
}

func TestServer_ShutdownEndsWithItsContext(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	s := New(patient(t, func(http.ResponseWriter, *http.Request) {
		close(begun)
		<-end
	}), "/events")
	c := dial(t, start(t, s))
	if _, err := io.WriteString(c, plain("1")); err != nil {
		t.Fatal(err)
	}
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	time.AfterFunc(50*time.Millisecond, func() { close(end) }) // Close waits for handlers
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that of the context", err)
	}
	closed(t, bufio.NewReader(c))
}

func TestResponse_IsWellFormed(t *testing.T) {
	for name, test := range map[string]struct {
		handle http.HandlerFunc
		want   string
	}{
		"nothing said": {func(http.ResponseWriter, *http.Request) {}, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		"a body": {func(w http.ResponseWriter, _ *http.Request) {
			say(w, "ab")
			w.WriteHeader(http.StatusTeapot)
			say(w, "c")
		}, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"},
		"no content":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent); say(w, "x") }, "HTTP/1.1 204 No Content\r\n\r\n"},
		"an unknown code": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(299) }, "HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n"},
		"a last one":      {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") }, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
		"a broken header": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-A", "b\r\nX-B: c") }, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-A: b  X-B: c\r\n\r\n"},
		"its own headers": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			w.Header().Set("Date", "x")
		}, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		"an early comment": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusAccepted)
		}, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"},
	} {
		w := response{header: http.Header{}}
		test.handle(&w, nil)
		head, rest, _ := strings.Cut(string(w.wire()), "\r\nDate: ")
		_, rest, _ = strings.Cut(rest, "\r\n")
		if got := head + "\r\n" + rest; got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// One connection, one request after another.
func BenchmarkServer(b *testing.B) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			b.Error(err)
		}
		w.Header()["Content-Type"] = []string{"application/json"}
		w.WriteHeader(http.StatusAccepted)
		say(w, `{"id":"019aa0e4-6f0e-7cc4-9f5e-0a51a2f4a7c1","deliveries":1}`)
	}
	for name, s := range map[string]served{"ingress": New(patient(b, handler), "/events"), "nethttp": patient(b, handler)} {
		b.Run(name, func(b *testing.B) {
			c := dial(b, start(b, s))
			request, buffer := []byte(plain(strings.Repeat("x", 600))), make([]byte, 4<<10)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Write(request); err != nil {
					b.Fatal(err)
				}
				if _, err := c.Read(buffer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
