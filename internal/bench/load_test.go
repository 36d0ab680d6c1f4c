package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// accepting is a server that takes publications into a book at once, as if
// each were delivered with its answer. before is called first, if it is given.
func accepting(t *testing.T, b *book, before func(n int64)) (*server, *atomic.Int64) {
	t.Helper()
	requests := new(atomic.Int64)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := requests.Add(1); before != nil {
			before(n)
		}
		type publication struct{ Payload json.RawMessage }
		batch := make([]publication, 1)
		into := any(&batch)
		if r.URL.Path == "/v0/events" {
			into = &batch[0]
		}
		if err := json.NewDecoder(r.Body).Decode(into); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		for _, one := range batch {
			if run, event, ok := readMark(one.Payload); ok && run == b.run {
				b.receive(0, event, time.Now())
			}
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(srv.Close)
	return &server{address: srv.Listener.Addr().String(), key: "0123456789abcdef"}, requests
}

func generate(t *testing.T, s *server, connections int) *generator {
	t.Helper()
	g, err := newGenerator(t.Context(), connections, 64, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.close)
	return g
}

func TestBurst_PublishesEveryEventOnce(t *testing.T) {
	for _, batch := range []int{1, 7, 100} {
		b := newBook(250, 1)
		s, requests := accepting(t, b, nil)
		g := generate(t, s, 4)
		if err := g.burst(t.Context(), b, batch); err != nil {
			t.Fatal(err)
		}
		if unique, twice := b.unique.Load(), b.duplicates.Load(); unique != 250 || twice != 0 {
			t.Errorf("batches of %d: got %d events and %d twice, want 250 and none", batch, unique, twice)
		}
		if got, want := requests.Load(), int64((250+batch-1)/batch); got != want {
			t.Errorf("batches of %d: got %d requests, want %d", batch, got, want)
		}
		if g.accept.total() != requests.Load() {
			t.Errorf("batches of %d: got %d answers timed, want each", batch, g.accept.total())
		}
	}
}

func TestBurst_SpreadsItsConnections(t *testing.T) {
	b := newBook(100, 1)
	one, atOne := accepting(t, b, nil)
	two, atTwo := accepting(t, b, nil)
	g, err := newGenerator(t.Context(), 4, 64, one, two)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.close)
	if err := g.burst(t.Context(), b, 1); err != nil {
		t.Fatal(err)
	}
	if atOne.Load() == 0 || atTwo.Load() == 0 || atOne.Load()+atTwo.Load() != 100 || b.unique.Load() != 100 {
		t.Errorf("got %d and %d requests for %d events, want 100 over both", atOne.Load(), atTwo.Load(), b.unique.Load())
	}
}

func TestBurst_EndsWithTheFirstRefusal(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "the disk is full", http.StatusInsufficientStorage)
	}))
	defer srv.Close()
	b := newBook(1_000_000, 1)
	g := generate(t, &server{address: srv.Listener.Addr().String()}, 4)
	err := g.burst(t.Context(), b, 1)
	var refused *refusal
	if !errors.As(err, &refused) || refused.status != http.StatusInsufficientStorage {
		t.Errorf("got %v, want the refusal", err)
	}
}

func TestBurst_EndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("that is enough")
	b := newBook(1_000_000, 1)
	s, _ := accepting(t, b, func(n int64) {
		if n == 10 {
			cancel(stop)
		}
	})
	if err := generate(t, s, 4).burst(ctx, b, 1); !errors.Is(err, stop) {
		t.Errorf("got %v, want the context's cause", err)
	}
}

// With one connection, an answer that takes 100 ms holds up the 100 events that
// fall due meanwhile at 1,000/s. A generator that waits before it publishes
// would see one slow answer only.
func TestSteady_CountsTheWaitBehindASlowAnswer(t *testing.T) {
	b := newBook(200, 1)
	s, _ := accepting(t, b, func(n int64) {
		if n == 1 {
			<-time.After(100 * time.Millisecond)
		}
	})
	g := generate(t, s, 1)
	if err := g.steady(t.Context(), b, 1000, func(int) int { return 0 }); err != nil {
		t.Fatal(err)
	}
	if got := b.unique.Load(); got != 200 {
		t.Errorf("got %d events, want 200", got)
	}
	if slow := b.latency.total() - b.latency.between(0, 20*time.Millisecond); slow < 60 {
		t.Errorf("got %d events later than 20 ms, want about 80: those that were due while the first was held up", slow)
	}
	if g.late.quantile(1) < 80*time.Millisecond {
		t.Errorf("got at most %v late, want the generator to know that it was held up", g.late.quantile(1))
	}
}

func TestPace_NeverCallsEarly(t *testing.T) {
	began := time.Now()
	calls := 0
	err := pace(t.Context(), 50, 1000, func(i int, due time.Time) error {
		calls++
		if time.Now().Before(due) {
			t.Errorf("call %d came before it was due", i)
		}
		return nil
	})
	if err != nil || calls != 50 {
		t.Errorf("got %d calls and %v, want 50", calls, err)
	}
	if took := time.Since(began); took < 49*time.Millisecond {
		t.Errorf("got 50 calls at 1,000/s in %v", took)
	}
}

func TestMix_GivesEveryWebhookTheSame(t *testing.T) {
	m := mix{good: 9, bad: 1}
	const events = 1007
	var got int64
	for event := range events {
		if m.hookOf(event) < m.good {
			got++
		}
	}
	if want := m.expected(events); got != want {
		t.Errorf("got %d events for good webhooks, want %d as expected", got, want)
	}
	if got := m.rate(900); got != 1000 {
		t.Errorf("got a rate of %v in all, want 1000, so that the good ones get 900", got)
	}
}

func TestBare_DeliversSigned(t *testing.T) {
	for name, loop := range map[string]bareLoop{
		"as fast as it goes": {connections: 4, payload: 512, duration: 50 * time.Millisecond},
		"with TLS":           {connections: 2, payload: 512, duration: 50 * time.Millisecond, tls: true},
		"at a rate":          {connections: 2, payload: 512, duration: 50 * time.Millisecond, rate: 400},
	} {
		t.Run(name, func(t *testing.T) {
			var r Bare
			if err := r.measure(t.Context(), loop); err != nil {
				t.Fatal(err)
			}
			if r.total == 0 || r.Delivered <= 0 || r.Latency.P50 <= 0 {
				t.Errorf("got %d deliveries, %v/s, p50 %v ms, want some of each", r.total, r.Delivered, r.Latency.P50)
			}
			if loop.rate > 0 && r.total != 20 {
				t.Errorf("got %d deliveries, want 20 in 50 ms at 400/s", r.total)
			}
		})
	}
}

func TestReceiver_ChecksASampleOfSignatures(t *testing.T) {
	listener, err := listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := startReceiver(listener, receiverOptions{secret: "what the server signs with"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	b := r.open(1, 1)
	answer := httptest.NewRecorder()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/0", bytes.NewReader(b.newPayload(64)))
	r.ServeHTTP(answer, request)
	if answer.Code != http.StatusNoContent || b.unique.Load() != 1 || b.checked.Load() != 1 || b.wrong.Load() != 1 {
		t.Errorf("got %d, %d received, %d checked, %d wrong, want 204 and 1 of each for an unsigned delivery",
			answer.Code, b.unique.Load(), b.checked.Load(), b.wrong.Load())
	}
}

func TestDeadPort_RefusesUntilItIsRevived(t *testing.T) {
	port, err := newDeadPort()
	if err != nil {
		t.Fatal(err)
	}
	defer port.close()
	s := &server{address: port.addr}
	if c, err := s.dial(t.Context()); err == nil {
		c.Close()
		t.Fatal("got a connection, want it refused")
	}
	listener, err := port.revive()
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if got := listener.Addr().String(); got != port.addr {
		t.Errorf("got address %s, want %s", got, port.addr)
	}
	c, err := s.dial(t.Context())
	if err != nil {
		t.Fatalf("got %v, want a connection", err)
	}
	c.Close()
}
