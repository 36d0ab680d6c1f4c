package egress

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"postrider"
)

// An authority signs what the tests need.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(tb testing.TB, name string, parent *authority) *authority {
	tb.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, key := sign(tb, template, parent)
	return &authority{cert, key}
}

// sign makes a certificate; without a parent it signs itself.
func sign(tb testing.TB, template *x509.Certificate, parent *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	issuer, issuerKey := template, key
	if parent != nil {
		issuer, issuerKey = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, issuerKey)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert, key
}

// leaf is a server's certificate for hook.test, edited, and the chain above it.
func (a *authority) leaf(tb testing.TB, edit func(*x509.Certificate), chain ...*authority) tls.Certificate {
	tb.Helper()
	template := &x509.Certificate{
		DNSNames: []string{"hook.test"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if edit != nil {
		edit(template)
	}
	cert, key := sign(tb, template, a)
	whole := tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
	for _, above := range chain {
		whole.Certificate = append(whole.Certificate, above.cert.Raw)
	}
	return whole
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// serveTLS answers 200 over TLS, and returns the URL of hook.test at its port.
func serveTLS(tb testing.TB, config *tls.Config) string {
	tb.Helper()
	receiver := httptest.NewUnstartedServer(http.HandlerFunc(ok))
	receiver.Config.ErrorLog = log.New(io.Discard, "", 0)
	receiver.TLS = config
	receiver.StartTLS()
	tb.Cleanup(receiver.Close)
	return "https://hook.test:" + portOf(receiver.Listener) + "/"
}

func tlsClient(tb testing.TB, trusted *authority) *Client {
	tb.Helper()
	return newClient(tb, Options{Policy: loopback, RootCAs: trusted.pool(), Resolver: serveDNS(tb, always("127.0.0.1"))})
}

func TestSend_TellsTLSFailuresApart(t *testing.T) {
	root := newAuthority(t, "root", nil)
	middle := newAuthority(t, "middle", root)
	stranger := newAuthority(t, "stranger", nil)
	// Signed by a certificate that may not sign.
	notCA, notCAKey := sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "leaf"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}, root)
	usurper := &authority{notCA, notCAKey}
	good := root.leaf(t, nil)
	c := tlsClient(t, root)

	for _, tt := range []struct {
		name     string
		config   *tls.Config
		want     postrider.FailureCode
		detail   string
		insecure postrider.FailureCode // with insecure_ssl
	}{
		{"good", &tls.Config{Certificates: []tls.Certificate{good}}, "", "", ""},
		{"good with a chain", &tls.Config{Certificates: []tls.Certificate{middle.leaf(t, nil, middle)}}, "", "", ""},
		{"TLS 1.2", &tls.Config{Certificates: []tls.Certificate{good}, MaxVersion: tls.VersionTLS12}, "", "", ""},
		{"expired", &tls.Config{Certificates: []tls.Certificate{root.leaf(t, func(c *x509.Certificate) {
			c.NotAfter = time.Now().Add(-time.Minute)
		})}}, postrider.FailTLSExpired, "expired at", ""},
		{"not yet valid", &tls.Config{Certificates: []tls.Certificate{root.leaf(t, func(c *x509.Certificate) {
			c.NotBefore = time.Now().Add(time.Minute)
		})}}, postrider.FailTLSExpired, "valid only from", ""},
		{"another host", &tls.Config{Certificates: []tls.Certificate{root.leaf(t, func(c *x509.Certificate) {
			c.DNSNames = []string{"other.test"}
		})}}, postrider.FailTLSHostname, "but for other.test", ""},
		{"self-signed", &tls.Config{Certificates: []tls.Certificate{(*authority)(nil).leaf(t, nil)}}, postrider.FailTLSUntrusted, "insecure_ssl", ""},
		{"a stranger's", &tls.Config{Certificates: []tls.Certificate{stranger.leaf(t, nil, stranger)}}, postrider.FailTLSUntrusted, "whole chain", ""},
		{"a link of the chain missing", &tls.Config{Certificates: []tls.Certificate{middle.leaf(t, nil)}}, postrider.FailTLSUntrusted, "whole chain", ""},
		{"signed by no authority", &tls.Config{Certificates: []tls.Certificate{usurper.leaf(t, nil, usurper)}}, postrider.FailTLSUntrusted, "", ""},
		{"not for servers", &tls.Config{Certificates: []tls.Certificate{root.leaf(t, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		})}}, postrider.FailTLSUntrusted, "chain is not valid", ""},
		{
			"TLS 1.1", &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
			postrider.FailTLS, "TLS 1.2 or later", postrider.FailTLS,
		},
		{
			"a client certificate wanted", &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert},
			postrider.FailTLS, "client certificate", postrider.FailTLS,
		},
		{
			"a client certificate wanted in TLS 1.2", &tls.Config{
				Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12,
			},
			postrider.FailTLS, "client certificate", postrider.FailTLS,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url := serveTLS(t, tt.config)
			out := c.Send(t.Context(), post(url))
			if out.Failure != tt.want || !strings.Contains(out.Detail, tt.detail) {
				t.Errorf("got %q (%s), want %q (…%s…)", out.Failure, out.Detail, tt.want, tt.detail)
			}
			r := post(url)
			r.InsecureSSL = true
			if out := c.Send(t.Context(), r); out.Failure != tt.insecure {
				t.Errorf("with insecure_ssl: got %q (%s), want %q", out.Failure, out.Detail, tt.insecure)
			}
		})
	}
}

func TestSend_AHandshakeThatCannotBeIsExplained(t *testing.T) {
	c := tlsClient(t, newAuthority(t, "root", nil))
	for _, tt := range []struct {
		name string
		play func(ctx context.Context, c *net.TCPConn)
		want postrider.FailureCode
		says string
	}{
		{"plain HTTP", func(_ context.Context, c *net.TCPConn) { say(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, postrider.FailTLS, "does not speak TLS"},
		{"hangs", func(ctx context.Context, _ *net.TCPConn) { <-ctx.Done() }, postrider.FailTimeout, "handshake"},
		{"closes", func(_ context.Context, c *net.TCPConn) { readSome(c) }, postrider.FailTLS, "closed in the TLS handshake"},
		{"resets", func(_ context.Context, c *net.TCPConn) { readSome(c); reset(c) }, postrider.FailTLS, "closed in the TLS handshake"},
		{"garbage", func(_ context.Context, c *net.TCPConn) { say(c, "\x16\x03\x03\x00\x04abcd") }, postrider.FailTLS, "TLS handshake"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := strings.Replace(script(t, tt.play), "http://127.0.0.1", "https://hook.test", 1)
			r := post(url)
			if tt.want == postrider.FailTimeout {
				r = fast(url)
			}
			out := c.Send(t.Context(), r)
			if out.Failure != tt.want || !strings.Contains(out.Detail, tt.says) || out.RemoteIP != "127.0.0.1" {
				t.Errorf("got %q (%s) at %q, want %q (…%s…)", out.Failure, out.Detail, out.RemoteIP, tt.want, tt.says)
			}
		})
	}
}

// A lane's budget is of attempts: what an attempt leaves open is not in it.
func TestSend_LeavesNoConnectionBehindThatCannotBeUsed(t *testing.T) {
	c := tlsClient(t, newAuthority(t, "root", nil))
	for _, tt := range []struct{ name, scheme, response string }{
		{"hangs in the handshake", "https", ""},
		{"hangs", "http", ""},
		{"switches protocols", "http", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"},
		{"never ends its body", "http", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nab"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			left := make(chan struct{})
			url := script(t, func(_ context.Context, conn *net.TCPConn) {
				readSome(conn)
				say(conn, tt.response)
				drain(conn)
				close(left)
			})
			c.Send(t.Context(), fast(strings.Replace(url, "http", tt.scheme, 1)))
			select {
			case <-left:
			case <-time.After(3 * time.Second):
				t.Error("the connection is still open")
			}
		})
	}
}

func TestSend_NamesTheHostAndTimesTheHandshake(t *testing.T) {
	root := newAuthority(t, "root", nil)
	var names sync.Map
	leaf := root.leaf(t, func(c *x509.Certificate) {
		c.DNSNames = []string{"hook.test", "xn--bcher-kva.test"}
		c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	})
	url := serveTLS(t, &tls.Config{
		Certificates: []tls.Certificate{leaf},
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			names.Store(hello.ServerName, true)
			return nil, nil
		},
	})
	c := tlsClient(t, root)
	for host, name := range map[string]string{"hook.test": "hook.test", "Bücher.test": "xn--bcher-kva.test", "127.0.0.1": ""} {
		r := post(strings.Replace(url, "hook.test", host, 1))
		out := c.Send(t.Context(), r)
		if !out.OK() || out.TLSVersion != "TLS 1.3" || out.Timings.TLS <= 0 || out.Timings.Connect <= 0 {
			t.Errorf("%s: got %q (%s), %s, %+v", host, out.Failure, out.Detail, out.TLSVersion, out.Timings)
		}
		if _, sent := names.Load(name); !sent {
			t.Errorf("%s: the server name %q was not sent", host, name)
		}
		again := c.Send(t.Context(), r)
		if !again.OK() || again.TLSVersion != "TLS 1.3" || again.Timings.TLS != 0 || again.Timings.Connect != 0 {
			t.Errorf("%s, kept alive: got %q, %s, %+v", host, again.Failure, again.TLSVersion, again.Timings)
		}
	}
}

// A connection that nobody verified must not serve a webhook that wants it
// verified, nor may its session be resumed.
func TestSend_UnverifiedConnectionsAreKeptApart(t *testing.T) {
	stranger := newAuthority(t, "stranger", nil)
	url := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{stranger.leaf(t, nil)}})
	c := tlsClient(t, newAuthority(t, "root", nil))
	for range 3 {
		r := post(url)
		r.InsecureSSL = true
		if out := c.Send(t.Context(), r); !out.OK() {
			t.Fatalf("unverified: got %q (%s)", out.Failure, out.Detail)
		}
		if out := c.Send(t.Context(), post(url)); out.Failure != postrider.FailTLSUntrusted {
			t.Fatalf("verified: got %q (%s), want tls_untrusted", out.Failure, out.Detail)
		}
	}
}
