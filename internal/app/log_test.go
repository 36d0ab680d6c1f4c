package app

import (
	"bytes"
	"log"
	"log/slog"
	"strings"
	"testing"
)

// net/http prints to the standard logger what a receiver sends unasked.
func TestTakeStandardLog_OnlyDetailsHaveIt(t *testing.T) {
	before := log.Writer()
	for level, want := range map[slog.Level]bool{slog.LevelInfo: false, slog.LevelDebug: true} {
		var text bytes.Buffer
		undo := takeStandardLog(slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: level})))
		log.Default().Print("said by a library") //nolint:forbidigo // as the library does
		undo()
		if got := strings.Contains(text.String(), `msg="said by a library"`); got != want {
			t.Errorf("at level %v: got %q, want it there %v", level, &text, want)
		}
	}
	if log.Writer() != before {
		t.Error("got the standard logger changed for good")
	}
}
