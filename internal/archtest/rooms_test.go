package archtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "postrider"

// A room is a package: what its code, its tests aside, may import beside the
// standard library. The zero room may import nothing more.
type room struct {
	// Rooms it may import, by directory; anything: all but those for tests.
	Rooms []string
	// Modules of others that it may import, by import path and all below it;
	// anything: all.
	Modules []string
	// ForTests means that only tests, and other rooms for tests, import it.
	ForTests bool
}

const (
	theRoot  = "." // the root package, which holds the nouns
	anything = "*"
)

// Modules that several rooms use.
const (
	kong      = "github.com/alecthomas/kong"
	jsonv2    = "github.com/go-json-experiment/json"
	goose     = "github.com/pressly/goose/v3"
	pgx       = "github.com/jackc/pgx/v5"
	compare   = "github.com/google/go-cmp"
	syncGroup = "golang.org/x/sync"
)

// rooms is the plan of the house. A new package gets its line here in the
// change that adds it; a line that must grow is a reason to think first.
var rooms = map[string]room{
	theRoot:         {},
	"signature":     {},
	"cmd/postrider": {Rooms: []string{"internal/app", "internal/bench", "internal/cli", "internal/config", "internal/sink"}},

	"internal/config":    {Rooms: []string{theRoot}, Modules: []string{kong, "go.yaml.in/yaml/v3"}},
	"internal/publish":   {Rooms: []string{theRoot}, Modules: []string{syncGroup}},
	"internal/registry":  {Rooms: []string{theRoot}, Modules: []string{syncGroup}},
	"internal/sealing":   {Rooms: []string{theRoot}},
	"internal/dispatch":  {Rooms: []string{theRoot, "signature"}, Modules: []string{syncGroup, "golang.org/x/time"}},
	"internal/egress":    {Rooms: []string{theRoot}, Modules: []string{syncGroup, "code.dny.dev/ssrf", "golang.org/x/net"}},
	"internal/ingress":   {Rooms: []string{theRoot}, Modules: []string{"golang.org/x/net"}},
	"internal/sqlite":    {Rooms: []string{theRoot}, Modules: []string{syncGroup, goose, "modernc.org/sqlite"}},
	"internal/postgres":  {Rooms: []string{theRoot}, Modules: []string{syncGroup, goose, pgx}},
	"internal/api":       {Rooms: []string{theRoot}, Modules: []string{syncGroup, jsonv2, "github.com/danielgtaylor/huma/v2", "golang.org/x/time"}},
	"internal/portal":    {Rooms: []string{theRoot, "signature"}, Modules: []string{syncGroup, "github.com/yuin/goldmark", "github.com/microcosm-cc/bluemonday"}},
	"internal/relay":     {Rooms: []string{theRoot}, Modules: []string{syncGroup, "github.com/coder/websocket"}},
	"internal/cli":       {Rooms: []string{theRoot, "internal/config", "internal/progress", "internal/relay", "signature"}, Modules: []string{syncGroup, kong}},
	"internal/sink":      {Rooms: []string{theRoot, "signature"}, Modules: []string{syncGroup}},
	"internal/progress":  {},
	"internal/bench":     {Rooms: []string{theRoot, "signature", "internal/progress", "internal/sink"}, Modules: []string{syncGroup}},
	"internal/transfer":  {Rooms: []string{theRoot}},
	"internal/telemetry": {Rooms: []string{theRoot}, Modules: []string{syncGroup, "github.com/prometheus/client_golang", "go.opentelemetry.io"}},
	"internal/app":       {Rooms: []string{anything}, Modules: []string{anything}},

	"internal/storetest":    {ForTests: true, Rooms: []string{theRoot}, Modules: []string{compare, "pgregory.net/rapid"}},
	"internal/pgtest":       {ForTests: true, Modules: []string{pgx}},
	"internal/testkit":      {ForTests: true, Rooms: []string{anything}, Modules: []string{anything}},
	"internal/browsertest":  {ForTests: true, Rooms: []string{anything}, Modules: []string{anything}},
	"internal/receivertest": {ForTests: true, Rooms: []string{theRoot, "signature", "internal/testkit"}, Modules: []string{compare}},
	"internal/nodetest":     {ForTests: true},
	"internal/archtest":     {ForTests: true},
	"internal/doctest":      {ForTests: true},
	"internal/e2e":          {ForTests: true, Rooms: []string{anything}, Modules: []string{anything}},
	"internal/faulttest":    {ForTests: true},
}

// refuse says why a room's code may not import a path; empty: it may.
func refuse(from, path string) string {
	here, listed := rooms[from]
	if !listed {
		return "the room is not in the table of internal/archtest"
	}
	if path == "C" {
		return "the program is built without cgo"
	}
	to, ours := strings.CutPrefix(path, module+"/")
	if path == module {
		to, ours = theRoot, true
	}
	if ours {
		there, listed := rooms[to]
		switch {
		case !listed:
			return "the imported room is not in the table of internal/archtest"
		case there.ForTests && !here.ForTests:
			return "the imported room is for tests only"
		case !slices.Contains(here.Rooms, anything) && !slices.Contains(here.Rooms, to):
			return "the room may not import that room"
		}
		return ""
	}
	// Only the standard library has import paths whose first element has no dot.
	if host, _, _ := strings.Cut(path, "/"); !strings.Contains(host, ".") {
		return ""
	}
	for _, allowed := range here.Modules {
		if allowed == anything || path == allowed || strings.HasPrefix(path, allowed+"/") {
			return ""
		}
	}
	return "the room may not import that module"
}

func TestRooms_ImportOnlyWhatTheTableAllows(t *testing.T) {
	for _, file := range sources(t) {
		if file.Test {
			continue
		}
		for _, spec := range file.Tree.Imports {
			path := strings.Trim(spec.Path.Value, `"`)
			if reason := refuse(file.Room, path); reason != "" {
				t.Errorf("%s: imports %s: %s", file.At(spec), path, reason)
			}
		}
	}
}

// A package without imports, or with tests alone, is a room too.
func TestRooms_EveryPackageIsListed(t *testing.T) {
	for _, file := range sources(t) {
		if _, listed := rooms[file.Room]; !listed {
			t.Errorf("%s: its room is not in the table of internal/archtest", file.Name)
		}
	}
}

// Who is new reads the plan in CONTRIBUTING.md, where a room has a line too.
func TestRooms_EveryPackageIsInThePlan(t *testing.T) {
	plan, err := os.ReadFile(filepath.Join(root, "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{theRoot: strings.Contains(string(plan), "\n| the root |")}
	for line := range strings.Lines(string(plan)) {
		if cells := strings.Split(line, "|"); len(cells) == 4 {
			for i, name := range strings.Split(cells[1], "`") {
				named[name] = named[name] || i%2 == 1
			}
		}
	}
	missing := map[string]bool{}
	for _, file := range sources(t) {
		if !named[file.Room] {
			missing[file.Room] = true
		}
	}
	for room := range missing {
		t.Errorf("%s: the table of CONTRIBUTING.md does not say what it knows", room)
	}
}

func TestRefuse(t *testing.T) {
	for _, test := range []struct {
		from, path string
		refused    bool
	}{
		{theRoot, "net/http", false},
		{theRoot, "postrider/signature", true},
		{theRoot, "golang.org/x/sync/errgroup", true},
		{"signature", "postrider", true},
		{"internal/sqlite", "postrider", false},
		{"internal/sqlite", "modernc.org/sqlite", false},
		{"internal/sqlite", "modernc.org/sqlite/lib", false},
		{"internal/sqlite", "modernc.org/sqlitefork", true},
		{"internal/sqlite", "postrider/internal/api", true},
		{"internal/api", "modernc.org/sqlite", true},
		{"internal/cli", "postrider/internal/sqlite", true},
		{"internal/app", "postrider/internal/sqlite", false},
		{"internal/app", "example.org/module", false},
		{"internal/app", "postrider/internal/testkit", true},
		{"internal/app", "postrider/internal/unlisted", true},
		{"internal/e2e", "postrider/internal/testkit", false},
		{"internal/unlisted", "fmt", true},
		{"internal/egress", "C", true},
	} {
		t.Run(fmt.Sprintf("%s imports %s", test.from, test.path), func(t *testing.T) {
			if reason := refuse(test.from, test.path); (reason != "") != test.refused {
				t.Errorf("got reason %q, want refused %v", reason, test.refused)
			}
		})
	}
}

func TestRooms_HaveNamesThatSayWhatTheyKnow(t *testing.T) {
	vague := []string{"util", "utils", "common", "models", "types", "helpers", "services", "pkg"}
	for _, file := range sources(t) {
		for _, word := range append(strings.Split(file.Room, "/"), file.Tree.Name.Name) {
			if slices.Contains(vague, word) {
				t.Errorf("%s: %q says nothing about what the package knows", file.Name, word)
			}
		}
	}
}

func TestRooms_SayWhatTheyAre(t *testing.T) {
	documented := map[string]bool{}
	for _, file := range sources(t) {
		documented[file.Room] = documented[file.Room] || file.Tree.Doc != nil
	}
	for name, ok := range documented {
		if !ok {
			t.Errorf("%s: got no package comment, want what it knows, what it must not know and who calls it", name)
		}
	}
}
