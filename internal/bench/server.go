package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"postrider"
)

// A server is the Postrider that is measured: a child of ours, or one that
// runs already.
type server struct {
	address string // host:port
	key     string
	tenant  string // empty: the default one
	pid     int    // 0: not known, nothing is told about its CPU and memory

	child   *exec.Cmd     // nil when it is not ours
	ended   chan struct{} // closed when the child has ended
	ready   time.Duration // from its start until it was ready
	dataDir string
}

// benchTenant keeps the load away from the webhooks of a server that was there
// before.
const benchTenant = "bench"

// attach names a server that runs already.
func attach(o Options) (*server, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return nil, &postrider.Error{
			Kind: postrider.Invalid, Field: "url", Code: "invalid_url",
			Detail: "The server's URL is http://, an address and a port, such as http://127.0.0.1:8080.",
		}
	}
	if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsLoopback() {
		return nil, &postrider.Error{
			Kind: postrider.Invalid, Field: "url", Code: "not_loopback",
			Detail: "Only a server on a loopback address can be measured: the receivers listen on 127.0.0.1, and nobody else's server is to be loaded by mistake.",
		}
	}
	if o.AdminKey == "" {
		return nil, &postrider.Error{
			Kind: postrider.Invalid, Field: "admin_key", Code: "required", Detail: "The operator's key of the server is needed to publish.",
		}
	}
	address := u.Host
	if u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), "80")
	}
	return &server{address: address, key: o.AdminKey, tenant: benchTenant, pid: o.PID}, nil
}

// startWait bounds how long a child may take to become ready.
const startWait = time.Minute

// start starts a child on a data directory, and returns when it is ready.
func start(ctx context.Context, o Options, dataDir, key string) (*server, error) {
	s := &server{key: key, dataDir: dataDir, ended: make(chan struct{})}
	addressFile := filepath.Join(dataDir, "bench-address")
	if err := os.Remove(addressFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the address of the last start: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(dataDir, "bench-log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the server's log: %w", err)
	}
	args := append([]string{
		"serve", "--listen=127.0.0.1:0", "--data-dir=" + dataDir, "--admin-key=" + key,
		"--allow-cidrs=127.0.0.0/8", "--address-file=" + addressFile,
		"--webhooks-per-tenant=0", "--connections-per-client=0", "--operator-request-rate=0", // it is the server's pace that is measured
	}, o.ServeArgs...)
	// Not CommandContext: it would kill the child without waiting for it here.
	s.child = exec.Command(o.Executable, args...) //nolint:gosec,noctx // our own executable
	s.child.Stdout, s.child.Stderr = log, log
	s.child.Env = withoutSettings(os.Environ())
	if o.Database != nil { // not as a flag, which others could read
		s.child.Env = append(s.child.Env, "POSTRIDER_DATABASE_URL="+o.Database.URL, "POSTRIDER_ENCRYPTION_KEY="+o.Database.key)
	}
	// The child must not outlive us, however we end.
	s.child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	err = s.child.Start()
	if closed := log.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, fmt.Errorf("start a server: %w", err)
	}
	s.pid = s.child.Process.Pid
	go func() {
		s.child.Wait() //nolint:errcheck // its ProcessState tells how it ended
		close(s.ended)
	}()
	if s.address, err = s.awaitReady(ctx, addressFile); err != nil {
		s.kill()
		return nil, fmt.Errorf("%w\n%s", err, s.logTail())
	}
	s.ready = time.Since(began)
	return s, nil
}

// withoutSettings leaves out what would configure the child beside its flags.
func withoutSettings(environment []string) (rest []string) {
	for _, variable := range environment {
		if !strings.HasPrefix(variable, "POSTRIDER_") {
			rest = append(rest, variable)
		}
	}
	return rest
}

// awaitReady looks for the address file once in a millisecond, which is as
// exact as the time to ready is told.
func (s *server) awaitReady(ctx context.Context, file string) (address string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startWait, errors.New("the server was not ready in time"))
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-s.ended:
			return "", fmt.Errorf("the server ended at its start: %v", s.child.ProcessState)
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-tick.C:
		}
		text, err := os.ReadFile(file)
		if line, whole := strings.CutSuffix(string(text), "\n"); err == nil && whole {
			return line, nil
		}
	}
}

// logTail is the end of what the child has logged.
func (s *server) logTail() string {
	text, err := os.ReadFile(filepath.Join(s.dataDir, "bench-log"))
	if err != nil {
		return err.Error()
	}
	const most = 2000
	text = bytes.TrimSpace(text)
	return string(text[max(0, len(text)-most):])
}

// alive is nil while the server runs, as far as it can be seen.
func (s *server) alive() error {
	if s.child == nil {
		return nil
	}
	select {
	case <-s.ended:
		return fmt.Errorf("the server ended: %v\n%s", s.child.ProcessState, s.logTail())
	default:
		return nil
	}
}

// kill ends a child at once, as kill -9 does, and waits for its end.
func (s *server) kill() {
	if s.child == nil {
		return
	}
	s.child.Process.Kill() //nolint:errcheck // it has ended already
	<-s.ended
	s.child = nil
}

// stopWait bounds how long a server may take to end in order.
const stopWait = 30 * time.Second

// stop has a child end in order: it gives up what it has claimed at once.
func (s *server) stop() error {
	if err := s.child.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop a server: %w", err)
	}
	select {
	case <-s.ended:
		s.child = nil
		return nil
	case <-time.After(stopWait):
		s.kill()
		return errors.New("a server did not stop in time")
	}
}

// userHertz is the unit of times in /proc: 100 a second on every machine that
// Go runs on with Linux.
const userHertz = 100

// cpu is the processor time that the server has used.
func (s *server) cpu() (used time.Duration, ok bool) {
	if s.pid == 0 {
		return 0, false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid))
	if err != nil {
		return 0, false
	}
	return parseStat(string(text))
}

// parseStat reads user and system time, the 14th and 15th field. The second is
// the program's name in brackets, which may itself hold spaces and brackets.
func parseStat(text string) (used time.Duration, ok bool) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	const user, system = 14 - 3, 15 - 3
	if len(fields) <= system {
		return 0, false
	}
	u, errUser := strconv.ParseInt(fields[user], 10, 64)
	v, errSystem := strconv.ParseInt(fields[system], 10, 64)
	return time.Duration(u+v) * time.Second / userHertz, errUser == nil && errSystem == nil
}

// memory is a line of the server's /proc status in MiB: VmHWM is the most that
// was resident, VmRSS what is now.
func (s *server) memory(name string) (mib float64, ok bool) {
	if s.pid == 0 {
		return 0, false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		return 0, false
	}
	return parseStatus(string(text), name)
}

func parseStatus(text, name string) (mib float64, ok bool) {
	for line := range strings.Lines(text) {
		if value, found := strings.CutPrefix(line, name+":"); found {
			kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64)
			return kib / 1024, err == nil
		}
	}
	return 0, false
}
