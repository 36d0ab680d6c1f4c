package archtest

import (
	"bytes"
	"go/ast"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// complaints are what a rule finds wrong in a file.
type complaints []string

// A habit is a rule of one file, with a snippet that breaks it: a rule that
// finds nothing anywhere may just as well be blind.
var habits = []struct {
	name   string
	broken string // the body of a Go file
	in     string // where the snippet stands
	check  func(*source) complaints
}{
	{"TestsNeverSkip", `import "testing"; func TestX(t *testing.T) { t.Skip("no database") }`, "signature/x_test.go", skips},
	{"CommandLineStaysThin", "func main() {\n" + strings.Repeat("\n", 60) + "}", "cmd/postrider/main.go", longMain},
	{"InterfacesAreSmall", `type Store interface { A(); B(); C(); D(); E(); F() }`, "internal/api/x.go", largeInterfaces},
	{"OnlyEgressReachesOut", `import h "net/http"; var client = &h.Client{}`, "internal/dispatch/x.go", outbound},
	{"QueriesNameTheirColumns", "const sql = `SELECT\n * FROM webhooks`", "internal/sqlite/x.go", selectStar},
	{"OpenEndsNameTheirIssue", "// " + "TODO: later\nvar x int", "internal/api/x.go", openEnds},
}

func TestHabits(t *testing.T) {
	files := sources(t)
	for _, habit := range habits {
		t.Run(habit.name, func(t *testing.T) {
			if broken := newSource(t, habit.in, []byte("package x\n"+habit.broken+"\n")); len(habit.check(broken)) == 0 {
				t.Errorf("got no complaint about %q", habit.broken)
			}
			for _, file := range files {
				for _, complaint := range habit.check(file) {
					t.Error(complaint)
				}
			}
		})
	}
}

// skips finds tests that can pass without having run. Where a part that a test
// needs is missing, the test fails.
func skips(file *source) (found complaints) {
	if !slices.Contains(file.Imports(), "testing") {
		return nil
	}
	for node := range ast.Preorder(file.Tree) {
		method, ok := node.(*ast.SelectorExpr)
		if ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, method.Sel.Name) {
			found = append(found, file.At(method)+": a test never skips")
		}
	}
	return found
}

// longMain keeps everything but signals out of main: what stands there cannot
// be called by a test.
func longMain(file *source) complaints {
	if lines := bytes.Count(file.Text, []byte("\n")); file.Name == "cmd/postrider/main.go" && lines >= 60 {
		return complaints{file.Name + ": main is signals and run(): under 60 lines"}
	}
	return nil
}

// largeInterfaces finds interfaces that ask for more than their user needs. Of
// all packages only app sees the whole store, and only storetest tests it.
func largeInterfaces(file *source) (found complaints) {
	if file.Room == "internal/app" || file.Room == "internal/storetest" {
		return nil
	}
	for node := range ast.Preorder(file.Tree) {
		if asked, ok := node.(*ast.InterfaceType); ok && asked.Methods.NumFields() > 5 {
			found = append(found, file.At(asked)+": an interface has five methods or fewer")
		}
	}
	return found
}

// outbound finds code that could send to an address that the guard has not
// seen. Free of it are the clients of our own server (the commands, the listener
// and the load generator) and what only tests run.
func outbound(file *source) (found complaints) {
	if file.Test || rooms[file.Room].ForTests ||
		slices.Contains([]string{"internal/egress", "internal/cli", "internal/relay", "internal/bench"}, file.Room) {
		return nil
	}
	reaching := map[string]*regexp.Regexp{
		"net/http":   regexp.MustCompile(`^(Client|Transport|DefaultClient|DefaultTransport|Get|Head|Post|PostForm)$`),
		"net":        regexp.MustCompile(`^Dial`),
		"crypto/tls": regexp.MustCompile(`^(Dial|Client$)`),
	}
	names := map[string]*regexp.Regexp{} // by the name that the file gives the package
	for i, path := range file.Imports() {
		name := path[strings.LastIndex(path, "/")+1:]
		if given := file.Tree.Imports[i].Name; given != nil {
			name = given.Name
		}
		names[name] = reaching[path]
	}
	for node := range ast.Preorder(file.Tree) {
		selector, ok := node.(*ast.SelectorExpr)
		if !ok {
			continue
		}
		pkg, ok := selector.X.(*ast.Ident)
		if ok && names[pkg.Name] != nil && names[pkg.Name].MatchString(selector.Sel.Name) {
			found = append(found, file.At(selector)+": only internal/egress reaches out")
		}
	}
	return found
}

var star = regexp.MustCompile(`(?i)\bselect\s+(\w+\.)?\*`)

// selectStar finds queries whose result changes with the next migration.
func selectStar(file *source) complaints {
	if !file.Test && strings.HasPrefix(file.Room, "internal/") && star.Match(file.Text) {
		return complaints{file.Name + ": a query names its columns"}
	}
	return nil
}

var (
	openEnd   = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)
	withIssue = regexp.MustCompile(`\bTODO\(#\d+\):`)
)

// openEnds finds notes to oneself that no issue follows up.
func openEnds(file *source) (found complaints) {
	for _, group := range file.Tree.Comments {
		if text := group.Text(); openEnd.MatchString(text) && !withIssue.MatchString(text) {
			found = append(found, file.At(group)+": what is left open names its issue, or goes")
		}
	}
	return found
}

// machinePath is a path that exists on one developer's machine only. It is put
// together here so that this file does not hold one.
var machinePath = regexp.MustCompile(`(^|[^\w./-])/(` + `work|root|Users)/\w`)

func TestTree_NamesNoPathOfOneMachine(t *testing.T) {
	if !machinePath.MatchString("see /" + "work/main") {
		t.Error("got no match of a machine's path")
	}
	walk(t, func(name string, text []byte) {
		if !utf8.Valid(text) {
			return
		}
		for line := range bytes.Lines(text) {
			if found := machinePath.Find(line); found != nil {
				t.Errorf("%s: names %q", name, found)
			}
		}
	})
}
