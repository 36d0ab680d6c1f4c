package dispatch_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postrider"
	"postrider/internal/dispatch"
	"postrider/internal/publish"
	"postrider/internal/registry"
	"postrider/internal/sealing"
	"postrider/internal/sqlite"
	"postrider/internal/testkit"
)

// A receiver answers attempts in memory, as its script says, and keeps them.
type receiver struct {
	mu       sync.Mutex
	answer   func(*postrider.Request) postrider.Outcome
	requests []received
	sending  map[string]int // by URL, how many at once
	most     map[string]int
}

type received struct {
	postrider.Request

	at time.Time
}

func (r *receiver) Send(_ context.Context, request *postrider.Request) postrider.Outcome {
	r.mu.Lock()
	r.requests = append(r.requests, received{*request, time.Now()})
	r.sending[request.URL]++
	r.most[request.URL] = max(r.most[request.URL], r.sending[request.URL])
	answer := r.answer
	r.mu.Unlock()
	outcome := answer(request)
	r.mu.Lock()
	r.sending[request.URL]--
	r.mu.Unlock()
	return outcome
}

func (r *receiver) to(url string) (list []received) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, request := range r.requests {
		if request.URL == url {
			list = append(list, request)
		}
	}
	return list
}

func (r *receiver) script(answer func(*postrider.Request) postrider.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func ok(*postrider.Request) postrider.Outcome { return postrider.Outcome{StatusCode: http.StatusOK} }

func status(code int) func(*postrider.Request) postrider.Outcome {
	return func(*postrider.Request) postrider.Outcome {
		return postrider.Outcome{StatusCode: code, Failure: postrider.FailHTTP5xx, Detail: "no"}
	}
}

// A house is everything between a publish and the wire, on a real store.
type house struct {
	*receiver

	t         *testing.T
	store     *sqlite.Store
	registry  *registry.Registry
	publisher *publish.Publisher
	lanes     *dispatch.Dispatcher
	stop      func()
}

func build(t *testing.T, dir string, o dispatch.Options) *house {
	t.Helper()
	sealer, err := sealing.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.Context(), dir, sealer)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, store: store, receiver: &receiver{answer: ok, sending: map[string]int{}, most: map[string]int{}}}
	h.registry, err = registry.New(t.Context(), registry.Options{
		Store: store,
		Created: func(ctx context.Context, w *postrider.Webhook) {
			if _, err := h.publisher.PingWebhook(ctx, w.Tenant, w.ID, nil); err != nil {
				t.Error(err)
			}
		},
		Changed: func(id postrider.ID) { h.lanes.Wake(id) },
	})
	if err != nil {
		t.Fatal(err)
	}
	o.Store, o.Webhooks, o.Sender = store, h.registry, h
	h.lanes = dispatch.New(o)
	h.publisher = publish.New(publish.Options{Webhooks: h.registry, Store: store, Lanes: h.lanes, PayloadLimit: 1 << 20})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- h.lanes.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(h.stop)
	return h
}

func (h *house) webhook(url string, change ...func(*postrider.Webhook)) postrider.Webhook {
	h.t.Helper()
	w := postrider.Webhook{
		Tenant: postrider.DefaultTenant, URL: url, ContentType: postrider.JSON, Events: []string{"*"}, Active: true,
	}
	for _, c := range change {
		c(&w)
	}
	w, err := h.registry.CreateWebhook(h.t.Context(), w)
	if err != nil {
		h.t.Fatal(err)
	}
	return w
}

func (h *house) publish(n int) []postrider.Receipt {
	h.t.Helper()
	list := make([]postrider.Publication, n)
	for i := range list {
		list[i] = postrider.Publication{Event: "room_status.updated", Payload: fmt.Appendf(nil, `{"n": %d}`, i)}
	}
	receipts, err := h.publisher.Publish(h.t.Context(), list, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return receipts
}

func (h *house) attempts(filter postrider.AttemptFilter) []postrider.Attempt {
	h.t.Helper()
	filter.Tenant, filter.Limit = postrider.DefaultTenant, 10_000
	page, err := h.store.Attempts(h.t.Context(), filter)
	if err != nil {
		h.t.Fatal(err)
	}
	slices.Reverse(page.Attempts) // oldest first
	return page.Attempts
}

func TestDispatch_FollowsTheWholeRetrySchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, t.TempDir(), dispatch.Options{SweepEvery: time.Hour})
		w := h.webhook("http://one.test/")
		testkit.Advance(time.Second)
		h.script(status(500))
		receipt := h.publish(1)[0]
		testkit.Advance(5 * 24 * time.Hour)

		attempts := h.attempts(postrider.AttemptFilter{EventID: receipt.ID})
		if got, want := len(attempts), 1+len(dispatch.DefaultRetrySchedule); got != want {
			t.Fatalf("got %d attempts, want %d", got, want)
		}
		for i, wait := range dispatch.DefaultRetrySchedule {
			got := attempts[i+1].At.Sub(attempts[i].At)
			if got < wait*8/10-time.Second || got > wait*12/10+time.Second {
				t.Errorf("retry %d came after %v, want %v ± 20 %%", i+1, got, wait)
			}
			if planned := attempts[i].NextAttemptAt; attempts[i+1].At.Sub(planned).Abs() > time.Second {
				t.Errorf("retry %d came at %v, was planned for %v", i+1, attempts[i+1].At, planned)
			}
			if attempts[i+1].Number != i+2 || attempts[i+1].Trigger != postrider.TriggerRetry {
				t.Errorf("retry %d: got number %d, trigger %q", i+1, attempts[i+1].Number, attempts[i+1].Trigger)
			}
		}
		requests := h.to(w.URL)[1:] // after the ping
		first := requests[0].Header["X-Clubmed-Delivery"][0]
		for i, r := range requests {
			if got := r.Header["X-Clubmed-Delivery"][0]; got != first {
				t.Errorf("attempt %d: got X-Clubmed-Delivery %q, want %q as at first", i+1, got, first)
			}
			if got, want := r.Header["X-Clubmed-Attempt"][0], fmt.Sprint(i+1); got != want {
				t.Errorf("got X-Clubmed-Attempt %q, want %q", got, want)
			}
		}
		_, deliveries, err := h.store.Event(t.Context(), postrider.DefaultTenant, receipt.ID)
		if err != nil || len(deliveries) != 1 || deliveries[0].State != postrider.DeliveryFailed {
			t.Errorf("got deliveries %+v, %v, want one that failed", deliveries, err)
		}
	})
}
