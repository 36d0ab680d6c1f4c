package postrider_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"testing"
	"time"

	"postrider"
)

// checked is a webhook that passes, with a change.
func checked(change func(*postrider.Webhook)) *postrider.Webhook {
	w := &postrider.Webhook{ContentType: postrider.JSON, Events: []string{"*"}}
	change(w)
	return w
}

func TestCheck_EachFaultHasItsCodeAndField(t *testing.T) {
	many := make([]string, 101)
	for i := range many {
		many[i] = "a"
	}
	for _, test := range []struct {
		name   string
		change func(*postrider.Webhook)
		want   string // field: code
	}{
		{"nothing wrong", func(*postrider.Webhook) {}, ""},
		{"form", func(w *postrider.Webhook) { w.ContentType = postrider.Form }, ""},
		{"no content type", func(w *postrider.Webhook) { w.ContentType = "" }, "content_type: invalid_content_type"},
		{"another content type", func(w *postrider.Webhook) { w.ContentType = "text/plain" }, "content_type: invalid_content_type"},
		{"content type with a charset", func(w *postrider.Webhook) { w.ContentType += "; charset=utf-8" }, "content_type: invalid_content_type"},
		{"no events", func(w *postrider.Webhook) { w.Events = nil }, "events: invalid_events"},
		{"many events", func(w *postrider.Webhook) { w.Events = many[:100] }, ""},
		{"too many events", func(w *postrider.Webhook) { w.Events = many }, "events: invalid_events"},
		{"a wrong event", func(w *postrider.Webhook) { w.Events = []string{"a", "B"} }, "events[1]: invalid_event"},
		{"the ping", func(w *postrider.Webhook) { w.Events = []string{"ping"} }, "events[0]: reserved_event"},
		{"short secret", func(w *postrider.Webhook) { w.Secret = "1234567" }, "secret: invalid_secret"},
		{"shortest secret", func(w *postrider.Webhook) { w.Secret = "12345678" }, ""},
		{"longest secret", func(w *postrider.Webhook) { w.Secret = postrider.Secret(strings.Repeat("é", 256)) }, ""},
		{"long secret", func(w *postrider.Webhook) { w.Secret = postrider.Secret(strings.Repeat("a", 257)) }, "secret: invalid_secret"},
		{"secret with a line end", func(w *postrider.Webhook) { w.Secret = "12345678\n" }, "secret: invalid_secret"},
		{"secret with a NUL", func(w *postrider.Webhook) { w.Secret = "1234\x005678" }, "secret: invalid_secret"},
		{"secret that is no UTF-8", func(w *postrider.Webhook) { w.Secret = "12345678\xff" }, "secret: invalid_secret"},
		{"generated secret", func(w *postrider.Webhook) { w.Secret = postrider.NewSecret() }, ""},
		{"whsec_ without a key", func(w *postrider.Webhook) { w.Secret = "whsec_" }, "secret: invalid_secret"},
		{"whsec_ without base64", func(w *postrider.Webhook) { w.Secret = "whsec_not base64!" }, "secret: invalid_secret"},
		{"whsec_ without padding", func(w *postrider.Webhook) { w.Secret = "whsec_YWJjZA" }, "secret: invalid_secret"},
		{"whsec_ of the other alphabet", func(w *postrider.Webhook) { w.Secret = "whsec_-_-_" }, "secret: invalid_secret"},
		{"longest description", func(w *postrider.Webhook) { w.Description = strings.Repeat("a", 1000) }, ""},
		{"long description", func(w *postrider.Webhook) { w.Description = strings.Repeat("é", 501) }, "description: invalid_description"},
		{"description that is no UTF-8", func(w *postrider.Webhook) { w.Description = "\xff" }, "description: invalid_description"},
		{"shortest timeout", func(w *postrider.Webhook) { w.Timeout = time.Second }, ""},
		{"short timeout", func(w *postrider.Webhook) { w.Timeout = time.Second - 1 }, "timeout_seconds: invalid_timeout"},
		{"negative timeout", func(w *postrider.Webhook) { w.Timeout = -time.Second }, "timeout_seconds: invalid_timeout"},
		{"long timeout", func(w *postrider.Webhook) { w.Timeout = 30*time.Second + 1 }, "timeout_seconds: invalid_timeout"},
		{"no retries", func(w *postrider.Webhook) { w.RetrySchedule = []time.Duration{} }, ""},
		{"longest schedule", func(w *postrider.Webhook) { w.RetrySchedule = make([]time.Duration, 30) }, ""},
		{"long schedule", func(w *postrider.Webhook) { w.RetrySchedule = make([]time.Duration, 31) }, "retry_schedule: invalid_retry_schedule"},
		{"longest wait", func(w *postrider.Webhook) { w.RetrySchedule = []time.Duration{7 * 24 * time.Hour} }, ""},
		{"long wait", func(w *postrider.Webhook) { w.RetrySchedule = []time.Duration{0, 7*24*time.Hour + 1} }, "retry_schedule[1]: invalid_retry_schedule"},
		{"negative wait", func(w *postrider.Webhook) { w.RetrySchedule = []time.Duration{-1} }, "retry_schedule[0]: invalid_retry_schedule"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := checked(test.change).Check()
			got := ""
			if e, ok := errors.AsType[*postrider.Error](err); ok {
				got = e.Field + ": " + e.Code
				if e.Kind != postrider.Invalid {
					t.Errorf("got kind %d, want Invalid", e.Kind)
				}
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestCheck_TellsAllFaultsAtOnce(t *testing.T) {
	w := checked(func(w *postrider.Webhook) {
		w.ContentType, w.Secret, w.Events = "x", "x", []string{"X", "a", "Y"}
		w.Headers = map[string]string{"Host": "x"}
	})
	e, ok := errors.AsType[*postrider.Error](w.Check())
	if !ok || e.Code != "invalid" || e.Field != "" {
		t.Fatalf("got %+v, want one error that lists the faults", e)
	}
	var got []string
	for _, f := range e.Fields {
		got = append(got, f.Field+": "+f.Code)
	}
	want := []string{
		"content_type: invalid_content_type", "secret: invalid_secret", "events[0]: invalid_event", "events[2]: invalid_event",
		"headers.Host: reserved_header",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// headerCode is the code that a header is refused with.
func headerCode(t *testing.T, name, value string) string {
	t.Helper()
	return code(t, checked(func(w *postrider.Webhook) { w.Headers = map[string]string{name: value} }).Check())
}

func TestCheckHeaders_RefusesWhatWouldBreakTheRequest(t *testing.T) {
	for _, test := range []struct{ name, value, want string }{
		{"X-Reference", "7", ""},
		{"x-reference", "a b\tc", ""},
		{"Authorization", "Bearer abc==", ""},
		{"X-Empty", "", ""},
		{"!#$%&'*+-.^_`|~09azAZ", "~!", ""},
		{"X-Clubmed-Custom", "a", ""},

		{"", "a", "invalid_header_name"},
		{"X Y", "a", "invalid_header_name"},
		{"X:", "a", "invalid_header_name"},
		{"X\r\nY", "a", "invalid_header_name"},
		{"X\x00", "a", "invalid_header_name"},
		{"Ünicode", "a", "invalid_header_name"},
		{strings.Repeat("X", 257), "a", "invalid_header_name"},

		{"X", "a\r\nY: b", "invalid_header_value"},
		{"X", "a\nb", "invalid_header_value"},
		{"X", "a\x00", "invalid_header_value"},
		{"X", "\x7f", "invalid_header_value"},
		{"X", "é", "invalid_header_value"},
		{"X", " a", "invalid_header_value"},
		{"X", "a\t", "invalid_header_value"},

		{"Host", "a", "reserved_header"},
		{"hOST", "a", "reserved_header"},
		{"Content-Length", "1", "reserved_header"},
		{"Transfer-Encoding", "chunked", "reserved_header"},
		{"Connection", "close", "reserved_header"},
		{"Keep-Alive", "1", "reserved_header"},
		{"TE", "trailers", "reserved_header"},
		{"Trailer", "X", "reserved_header"},
		{"Upgrade", "h2c", "reserved_header"},
		{"Expect", "100-continue", "reserved_header"},
		{"Proxy-Authorization", "a", "reserved_header"},
		{"proxy-connection", "a", "reserved_header"},
		{"Content-Type", "text/plain", "reserved_header"},
		{"Content-Encoding", "gzip", "reserved_header"},
		{"Accept-Encoding", "gzip", "reserved_header"},
		{"User-Agent", "a", "reserved_header"},
		{"webhook-id", "a", "reserved_header"},
		{"Webhook-Signature", "a", "reserved_header"},
		{"WEBHOOK-anything", "a", "reserved_header"},
	} {
		if got := headerCode(t, test.name, test.value); got != test.want {
			t.Errorf("%q: %q: got %q, want %q", test.name, test.value, got, test.want)
		}
	}
}

func TestCheckHeaders_AreBoundedAndDifferInMoreThanCase(t *testing.T) {
	twenty, large := map[string]string{}, map[string]string{}
	for i := range 20 {
		twenty[fmt.Sprint("X-", i)] = "a"
	}
	large["X"] = strings.Repeat("a", 4095)
	for name, test := range map[string]struct {
		headers map[string]string
		want    string
	}{
		"twenty":     {twenty, ""},
		"largest":    {large, ""},
		"same names": {map[string]string{"X-A": "1", "x-a": "2"}, "duplicate_header"},
		"too large":  {map[string]string{"XY": large["X"]}, "headers_too_large"},
	} {
		if got := code(t, checked(func(w *postrider.Webhook) { w.Headers = test.headers }).Check()); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
	twenty["X-20"] = "a"
	if got := code(t, checked(func(w *postrider.Webhook) { w.Headers = twenty }).Check()); got != "too_many_headers" {
		t.Errorf("got %q for 21 headers, want too_many_headers", got)
	}
}

// FuzzCheckHeaders puts what was accepted on the wire: net/http must send it,
// and the receiver must see exactly this header and none more.
func FuzzCheckHeaders(f *testing.F) {
	for _, seed := range [][2]string{
		{"X-Reference", "7"},
		{"x-low", "a\tb"},
		{"X", "a\r\nY: b"},
		{"Host", "evil"},
		{"authorization", "Bearer x"},
		{"X", ""},
		{"Cookie", "a=b; c"},
		{"Date", "x"},
		{"Set-Cookie", "é"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		w := checked(func(w *postrider.Webhook) { w.Headers = map[string]string{name: value} })
		if w.Check() != nil {
			return
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1/", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header[name] = []string{value}
		wire, err := httputil.DumpRequestOut(request, true) // through a transport, to memory
		if err != nil {
			t.Fatalf("%q: %q: got error %v from what was accepted", name, value, err)
		}
		arrived, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(wire)))
		if err != nil {
			t.Fatalf("%q: %q: got error %v at the receiver", name, value, err)
		}
		names := []string{http.CanonicalHeaderKey(name), "Content-Length", "User-Agent", "Accept-Encoding"}
		for other := range arrived.Header {
			if !slices.Contains(names, other) {
				t.Errorf("%q: %q: got a header %q more", name, value, other)
			}
		}
		if values := arrived.Header[http.CanonicalHeaderKey(name)]; len(values) != 1 || values[0] != value {
			t.Errorf("%q: %q: got %q at the receiver", name, value, values)
		}
		if arrived.Host != "127.0.0.1" {
			t.Errorf("%q: %q: got host %q", name, value, arrived.Host)
		}
	})
}
