package egress

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"postrider"
	"postrider/internal/testkit"
)

// What stands for the public internet in a network of the test's own.
const (
	public4 = "93.184.216.34"
	public6 = "2606:2800:220:1::34"
)

// forbidden are addresses of every range that can be given to an interface.
// The network of the test has them all, and something listens at each.
var forbidden = []string{
	"127.0.0.1", "127.9.9.9", "10.9.9.9", "100.64.0.9", "169.254.169.254", "172.16.9.9", "172.31.255.254", "192.0.0.9",
	"192.0.2.9", "192.88.99.9", "192.168.9.9", "198.18.0.9", "198.51.100.9", "203.0.113.9", "240.0.0.9", "255.255.255.254",
	"::1", "fd00:ec2::254", "fc00::9", "fec0::9", "100::9", "5f00::9", "3fff::9", "4000::9", "2001:db8::9", "2001:2::9",
	// 10.9.9.9 inside of IPv6: compatible, translated, NAT64 of both kinds, 6to4, Teredo, ISATAP.
	"::10.9.9.9", "::ffff:0:10.9.9.9", "64:ff9b::10.9.9.9", "64:ff9b:1:a09:9:900::", "2002:a09:909::1",
	"2001:0:4136:e378:8000:63bf:f5f6:f6f6", "2a00:1450::5efe:10.9.9.9", "2a00:1450::200:5efe:10.9.9.9",
}

// makeNetwork gives the namespace's own loopback device the addresses. Nothing
// can leave it.
func makeNetwork(t *testing.T, addrs ...string) {
	t.Helper()
	commands := []string{"link set lo up"}
	for _, addr := range addrs {
		bits, option := "/32", ""
		if netip.MustParseAddr(addr).Is6() {
			bits, option = "/128", " nodad"
		}
		if ip := net.ParseIP(addr); addr != "127.0.0.1" && !ip.Equal(net.IPv6loopback) {
			commands = append(commands, "addr add "+addr+bits+" dev lo"+option)
		}
	}
	ip := exec.CommandContext(t.Context(), "ip", "-batch", "-")
	ip.Stdin = strings.NewReader(strings.Join(commands, "\n"))
	if output, err := ip.CombinedOutput(); err != nil {
		t.Fatalf("make a network: %v\n%s", err, output)
	}
}

// serveAt is a receiver at an address of the test's network.
func serveAt(t *testing.T, addr string) *httptest.Server {
	t.Helper()
	receiver := httptest.NewUnstartedServer(http.HandlerFunc(ok))
	receiver.Listener.Close()
	receiver.Listener = listen(t, addr)
	receiver.Start()
	t.Cleanup(receiver.Close)
	return receiver
}

// Real dials with nothing opened, in a network where every forbidden address
// exists and answers. The traps' own check dials each of them, which shows that
// only the guard kept the client away.
func TestNetwork_NoForbiddenAddressIsDialled(t *testing.T) {
	if !testkit.Isolated(t, syscall.CLONE_NEWNET) {
		return
	}
	makeNetwork(t, append([]string{public4, public6}, forbidden...)...)
	const port = "8080"
	var traps []*trap
	for _, addr := range forbidden {
		traps = append(traps, setTrap(t, net.JoinHostPort(addr, port)))
	}
	for _, addr := range []string{public4, public6} {
		serveAt(t, net.JoinHostPort(addr, port))
		for _, host := range []string{bracketed(addr), "hook.test"} {
			c := newClient(t, Options{Resolver: serveDNS(t, always(addr))})
			if out := c.Send(t.Context(), post("http://"+host+":"+port+"/")); !out.OK() || out.RemoteIP != addr {
				t.Fatalf("%s: got %q (%s) from %q, want this network to work", host, out.Failure, out.Detail, out.RemoteIP)
			}
		}
	}

	tried := 0
	refused := func(addr string, out postrider.Outcome) {
		t.Helper()
		tried++
		if out.Failure != postrider.FailBlocked && out.Failure != postrider.FailUnsendable || out.RemoteIP != "" || out.StatusCode != 0 {
			t.Errorf("%s: got %q (%s) from %q, want it refused", addr, out.Failure, out.Detail, out.RemoteIP)
		}
	}
	for _, addr := range append([]string{"0.0.0.0", "::"}, forbidden...) {
		literals := []string{bracketed(addr)}
		if netip.MustParseAddr(addr).Is4() {
			literals = append(literals, "[::ffff:"+addr+"]")
		}
		for _, literal := range literals {
			refused(literal, newClient(t, Options{}).Send(t.Context(), post("http://"+literal+":"+port+"/")))
		}
		for _, answer := range [][]string{{addr}, {public4, addr}, {addr, public4}, {public6, addr}} {
			c := newClient(t, Options{Resolver: serveDNS(t, always(answer...))})
			refused(strings.Join(answer, " and "), c.Send(t.Context(), post("http://hook.test:"+port+"/")))
		}
	}
	for _, trap := range traps {
		trap.check(t)
	}
	t.Logf("%d sends to %d forbidden addresses, each refused, with no connection to any", tried, len(forbidden)+2)
}

func bracketed(addr string) string {
	if strings.Contains(addr, ":") {
		return "[" + addr + "]"
	}
	return addr
}

// The name server is the attacker's: its answers live for no time, and it says
// the public address to who asks first and the metadata service's afterwards.
func TestNetwork_ANameThatIsRebound(t *testing.T) {
	if !testkit.Isolated(t, syscall.CLONE_NEWNET) {
		return
	}
	const inside, port = "169.254.169.254", "8080"
	makeNetwork(t, public4, inside)
	metadata := setTrap(t, net.JoinHostPort(inside, port))
	receiver := serveAt(t, net.JoinHostPort(public4, port))
	var answer atomic.Pointer[string]
	say := func(addr string) { answer.Store(&addr) }
	c := newClient(t, Options{Resolver: serveDNS(t, func(q dnsmessage.Question) []netip.Addr { return always(*answer.Load())(q) })})
	send := func() postrider.Outcome { return c.Send(t.Context(), post("http://hook.test:"+port+"/")) }
	for range 3 { // as between the attempts of a delivery
		say(public4)
		if out := send(); !out.OK() || out.RemoteIP != public4 {
			t.Fatalf("got %q (%s) from %q, want the public address", out.Failure, out.Detail, out.RemoteIP)
		}
		say(inside)
		if out := send(); !out.OK() || out.RemoteIP != public4 {
			t.Errorf("on a kept connection: got %q (%s) from %q, want the address that was judged", out.Failure, out.Detail, out.RemoteIP)
		}
		receiver.CloseClientConnections() // and the idle connection is gone
		out := send()
		if out.Failure == postrider.FailReset { // it met the close
			out = send()
		}
		if out.Failure != postrider.FailBlocked {
			t.Errorf("after it was closed: got %q (%s), want blocked_address", out.Failure, out.Detail)
		}
	}
	metadata.check(t)
}
