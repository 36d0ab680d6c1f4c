package egress

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"postrider"
)

func TestCheckURL_NamesWhatIsWrong(t *testing.T) {
	c := newClient(t, Options{
		Policy:       Policy{AllowPorts: []uint16{81}, AllowHosts: []string{"127.0.0.3"}},
		OwnListeners: []netip.AddrPort{netip.MustParseAddrPort("93.184.216.34:8080")},
	})
	for raw, code := range map[string]string{
		"https://partner.example/hooks":                        "",
		"http://7e9ea9dc.ngrok.io":                             "",
		"HTTPS://Partner.Example/Hooks?a=b&c=%20":              "",
		"https://partner.example:8443/":                        "",
		"https://partner.example?x":                            "",
		"https://partner.example:81":                           "",
		"https://localhost":                                    "", // judged when dialled
		"https://my_app.partner.example":                       "",
		"https://r3---sn.partner.example":                      "",
		"https://xn--bcher-kva.example":                        "",
		"https://bücher.example/":                              "",
		"https://ＰＡＲＴＮＥＲ.example/":                             "",
		"https://93.184.216.34":                                "",
		"https://93.184.216.34:8081":                           "",
		"https://[2606:4700::1111]:8443/":                      "",
		"https://[::ffff:8.8.8.8]/":                            "",
		"https://127.0.0.3/":                                   "",
		"https://partner.example/a%2Fb/%C3%A9?q=%22":           "",
		"https://" + strings.Repeat("a", 63) + ".example/":     "",
		"https://partner.example/" + strings.Repeat("a", 2024): "",
		"https://partner.example/" + strings.Repeat("a", 2025): "url_too_long",
		"":                             "invalid_url",
		"https://partner.example/a b":  "invalid_url",
		"https://partner.example/?a b": "invalid_url",
		"https://partner.example/?a HTTP/1.1\r\nX-Evil: 1": "invalid_url",
		"https://partner.example/\x00":                     "invalid_url",
		"https://partner.example/\x7f":                     "invalid_url",
		"https://partner.example/é":                        "invalid_url",
		"https://partner.example/?é":                       "invalid_url",
		"https://partner.example/%zz":                      "invalid_url",
		`https://partner.example\@10.0.0.1/`:               "invalid_url",
		"https:/partner.example":                           "invalid_scheme",
		"https:partner.example":                            "invalid_scheme",
		"partner.example":                                  "invalid_scheme",
		"//partner.example":                                "invalid_scheme",
		"ftp://partner.example":                            "invalid_scheme",
		"file:///etc/passwd":                               "invalid_scheme",
		"gopher://127.0.0.1:6379/_":                        "invalid_scheme",
		"javascript://partner.example/%0aalert(1)":         "invalid_scheme",
		"unix:///run/docker.sock":                          "invalid_scheme",
		"https://a:b@partner.example/":                     "url_userinfo",
		"https://a@partner.example/":                       "url_userinfo",
		"https://@partner.example/":                        "url_userinfo",
		"https://partner.example@127.0.0.1/":               "url_userinfo",
		"https://partner.example/#top":                     "url_fragment",
		"https://partner.example/#":                        "url_fragment",
		"https://partner.example#@127.0.0.1/":              "url_fragment",
		"https://":                                         "invalid_host",
		"https://partner\xfb.example/":                     "invalid_url",
		"https:///path":                                    "invalid_host",
		"https://:443/":                                    "invalid_host",
		"https://partner.example./":                        "invalid_host",
		"https://.partner.example/":                        "invalid_host",
		"https://partner..example/":                        "invalid_host",
		"https://partner。。example/":                        "invalid_host",
		"https://-partner.example/":                        "invalid_host",
		"https://partner-.example/":                        "invalid_host",
		"https://part!ner.example/":                        "invalid_host",
		"https://partner.example,other.example/":           "invalid_host",
		"https://" + strings.Repeat("a", 64) + ".example/": "invalid_host",
		"https://" + strings.Repeat("a.", 126) + "aa/":     "invalid_host",
		"https://xn--zzzzzz999999999/":                     "invalid_host",
		"https://part\u200bner\u2028.example/":             "invalid_host",
		"https://127.1/":                                   "invalid_host",
		"https://2130706433/":                              "invalid_host",
		"https://0177.0.0.1/":                              "invalid_host",
		"https://0x7f000001/":                              "invalid_host",
		"https://0X7F000001/":                              "invalid_host",
		"https://0x7f.0.0.0x1/":                            "invalid_host",
		"https://0/":                                       "invalid_host",
		"https://0x/":                                      "invalid_host",
		"https://1.2.3.4.5/":                               "invalid_host",
		"https://256.1.1.1/":                               "invalid_host",
		"https://partner.123/":                             "invalid_host",
		"https://127.0.0.1./":                              "invalid_host",
		"https://１２７.０.０.１/":                               "invalid_host",
		"https://①②⑦.⓪.⓪.①/":                               "invalid_host",
		"https://١٢٧.٠.٠.١/":                               "invalid_host",
		"https://127。0。0。1/":                               "invalid_host",
		"https://%31%32%37.0.0.1/":                         "invalid_host",
		"https://partner.ex%61mple/":                       "invalid_host",
		"https://%E2%84%AA.example/":                       "invalid_host",
		"https://[fe80::1%25lo]/":                          "invalid_host",
		"https://[fe80::1%lo]/":                            "invalid_host",
		"https://[::1/":                                    "invalid_host",
		"https://::1/":                                     "invalid_host",
		"https://[127.0.0.1]/":                             "invalid_host",
		"https://[partner.example]/":                       "invalid_host",
		"https://[2606:4700:0::1111]/":                     "invalid_host",
		"https://[2606:4700::ABCD]/":                       "invalid_host",
		"https://x[::1]/":                                  "invalid_host",
		"https://[::1]x/":                                  "invalid_host",
		"https://partner.example:/":                        "invalid_port",
		"https://partner.example:0/":                       "invalid_port",
		"https://partner.example:00443/":                   "invalid_port",
		"https://partner.example:65536/":                   "invalid_port",
		"https://partner.example:99999/":                   "invalid_port",
		"https://partner.example:443x/":                    "invalid_port",
		"https://partner.example:+443/":                    "invalid_port",
		"https://partner.example:-1/":                      "invalid_port",
		"https://partner.example:４４３/":                     "invalid_port",
		"https://partner.example:22/":                      "port_not_allowed",
		"https://partner.example:1023/":                    "port_not_allowed",
		"https://partner.example:1024/":                    "",
		"https://partner.example:65535/":                   "",
		"https://127.0.0.1/":                               "blocked_address",
		"https://0.0.0.0/":                                 "blocked_address",
		"https://169.254.169.254/latest/meta-data/":        "blocked_address",
		"https://10.9.9.9:8443/":                           "blocked_address",
		"https://[::1]/":                                   "blocked_address",
		"https://[::]/":                                    "blocked_address",
		"https://[::ffff:169.254.169.254]/":                "blocked_address",
		"https://[fd00:ec2::254]/":                         "blocked_address",
		"http://93.184.216.34:8080/":                       "blocked_address",
		"https://[64:ff9b::7f00:1]/":                       "blocked_address",
	} {
		err := c.CheckURL("url", raw)
		if code == "" {
			if err != nil {
				t.Errorf("%q: got %v, want it accepted", raw, err)
			}
			continue
		}
		e, ok := errors.AsType[*postrider.Error](err)
		if !ok {
			t.Errorf("%q: got %v, want code %q", raw, err, code)
			continue
		}
		if e.Code != code || e.Field != "url" || e.Kind != postrider.Invalid || e.Detail == "" {
			t.Errorf("%q: got %+v, want code %q", raw, e, code)
		}
	}
}

func TestCheckURL_HTTPSOnlyRefusesHTTP(t *testing.T) {
	c := newClient(t, Options{Policy: Policy{HTTPSOnly: true}})
	e, ok := errors.AsType[*postrider.Error](c.CheckURL("url", "http://partner.example/"))
	if !ok || e.Code != "https_required" {
		t.Errorf("got %+v, want https_required", e)
	}
	if err := c.CheckURL("url", "https://partner.example/"); err != nil {
		t.Errorf("got %v", err)
	}
	if out := c.Send(t.Context(), post("http://partner.example/")); out.Failure != postrider.FailUnsendable {
		t.Errorf("a stored http URL: got %q, want unsendable", out.Failure)
	}
}

// The host of a URL that has been accepted is what is dialled and what stands
// in the Host header.
func TestParseURL_WritesTheHostInASCII(t *testing.T) {
	g := newGuard(Policy{}, nil)
	for raw, host := range map[string]string{
		"https://Bücher.Example:8443/ä?": "",
		"https://Bücher.Example:8443/a":  "xn--bcher-kva.example:8443",
		"https://ＰＡＲＴＮＥＲ。example":        "partner.example",
		"https://faß.example/":           "xn--fa-hia.example",
		"http://[::1]:8080/":             "[::1]:8080",
	} {
		u, fault := g.parseURL(raw)
		switch {
		case host == "" && fault == nil:
			t.Errorf("%q: got %q, want it refused", raw, u.Host)
		case host != "" && (fault != nil || u.Host != host):
			t.Errorf("%q: got %v, %v, want host %q", raw, u, fault, host)
		}
	}
}

func TestURLCache_IsBoundedAndHoldsGoodURLsOnly(t *testing.T) {
	g := newGuard(Policy{}, nil)
	var cache urlCache
	for i := range 2*maxCachedURLs + 10 {
		if _, fault := cache.parse(g, fmt.Sprintf("https://partner.example/%d", i)); fault != nil {
			t.Fatal(fault)
		}
		if _, fault := cache.parse(g, fmt.Sprintf("https://partner.example:0/%d", i)); fault == nil {
			t.Fatal("a bad URL was accepted")
		}
		if n := len(cache.urls); n > maxCachedURLs {
			t.Fatalf("got %d URLs in the cache, want at most %d", n, maxCachedURLs)
		}
	}
	first, _ := cache.parse(g, "https://partner.example/again")
	if second, _ := cache.parse(g, "https://partner.example/again"); first != second {
		t.Error("the same URL was parsed twice")
	}
}

// Whatever is accepted makes one clean request line and one host that cannot
// be taken for another.
func FuzzCheckURL(f *testing.F) {
	for _, seed := range []string{
		"https://partner.example/hooks?a=b", "http://7e9ea9dc.ngrok.io", "https://a:b@h/", "https://h/#f", "https://127.1/",
		"https://2130706433/", "https://0x7f000001/", "https://[fe80::1%25lo]/", "https://[::ffff:10.0.0.1]:8443/",
		"https://１２７.０.０.１/", "https://h:０８０/", "https://h:99999/", "https://h./", "https://%31/", "https://ﬀ.example/", "https://K.example",
		"https://h/?a b", "https://h\\@x/", "https://h/\r\nX: y", "//h/", "https:///", "https://[::1", "https://xn--/", "https://h/%",
		"https://h?@127.0.0.1", "https://h/..;/", "https://h:443:80/", "https://\u00ad.example/", "https://a\u0300.example/",
	} {
		f.Add(seed)
	}
	c := New(Options{})
	f.Fuzz(func(t *testing.T, raw string) {
		err := c.CheckURL("url", raw)
		if err != nil {
			e, ok := errors.AsType[*postrider.Error](err)
			if !ok || e.Code == "" || e.Detail == "" {
				t.Fatalf("%q: got %#v, want an error for the user", raw, err)
			}
			return
		}
		u, fault := c.current.Load().guard.parseURL(raw)
		if fault != nil {
			t.Fatalf("%q: accepted and then refused: %v", raw, fault.code)
		}
		if u.User != nil || u.Fragment != "" || u.Opaque != "" || u.Scheme != "http" && u.Scheme != "https" {
			t.Fatalf("%q became %#v", raw, u)
		}
		if target := u.RequestURI(); !strings.HasPrefix(target, "/") || strings.ContainsFunc(target, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			t.Fatalf("%q has the request target %q", raw, target)
		}
		again, fault := c.current.Load().guard.parseURL(u.String())
		if fault != nil || again.Host != u.Host {
			t.Fatalf("%q became %q, which is read as %v (%v)", raw, u, again, fault)
		}
		host := u.Hostname()
		if ip, err := netip.ParseAddr(host); err == nil {
			if ip.String() != host || newGuard(Policy{}, nil).judge(netip.AddrPortFrom(ip, 443), false) != "" {
				t.Fatalf("%q: the address %v was accepted", raw, ip)
			}
			return
		}
		if net.ParseIP(host) != nil || host != strings.ToLower(host) || strings.HasSuffix(host, ".") || !strings.ContainsFunc(host, isLetter) {
			t.Fatalf("%q: the host %q was accepted", raw, host)
		}
		if _, err := http.NewRequestWithContext(t.Context(), http.MethodPost, u.String(), http.NoBody); err != nil {
			t.Fatalf("%q: net/http refuses what became of it: %v", raw, err)
		}
		if parsed, err := url.Parse(raw); err == nil && !strings.EqualFold(parsed.Scheme, u.Scheme) {
			t.Fatalf("%q: net/url reads the scheme %q, we %q", raw, parsed.Scheme, u.Scheme)
		}
	})
}
