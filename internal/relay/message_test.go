package relay

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postrider"
)

func TestMessage_CarriesAnOutcomeAsItIs(t *testing.T) {
	want := postrider.Outcome{
		StatusCode: 503, Failure: postrider.FailHTTP5xx, Detail: "It broke.\nTwice.", RetryAfter: 90 * time.Second,
		RemoteIP: "127.0.0.1", TLSVersion: "TLS 1.3",
		Timings:  postrider.Timings{DNS: 1e6, Connect: 2e6, TLS: 3e6, FirstByte: 4e6, Total: 5e6},
		Response: postrider.Response{Header: postrider.Header{{Name: "X-Two", Value: "a"}, {Name: "X-Two", Value: "b"}}, Body: []byte("{\n\xff\x00}"), Truncated: true},
	}
	h, body, err := decode(encode(&head{Type: typeAnswer, ID: "1", Answer: answerOf(&want)}, want.Response.Body))
	if err != nil {
		t.Fatal(err)
	}
	got, err := h.Answer.outcome(body, time.Second)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("got %v and (-want +got)\n%s", err, diff)
	}
}

func TestOutcome_IsBounded(t *testing.T) {
	a := answer{
		Failure: postrider.FailReset, Detail: strings.Repeat("é", 1000), RemoteIP: "not an address", TLSVersion: strings.Repeat("x", 100),
		RetryAfterMilli: 1 << 60, Micros: [5]int64{-1, 1 << 40, 0, 0, 10},
		Header: map[string][]string{"X-Fine": {"yes", "a\r\nX-Not: b"}, "X\n": {"no"}},
	}
	got, err := a.outcome(bytes.Repeat([]byte("x"), maxBody+1), time.Second)
	want := postrider.Outcome{
		Failure: postrider.FailReset, Detail: strings.Repeat("é", 500), TLSVersion: strings.Repeat("x", 64), RetryAfter: 48 * time.Hour,
		Timings: postrider.Timings{Connect: time.Second, Total: 10 * time.Microsecond},
		Response: postrider.Response{
			Header: postrider.Header{{Name: "X-Fine", Value: "yes"}}, Body: bytes.Repeat([]byte("x"), maxBody), Truncated: true,
		},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("got %v and (-want +got)\n%s", err, diff)
	}
	a.Header = map[string][]string{"X": {strings.Repeat("x", maxHeader)}}
	if got, _ := a.outcome(nil, time.Second); len(got.Response.Header) != 0 {
		t.Errorf("got %d headers of more than 64 KiB, want none", len(got.Response.Header))
	}
}

// What a listener says is a stranger's word.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("{\"type\":\"answer\",\"id\":\"1\",\"answer\":{\"status_code\":200}}\nbody"))
	f.Add([]byte("{}\n"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, body, err := decode(text)
		if err != nil || h.Answer == nil {
			return
		}
		o, err := h.Answer.outcome(body, time.Second)
		if err != nil {
			return
		}
		if ok := o.StatusCode >= 200 && o.StatusCode < 300; ok != o.OK() || len(o.Response.Body) > maxBody || len(o.Detail) > maxDetail {
			t.Errorf("got %+v from %q", o, text)
		}
	})
}
