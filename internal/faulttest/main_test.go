package faulttest

import (
	"flag"
	"os"
	"testing"
)

var (
	rounds    = flag.Int("rounds", 30, "how many faults a trial has; a thousand is a long one")
	firstSeed = flag.Uint64("seed", 1, "what a trial's faults, times and sizes follow from")
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(m.Run())
}
