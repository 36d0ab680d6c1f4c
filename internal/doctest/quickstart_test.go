package doctest

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"postrider/internal/e2e"
)

// The quickstart is followed as a reader follows it: every command in its
// order, in one shell, against the real program on a fresh data directory. What
// the page shows as the answer is compared with the answer. Only the ports are
// others: what the page says of the default ones is said of those.
func TestQuickstart_DoesWhatItShows(t *testing.T) {
	p := read(t, "docs/quickstart.md")
	r := &reader{t: t, ports: []string{"127.0.0.1:4999", unused(t)}}
	commands := 0
	for i, b := range p.blocks {
		if b.language != "sh" {
			continue
		}
		commands++
		var shown block
		if i+1 < len(p.blocks) && p.blocks[i+1].language != "sh" {
			shown = p.blocks[i+1]
		}
		if program, found := strings.CutPrefix(b.text, "go run ./cmd/postrider "); found {
			r.start(program, shown)
		} else {
			r.paste(b, shown)
		}
		for j := i + 1; j < len(p.blocks) && p.blocks[j].language != "sh"; j++ {
			if sinkLine(p.blocks[j].text) != nil {
				r.see(p.blocks[j])
			}
		}
	}
	if commands < 10 {
		t.Errorf("got %d blocks of commands, want the whole page", commands)
	}
}

// unused is an address where nothing listens.
func unused(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// A reader of the page has one terminal with a server, one with a receiver, and
// a shell.
type reader struct {
	t     *testing.T
	ports []string // default addresses, and those in their place
	sink  *screen
	shell io.Writer
	said  *bufio.Reader
}

// start starts what runs until it is stopped.
func (r *reader) start(line string, shown block) {
	r.t.Helper()
	words := r.words(line)
	switch words[0] {
	case "serve":
		server := e2e.StartGuarded(r.t, r.t.TempDir(), words[1:]...)
		r.ports = append(r.ports, "127.0.0.1:8080", strings.TrimPrefix(server.URL, "http://"))
		e2e.Until(r.t, "the server's first line", func() bool { return strings.Contains(server.Log(), "\n") })
		r.wantLine(shown, server.Log())
	case "sink":
		r.sink = newScreen()
		program := exec.CommandContext(r.t.Context(), e2e.Binary(r.t), append(words, "--listen", "127.0.0.1:0")...)
		program.Stdout = r.sink
		if err := program.Start(); err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(func() { program.Wait() }) //nolint:errcheck // the test's end has killed it
		first := r.sink.wait(r.t, "the receiver's first line", func(text string) bool { return strings.Contains(text, "\n") })
		_, address, _ := strings.Cut(strings.TrimSpace(first), "http://")
		r.ports = append(r.ports, "127.0.0.1:4567", address)
		r.wantLine(shown, first)
	default:
		r.t.Fatalf("the page starts %q, which this test does not know", words[0])
	}
}

// words are a command line's, as a shell splits them.
func (r *reader) words(line string) []string {
	r.t.Helper()
	out, err := exec.CommandContext(r.t.Context(), "sh", "-c", `printf '%s\n' `+line).Output()
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

// wantLine fails unless a program printed what the page shows.
func (r *reader) wantLine(shown block, got string) {
	r.t.Helper()
	if want := r.here(strings.TrimSpace(shown.text)); want == "" || !strings.Contains(got, want) {
		r.t.Errorf("line %d: got %q, want %q", shown.line, got, want)
	}
}

// here is a text of the page with the addresses of this test.
func (r *reader) here(text string) string { return strings.NewReplacer(r.ports...).Replace(text) }

// paste runs commands and compares what they print. Commands that only read are
// run again until they print what is shown: a reader takes seconds from one
// block to the next, this test none.
func (r *reader) paste(b, shown block) {
	r.t.Helper()
	reads := !strings.Contains(b.text, "--json") && !strings.Contains(b.text, "-X ")
	var got string
	for deadline := time.Now().Add(20 * time.Second); ; {
		got = r.run(b)
		if shown.language != "json" || same(got, r.here(shown.text)) {
			return
		}
		if !reads || time.Now().After(deadline) {
			break
		}
		<-time.After(20 * time.Millisecond)
	}
	r.t.Errorf("line %d: got\n%s\nwant\n%s", b.line, got, shown.text)
}

// endOfBlock is printed after each block, and by nothing else.
const endOfBlock = '\x1e'

func (r *reader) run(b block) string {
	r.t.Helper()
	if r.shell == nil {
		r.open()
	}
	if _, err := io.WriteString(r.shell, r.here(b.text)+"printf '\\036'\n"); err != nil {
		r.t.Fatalf("line %d: the shell is gone: %v", b.line, err)
	}
	said, err := r.said.ReadString(endOfBlock)
	if err != nil {
		r.t.Fatalf("line %d: the shell ended: %v", b.line, err)
	}
	return strings.TrimSuffix(said, string(endOfBlock))
}

// open starts the shell. It ends at the first command that fails.
func (r *reader) open() {
	r.t.Helper()
	shell := exec.CommandContext(r.t.Context(), "sh", "-eu")
	shell.Dir, shell.Stderr = r.t.TempDir(), os.Stderr
	in, err := shell.StdinPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	out, err := shell.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		in.Close()
		shell.Wait() //nolint:errcheck // the test's end has killed it
	})
	r.shell, r.said = in, bufio.NewReader(out)
}

// see waits for the line of the receiver that the page shows.
func (r *reader) see(shown block) {
	r.t.Helper()
	want := sinkLine(shown.text)
	r.sink.wait(r.t, strings.Join(want, " "), func(text string) bool {
		for line := range strings.Lines(text) {
			if got := sinkLine(line); reflect.DeepEqual(got, want) {
				return true
			}
		}
		return false
	})
}

// sinkLine is what is the same in every run of a line like
// "19:43:54.284  room_status.updated   …f5f0bfc5  #1   204      50 B     1 ms  signature ok  {…}".
func sinkLine(line string) []string {
	columns := regexp.MustCompile(`  +`).Split(strings.TrimSpace(line), 9)
	if len(columns) < 9 {
		return nil
	}
	size, payload := columns[5], columns[8]
	if strings.HasSuffix(payload, "…") {
		size, payload = "", "" // another text each time
	}
	return []string{columns[1], columns[3], columns[4], size, columns[7], payload}
}

// changing is what is another one in each run.
var changing = []struct {
	what *regexp.Regexp
	word string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`), "<id>"},
	{regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`), "<time>"},
	{regexp.MustCompile(`^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$`), "<date>"},
	{regexp.MustCompile(`^prk_[\w-]+$`), "<key>"},
	{regexp.MustCompile(`^sha256=[0-9a-f]{64}$`), "<signature>"},
	{regexp.MustCompile(`^v1,[\w+/]{43}=$`), "<signature>"},
	{regexp.MustCompile(`^1\d{9}$`), "<timestamp>"},
	{regexp.MustCompile(`^Clubmed-Hookshot/.+$`), "<agent>"},
	{regexp.MustCompile(`^[\w-]{43}$`), "<cursor>"},
}

// same reports whether two texts are the same JSON but for what changes.
func same(got, want string) bool {
	var a, b any
	if json.Unmarshal([]byte(got), &a) != nil || json.Unmarshal([]byte(want), &b) != nil {
		return false
	}
	return reflect.DeepEqual(steady("", a), steady("", b))
}

func steady(name string, value any) any {
	switch value := value.(type) {
	case map[string]any:
		for name, member := range value {
			value[name] = steady(name, member)
		}
	case []any:
		for i := range value {
			value[i] = steady("", value[i])
		}
	case float64:
		switch name {
		case "duration", "dns", "connect", "tls", "first_byte", "total":
			return "<milliseconds>"
		}
	case string:
		for _, change := range changing {
			value = change.what.ReplaceAllString(value, change.word)
		}
		return value
	}
	return value
}

// A screen is what a program has printed.
type screen struct {
	mu      sync.Mutex
	text    string
	changed chan struct{}
}

func newScreen() *screen { return &screen{changed: make(chan struct{})} }

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text += string(p)
	close(s.changed)
	s.changed = make(chan struct{})
	return len(p), nil
}

// wait waits until the screen shows something, and returns all that it shows.
func (s *screen) wait(t *testing.T, what string, shows func(string) bool) string {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		s.mu.Lock()
		text, changed := s.text, s.changed
		s.mu.Unlock()
		if shows(text) {
			return text
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%s did not come; the screen shows:\n%s", what, text)
		}
	}
}
