package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postrider/internal/e2e"
	"postrider/signature"
)

// A listener is a running `postrider listen --json`.
type listener struct {
	ID     string // of its temporary webhook
	Secret string

	process *exec.Cmd
	ended   chan error
	mu      sync.Mutex
	lines   []map[string]any // of deliveries
	changed chan struct{}
	words   bytes.Buffer // of stderr
}

// listen starts a listener and waits until it is attached.
func listen(t *testing.T, server, key, forward string, flags ...string) *listener {
	t.Helper()
	l := &listener{ended: make(chan error, 1), changed: make(chan struct{})}
	args := append([]string{"listen", "--json", "--server", server, "--key", key, "--forward", forward}, flags...)
	l.process = exec.CommandContext(context.WithoutCancel(t.Context()), e2e.Binary(t), args...)
	l.process.Env = append(os.Environ(), "HOME="+t.TempDir())
	stdout, err := l.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := l.process.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.process.Start(); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() { l.read(stdout) })
	reading.Go(func() {
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			l.mu.Lock()
			l.words.WriteString(lines.Text() + "\n")
			l.mu.Unlock()
		}
	})
	go func() {
		reading.Wait()
		l.ended <- l.process.Wait()
	}()
	t.Cleanup(l.kill)
	e2e.Until(t, "the listener's ready line", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		select {
		case err := <-l.ended:
			l.ended <- err
			t.Fatalf("the listener ended: %v\n%s", err, l.words.String())
		default:
		}
		return l.ID != ""
	})
	return l
}

func (l *listener) read(stdout io.Reader) {
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var line map[string]any
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		l.mu.Lock()
		if line["type"] == "ready" {
			l.ID = fmt.Sprint(line["webhook_id"])
			l.Secret, _ = line["secret"].(string)
		} else if line["event"] != "ping" {
			l.lines = append(l.lines, line)
		}
		l.mu.Unlock()
	}
}

func (l *listener) said(text string) func() bool {
	return func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return strings.Contains(l.words.String(), text)
	}
}

// deliveries are the lines so far, pings aside.
func (l *listener) deliveries() []map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]map[string]any(nil), l.lines...)
}

// wait waits until the listener has shown the first delivery that found takes.
func (l *listener) wait(t *testing.T, what string, found func(line map[string]any) bool) {
	t.Helper()
	e2e.Until(t, what, func() bool {
		return slices.ContainsFunc(l.deliveries(), found)
	})
}

func (l *listener) kill() {
	l.process.Process.Kill() //nolint:errcheck // it may have ended
	l.ended <- <-l.ended
}

// interrupt ends the listener as Ctrl-C does.
func (l *listener) interrupt(t *testing.T) {
	t.Helper()
	if err := l.process.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	err := <-l.ended
	l.ended <- err
	if err != nil {
		t.Errorf("got %v at Ctrl-C, want exit code 0\n%s", err, l.words.String())
	}
}

// A wire is a TCP proxy that can be cut: what is on it then gets nowhere and is
// told nothing, and what comes later waits for the repair.
type wire struct {
	URL string

	mu     sync.Mutex
	target string
	whole  chan struct{} // closed while bytes pass
	broken chan struct{} // closed at the next cut
}

func newWire(t *testing.T, target string) *wire {
	t.Helper()
	socket, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{URL: "http://" + socket.Addr().String(), target: target, whole: make(chan struct{}), broken: make(chan struct{})}
	close(w.whole)
	var open sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	open.Go(func() {
		for {
			conn, err := socket.Accept()
			if err != nil {
				return
			}
			open.Go(func() { w.carry(ctx, conn) })
		}
	})
	t.Cleanup(func() {
		stop()
		socket.Close()
		open.Wait()
	})
	return w
}

func (w *wire) state() (target string, whole, broken chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.TrimPrefix(w.target, "http://"), w.whole, w.broken
}

func (w *wire) carry(ctx context.Context, near net.Conn) {
	defer near.Close()
	_, whole, _ := w.state()
	select {
	case <-whole:
	case <-ctx.Done():
		return
	}
	target, _, broken := w.state()
	far, err := new(net.Dialer).DialContext(ctx, "tcp", target)
	if err != nil {
		return
	}
	defer far.Close()
	ended := make(chan struct{}, 2)
	var passing sync.WaitGroup
	pass := func(to, from net.Conn) {
		buffer := make([]byte, 64<<10)
		for {
			n, err := from.Read(buffer)
			select {
			case <-broken: // swallowed, and nobody hears of it
				<-ctx.Done()
				return
			default:
			}
			if _, failed := to.Write(buffer[:n]); err != nil || failed != nil {
				ended <- struct{}{}
				return
			}
		}
	}
	passing.Go(func() { pass(far, near) })
	passing.Go(func() { pass(near, far) })
	select {
	case <-ended:
	case <-ctx.Done():
	}
	near.Close()
	far.Close()
	passing.Wait()
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.broken)
	w.whole = make(chan struct{})
}

func (w *wire) repair(target string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.target, w.broken = target, make(chan struct{})
	close(w.whole)
}

// relayFlags shorten what a listener's server waits for.
var relayFlags = []string{"--relay-ping", "300ms", "--retry-schedule", "300ms,300ms,300ms,300ms,300ms,1s,1s,1s,1s,1s"}

func publish(t *testing.T, server *e2e.Server, id, payload string) {
	t.Helper()
	body := fmt.Sprintf(`{"event": "room_status.updated", "id": %q, "payload": %s}`, id, payload)
	server.Call(http.MethodPost, "/v0/events", []byte(body)).Must(http.StatusAccepted)
}

// wantLogged checks that each event's last attempt at the webhook succeeded.
func wantLogged(t *testing.T, server *e2e.Server, webhook string, ids map[string]string) {
	t.Helper()
	var missing []string
	e2e.Until(t, "the logs", func() bool {
		succeeded := map[string]bool{}
		for _, entry := range server.Pages("/v0/api_webhooks/"+webhook+"/logs?status=success", 100) {
			succeeded[fmt.Sprint(entry["event_id"])] = true
		}
		missing = missing[:0]
		for id := range ids {
			if !succeeded[id] {
				missing = append(missing, id)
			}
		}
		return len(missing) == 0
	})
}

// wantReceived checks that the local server got each event, byte by byte and
// signed, and says how often the most frequent one came.
func wantReceived(t *testing.T, local *e2e.Receiver, secret string, sent map[string]string) (most int) {
	t.Helper()
	verifier, err := signature.NewVerifier(signature.Options{Secrets: []string{secret}})
	if err != nil {
		t.Fatal(err)
	}
	times := map[string]int{}
	for _, got := range local.All() {
		id := got.Header.Get("X-Clubmed-Delivery")
		payload, ours := sent[id]
		if !ours {
			continue
		}
		times[id]++
		most = max(most, times[id])
		if string(got.Body) != payload {
			t.Errorf("%s: got %.100q, want %.100q", id, got.Body, payload)
		}
		if err := verifier.VerifyHex(got.Header.Get("X-Clubmed-Signature"), got.Body); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		if err := verifier.VerifyStandard(got.Header, got.Body, time.Now()); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	if len(times) != len(sent) {
		t.Errorf("got %d events, want %d", len(times), len(sent))
	}
	return most
}

// oddJSON is a payload that any parser on the way would change.
func oddJSON(i int) string {
	return fmt.Sprintf("{ \"n\":%d,  \"n\" : 1.0, \"big\":12345678901234567890, \"é\":\"\\u00e9<>&\" }", i)
}

func TestListen_AThousandAtTwoHundredASecond(t *testing.T) {
	server, local := e2e.Start(t, t.TempDir(), relayFlags...), e2e.Listen(t)
	l := listen(t, server.URL, server.Key, local.URL+"/api/callback?from=test")
	sent := map[string]string{}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for i := range 1000 {
		<-tick.C
		id := fmt.Sprintf("evt_%d", i)
		sent[id] = oddJSON(i)
		publish(t, server, id, sent[id])
	}
	wantLogged(t, server, l.ID, sent)
	if most := wantReceived(t, local, l.Secret, sent); most != 1 {
		t.Errorf("got a delivery %d times, want each once", most)
	}
	e2e.Until(t, "a line for each delivery", func() bool { return len(l.deliveries()) == len(sent) })
	entries := server.Pages("/v0/api_webhooks/"+l.ID+"/logs?event=room_status.updated", 100)
	if len(entries) != len(sent) {
		t.Errorf("got %d attempts, want %d", len(entries), len(sent))
	}
}

func TestListen_ComesBackToAServerThatWasRestarted(t *testing.T) {
	dir := t.TempDir()
	server, local := e2e.Start(t, dir, relayFlags...), e2e.Listen(t)
	w := newWire(t, server.URL)
	l := listen(t, w.URL, server.Key, local.URL)
	sent := map[string]string{}
	send := func(id string) {
		sent[id] = oddJSON(len(sent))
		publish(t, server, id, sent[id])
	}
	for round, end := range []func(){func() { server.Kill() }, func() {
		if err := server.Stop(); err != nil {
			t.Errorf("got %v at a stop, want none", err)
		}
	}} {
		for i := range 20 {
			send(fmt.Sprintf("evt_%d_%d", round, i))
		}
		end()
		server = e2e.Start(t, dir, relayFlags...)
		send(fmt.Sprintf("evt_%d_held", round)) // nobody is attached yet: the wire ends nowhere
		w.mu.Lock()
		w.target = server.URL
		w.mu.Unlock()
		local.Event(t, fmt.Sprintf("evt_%d_held", round))
	}
	wantLogged(t, server, l.ID, sent)
	if most := wantReceived(t, local, l.Secret, sent); most > 2 {
		t.Errorf("got a delivery %d times, want at most once more than needed", most)
	}
	if !l.said("attached again")() {
		t.Error("the listener did not say that it is attached again")
	}
}

func TestListen_ComesBackAfterTheNetworkWasCut(t *testing.T) {
	server, local := e2e.Start(t, t.TempDir(), relayFlags...), e2e.Listen(t)
	w := newWire(t, server.URL)
	l := listen(t, w.URL, server.Key, local.URL)
	release := make(chan struct{})
	local.Answer(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Clubmed-Delivery") == "evt_under_way" {
			<-release
		}
		w.WriteHeader(http.StatusNoContent)
	})
	sent := map[string]string{"evt_under_way": oddJSON(-1)}
	publish(t, server, "evt_under_way", sent["evt_under_way"])
	local.Event(t, "evt_under_way")

	w.cut()
	close(release) // the answer gets nowhere
	e2e.Until(t, "the listener's word that the session is lost", l.said("the session is lost"))
	e2e.Until(t, "the server's word that the listener is gone", func() bool { return strings.Contains(server.Log(), "a listener detached") })
	for i := range 50 {
		id := fmt.Sprintf("evt_%d", i)
		sent[id] = oddJSON(i)
		publish(t, server, id, sent[id])
	}
	if got := len(local.All()); got > 2 {
		t.Errorf("got %d requests over a wire that is cut, want the ping and the one before", got)
	}
	w.repair(server.URL)
	wantLogged(t, server, l.ID, sent)
	if most := wantReceived(t, local, l.Secret, sent); most != 1 {
		t.Errorf("got a delivery %d times, want each once: the answer was given again", most)
	}
	if entries := server.Pages("/v0/api_webhooks/"+l.ID+"/logs?status=failure", 100); len(entries) != 0 {
		t.Errorf("got %d failures, want none: %v", len(entries), entries)
	}
}

func TestListen_FailuresOfTheLocalServerAreTheAttempts(t *testing.T) {
	server, local := e2e.Start(t, t.TempDir(), append(relayFlags, "--timeout", "1s")...), e2e.Listen(t)
	l := listen(t, server.URL, server.Key, local.URL)
	attempt := func(event string) map[string]any {
		t.Helper()
		var entry map[string]any
		e2e.Until(t, "an attempt for "+event, func() bool {
			entries := server.Pages("/v0/api_webhooks/"+l.ID+"/logs?event_id="+event, 100)
			if len(entries) > 0 {
				entry = entries[len(entries)-1]
			}
			return len(entries) > 0
		})
		server.Call(http.MethodGet, fmt.Sprintf("/v0/api_webhooks/logs/%v", entry["id"]), nil).Must(http.StatusOK).Into(&entry)
		return entry
	}
	hung := make(chan struct{})
	t.Cleanup(func() { close(hung) })
	for name, answer := range map[string]http.HandlerFunc{
		"http_5xx": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Trace", "abc")
			w.WriteHeader(http.StatusInternalServerError)
			io.WriteString(w, "it broke") //nolint:errcheck // the test sees what is missing
		},
		"http_4xx": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) },
		"redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"timeout": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-hung:
			case <-r.Context().Done():
			}
		},
	} {
		local.Answer(answer)
		publish(t, server, "evt_"+name, `1`)
		entry := attempt("evt_" + name)
		if entry["error_code"] != name || entry["status"] != "failure" {
			t.Errorf("%s: got %v, want that code", name, entry)
		}
		if answered := fmt.Sprint(entry["response"]); name == "http_5xx" && (!strings.Contains(answered, "it broke") || !strings.Contains(answered, "X-Trace:abc")) {
			t.Errorf("got response %s, want what the local server answered", answered)
		}
		l.wait(t, "a line with "+name, func(line map[string]any) bool { return line["error_code"] == name && line["error"] != nil })
	}
	for _, got := range local.All() {
		if got.Path == "/elsewhere" {
			t.Error("a redirect was followed")
		}
	}
}

func TestListen_ALocalServerThatIsDownGetsItLater(t *testing.T) {
	server := e2e.Start(t, t.TempDir(), relayFlags...)
	socket, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := socket.Addr().String()
	socket.Close()
	l := listen(t, server.URL, server.Key, "http://"+address)
	publish(t, server, "evt_1", `{"a": 1}`)
	l.wait(t, "a refused connection", func(line map[string]any) bool { return line["error_code"] == "connect_refused" })

	if socket, err = new(net.ListenConfig).Listen(t.Context(), "tcp", address); err != nil {
		t.Fatal(err)
	}
	up := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ReadHeaderTimeout: time.Minute}
	go up.Serve(socket)              //nolint:errcheck // it ends with the test
	t.Cleanup(func() { up.Close() }) //nolint:errcheck // the test is over
	wantLogged(t, server, l.ID, map[string]string{"evt_1": ""})
	l.wait(t, "the retry", func(line map[string]any) bool { return line["status"] == "success" && line["attempt"] != "1" })
}

func TestListen_OneThatCrashesUsesUpNoRetry(t *testing.T) {
	server, local := e2e.Start(t, t.TempDir(), "--relay-ping", "300ms", "--retry-schedule", "1h", "--timeout", "1s"), e2e.Listen(t)
	l := listen(t, server.URL, server.Key, local.URL)
	hung := make(chan struct{})
	t.Cleanup(func() { close(hung) })
	local.Answer(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hung:
		case <-r.Context().Done():
		}
	})
	publish(t, server, "evt_1", `1`)
	local.Event(t, "evt_1")
	l.kill()
	local.Answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	e2e.Until(t, "the lost attempt", func() bool {
		return len(server.Pages("/v0/api_webhooks/"+l.ID+"/logs?event_id=evt_1&error_code=relay_lost", 10)) == 1
	})
	listen(t, server.URL, server.Key, local.URL, "--webhook", l.ID)
	local.Wait(t, func(got e2e.Received) bool {
		return got.Header.Get("X-Clubmed-Delivery") == "evt_1" && got.Header.Get("X-Clubmed-Attempt") == "2"
	})
	wantLogged(t, server, l.ID, map[string]string{"evt_1": ""})
}

func TestListen_EveryDeveloperGetsEveryDelivery(t *testing.T) {
	server := e2e.Start(t, t.TempDir(), relayFlags...)
	one, two, third := e2e.Listen(t), e2e.Listen(t), e2e.Listen(t)
	first, second := listen(t, server.URL, server.Key, one.URL), listen(t, server.URL, server.Key, two.URL)
	if first.ID == second.ID || first.Secret == second.Secret {
		t.Error("two developers share a webhook")
	}
	publish(t, server, "evt_both", `1`)
	wantReceivedBy := func(event, secret string, local *e2e.Receiver) {
		t.Helper()
		local.Event(t, event)
		wantReceived(t, local, secret, map[string]string{event: "1"})
	}
	wantReceivedBy("evt_both", first.Secret, one)
	wantReceivedBy("evt_both", second.Secret, two)

	// On one webhook the newest has the deliveries, until it goes.
	newest := listen(t, server.URL, server.Key, third.URL, "--webhook", second.ID)
	if newest.ID != second.ID || newest.Secret != "" {
		t.Errorf("got webhook %s and secret %q, want %s and none", newest.ID, newest.Secret, second.ID)
	}
	e2e.Until(t, "the word that another has the deliveries", second.said("another listener has attached"))
	publish(t, server, "evt_newest", `1`)
	wantReceivedBy("evt_newest", second.Secret, third)
	newest.kill()
	e2e.Until(t, "the word that the deliveries are back", second.said("gets the deliveries again"))
	publish(t, server, "evt_back", `1`)
	wantReceivedBy("evt_back", second.Secret, two)
	wantReceivedBy("evt_back", first.Secret, one)
}

func TestListen_AMebibyteEachWay(t *testing.T) {
	server, local := e2e.Start(t, t.TempDir(), append(relayFlags, "--payload-limit", "2097152")...), e2e.Listen(t)
	local.Answer(func(w http.ResponseWriter, _ *http.Request) {
		w.Write(bytes.Repeat([]byte("x"), 1<<20)) //nolint:errcheck // the test sees what is missing
	})
	l := listen(t, server.URL, server.Key, local.URL)
	sent := map[string]string{}
	for i := range 8 {
		id := fmt.Sprintf("evt_%d", i)
		sent[id] = `"` + strings.Repeat(fmt.Sprint(i), 1<<20) + `"`
		publish(t, server, id, sent[id])
	}
	wantLogged(t, server, l.ID, sent)
	wantReceived(t, local, l.Secret, sent)
	entry := server.Pages("/v0/api_webhooks/"+l.ID+"/logs?event=room_status.updated", 100)[0]
	answer := server.Call(http.MethodGet, fmt.Sprintf("/v0/api_webhooks/logs/%v", entry["id"]), nil).Must(http.StatusOK)
	if got := answer.Text("response", "body"); len(got) != 64<<10 || answer.Text("response", "truncated") != "true" {
		t.Errorf("got %d bytes of the response, truncated %s, want 64 KiB and true", len(got), answer.Text("response", "truncated"))
	}
}

func TestListen_TheTemporaryWebhookEnds(t *testing.T) {
	server, local := e2e.Start(t, t.TempDir(), append(relayFlags, "--relay-hold", "1s")...), e2e.Listen(t)
	exists := func(id string) bool {
		return server.Call(http.MethodGet, "/v0/api_webhooks/"+id, nil).Status == http.StatusOK
	}
	orderly := listen(t, server.URL, server.Key, local.URL)
	orderly.interrupt(t)
	if exists(orderly.ID) {
		t.Error("the webhook is still there after Ctrl-C")
	}
	crashed := listen(t, server.URL, server.Key, local.URL)
	staying := listen(t, server.URL, server.Key, local.URL)
	crashed.kill()
	if !exists(crashed.ID) {
		t.Error("the webhook went with a crash, at once")
	}
	publish(t, server, "evt_held", `1`)
	e2e.Until(t, "the end of the crashed listener's webhook", func() bool { return !exists(crashed.ID) })
	e2e.Until(t, "the mark that its delivery is cancelled", func() bool {
		// A deleted webhook without any log is missing.
		logs := server.Call(http.MethodGet, "/v0/api_webhooks/"+crashed.ID+"/logs?status=cancelled", nil)
		return logs.Status == http.StatusOK && strings.Contains(string(logs.Body), `"cancelled"`)
	})
	if !exists(staying.ID) {
		t.Error("a webhook with a listener was removed")
	}
	server.Call(http.MethodDelete, "/v0/api_webhooks/"+staying.ID, nil).Must(http.StatusNoContent)
	err := <-staying.ended
	staying.ended <- err
	if !staying.said("the webhook was deleted")() || err == nil {
		t.Errorf("got %v and %q from the listener of a deleted webhook", err, staying.words.String())
	}
}

func TestListen_ACopyLeavesTheWebhookAlone(t *testing.T) {
	server, real, local := e2e.Start(t, t.TempDir(), relayFlags...), e2e.Listen(t), e2e.Listen(t)
	const secret = "the secret of the real one"
	id := server.Call(http.MethodPost, "/v0/api_webhooks", fmt.Appendf(nil,
		`{"url": %q, "events": ["room_status.*"], "secret": %q, "headers": {"X-Env": "production"}}`, real.URL, secret)).
		Must(http.StatusCreated).Text("id")
	real.Answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	sent := map[string]string{"evt_old": oddJSON(0), "evt_new": oddJSON(1)}
	publish(t, server, "evt_old", sent["evt_old"])
	real.Event(t, "evt_old")
	var past map[string]any
	e2e.Until(t, "the failure in the logs", func() bool {
		if found := server.Pages("/v0/api_webhooks/"+id+"/logs?event_id=evt_old", 100); len(found) > 0 {
			past = found[0]
		}
		return past != nil
	})

	l := listen(t, server.URL, server.Key, local.URL, "--webhook", id, "--replay", fmt.Sprint(past["id"]))
	publish(t, server, "evt_new", sent["evt_new"])
	real.Event(t, "evt_new")
	wantLogged(t, server, l.ID, sent)
	wantReceived(t, local, secret, sent)
	if got := local.Event(t, "evt_new").Header; got.Get("X-Env") != "production" || got.Get("X-Clubmed-Hook-ID") != l.ID {
		t.Errorf("got headers %v, want those of the webhook that is copied, with the id of the copy", got)
	}
	for _, entry := range server.Pages("/v0/api_webhooks/"+id+"/logs?event_id=evt_new", 100) {
		if !strings.HasPrefix(fmt.Sprint(entry["url"]), real.URL) {
			t.Errorf("got attempt %v in the logs of the real webhook", entry)
		}
	}
	l.interrupt(t)
	server.Call(http.MethodGet, "/v0/api_webhooks/"+id, nil).Must(http.StatusOK)
}

func TestListen_StaysWithinItsTenant(t *testing.T) {
	server, local := e2e.Start(t, t.TempDir(), relayFlags...), e2e.Listen(t)
	key := func(tenant string) (id, text string) {
		server.Call(http.MethodPost, "/v0/tenants", fmt.Appendf(nil, `{"name": %q}`, tenant)).Must(http.StatusCreated)
		answer := server.Call(http.MethodPost, "/v0/api_keys", fmt.Appendf(nil, `{"tenant": %q, "name": "x"}`, tenant)).Must(http.StatusCreated)
		return answer.Text("id"), answer.Text("key")
	}
	acmeID, acme := key("acme")
	_, globex := key("globex")
	l := listen(t, server.URL, acme, local.URL)
	foreign := exec.CommandContext(t.Context(), e2e.Binary(t), "listen", "--server", server.URL, "--key", globex,
		"--forward", local.URL, "--webhook", l.ID)
	if out, err := foreign.CombinedOutput(); err == nil || !strings.Contains(string(out), "There is no such webhook.") {
		t.Errorf("got %v and %s for the webhook of another tenant", err, out)
	}
	publish(t, server, "evt_default", `1`)
	body := []byte(`{"event": "room_status.updated", "id": "evt_acme", "payload": 1, "tenant": "acme"}`)
	server.Call(http.MethodPost, "/v0/events", body).Must(http.StatusAccepted)
	local.Event(t, "evt_acme")
	for _, got := range local.All() {
		if got.Header.Get("X-Clubmed-Delivery") == "evt_default" {
			t.Error("got an event of another tenant")
		}
	}
	server.Call(http.MethodDelete, "/v0/api_keys/"+acmeID, nil).Must(http.StatusNoContent)
	if err := <-l.ended; err == nil || !l.said("the API key was revoked")() {
		t.Errorf("got %v and %q, want the end of the session with its key", err, l.words.String())
	} else {
		l.ended <- err
	}
}
