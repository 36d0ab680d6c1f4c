package faulttest

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

var (
	rounds    = flag.Int("rounds", 30, "how many faults a trial has; a thousand is a long one")
	firstSeed = flag.Uint64("seed", 1, "what a trial's faults, times and sizes follow from")

	watched = flag.Bool("watched", false, "run the program that follows with its syncs watched by whoever is at file 3")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *watched {
		fmt.Fprintln(os.Stderr, runWatched(flag.Args()))
		os.Exit(1)
	}
	os.Exit(m.Run())
}
