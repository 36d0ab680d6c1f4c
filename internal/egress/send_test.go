package egress

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postrider"
)

// The receiver sees the bytes: net/http's own server would write the names
// anew.
func TestSend_WritesHeadersAndBodyExactlyAsGiven(t *testing.T) {
	requests := make(chan string, 1)
	url := script(t, func(_ context.Context, c *net.TCPConn) {
		b := make([]byte, 64<<10)
		n, _ := c.Read(b)
		requests <- string(b[:n])
		say(c, "HTTP/1.1 204 No Content\r\n\r\n")
	})
	c := newClient(t, Options{Policy: loopback})
	r := post(url + "?a=b%20c")
	r.Header = postrider.SortedHeader(http.Header{
		"Content-Type":      {"application/json"},
		"User-Agent":        {"Clubmed-Hookshot/1.0"},
		"X-Clubmed-Hook-ID": {"019aa0e4"},
		"webhook-id":        {"msg_1"},
		"x-lower":           {"a"},
		"X-UPPER":           {"b"},
	})
	r.Body = []byte("{\"a\": 1.0,\"a\":\"<&>\\u2028\"}\n")
	if out := c.Send(t.Context(), r); !out.OK() || out.StatusCode != http.StatusNoContent {
		t.Fatalf("got %+v", out)
	}
	host := strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/hook")
	want := "POST /hook?a=b%20c HTTP/1.1\r\n" +
		"Host: " + host + "\r\n" +
		"User-Agent: Clubmed-Hookshot/1.0\r\n" +
		"Content-Length: " + strconv.Itoa(len(r.Body)) + "\r\n" +
		"Content-Type: application/json\r\n" +
		"X-Clubmed-Hook-ID: 019aa0e4\r\n" +
		"X-UPPER: b\r\n" +
		"webhook-id: msg_1\r\n" +
		"x-lower: a\r\n" +
		"\r\n" + string(r.Body)
	if diff := cmp.Diff(want, <-requests); diff != "" {
		t.Errorf("the request on the wire (-want +got):\n%s", diff)
	}
}

func TestSend_AnEmptyBodyIsSentAsOne(t *testing.T) {
	lengths := make(chan int64, 1)
	receiver := serve(t, func(_ http.ResponseWriter, r *http.Request) { lengths <- r.ContentLength })
	r := post(receiver.URL)
	r.Body = nil
	if out := newClient(t, Options{Policy: loopback}).Send(t.Context(), r); !out.OK() {
		t.Fatalf("got %+v", out)
	}
	if n := <-lengths; n != 0 {
		t.Errorf("got content length %d, want 0", n)
	}
}

func TestSend_ALargeBodyArrivesWhole(t *testing.T) {
	bodies := make(chan []byte, 1)
	receiver := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies <- b
	})
	r := post(receiver.URL)
	r.Body = bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	if out := newClient(t, Options{Policy: loopback}).Send(t.Context(), r); !out.OK() {
		t.Fatalf("got %+v", out)
	}
	if got := <-bodies; !bytes.Equal(got, r.Body) {
		t.Errorf("got %d bytes, want the %d sent", len(got), len(r.Body))
	}
}

func TestSend_KeepsTheAnswerAndItsTimes(t *testing.T) {
	receiver := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Request-Id", "42")
		w.WriteHeader(http.StatusAccepted)
		say(w, "accepted")
	})
	c := newClient(t, Options{Policy: loopback, Resolver: serveDNS(t, always("127.0.0.1"))})
	url := "http://hook.test:" + portOf(receiver.Listener)
	out := c.Send(t.Context(), post(url))
	if !out.OK() || out.StatusCode != http.StatusAccepted || out.Detail != "" || out.RemoteIP != "127.0.0.1" || out.TLSVersion != "" {
		t.Errorf("got %+v", out)
	}
	if string(out.Response.Body) != "accepted" || out.Response.Truncated || out.Response.Header.Get("X-Request-Id") != "42" {
		t.Errorf("got response %+v", out.Response)
	}
	first := out.Timings
	if first.DNS <= 0 || first.Connect <= 0 || first.TLS != 0 || first.FirstByte <= 0 ||
		first.Total < first.DNS+first.Connect+first.FirstByte {
		t.Errorf("the first attempt: got %+v", first)
	}
	second := c.Send(t.Context(), post(url)).Timings
	if second.DNS != 0 || second.Connect != 0 || second.FirstByte <= 0 || second.Total < second.FirstByte {
		t.Errorf("on a kept connection: got %+v", second)
	}
}

func TestSend_JudgesEveryStatus(t *testing.T) {
	url := script(t, func(_ context.Context, c *net.TCPConn) {
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			drain(req.Body)
			say(c, "HTTP/1.1 "+strings.TrimPrefix(req.URL.Path, "/hook/")+" x\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n")
		}
	})
	c := newClient(t, Options{Policy: loopback})
	for code, want := range map[string]postrider.FailureCode{
		"200": "", "201": "", "202": "", "204": "", "226": "", "299": "",
		"300": postrider.FailRedirect, "301": postrider.FailRedirect, "304": postrider.FailRedirect, "399": postrider.FailRedirect,
		"400": postrider.FailHTTP4xx, "401": postrider.FailHTTP4xx, "404": postrider.FailHTTP4xx, "410": postrider.FailHTTP4xx,
		"413": postrider.FailHTTP4xx, "415": postrider.FailHTTP4xx, "429": postrider.FailHTTP4xx, "499": postrider.FailHTTP4xx,
		"500": postrider.FailHTTP5xx, "502": postrider.FailHTTP5xx, "503": postrider.FailHTTP5xx, "504": postrider.FailHTTP5xx,
		"599": postrider.FailHTTP5xx,
		"600": postrider.FailProtocol, "999": postrider.FailProtocol, "000": postrider.FailProtocol, "099": postrider.FailProtocol,
	} {
		out := c.Send(t.Context(), post(url+"/"+code))
		if out.Failure != want || strconv.Itoa(1000 + out.StatusCode)[1:] != code {
			t.Errorf("%s: got %q and status %d, want %q", code, out.Failure, out.StatusCode, want)
		}
		if (out.Detail == "") != out.OK() {
			t.Errorf("%s: got detail %q", code, out.Detail)
		}
		if wait := out.RetryAfter; out.OK() && wait != 0 || !out.OK() && wait != 2*time.Minute {
			t.Errorf("%s: got Retry-After %v", code, wait)
		}
	}
}

func TestSend_FollowsNoRedirect(t *testing.T) {
	elsewhere := setTrap(t, "127.0.0.1:0")
	receiver := serve(t, func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		w.Header().Set("Location", "http://"+elsewhere.Addr().String()+"/\u202e\xff"+strings.Repeat("a", 1000))
		w.WriteHeader(code)
	})
	c := newClient(t, Options{Policy: loopback})
	for _, code := range []int{301, 302, 303, 307, 308} {
		out := c.Send(t.Context(), post(receiver.URL+"/?code="+strconv.Itoa(code)))
		if out.Failure != postrider.FailRedirect || out.StatusCode != code {
			t.Errorf("%d: got %q and status %d", code, out.Failure, out.StatusCode)
		}
		if !strings.Contains(out.Detail, elsewhere.Addr().String()) || strings.Contains(out.Detail, "\u202e") || len(out.Detail) > 400 {
			t.Errorf("%d: got detail %q", code, out.Detail)
		}
	}
	elsewhere.check(t)
}

func TestSend_HonoursNoAltSvc(t *testing.T) {
	elsewhere := setTrap(t, "127.0.0.1:0")
	receiver := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Alt-Svc", `h2="`+elsewhere.Addr().String()+`"; ma=86400, h3=":443"`)
		w.Header().Set("Connection", "close")
	})
	c := newClient(t, Options{Policy: loopback})
	for range 2 {
		if out := c.Send(t.Context(), post(receiver.URL)); !out.OK() {
			t.Errorf("got %q (%s)", out.Failure, out.Detail)
		}
	}
	elsewhere.check(t)
}

func TestSend_RefusesHeadersOfTheConnection(t *testing.T) {
	receiver := setTrap(t, "127.0.0.1:0")
	c := newClient(t, Options{Policy: loopback})
	for _, name := range []string{
		"Host", "host", "hOST", "Content-Length", "content-length", "Transfer-Encoding", "transfer-encoding", "Connection", "connection",
		"Keep-Alive", "Upgrade", "Trailer", "TE", "te", "Expect", "expect", "Accept-Encoding", "accept-encoding",
		"X Y", "X:Y", "X\r\nY", "", "X-Ünicode",
	} {
		r := post("http://" + receiver.Addr().String())
		r.Header = append(r.Header, postrider.HeaderField{Name: name, Value: "1"})
		if out := c.Send(t.Context(), r); out.Failure != postrider.FailUnsendable || out.Detail == "" {
			t.Errorf("%q: got %q (%s), want unsendable", name, out.Failure, out.Detail)
		}
	}
	for _, value := range []string{"a\r\nX: b", "a\nb", "a\x00b", "a\x7fb"} {
		r := post("http://" + receiver.Addr().String())
		r.Header = append(r.Header, postrider.HeaderField{Name: "X-Own", Value: value})
		out := c.Send(t.Context(), r)
		if out.Failure != postrider.FailUnsendable || strings.Contains(out.Detail, value) {
			t.Errorf("value %q: got %q (%s), want unsendable without the value", value, out.Failure, out.Detail)
		}
	}
	r := post("http://" + receiver.Addr().String())
	r.Header = nil
	if out := c.Send(t.Context(), r); out.Failure != postrider.FailUnsendable {
		t.Errorf("no headers at all: got %q", out.Failure)
	}
	receiver.check(t)
}

func TestSend_ReusesConnections(t *testing.T) {
	var connections atomic.Int32
	receiver := serveStates(t, func(w http.ResponseWriter, r *http.Request) {
		drain(r.Body)
		say(w, "ok")
	}, func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	})
	c := newClient(t, Options{Policy: loopback})
	const lanes, each = 8, 100
	var senders sync.WaitGroup
	for range lanes {
		senders.Go(func() {
			for range each {
				if out := c.Send(t.Context(), post(receiver.URL)); !out.OK() {
					t.Errorf("got %q (%s)", out.Failure, out.Detail)
					return
				}
			}
		})
	}
	senders.Wait()
	if n := connections.Load(); n > lanes*each/20 {
		t.Errorf("got %d connections for %d attempts, want at least 95 %% reuse", n, lanes*each)
	}
}

// conversation is a receiver that numbers its connections, for tests of what
// becomes of kept ones.
func conversation(tb testing.TB, play func(n int, c *net.TCPConn, r *bufio.Reader)) string {
	tb.Helper()
	var connections atomic.Int32
	return script(tb, func(_ context.Context, c *net.TCPConn) { play(int(connections.Add(1)), c, bufio.NewReader(c)) })
}

const okKeepAlive = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

func TestSend_AConnectionClosedBetweenAttemptsCostsNothing(t *testing.T) {
	noticed := make(chan struct{})
	url := conversation(t, func(n int, c *net.TCPConn, r *bufio.Reader) {
		readRequest(r)
		say(c, okKeepAlive)
		if n == 1 {
			halfClose(c)
			readRequest(r) // ends when the sender has closed its side too
			close(noticed)
		}
	})
	c := newClient(t, Options{Policy: loopback})
	if out := c.Send(t.Context(), post(url)); !out.OK() {
		t.Fatalf("got %q (%s)", out.Failure, out.Detail)
	}
	<-noticed
	if out := c.Send(t.Context(), post(url)); !out.OK() || out.Timings.Connect == 0 {
		t.Errorf("got %q (%s) after connecting for %v, want success on a new connection", out.Failure, out.Detail, out.Timings.Connect)
	}
}

func TestSend_AConnectionAboutToBeClosedIsNotUsed(t *testing.T) {
	url := conversation(t, func(_ int, c *net.TCPConn, r *bufio.Reader) {
		readRequest(r)
		say(c, "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=0\r\nContent-Length: 2\r\n\r\nok")
		if readRequest(r) {
			t.Error("a second request came on a connection about to be closed")
		}
	})
	c := newClient(t, Options{Policy: loopback})
	for range 5 {
		if out := c.Send(t.Context(), post(url)); !out.OK() || out.Timings.Connect == 0 {
			t.Fatalf("got %q (%s), want success on a connection of its own", out.Failure, out.Detail)
		}
	}
}

// net/http takes an Idempotency-Key for a licence to repeat; a partner's own
// header is none.
func TestSend_ARequestThatMayHaveArrivedIsNotRepeated(t *testing.T) {
	for _, name := range []string{"X-Own", "Idempotency-Key", "X-Idempotency-Key"} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			url := conversation(t, func(_ int, c *net.TCPConn, r *bufio.Reader) {
				for readRequest(r) {
					if requests.Add(1) > 1 {
						return // without an answer
					}
					say(c, okKeepAlive)
				}
			})
			c := newClient(t, Options{Policy: loopback})
			r := post(url)
			r.Header = append(r.Header, postrider.HeaderField{Name: name, Value: "k"})
			if out := c.Send(t.Context(), r); !out.OK() {
				t.Fatalf("got %q (%s)", out.Failure, out.Detail)
			}
			if out := c.Send(t.Context(), r); out.Failure != postrider.FailReset {
				t.Errorf("got %q (%s), want reset", out.Failure, out.Detail)
			}
			if n := requests.Load(); n != 2 {
				t.Errorf("got %d requests, want 2", n)
			}
		})
	}
}

func TestSend_EndsWithItsContext(t *testing.T) {
	arrived := make(chan struct{}, 2)
	url := script(t, func(ctx context.Context, c *net.TCPConn) {
		readRequest(bufio.NewReader(c))
		arrived <- struct{}{}
		<-ctx.Done()
	})
	c := newClient(t, Options{Policy: loopback})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	if out := c.Send(ctx, post(url)); out.Failure != postrider.FailCancelled {
		t.Errorf("cancelled: got %q (%s)", out.Failure, out.Detail)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if out := c.Send(ctx, post(url)); out.Failure != postrider.FailTimeout {
		t.Errorf("out of time: got %q (%s)", out.Failure, out.Detail)
	}
}

func TestSend_AnAddressThatCannotBeSentToIsSaidSo(t *testing.T) {
	c := newClient(t, Options{})
	for _, url := range []string{"", "hook", "ftp://partner.example/", "http://127.1/", "http://a b/", "https://partner.example:22/"} {
		out := c.Send(t.Context(), post(url))
		if out.Failure != postrider.FailUnsendable || out.Detail == "" || out.Timings.Total <= 0 {
			t.Errorf("%q: got %+v, want unsendable", url, out)
		}
	}
}

// A connection may serve the next attempt before the one that it answered has
// looked at its answer.
func TestSend_ManyOverFewConnectionsAllSucceed(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	defer server.Close()
	c := newClient(t, Options{Policy: loopback})
	var senders sync.WaitGroup
	for range 32 {
		senders.Go(func() {
			for range 500 {
				if out := c.Send(t.Context(), post(server.URL)); !out.OK() || out.Timings.FirstByte <= 0 {
					t.Errorf("got %q (%s), first byte after %v", out.Failure, out.Detail, out.Timings.FirstByte)
					return
				}
			}
		})
	}
	senders.Wait()
}

func TestVerdict_TheNextExchangeOfTheConnectionChangesNothing(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	c := &conn{Conn: near}
	defer c.Close()
	first, second := &attempt{conn: c}, &attempt{}
	go drain(far)
	c.begin(&first.exchange)
	if _, err := c.Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	go say(far, "x")
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	c.begin(&second.exchange)
	if f := first.verdict(&http.Response{StatusCode: http.StatusOK, ProtoMajor: 1}); f != nil {
		t.Errorf("got %+v for an answered attempt whose connection went on", f)
	}
}

// A response that was there before the request was written answers nothing,
// whatever it says.
func TestVerdict_AnAnswerFromBeforeTheRequestIsNone(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	c := &conn{Conn: near}
	defer c.Close()
	a := &attempt{conn: c}
	c.begin(&a.exchange)
	go say(far, "x")
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	go drain(far)
	if _, err := c.Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	resp := &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1}
	if f := a.verdict(resp); f == nil || f.code != postrider.FailProtocol {
		t.Errorf("got %+v, want protocol", f)
	}
	go say(far, "x")
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if f := a.verdict(resp); f != nil {
		t.Errorf("an answer after the request: got %+v", f)
	}
}

func TestReadBody_KeepsUpToTheLimit(t *testing.T) {
	for _, tt := range []struct {
		sent      string
		err       error
		kept      string
		truncated bool
	}{
		{"", io.EOF, "", false},
		{"abc", io.EOF, "abc", false},
		{"abcd", io.EOF, "abcd", false},
		{"abcde", io.EOF, "abcd", true},
		{"abcdefgh", nil, "abcd", true},
		{"ab", errors.New("reset"), "ab", true},
		{"", errors.New("reset"), "", true},
	} {
		readers := []io.Reader{strings.NewReader(tt.sent)}
		if tt.err != nil && !errors.Is(tt.err, io.EOF) {
			readers = append(readers, &failingReader{tt.err})
		}
		kept, truncated := readBody(io.MultiReader(readers...), 4)
		if string(kept) != tt.kept || truncated != tt.truncated {
			t.Errorf("%q then %v: got %q, %v, want %q, %v", tt.sent, tt.err, kept, truncated, tt.kept, tt.truncated)
		}
		if len(kept) > 0 && cap(slices.Clip(kept)) > 8 {
			t.Errorf("%q: a copy of %d bytes is kept", tt.sent, cap(kept))
		}
	}
}

type failingReader struct{ err error }

func (r *failingReader) Read([]byte) (int, error) { return 0, r.err }

func TestPrintable_IsOneShortLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                        "plain",
		"é中":                           "é中",
		"a\r\nb\x00c\x1b[31m":          "a..b.c.[31m",
		"a\u202eb\u200bc":              "a.b.c",
		"a\xffb":                       "a.b",
		strings.Repeat("a", 201):       strings.Repeat("a", 200) + "…",
		strings.Repeat("a", 199) + "é": strings.Repeat("a", 199) + "…",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
