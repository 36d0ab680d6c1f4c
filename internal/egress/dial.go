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
	"sync/atomic"
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

// A dialing is one dial under way. Its attempt may end before it does: net/http
// lets a dial go on, for the next request to use.
type dialing struct {
	guard *guard
	port  uint16
	open  bool // the operator opened the host name

	mu      sync.Mutex // happy eyeballs dials two families at once
	route   route
	refused string // the rule that closed one of the addresses, and so all
}

// dialer returns the transport's dial function: look up, judge every address,
// connect, and with a config shake hands. Its errors are of type *failure.
func (g *generation) dialer(config *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(addr)
		n, portErr := strconv.ParseUint(port, 10, 16)
		if err = errors.Join(err, portErr); err != nil {
			return nil, dialFailure(addr, err)
		}
		d := &dialing{guard: g.guard, port: uint16(n), open: g.guard.opensHost(host)}
		// The transport took the deadline away, so that a dial outlives its
		// request. It must not outlive it for long: a receiver that hangs would
		// hold more sockets than its lane's budget.
		if a, ok := ctx.Value(attemptKey{}).(*attempt); ok {
			a.dialing.Store(d)
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, a.deadline)
			defer cancel()
		}
		raw, err := d.connect(ctx, g.resolver, network, host, port)
		if err != nil {
			return nil, d.failure(host, err)
		}
		c := &conn{Conn: raw}
		if config != nil {
			if c.Conn, err = d.handshake(ctx, raw, config, host); err != nil {
				raw.Close()
				return nil, handshakeFailure(host, err)
			}
		}
		c.route = d.snapshot()
		return c, nil
	}
}

// connect lets net.Dialer look the name up and race the addresses, and judges
// at two moments: the whole answer when it comes, so that one denied address
// refuses all, and each address once more before its socket is connected, which
// holds whatever happens in between.
func (d *dialing) connect(ctx context.Context, resolver *net.Resolver, network, host, port string) (net.Conn, error) {
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
	raw, err := dialer.DialContext(ctx, network, net.JoinHostPort(absolute(host), port))
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

// A conn notes when the request of its present attempt was written and
// answered. net/http's own trace hooks for that would cost three closures per
// attempt, and cannot tell a connection dialled for one attempt from the one
// that it was given.
type conn struct {
	net.Conn
	route route

	now     atomic.Pointer[exchange] // of the attempt that has the connection; nil before the first
	expires atomic.Int64             // when the receiver said that it closes the connection, as given by clock
	cut     atomic.Bool              // the receiver ended the connection
}

// An exchange is what a connection notes for one attempt. It belongs to the
// attempt: the connection may serve the next one before this one has looked.
// Its moments are as given by clock; 0: not yet.
type exchange struct {
	wrote    atomic.Int64 // the first byte of the request was about to be written
	flushed  atomic.Int64 // the last byte so far was written
	answered atomic.Int64 // the first byte of the response was read
}

var epoch = time.Now()

func clock() int64 { return int64(time.Since(epoch)) }

// begin gives the connection to an attempt, anew if it had another before.
func (c *conn) begin(x *exchange) {
	x.wrote.Store(0)
	x.flushed.Store(0)
	x.answered.Store(0)
	c.now.Store(x)
}

var errExpired = errors.New("the receiver is about to close the connection")

// Write refuses the first byte of a request that could cross with the
// receiver's close. Nothing is on the wire then, so net/http takes another
// connection; once something is, only the next attempt may repeat it.
func (c *conn) Write(b []byte) (int, error) {
	x := c.now.Load()
	if x == nil {
		return c.Conn.Write(b)
	}
	if x.wrote.Load() == 0 {
		now := clock()
		if expires := c.expires.Load(); expires != 0 && now >= expires {
			return 0, errExpired
		}
		x.wrote.Store(now)
	}
	n, err := c.Conn.Write(b)
	if n > 0 {
		x.flushed.Store(clock())
	}
	return n, err
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if x := c.now.Load(); n > 0 && x != nil && x.answered.Load() == 0 && x.wrote.Load() != 0 {
		x.answered.Store(clock())
	}
	if err != nil {
		c.cut.Store(true)
	}
	return n, err
}
