package faulttest

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postrider/internal/e2e"
)

// A trial is a server under load, its webhooks' receivers and what is known of
// both. Each run of the server has a brand of its own, so that a request says
// which run sent it.
type trial struct {
	t    *testing.T
	dir  string
	args []string

	mu      sync.Mutex
	history history
	random  *rand.Rand // what a receiver does
	calm    bool       // receivers answer 204 at once
	trap    *failpoint // what the next request that a receiver gets does to the server
	server  *e2e.Server
	run     int
	changed chan struct{} // closed when the server is another

	receiver *httptest.Server
	load     sync.WaitGroup
	enough   chan struct{}
}

// A failpoint is a moment between send and settle. It lies in the receiver,
// which is part of the test, and not in the program.
type failpoint struct {
	answer bool          // before the kill
	wait   time.Duration // between the two
	struck chan struct{}
}

// newTrial starts a server and registers its webhooks: of a receiver that is
// quick, of one that takes its time, of one that fails now and then, and of one
// that gets everything in order.
func newTrial(t *testing.T, seed uint64, args ...string) *trial {
	t.Helper()
	x := &trial{
		t: t, dir: t.TempDir(), args: args, random: rand.New(rand.NewPCG(seed, 2)),
		changed: make(chan struct{}), enough: make(chan struct{}),
		history: history{
			hooks: map[string]hook{}, accepted: map[string]publication{}, states: map[delivery]string{}, killed: map[int]bool{},
		},
	}
	x.receiver = httptest.NewServer(http.HandlerFunc(x.receive))
	t.Cleanup(x.receiver.Close)
	x.start()
	all := func(string) bool { return true }
	x.register("quick", "*", all, false)
	x.register("slow", "room.*", func(event string) bool { return strings.HasPrefix(event, "room.") }, false)
	x.register("flaky", "*", all, false)
	x.register("ordered", "step.*", func(event string) bool { return strings.HasPrefix(event, "step.") }, true)
	return x
}

// start starts the next run of the server.
func (x *trial) start() {
	x.t.Helper()
	x.mu.Lock()
	x.run++
	run := x.run
	x.mu.Unlock()
	server := e2e.Start(x.t, x.dir, append([]string{"--brand", fmt.Sprintf("Run%d", run)}, x.args...)...)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.server = server
	close(x.changed)
	x.changed = make(chan struct{})
}

func (x *trial) present() (*e2e.Server, <-chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.server, x.changed
}

func (x *trial) register(name, events string, takes func(string) bool, ordered bool) {
	x.t.Helper()
	const budget = 8
	answer := x.server.Call(http.MethodPost, "/v0/api_webhooks", fmt.Appendf(nil,
		`{"url": "%s/%s", "events": [%q], "secret": "a secret of the tests", "max_in_flight": %d, "ordered": %v,
		  "retry_schedule": [0, 0.05, 0.05, 0.05, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.5, 0.5, 0.5, 1, 1, 1]}`,
		x.receiver.URL, name, events, budget, ordered)).Must(http.StatusCreated)
	x.history.hooks[answer.Text("id")] = hook{name: name, ordered: ordered, takes: takes, budget: budget}
}

// receive is the receivers' part: it answers as the path says, and notes it.
func (x *trial) receive(w http.ResponseWriter, request *http.Request) {
	start := time.Now()
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return // killed in the middle of it
	}
	run, attempt := 0, 0
	if _, err := fmt.Sscanf(request.UserAgent(), "Run%d-", &run); err != nil {
		x.t.Errorf("got User-Agent %q", request.UserAgent())
	}
	brand := fmt.Sprintf("X-Run%d-", run)
	if _, err := fmt.Sscan(request.Header.Get(brand+"Attempt"), &attempt); err != nil {
		x.t.Errorf("got headers %v without the attempt's number", request.Header)
	}
	if request.Header.Get(brand+"Event") == "ping" {
		return
	}
	r := receipt{
		delivery: delivery{request.Header.Get(brand + "Delivery"), request.Header.Get(brand + "Hook-ID")},
		run:      run, attempt: attempt, sum: sha256.Sum256(body), start: start,
	}
	x.mu.Lock()
	status, wait := x.mood(request.URL.Path)
	trap := x.trap
	x.trap = nil
	i := len(x.history.receipts)
	x.history.receipts = append(x.history.receipts, r)
	server := x.server
	x.mu.Unlock()

	if trap != nil && !trap.answer {
		server.Kill()
		status = 0
	}
	if wait > 0 {
		select {
		case <-request.Context().Done():
			status = 0
		case <-time.After(wait):
		}
	}
	x.mu.Lock() // before the answer: what comes because of it is later
	x.history.receipts[i].status, x.history.receipts[i].end = status, time.Now()
	x.mu.Unlock()
	if status != 0 {
		w.WriteHeader(status)
	}
	if trap == nil {
		return
	}
	if trap.answer {
		http.NewResponseController(w).Flush() //nolint:errcheck // the server may be dead already
		<-time.After(trap.wait)
		server.Kill()
	}
	close(trap.struck)
}

// mood is what a receiver does with a request. The caller holds the lock.
func (x *trial) mood(path string) (status int, wait time.Duration) {
	switch dice := x.random.IntN(100); {
	case x.calm || path == "/quick":
		return http.StatusNoContent, 0
	case path == "/flaky" && dice < 20, path == "/ordered" && dice < 5:
		return http.StatusInternalServerError, 0
	case path == "/slow":
		return http.StatusOK, time.Duration(dice) * 300 * time.Microsecond
	default:
		return http.StatusOK, time.Duration(dice) * 20 * time.Microsecond
	}
}

// publish lets producers publish until the trial has enough. Each repeats what
// got no answer, under the same id, as a producer should.
func (x *trial) publish(producers int) {
	for n := range producers {
		x.load.Go(func() { x.produce(fmt.Sprintf("p%d", n), "room.status", 12, false) })
	}
	x.load.Go(func() { x.produce("steps", "step.done", 1, true) })
}

func (x *trial) produce(name, event string, most int, inTurn bool) {
	random := rand.New(rand.NewPCG(uint64(len(name)), uint64(name[len(name)-1])))
	for n := 1; ; {
		body, batch := []byte("["), map[string]publication{}
		for range 1 + random.IntN(most) {
			id := fmt.Sprintf("%s-%d", name, n)
			payload := fmt.Sprintf("{ \"n\":%d, \"n\": 1.%0*d }", n, 1+random.IntN(300), 0)
			p := publication{event: event, sum: sha256.Sum256([]byte(payload))}
			if inTurn {
				p.turn = n
			}
			batch[id] = p
			if len(batch) > 1 {
				body = append(body, ',')
			}
			body = fmt.Appendf(body, `{"id": %q, "event": %q, "payload": %s}`, id, event, payload)
			n++
		}
		x.mu.Lock()
		maps.Copy(x.history.accepted, batch) // known before it can arrive
		x.mu.Unlock()
		if !x.accepted(append(body, ']')) {
			x.mu.Lock()
			for id := range batch {
				delete(x.history.accepted, id)
			}
			x.mu.Unlock()
			return
		}
		select {
		case <-x.enough:
			return
		default:
		}
	}
}

// accepted publishes a batch until a server says that it has it. It is false
// when the trial ended without that.
func (x *trial) accepted(body []byte) bool {
	for range 10_000 {
		server, changed := x.present()
		answer, err := server.TryCall(http.MethodPost, "/v0/events/batch", body)
		switch {
		case err != nil: // dead, or about to be
			select {
			case <-changed:
			case <-time.After(20 * time.Millisecond):
			}
		case answer.Status == http.StatusAccepted:
			return true
		case answer.Status == http.StatusServiceUnavailable, answer.Status == http.StatusTooManyRequests:
			<-time.After(5 * time.Millisecond)
		default:
			x.t.Errorf("got status %d for a batch: %s", answer.Status, answer.Body)
			return false
		}
	}
	x.t.Error("a batch was never accepted")
	return false
}

// kill ends the present run as a power cut would, and waits until it is over.
func (x *trial) kill() {
	server, _ := x.present()
	server.Kill()
	x.over()
}

// over notes that the present run was killed.
func (x *trial) over() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.history.killed[x.run] = true
}

// strike kills the server at a moment between send and settle. Where no
// request comes to bring it about, it kills the server without.
func (x *trial) strike(answer bool, wait time.Duration) {
	trap := &failpoint{answer: answer, wait: wait, struck: make(chan struct{})}
	x.mu.Lock()
	x.trap = trap
	x.mu.Unlock()
	select {
	case <-trap.struck:
	case <-time.After(5 * time.Second):
		x.t.Error("no request came to kill the server at")
		x.mu.Lock()
		x.trap = nil
		x.mu.Unlock()
	}
	x.kill()
}

// stop ends the present run in order.
func (x *trial) stop() {
	x.t.Helper()
	server, _ := x.present()
	if err := server.Stop(); err != nil {
		x.t.Fatalf("a stop ended in %v\n%s", err, tail(server.Log()))
	}
}

// freeze suspends the server for a while.
func (x *trial) freeze(d time.Duration) {
	x.t.Helper()
	server, _ := x.present()
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		x.t.Fatal(err)
	}
	<-time.After(d)
	if err := server.Signal(syscall.SIGCONT); err != nil {
		x.t.Fatal(err)
	}
}

// finish ends the load, waits until every delivery has ended, reads the logs,
// and checks it all. The server is stopped afterwards.
func (x *trial) finish() *history {
	x.t.Helper()
	x.mu.Lock()
	x.calm = true
	x.mu.Unlock()
	close(x.enough)
	x.load.Wait()
	server, _ := x.present()
	h := &x.history
	for event := range h.accepted {
		e2e.Until(x.t, "the end of every delivery of "+event, func() bool { return x.ended(server, event) })
	}
	for id := range h.hooks {
		for _, row := range server.Pages("/v0/api_webhooks/"+id+"/logs", 100) {
			if row["event"] == "ping" {
				continue
			}
			e := entry{
				delivery: delivery{row["event_id"].(string), row["webhook_id"].(string)},
				attempt:  int(row["attempt"].(float64)), ok: row["status"] == "success",
			}
			if status, answered := row["status_code"].(float64); answered {
				e.status = int(status)
			}
			h.entries = append(h.entries, e)
		}
	}
	x.stop()
	if !slices.Contains(x.args, "--database-url") { // which looks after its files itself
		checkIntegrity(x.t, x.dir)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	faults := h.faults()
	for i, fault := range faults {
		if i == 20 {
			x.t.Errorf("and %d more", len(faults)-i)
			break
		}
		x.t.Error(fault)
	}
	if x.t.Failed() {
		x.t.Logf("the log of the last run:\n%s", tail(server.Log()))
	}
	return h
}

// ended notes the states of an event's deliveries, and reports whether they are
// final.
func (x *trial) ended(server *e2e.Server, event string) bool {
	answer, err := server.TryCall(http.MethodGet, "/v0/events/"+event, nil)
	if err != nil || answer.Status != http.StatusOK {
		return answer.Status == http.StatusNotFound // lost, as the history will say
	}
	var shown struct {
		Deliveries []struct {
			WebhookID string `json:"webhook_id"`
			State     string `json:"state"`
		} `json:"deliveries"`
	}
	if err := json.Unmarshal(answer.Body, &shown); err != nil {
		x.t.Errorf("decode event %s: %v", event, err)
		return true
	}
	final := true
	for _, d := range shown.Deliveries {
		x.history.states[delivery{event, d.WebhookID}] = d.State
		final = final && d.State != "pending"
	}
	return final
}

// tail is the end of a text.
func tail(text string) string { return text[max(0, len(text)-3000):] }
