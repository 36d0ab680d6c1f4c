package doctest

import (
	"regexp"
	"strings"
	"testing"

	"postrider/internal/e2e"
)

// Two commands are all that a newcomer types, and they are typed as written.
func TestReadme_HasTwoCommands(t *testing.T) {
	var commands []string
	for _, b := range read(t, "README.md").blocks {
		if b.language == "sh" {
			commands = append(commands, strings.TrimSpace(b.text))
		}
	}
	wantSame(t, "README.md", commands, []string{"go run ./cmd/postrider serve --dev", "make test"})
}

// The greeting is what a newcomer compares with the page. Its keys and address
// are others each time, and whether there is a receiver depends on what else
// runs on the machine.
func TestReadme_ShowsWhatTheServerPrints(t *testing.T) {
	changing := regexp.MustCompile(`prk_[\w-]+|` + regexp.QuoteMeta(e2e.AdminKey) + `|127\.0\.0\.1:\d+|(?m)^  receiver .*$`)
	var want string
	for _, b := range read(t, "README.md").blocks {
		if strings.HasPrefix(b.text, "Postrider is ready") {
			want = changing.ReplaceAllString(b.text, "…")
		}
	}
	server := e2e.Start(t, t.TempDir(), "--dev")
	e2e.Until(t, "the greeting", func() bool { return strings.Contains(server.Log(), "Read the logs:\n  curl ") })
	got := changing.ReplaceAllString(server.Log(), "…")
	if want == "" || !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
