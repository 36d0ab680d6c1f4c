package dispatch

import (
	"bytes"
	"testing"
	"time"

	"postrider"
)

// Building a request is what is done for each attempt beside sending it: the
// body, both signatures, the headers.
func BenchmarkBuildRequest(b *testing.B) {
	for _, contentType := range []postrider.ContentType{postrider.JSON, postrider.Form} {
		b.Run(string(contentType), func(b *testing.B) {
			d := New(Options{})
			out := d.newOutbound(&postrider.Webhook{
				ID: postrider.NewID(), ContentType: contentType, Secret: postrider.NewSecret(),
				Headers: map[string]string{"X-Env": "production"},
			})
			payload := append(append([]byte(`{"a":"`), bytes.Repeat([]byte("x"), 500)...), `"}`...)
			now := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				body := contentType.Wrap(payload)
				if h := out.header("room_status.updated", "0190a6e2-5a3c-7c1e-8f7a-3d2b1c0a9f8e", 1, now, body); len(h) != 11 {
					b.Fatalf("got %d headers", len(h))
				}
			}
		})
	}
}
