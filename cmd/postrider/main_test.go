package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"postrider/internal/pgtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"postrider": main})
}

func TestTranscripts(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() }) // not deferred: the transcripts run in parallel, after this function
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true,
		Deadline: time.Now().Add(time.Minute),
		Setup: func(env *testscript.Env) error {
			env.Setenv("TAKEN", taken.Addr().String())
			return nil
		},
	})
}

// Moves from store to store. $PG is the URL of a database that is none of
// Postrider's; the command database makes one, whose URL has its name then.
func TestTranscripts_OfMoves(t *testing.T) {
	cluster := pgtest.For(t, false)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/moves", RequireExplicitExec: true, RequireUniqueNames: true, Deadline: time.Now().Add(2 * time.Minute),
		Setup: func(env *testscript.Env) error {
			env.Setenv("PG", cluster.URL("postgres"))
			env.Setenv("KEY", base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32)))
			env.Setenv("OTHERKEY", base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{2}, 32)))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"await": await, "cut": cut, "database": func(script *testscript.TestScript, _ bool, args []string) {
			if err := cluster.Do(t.Context(), "postgres", "CREATE DATABASE "+args[0]); err != nil {
				script.Fatalf("make a database: %v", err)
			}
			script.Setenv(args[0], cluster.URL(args[0]))
		}},
	})
}

// await waits for a file with a whole line.
func await(script *testscript.TestScript, _ bool, args []string) {
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(5 * time.Millisecond) {
		if text, err := os.ReadFile(script.MkAbs(args[0])); err == nil && bytes.HasSuffix(text, []byte("\n")) {
			return
		}
		if time.Now().After(deadline) {
			script.Fatalf("%s did not come", args[0])
		}
	}
}

// cut copies the first half of a file to another one.
func cut(script *testscript.TestScript, _ bool, args []string) {
	text, err := os.ReadFile(script.MkAbs(args[0]))
	if err == nil {
		err = os.WriteFile(script.MkAbs(args[1]), text[:len(text)/2], 0o600)
	}
	if err != nil {
		script.Fatalf("%v", err)
	}
}

// A server is postrider serve as a process of its own.
type server struct {
	t       *testing.T
	command *exec.Cmd
	address string
	stderr  *bytes.Buffer
}

// serve starts a server on any free port, and returns when it is ready.
func serve(t *testing.T, dir string) *server {
	t.Helper()
	s := &server{t: t, stderr: new(bytes.Buffer)}
	s.command = exec.CommandContext(t.Context(), "postrider", "serve", "--listen", "127.0.0.1:0", "--data-dir", dir)
	s.command.Stderr = s.stderr
	stdout, err := s.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.command.Start(); err != nil {
		t.Fatalf("start the server: %v", err)
	}
	ready, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("read what the server says first: %v\n%s", err, s.stderr)
	}
	var found bool
	if _, s.address, found = strings.Cut(strings.TrimSpace(ready), "http://"); !found {
		t.Fatalf("got %q first, want the address of the API", ready)
	}
	return s
}

func (s *server) signal(signal os.Signal) {
	s.t.Helper()
	if err := s.command.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Fatalf("signal the server: %v", err)
	}
}

// stop asks for a graceful stop and waits for it.
func (s *server) stop(signal os.Signal) {
	s.t.Helper()
	s.signal(signal)
	if err := s.command.Wait(); err != nil {
		s.t.Errorf("got %v, want exit code 0\n%s", err, s.stderr)
	}
}

// send opens a connection and writes text on it.
func (s *server) send(text string) net.Conn {
	s.t.Helper()
	conn, err := new(net.Dialer).DialContext(s.t.Context(), "tcp", s.address)
	if err != nil {
		s.t.Fatalf("connect: %v", err)
	}
	s.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		s.t.Fatalf("send: %v", err)
	}
	return conn
}

func TestServe_StopsAtTheFirstSignal(t *testing.T) {
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			serve(t, t.TempDir()).stop(signal)
		})
	}
}

func TestServe_EndsAtOnceAtTheSecondSignal(t *testing.T) {
	s := serve(t, t.TempDir())
	// Half a request, which a graceful stop waits for. The server has taken it
	// up once it answers on a later connection.
	s.send("GET /healthz HTTP/1.1\r\nHost: ")
	idle := bufio.NewReader(s.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))
	if status, err := idle.ReadString('\n'); err != nil || !strings.Contains(status, "200") {
		t.Fatalf("got %q and error %v, want status 200", status, err)
	}

	s.signal(os.Interrupt)
	if _, err := io.Copy(io.Discard, idle); err != nil {
		t.Fatalf("wait for the stop to begin: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.command.Wait() }()
	// The process hears the first signal in two places, one after the other:
	// the second signal is repeated in case it comes between them.
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			s.signal(os.Interrupt)
		case err := <-ended:
			if status := s.command.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGINT {
				t.Errorf("got %v, want it to be ended by the signal\n%s", err, s.stderr)
			}
			return
		}
	}
}

func TestServe_DataDirectoryTakesOneProcess(t *testing.T) {
	dir := t.TempDir()
	first := serve(t, dir)
	text, err := exec.CommandContext(t.Context(), "postrider", "serve", "--listen", "127.0.0.1:0", "--data-dir", dir).CombinedOutput()
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() != 1 {
		t.Errorf("got %v, want exit code 1", err)
	}
	if want := fmt.Sprintf("postrider: error: %s is in use by another postrider process", dir); !strings.Contains(string(text), want) {
		t.Errorf("got %q, want %q in it", text, want)
	}
	first.stop(os.Interrupt)
	serve(t, dir).stop(os.Interrupt)
}

func TestServe_WritesItsAddressWhenReady(t *testing.T) {
	path := filepath.Join(t.TempDir(), "address")
	t.Setenv("POSTRIDER_ADDRESS_FILE", path)
	s := serve(t, t.TempDir())
	text, err := os.ReadFile(path)
	if err != nil || strings.TrimSpace(string(text)) != s.address {
		t.Errorf("got %q and error %v, want %s", text, err, s.address)
	}
	s.stop(os.Interrupt)
}

func TestBench_LosesNothing(t *testing.T) {
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(t.Context(), "postrider", "bench", "--count", "200", "--connections", "4", "--bare-for=100ms", "--dir", t.TempDir(), "--json")
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		t.Fatalf("got %v, want exit code 0\n%s", err, &stderr)
	}
	var result struct {
		Expected, Lost  int
		WrongSignatures int     `json:"signatures_wrong"`
		Checked         int     `json:"signatures_checked"`
		Delivered       float64 `json:"delivered_per_second"`
	}
	if err := json.Unmarshal(stdout.Bytes(), &result); err != nil {
		t.Fatalf("read %s: %v", &stdout, err)
	}
	if result.Expected != 200 || result.Lost != 0 || result.WrongSignatures != 0 || result.Checked == 0 || result.Delivered <= 0 {
		t.Errorf("got %s, want 200 deliveries, none lost, signatures checked", &stdout)
	}
}

// Two nodes on a database lose nothing, and the database is left as it was. One
// that has something in it stays as it is.
func TestBench_OnADatabaseLeavesItEmpty(t *testing.T) {
	cluster := pgtest.For(t, false)
	measure := func() (stdout, stderr string, err error) {
		var out, words bytes.Buffer
		command := exec.CommandContext(t.Context(), "postrider", "bench", "nodes", "--database-url", cluster.URL("postgres"), "--count", "200",
			"--connections", "4", "--bare-for=-1s", "--dir", t.TempDir(), "--json")
		command.Stdout, command.Stderr = &out, &words
		err = command.Run()
		return out.String(), words.String(), err
	}
	stdout, stderr, err := measure()
	if err != nil {
		t.Fatalf("got %v, want exit code 0\n%s", err, stderr)
	}
	var result struct {
		Expected, Lost int
		Load           struct{ Nodes int }
		Delivered      float64 `json:"delivered_per_second"`
		One            float64 `json:"delivered_by_one_per_second"`
		Ratio          float64 `json:"delivered_of_one"`
	}
	if err := json.Unmarshal([]byte(stdout), &result); err != nil {
		t.Fatalf("read %s: %v", stdout, err)
	}
	if result.Expected != 400 || result.Lost != 0 || result.Load.Nodes != 2 || result.Delivered <= 0 || result.One <= 0 || result.Ratio <= 0 {
		t.Errorf("got %s, want 400 deliveries, none lost, by two nodes and by one", stdout)
	}
	if err := cluster.Do(t.Context(), "postgres", `CREATE TABLE zzz (a int)`); err != nil {
		t.Fatal(err)
	}
	// Whatever the run had left would be named before it.
	if _, stderr, err := measure(); err == nil || !strings.Contains(stderr, "the database is not empty: it has zzz;") {
		t.Errorf("got %v, %s, want a database with a table refused", err, stderr)
	}
	if err := cluster.Do(t.Context(), "postgres", `DROP TABLE zzz`); err != nil {
		t.Errorf("the table is gone: %v", err)
	}
}

func TestSink_CountsWhatItGot(t *testing.T) {
	command := exec.CommandContext(t.Context(), "postrider", "sink", "--listen", "127.0.0.1:0", "--status", "503")
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	stdout := bufio.NewReader(out)
	line, err := stdout.ReadString('\n')
	_, url, found := strings.Cut(strings.TrimSpace(line), "Receiving on ")
	if err != nil || !found {
		t.Fatalf("got %q and error %v, want the address", line, err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/callback", strings.NewReader(`{"room":"204"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Clubmed-Event", "room_status.updated")
	response, err := new(http.Client).Do(request)
	if err != nil {
		t.Fatalf("deliver: %v", err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("got status %d, want 503", response.StatusCode)
	}
	if line, err := stdout.ReadString('\n'); err != nil || !strings.Contains(line, "room_status.updated") || !strings.Contains(line, "503") {
		t.Errorf("got %q and error %v, want the event and the status", line, err)
	}
	if err := command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if counts, err := io.ReadAll(stdout); err != nil || len(counts) == 0 {
		t.Errorf("got %q and error %v, want the counts", counts, err)
	}
	if err := command.Wait(); err != nil {
		t.Errorf("got %v, want exit code 0", err)
	}
}
