package egress

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"

	"postrider"
)

// netHTTPHead is what net/http writes before the body of the same request.
func netHTTPHead(t *testing.T, to *target, header http.Header, length int) string {
	t.Helper()
	header = maps.Clone(header)
	if _, found := header["User-Agent"]; !found {
		header["User-Agent"] = nil // or net/http would name itself
	}
	req := http.Request{
		Method: http.MethodPost, URL: to.url, Header: header,
		Body: io.NopCloser(strings.NewReader(strings.Repeat("x", length))), ContentLength: int64(length),
	}
	if length == 0 {
		req.Body = http.NoBody
	}
	var wire bytes.Buffer
	if err := req.Write(&wire); err != nil {
		t.Fatal(err)
	}
	return wire.String()[:wire.Len()-length]
}

// Whatever the URL and the headers, the head is net/http's to the byte, or
// nothing is sent.
func FuzzAppendHead(f *testing.F) {
	f.Add("https://partner.example/hook?a=b%20c&d", "User-Agent", "Clubmed-Hookshot/1.0", "x-lower", "a", 512)
	f.Add("http://[2606:2800:220:1::34]:8080", "user-agent", " spaced\t", "X-UPPER", "", 0)
	f.Add("http://Bücher.example:8080//a/../%2F;x=[]?", "User-Agent", "", "X-A", "a\r\nX: b", 1)
	f.Add("https://partner.example?q", "X-A\r\nX", "b", "Content-Length", "3", 3)
	f.Add("https://partner.example/%zz", "Trailer", "b", "tE", "trailers", 3)
	f.Add("https://partner.example/\x7f", "", "é\xff", "X\x00", "b", 3)
	f.Fuzz(func(t *testing.T, raw, name, value, name2, value2 string, length int) {
		g := newGuard(Policy{}, nil)
		u, fault := g.parseURL(raw)
		if fault != nil || length < 0 || length > 1<<20 {
			return
		}
		to := newTarget(u)
		header := http.Header{name: {value, "more"}}
		header[name2] = append(header[name2], value2)
		head, failure := to.appendHead(nil, postrider.SortedHeader(header), length)
		if failure != nil {
			for n, values := range header {
				fine := httpguts.ValidHeaderFieldName(n)
				for _, reserved := range connectionHeaders {
					fine = fine && !strings.EqualFold(n, reserved)
				}
				for _, v := range values {
					fine = fine && httpguts.ValidHeaderFieldValue(v)
				}
				if !fine {
					return
				}
			}
			t.Fatalf("%q: refused although nothing is wrong: %s", header, failure.detail)
		}
		if want := netHTTPHead(t, to, header, length); string(head) != want {
			t.Errorf("got %q, want net/http's %q", head, want)
		}
		if n := bytes.Count(head, []byte("\r\n\r\n")); n != 1 || !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
			t.Errorf("%q ends in more than one place", head)
		}
	})
}

func TestAppendHead_WritesADeliveryAsNetHTTPDoes(t *testing.T) {
	u, _ := newGuard(Policy{}, nil).parseURL("https://partner.example:8443/hooks?x=1")
	to := newTarget(u)
	few := benchHeader.Map()
	many := maps.Clone(few)
	for i := range 40 {
		many["X-Own-"+strings.Repeat("a", i)] = []string{"1", " 2 ", ""}
	}
	for _, header := range []http.Header{few, many, {}} {
		head, f := to.appendHead([]byte("before "), postrider.SortedHeader(header), 512)
		if f != nil {
			t.Fatal(f)
		}
		if want := "before " + netHTTPHead(t, to, header, 512); string(head) != want {
			t.Errorf("got %q, want %q", head, want)
		}
	}
}

func TestNewTarget_ConnectionsAreOfOneSchemeHostAndPort(t *testing.T) {
	keys := map[string]string{}
	for raw, same := range map[string]string{
		"https://partner.example/a":      "https://PARTNER.example:443/b?c",
		"http://partner.example/a":       "http://partner.example:80",
		"https://partner.example:8443/":  "https://partner.example:8443/x",
		"http://partner.example:8443/":   "http://partner.example:8443",
		"https://[2606:2800:220:1::34]/": "https://[2606:2800:220:1::34]:443",
		"https://other.example/":         "https://Other.example",
	} {
		var pair [2]string
		for i, raw := range []string{raw, same} {
			u, fault := newGuard(Policy{}, nil).parseURL(raw)
			if fault != nil {
				t.Fatalf("%s: %s", raw, fault.detail)
			}
			pair[i] = newTarget(u).key
		}
		if pair[0] != pair[1] {
			t.Errorf("%s and %s: got %s and %s, want one key", raw, same, pair[0], pair[1])
		}
		if other, taken := keys[pair[0]]; taken {
			t.Errorf("%s shares its connections with %s", raw, other)
		}
		keys[pair[0]] = raw
	}
}
