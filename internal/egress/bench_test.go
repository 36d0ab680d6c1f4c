package egress

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"postrider"
)

var benchHeader = postrider.SortedHeader(http.Header{
	"Content-Type":        {"application/json"},
	"User-Agent":          {"Clubmed-Hookshot/1.0"},
	"X-Clubmed-Event":     {"room_status.updated"},
	"X-Clubmed-Delivery":  {"019aa0e4-6f0e-7cc4-9f5e-0a51a2f4a7c1"},
	"X-Clubmed-Hook-ID":   {"019aa0e4-6f0e-7cc4-9f5e-0a51a2f4a7c2"},
	"X-Clubmed-Attempt":   {"1"},
	"X-Clubmed-Signature": {"sha256=f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"},
	"webhook-id":          {"019aa0e4-6f0e-7cc4-9f5e-0a51a2f4a7c1"},
	"webhook-timestamp":   {"1614265330"},
	"webhook-signature":   {"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
})

const benchBody = 512

// benchReceiver answers each request with "ok" and does next to nothing else,
// so that the sender's cost is not lost in the receiver's. It returns a URL.
func benchReceiver(b *testing.B) string {
	b.Helper()
	listener := listen(b, "127.0.0.1:0")
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadSlice('\n')
					if err != nil {
						return
					}
					if len(line) > 2 {
						continue
					}
					if _, err := r.Discard(benchBody); err != nil {
						return
					}
					say(c, "HTTP/1.1 200 OK\r\nDate: Tue, 02 Jun 2026 10:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok")
				}
			}()
		}
	}()
	return "http://" + listener.Addr().String() + "/hooks"
}

// reportCPU adds the processor time of the whole process per operation, which
// other load on the machine disturbs less than the time on the wall.
func reportCPU(b *testing.B, run func()) {
	b.Helper()
	before := processorTime(b)
	run()
	b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkSend and BenchmarkBareClient do the same work: POST 512 bytes with
// the ten headers of a signed delivery, and read the answer. Compare them to
// see what the guard, the limits and the measurements cost.
func BenchmarkSend(b *testing.B) {
	url := benchReceiver(b)
	client := newClient(b, Options{Policy: loopback})
	body := bytes.Repeat([]byte("x"), benchBody)
	b.ReportAllocs()
	b.SetParallelism(16)
	reportCPU(b, func() {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				out := client.Send(b.Context(), &postrider.Request{URL: url, Header: benchHeader, Body: body})
				if !out.OK() {
					b.Error(out.Detail)
					return
				}
			}
		})
	})
}

func BenchmarkBareClient(b *testing.B) {
	url := benchReceiver(b)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}
	b.Cleanup(client.CloseIdleConnections)
	benchBare(b, client, url)
}

func benchBare(b *testing.B, client *http.Client, url string) {
	b.Helper()
	body := bytes.Repeat([]byte("x"), benchBody)
	b.ReportAllocs()
	b.SetParallelism(16)
	reportCPU(b, func() {
		header := benchHeader.Map()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, bytes.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				req.Header = header
				resp, err := client.Do(req)
				if err != nil {
					b.Error(err)
					return
				}
				if _, err := io.ReadAll(resp.Body); err != nil {
					b.Error(err)
				}
				resp.Body.Close()
			}
		})
	})
}

// BenchmarkProtocols is why HTTP/1.1 alone is spoken.
func BenchmarkProtocols(b *testing.B) {
	for _, version := range []string{"http1", "http2"} {
		b.Run(version, func(b *testing.B) {
			receiver := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				drain(r.Body)
				say(w, "ok")
			}))
			receiver.Config.ErrorLog = log.New(io.Discard, "", 0)
			receiver.EnableHTTP2 = version == "http2"
			receiver.StartTLS()
			b.Cleanup(receiver.Close)
			roots := x509.NewCertPool()
			roots.AddCert(receiver.Certificate())
			client := &http.Client{Transport: &http.Transport{
				MaxIdleConnsPerHost: 256,
				ForceAttemptHTTP2:   receiver.EnableHTTP2,
				TLSClientConfig:     &tls.Config{RootCAs: roots},
			}}
			b.Cleanup(client.CloseIdleConnections)
			benchBare(b, client, receiver.URL+"/hooks")
		})
	}
}
