package ingress

import (
	"bytes"
	"net/http"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// maxPlainBody bounds the body of a plain request: what its reader leaves of it is
// read to the end.
const maxPlainBody = 64 << 10

var headEnd = []byte("\r\n\r\n")

// readHead takes the head of a plain request from the beginning of b, and returns
// its length; 0: this is none, or not all of one. A plain head has one of the
// request lines, one Host and one length, and nothing that bears on how the
// message is read or on what becomes of the connection. What net/http would
// refuse is none, nor is much that it would take; a plain one says to both the
// same (FuzzReadHead).
func (c *conn) readHead(b []byte) (length int) {
	end := bytes.Index(b, headEnd)
	if end < 0 {
		return 0
	}
	line, rest, _ := strings.Cut(string(b[:end+len("\r\n")]), "\r\n")
	target := c.server.targets[line]
	if target == nil {
		return 0
	}
	clear(c.header)
	c.values = c.values[:0]
	host, size := "", -1
	for rest != "" {
		line, rest, _ = strings.Cut(rest, "\r\n")
		name, value, found := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !found || !plainName(name) || !plainValue(value) {
			return 0
		}
		switch name = textproto.CanonicalMIMEHeaderKey(name); name {
		case "Host":
			if host != "" || value == "" || !httpguts.ValidHostHeader(value) {
				return 0
			}
			host = value
			continue // as net/http has it
		case "Content-Length":
			if size >= 0 {
				return 0
			}
			if size = plainLength(value); size < 0 {
				return 0
			}
		case "Connection":
			if !strings.EqualFold(value, "keep-alive") {
				return 0
			}
		case "Transfer-Encoding", "Expect", "Upgrade", "Trailer", "Te", "Pragma":
			return 0
		}
		c.add(name, value)
	}
	if host == "" || size < 0 {
		return 0
	}
	c.request = http.Request{
		Method: http.MethodPost, URL: target, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: c.header,
		Body: &c.body, ContentLength: int64(size), Host: host, RemoteAddr: c.remote, RequestURI: target.Path,
	}
	c.body = body{conn: c, left: size}
	return end + len(headEnd)
}

// add keeps the values of most headers in one array.
func (c *conn) add(name, value string) {
	if values, found := c.header[name]; found {
		c.header[name] = append(values, value)
		return
	}
	c.values = append(c.values, value)
	n := len(c.values)
	c.header[name] = c.values[n-1 : n : n]
}

func plainName(name string) bool {
	for i := range len(name) {
		if b := name[i] | 0x20; (b < 'a' || b > 'z') && (name[i] < '0' || name[i] > '9') && name[i] != '-' {
			return false
		}
	}
	return name != ""
}

func plainValue(value string) bool {
	for i := range len(value) {
		if value[i] < ' ' || value[i] > '~' {
			return false
		}
	}
	return true
}

// plainLength is -1 for what is no plain length.
func plainLength(digits string) (n int) {
	if digits == "" || len(digits) > len("65536") {
		return -1
	}
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return -1
		}
		n = n*10 + int(digits[i]-'0')
	}
	if n > maxPlainBody {
		return -1
	}
	return n
}
