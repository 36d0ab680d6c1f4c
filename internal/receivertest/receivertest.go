// Package receivertest starts the receivers that partners have: those of
// docs/receivers, which they are told to copy, and those made with the packages
// that they are given, signature and sdk/js. Tests send to them and see what they
// took. Each runs as a process of its own, on a free port of 127.0.0.1, until its test
// ends.
//
// It knows how each receiver is installed and run, and the line that each prints
// for an event. It must not know who sends. It is for tests only: everything it
// cannot do fails the test that asked for it, and nothing is ever skipped.
//
//	receiver := receivertest.Node(t).Start(t, secret)
//	// have something deliver to receiver.URL, then
//	event := receiver.Next(t)
package receivertest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Program is a receiver that is installed and ready to run, any number of
// times while the test that asked for it lasts.
type Program struct {
	dir  string // the working directory
	args []string
}

// A Receiver is a running receiver.
type Receiver struct {
	// URL is where it takes webhooks: http://127.0.0.1:PORT/api/callback.
	URL string
	// Events are those that it has recorded, in its order: each is signed with
	// the secret and came for the first time. The channel is closed when the
	// receiver ends. It holds 65,536 events; with more unread, the receiver waits.
	Events <-chan Event
}

// An Event is what a receiver says about one that it has recorded.
type Event struct {
	Type     string `json:"event"`    // X-Clubmed-Event
	Delivery string `json:"delivery"` // X-Clubmed-Delivery, or webhook-id with Standard Webhooks
	Bytes    int    `json:"bytes"`    // of the payload: of a form, what its field holds
	SHA256   string `json:"sha256"`   // of the payload, lower-case hex
}

// Times that are enough for what normally takes a fraction of them.
const (
	installTime = 5 * time.Minute
	startTime   = 30 * time.Second
	nextTime    = 10 * time.Second
)

// Node installs docs/receivers/node-express, the sample of the documentation put
// right: Node.js and npm if they are missing, and the packages of the receiver's
// lock file, which takes a second or two each time.
func Node(tb testing.TB) Program {
	tb.Helper()
	return npm(tb, "node-express")
}

// StandardWebhooks installs docs/receivers/standard-webhooks, as Node does its
// own: Node.js with the official library of Standard Webhooks.
func StandardWebhooks(tb testing.TB) Program {
	tb.Helper()
	return npm(tb, "standard-webhooks")
}

// Go builds docs/receivers/go.
func Go(tb testing.TB) Program {
	tb.Helper()
	dir := tb.TempDir()
	run(tb, source(tb, "go"), "go", "build", "-o", dir, ".")
	return Program{dir, []string{"./receiver"}}
}

// Python is docs/receivers/python; Python is installed if it is missing.
func Python(tb testing.TB) Program {
	tb.Helper()
	needTools(tb)
	return Program{source(tb, "python"), []string{"python3", "receiver.py"}}
}

// PHP is docs/receivers/php under PHP's own server, which takes one request at a
// time; PHP is installed if it is missing.
func PHP(tb testing.TB) Program {
	tb.Helper()
	needTools(tb)
	return Program{source(tb, "php"), []string{"php", "-S", "127.0.0.1:0", "receiver.php"}}
}

// Start runs the receiver for a webhook with this secret, and returns once it
// listens. The receiver ends with the test. What it printed beside its events is
// logged if the test has failed.
func (p Program) Start(tb testing.TB, secret string) *Receiver {
	tb.Helper()
	cmd := p.command(tb.Context(), tb, secret)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatalf("start the receiver: %v", err)
	}

	out := output{urls: make(chan string, 1), events: make(chan Event, 1<<16)}
	var readers sync.WaitGroup
	ended := make(chan struct{})
	readers.Go(func() {
		out.read(stdout)
		close(out.events)
		close(ended)
	})
	readers.Go(func() { out.read(stderr) })
	tb.Cleanup(func() {
		// The context of the test has ended, and the process with it. A reader may
		// still wait for room in the channel.
		for len(out.events) > 0 {
			<-out.events
		}
		readers.Wait()
		_ = cmd.Wait() // was killed, and says so
		if tb.Failed() {
			said := out.said.String()
			tb.Logf("%s said at last:\n%s", cmd, said[max(0, len(said)-2000):])
		}
	})

	timer := time.NewTimer(startTime)
	defer timer.Stop()
	select {
	case url := <-out.urls:
		return &Receiver{URL: url + "/api/callback", Events: out.events}
	case <-ended:
		tb.Fatal("the receiver ended before it listened")
	case <-timer.C:
		tb.Fatalf("the receiver did not start within %v", startTime)
	}
	return nil
}

// command is the receiver's process, not yet started; the context ends it. Port 0
// lets the system choose a free one, so that no two tests meet.
func (p Program) command(ctx context.Context, tb testing.TB, secret string) *exec.Cmd {
	tb.Helper()
	cmd := exec.CommandContext(ctx, p.args[0], p.args[1:]...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "PORT=0", "WEBHOOK_SECRET="+secret, "WEBHOOK_SEEN="+filepath.Join(tb.TempDir(), "seen"))
	return cmd
}

// Next waits for the next event that the receiver records. It ends the test when
// none comes within ten seconds.
//
// To see that something was not recorded, send one more that will be: Next
// returns that one.
func (r *Receiver) Next(tb testing.TB) Event {
	tb.Helper()
	timer := time.NewTimer(nextTime)
	defer timer.Stop()
	select {
	case event, running := <-r.Events:
		if !running {
			tb.Fatal("the receiver has ended")
		}
		return event
	case <-timer.C:
		tb.Fatalf("got no event from the receiver within %v", nextTime)
	}
	return Event{}
}

// source is a folder of docs/receivers.
func source(tb testing.TB, name string) string {
	tb.Helper()
	return filepath.Join(checkout(tb), "docs", "receivers", name)
}

func npm(tb testing.TB, name string) Program {
	tb.Helper()
	needTools(tb)
	dir := tb.TempDir()
	copyTree(tb, dir, source(tb, name))
	install(tb, dir)
	return Program{dir, []string{"node", "server.js"}}
}

// needTools installs Node.js, npm, Python and PHP where they are missing.
func needTools(tb testing.TB) {
	tb.Helper()
	if err := installTools(checkout(tb)); err != nil {
		tb.Fatal(err)
	}
}

var installing sync.Mutex

// installTools runs the script of make test, which does nothing where the tools
// are there. Tests that run at the same time wait for each other.
func installTools(root string) error {
	installing.Lock()
	defer installing.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), installTime)
	defer cancel()
	script := filepath.Join(root, "scripts", "install-test-tools")
	said, err := exec.CommandContext(ctx, script).CombinedOutput()
	if err != nil {
		return fmt.Errorf("install what the receivers run on: %w\n%s", err, said)
	}
	return nil
}

// checkout is the folder of the module, above that of the running test.
func checkout(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "docs", "receivers")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			tb.Fatal("the test does not run inside a checkout: docs/receivers is not above it")
		}
		dir = parent
	}
}

// run runs a command to its end and returns what it prints.
func run(tb testing.TB, dir, name string, args ...string) (said string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), installTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	output, err := cmd.CombinedOutput()
	if err != nil {
		tb.Fatalf("%s: %v\n%s", cmd, err, output)
	}
	return string(output)
}

// listening is how a receiver says where it is reached; PHP's server says it on
// its standard error.
var listening = regexp.MustCompile(`http://127\.0\.0\.1:[1-9][0-9]*`)

// output is what a receiver prints.
type output struct {
	urls   chan string
	events chan Event

	mu   sync.Mutex
	said strings.Builder // the lines that are no events
}

func (o *output) read(r io.Reader) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var event Event
		if err := json.Unmarshal(lines.Bytes(), &event); err == nil && event.Delivery != "" {
			o.events <- event
			continue
		}
		if url := listening.FindString(lines.Text()); url != "" {
			select {
			case o.urls <- url:
			default: // said before
			}
		}
		o.mu.Lock()
		o.said.WriteString(lines.Text() + "\n")
		o.mu.Unlock()
	}
}
