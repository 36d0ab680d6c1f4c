// Package e2e runs the real binary as its users do: a process with a data
// directory, spoken to over HTTP. Only tests import it.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var binary struct {
	once sync.Once
	file *os.File
	path string
	err  error
}

// Binary builds the program, once for each run of a test binary, and returns
// its path, which is good as long as this process lives. The file has no name
// any more by then, so that nothing of it stays behind however the tests end.
func Binary(t testing.TB) string {
	t.Helper()
	binary.once.Do(func() {
		dir, err := os.MkdirTemp("", "postrider-e2e-")
		if err != nil {
			binary.err = err
			return
		}
		defer os.RemoveAll(dir) //nolint:errcheck // it is a temporary one
		name := filepath.Join(dir, "postrider")
		build := exec.CommandContext(t.Context(), "go", "build", "-o", name, "postrider/cmd/postrider") //nolint:gosec // our own program
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			binary.err = fmt.Errorf("build the program: %w\n%s", err, out)
			return
		}
		if binary.file, binary.err = os.Open(name); binary.err == nil {
			binary.path = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), binary.file.Fd())
		}
	})
	if binary.err != nil {
		t.Fatal(binary.err)
	}
	return binary.path
}

var client = &http.Client{Timeout: time.Minute}

// AdminKey is the operator's key of every server that Start starts.
const AdminKey = "an-operators-key-for-tests"

// A Server is a running `postrider serve`.
type Server struct {
	URL      string
	Dir      string // its data directory
	Database string // its database's URL; empty with the embedded store
	Key      string // sent with every call

	t       testing.TB
	process *exec.Cmd
	ended   chan error
	log     *lockedBuffer
}

// Start starts a server on a data directory and waits until it is ready. It may
// send to loopback, and is killed when the test ends.
func Start(t testing.TB, dir string, flags ...string) *Server {
	t.Helper()
	return StartGuarded(t, dir, append([]string{"--allow-cidrs", "127.0.0.0/8"}, flags...)...)
}

// StartGuarded is Start for a server that sends to public addresses only.
func StartGuarded(t testing.TB, dir string, flags ...string) *Server {
	t.Helper()
	return StartChanged(t, func(*exec.Cmd) {}, dir, flags...)
}

// StartChanged is StartGuarded for a command that is changed before it runs:
// it may be put under another program, for one that takes its disk away.
func StartChanged(t testing.TB, change func(*exec.Cmd), dir string, flags ...string) *Server {
	t.Helper()
	s := &Server{Dir: dir, Key: AdminKey, t: t, ended: make(chan error, 1), log: &lockedBuffer{}}
	address := filepath.Join(t.TempDir(), "address")
	args := []string{"serve", "--listen", "127.0.0.1:0", "--data-dir", dir, "--admin-key", AdminKey, "--address-file", address}
	if cluster != nil {
		s.Database = database(t, cluster, dir)
		args = append(args, "--database-url", s.Database, "--encryption-key", EncryptionKey)
	}
	args = append(args, flags...)
	s.process = exec.CommandContext(context.WithoutCancel(t.Context()), Binary(t), args...) //nolint:gosec // our own program
	s.process.Stdout, s.process.Stderr = s.log, s.log
	change(s.process)
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.ended <- s.process.Wait() }()
	t.Cleanup(s.Kill)
	for deadline := time.Now().Add(20 * time.Second); ; {
		if text, err := os.ReadFile(address); err == nil && bytes.HasSuffix(text, []byte("\n")) {
			s.URL = "http://" + strings.TrimSpace(string(text))
			return s
		}
		select {
		case err := <-s.ended:
			s.ended <- err
			t.Fatalf("the server ended before it was ready: %v\n%s", err, s.log)
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server was not ready in time\n%s", s.log)
		}
	}
}

// Kill ends the server as a power cut would.
func (s *Server) Kill() {
	s.process.Process.Kill() //nolint:errcheck // it may have ended
	s.ended <- <-s.ended
}

// PID is the server's process id.
func (s *Server) PID() int { return s.process.Process.Pid }

// Signal sends the server a signal.
func (s *Server) Signal(signal os.Signal) error { return s.process.Process.Signal(signal) }

// Wait waits until the server has ended by itself.
func (s *Server) Wait() error {
	err := <-s.ended
	s.ended <- err
	return err
}

// Stop asks the server to end and waits until it has.
func (s *Server) Stop() error {
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return s.Wait()
}

// Log is what the server has printed.
func (s *Server) Log() string { return s.log.String() }

// As returns the same server, called with another key.
func (s *Server) As(key string) *Server {
	other := *s
	other.Key = key
	return &other
}

// An Answer of the API.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte

	t testing.TB
}

// Call sends a request with a body as it is; a nil body sends none.
func (s *Server) Call(method, path string, body []byte, headers ...string) Answer {
	s.t.Helper()
	answer, err := s.TryCall(method, path, body, headers...)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer
}

// Head is Call for routes whose answer may have no end: of one that succeeds
// only the head is read.
func (s *Server) Head(method, path string, body []byte, headers ...string) Answer {
	s.t.Helper()
	response, err := s.send(method, path, body, headers)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	answer := Answer{Status: response.StatusCode, Header: response.Header, t: s.t}
	if response.StatusCode >= http.StatusBadRequest {
		if answer.Body, err = io.ReadAll(response.Body); err != nil {
			s.t.Fatal(err)
		}
	}
	return answer
}

// TryCall is Call for servers that may be dead.
func (s *Server) TryCall(method, path string, body []byte, headers ...string) (Answer, error) {
	response, err := s.send(method, path, body, headers)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return Answer{Status: response.StatusCode, Header: response.Header, Body: text, t: s.t}, err
}

func (s *Server) send(method, path string, body []byte, headers []string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if s.Key != "" {
		request.Header.Set("x-api-key", s.Key)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	return client.Do(request)
}

// Must fails the test unless the answer has a status.
func (a Answer) Must(status int) Answer {
	a.t.Helper()
	if a.Status != status {
		a.t.Fatalf("got status %d, want %d: %s", a.Status, status, a.Body)
	}
	return a
}

// Into decodes the answer.
func (a Answer) Into(into any) {
	a.t.Helper()
	if err := json.Unmarshal(a.Body, into); err != nil {
		a.t.Fatalf("decode %s: %v", a.Body, err)
	}
}

// Text returns a member of the answer, by its path.
func (a Answer) Text(path ...string) string {
	a.t.Helper()
	var value any
	a.Into(&value)
	for _, name := range path {
		object, ok := value.(map[string]any)
		if !ok {
			a.t.Fatalf("no %v in %s", path, a.Body)
		}
		value = object[name]
	}
	if value == nil {
		return ""
	}
	return fmt.Sprint(value)
}

// A Received request, as a receiver saw it.
type Received struct {
	Path   string
	Header http.Header
	Body   []byte
	At     time.Time
}

// A Receiver keeps what it is sent.
type Receiver struct {
	URL string

	mu      sync.Mutex
	all     []Received
	changed chan struct{}
	answer  http.HandlerFunc
}

// Listen starts a receiver on a port of its own. It answers 204 until told
// otherwise.
func Listen(t testing.TB) *Receiver {
	t.Helper()
	r := &Receiver{changed: make(chan struct{})}
	r.Answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	server := httptest.NewServer(r)
	r.URL = server.URL
	t.Cleanup(server.Close)
	return r
}

func (r *Receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	r.all = append(r.all, Received{Path: request.URL.Path, Header: request.Header, Body: body, At: time.Now()})
	close(r.changed)
	r.changed = make(chan struct{})
	answer := r.answer
	r.mu.Unlock()
	answer(w, request)
}

// Answer sets how requests are answered from now on.
func (r *Receiver) Answer(answer http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// All returns what has been received so far.
func (r *Receiver) All() []Received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Received(nil), r.all...)
}

// Wait waits for a request for which found is true, and returns the first.
func (r *Receiver) Wait(t testing.TB, found func(Received) bool) Received {
	t.Helper()
	deadline := time.After(20 * time.Second)
	seen := 0
	for {
		r.mu.Lock()
		all, changed := r.all, r.changed
		r.mu.Unlock()
		for ; seen < len(all); seen++ {
			if found(all[seen]) {
				return all[seen]
			}
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("what was waited for did not come; %d other requests did", len(all))
		}
	}
}

// Event waits for the delivery of an event.
func (r *Receiver) Event(t testing.TB, id string) Received {
	t.Helper()
	return r.Wait(t, func(got Received) bool { return got.Header.Get("X-Clubmed-Delivery") == id })
}

// Payload is the form field in which a form's delivery carries its payload.
func (r Received) Payload(t testing.TB) []byte {
	t.Helper()
	if r.Header.Get("Content-Type") == "application/json" {
		return r.Body
	}
	form, err := url.ParseQuery(string(r.Body))
	if err != nil || len(form) != 1 {
		t.Fatalf("the body is no form of one field: %q, %v", r.Body, err)
	}
	return []byte(form.Get("payload"))
}

// Until asks again and again until the answer is yes. It is for what has no
// event to wait for.
func Until(t testing.TB, what string, yes func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !yes() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s did not come true", what)
		}
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Pages reads a whole listing, page by page.
func (s *Server) Pages(path string, limit int) (rows []map[string]any) {
	s.t.Helper()
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	next := fmt.Sprintf("%s%slimit=%d", path, separator, limit)
	for range 1000 {
		var page struct {
			Data       []map[string]any `json:"data"`
			NextCursor string           `json:"next_cursor"`
		}
		s.Call(http.MethodGet, next, nil).Must(http.StatusOK).Into(&page)
		rows = append(rows, page.Data...)
		if page.NextCursor == "" {
			return rows
		}
		next = fmt.Sprintf("%s%slimit=%d&cursor=%s", path, separator, limit, url.QueryEscape(page.NextCursor))
	}
	s.t.Fatal("the pages do not end")
	return nil
}

// Page is a page of the portal, as a browser gets it that signs in with the
// server's key.
func (s *Server) Page(path string) string {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Timeout: client.Timeout}
	// The page is where signing in leads to.
	response, err := browser.PostForm(s.URL+"/portal/sign_in", url.Values{"key": {s.Key}, "next": {path}}) //nolint:noctx // it has a timeout
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK || response.Request.URL.Path != path {
		s.t.Fatalf("got status %d of %s, %v, want the page %s: %s", response.StatusCode, response.Request.URL, err, path, text)
	}
	return string(text)
}
