package nodetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postrider/internal/e2e"
	"postrider/internal/pgtest"
)

const (
	nodes   = 3
	plain   = 3 // webhooks that are not ordered
	ordered = 2
	// budget is how many attempts at once a webhook may have over all nodes, of
	// which each takes its share, rounded up: 6.
	budget = 16
	share  = (budget + nodes - 1) / nodes
	// atStake is what a node can have to do again of one webhook: it begins no
	// attempt while 8 times its share are under way or not yet recorded.
	atStake = 8 * share
)

// outage is how long the database may take to be gone on with, once it is back.
const outage = 5 * time.Second

// A field is three nodes on one database, with publishers and receivers.
type field struct {
	t        *testing.T
	cluster  *pgtest.Cluster
	flags    []string
	client   *http.Client
	receiver *e2e.Receiver

	mu       sync.Mutex
	nodes    [nodes]*e2e.Server
	accepted map[string]time.Time // by event id
	statuses map[int]int
	last     time.Time // of the last 202
	arrived  map[string]map[string]int
	busy     map[string]int            // by path of an ordered webhook
	reached  map[string]map[string]int // by path and publisher, the last event that came first
	overlaps int
	disorder int
	seen     time.Time // of the last arrival
}

func newField(t *testing.T) *field {
	cluster := pgtest.For(t, true)
	f := &field{
		t: t, cluster: cluster, receiver: e2e.Listen(t), client: &http.Client{Timeout: 3 * time.Second},
		flags:    []string{"--database-url", cluster.URL(e2e.NewDatabase(t, cluster)), "--encryption-key", e2e.EncryptionKey},
		accepted: map[string]time.Time{}, statuses: map[int]int{}, arrived: map[string]map[string]int{},
		busy: map[string]int{}, reached: map[string]map[string]int{},
	}
	f.receiver.Answer(f.receive)
	for i := range f.nodes {
		f.start(i)
	}
	for i := range plain + ordered {
		path, events := fmt.Sprintf("/plain/%d", i), "load.*"
		if i >= plain {
			path, events = fmt.Sprintf("/ordered/%d", i), "line.*"
		}
		f.node(i%nodes).Call(http.MethodPost, "/v0/api_webhooks", fmt.Appendf(nil, `{"url": %q, "events": [%q], "ordered": %v, "max_in_flight": %d}`,
			f.receiver.URL+path, events, i >= plain, budget)).Must(http.StatusCreated)
	}
	f.awaitWebhooks()
	return f
}

// awaitWebhooks waits until every node has heard of all webhooks: an event that
// is published before goes to those that its node knows.
func (f *field) awaitWebhooks() {
	f.t.Helper()
	for event, want := range map[string]int{"load.made": plain, "line.made": ordered} {
		for _, node := range f.nodes {
			e2e.Until(f.t, "every node knows every webhook", func() bool {
				var matched struct {
					Deliveries int `json:"deliveries"`
				}
				node.Call(http.MethodPost, "/v0/events/match", fmt.Appendf(nil, `{"event": %q}`, event)).Must(http.StatusOK).Into(&matched)
				return matched.Deliveries == want
			})
		}
	}
}

func (f *field) start(i int) {
	server := e2e.Start(f.t, f.t.TempDir(), f.flags...)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes[i] = server
}

func (f *field) node(i int) *e2e.Server {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nodes[i]
}

// receive judges what a receiver can see: what overlaps, and in what order
// the events of one publisher come, which publishes one after another.
func (f *field) receive(w http.ResponseWriter, r *http.Request) {
	event, isOrdered := r.Header.Get("X-Clubmed-Delivery"), strings.HasPrefix(r.URL.Path, "/ordered/")
	if r.Header.Get("X-Clubmed-Event") == "ping" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	f.mu.Lock()
	f.seen = time.Now()
	if f.arrived[r.URL.Path] == nil {
		f.arrived[r.URL.Path], f.reached[r.URL.Path] = map[string]int{}, map[string]int{}
	}
	f.arrived[r.URL.Path][event]++
	if isOrdered {
		if f.busy[r.URL.Path]++; f.busy[r.URL.Path] > 1 {
			f.overlaps++
		}
		publisher, number := "", 0
		if _, err := fmt.Sscanf(strings.ReplaceAll(event, "_", " "), "%s %d", &publisher, &number); err != nil {
			f.t.Errorf("read the event id %q: %v", event, err)
		}
		if f.arrived[r.URL.Path][event] == 1 {
			if number < f.reached[r.URL.Path][publisher] {
				f.disorder++
			}
			f.reached[r.URL.Path][publisher] = number
		}
	}
	f.mu.Unlock()
	if isOrdered {
		<-time.After(3 * time.Millisecond)
		f.mu.Lock()
		f.busy[r.URL.Path]--
		f.mu.Unlock()
	}
	w.WriteHeader(http.StatusNoContent)
}

// publish publishes events one after another until the context ends. One that
// a node does not accept goes to the next one, under the same id.
func (f *field) publish(ctx context.Context, publisher, event string, pause time.Duration) {
	at := len(publisher)
	for n := 1; ctx.Err() == nil; n++ {
		id := fmt.Sprintf("%s_%d", publisher, n)
		body := fmt.Appendf(nil, `{"event": %q, "id": %q, "payload": {"n": %d}}`, event, id, n)
		for !f.tryPublish(context.WithoutCancel(ctx), f.node((at+n)%nodes), id, body) {
			if ctx.Err() != nil {
				return // it may have been accepted: then it is not counted, and may come
			}
			at++
			<-time.After(20 * time.Millisecond)
		}
		<-time.After(pause)
	}
}

func (f *field) tryPublish(ctx context.Context, node *e2e.Server, id string, body []byte) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, node.URL+"/v0/events", bytes.NewReader(body))
	if err != nil {
		f.t.Error(err)
		return true
	}
	request.Header.Set("x-api-key", e2e.AdminKey)
	request.Header.Set("Content-Type", "application/json")
	response, err := f.client.Do(request)
	if err != nil {
		return false // killed, frozen or restarting
	}
	text, err := io.ReadAll(response.Body)
	response.Body.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.statuses[response.StatusCode]++
	switch {
	case response.StatusCode == http.StatusAccepted && err == nil:
		f.last = time.Now()
		f.accepted[id] = f.last
		return true
	case response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "":
		f.t.Errorf("got status %d, Retry-After %q: %s", response.StatusCode, response.Header.Get("Retry-After"), text)
	}
	return false
}

// deliveries counts what was accepted up to a moment, and what of that has not
// come yet.
func (f *field) deliveries(upTo time.Time) (missing, total int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range plain + ordered {
		path, prefix := fmt.Sprintf("/plain/%d", i), "load"
		if i >= plain {
			path, prefix = fmt.Sprintf("/ordered/%d", i), "line"
		}
		for id, at := range f.accepted {
			if !strings.HasPrefix(id, prefix) || at.After(upTo) {
				continue
			}
			total++
			if f.arrived[path][id] == 0 {
				missing++
			}
		}
	}
	return missing, total
}

// arriveUpTo waits until what was accepted up to a moment has come.
func (f *field) arriveUpTo(moment time.Time, what string) {
	f.t.Helper()
	e2e.Until(f.t, what, func() bool {
		missing, _ := f.deliveries(moment)
		return missing == 0
	})
}

// since waits until something that is marked has happened after a moment.
func (f *field) since(moment time.Time, what string, mark *time.Time) time.Duration {
	f.t.Helper()
	e2e.Until(f.t, what, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return mark.After(moment)
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	return mark.Sub(moment)
}

// count is how many publishes got a status so far.
func (f *field) count(status int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.statuses[status]
}

// load has every node published at, until it is stopped.
func (f *field) load() (stop func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	var publishers sync.WaitGroup
	for i := range nodes {
		publishers.Go(func() { f.publish(ctx, fmt.Sprintf("load%d", i), "load.made", 4*time.Millisecond) })
		publishers.Go(func() { f.publish(ctx, fmt.Sprintf("line%d", i), "line.made", 25*time.Millisecond) })
	}
	return func() {
		cancel()
		publishers.Wait()
	}
}

// judge holds what came to what was promised, after so many times at which one
// node lost what it had under way.
func (f *field) judge(losses int, of string) {
	f.t.Helper()
	missing, total := f.deliveries(time.Now())
	f.mu.Lock()
	defer f.mu.Unlock()
	repeated, worst := 0, 0
	for path, events := range f.arrived {
		again, most := 0, losses*atStake
		if strings.HasPrefix(path, "/ordered/") {
			most = losses // it has one attempt at a time, recorded before the next
		}
		for _, times := range events {
			again += times - 1
		}
		repeated += again
		if worst = max(worst, again); again > most {
			f.t.Errorf("%s: %d deliveries were repeated, want at most %d for %s", path, again, most, of)
		}
	}
	if f.overlaps > 0 || f.disorder > 0 {
		f.t.Errorf("ordered lanes: %d attempts overlapped, %d events came out of order", f.overlaps, f.disorder)
	}
	f.t.Logf("%d events accepted, %d deliveries, %d lost, %d repeated (at most %d of one webhook); answers by status: %v",
		len(f.accepted), total, missing, repeated, worst, f.statuses)
}

// Three nodes take events while one is killed, one is frozen past its lease and
// goes on, the database crashes, and all are restarted in turn.
func TestNodes_NothingIsLostWhateverHappensToANode(t *testing.T) {
	f := newField(t)
	stop := f.load()
	defer stop()
	pause := func(d time.Duration) { <-time.After(d) }
	pause(3 * time.Second)

	f.node(0).Kill()
	killed := time.Now()
	pause(time.Second)
	if err := f.node(1).Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	pause(time.Second)
	f.start(0)
	// What the killed node had accepted before it died is delivered by others.
	f.arriveUpTo(killed, "the killed node's deliveries have moved")
	moved := time.Since(killed)
	pause(max(0, 13*time.Second-time.Since(killed)))
	if err := f.node(1).Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	pause(2 * time.Second)

	refused := f.count(http.StatusServiceUnavailable)
	if err := f.cluster.Kill(); err != nil {
		t.Fatal(err)
	}
	pause(2 * time.Second)
	if f.count(http.StatusServiceUnavailable) == refused {
		t.Error("no publish was answered 503 while the database was down")
	}
	if err := f.cluster.Restart(); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	accepts := f.since(back, "an event is accepted again", &f.last)
	delivers := f.since(back, "a delivery is made again", &f.seen)
	pause(2 * time.Second)

	for i := range nodes {
		if err := f.node(i).Stop(); err != nil {
			t.Errorf("stop node %d: %v\n%s", i, err, tail(f.node(i).Log()))
		}
		f.start(i)
		pause(time.Second)
	}
	stop()
	ended := time.Now()
	f.arriveUpTo(ended, "everything accepted is delivered")
	drained := time.Since(ended)

	f.judge(2, "a kill and a freeze")
	if moved > 15*time.Second {
		t.Errorf("a killed node's deliveries took %v to move, want at most 15s", moved)
	}
	if accepts > outage || delivers > outage {
		t.Errorf("after the database was back: %v to accept, %v to deliver, want at most %v", accepts, delivers, outage)
	}
	t.Logf("a killed node's deliveries had moved after %v; after the database's return %v until an event was accepted, "+
		"%v until one was delivered; the rest was delivered %v after the last publish",
		moved.Round(time.Millisecond), accepts.Round(time.Millisecond), delivers.Round(time.Millisecond), drained.Round(time.Millisecond))
}

func tail(log string) string {
	lines := strings.Split(log, "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}
