package signature_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"postrider/signature"
)

// signed is a request as a sender makes it now. httptest says how it would
// arrive.
func signed(tb testing.TB, id, contentType, body string) *http.Request {
	tb.Helper()
	now := time.Now()
	r := httptest.NewRequestWithContext(tb.Context(), http.MethodPost, "/api/callback", strings.NewReader(body))
	r.Header = standardHeader(id, now, string(signature.NewSigner(whsec).AppendStandard(nil, id, now, []byte(body))))
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("X-Clubmed-Event", "room_status.updated")
	return r
}

// middleware stands before a handler that counts, and answers with the statuses
// in turn: the last one from then on.
func middleware(tb testing.TB, options signature.ReceiverOptions, statuses ...int) (http.Handler, *int) {
	tb.Helper()
	options.Secrets = []string{whsec}
	handled := 0
	return newReceiver(tb, options).Middleware(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(statuses[min(handled, len(statuses)-1)])
		handled++
	})), &handled
}

func send(handler http.Handler, r *http.Request) *httptest.ResponseRecorder {
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, r)
	return answer
}

func TestMiddleware_HandsOnTheBodyAndTheDelivery(t *testing.T) {
	const payload = `{"sum":"1+1=2 & 100%25;", "note":"早安 🏝️"}`
	for contentType, body := range map[string]string{
		"application/json":                  payload,
		"application/x-www-form-urlencoded": url.Values{"payload": {payload}}.Encode(),
	} {
		t.Run(contentType, func(t *testing.T) {
			handler := newReceiver(t, signature.ReceiverOptions{Secrets: []string{whsec}}).Middleware(
				http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					got, err := io.ReadAll(r.Body)
					if err != nil || string(got) != body || r.ContentLength != int64(len(body)) {
						t.Errorf("got body %q of length %d and %v, want %q", got, r.ContentLength, err, body)
					}
					delivery, ok := signature.DeliveryFrom(r.Context())
					if !ok || delivery.ID != "msg_1" || delivery.Event != "room_status.updated" || string(delivery.Payload) != payload {
						t.Errorf("got %+v and %v, want the delivery", delivery, ok)
					}
					w.WriteHeader(http.StatusAccepted)
				}))
			if got := send(handler, signed(t, "msg_1", contentType, body)).Code; got != http.StatusAccepted {
				t.Errorf("got status %d, want the handler's", got)
			}
		})
	}
}

func TestDeliveryFrom_IsFalseWithoutAMiddleware(t *testing.T) {
	if got, ok := signature.DeliveryFrom(t.Context()); ok {
		t.Errorf("got %+v, want none", got)
	}
}

func TestMiddleware_SaysWhyItRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*http.Request)
		status int
		text   string
		want   error
	}{
		"no signature":      {func(r *http.Request) { r.Header = http.Header{} }, http.StatusUnauthorized, "header missing: webhook-id", signature.ErrMissing},
		"another body":      {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("2")) }, http.StatusUnauthorized, "no signature matches", signature.ErrNoMatch},
		"an old timestamp":  {func(r *http.Request) { r.Header.Set("webhook-timestamp", "1614265330") }, http.StatusUnauthorized, "timestamp too old", signature.ErrTooOld},
		"no payload":        {func(r *http.Request) { *r = *signed(t, "msg_1", "application/json", "{") }, http.StatusBadRequest, "no JSON payload in the body", signature.ErrPayload},
		"a body too long":   {func(r *http.Request) { *r = *signed(t, "msg_1", "application/json", `"1234567"`) }, http.StatusRequestEntityTooLarge, "read the body: http: request body too large", nil},
		"a body cut short":  {func(r *http.Request) { r.Body = io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF)) }, http.StatusBadRequest, "read the body: unexpected EOF", io.ErrUnexpectedEOF},
		"a body of 8 bytes": {func(r *http.Request) { *r = *signed(t, "msg_1", "application/json", `"123456"`) }, http.StatusNoContent, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			var refused error
			handler, handled := middleware(t, signature.ReceiverOptions{
				MaxBody: 8, Refused: func(_ *http.Request, err error) { refused = err },
			}, http.StatusNoContent)
			r := signed(t, "msg_1", "application/json", "1")
			c.change(r)
			answer := send(handler, r)
			if got := strings.TrimSpace(answer.Body.String()); answer.Code != c.status || got != c.text {
				t.Errorf("got %d %q, want %d %q", answer.Code, got, c.status, c.text)
			}
			if accepted := c.status == http.StatusNoContent; (*handled == 1) != accepted || (refused == nil) != accepted {
				t.Errorf("got it handled %d times and refused with %v", *handled, refused)
			}
			if c.want != nil && !errors.Is(refused, c.want) {
				t.Errorf("got %v, want %v", refused, c.want)
			}
		})
	}
}

// An upload that goes on for ever is neither kept nor read to its end.
func TestMiddleware_StopsReadingBeyondTheLimit(t *testing.T) {
	handler, _ := middleware(t, signature.ReceiverOptions{}, http.StatusNoContent)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	endless := &endlessReader{}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, endless)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := server.Client().Do(request)
	if err == nil { // else the connection was cut while the body was sent
		answer.Body.Close()
		if answer.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("got status %d, want 413", answer.StatusCode)
		}
	}
}

type endlessReader struct{}

func (*endlessReader) Read(p []byte) (int, error) { return len(p), nil }

func TestMiddleware_MeasuresTimeByTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler, _ := middleware(t, signature.ReceiverOptions{Tolerance: time.Minute}, http.StatusNoContent)
		r := signed(t, "msg_1", "application/json", "1")
		body := "1"
		for _, c := range []struct {
			pass time.Duration
			want int
		}{{0, 204}, {time.Minute, 204}, {time.Second, 401}} {
			<-time.After(c.pass)
			r.Body = io.NopCloser(strings.NewReader(body))
			if got := send(handler, r).Code; got != c.want {
				t.Errorf("after %v more: got status %d, want %d", c.pass, got, c.want)
			}
		}
	})
}

func TestMiddleware_HandsOnADeliveryOnce(t *testing.T) {
	handler, handled := middleware(t, signature.ReceiverOptions{Remember: 2}, http.StatusOK)
	want := func(id string, status, times int) {
		t.Helper()
		if got := send(handler, signed(t, id, "application/json", "1")).Code; got != status || *handled != times {
			t.Errorf("%s: got status %d and %d handled, want %d and %d", id, got, *handled, status, times)
		}
	}
	want("msg_1", 200, 1)
	want("msg_1", 204, 1)
	want("msg_2", 200, 2)
	want("msg_1", 204, 2)
	want("msg_3", 200, 3) // msg_1 is forgotten
	want("msg_2", 204, 3)
	want("msg_1", 200, 4)
	want("msg_2", 200, 5)
}

func TestMiddleware_RemembersNothingUnlessAsked(t *testing.T) {
	handler, handled := middleware(t, signature.ReceiverOptions{}, http.StatusOK)
	for range 2 {
		send(handler, signed(t, "msg_1", "application/json", "1"))
	}
	if *handled != 2 {
		t.Errorf("got %d handled, want 2", *handled)
	}
}

func TestMiddleware_HandsOnADeliveryAgainThatFailed(t *testing.T) {
	handler, handled := middleware(t, signature.ReceiverOptions{Remember: 8}, 500, 302, 204)
	for _, want := range []int{500, 302, 204, 204} {
		if got := send(handler, signed(t, "msg_1", "application/json", "1")).Code; got != want {
			t.Errorf("got status %d, want %d", got, want)
		}
	}
	if *handled != 3 {
		t.Errorf("got %d handled, want 3", *handled)
	}
}

func TestMiddleware_HandsOnADeliveryAgainWhoseHandlerPanicked(t *testing.T) {
	handled := 0
	handler := newReceiver(t, signature.ReceiverOptions{Secrets: []string{whsec}, Remember: 8}).Middleware(
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if handled++; handled == 1 {
				panic(http.ErrAbortHandler)
			}
			fmt.Fprint(w, "done")
		}))
	func() {
		defer func() {
			if got, _ := recover().(error); !errors.Is(got, http.ErrAbortHandler) {
				t.Errorf("got %v, want the handler's own panic", got)
			}
		}()
		send(handler, signed(t, "msg_1", "application/json", "1"))
	}()
	for _, want := range []int{200, 204} {
		if got := send(handler, signed(t, "msg_1", "application/json", "1")).Code; got != want {
			t.Errorf("got status %d, want %d", got, want)
		}
	}
}

// Copies that come while the first is being handled wait for its answer. When it
// is no 2xx, one of them takes its place.
func TestMiddleware_CopiesWaitForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := make(chan int)
		handled := 0
		handler := newReceiver(t, signature.ReceiverOptions{Secrets: []string{whsec}, Remember: 8}).Middleware(
			http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				handled++
				w.WriteHeader(http.StatusEarlyHints)
				w.WriteHeader(<-answers)
			}))
		var group sync.WaitGroup
		var mu sync.Mutex
		got := map[int]int{}
		sendOne := func(r *http.Request) {
			group.Go(func() {
				handler.ServeHTTP(recorder(func(status int) {
					mu.Lock()
					defer mu.Unlock()
					got[status]++
				}), r)
			})
		}
		for range 8 {
			sendOne(signed(t, "msg_1", "application/json", "1"))
		}
		synctest.Wait()
		gone, leave := context.WithCancel(t.Context())
		sendOne(signed(t, "msg_1", "application/json", "1").WithContext(gone))
		synctest.Wait()
		leave()
		synctest.Wait()
		for _, status := range []int{500, 200} {
			answers <- status
			synctest.Wait()
		}
		group.Wait()
		if got[200] != 1 || got[500] != 1 || got[204] != 6 || got[503] != 1 || handled != 2 {
			t.Errorf("got answers %v and %d handled, want one 500, one 200, 503 for the one that left and the rest 204", got, handled)
		}
	})
}

// A recorder is told the status of the answer, not those that come before it.
type recorder func(status int)

func (recorder) Header() http.Header { return http.Header{} }

func (r recorder) WriteHeader(status int) {
	if status >= 200 {
		r(status)
	}
}

func (recorder) Write(p []byte) (int, error) { return len(p), nil }

func TestMiddleware_LetsTheHandlerReachTheConnection(t *testing.T) {
	handler := newReceiver(t, signature.ReceiverOptions{Secrets: []string{whsec}, Remember: 8}).Middleware(
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
		}))
	if answer := send(handler, signed(t, "msg_1", "application/json", "1")); !answer.Flushed {
		t.Error("got an answer that was not flushed")
	}
}

func TestNewReceiver_RefusesWhatWouldAcceptNothingOrAnything(t *testing.T) {
	public := "whpk_KIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvio="
	for name, options := range map[string]signature.ReceiverOptions{
		"no key":                   {},
		"an empty secret":          {Secrets: []string{""}},
		"hex without a secret":     {PublicKeys: []string{public}, AcceptHex: true},
		"a negative tolerance":     {Secrets: []string{whsec}, Tolerance: -1},
		"a negative limit":         {Secrets: []string{whsec}, MaxBody: -1},
		"a negative memory":        {Secrets: []string{whsec}, Remember: -1},
		"a brand of two words":     {Secrets: []string{whsec}, Brand: "Club Med"},
		"a brand with a colon":     {Secrets: []string{whsec}, Brand: "Clubmed:"},
		"a brand beyond ASCII":     {Secrets: []string{whsec}, Brand: "Méd"},
		"a brand with a new line":  {Secrets: []string{whsec}, Brand: "Clubmed\n"},
		"a secret with a new line": {Secrets: []string{whsec + "\n"}},
	} {
		if _, err := signature.NewReceiver(options); err == nil {
			t.Errorf("%s: got a receiver, want an error", name)
		}
	}
}

func BenchmarkMiddleware(b *testing.B) {
	handler, _ := middleware(b, signature.ReceiverOptions{Remember: 10_000}, http.StatusNoContent)
	body := strings.Repeat("1", 512)
	b.ReportAllocs()
	r := signed(b, "msg_1", "application/json", body)
	for b.Loop() {
		r.Body = io.NopCloser(bytes.NewReader([]byte(body)))
		send(handler, r)
	}
}
