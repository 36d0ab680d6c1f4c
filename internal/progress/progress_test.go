package progress

import (
	"bytes"
	"testing"
)

func TestBlocks_ToAnEighth(t *testing.T) {
	for part, want := range map[float64]string{0: "    ", 0.001: "▏   ", 0.5: "██  ", 0.28125: "█▏  ", 1: "████", 2: "████"} {
		if got := Blocks(part, 4); got != want {
			t.Errorf("%v: got %q, want %q", part, got, want)
		}
	}
}

func TestBar_ShowsHowFar(t *testing.T) {
	b := &Bar{name: "throughput"}
	if got, want := b.line(), "throughput"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	b.Say("warming up")
	if got, want := b.line(), "throughput: warming up"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	total := int64(0)
	b.Count("deliveries", func() (int64, int64) { return 5000, total })
	if got, want := b.line(), "throughput: deliveries"; got != want {
		t.Errorf("got %q while there is no total, want %q", got, want)
	}
	total = 10_000
	if got, want := b.line(), "throughput: deliveries ▕███████████████               ▏  50 %  5,000 of 10,000"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	total = 4000
	if got, want := b.line(), "throughput: deliveries ▕██████████████████████████████▏ 100 %  5,000 of 4,000"; got != want {
		t.Errorf("got %q when more came than was said, want %q", got, want)
	}
}

// The whole life of a bar writes nothing where there is no terminal.
func TestBar_IsSilentWithoutATerminal(t *testing.T) {
	var out bytes.Buffer
	b := Start(&out, false, "throughput")
	b.Say("warming up")
	b.Clear()
	if out.Len() > 0 {
		t.Errorf("got %q, want nothing", out.String())
	}
}

// What is on the line belongs to the next words once the bar is cleared.
func TestBar_LeavesAnEmptyLine(t *testing.T) {
	var out bytes.Buffer
	Start(&out, true, "throughput").Clear()
	if got, want := out.String(), "\r\x1b[K"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
