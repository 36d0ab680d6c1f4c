package egress

import (
	"fmt"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"postrider"
)

// A target is what a URL means to a sender: where to connect, and how every
// request to it begins. It is made once for a URL, and immutable.
type target struct {
	url    *url.URL
	secure bool
	host   string // without brackets
	port   uint16
	key    string // of the connections that may serve it
	start  string // the request line and the header Host
}

func newTarget(u *url.URL) *target {
	t := &target{url: u, secure: u.Scheme == "https", host: u.Hostname(), port: portOfURL(u)}
	t.key = u.Scheme + "://" + t.host + ":" + strconv.Itoa(int(t.port))
	t.start = "POST " + u.RequestURI() + " HTTP/1.1\r\nHost: " + u.Host + "\r\n"
	return t
}

// appendHead appends all of a request but its body: the bytes that net/http
// would write for it, except that one without a User-Agent gets none. It checks
// each name and value, since what gets past it is on the wire.
func (t *target) appendHead(b []byte, header postrider.Header, length int) ([]byte, *failure) {
	if header == nil {
		return b, unsendable("it has no headers")
	}
	b = append(b, t.start...)
	if i := slices.IndexFunc(header, isUserAgent); i >= 0 && header[i].Value != "" {
		b = appendField(b, "User-Agent", header[i].Value)
	}
	b = append(b, "Content-Length: "...)
	b = append(strconv.AppendInt(b, int64(length), 10), "\r\n"...)
	for i := range header {
		field := &header[i]
		if f := checkHeader(field.Name, field.Value); f != nil {
			return b, f
		}
		if !isUserAgent(*field) {
			b = appendField(b, field.Name, field.Value)
		}
	}
	return append(b, "\r\n"...), nil
}

// isUserAgent is for the one header that stands before the others.
func isUserAgent(f postrider.HeaderField) bool { return f.Name == "User-Agent" }

func appendField(b []byte, name, value string) []byte {
	b = append(append(b, name...), ": "...)
	return append(append(b, textproto.TrimString(value)...), "\r\n"...)
}

func checkHeader(name, value string) *failure {
	for _, reserved := range connectionHeaders {
		if len(name) == len(reserved) && strings.EqualFold(name, reserved) {
			return &failure{postrider.FailUnsendable, "The header " + strconv.Quote(name) + " cannot be set: it belongs to the connection."}
		}
	}
	if !httpguts.ValidHeaderFieldName(name) {
		return unsendable(fmt.Sprintf("invalid header field name %q", name))
	}
	if !httpguts.ValidHeaderFieldValue(value) {
		return unsendable(fmt.Sprintf("invalid header field value for %q", name)) // the value may be a secret
	}
	return nil
}

func unsendable(reason string) *failure {
	return &failure{postrider.FailUnsendable, "The request cannot be sent: " + printable(reason) + "."}
}

// connectionHeaders would change what the request is rather than what it says.
// Webhooks cannot have them; a stored one that does must not reach the wire,
// where a second Host or length is a smuggled request.
var connectionHeaders = [...]string{
	"Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Upgrade", "Trailer", "TE", "Expect", "Accept-Encoding",
}
