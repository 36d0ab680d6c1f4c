package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"postrider"
)

// A failure is why an attempt did not succeed: the code, and a sentence for
// the partner. It is an error only on its way out of a dial.
//
// No sentence holds an address that was refused, or the text of a resolver's
// or dialer's error, which names addresses of the provider's own network.
type failure struct {
	code   postrider.FailureCode
	detail string
}

func (f *failure) Error() string { return f.detail }

func failed(f *failure) postrider.Outcome {
	return postrider.Outcome{Failure: f.code, Detail: f.detail}
}

func blockedDetail(rule string) string {
	return "The host's address is not allowed (" + rule + "). Use a host that is reachable on the public internet."
}

// failure of a dial, before the handshake.
func (d *dialing) failure(host string, err error) *failure {
	d.mu.Lock()
	rule := d.refused
	d.mu.Unlock()
	if rule != "" {
		return &failure{postrider.FailBlocked, blockedDetail(rule)}
	}
	return dialFailure(host, err)
}

func dialFailure(host string, err error) *failure {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return lookupFailure(host, dns.IsTimeout, dns.IsNotFound)
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return &failure{
			postrider.FailConnectRefused,
			"The connection to " + host + " was refused: nothing listens at that port. Start the receiver, or correct the port of the URL.",
		}
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return connectTimeoutFailure(host)
	}
	if isCut(err) {
		return resetFailure() // accepted, and reset before connect returned
	}
	reason := "the network gave an error"
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		reason = errno.Error()
	}
	return &failure{
		postrider.FailConnect,
		"No connection to " + host + " could be made: " + reason + ". Check the host's address and its network.",
	}
}

func lookupFailure(host string, timeout, notFound bool) *failure {
	switch {
	case timeout:
		return &failure{postrider.FailDNS, "The DNS lookup of " + host + " took too long. Check the name servers of its domain."}
	case notFound:
		return &failure{postrider.FailDNS, "The host name " + host + " does not exist, or has no address. Check the URL and the name's DNS records."}
	}
	return &failure{postrider.FailDNS, "The DNS lookup of " + host + " failed. Check the name servers of its domain."}
}

func connectTimeoutFailure(host string) *failure {
	return &failure{
		postrider.FailConnectTimeout,
		"The connection to " + host + " was not accepted in time. Check that the receiver runs and that no firewall drops the packets.",
	}
}

// handshakeFailure tells the certificate's faults apart, since each has
// another remedy.
func handshakeFailure(host string, err error) *failure {
	if name, ok := errors.AsType[x509.HostnameError](err); ok {
		return &failure{
			postrider.FailTLSHostname,
			"The certificate is not for " + host + " but for " + certificateNames(name.Certificate) + ". Install one for the URL's host, or correct the URL.",
		}
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if invalid.Reason == x509.Expired {
			return expiredFailure(invalid.Cert)
		}
		return &failure{
			postrider.FailTLSUntrusted,
			"The certificate chain is not valid: " + printable(invalid.Error()) + ". Install a certificate of a public authority, with its whole chain.",
		}
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return &failure{
			postrider.FailTLSUntrusted,
			"The certificate is not from a known authority. Install one of a public authority, and let the receiver send the whole chain; a self-signed one works only with insecure_ssl.",
		}
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return &failure{
			postrider.FailTLSUntrusted,
			"The certificate could not be verified. Install one of a public authority, and let the receiver send the whole chain.",
		}
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return &failure{postrider.FailTLS, "The port does not speak TLS. Use the port that does, or an http:// URL."}
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && isAlert(op) {
		return &failure{
			postrider.FailTLS,
			"The TLS handshake with " + host + " failed (" + printable(op.Err.Error()) + "). The receiver must speak TLS 1.2 or later and need no client certificate.",
		}
	}
	if timeout, ok := errors.AsType[net.Error](err); errors.Is(err, context.DeadlineExceeded) || ok && timeout.Timeout() {
		return handshakeTimeoutFailure(host)
	}
	if isCut(err) {
		return &failure{
			postrider.FailTLS,
			"The connection to " + host + " was closed in the TLS handshake. Check that the port speaks TLS 1.2 or later for this host name.",
		}
	}
	return &failure{
		postrider.FailTLS,
		"The TLS handshake with " + host + " failed (" + printable(strings.TrimPrefix(err.Error(), "tls: ")) + "). The receiver must speak TLS 1.2 or later.",
	}
}

func handshakeTimeoutFailure(host string) *failure {
	return &failure{postrider.FailTimeout, "The TLS handshake with " + host + " took too long. Check the receiver's load and its TLS settings."}
}

func certificateNames(cert *x509.Certificate) string {
	switch {
	case cert == nil:
		return "another host"
	case len(cert.DNSNames) > 0:
		return printable(strings.Join(cert.DNSNames, ", "))
	case len(cert.IPAddresses) > 0:
		return cert.IPAddresses[0].String()
	}
	return "no host at all"
}

func expiredFailure(cert *x509.Certificate) *failure {
	if cert != nil && time.Now().Before(cert.NotBefore) {
		return &failure{
			postrider.FailTLSExpired,
			"The certificate is valid only from " + cert.NotBefore.UTC().Format(time.DateTime) + " UTC. Install one that is valid now.",
		}
	}
	detail := "The certificate has expired. Renew it."
	if cert != nil {
		detail = "The certificate expired at " + cert.NotAfter.UTC().Format(time.DateTime) + " UTC. Renew it."
	}
	return &failure{postrider.FailTLSExpired, detail}
}

// isAlert reports whether crypto/tls sent or got an alert. The alert's own
// type is not exported.
func isAlert(op *net.OpError) bool { return op.Op == "remote error" || op.Op == "local error" }

// isCut reports whether the other side ended the connection.
func isCut(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// failure of an attempt that got no response.
func (a *attempt) failure(ctx context.Context, err error, host string, timeout time.Duration) *failure {
	if ctx.Err() != nil {
		if errors.Is(context.Cause(ctx), context.Canceled) {
			return &failure{postrider.FailCancelled, "The attempt was given up before the receiver answered."}
		}
		return a.timeoutFailure(host, timeout)
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if a.conn.err != nil {
		err = a.conn.err // net/http takes the beginning of a header for a malformed one
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && isAlert(op) {
		return handshakeFailure(host, err) // TLS 1.3: a refused client certificate shows with the first read
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return a.timeoutFailure(host, timeout)
	case errors.Is(err, errHeaders):
		return &failure{postrider.FailTooLarge, "The receiver's response headers are larger than 64 KiB. Answer with a short response."}
	case isCut(err):
		return resetFailure()
	}
	reason := strings.TrimPrefix(err.Error(), "net/http: ")
	return &failure{postrider.FailProtocol, "The receiver's answer is not valid HTTP/1.1 (" + printable(reason) + "). Check that the port is that of a web server."}
}

func resetFailure() *failure {
	return &failure{postrider.FailReset, "The receiver closed the connection before it had answered. Look for a crash or a limit in the receiver's log."}
}

// timeoutFailure says where the attempt was when its time was up.
func (a *attempt) timeoutFailure(host string, timeout time.Duration) *failure {
	if a.conn == nil && a.dialing != nil {
		switch a.dialing.snapshot().step {
		case stepLookup:
			return lookupFailure(host, true, false)
		case stepConnect:
			return connectTimeoutFailure(host)
		case stepHandshake:
			return handshakeTimeoutFailure(host)
		case stepNone:
		}
	}
	return &failure{
		postrider.FailTimeout,
		"The receiver did not answer within " + timeout.String() + ". Answer with a 2xx at once, and do the work afterwards.",
	}
}

// verdict on a response: nil when the attempt succeeded.
func (a *attempt) verdict(resp *http.Response) *failure {
	code := resp.StatusCode
	switch {
	case resp.ProtoMajor != 1:
		return &failure{postrider.FailProtocol, "The receiver answered in " + printable(resp.Proto) + " to a request in HTTP/1.1."}
	case a.exchange.answered.Load() == 0:
		// What answered was left over from the response before. Taken for the
		// answer, it would settle a delivery that nobody has looked at.
		return &failure{postrider.FailProtocol, "The receiver answered before it got the request. It sends more than one response per request, or a wrong Content-Length."}
	case code >= 200 && code <= 299:
		return nil
	case code >= 300 && code <= 399:
		return redirectFailure(resp)
	case code >= 400 && code <= 499:
		return &failure{postrider.FailHTTP4xx, "The receiver answered " + statusLine(code) + ". " + advice(code)}
	case code >= 500 && code <= 599:
		return &failure{postrider.FailHTTP5xx, "The receiver answered " + statusLine(code) + ". Look for the reason in the receiver's log."}
	}
	return &failure{postrider.FailProtocol, "The receiver answered with the status " + strconv.Itoa(code) + ", which ends no request. Answer with a 2xx."}
}

func redirectFailure(resp *http.Response) *failure {
	location := resp.Header.Get("Location")
	if location == "" {
		return &failure{postrider.FailRedirect, "The receiver answered " + statusLine(resp.StatusCode) + ". Redirects are not followed: answer with a 2xx."}
	}
	return &failure{postrider.FailRedirect, fmt.Sprintf(
		"The receiver redirects to %s (%s). Redirects are not followed: set the webhook's URL to the final address.", printable(location), statusLine(resp.StatusCode))}
}

func statusLine(code int) string {
	if text := http.StatusText(code); text != "" {
		return strconv.Itoa(code) + " " + text
	}
	return strconv.Itoa(code)
}

func advice(code int) string {
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden:
		return "Check the signature's secret and the credentials in the webhook's headers."
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return "Check that the webhook's URL takes a POST."
	case http.StatusGone:
		return "It asks for no more deliveries."
	case http.StatusRequestEntityTooLarge:
		return "Raise the receiver's limit for request bodies."
	case http.StatusUnsupportedMediaType:
		return "Check the webhook's content type."
	case http.StatusTooManyRequests:
		return "It asks for fewer requests: lower the webhook's rate, or raise the receiver's limit."
	}
	return "Look for the reason in the receiver's log."
}

// printable shows what a receiver sent inside a sentence: one line, no control
// or invisible characters, at most 200 bytes.
func printable(s string) string {
	const limit = 200
	cut := len(s) > limit
	if cut {
		s = s[:limit]
		for !utf8.ValidString(s) && len(s) > limit-utf8.UTFMax {
			s = s[:len(s)-1]
		}
	}
	s = strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) || r == utf8.RuneError {
			return '.'
		}
		return r
	}, s)
	if cut {
		s += "…"
	}
	return s
}
