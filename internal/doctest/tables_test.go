package doctest

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"postrider/internal/api"
	"postrider/internal/e2e"
)

func TestTroubleshooting_ExplainsEveryFailureCode(t *testing.T) {
	wantSame(t, "docs/troubleshooting.md", read(t, "docs/troubleshooting.md").names(t, "Failure codes"), failureCodes(t))
}

// failureCodes are the constants of that type in the root package, as they are
// written there.
func failureCodes(t *testing.T) (codes []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "delivery.go"), nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for node := range ast.Preorder(file) {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			continue
		}
		kind, named := spec.Type.(*ast.Ident)
		value, literal := spec.Values[0].(*ast.BasicLit)
		if named && literal && kind.Name == "FailureCode" {
			codes = append(codes, strings.Trim(value.Value, `"`))
		}
	}
	if len(codes) < 10 {
		t.Fatalf("got the failure codes %q, want them all", codes)
	}
	return codes
}

// The page says what the server's own reference says, word by word.
func TestProblems_ListsEveryCode(t *testing.T) {
	var got, want []string
	for _, row := range read(t, "docs/problems.md").table(t, "Codes") {
		got = append(got, "| "+strings.Join(row, " | ")+" |")
	}
	for _, c := range api.Codes() {
		want = append(want, fmt.Sprintf("| `%s` | %d | %s |", c.Code, c.Status, c.Description))
	}
	wantSame(t, "docs/problems.md", got, want)
}

// An openAPI document, as far as these tests look into it.
type openAPI struct {
	Paths      map[string]map[string]any
	Components struct {
		Schemas map[string]struct{ Properties map[string]any }
	}
}

func TestAPI_TellsOfWhatThereIs(t *testing.T) {
	var document openAPI
	e2e.Start(t, t.TempDir()).Call("GET", "/openapi.json", nil).Must(200).Into(&document)
	p := read(t, "docs/api.md")
	for heading, schema := range map[string]string{
		"A webhook's fields": "Webhook", "A log entry's fields": "Entry", "An event's fields": "WholeEvent",
	} {
		var fields []string
		for name := range document.Components.Schemas[schema].Properties {
			if name != "$schema" {
				fields = append(fields, name)
			}
		}
		wantSame(t, "docs/api.md, "+heading, p.names(t, heading), fields)
	}

	// The overview need not have every route: the reference has. Those that it
	// and the other pages name must exist.
	routes := 0
	for _, p := range pages(t) {
		if p.name == "CHANGELOG.md" || strings.HasPrefix(p.name, "docs/decisions/") {
			continue // they tell of their day
		}
		for _, found := range route.FindAllStringSubmatch(strings.Join(p.lines, "\n"), -1) {
			routes++
			if document.Paths[found[2]][strings.ToLower(found[1])] == nil {
				t.Errorf("%s: tells of %s %s, which does not exist", p.name, found[1], found[2])
			}
		}
	}
	if routes < 30 {
		t.Errorf("got %d routes, want those of the whole documentation", routes)
	}
}

// route finds `POST /v0/events` and its like.
var route = regexp.MustCompile("`(GET|POST|PUT|PATCH|DELETE) (/v0/[^`?]*)`")

// The program's own list of commands is the whole one; a group of commands is
// one row.
func TestCommandLine_ListsEveryCommand(t *testing.T) {
	help, err := exec.CommandContext(t.Context(), e2e.Binary(t), "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, found := range command.FindAllStringSubmatch(string(help), -1) {
		if !slices.Contains(commands, found[1]) {
			commands = append(commands, found[1])
		}
	}
	wantSame(t, "docs/cli.md", read(t, "docs/cli.md").names(t, "Commands"), commands)
}

// command finds the first word of "  webhooks list      List webhooks, …".
var command = regexp.MustCompile(`(?m)^  ([a-z]+)(?: [a-z]+)? {2,}[A-Z]`)

// setting finds the links to a key of the settings.
var setting = regexp.MustCompile("\\[`([^`]+)`\\]\\([a-z./]*configuration\\.md#([^)]+)\\)")

func TestSettings_AreLinkedToByTheirName(t *testing.T) {
	links := 0
	for _, p := range pages(t) {
		for _, found := range setting.FindAllStringSubmatch(strings.Join(p.lines, "\n"), -1) {
			if links++; found[1] != found[2] {
				t.Errorf("%s: the link of %s leads to %s", p.name, found[1], found[2])
			}
		}
	}
	if links == 0 {
		t.Error("got no link to a setting")
	}
}

// A decision that is referred to by its number stays where it is.
func TestDecisions_AreNumberedWithoutGaps(t *testing.T) {
	names, err := filepath.Glob(filepath.Join(root, "docs/decisions/0*.md"))
	if err != nil || len(names) == 0 {
		t.Fatalf("got no decisions: %v", err)
	}
	slices.Sort(names)
	for i, name := range names {
		base := filepath.Base(name)
		if !strings.HasPrefix(base, fmt.Sprintf("%04d-", i+1)) {
			t.Errorf("got %s as decision %d", base, i+1)
		}
		text := strings.Join(read(t, "docs/decisions/"+base).lines, "\n")
		for _, part := range []string{fmt.Sprintf("# %d. ", i+1), "\n**Context.** ", "\n**Measured.** ", "\n**Chosen.** "} {
			if !strings.Contains(text, part) {
				t.Errorf("%s: lacks %q", base, part)
			}
		}
	}
}

// Guards the comparison above against a table that reads as empty.
func TestWantSame_SeesEachDifference(t *testing.T) {
	for _, lists := range [][2][]string{{{"a"}, {"a", "b"}}, {{"a", "b"}, {"a"}}, {{"a", "a"}, {"a"}}} {
		inner := &testing.T{}
		wantSame(inner, "a page", lists[0], lists[1])
		if !inner.Failed() {
			t.Errorf("got no difference between %q and %q", lists[0], lists[1])
		}
	}
	var text any
	if json.Unmarshal([]byte(`{}`), &text) != nil || same("{}", `{"a":1}`) || !same(`{"dns":0.1}`, `{"dns":2}`) {
		t.Error("got answers compared wrongly")
	}
}
