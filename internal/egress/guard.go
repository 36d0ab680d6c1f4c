package egress

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"code.dny.dev/ssrf"
)

// A guard decides which addresses may be dialled. It is immutable.
//
// IPv6 is an allow-list (2000::/3 without its special ranges), so that every
// scheme that hides an IPv4 address in an IPv6 one elsewhere (compatible,
// translated, NAT64, ISATAP on link-local) is refused without being listed.
// IPv4 is a deny-list made from IANA's registry of special-purpose addresses.
type guard struct {
	allow      []netip.Prefix
	nat64      []netip.Prefix
	hosts      []string // without their "*"
	ports      []uint16
	httpsOnly  bool
	own        []netip.AddrPort
	localAddrs func() ([]net.Addr, error) // of this machine
}

func newGuard(p Policy, own []netip.AddrPort) *guard {
	g := &guard{ports: slices.Clone(p.AllowPorts), httpsOnly: p.HTTPSOnly, localAddrs: net.InterfaceAddrs}
	for _, prefix := range p.AllowCIDRs {
		g.allow = append(g.allow, unmapPrefix(prefix))
	}
	for _, prefix := range p.NAT64Prefixes {
		g.nat64 = append(g.nat64, prefix.Masked())
	}
	for _, host := range p.AllowHosts {
		g.hosts = append(g.hosts, strings.ToLower(strings.TrimPrefix(host, "*")))
	}
	for _, listener := range own {
		g.own = append(g.own, netip.AddrPortFrom(listener.Addr().WithZone("").Unmap(), listener.Port()))
	}
	return g
}

// unmapPrefix turns ::ffff:10.0.0.0/104 into 10.0.0.0/8, since addresses are
// unmapped before they are compared.
func unmapPrefix(prefix netip.Prefix) netip.Prefix {
	if prefix.Addr().Is4In6() && prefix.Bits() >= 96 {
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	return prefix.Masked()
}

// opensHost reports whether the operator opened a host name, in lower case.
func (g *guard) opensHost(host string) bool {
	return slices.ContainsFunc(g.hosts, func(open string) bool {
		return host == open || strings.HasPrefix(open, ".") && strings.HasSuffix(host, open) && len(host) > len(open)
	})
}

// judge names the rule that closes an address; "" means that it may be
// dialled. open is set when the operator opened the host name it came from.
func (g *guard) judge(addr netip.AddrPort, open bool) (rule string) {
	if addr.Addr().Zone() != "" {
		return "zoned address" // and no prefix contains one
	}
	ip := addr.Addr().Unmap()
	switch {
	case !ip.IsValid():
		return "not an address"
	case ip.IsUnspecified():
		return "unspecified address" // Linux connects it to loopback
	case g.isOwn(ip, addr.Port()):
		return "own listener"
	case open || contains(g.allow, ip):
		return ""
	case ip.Is4():
		return denied(ip)
	}
	for _, prefix := range g.nat64 {
		if prefix.Contains(ip) {
			embedded, ok := nat64Embedded(prefix, ip)
			if !ok {
				return "NAT64"
			}
			return g.judge(netip.AddrPortFrom(embedded, addr.Port()), false)
		}
	}
	if rule := denied(ip); rule != "" {
		return rule
	}
	if embedded, ok := isatapEmbedded(ip); ok {
		return g.judge(netip.AddrPortFrom(embedded, addr.Port()), false)
	}
	return ""
}

// isOwn reports whether a listener of the program itself answers at an
// address.
func (g *guard) isOwn(ip netip.Addr, port uint16) bool {
	for _, listener := range g.own {
		if listener.Port() != port {
			continue
		}
		if listener.Addr() == ip || listener.Addr().IsUnspecified() && g.isLocal(ip) {
			return true
		}
	}
	return false
}

// isLocal reports whether an address is this machine's. It asks the system
// each time: it is called only for the port of an own listener, and addresses
// come and go.
func (g *guard) isLocal(ip netip.Addr) bool {
	if ip.IsLoopback() {
		return true
	}
	addrs, err := g.localAddrs()
	if err != nil {
		return true // when in doubt it is
	}
	return slices.ContainsFunc(addrs, func(local net.Addr) bool {
		network, ok := local.(*net.IPNet)
		if !ok {
			return false
		}
		own, _ := netip.AddrFromSlice(network.IP)
		return own.Unmap() == ip
	})
}

func contains(prefixes []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// denied names the special-purpose range that an address lies in.
func denied(ip netip.Addr) (rule string) {
	ranges := ssrf.IPv4DeniedPrefixes
	if ip.Is6() {
		if !ssrf.IPv6GlobalUnicast.Contains(ip) {
			return outsideGlobalUnicast(ip)
		}
		ranges = ssrf.IPv6DeniedPrefixes
	}
	for _, prefix := range ranges {
		if prefix.Contains(ip) {
			if name, ok := ruleNames[prefix.String()]; ok {
				return name
			}
			return "special-purpose address"
		}
	}
	return ""
}

// ruleNames say to people which range refused an address. A range that the
// registry gains later is refused all the same, under a general name.
var ruleNames = map[string]string{
	"0.0.0.0/8":         "this network",
	"10.0.0.0/8":        "private network",
	"100.64.0.0/10":     "carrier-grade NAT",
	"127.0.0.0/8":       "loopback",
	"169.254.0.0/16":    "link-local",
	"172.16.0.0/12":     "private network",
	"192.0.0.0/24":      "protocol assignments",
	"192.0.2.0/24":      "documentation",
	"192.31.196.0/24":   "AS112",
	"192.52.193.0/24":   "AMT",
	"192.88.99.0/24":    "6to4",
	"192.168.0.0/16":    "private network",
	"192.175.48.0/24":   "AS112",
	"198.18.0.0/15":     "benchmarking",
	"198.51.100.0/24":   "documentation",
	"203.0.113.0/24":    "documentation",
	"224.0.0.0/4":       "multicast",
	"240.0.0.0/4":       "reserved",
	"2001::/23":         "protocol assignments",
	"2001:db8::/32":     "documentation",
	"2002::/16":         "6to4",
	"2620:4f:8000::/48": "AS112",
	"3fff::/20":         "documentation",
}

func outsideGlobalUnicast(ip netip.Addr) (rule string) {
	switch {
	case ip.IsLoopback():
		return "loopback"
	case ip.IsPrivate():
		return "private network"
	case ip.IsLinkLocalUnicast():
		return "link-local"
	case ip.IsMulticast():
		return "multicast"
	case ssrf.IPv6NAT64Prefix.Contains(ip):
		return "NAT64"
	}
	return "not global unicast"
}

// nat64Embedded is RFC 6052, section 2.2. Byte 8 is kept free of address bits.
func nat64Embedded(prefix netip.Prefix, ip netip.Addr) (embedded netip.Addr, ok bool) {
	b := ip.As16()
	switch prefix.Bits() {
	case 32:
		return netip.AddrFrom4([4]byte{b[4], b[5], b[6], b[7]}), true
	case 40:
		return netip.AddrFrom4([4]byte{b[5], b[6], b[7], b[9]}), true
	case 48:
		return netip.AddrFrom4([4]byte{b[6], b[7], b[9], b[10]}), true
	case 56:
		return netip.AddrFrom4([4]byte{b[7], b[9], b[10], b[11]}), true
	case 64:
		return netip.AddrFrom4([4]byte{b[9], b[10], b[11], b[12]}), true
	case 96:
		return netip.AddrFrom4([4]byte{b[12], b[13], b[14], b[15]}), true
	}
	return netip.Addr{}, false
}

// isatapEmbedded is RFC 5214, section 6.1: the interface identifier is
// 0000:5efe or 0200:5efe and an IPv4 address, below any prefix, so that the
// prefix alone does not show it.
func isatapEmbedded(ip netip.Addr) (embedded netip.Addr, ok bool) {
	b := ip.As16()
	if b[8]&^2 != 0 || b[9] != 0 || b[10] != 0x5e || b[11] != 0xfe {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte{b[12], b[13], b[14], b[15]}), true
}
