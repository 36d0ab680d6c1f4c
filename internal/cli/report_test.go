package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
)

// listenError is what listening on an address ends with.
func listenError(t *testing.T, address string) error {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	if err == nil {
		listener.Close()
		t.Fatalf("listening on %s: got no error", address)
	}
	return fmt.Errorf("listen for the API: %w", err)
}

func TestHint_NamesTheNextStep(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"port in use":             {listenError(t, taken.Addr().String()), "another process listens on " + taken.Addr().String()},
		"address of another":      {listenError(t, "203.0.113.1:0"), "--listen takes an address of this machine"},
		"privileged port":         {&net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EACCES)}, "choose one from 1024 on"},
		"directory below a file":  {fmt.Errorf("make the data directory: %w", os.MkdirAll(filepath.Join(file, "data"), 0o700)), "choose one with --data-dir"},
		"unreadable directory":    {&fs.PathError{Op: "open", Path: "data", Err: syscall.EACCES}, "choose one with --data-dir"},
		"directory in use":        {fmt.Errorf("lock the data directory: %w", syscall.EWOULDBLOCK), "stop that process"},
		"full disk":               {&fs.PathError{Op: "write", Path: "data", Err: syscall.ENOSPC}, "free some"},
		"a connection of our own": {&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, ""},
		"anything else":           {errors.New("the store failed"), ""},
	} {
		if got := hintFor(test.err); !strings.Contains(got, test.want) || (got == "") != (test.want == "") {
			t.Errorf("%s (%v): got hint %q, want %q in it", name, test.err, got, test.want)
		}
	}
}

func TestReport_JoinedErrorsAreOneLine(t *testing.T) {
	var stderr bytes.Buffer
	p := &process{stderr: &stderr}
	if code := p.failed(errors.Join(errors.New("a"), errors.New("b"))); code != exitFailed {
		t.Errorf("got exit code %d, want %d", code, exitFailed)
	}
	if got, want := stderr.String(), "postrider: error: a; b\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestVersion_IsTheLinkersElseTheModules(t *testing.T) {
	module := func(version string, settings ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Version: version}, Settings: settings}
	}
	for name, test := range map[string]struct {
		linker string
		info   *debug.BuildInfo
		want   string
	}{
		"linker":    {"v1.0.0", module("v0.9.0"), "postrider v1.0.0\ncommit unknown\n"},
		"module":    {"", module("v0.9.0"), "postrider v0.9.0\ncommit unknown\n"},
		"go run":    {"", module("(devel)"), "postrider devel\ncommit unknown\n"},
		"no module": {"", module(""), "postrider devel\ncommit unknown\n"},
		"commit":    {"v1.0.0", module("", debug.BuildSetting{Key: "vcs.revision", Value: "abc"}, debug.BuildSetting{Key: "vcs.modified", Value: "false"}), "postrider v1.0.0\ncommit abc\n"},
		"changed":   {"v1.0.0", module("", debug.BuildSetting{Key: "vcs.revision", Value: "abc"}, debug.BuildSetting{Key: "vcs.modified", Value: "true"}), "postrider v1.0.0\ncommit abc, with changes\n"},
	} {
		if got := newBuild(test.linker, test.info).String(); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: got %q, want it to begin with %q", name, got, test.want)
		}
	}
}
