package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// A step is how far a dial came.
type step uint8

const (
	stepNone step = iota
	stepLookup
	stepConnect
	stepHandshake
)

// A route is what is known of the way to a receiver.
type route struct {
	step       step
	remoteIP   string
	tlsVersion string

	lookup, connect, handshake time.Duration
}

// A dialing is one dial under way.
type dialing struct {
	guard *guard
	port  uint16
	open  bool // the operator opened the host name

	mu      sync.Mutex // happy eyeballs dials two families at once
	route   route
	refused string // the rule that closed one of the addresses, and so all
}

// dial makes a connection to a target: look up, judge every address, connect,
// and with a config shake hands. Its errors are of type *failure.
func (g *generation) dial(ctx context.Context, d *dialing, t *target, config *tls.Config) (*conn, error) {
	raw, err := d.connect(ctx, g.resolver, t.host, t.port)
	if err != nil {
		return nil, d.failure(t.host, err)
	}
	s, err := newSocket(raw)
	if err != nil {
		raw.Close()
		return nil, dialFailure(t.host, err)
	}
	var c net.Conn = s
	if t.secure {
		if c, err = d.handshake(ctx, s, config, t.host); err != nil {
			raw.Close()
			return nil, handshakeFailure(t.host, err)
		}
	}
	return newConn(t.key, s, c, d.snapshot()), nil
}

// connect lets net.Dialer look the name up and race the addresses, and judges
// at two moments: the whole answer when it comes, so that one denied address
// refuses all, and each address once more before its socket is connected, which
// holds whatever happens in between.
func (d *dialing) connect(ctx context.Context, resolver *net.Resolver, host string, port uint16) (net.Conn, error) {
	started := time.Now()
	connecting := started
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { d.note(func(r *route) { r.step = stepLookup }) },
		DNSDone: func(answer httptrace.DNSDoneInfo) {
			connecting = time.Now()
			d.note(func(r *route) { r.lookup = connecting.Sub(started) })
			d.judgeAnswer(answer.Addrs)
		},
	})
	dialer := net.Dialer{Timeout: connectTimeout, Resolver: resolver, ControlContext: d.control}
	raw, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(absolute(host), strconv.Itoa(int(port))))
	if err != nil {
		return nil, err
	}
	d.note(func(r *route) {
		r.connect = time.Since(connecting)
		r.remoteIP = addrIP(raw.RemoteAddr())
	})
	return raw, nil
}

// absolute ends a name with a dot, which keeps the search list of resolv.conf
// out: with it, partner.example could mean partner.example.internal. The name
// localhost is this machine's by RFC 6761 and stands in its hosts file, where
// Go finds a name of one label only without the dot.
func absolute(host string) string {
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" {
		return host
	}
	return host + "."
}

func addrIP(addr net.Addr) string {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().String()
	}
	return ""
}

// judgeAnswer refuses the dial when one address of a DNS answer is denied.
func (d *dialing) judgeAnswer(addrs []net.IPAddr) {
	for _, answer := range addrs {
		ip, _ := netip.AddrFromSlice(answer.IP)
		addr := netip.AddrPortFrom(ip.Unmap().WithZone(answer.Zone), d.port)
		if rule := d.guard.judge(addr, d.open); rule != "" {
			d.refuse(rule)
			return
		}
	}
}

// control is called with the concrete address of every socket before it is
// connected.
func (d *dialing) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	switch {
	case err != nil || network != "tcp4" && network != "tcp6":
		d.refuse("not an address")
	default:
		if rule := d.guard.judge(addr, d.open); rule != "" {
			d.refuse(rule)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refused != "" {
		return errRefused
	}
	d.route.step = stepConnect
	d.route.remoteIP = addr.Addr().Unmap().String()
	return nil
}

var errRefused = errors.New("refused by the address guard")

func (d *dialing) refuse(rule string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refused == "" {
		d.refused = rule
	}
	d.route.remoteIP = "" // of an address in the same answer that is open
}

func (d *dialing) handshake(ctx context.Context, raw net.Conn, config *tls.Config, host string) (net.Conn, error) {
	started := time.Now()
	d.note(func(r *route) { r.step = stepHandshake })
	config = config.Clone()
	config.ServerName = host
	c := tls.Client(raw, config)
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	d.note(func(r *route) {
		r.handshake = time.Since(started)
		r.tlsVersion = tls.VersionName(c.ConnectionState().Version)
	})
	return c, nil
}

func (d *dialing) note(edit func(*route)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	edit(&d.route)
}

func (d *dialing) snapshot() route {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.route
}
