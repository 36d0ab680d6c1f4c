package testkit

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"postrider"
)

// An Answer is what a receiver does with an attempt. Its context ends with the
// attempt's timeout, and when the sender gives the attempt up.
type Answer func(context.Context, *postrider.Request) postrider.Outcome

// A Receiver answers attempts in memory, as its script says, and keeps them. It
// may be used concurrently. Make one with NewReceiver.
type Receiver struct {
	mu       sync.Mutex
	answer   Answer
	requests []Received
	sending  map[string]int // by URL
	most     map[string]int
}

// A Received is an attempt as it arrived.
type Received struct {
	postrider.Request

	At time.Time
}

// EventID is the event that the attempt brought.
func (r *Received) EventID() string { return r.Header.Get("X-Clubmed-Delivery") }

// NewReceiver makes a receiver that answers 200.
func NewReceiver() *Receiver {
	return &Receiver{answer: OK, sending: map[string]int{}, most: map[string]int{}}
}

// Send makes one attempt, as a sender does.
func (r *Receiver) Send(ctx context.Context, request *postrider.Request) postrider.Outcome {
	ctx, cancel := context.WithTimeout(ctx, request.Timeout)
	defer cancel()
	answer := r.arrive(request)
	defer r.leave(request)
	start := time.Now()
	outcome := answer(ctx, request)
	outcome.Timings.Total = time.Since(start)
	return outcome
}

func (r *Receiver) arrive(request *postrider.Request) Answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, Received{*request, time.Now()})
	r.sending[request.URL]++
	r.most[request.URL] = max(r.most[request.URL], r.sending[request.URL])
	return r.answer
}

func (r *Receiver) leave(request *postrider.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sending[request.URL]--
}

// Script changes the answer to the attempts that arrive from now on.
func (r *Receiver) Script(answer Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// All returns the attempts that arrived, in their order.
func (r *Receiver) All() []Received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clip(r.requests)
}

// To returns the attempts that arrived at a URL, pings aside.
func (r *Receiver) To(url string) (list []Received) {
	for _, request := range r.All() {
		if request.URL == url && request.Header.Get("X-Clubmed-Event") != postrider.PingEvent {
			list = append(list, request)
		}
	}
	return list
}

// Most is how many attempts to a URL were under way at once, at most.
func (r *Receiver) Most(url string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.most[url]
}

// OK answers 200.
func OK(context.Context, *postrider.Request) postrider.Outcome {
	return postrider.Outcome{StatusCode: http.StatusOK}
}

// Hang does not answer until the attempt is given up.
func Hang(ctx context.Context, _ *postrider.Request) postrider.Outcome {
	<-ctx.Done()
	return postrider.Outcome{Failure: postrider.FailTimeout, Detail: "No answer came in time."}
}

// Status answers with a status code.
func Status(code int) Answer {
	outcome := postrider.Outcome{StatusCode: code, Detail: "The receiver answered " + http.StatusText(code) + "."}
	switch {
	case code < 300:
		outcome.Detail = ""
	case code < 400:
		outcome.Failure = postrider.FailRedirect
	case code < 500:
		outcome.Failure = postrider.FailHTTP4xx
	default:
		outcome.Failure = postrider.FailHTTP5xx
	}
	return func(context.Context, *postrider.Request) postrider.Outcome { return outcome }
}

// After answers as answer does, once a while has passed.
func After(wait time.Duration, answer Answer) Answer {
	return func(ctx context.Context, request *postrider.Request) postrider.Outcome {
		passed := time.NewTimer(wait)
		defer passed.Stop()
		select {
		case <-ctx.Done():
			return Hang(ctx, request)
		case <-passed.C:
			return answer(ctx, request)
		}
	}
}

// InTurn answers the first attempt with the first answer and so on; the last
// one answers all that follow.
func InTurn(answers ...Answer) Answer {
	var mu sync.Mutex
	return func(ctx context.Context, request *postrider.Request) postrider.Outcome {
		mu.Lock()
		answer := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		mu.Unlock()
		return answer(ctx, request)
	}
}

// ByURL answers each URL as it says, and 200 where it says nothing.
func ByURL(answers map[string]Answer) Answer {
	return func(ctx context.Context, request *postrider.Request) postrider.Outcome {
		if answer, found := answers[request.URL]; found {
			return answer(ctx, request)
		}
		return OK(ctx, request)
	}
}
