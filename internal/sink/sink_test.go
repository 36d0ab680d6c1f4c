package sink_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"postrider"
	"postrider/internal/sink"
	"postrider/signature"
)

const secret = "a secret to sign with"

func known(secrets ...string) func() []string { return func() []string { return secrets } }

// signed is a delivery as Postrider sends it; an empty key: unsigned.
func signed(key, eventID, contentType, body string) *http.Request {
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/api/callback", strings.NewReader(body))
	now := time.Now()
	for name, value := range map[string]string{
		"Content-Type": contentType, "X-Clubmed-Event": "room_status.updated", "X-Clubmed-Delivery": eventID,
		"X-Clubmed-Hook-ID": "0195b3f4-8c1e-7a52-9d3b-6f2a41c0e7d8", "X-Clubmed-Attempt": "1",
	} {
		r.Header.Set(name, value)
	}
	if key != "" {
		signer := signature.NewSigner(key)
		r.Header.Set("X-Clubmed-Signature", string(signer.AppendHex(nil, []byte(body))))
		r.Header.Set(signature.HeaderID, eventID)
		r.Header.Set(signature.HeaderTimestamp, strconv.FormatInt(now.Unix(), 10))
		r.Header.Set(signature.HeaderSignature, string(signer.AppendStandard(nil, eventID, now, []byte(body))))
	}
	return r
}

// receive gives a request to a sink and returns the answer's status and the
// line that was printed.
func receive(t *testing.T, options sink.Options, r *http.Request) (status int, line string) {
	t.Helper()
	var out bytes.Buffer
	options.Out = &out
	answer := httptest.NewRecorder()
	sink.New(options).ServeHTTP(answer, r)
	return answer.Code, out.String()
}

func TestSink_JudgesSignatures(t *testing.T) {
	broken := func(header, value string) *http.Request {
		r := signed(secret, "evt_1", "application/json", `{"room":12}`)
		r.Header.Set(header, value)
		return r
	}
	for name, test := range map[string]struct {
		secrets func() []string
		request *http.Request
		status  int
		words   string
	}{
		"right":                  {known(secret), signed(secret, "evt_1", "application/json", `{"room":12}`), 204, "signature ok"},
		"one of two secrets":     {known("another secret", secret), signed(secret, "evt_1", "application/json", `{}`), 204, "signature ok"},
		"another secret":         {known("another secret"), signed(secret, "evt_1", "application/json", `{}`), 401, "signature WRONG (X-Clubmed-Signature: no signature matches)"},
		"hex missing":            {known(secret), broken("X-Clubmed-Signature", ""), 401, "signature WRONG (X-Clubmed-Signature: header missing)"},
		"Standard Webhooks gone": {known(secret), broken("webhook-signature", ""), 401, "signature WRONG (webhook-signature: header missing: webhook-signature)"},
		"old":                    {known(secret), broken("webhook-timestamp", "1614265330"), 401, "signature WRONG (webhook-signature: timestamp too old)"},
		"unsigned, secret known": {known(secret), signed("", "evt_1", "application/json", `{}`), 401, "unsigned (a secret is known"},
		"signed, none known":     {nil, signed(secret, "evt_1", "application/json", `{}`), 204, "signature not checked"},
		"unsigned, none known":   {known(), signed("", "evt_1", "application/json", `{}`), 204, "  unsigned  "},
		"unusable secret":        {known("whsec_!"), signed(secret, "evt_1", "application/json", `{}`), 401, "not a usable key"},
	} {
		t.Run(name, func(t *testing.T) {
			status, line := receive(t, sink.Options{Secrets: test.secrets}, test.request)
			if status != test.status || !strings.Contains(line, test.words) {
				t.Errorf("got %d and %q, want %d and %q", status, line, test.status, test.words)
			}
		})
	}
}

// serve --dev gives secrets that change while it runs.
func TestSink_FollowsSecretsThatChange(t *testing.T) {
	current := "the first secret"
	s := sink.New(sink.Options{Secrets: func() []string { return []string{current} }})
	for _, key := range []string{"the first secret", "the second secret"} {
		current = key
		answer := httptest.NewRecorder()
		s.ServeHTTP(answer, signed(key, "evt_1", "application/json", "{}"))
		if answer.Code != http.StatusNoContent {
			t.Errorf("%s: got %d, want 204", key, answer.Code)
		}
	}
}

func TestSink_PrintsOneLinePerDelivery(t *testing.T) {
	id := postrider.NewID().String()
	_, line := receive(t, sink.Options{Secrets: known(secret)}, signed(secret, id, "application/json", `{"room": 12}`))
	want := regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d{3}  room_status\.updated   …` + id[28:] +
		`  #1   204      12 B  +\d+ ms  signature ok  \{"room": 12\}\n$`)
	if !want.MatchString(line) {
		t.Errorf("got %q, want a match of %v", line, want)
	}
}

func TestSink_ShowsThePayloadOfAForm(t *testing.T) {
	body := "payload=" + url.QueryEscape(`{"name":"Chloé & co"}`)
	_, line := receive(t, sink.Options{Secrets: known(secret)}, signed(secret, "evt_1", "application/x-www-form-urlencoded", body))
	if !strings.Contains(line, "signature ok  "+`{"name":"Chloé & co"}`) {
		t.Errorf("got %q, want the decoded payload", line)
	}
}

// Everything that a line shows comes from a stranger.
func TestSink_LetsNobodyWriteToTheTerminal(t *testing.T) {
	r := signed("", "\x1b[2J", "text/plain", "\x1b]0;owned\x07 \u202e \xff \u009b31m "+strings.Repeat("long ", 40))
	r.Header.Set("X-Clubmed-Event", "\x1b[31mred")
	r.Header.Set("X-Clubmed-Attempt", "\x1b[1;1H")
	_, line := receive(t, sink.Options{}, r)
	if i := strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(c rune) bool { return c < ' ' || c >= 0x7f && c < 0xa0 || c == '\u202e' }); i >= 0 {
		t.Errorf("got %q: a control character at %d", line, i)
	}
	for _, want := range []string{`\x1b[31mred`, `\x1b]0;owned\a \u202e \xff \u009b31m long`} {
		if !strings.Contains(line, want) {
			t.Errorf("got %q, want it to show %q", line, want)
		}
	}
	if len(line) > 300 {
		t.Errorf("got a line of %d bytes, want it cut", len(line))
	}
}

func TestSink_PrintsJSON(t *testing.T) {
	_, line := receive(t, sink.Options{Secrets: known(secret), JSON: true}, signed(secret, "evt_1", "application/json", `{"room":12}`))
	var got map[string]any
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		t.Fatalf("%q is no JSON: %v", line, err)
	}
	delete(got, "at")
	want := map[string]any{
		"event": "room_status.updated", "delivery": "evt_1", "webhook_id": "0195b3f4-8c1e-7a52-9d3b-6f2a41c0e7d8", "attempt": "1",
		"status": 204.0, "bytes": 11.0, "signature": "ok", "content_type": "application/json", "payload": `{"room":12}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSink_AnswersAsItIsTold(t *testing.T) {
	for name, test := range map[string]struct {
		options sink.Options
		want    int
	}{
		"nothing said": {sink.Options{}, 204},
		"a status":     {sink.Options{Status: 410}, 410},
		"always fails": {sink.Options{Fail: 1}, 500},
		"never fails":  {sink.Options{Fail: 0, Status: 200}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			if got, _ := receive(t, test.options, signed("", "evt_1", "application/json", "{}")); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

func TestSink_RefusesWhatIsNoDelivery(t *testing.T) {
	if got, line := receive(t, sink.Options{}, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)); got != 405 || line != "" {
		t.Errorf("GET: got %d and %q, want 405 and no line", got, line)
	}
	large := signed("", "evt_1", "application/json", strings.Repeat("x", 10<<20+1))
	if got, line := receive(t, sink.Options{}, large); got != 413 || !strings.Contains(line, "not read") {
		t.Errorf("10 MiB and a byte: got %d and %q, want 413", got, line)
	}
}

func TestSink_DelaysTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		got, _ := receive(t, sink.Options{Delay: 20 * time.Second}, signed("", "evt_1", "application/json", "{}"))
		if took := time.Since(started); got != 204 || took != 20*time.Second {
			t.Errorf("got %d after %v, want 204 after 20s", got, took)
		}
	})
}

func TestSink_CountsWhatItReceived(t *testing.T) {
	s := sink.New(sink.Options{Secrets: known(secret)})
	for _, r := range []*http.Request{
		signed(secret, "evt_1", "application/json", "{}"),
		signed(secret, "evt_2", "application/json", "{}"),
		signed(secret, "evt_1", "application/json", "{}"),
		signed("not the secret", "evt_3", "application/json", "{}"),
		signed("", "evt_4", "application/json", "{}"),
	} {
		s.ServeHTTP(httptest.NewRecorder(), r)
	}
	want := sink.Counts{Received: 5, Verified: 3, Wrong: 2, Unique: 2, Repeated: 1}
	if diff := cmp.Diff(want, s.Counts()); diff != "" {
		t.Error(diff)
	}
}

// lines is an output whose first line can be waited for.
type lines struct {
	io.Writer
	first chan string
}

func (l *lines) Write(p []byte) (int, error) {
	select {
	case l.first <- string(p):
	default:
	}
	return l.Writer.Write(p)
}

func TestRun_EndsWithTheCounts(t *testing.T) {
	var out bytes.Buffer
	ctx, stop := context.WithCancel(t.Context())
	l := &lines{&out, make(chan string, 1)}
	ended := make(chan error, 1)
	go func() {
		ended <- sink.Run(ctx, "127.0.0.1:0", sink.Options{Out: l, Quiet: true})
	}()
	target := strings.TrimSpace(strings.TrimPrefix(<-l.first, "Receiving on "))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := new(http.Transport).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	stop()
	if err := <-ended; err != nil {
		t.Errorf("got %v, want no error at the end of the context", err)
	}
	if want := "1 received: 0 verified, 0 wrong, 1 unsigned or unchecked; 1 unique, 0 repeated\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("got %q, want it to end with %q", out.String(), want)
	}
}

// A sink that is stopped answers nobody with a status that it did not choose.
func TestServe_BreaksOffADelayedAnswer(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	received := &lines{io.Discard, make(chan string, 1)}
	ended := make(chan error, 1)
	go func() {
		ended <- sink.Serve(ctx, listener, sink.New(sink.Options{Delay: time.Hour, Out: received}))
	}()
	answered := make(chan error, 1)
	go func() {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+listener.Addr().String(), strings.NewReader("{}"))
		if err != nil {
			answered <- err
			return
		}
		answer, err := new(http.Transport).RoundTrip(r)
		if err == nil {
			answer.Body.Close()
		}
		answered <- err
	}()
	<-received.first
	stop()
	if err := <-ended; err != nil {
		t.Errorf("got %v, want no error at the end of the context", err)
	}
	if err := <-answered; err == nil {
		t.Error("got an answer, want the connection broken off")
	}
}

func TestRun_RefusesOptionsThatCannotWork(t *testing.T) {
	for name, options := range map[string]sink.Options{
		"invalid_status":   {Status: 99},
		"invalid_fraction": {Fail: 1.5},
		"invalid_delay":    {Delay: -time.Second},
		"invalid_secret":   {Secrets: known("whsec_!")},
	} {
		t.Run(name, func(t *testing.T) {
			err := sink.Run(t.Context(), "127.0.0.1:0", options)
			var refused *postrider.Error
			if !errors.As(err, &refused) || refused.Code != name {
				t.Errorf("got %v, want code %s", err, name)
			}
		})
	}
}
