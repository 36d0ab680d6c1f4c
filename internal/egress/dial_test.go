package egress

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"postrider"
)

func ok(http.ResponseWriter, *http.Request) {}

// Every spelling of this machine, at the port of something that listens.
func TestSend_ConnectsToNothingThatIsRefused(t *testing.T) {
	v4 := setTrap(t, "127.0.0.1:0")
	v6 := setTrap(t, "[::1]:0")
	c := newClient(t, Options{Resolver: serveDNS(t, always("127.0.0.1", "::1"))})
	for _, listener := range []*trap{v4, v6} {
		for _, host := range []string{
			"127.0.0.1", "127.0.0.2", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "localhost", "hook.test",
			"127.1", "2130706433", "0177.0.0.1", "0x7f000001", "0", "[::1%25lo]", "[fe80::1%25lo]", "127.0.0.1.", "１２７.0.0.1",
		} {
			out := c.Send(t.Context(), post("http://"+host+":"+portOf(listener)+"/hook"))
			if out.Failure != postrider.FailBlocked && out.Failure != postrider.FailUnsendable {
				t.Errorf("%s: got %q (%s), want it refused", host, out.Failure, out.Detail)
			}
			if out.RemoteIP != "" || out.StatusCode != 0 {
				t.Errorf("%s: got an answer from %q", host, out.RemoteIP)
			}
		}
	}
	v4.check(t)
	v6.check(t)
}

func TestSend_RefusedTargetsLookTheSameOpenOrClosed(t *testing.T) {
	open := setTrap(t, "127.0.0.1:0")
	closed := listen(t, "127.0.0.1:0")
	closed.Close()
	c := newClient(t, Options{Resolver: serveDNS(t, always("127.0.0.1"))})
	for _, host := range []string{"127.0.0.1", "hook.test"} {
		of := func(listener net.Listener) postrider.Outcome {
			out := c.Send(t.Context(), post("http://"+host+":"+portOf(listener)+"/hook"))
			out.Timings = postrider.Timings{}
			return out
		}
		a, b := of(open), of(closed)
		if a.Failure != postrider.FailBlocked || a.Failure != b.Failure || a.Detail != b.Detail || a.RemoteIP != b.RemoteIP {
			t.Errorf("%s: an open port gives %+v, a closed one %+v", host, a, b)
		}
		if !strings.Contains(a.Detail, "loopback") || strings.Contains(a.Detail, "127.0.0.1") {
			t.Errorf("%s: got detail %q, want the rule's name and no address", host, a.Detail)
		}
	}
	open.check(t)
}

// 127.0.0.2 stands for an internal address here: it is not open, and something
// listens there. Addresses of other machines are judged in the guard's own
// tests, where a fault cannot send them a packet.
func TestSend_OneDeniedAddressInTheAnswerRefusesAll(t *testing.T) {
	allowed := setTrap(t, "127.0.0.1:0")
	denied := setTrap(t, "127.0.0.2:"+portOf(allowed))
	for _, answer := range [][]string{
		{"127.0.0.1", "127.0.0.2"},
		{"127.0.0.2", "127.0.0.1"},
		{"127.0.0.1", "::1"},
		{"127.0.0.1", "::ffff:127.0.0.2"},
		{"127.0.0.1", "0.0.0.0"},
	} {
		c := newClient(t, Options{
			Policy:   Policy{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}},
			Resolver: serveDNS(t, always(answer...)),
		})
		out := c.Send(t.Context(), post("http://hook.test:"+portOf(allowed)+"/hook"))
		if out.Failure != postrider.FailBlocked || out.RemoteIP != "" {
			t.Errorf("%v: got %q (%s)", answer, out.Failure, out.Detail)
		}
	}
	allowed.check(t)
	denied.check(t)
}

// The answer changes with every query, as a rebinding name server's does.
func TestSend_RebindingIsJudgedAtEveryDial(t *testing.T) {
	receiver := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })
	port := portOf(receiver.Listener)
	denied := setTrap(t, "127.0.0.2:"+port)
	var queries atomic.Int32
	c := newClient(t, Options{
		Policy: Policy{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}},
		Resolver: serveDNS(t, func(q dnsmessage.Question) []netip.Addr {
			if q.Type != dnsmessage.TypeA {
				return []netip.Addr{}
			}
			if queries.Add(1)%2 == 1 {
				return []netip.Addr{netip.MustParseAddr("127.0.0.1")}
			}
			return []netip.Addr{netip.MustParseAddr("127.0.0.2")}
		}),
	})
	for range 5 {
		if out := c.Send(t.Context(), post("http://hook.test:"+port+"/hook")); !out.OK() {
			t.Fatalf("an open address: got %q (%s)", out.Failure, out.Detail)
		}
		if out := c.Send(t.Context(), post("http://hook.test:"+port+"/hook")); out.Failure != postrider.FailBlocked {
			t.Fatalf("a denied address: got %q (%s), want blocked_address", out.Failure, out.Detail)
		}
	}
	denied.check(t)
}

// A kept connection stays with the address that was judged, and asks no name
// server.
func TestSend_AKeptConnectionIsNotRebound(t *testing.T) {
	receiver := serve(t, ok)
	var queries atomic.Int32
	c := newClient(t, Options{
		Policy: Policy{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}},
		Resolver: serveDNS(t, func(q dnsmessage.Question) []netip.Addr {
			if queries.Add(1) <= 2 { // A and AAAA
				return always("127.0.0.1")(q)
			}
			return always("127.0.0.2")(q)
		}),
	})
	for range 3 {
		out := c.Send(t.Context(), post("http://hook.test:"+portOf(receiver.Listener)+"/hook"))
		if !out.OK() || out.RemoteIP != "127.0.0.1" {
			t.Fatalf("got %q (%s) from %q", out.Failure, out.Detail, out.RemoteIP)
		}
	}
	if n := queries.Load(); n != 2 {
		t.Errorf("got %d queries, want 2", n)
	}
}

func TestSend_LooksNamesUpWithoutTheSearchList(t *testing.T) {
	receiver := serve(t, ok)
	c := newClient(t, Options{Policy: loopback, Resolver: serveDNS(t, func(q dnsmessage.Question) []netip.Addr {
		if name := q.Name.String(); name != "hook.test." && name != "hook." {
			t.Errorf("%s was looked up", name)
		}
		return always("127.0.0.1")(q)
	})})
	for _, host := range []string{"hook.test", "Hook.TEST", "hook"} {
		if out := c.Send(t.Context(), post("http://"+host+":"+portOf(receiver.Listener))); !out.OK() {
			t.Fatalf("%s: got %q (%s)", host, out.Failure, out.Detail)
		}
	}
}

func TestAbsolute_LeavesAddressesAsTheyAre(t *testing.T) {
	for host, want := range map[string]string{"hook.test": "hook.test.", "hook": "hook.", "localhost": "localhost", "127.0.0.1": "127.0.0.1", "::1": "::1"} {
		if got := absolute(host); got != want {
			t.Errorf("%s: got %s, want %s", host, got, want)
		}
	}
}

func TestSend_AllowHostsOpensWhatANameResolvesTo(t *testing.T) {
	receiver := serve(t, ok)
	own := setTrap(t, "127.0.0.1:0")
	c := newClient(t, Options{
		Policy:   Policy{AllowHosts: []string{"hook.test", "*.lab.test"}},
		Resolver: serveDNS(t, always("127.0.0.1")),
	})
	c.AddOwnListener(netip.MustParseAddrPort("0.0.0.0:" + portOf(own)))
	for host, want := range map[string]postrider.FailureCode{
		"hook.test":      "",
		"HOOK.test":      "",
		"a.lab.test":     "",
		"lab.test":       postrider.FailBlocked,
		"evil.test":      postrider.FailBlocked,
		"xhook.test":     postrider.FailBlocked,
		"hook.test.evil": postrider.FailBlocked,
	} {
		if out := c.Send(t.Context(), post("http://"+host+":"+portOf(receiver.Listener))); out.Failure != want {
			t.Errorf("%s: got %q (%s), want %q", host, out.Failure, out.Detail, want)
		}
	}
	out := c.Send(t.Context(), post("http://hook.test:"+portOf(own)))
	if out.Failure != postrider.FailBlocked || !strings.Contains(out.Detail, "own listener") {
		t.Errorf("the program's own listener: got %q (%s)", out.Failure, out.Detail)
	}
	own.check(t)
}

func TestSend_OwnListenersAreNotDialledEvenWhereAllIsOpen(t *testing.T) {
	own := setTrap(t, "127.0.0.1:0")
	receiver := serve(t, ok)
	c := newClient(t, Options{Policy: loopback})
	url := "http://127.0.0.1:" + portOf(receiver.Listener)
	if out := c.Send(t.Context(), post(url)); !out.OK() {
		t.Fatalf("got %q (%s)", out.Failure, out.Detail)
	}
	c.AddOwnListener(netip.MustParseAddrPort(own.Addr().String()))
	for _, host := range []string{"127.0.0.1", "[::ffff:127.0.0.1]"} {
		url := "http://" + host + ":" + portOf(own)
		if out := c.Send(t.Context(), post(url)); out.Failure != postrider.FailBlocked {
			t.Errorf("%s: got %q (%s)", url, out.Failure, out.Detail)
		}
		if c.CheckURL("url", url) == nil {
			t.Errorf("%s: accepted at write time", url)
		}
	}
	if out := c.Send(t.Context(), post(url)); !out.OK() {
		t.Errorf("another port: got %q (%s)", out.Failure, out.Detail)
	}
	// A connection that is kept must not outlive the listener's being told.
	c.AddOwnListener(netip.MustParseAddrPort("[::]:" + portOf(receiver.Listener)))
	if out := c.Send(t.Context(), post(url)); out.Failure != postrider.FailBlocked {
		t.Errorf("a kept connection to an own listener: got %q", out.Failure)
	}
	own.check(t)
}

func tellClosed(closed chan<- struct{}) func(net.Conn, http.ConnState) {
	return func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}
}

func TestSetPolicy_ClosesIdleConnectionsAndJudgesAnew(t *testing.T) {
	closed := make(chan struct{}, 8)
	receiver := serveStates(t, ok, tellClosed(closed))
	c := newClient(t, Options{Policy: loopback})
	if out := c.Send(t.Context(), post(receiver.URL)); !out.OK() {
		t.Fatalf("got %q (%s)", out.Failure, out.Detail)
	}
	c.SetPolicy(Policy{})
	<-closed
	if out := c.Send(t.Context(), post(receiver.URL)); out.Failure != postrider.FailBlocked {
		t.Errorf("after the range was closed: got %q", out.Failure)
	}
	c.SetPolicy(loopback)
	if out := c.Send(t.Context(), post(receiver.URL)); !out.OK() {
		t.Errorf("after the range was opened again: got %q (%s)", out.Failure, out.Detail)
	}
}

func TestSetPolicy_AConnectionBusyMeanwhileIsNotKept(t *testing.T) {
	arrived, goOn, closed := make(chan struct{}), make(chan struct{}), make(chan struct{}, 8)
	receiver := serveStates(t, func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-goOn
	}, tellClosed(closed))
	c := newClient(t, Options{Policy: loopback})
	outcome := make(chan postrider.Outcome, 1)
	go func() { outcome <- c.Send(context.WithoutCancel(t.Context()), post(receiver.URL)) }()
	<-arrived
	c.SetPolicy(Policy{})
	close(goOn)
	if out := <-outcome; !out.OK() {
		t.Errorf("the attempt under way: got %q (%s)", out.Failure, out.Detail)
	}
	<-closed
	if out := c.Send(t.Context(), post(receiver.URL)); out.Failure != postrider.FailBlocked {
		t.Errorf("the next attempt: got %q", out.Failure)
	}
}

func TestSend_ReachesAddressesAndNames(t *testing.T) {
	receiver := serve(t, ok)
	c := newClient(t, Options{Policy: loopback, Resolver: serveDNS(t, always("127.0.0.1"))})
	for _, host := range []string{"127.0.0.1", "hook.test"} {
		if out := c.Send(t.Context(), post("http://"+host+":"+portOf(receiver.Listener))); !out.OK() {
			t.Errorf("%s: got %q (%s)", host, out.Failure, out.Detail)
		}
	}
}

// net/http, if it were asked, would read the variables once in a process, so the
// test before this one runs again in a process of its own.
func TestSend_IgnoresProxyVariables(t *testing.T) {
	proxy := setTrap(t, "127.0.0.1:0")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	again := exec.CommandContext(t.Context(), self, "-test.run=^TestSend_ReachesAddressesAndNames$", "-test.v")
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		again.Env = append(again.Env, name+"=http://"+proxy.Addr().String())
	}
	output, err := again.CombinedOutput()
	if err != nil || !strings.Contains(string(output), "--- PASS: TestSend_ReachesAddressesAndNames") {
		t.Errorf("with a proxy in the environment: %v\n%s", err, output)
	}
	proxy.check(t)
}

func TestSend_TellsDNSFailuresApart(t *testing.T) {
	silent := listenUDP(t)
	for _, tt := range []struct {
		name     string
		resolver *net.Resolver
		want     string
	}{
		{"no such name", serveDNS(t, func(dnsmessage.Question) []netip.Addr { return nil }), "does not exist"},
		{"no address", serveDNS(t, func(dnsmessage.Question) []netip.Addr { return []netip.Addr{} }), "no address"},
		{"no server", &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return nil, io.ErrClosedPipe
		}}, "lookup of hook.test failed"},
		{"no answer", &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			c, err := d.DialContext(ctx, "udp", silent.LocalAddr().String())
			if err == nil {
				t.Cleanup(func() { c.Close() }) // the resolver itself waits on for seconds
			}
			return c, err
		}}, "took too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := post("http://hook.test/")
			if tt.name == "no answer" {
				r = fast(r.URL)
			}
			out := newClient(t, Options{Resolver: tt.resolver}).Send(t.Context(), r)
			if out.Failure != postrider.FailDNS || !strings.Contains(out.Detail, tt.want) || strings.Contains(out.Detail, "127.0.0.1") {
				t.Errorf("got %q (%s), want dns (…%s…)", out.Failure, out.Detail, tt.want)
			}
		})
	}
}

func TestSend_TellsConnectFailuresApart(t *testing.T) {
	closed := listen(t, "127.0.0.1:0")
	closed.Close()
	c := newClient(t, Options{Policy: loopback})
	out := c.Send(t.Context(), post("http://"+closed.Addr().String()))
	if out.Failure != postrider.FailConnectRefused || out.RemoteIP != "127.0.0.1" {
		t.Errorf("a closed port: got %q (%s) at %q", out.Failure, out.Detail, out.RemoteIP)
	}

	// A listener whose queue is full drops what comes next, as a firewall does.
	full := fullListener(t)
	r := fast("http://" + full)
	out = c.Send(t.Context(), r)
	if out.Failure != postrider.FailConnectTimeout || out.RemoteIP != "127.0.0.1" {
		t.Errorf("a full queue: got %q (%s) at %q", out.Failure, out.Detail, out.RemoteIP)
	}
	if out.Timings.Total < r.Timeout || out.Timings.Total > 5*time.Second {
		t.Errorf("a full queue: gave up after %v, want %v", out.Timings.Total, r.Timeout)
	}
}

// happy eyeballs: the first family refuses, the second answers.
func TestSend_TriesTheOtherAddresses(t *testing.T) {
	receiver := serve(t, ok)
	c := newClient(t, Options{
		Policy:   Policy{AllowHosts: []string{"hook.test"}},
		Resolver: serveDNS(t, always("::1", "127.0.0.2", "127.0.0.1")),
	})
	out := c.Send(t.Context(), post("http://hook.test:"+portOf(receiver.Listener)))
	if !out.OK() || out.RemoteIP != "127.0.0.1" {
		t.Errorf("got %q (%s) from %q, want success from 127.0.0.1", out.Failure, out.Detail, out.RemoteIP)
	}
}
