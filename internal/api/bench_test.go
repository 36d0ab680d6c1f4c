package api_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"postrider"
	"postrider/internal/api"
)

// noPublisher accepts everything and does nothing.
type noPublisher struct{ *world }

var oneReceipt = []postrider.Receipt{{ID: "0195b3f4-9a07-7c11-8e2d-1b7f60a9c3e4", Deliveries: 1}}

func (noPublisher) Publish(context.Context, []postrider.Publication, *postrider.IdempotencyKey) ([]postrider.Receipt, error) {
	return oneReceipt, nil
}

// nullWriter is a ResponseWriter that keeps its header.
type nullWriter struct {
	header http.Header
	status int
}

func (w *nullWriter) Header() http.Header         { return w.header }
func (w *nullWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w *nullWriter) WriteHeader(status int)      { w.status = status }

// BenchmarkPublishEvent is one POST /v0/events with a payload of 512 bytes,
// without net/http around it and without a publisher behind it.
func BenchmarkPublishEvent(b *testing.B) {
	for name, headers := range map[string][]string{"plain": nil, "idempotency key": {"Idempotency-Key", "order-17"}} {
		b.Run(name, func(b *testing.B) {
			c := newClient(b, func(o *api.Options) { o.Publisher = noPublisher{} })
			payload := `{"room":12,"status":"clean","note":"` + strings.Repeat("x", 512-40) + `"}`
			body := []byte(`{"event":"room_status.updated","tenant":"acme","payload":` + payload + `}`)
			source := bytes.NewReader(body)
			r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "/v0/events", http.NoBody)
			if err != nil {
				b.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("X-Api-Key", "operator")
			for i := 0; i < len(headers); i += 2 {
				r.Header.Set(headers[i], headers[i+1])
			}
			r.ContentLength = int64(len(body))
			w := &nullWriter{header: http.Header{}}
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				source.Reset(body)
				r.Body = io.NopCloser(source)
				clear(w.header)
				c.api.ServeHTTP(w, r)
			}
			if w.status != http.StatusAccepted {
				b.Fatalf("got status %d", w.status)
			}
		})
	}
}

// BenchmarkPublishBatch is one POST /v0/events/batch of 100 events.
func BenchmarkPublishBatch(b *testing.B) {
	c := newClient(b, func(o *api.Options) { o.Publisher = noPublisher{} })
	one := `{"event":"room_status.updated","payload":{"room":12,"note":"` + strings.Repeat("x", 480) + `"}}`
	body := []byte("[" + strings.Repeat(one+",", 99) + one + "]")
	source := bytes.NewReader(body)
	r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "/v0/events/batch", http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("X-Api-Key", "operator")
	r.ContentLength = int64(len(body))
	w := &nullWriter{header: http.Header{}}
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		source.Reset(body)
		r.Body = io.NopCloser(source)
		c.api.ServeHTTP(w, r)
	}
	if w.status != http.StatusAccepted {
		b.Fatalf("got status %d", w.status)
	}
}

// BenchmarkNew is what the API adds to the start of the server.
func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		newClient(b)
	}
}
