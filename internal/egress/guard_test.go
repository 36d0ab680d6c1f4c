package egress

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"code.dny.dev/ssrf"
	"pgregory.net/rapid"
)

func addrPort(ip netip.Addr) netip.AddrPort { return netip.AddrPortFrom(ip, 443) }

func judged(t *testing.T, g *guard, ip string) string {
	t.Helper()
	return g.judge(addrPort(netip.MustParseAddr(ip)), false)
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

// The ranges, and beside each the ranges that adjoin it, whose addresses one
// below or one above are refused as well.
func TestGuard_RefusesEverySpecialRangeToItsEdges(t *testing.T) {
	g := newGuard(Policy{}, nil)
	for _, tt := range []struct {
		prefix, rule           string
		belowRefused, aboveToo bool
	}{
		{"0.0.0.0/8", "", true, false}, // below: nothing; its first address is the unspecified one
		{"10.0.0.0/8", "private network", false, false},
		{"100.64.0.0/10", "carrier-grade NAT", false, false},
		{"127.0.0.0/8", "loopback", false, false},
		{"169.254.0.0/16", "link-local", false, false},
		{"172.16.0.0/12", "private network", false, false},
		{"192.0.0.0/24", "protocol assignments", false, false},
		{"192.0.2.0/24", "documentation", false, false},
		{"192.88.99.0/24", "6to4", false, false},
		{"192.168.0.0/16", "private network", false, false},
		{"198.18.0.0/15", "benchmarking", false, false},
		{"198.51.100.0/24", "documentation", false, false},
		{"203.0.113.0/24", "documentation", false, false},
		{"224.0.0.0/4", "multicast", false, true},
		{"240.0.0.0/4", "reserved", true, true},
		{"255.255.255.255/32", "reserved", true, true},

		{"2001::/23", "protocol assignments", false, false},
		{"2001::/32", "protocol assignments", false, true}, // Teredo
		{"2001:db8::/32", "documentation", false, false},
		{"2002::/16", "6to4", false, false},
		{"3fff::/20", "documentation", false, false},

		{"::/8", "", true, true},
		{"::/128", "unspecified address", true, true},
		{"::1/128", "loopback", true, true},
		{"::ffff:0:0:0/96", "not global unicast", true, true}, // translated
		{"64:ff9b::/96", "NAT64", true, true},
		{"64:ff9b:1::/48", "not global unicast", true, true},
		{"100::/64", "not global unicast", true, true},
		{"5f00::/16", "not global unicast", true, true},
		{"fc00::/7", "private network", true, true},
		{"fe80::/10", "link-local", true, true},
		{"fec0::/10", "not global unicast", true, true},
		{"ff00::/8", "multicast", true, true},
	} {
		prefix := netip.MustParsePrefix(tt.prefix)
		first, last := prefix.Addr(), lastOf(prefix)
		for _, ip := range []netip.Addr{first, last} {
			rule := g.judge(addrPort(ip), false)
			if rule == "" || tt.rule != "" && rule != tt.rule {
				t.Errorf("%v of %v: got rule %q, want %q", ip, prefix, rule, tt.rule)
			}
		}
		// 2001:: is the first special range and the first address after
		// 2000:ffff:…; the address one below it is global unicast.
		if below := first.Prev(); below.IsValid() && (g.judge(addrPort(below), false) != "") != tt.belowRefused {
			t.Errorf("%v, one below %v: got rule %q, want refused %v", below, prefix, g.judge(addrPort(below), false), tt.belowRefused)
		}
		if above := last.Next(); above.IsValid() && (g.judge(addrPort(above), false) != "") != tt.aboveToo {
			t.Errorf("%v, one above %v: got rule %q, want refused %v", above, prefix, g.judge(addrPort(above), false), tt.aboveToo)
		}
	}
}

func TestGuard_OpensPublicAddresses(t *testing.T) {
	g := newGuard(Policy{}, nil)
	for _, ip := range []string{
		"1.0.0.0", "8.8.8.8", "9.255.255.255", "93.184.216.34", "223.255.255.255",
		"2000::", "2001:200::1", "2606:4700::1111", "2a00:1450:4001:829::200e", "3ffe:ffff::1", "3fff:1000::1", "::ffff:8.8.8.8",
	} {
		if rule := judged(t, g, ip); rule != "" {
			t.Errorf("%s: got rule %q, want none", ip, rule)
		}
	}
}

// embeddings are the schemes that put an IPv4 address into an IPv6 one.
var embeddings = map[string]func(v4 [4]byte, rest [12]byte) [16]byte{
	"mapped ::ffff:a.b.c.d": func(v4 [4]byte, _ [12]byte) [16]byte {
		return [16]byte{10: 0xff, 11: 0xff, 12: v4[0], 13: v4[1], 14: v4[2], 15: v4[3]}
	},
	"compatible ::a.b.c.d": func(v4 [4]byte, _ [12]byte) [16]byte {
		return [16]byte{12: v4[0], 13: v4[1], 14: v4[2], 15: v4[3]}
	},
	"translated ::ffff:0:a.b.c.d": func(v4 [4]byte, _ [12]byte) [16]byte {
		return [16]byte{8: 0xff, 9: 0xff, 12: v4[0], 13: v4[1], 14: v4[2], 15: v4[3]}
	},
	"NAT64 64:ff9b::/96": func(v4 [4]byte, _ [12]byte) [16]byte {
		return [16]byte{1: 0x64, 2: 0xff, 3: 0x9b, 12: v4[0], 13: v4[1], 14: v4[2], 15: v4[3]}
	},
	"local NAT64 64:ff9b:1::/48": func(v4 [4]byte, rest [12]byte) [16]byte {
		return [16]byte{1: 0x64, 2: 0xff, 3: 0x9b, 5: 1, 6: v4[0], 7: v4[1], 9: v4[2], 10: v4[3], 11: rest[0], 12: rest[1]}
	},
	"6to4 2002:a.b.c.d::": func(v4 [4]byte, rest [12]byte) [16]byte {
		b := [16]byte{0x20, 0x02, v4[0], v4[1], v4[2], v4[3]}
		copy(b[6:], rest[:10])
		return b
	},
	"Teredo 2001:0::, inverted": func(v4 [4]byte, rest [12]byte) [16]byte {
		b := [16]byte{0x20, 0x01}
		copy(b[4:], rest[:8])
		for i := range v4 {
			b[12+i] = ^v4[i]
		}
		return b
	},
	"ISATAP ::5efe:a.b.c.d below any prefix": func(v4 [4]byte, rest [12]byte) [16]byte {
		var b [16]byte
		copy(b[:8], rest[:8])
		b[8], b[10], b[11] = rest[8]&2, 0x5e, 0xfe
		copy(b[12:], v4[:])
		return b
	},
}

func TestGuard_RefusesEveryIPv6ThatHidesADeniedIPv4(t *testing.T) {
	g := newGuard(Policy{}, nil)
	for scheme, embed := range embeddings {
		t.Run(scheme, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				prefix := rapid.SampledFrom(ssrf.IPv4DeniedPrefixes).Draw(t, "denied range")
				v4 := within(t, prefix)
				ip := netip.AddrFrom16(embed(v4.As4(), [12]byte(rapid.SliceOfN(rapid.Byte(), 12, 12).Draw(t, "rest"))))
				if rule := g.judge(addrPort(ip), false); rule == "" {
					t.Fatalf("%v, which embeds %v, may be dialled", ip, v4)
				}
			})
		})
	}
}

// within draws an IPv4 address of a range.
func within(t *rapid.T, prefix netip.Prefix) netip.Addr {
	b := prefix.Addr().As4()
	random := rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "host bits")
	for bit := prefix.Bits(); bit < 32; bit++ {
		mask := byte(0x80) >> (bit % 8)
		b[bit/8] |= random[bit/8] & mask
	}
	return netip.AddrFrom4(b)
}

func TestGuard_RefusesWhateverTheLibraryRefuses(t *testing.T) {
	g := newGuard(Policy{}, nil)
	library := ssrf.New(ssrf.WithAnyPort())
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]int{4, 16}).Draw(t, "length")
		ip, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "address"))
		refused := g.judge(addrPort(ip), false) != ""
		if err := library.SafeAddr(ip.Unmap()); (err != nil) && !refused {
			t.Fatalf("%v may be dialled, but: %v", ip, err)
		}
	})
}

func TestGuard_RefusesZonesEvenWhenTheirRangeIsOpen(t *testing.T) {
	g := newGuard(Policy{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("::/0"), netip.MustParsePrefix("0.0.0.0/0")}}, nil)
	for _, ip := range []string{"fe80::1%lo", "::1%1", "2606:4700::1111%eth0", "::ffff:127.0.0.1%lo"} {
		if rule := judged(t, g, ip); rule != "zoned address" {
			t.Errorf("%s: got rule %q", ip, rule)
		}
	}
}

func TestGuard_OpensWhatTheOperatorOpens(t *testing.T) {
	for _, tt := range []struct {
		open, ip, rule string
	}{
		{"127.0.0.0/8", "127.0.0.1", ""},
		{"127.0.0.0/8", "::ffff:127.0.0.1", ""},
		{"::ffff:127.0.0.0/104", "127.0.0.1", ""},
		{"127.0.0.0/8", "10.0.0.1", "private network"},
		{"127.0.0.0/8", "::1", "loopback"},
		{"10.1.0.0/16", "10.2.0.1", "private network"},
		{"fd00::/8", "fd00::1", ""},
		{"0.0.0.0/0", "0.0.0.0", "unspecified address"},
		{"::/0", "::", "unspecified address"},
	} {
		g := newGuard(Policy{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix(tt.open)}}, nil)
		if rule := judged(t, g, tt.ip); rule != tt.rule {
			t.Errorf("%s with %s open: got rule %q, want %q", tt.ip, tt.open, rule, tt.rule)
		}
	}
}

func TestGuard_JudgesNAT64ByTheEmbeddedAddress(t *testing.T) {
	g := newGuard(Policy{
		NAT64Prefixes: []netip.Prefix{
			netip.MustParsePrefix("64:ff9b::/96"),
			netip.MustParsePrefix("2a01:32::/32"), netip.MustParsePrefix("2a02:40:100::/40"), netip.MustParsePrefix("2a03:48:1::/48"),
			netip.MustParsePrefix("2a04:56:1:100::/56"), netip.MustParsePrefix("2a05:64:1:1::/64"), netip.MustParsePrefix("2a06:96::/96"),
			netip.MustParsePrefix("2a07:80::/80"), // no length of RFC 6052
		},
		AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("10.7.0.0/16")},
	}, []netip.AddrPort{netip.MustParseAddrPort("8.8.4.4:443")})
	for ip, want := range map[string]string{
		"64:ff9b::8.8.8.8":                        "",
		"64:ff9b::127.0.0.1":                      "loopback",
		"64:ff9b::10.7.0.1":                       "",
		"64:ff9b::8.8.4.4":                        "own listener",
		"64:ff9b::0.0.0.0":                        "unspecified address",
		"2a01:32:808:808::":                       "",
		"2a01:32:a00:1::":                         "private network",
		"2a02:40:108:808:8::":                     "",
		"2a02:40:17f:0:1::":                       "loopback",
		"2a03:48:1:a9fe:a9:fe00::":                "link-local",
		"2a04:56:1:10a:0:1::":                     "private network",
		"2a05:64:1:1:a:0:100:0":                   "private network",
		"2a06:96::192.168.0.1":                    "private network",
		"2a07:80::8.8.8.8":                        "NAT64",
		"2a08::a00:1":                             "",
		"2a05:64:1:2:a:0:100:0":                   "",
		"2a01:32:808:808:0:5efe:7f00:1":           "",
		"2a0a:1:2:3:0:5efe:7f00:1":                "loopback",
		"2a0a:1:2:3:200:5efe:a00:1":               "private network",
		"2a0a:1:2:3:200:5efe:808:808":             "",
		"2a0a:1:2:3:4:5efe:a00:1":                 "",
		"2606:4700:0:0:0:ffff:127.0.0.1":          "",
		"64:ff9b:1:7f00:0:100::":                  "not global unicast",
		"::ffff:10.7.3.4":                         "",
		"::ffff:0:10.7.3.4":                       "not global unicast",
		"2002:a07:1::1":                           "6to4",
		"2001:0:4136:e378:8000:63bf:3fff:fdd2":    "protocol assignments",
		"2001:db8::1":                             "documentation",
		"2620:4f:8000::1":                         "AS112",
		"192.31.196.1":                            "AS112",
		"192.52.193.1":                            "AMT",
		"192.175.48.1":                            "AS112",
		"4000::1":                                 "not global unicast",
		"1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": "not global unicast",
	} {
		if rule := judged(t, g, ip); rule != want {
			t.Errorf("%s: got rule %q, want %q", ip, rule, want)
		}
	}
}

func TestGuard_OwnListenersStayClosed(t *testing.T) {
	everything := Policy{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
	interfaces := func() ([]net.Addr, error) {
		return []net.Addr{
			&net.IPNet{IP: net.ParseIP("203.0.113.7"), Mask: net.CIDRMask(24, 32)},
			&net.IPNet{IP: net.ParseIP("2a00:1450::7"), Mask: net.CIDRMask(64, 128)},
		}, nil
	}
	broken := func() ([]net.Addr, error) { return nil, errors.New("no interfaces today") }
	for _, tt := range []struct {
		listener, dialled string
		local             func() ([]net.Addr, error)
		own               bool
	}{
		{"127.0.0.1:8080", "127.0.0.1:8080", interfaces, true},
		{"127.0.0.1:8080", "[::ffff:127.0.0.1]:8080", interfaces, true},
		{"127.0.0.1:8080", "127.0.0.1:8081", interfaces, false},
		{"127.0.0.1:8080", "127.0.0.2:8080", interfaces, false},
		{"0.0.0.0:8080", "127.0.0.2:8080", interfaces, true},
		{"0.0.0.0:8080", "203.0.113.7:8080", interfaces, true},
		{"0.0.0.0:8080", "203.0.113.8:8080", interfaces, false},
		{"0.0.0.0:8080", "203.0.113.7:8081", interfaces, false},
		{"[::]:8080", "127.0.0.1:8080", interfaces, true},
		{"[::]:8080", "[::1]:8080", interfaces, true},
		{"[::]:8080", "[2a00:1450::7]:8080", interfaces, true},
		{"[::]:8080", "[2a00:1450::8]:8080", interfaces, false},
		{"[::]:8080", "93.184.216.34:8080", broken, true},
		{"10.0.0.5:5432", "10.0.0.5:5432", interfaces, true}, // a database elsewhere
		{"[fe80::1%lo]:8080", "[fe80::1]:8080", interfaces, true},
	} {
		g := newGuard(everything, []netip.AddrPort{netip.MustParseAddrPort(tt.listener)})
		g.localAddrs = tt.local
		for _, open := range []bool{false, true} {
			rule := g.judge(netip.MustParseAddrPort(tt.dialled), open)
			if (rule == "own listener") != tt.own {
				t.Errorf("%s with a listener at %s: got rule %q, want own %v", tt.dialled, tt.listener, rule, tt.own)
			}
		}
	}
}

func TestGuard_AllowHostsMatchesNamesAndWholeSubdomains(t *testing.T) {
	g := newGuard(Policy{AllowHosts: []string{"Hooks.Example.internal", "*.lab.internal"}}, nil)
	for host, want := range map[string]bool{
		"hooks.example.internal":    true,
		"a.hooks.example.internal":  false,
		"xhooks.example.internal":   false,
		"a.lab.internal":            true,
		"a.b.lab.internal":          true,
		"lab.internal":              false,
		"xlab.internal":             false,
		"a.lab.internal.evil.test":  false,
		"hooks.example.internal.io": false,
	} {
		if got := g.opensHost(host); got != want {
			t.Errorf("%s: got open %v, want %v", host, got, want)
		}
	}
}

// Control is the last word: it gets the address that the socket is about to be
// connected to, whatever resolved it.
func TestControl_JudgesTheConcreteAddress(t *testing.T) {
	for _, tt := range []struct {
		network, address string
		refused          bool
	}{
		{"tcp4", "93.184.216.34:443", false},
		{"tcp6", "[2606:4700::1111]:443", false},
		{"tcp4", "127.0.0.1:80", true},
		{"tcp4", "127.255.255.254:80", true},
		{"tcp4", "0.0.0.0:80", true},
		{"tcp4", "10.9.9.9:443", true},
		{"tcp4", "100.64.0.9:443", true},
		{"tcp4", "169.254.169.254:80", true},
		{"tcp4", "172.31.255.255:443", true},
		{"tcp4", "192.168.1.1:443", true},
		{"tcp4", "255.255.255.255:443", true},
		{"tcp6", "[::1]:80", true},
		{"tcp6", "[::]:80", true},
		{"tcp6", "[::ffff:169.254.169.254]:80", true},
		{"tcp6", "[::ffff:8.8.8.8]:80", false},
		{"tcp6", "[fd00:ec2::254]:80", true},
		{"tcp6", "[fe80::1%lo]:80", true},
		{"tcp6", "[64:ff9b::7f00:1]:80", true},
		{"udp4", "93.184.216.34:443", true},
		{"unix", "/run/docker.sock", true},
		{"tcp4", "localhost:80", true},
	} {
		d := &dialing{guard: newGuard(Policy{}, nil), port: 443}
		err := d.control(t.Context(), tt.network, tt.address, nil)
		if (err != nil) != tt.refused {
			t.Errorf("%s %s: got %v, want refused %v", tt.network, tt.address, err, tt.refused)
		}
	}
}

func TestControl_RefusesTheOpenAddressesOfAMixedAnswer(t *testing.T) {
	d := &dialing{guard: newGuard(Policy{}, nil), port: 443}
	if err := d.control(t.Context(), "tcp4", "93.184.216.34:443", nil); err != nil {
		t.Errorf("before the answer came: got %v", err)
	}
	d.judgeAnswer([]net.IPAddr{{IP: net.ParseIP("93.184.216.34")}, {IP: net.ParseIP("10.9.9.9")}})
	if err := d.control(t.Context(), "tcp4", "93.184.216.34:443", nil); err == nil {
		t.Error("the public address of a mixed answer was let through")
	}
	if ip := d.snapshot().remoteIP; ip != "" {
		t.Errorf("got remote address %q of a refused dial, want none", ip)
	}
}
