// Package pgtest runs a real PostgreSQL for the tests of one process, on a port
// and in a directory of its own.
//
// It knows how to make, start, stop, freeze and kill a cluster. It must not know what
// is stored in it. Tests of the stores and of whole servers call it.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Cluster is a PostgreSQL server and its data.
type Cluster struct {
	dir   string // holds data and log
	bin   string
	port  int
	owner *syscall.Credential // nil: this process's own user
	flags []string

	process *os.Process
	ended   chan error
	frozen  []int // process ids
}

// For starts a cluster that ends with the test.
func For(t testing.TB, fsync bool, settings ...string) *Cluster {
	t.Helper()
	c, err := Start(fsync, settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Start makes a cluster and starts its server. What it stores is only as
// durable as fsync says: tests that kill the server want it on. Settings are
// name=value.
func Start(fsync bool, settings ...string) (_ *Cluster, err error) {
	c := new(Cluster)
	if c.bin, err = binaries(); err != nil {
		return nil, err
	}
	if c.dir, err = os.MkdirTemp("", "pgtest"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	if err := c.becomeOwned(); err != nil {
		return nil, err
	}
	if out, err := c.command("initdb", "--pgdata", c.data(), "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale",
		"--no-sync", "--no-instructions").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	if c.port, err = freePort(); err != nil {
		return nil, err
	}
	for _, setting := range append([]string{
		"port=" + strconv.Itoa(c.port), "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=" + onOff(fsync),
		"synchronous_commit=" + onOff(fsync), "full_page_writes=" + onOff(fsync), "max_connections=200", "shared_buffers=128MB",
		"logging_collector=off", "timezone=UTC",
	}, settings...) {
		c.flags = append(c.flags, "-c", setting)
	}
	return c, c.Restart()
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// binaries is the directory of the newest PostgreSQL that is installed.
func binaries() (string, error) {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // as Debian has them
	slices.SortFunc(dirs, func(a, b string) int { return version(b) - version(a) })
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil {
			return dir, nil
		}
	}
	initdb, err := exec.LookPath("initdb")
	if err != nil {
		return "", errors.New("these tests need PostgreSQL's server (initdb and postgres): run scripts/install-test-tools, or install Debian's package postgresql")
	}
	return filepath.Dir(initdb), nil
}

func version(dir string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
	if err != nil {
		return 0
	}
	return n
}

// becomeOwned gives the directory to a user that is not root, as whom
// PostgreSQL refuses to run.
func (c *Cluster) becomeOwned() error {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(found.Uid, 10, 32)
		if err != nil {
			return err
		}
		gid, err := strconv.ParseUint(found.Gid, 10, 32)
		if err != nil {
			return err
		}
		c.owner = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return os.Chown(c.dir, int(uid), int(gid))
	}
	return errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

// Dir is where the cluster keeps its data.
func (c *Cluster) Dir() string { return c.data() }

func (c *Cluster) command(name string, args ...string) *exec.Cmd {
	command := exec.Command(filepath.Join(c.bin, name), args...) //nolint:gosec,noctx // it is stopped by Stop
	command.Dir = c.dir
	command.SysProcAttr = &syscall.SysProcAttr{Credential: c.owner}
	return command
}

func freePort() (int, error) {
	var listen net.ListenConfig
	listener, err := listen.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port := listener.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is TCP
	return port, listener.Close()
}

// URL is how a database of the cluster is reached.
func (c *Cluster) URL(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.User("postgres"), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)), Path: "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// startWait bounds a start, which may have to recover first.
const startWait = time.Minute

// Restart starts the server, after ending the one that runs as one that is told
// to restart ends: its connections are cut.
func (c *Cluster) Restart() error {
	if err := c.end(syscall.SIGINT); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	command := c.command("postgres", append([]string{"-D", c.data()}, c.flags...)...)
	command.Stdout, command.Stderr = log, log
	// The server dies with this process. The kernel means the thread that
	// started it, so that one is kept.
	command.SysProcAttr.Pdeathsig = syscall.SIGQUIT
	started := make(chan error, 1)
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		started <- err
		if err == nil {
			ended <- command.Wait()
		}
		log.Close() //nolint:errcheck // what was written is written
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	c.process, c.ended = command.Process, ended
	return c.awaitReady()
}

func (c *Cluster) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), startWait)
	defer cancel()
	for {
		err := c.Do(ctx, "postgres", `SELECT 1`)
		if err == nil {
			return nil
		}
		select {
		case why := <-c.ended:
			c.ended <- why
			return fmt.Errorf("postgres has ended: %w: %s", why, c.Log())
		case <-ctx.Done():
			return fmt.Errorf("postgres does not answer: %w: %s", err, c.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Log is what the server has said last.
func (c *Cluster) Log() string {
	text, err := os.ReadFile(filepath.Join(c.dir, "log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// Do runs statements in a database, without parameters.
func (c *Cluster) Do(ctx context.Context, database string, statements ...string) (err error) {
	conn, err := pgx.Connect(ctx, c.URL(database))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// Kill ends the server as a crash of its machine would, fsync aside.
func (c *Cluster) Kill() error { return c.end(syscall.SIGQUIT) }

// Halt ends the server in order, and leaves it down.
func (c *Cluster) Halt() error { return c.end(syscall.SIGINT) }

// Freeze stops the server and all its processes where they are: connections
// stay, new ones are taken by the kernel, and nobody answers.
func (c *Cluster) Freeze() error {
	// The postmaster goes first, so that no process is added meanwhile.
	if err := c.stopProcess(c.process.Pid); err != nil {
		return err
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return err
	}
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		// The name in brackets may hold anything; state and parent follow it.
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) < 2 || fields[1] != strconv.Itoa(c.process.Pid) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			return err
		}
		if err := c.stopProcess(pid); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) stopProcess(pid int) error {
	err := syscall.Kill(pid, syscall.SIGSTOP)
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	c.frozen = append(c.frozen, pid)
	return err
}

// Thaw lets a server that was frozen go on.
func (c *Cluster) Thaw() error {
	var errs []error
	for _, pid := range c.frozen {
		if err := syscall.Kill(pid, syscall.SIGCONT); !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, err)
		}
	}
	c.frozen = nil
	return errors.Join(errs...)
}

// endWait bounds an end in order, with its checkpoint.
const endWait = 30 * time.Second

func (c *Cluster) end(how os.Signal) error {
	if c.process == nil {
		return nil
	}
	if err := c.process.Signal(how); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if err := c.Thaw(); err != nil { // a frozen one does not hear it
		return err
	}
	deadline := time.AfterFunc(endWait, func() { c.process.Kill() }) //nolint:errcheck // it may have ended meanwhile
	defer deadline.Stop()
	if err := <-c.ended; err != nil && !errors.As(err, new(*exec.ExitError)) {
		return err
	}
	c.process = nil
	return nil
}

// Stop ends the server and removes its data.
func (c *Cluster) Stop() error { return errors.Join(c.end(syscall.SIGQUIT), os.RemoveAll(c.dir)) }
