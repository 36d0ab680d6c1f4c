package testkit

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

var isolated = flag.Bool("isolated", false, "set in the processes that a test starts in namespaces of their own")

// Isolated runs the test once more, in a process that has Linux namespaces of
// its own (such as syscall.CLONE_NEWNET), and reports whether this is that
// process. The mounts and addresses that are made there are seen by nobody else
// and are gone with it. It takes root's rights, and fails without.
func Isolated(t *testing.T, namespaces uintptr) bool {
	t.Helper()
	if *isolated {
		return true
	}
	again := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-isolated")
	again.SysProcAttr = &syscall.SysProcAttr{Unshareflags: namespaces, Pdeathsig: syscall.SIGKILL}
	output, err := again.CombinedOutput()
	t.Logf("in namespaces of its own:\n%s", output)
	if err != nil || !strings.Contains(string(output), "--- PASS: "+t.Name()) {
		t.Errorf("got %v from the process with namespaces of its own; making them takes root's rights", err)
	}
	return false
}
