package egress

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"postrider"
)

// A urlFault is what is wrong with a URL.
type urlFault struct{ code, detail string }

var (
	faultTooLong  = &urlFault{"url_too_long", "A URL is at most 2,048 bytes."}
	faultURL      = &urlFault{"invalid_url", "This is no URL of the form https://host/path. Percent-encode spaces and other special characters."}
	faultScheme   = &urlFault{"invalid_scheme", "The URL starts with https:// or http://."}
	faultHTTPS    = &urlFault{"https_required", "Only https:// URLs are accepted."}
	faultUserinfo = &urlFault{"url_userinfo", "A URL must not hold a user name or password. Send credentials in a header of the webhook."}
	faultFragment = &urlFault{"url_fragment", "A URL must not have a fragment (#…): it would never be sent."}
	faultHost     = &urlFault{"invalid_host", "The host is a DNS name, or an IP address in its canonical form (IPv6 in brackets, without a zone)."}
	faultPort     = &urlFault{"invalid_port", "The port is a number from 1 to 65535, without leading zeros."}
	faultLowPort  = &urlFault{"port_not_allowed", "The port is 80, 443, one from 1024 to 65535, or one that the operator has opened."}
)

// parseURL reads a URL in the few forms that are accepted, and writes its host
// in ASCII. What it returns is safe for an HTTP request line as it stands.
func (g *guard) parseURL(raw string) (*url.URL, *urlFault) {
	if len(raw) > postrider.MaxURL {
		return nil, faultTooLong
	}
	// net/url keeps spaces in a query as they are, and the request line is cut
	// at spaces. It also forgets an empty fragment.
	if raw == "" || !utf8.ValidString(raw) || strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil, faultURL
	}
	if strings.Contains(raw, "#") {
		return nil, faultFragment
	}
	scheme, rest, found := strings.Cut(raw, "://")
	scheme = strings.ToLower(scheme)
	switch {
	case scheme != "http" && scheme != "https":
		return nil, faultScheme
	case !found:
		return nil, faultURL
	case scheme == "http" && g.httpsOnly:
		return nil, faultHTTPS
	}
	authority, path := rest, ""
	if i := strings.IndexAny(rest, `/?\`); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	switch {
	case strings.Contains(authority, "@"):
		return nil, faultUserinfo
	case strings.HasPrefix(path, `\`) || !isASCII(path):
		return nil, faultURL
	case authority == "" || strings.Contains(authority, "%"):
		// Percent-encoding in a host is a zone, or a way around the checks below.
		return nil, faultHost
	}
	u, err := url.Parse(scheme + "://placeholder" + path)
	if err != nil {
		return nil, faultURL
	}
	host, port, fault := g.parseAuthority(authority)
	if fault != nil {
		return nil, fault
	}
	u.Host = host + port
	return u, nil
}

// parseAuthority splits and checks host and port by hand: net/url takes ports
// of any size, digits of other scripts and addresses in many spellings. The
// port is returned with its colon, or empty.
func (g *guard) parseAuthority(authority string) (host, port string, fault *urlFault) {
	host = authority
	// The last colon, unless it stands inside an address in brackets.
	if i := strings.LastIndexByte(authority, ':'); i > strings.LastIndexByte(authority, ']') {
		host, port = authority[:i], authority[i:]
	}
	host, ok := canonicalHost(host)
	if !ok {
		return "", "", faultHost
	}
	if port == "" {
		return host, "", nil
	}
	n, err := strconv.ParseUint(port[1:], 10, 16)
	switch {
	case err != nil || port[1] == '0':
		return "", "", faultPort
	case n < 1024 && n != 80 && n != 443 && !slices.Contains(g.ports, uint16(n)):
		return "", "", faultLowPort
	}
	return host, port, nil
}

// canonicalHost takes an address as it is or not at all, and a name in its
// ASCII form.
func canonicalHost(host string) (canonical string, ok bool) {
	if bare, found := strings.CutPrefix(host, "["); found {
		bare, found = strings.CutSuffix(bare, "]")
		ip, err := netip.ParseAddr(bare)
		return host, found && err == nil && ip.Is6() && ip.String() == bare
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return host, ip.Is4()
	}
	return asciiName(host)
}

// names maps a host name as browsers do. Hyphens and underscores are looser
// than in the standard since names in use have them (r3---sn.example,
// my_app.example).
var names = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.CheckHyphens(false), idna.StrictDomainName(false))

// asciiName is the lower-case ASCII form of a DNS name. The last label must
// have a letter: 127.1, 2130706433, 0x7f.1 and the full-width digits that IDNA
// maps to them are addresses to some resolvers.
func asciiName(name string) (ascii string, ok bool) {
	ascii, err := names.ToASCII(name)
	if err != nil || len(ascii) > 253 {
		return "", false
	}
	last := ""
	for label := range strings.SplitSeq(ascii, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool { return !isLetter(r) && !isDigit(r) && r != '-' && r != '_' }) {
			return "", false
		}
		last = label
	}
	// 0x7f000001 has a letter, but is a number to the C library.
	hexadecimal := strings.HasPrefix(last, "0x") && !strings.ContainsFunc(last[2:], func(r rune) bool { return !isDigit(r) && (r < 'a' || r > 'f') })
	return ascii, strings.ContainsFunc(last, isLetter) && !hexadecimal
}

func isLetter(r rune) bool { return 'a' <= r && r <= 'z' }

func isDigit(r rune) bool { return '0' <= r && r <= '9' }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// checkLiteral judges the host of a parsed URL when it is an address.
func (g *guard) checkLiteral(u *url.URL) *urlFault {
	ip, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return nil // a name: judged when it is dialled
	}
	if rule := g.judge(netip.AddrPortFrom(ip, portOfURL(u)), g.opensHost(u.Hostname())); rule != "" {
		return &urlFault{string(postrider.FailBlocked), blockedDetail(rule)}
	}
	return nil
}

// portOfURL is the port of a parsed URL, the scheme's own if it names none.
func portOfURL(u *url.URL) uint16 {
	if n, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
		return uint16(n)
	}
	if u.Scheme == "https" {
		return 443
	}
	return 80
}

// A urlCache keeps what URLs mean, since a webhook's is the same at each attempt.
// It holds good ones only, and starts again when it is full.
type urlCache struct {
	mu   sync.RWMutex
	urls map[string]*target
}

const maxCachedURLs = 4096

func (c *urlCache) parse(g *guard, raw string) (*target, *urlFault) {
	c.mu.RLock()
	t := c.urls[raw]
	c.mu.RUnlock()
	if t != nil {
		return t, nil
	}
	u, fault := g.parseURL(raw)
	if fault != nil {
		return nil, fault
	}
	t = newTarget(u)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.urls == nil || len(c.urls) >= maxCachedURLs {
		c.urls = map[string]*target{}
	}
	c.urls[raw] = t
	return t, nil
}
