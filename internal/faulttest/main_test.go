package faulttest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

var (
	rounds    = flag.Int("rounds", 30, "how many faults a trial has; a thousand is a long one")
	firstSeed = flag.Uint64("seed", 1, "what a trial's faults, times and sizes follow from")

	isolated = flag.Bool("isolated", false, "set in the processes that a test starts in namespaces of their own")
	watched  = flag.Bool("watched", false, "run the program that follows with its syncs watched by whoever is at file 3")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *watched {
		fmt.Fprintln(os.Stderr, runWatched(flag.Args()))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// inside runs the test once more, in a process that has namespaces of its own,
// and reports whether this is that process. What is mounted there is seen by
// nobody else and is gone with it.
func inside(t *testing.T, namespaces uintptr) bool {
	t.Helper()
	if *isolated {
		return true
	}
	again := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v",
		"-isolated", "-seed", strconv.FormatUint(*firstSeed, 10))
	again.SysProcAttr = &syscall.SysProcAttr{Unshareflags: namespaces, Pdeathsig: syscall.SIGKILL}
	output, err := again.CombinedOutput()
	t.Logf("in namespaces of its own:\n%s", output)
	if err != nil || !strings.Contains(string(output), "--- PASS: "+t.Name()) {
		t.Errorf("got %v from the process with namespaces of its own; making them takes root's rights", err)
	}
	return false
}
