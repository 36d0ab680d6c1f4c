package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postrider/signature"
)

// A receiver is as little of an endpoint as net/http allows: it reads the
// body, counts it in a book and answers 204. It shares the machine with what
// is measured, so that everything more would be measured too.
type receiver struct {
	url      string
	pings    atomic.Int64
	book     atomic.Pointer[book]
	verifier *signature.Verifier

	mode  atomic.Int32
	up    chan struct{} // closed once it answers
	roots *x509.CertPool

	server *http.Server
	ended  sync.WaitGroup
}

// The modes of a receiver.
const (
	answering int32 = iota
	hanging         // it reads the request and does not answer
	failing         // it answers 503
)

// checkEvery is the sample of deliveries whose signatures are verified: enough
// to see that they are right, few enough to cost nothing.
const checkEvery = 1009

type receiverOptions struct {
	secret string
	mode   int32
	tls    bool
}

// startReceiver serves on a listener until it is closed.
func startReceiver(listener net.Listener, o receiverOptions) (*receiver, error) {
	verifier, err := signature.NewVerifier(signature.Options{Secrets: []string{o.secret}})
	if err != nil {
		return nil, err
	}
	r := &receiver{
		url: "http://" + listener.Addr().String(), verifier: verifier, up: make(chan struct{}),
	}
	r.book.Store(newBook(0, 0))
	r.mode.Store(o.mode)
	r.server = &http.Server{
		Handler: r, ReadHeaderTimeout: time.Minute, Protocols: new(http.Protocols),
		ErrorLog: log.New(io.Discard, "", 0), // connections that a killed server leaves behind
	}
	// One connection carries one delivery at a time, with TLS as without.
	r.server.Protocols.SetHTTP1(true)
	if o.tls {
		r.url = "https://" + listener.Addr().String()
		certificate, err := selfSigned()
		if err != nil {
			return nil, err
		}
		r.roots = x509.NewCertPool()
		r.roots.AddCert(certificate.Leaf)
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
	}
	r.ended.Go(func() { r.server.Serve(listener) }) //nolint:errcheck // it ends with ErrServerClosed
	return r, nil
}

// listen is a free port of this machine, which nobody else can reach.
func listen(ctx context.Context) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
}

// close breaks off what is under way, and waits for the server to end.
func (r *receiver) close() {
	r.server.Close() //nolint:errcheck // it closes a listener of a port that nobody needs any more
	r.ended.Wait()
}

// hook is the URL of a webhook.
func (r *receiver) hook(n int) string { return r.url + "/" + strconv.Itoa(n) }

// answer makes it answer, those included that wait since it was hanging.
func (r *receiver) answer() {
	if r.mode.Swap(answering) != answering {
		close(r.up)
	}
}

// open starts a new book.
func (r *receiver) open(events, webhooks int) *book {
	b := newBook(events, webhooks)
	r.book.Store(b)
	return b
}

var bodies = sync.Pool{New: func() any { return new([]byte) }}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.ContentLength < 0 || req.ContentLength > 16<<20 {
		w.WriteHeader(http.StatusLengthRequired)
		return
	}
	buffer := bodies.Get().(*[]byte)
	defer bodies.Put(buffer)
	if cap(*buffer) < int(req.ContentLength) {
		*buffer = make([]byte, req.ContentLength)
	}
	body := (*buffer)[:req.ContentLength]
	if _, err := io.ReadFull(req.Body, body); err != nil {
		panic(http.ErrAbortHandler) // the sender is gone
	}
	arrived := time.Now()
	switch r.mode.Load() {
	case failing:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case hanging:
		select {
		case <-r.up:
			arrived = time.Now()
		case <-req.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	r.count(req, body, arrived)
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) count(req *http.Request, body []byte, arrived time.Time) {
	run, event, ok := readMark(body)
	if !ok {
		r.pings.Add(1)
		return
	}
	hook, err := strconv.Atoi(req.URL.Path[1:])
	b := r.book.Load()
	if err != nil || run != b.run || !b.receive(hook, event, arrived) || event%checkEvery != 0 {
		return
	}
	b.checked.Add(1)
	if r.verifier.VerifyHex(hexSignature(req.Header), body) != nil || r.verifier.VerifyStandard(req.Header, body, arrived) != nil {
		b.wrong.Add(1)
	}
}

// hexSignature finds the header whatever the server's brand is.
func hexSignature(header http.Header) string {
	for name := range header {
		if strings.HasPrefix(name, "X-") && strings.HasSuffix(name, "-Signature") {
			return header.Get(name)
		}
	}
	return ""
}

// selfSigned is a certificate for 127.0.0.1 that nobody else trusts.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read our own certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
