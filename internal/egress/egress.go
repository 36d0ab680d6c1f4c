// Package egress is the only HTTP client that leaves the house: it sends one
// attempt to one receiver and says how that went.
//
// It knows which addresses may be dialled, how long each step may take, how
// much of an answer is kept, and what to tell a partner whose receiver fails.
// It must not know what a webhook, a retry or a store is: it is given bytes
// and headers ready for the wire, and returns an Outcome. Dispatch calls Send,
// the API and the portal call CheckURL, and app alone builds the Client.
//
// The exchange itself is made here, in its caller's goroutine and over
// connections that are kept here: net/http reads answers and does no more.
//
// Nothing else in the program may build a transport, a client or a dialer
// (TestOnlyEgressDials), since every one that did would be a way into the
// provider's own network.
package egress

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"postrider"
)

// A Policy is what the operator may change while the program runs. Its zero
// value opens nothing but the public internet.
type Policy struct {
	// AllowCIDRs are opened although the rules deny them. The unspecified
	// address, zones and the program's own listeners stay closed.
	AllowCIDRs []netip.Prefix
	// AllowHosts are host names whose addresses are not judged, except for
	// the program's own listeners: exact names, or *.example.internal for
	// every name below.
	AllowHosts []string
	// NAT64Prefixes are networks that translate to IPv4 (RFC 6052), such as
	// 64:ff9b::/96. An address in one is judged by the IPv4 address it embeds;
	// without the setting it is refused, or judged as the IPv6 address it is.
	NAT64Prefixes []netip.Prefix
	// AllowPorts opens ports below 1024 besides 80 and 443.
	AllowPorts []uint16
	// HTTPSOnly refuses http:// URLs.
	HTTPSOnly bool
}

// Options are the settings of a Client. Zero fields mean defaults.
type Options struct {
	Policy
	// OwnListeners are never dialled, whatever the policy opens. One with an
	// unspecified address covers every address of this machine on its port.
	OwnListeners []netip.AddrPort
	// Resolver looks names up; nil: Go's own resolver, which unlike the C
	// library's does not turn 127.1 or 0x7f000001 into an address.
	Resolver *net.Resolver
	// RootCAs verify receivers' certificates; nil: the system's.
	RootCAs *x509.CertPool
	// MaxResponseBytes of a response's body are kept; 0: 64 KiB.
	MaxResponseBytes int
	// MaxIdleConns and MaxIdleConnsPerHost bound the connections kept alive
	// between attempts, for each TLS policy; 0: 2,048 and 256. An idle
	// connection costs about 5 KB, over TLS 12 KB. Connections in use are bounded
	// by the lanes' budgets alone: a limit here would make lanes wait for each
	// other.
	MaxIdleConns        int
	MaxIdleConnsPerHost int
}

const (
	defaultTimeout          = 15 * time.Second
	connectTimeout          = 5 * time.Second // DNS included
	handshakeTimeout        = 10 * time.Second
	bodyTimeout             = 2 * time.Second
	maxHeaderBytes          = 64 << 10
	defaultMaxResponseBytes = 64 << 10
)

// A Client sends attempts. Its methods may be called from many goroutines.
type Client struct {
	options Options // Policy and OwnListeners are those of the current generation

	mu      sync.Mutex // held while the generation is replaced
	current atomic.Pointer[generation]
}

// A generation is all that depends on the policy: the guard, the URLs it found
// good and the connections it allowed. A new policy starts a new one, so that
// no connection allowed by an old policy is used under a new one, not even one
// that was busy at the moment of the change.
type generation struct {
	guard      *guard
	resolver   *net.Resolver
	urls       urlCache
	verified   *pool
	unverified *pool // for webhooks with insecure_ssl
}

// New builds a Client. It starts nothing and dials nothing.
func New(o Options) *Client {
	if o.Resolver == nil {
		o.Resolver = &net.Resolver{PreferGo: true}
	}
	if o.MaxResponseBytes == 0 {
		o.MaxResponseBytes = defaultMaxResponseBytes
	}
	if o.MaxIdleConns == 0 {
		o.MaxIdleConns = 2048
	}
	if o.MaxIdleConnsPerHost == 0 {
		o.MaxIdleConnsPerHost = 256
	}
	c := &Client{options: o}
	c.change(func(*Options) {})
	return c
}

// SetPolicy replaces the policy. Attempts under way end under the old one;
// every later attempt is judged anew, on a new connection.
func (c *Client) SetPolicy(p Policy) { c.change(func(o *Options) { o.Policy = p }) }

// AddOwnListener closes one more address of the program itself, for a listener
// that learns its port only once it is bound.
func (c *Client) AddOwnListener(addr netip.AddrPort) {
	c.change(func(o *Options) { o.OwnListeners = append(slices.Clone(o.OwnListeners), addr) })
}

// Close closes the connections kept alive. It is called when no Send is under
// way any more.
func (c *Client) Close() { c.current.Load().close() }

func (c *Client) change(edit func(*Options)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	edit(&c.options)
	next := &generation{guard: newGuard(c.options.Policy, c.options.OwnListeners), resolver: c.options.Resolver}
	next.verified = c.options.pool(false)
	next.unverified = c.options.pool(true)
	if last := c.current.Swap(next); last != nil {
		last.close()
	}
}

func (g *generation) close() {
	g.verified.close()
	g.unverified.close()
}

// pool is one for connections made with one TLS policy. Only HTTP/1.1 is spoken
// on them: HTTP/2 would write header names in lower case, where the documented
// spelling is X-Clubmed-Signature; would put a webhook's whole budget on one
// connection, so that one reset or GOAWAY fails every attempt in flight; and
// costs more CPU per small request (BenchmarkProtocols).
func (o *Options) pool(insecure bool) *pool {
	return newPool(&tls.Config{
		MinVersion:         tls.VersionTLS12,
		RootCAs:            o.RootCAs,
		NextProtos:         []string{"http/1.1"},
		ClientSessionCache: tls.NewLRUClientSessionCache(o.MaxIdleConns),
		InsecureSkipVerify: insecure, //nolint:gosec // the webhook's own insecure_ssl, off by default
	}, o.MaxIdleConns, o.MaxIdleConnsPerHost)
}

// CheckURL says early what Send would refuse later: nil, or a *postrider.Error
// with a code of its own for each wrong form. It looks no name up, since the
// answer may be another one by the time of the attempt; a literal address is
// judged.
func (c *Client) CheckURL(field, raw string) error {
	g := c.current.Load().guard
	u, fault := g.parseURL(raw)
	if fault == nil {
		fault = g.checkLiteral(u)
	}
	if fault == nil {
		return nil
	}
	return &postrider.Error{Kind: postrider.Invalid, Field: field, Code: fault.code, Detail: fault.detail}
}
