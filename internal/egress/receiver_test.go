package egress

import (
	"bufio"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"

	"postrider"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) //nolint:forbidigo // net/http logs there what its servers, the receivers, meet
	goleak.VerifyTestMain(m)
}

// loopback opens what the tests' receivers listen on.
var loopback = Policy{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

func newClient(tb testing.TB, o Options) *Client {
	tb.Helper()
	c := New(o)
	tb.Cleanup(c.Close)
	return c
}

func post(url string) *postrider.Request {
	return &postrider.Request{
		URL:     url,
		Header:  postrider.Header{{Name: "Content-Type", Value: "application/json"}, {Name: "User-Agent", Value: "Clubmed-Hookshot/1.0"}},
		Body:    []byte(`{"room":12}`),
		Timeout: 5 * time.Second,
	}
}

func listen(tb testing.TB, addr string) net.Listener {
	tb.Helper()
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { listener.Close() })
	return listener
}

func portOf(listener net.Listener) string {
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

// serve is a receiver of ordinary HTTP.
func serve(tb testing.TB, handler http.HandlerFunc) *httptest.Server {
	tb.Helper()
	return serveStates(tb, handler, nil)
}

// serveStates also tells what becomes of its connections.
func serveStates(tb testing.TB, handler http.HandlerFunc, states func(net.Conn, http.ConnState)) *httptest.Server {
	tb.Helper()
	receiver := httptest.NewUnstartedServer(handler)
	receiver.Config.ConnState = states
	receiver.Start()
	tb.Cleanup(receiver.Close)
	return receiver
}

// script is a receiver that does to each connection what it is told, and
// closes it. It returns its URL. The script's context ends with the test.
func script(tb testing.TB, play func(ctx context.Context, c *net.TCPConn)) string {
	tb.Helper()
	listener := listen(tb, "127.0.0.1:0")
	ctx, cancel := context.WithCancel(context.Background())
	var scripts sync.WaitGroup
	scripts.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			scripts.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				play(ctx, c.(*net.TCPConn))
			})
		}
	})
	tb.Cleanup(func() {
		listener.Close()
		cancel()
		scripts.Wait()
	})
	return "http://" + listener.Addr().String() + "/hook"
}

// readRequest takes one request off a connection and reports whether one came.
func readRequest(r *bufio.Reader) bool {
	req, err := http.ReadRequest(r)
	return err == nil && drain(req.Body)
}

// say writes and drain reads as long as the other side wants it, and report
// whether it did to the end.
func say(w io.Writer, text string) bool {
	_, err := io.WriteString(w, text)
	return err == nil
}

func drain(r io.Reader) bool {
	_, err := io.Copy(io.Discard, r)
	return err == nil
}

func readSome(c *net.TCPConn) { _, _ = c.Read(make([]byte, 4096)) }

// halfClose ends what the sender can read, and goes on reading.
func halfClose(c *net.TCPConn) { _ = c.CloseWrite() }

// reset lets the close that follows drop the connection with an RST.
func reset(c *net.TCPConn) { _ = c.SetLinger(0) }

// answer reads one request and writes what it is told.
func answer(response string) func(context.Context, *net.TCPConn) {
	return func(_ context.Context, c *net.TCPConn) {
		if readRequest(bufio.NewReader(c)) {
			say(c, response)
		}
	}
}

// A trap is a listener that must not be reached.
type trap struct {
	net.Listener
	accepted atomic.Int32
	done     chan struct{}
}

func setTrap(tb testing.TB, addr string) *trap {
	tb.Helper()
	t := &trap{Listener: listen(tb, addr), done: make(chan struct{})}
	go func() {
		defer close(t.done)
		for {
			c, err := t.Accept()
			if err != nil {
				return
			}
			t.accepted.Add(1)
			c.Close()
		}
	}()
	tb.Cleanup(func() {
		t.Close()
		<-t.done
	})
	return t
}

// check fails the test if anything connected. A connection of its own goes
// last through the queue, so that none can still be waiting behind it.
func (t *trap) check(tb testing.TB) {
	tb.Helper()
	c, err := new(net.Dialer).DialContext(tb.Context(), "tcp", t.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	drain(c) // until it has been accepted and closed
	c.Close()
	if n := t.accepted.Load(); n != 1 {
		tb.Errorf("got %d connections to %s, want none", n-1, t.Addr())
	}
}

func listenUDP(tb testing.TB) net.PacketConn {
	tb.Helper()
	socket, err := new(net.ListenConfig).ListenPacket(context.Background(), "udp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = socket.Close() })
	return socket
}

// serveDNS is a DNS server. answers are asked for each query; none means that
// there is no such name. Every answer has TTL 0.
func serveDNS(tb testing.TB, answers func(q dnsmessage.Question) []netip.Addr) *net.Resolver {
	tb.Helper()
	server := listenUDP(tb)
	done := make(chan struct{})
	go func() {
		defer close(done)
		packet := make([]byte, 4096)
		for {
			n, from, err := server.ReadFrom(packet)
			if err != nil {
				return
			}
			if response := answerDNS(packet[:n], answers); response != nil {
				if _, err := server.WriteTo(response, from); err != nil {
					return
				}
			}
		}
	}()
	tb.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

func answerDNS(packet []byte, answers func(q dnsmessage.Question) []netip.Addr) []byte {
	var query dnsmessage.Message
	if query.Unpack(packet) != nil || len(query.Questions) != 1 {
		return nil
	}
	q := query.Questions[0]
	addrs := answers(q)
	response := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: query.ID, Response: true, RecursionAvailable: true},
		Questions: query.Questions,
	}
	if addrs == nil {
		response.RCode = dnsmessage.RCodeNameError
	}
	header := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 0}
	for _, addr := range addrs {
		switch {
		case addr.Is4() && q.Type == dnsmessage.TypeA:
			response.Answers = append(response.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: addr.As4()}})
		case addr.Is6() && q.Type == dnsmessage.TypeAAAA:
			response.Answers = append(response.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
		}
	}
	packed, err := response.Pack()
	if err != nil {
		return nil
	}
	return packed
}

// always resolves every name to the same addresses.
func always(addrs ...string) func(dnsmessage.Question) []netip.Addr {
	var list []netip.Addr
	for _, addr := range addrs {
		list = append(list, netip.MustParseAddr(addr))
	}
	return func(dnsmessage.Question) []netip.Addr { return list }
}

// fullListener is the address of a socket that listens, accepts nothing and
// has no room left in its queue.
func fullListener(tb testing.TB) string {
	tb.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = syscall.Close(socket) })
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		tb.Fatal(err)
	}
	if err := syscall.Listen(socket, 0); err != nil {
		tb.Fatal(err)
	}
	name, err := syscall.Getsockname(socket)
	if err != nil {
		tb.Fatal(err)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*syscall.SockaddrInet4).Port))
	for { // until a connect is not answered
		dialer := net.Dialer{Timeout: 100 * time.Millisecond}
		c, err := dialer.DialContext(tb.Context(), "tcp", addr)
		if err != nil {
			return addr
		}
		tb.Cleanup(func() { c.Close() })
	}
}
