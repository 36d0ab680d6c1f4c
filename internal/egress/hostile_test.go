package egress

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"net"
	"net/http"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postrider"
)

// fast is a request whose time is up soon.
func fast(url string) *postrider.Request {
	r := post(url)
	r.Timeout = 300 * time.Millisecond
	return r
}

// repeat writes until the sender is gone.
func repeat(c *net.TCPConn, text string) {
	for {
		if !say(c, text) {
			return
		}
	}
}

// drip writes a byte now and then until the sender is gone.
func drip(ctx context.Context, c *net.TCPConn, text string) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for i := range len(text) {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if !say(c, text[i:i+1]) {
			return
		}
	}
}

func TestSend_SurvivesHostileReceivers(t *testing.T) {
	afterRequest := func(play func(ctx context.Context, c *net.TCPConn)) func(context.Context, *net.TCPConn) {
		return func(ctx context.Context, c *net.TCPConn) {
			if readRequest(bufio.NewReader(c)) {
				play(ctx, c)
			}
		}
	}
	for _, tt := range []struct {
		name   string
		play   func(ctx context.Context, c *net.TCPConn)
		want   postrider.FailureCode
		status int
	}{
		{"accepts and hangs", func(ctx context.Context, _ *net.TCPConn) { <-ctx.Done() }, postrider.FailTimeout, 0},
		{"reads and hangs", afterRequest(func(ctx context.Context, _ *net.TCPConn) { <-ctx.Done() }), postrider.FailTimeout, 0},
		{"drips headers", afterRequest(func(ctx context.Context, c *net.TCPConn) {
			drip(ctx, c, "HTTP/1.1 200 OK\r\n"+strings.Repeat("X-A: b\r\n", 1000))
		}), postrider.FailTimeout, 0},
		{"endless 103", afterRequest(func(_ context.Context, c *net.TCPConn) { repeat(c, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n") }), postrider.FailTooLarge, 0},
		{"endless 100", afterRequest(func(_ context.Context, c *net.TCPConn) { repeat(c, "HTTP/1.1 100 Continue\r\n\r\n") }), postrider.FailTooLarge, 0},
		{"dripped 100", afterRequest(func(ctx context.Context, c *net.TCPConn) {
			drip(ctx, c, strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 1000))
		}), postrider.FailTimeout, 0},
		{"endless headers", afterRequest(func(_ context.Context, c *net.TCPConn) {
			say(c, "HTTP/1.1 200 OK\r\n")
			repeat(c, "X-A: "+strings.Repeat("b", 1000)+"\r\n")
		}), postrider.FailTooLarge, 0},
		{"one endless header", afterRequest(func(_ context.Context, c *net.TCPConn) {
			say(c, "HTTP/1.1 200 OK\r\nX-A: ")
			repeat(c, strings.Repeat("b", 1000))
		}), postrider.FailTooLarge, 0},
		{"endless status line", afterRequest(func(_ context.Context, c *net.TCPConn) { repeat(c, "HTTP/1.1 200 OK") }), postrider.FailTooLarge, 0},

		{"resets at once", func(_ context.Context, c *net.TCPConn) { reset(c) }, postrider.FailReset, 0},
		{"closes at once", func(context.Context, *net.TCPConn) {}, postrider.FailReset, 0},
		{"resets after the request", afterRequest(func(_ context.Context, c *net.TCPConn) { reset(c) }), postrider.FailReset, 0},
		{"half-closes", afterRequest(func(ctx context.Context, c *net.TCPConn) {
			halfClose(c)
			drain(c)
		}), postrider.FailReset, 0},
		{"closes in the status line", answer("HTTP/1.1 20"), postrider.FailReset, 0},
		{"closes in the headers", answer("HTTP/1.1 200 OK\r\nContent-Le"), postrider.FailReset, 0},
		{"resets in the headers", afterRequest(func(_ context.Context, c *net.TCPConn) {
			say(c, "HTTP/1.1 200 OK\r\nContent-Le")
			reset(c)
		}), postrider.FailReset, 0},
		{"closes after a 100", answer("HTTP/1.1 100 Continue\r\n\r\n"), postrider.FailReset, 0},

		{"speaks SSH", answer("SSH-2.0-OpenSSH_9.2\r\n"), postrider.FailProtocol, 0},
		{"speaks SMTP", answer("220 mail.example ESMTP\r\n"), postrider.FailProtocol, 0},
		{"speaks HTTP/0.9", answer("<html>hello</html>\r\n\r\n"), postrider.FailProtocol, 0},
		{"speaks HTTP/0.9 by name", answer("HTTP/0.9 200 OK\r\n\r\n"), postrider.FailProtocol, 200},
		{"speaks HTTP/2 by name", answer("HTTP/2.0 200 OK\r\n\r\n"), postrider.FailProtocol, 200},
		{"speaks HTTP/2", answer("\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00d\r\n\r\n"), postrider.FailProtocol, 0},
		{"garbage", answer("\x00\xff\xfe\r\n\r\n\r\n"), postrider.FailProtocol, 0},
		{"blank lines", answer("\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), postrider.FailProtocol, 0},
		{"no status", answer("HTTP/1.1\r\n\r\n"), postrider.FailProtocol, 0},
		{"a status in words", answer("HTTP/1.1 two OK\r\n\r\n"), postrider.FailProtocol, 0},
		{"a negative status", answer("HTTP/1.1 -20 OK\r\n\r\n"), postrider.FailProtocol, 0},
		{"a long status", answer("HTTP/1.1 2000 OK\r\n\r\n"), postrider.FailProtocol, 0},
		{"a header without colon", answer("HTTP/1.1 200 OK\r\nX-A b\r\n\r\n"), postrider.FailProtocol, 0},
		{"a header value with control characters", answer("HTTP/1.1 200 OK\r\nX-A: \x1b[31m\r\n\r\n"), postrider.FailProtocol, 0},
		{"a NUL in a header", answer("HTTP/1.1 200 OK\r\nX-A\x00: b\r\n\r\n"), postrider.FailProtocol, 0},
		{"a folded first header", answer("HTTP/1.1 200 OK\r\n X-A: b\r\n\r\n"), postrider.FailProtocol, 0},
		{"two lengths", answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"), postrider.FailProtocol, 0},
		{"a negative length", answer("HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok"), postrider.FailProtocol, 0},
		{"a length in words", answer("HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok"), postrider.FailProtocol, 0},
		{"an unknown coding", answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: rot13\r\n\r\nok"), postrider.FailProtocol, 0},
		{"switches protocols", answer("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello"), postrider.FailProtocol, 101},

		{"an early 413", func(_ context.Context, c *net.TCPConn) {
			readSome(c)
			say(c, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			halfClose(c)
			drain(c)
		}, postrider.FailHTTP4xx, 413},
		{"a 500 cut in its body", answer("HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\nab"), postrider.FailHTTP5xx, 500},

		// Success is decided at the headers.
		{"200 with a short body", answer("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nab"), "", 200},
		{"200 with a truncated chunk", answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nab"), "", 200},
		{"200 with a wrong chunk", answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab"), "", 200},
		{"200 with an endless chunk size", afterRequest(func(_ context.Context, c *net.TCPConn) {
			say(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			repeat(c, "00000000000000")
		}), "", 200},
		{"200 and a body that hangs", afterRequest(func(ctx context.Context, c *net.TCPConn) {
			say(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nab")
			<-ctx.Done()
		}), "", 200},
		{"200 and a body that drips", afterRequest(func(ctx context.Context, c *net.TCPConn) {
			say(c, "HTTP/1.1 200 OK\r\n\r\n")
			drip(ctx, c, strings.Repeat("x", 1000))
		}), "", 200},
		{"200 and an endless body", afterRequest(func(_ context.Context, c *net.TCPConn) {
			say(c, "HTTP/1.1 200 OK\r\n\r\n")
			repeat(c, strings.Repeat("x", 1<<16))
		}), "", 200},
		{"200 and endless trailers", afterRequest(func(_ context.Context, c *net.TCPConn) {
			say(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n2\r\nok\r\n0\r\n")
			repeat(c, "X-A: "+strings.Repeat("b", 1000)+"\r\n")
		}), "", 200},
		{"100, 103, then 200", answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), "", 200},
		{"a header name with space", answer("HTTP/1.1 200 OK\r\nX A: b\r\nContent-Length: 0\r\n\r\n"), "", 200},
		{"bare line feeds", answer("HTTP/1.1 200 OK\nContent-Length: 2\n\nok"), "", 200},
		{"HTTP/1.0", answer("HTTP/1.0 200 OK\r\n\r\nok"), "", 200},
		{"no reason phrase", answer("HTTP/1.1 204 \r\n\r\n"), "", 204},
		{"a body after 204", answer("HTTP/1.1 204 No Content\r\n\r\nnot allowed"), "", 204},
		{"the same length twice", answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"), "", 200},
		{"more than its length", answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n"), "", 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, Options{Policy: loopback})
			r := post(script(t, tt.play))
			if tt.want == postrider.FailTimeout {
				r = fast(r.URL)
			}
			out := c.Send(t.Context(), r)
			if out.Failure != tt.want || out.StatusCode != tt.status {
				t.Errorf("got %q (%s) and status %d, want %q and %d", out.Failure, out.Detail, out.StatusCode, tt.want, tt.status)
			}
			if (out.Detail == "") != out.OK() || len(out.Detail) > 500 || strings.ContainsAny(out.Detail, "\r\n\x00") {
				t.Errorf("got detail %q", out.Detail)
			}
			if out.RemoteIP != "127.0.0.1" || len(out.Response.Body) > defaultMaxResponseBytes {
				t.Errorf("got remote address %q and a body of %d bytes", out.RemoteIP, len(out.Response.Body))
			}
			if out.Timings.Total > 4*time.Second {
				t.Errorf("took %v, which is more than the body's %v", out.Timings.Total, bodyTimeout)
			}
		})
	}
}

func TestSend_KeepsTheBeginningOfALongBody(t *testing.T) {
	url := script(t, func(_ context.Context, c *net.TCPConn) {
		readRequest(bufio.NewReader(c))
		say(c, "HTTP/1.1 200 OK\r\n\r\n")
		repeat(c, "0123456789")
	})
	out := newClient(t, Options{Policy: loopback, MaxResponseBytes: 25}).Send(t.Context(), post(url))
	if !out.OK() || string(out.Response.Body) != "0123456789012345678901234"[:25] || !out.Response.Truncated {
		t.Errorf("got %q, truncated %v", out.Response.Body, out.Response.Truncated)
	}
}

// The receiver would send 10 GB. What it gets rid of before the connection is
// closed is what the sockets' buffers hold.
func TestSend_AHugeBodyCostsNeitherMemoryNorTime(t *testing.T) {
	var sent atomic.Int64
	url := script(t, func(_ context.Context, c *net.TCPConn) {
		readRequest(bufio.NewReader(c))
		say(c, "HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
		chunk := make([]byte, 1<<20)
		for range 10_000 {
			n, err := c.Write(chunk)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	c := newClient(t, Options{Policy: loopback})
	c.Send(t.Context(), post(url)) // fills the pools
	const attempts = 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range attempts {
		out := c.Send(t.Context(), post(url))
		if !out.OK() || len(out.Response.Body) != defaultMaxResponseBytes || !out.Response.Truncated || out.Timings.Total > time.Second {
			t.Fatalf("got %q, %d bytes, truncated %v, after %v", out.Failure, len(out.Response.Body), out.Response.Truncated, out.Timings.Total)
		}
	}
	runtime.ReadMemStats(&after)
	// The receiver's buffer of 1 MB counts here too.
	if each := (after.TotalAlloc - before.TotalAlloc) / attempts; each > 2<<20 {
		t.Errorf("got %d bytes allocated per attempt", each)
	}
	if each := sent.Load() / (attempts + 1); each > 64<<20 {
		t.Errorf("got %d bytes sent per attempt, want the connection closed at the cap", each)
	}
}

// Sixty-four receivers at once, each of which sends without an end. The memory
// is the whole process's, these receivers' own part included.
func TestSend_EndlessAnswersTakeBoundedMemory(t *testing.T) {
	const each, most = 8, 48 << 20
	var urls []string
	var sent atomic.Int64
	for _, answer := range [][2]string{ // what comes once, and what comes again and again
		{"HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("x", 1<<16)},
		{"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n", strings.Repeat("x", 1<<16)},
		{"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n", "10000\r\n" + strings.Repeat("x", 1<<16) + "\r\n"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1;" + strings.Repeat("e", 1<<12)},
		{"HTTP/1.1 200 OK\r\n", "X-A: " + strings.Repeat("b", 1<<12) + "\r\n"},
		{"HTTP/1.1 200 OK\r\nX-A: ", strings.Repeat("b", 1<<16)},
		{"", "HTTP/1.1 103 Early Hints\r\nLink: " + strings.Repeat("l", 1<<12) + "\r\n\r\n"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", "X-A: " + strings.Repeat("b", 1<<12) + "\r\n"},
	} {
		urls = append(urls, script(t, func(_ context.Context, c *net.TCPConn) {
			if !readRequest(bufio.NewReader(c)) || !say(c, answer[0]) {
				return
			}
			for say(c, answer[1]) {
				sent.Add(int64(len(answer[1])))
			}
		}))
	}
	c := newClient(t, Options{Policy: loopback})
	var senders sync.WaitGroup
	for range each {
		for _, url := range urls {
			senders.Go(func() {
				for range 10 {
					if out := c.Send(t.Context(), post(url)); out.Timings.Total > 4*time.Second || len(out.Response.Body) > defaultMaxResponseBytes {
						t.Errorf("got %d bytes after %v", len(out.Response.Body), out.Timings.Total)
					}
				}
			})
		}
	}
	done := make(chan struct{})
	go func() {
		senders.Wait()
		close(done)
	}()
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	var peak uint64
	for tick := time.NewTicker(2 * time.Millisecond); ; {
		metrics.Read(heap)
		peak = max(peak, heap[0].Value.Uint64())
		select {
		case <-tick.C:
			continue
		case <-done:
			tick.Stop()
		}
		break
	}
	t.Logf("%d attempts, %d MiB sent by receivers, %d MiB on the heap at most", each*len(urls)*10, sent.Load()>>20, peak>>20)
	if peak > most {
		t.Errorf("got %d MiB on the heap, want at most %d", peak>>20, most>>20)
	}
}

func TestSend_StoresAGzipBombAsItCame(t *testing.T) {
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	if !say(w, strings.Repeat("\x00", 10<<20)) || w.Close() != nil {
		t.Fatal("gzip failed")
	}
	encodings := make(chan []string, 1)
	receiver := serve(t, func(w http.ResponseWriter, r *http.Request) {
		encodings <- r.Header["Accept-Encoding"]
		w.Header().Set("Content-Encoding", "gzip")
		say(w, bomb.String())
	})
	out := newClient(t, Options{Policy: loopback}).Send(t.Context(), post(receiver.URL))
	if !out.OK() || !bytes.Equal(out.Response.Body, bomb.Bytes()) || out.Response.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("got %q and %d bytes, want the %d sent", out.Failure, len(out.Response.Body), bomb.Len())
	}
	if accepted := <-encodings; accepted != nil {
		t.Errorf("got Accept-Encoding %q, want none", accepted)
	}
}

// The time that a body may take is its own: a slow one does not hold a slot
// for the rest of a long timeout.
func TestSend_ASlowBodyIsGivenUpEarly(t *testing.T) {
	t.Parallel()
	url := script(t, func(ctx context.Context, c *net.TCPConn) {
		readRequest(bufio.NewReader(c))
		say(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nab")
		<-ctx.Done()
	})
	r := post(url)
	r.Timeout = 30 * time.Second
	out := newClient(t, Options{Policy: loopback}).Send(t.Context(), r)
	if !out.OK() || string(out.Response.Body) != "ab" || !out.Response.Truncated {
		t.Errorf("got %q and %q, truncated %v", out.Failure, out.Response.Body, out.Response.Truncated)
	}
	if out.Timings.Total < bodyTimeout || out.Timings.Total > 2*bodyTimeout {
		t.Errorf("took %v, want about %v", out.Timings.Total, bodyTimeout)
	}
}

// Every answer is a 503 with a 200 behind it, for whoever comes next.
func TestSend_ASmuggledSecondResponseAnswersNothing(t *testing.T) {
	url := script(t, func(_ context.Context, c *net.TCPConn) {
		r := bufio.NewReader(c)
		for readRequest(r) {
			say(c, "HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno"+"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes")
		}
	})
	c := newClient(t, Options{Policy: loopback})
	var senders sync.WaitGroup
	for range 8 {
		senders.Go(func() {
			for range 100 {
				if out := c.Send(t.Context(), post(url)); out.OK() || string(out.Response.Body) == "yes" && out.Failure != postrider.FailProtocol {
					t.Errorf("got %q (%s) with %q", out.Failure, out.Detail, out.Response.Body)
					return
				}
			}
		})
	}
	senders.Wait()
}

// Whatever bytes come back: no panic, an end in time, and success exactly for
// a 2xx.
func FuzzSend_Response(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 302 Found\r\nLocation: \x1b\xff\r\n\r\n",
		"HTTP/1.1 429 Slow\r\nRetry-After: 99999999999999999999\r\nKeep-Alive: timeout=99999\r\n\r\n", "HTTP/1.1 101 X\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "HTTP/1.0 200", "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 500 E\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "\x16\x03\x01\x00", "", "HTTP/1.1 299 \r\nConnection: close\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	responses := make(chan []byte, 1)
	url := script(f, func(_ context.Context, c *net.TCPConn) {
		readRequest(bufio.NewReader(c))
		say(c, string(<-responses))
	})
	f.Fuzz(func(t *testing.T, response []byte) {
		c := New(Options{Policy: loopback})
		defer c.Close()
		responses <- response
		out := c.Send(t.Context(), fast(url))
		if out.OK() && (out.StatusCode < 200 || out.StatusCode > 299) {
			t.Fatalf("%q succeeded with status %d", response, out.StatusCode)
		}
		if !out.OK() && (out.Detail == "" || strings.ContainsAny(out.Detail, "\r\n\x00\x1b")) {
			t.Fatalf("%q: got %q with detail %q", response, out.Failure, out.Detail)
		}
		if out.Timings.Total > 5*time.Second || out.RetryAfter < 0 {
			t.Fatalf("%q: got %+v", response, out)
		}
	})
}
