package doctest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"postrider/internal/e2e"
)

// testName finds the tests in a cell: `TestSend_FollowsNoRedirect`,
// `FuzzRetryAfter`, or `TestStore/Accept/…` for a case of a suite.
var testName = regexp.MustCompile("`((?:Test|Fuzz)[^`]+)`")

// A promise without its test is a wish.
func TestGuarantees_NameTestsThatExist(t *testing.T) {
	named := 0
	for _, line := range read(t, "docs/guarantees.md").lines {
		row := cells(line)
		if !strings.HasPrefix(line, "|") || row[0] == "promise" || strings.Trim(row[0], "-") == "" && strings.Trim(row[1], "-") == "" {
			continue
		}
		if len(row) != 3 {
			t.Fatalf("got the row %q, want a promise, a package and its tests", line)
		}
		dir := strings.Trim(row[1], "`")
		found := testName.FindAllStringSubmatch(row[2], -1)
		if row[0] != "" && len(found) == 0 {
			t.Errorf("got no test of the promise %q", row[0])
		}
		for _, match := range found {
			named++
			if fault := missing(t, dir, match[1]); fault != "" {
				t.Errorf("%s in %s: %s", match[1], dir, fault)
			}
		}
	}
	if named < 100 {
		t.Errorf("got %d tests, want those of all promises", named)
	}
}

// What is written in scripts/mutations has to fit the tree, or nobody can tell
// whether a guard that was taken out is missed.
func TestMutations_FitTheTree(t *testing.T) {
	script, err := os.ReadFile(filepath.Join(root, "scripts/mutations"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(script), "<<'END'\n")
	table, _, _ = strings.Cut(table, "\nEND\n")
	records := strings.Split(table, "\n\n")
	for _, record := range records {
		lines := strings.Split(record, "\n")
		if len(lines) != 5 {
			t.Errorf("got a record of %d lines, want 5: %q", len(lines), record)
			continue
		}
		source, err := os.ReadFile(filepath.Join(root, lines[1]))
		if err != nil || !strings.Contains(string(source), lines[2]) {
			t.Errorf("%s: got no %q in %s: %v", lines[0], lines[2], lines[1], err)
		}
		dir, name, _ := strings.Cut(lines[4], " ")
		name, _, _ = strings.Cut(name, "/")
		functions, _ := tests(t, dir)
		if !slices.ContainsFunc(slices.Collect(maps.Keys(functions)), func(f string) bool { return functions[f] && strings.HasPrefix(f, name) }) {
			t.Errorf("%s: got no test %s in %s", lines[0], name, dir)
		}
	}
	if len(records) < 30 {
		t.Errorf("got %d records, want one for each guard", len(records))
	}
}

// missing says why a test cannot be run; "" means that it can. Cases stand in
// tables, of the store's suite too, which tests of another package run: for
// them it is enough that their name is written in one of the two.
func missing(t *testing.T, dir, name string) string {
	t.Helper()
	function, cases, _ := strings.Cut(name, "/")
	functions, texts := tests(t, dir)
	if !functions[function] {
		return "there is no such test"
	}
	_, suite := tests(t, "internal/storetest")
	for part := range strings.SplitSeq(cases, "/") {
		if part != "" && !texts[part] && !suite[part] {
			return "there is no case " + part
		}
	}
	return ""
}

// tests are a package's test functions, and all texts in its files.
func tests(t *testing.T, dir string) (functions, texts map[string]bool) {
	t.Helper()
	functions, texts = map[string]bool{}, map[string]bool{}
	names, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("got no package in %s: %v", dir, err)
	}
	for _, name := range names {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for node := range ast.Preorder(file) {
			switch node := node.(type) {
			case *ast.FuncDecl:
				functions[node.Name.Name] = node.Recv == nil && strings.HasSuffix(name, "_test.go")
			case *ast.BasicLit:
				texts[strings.Trim(node.Value, `"`)] = true
			}
		}
	}
	return functions, texts
}

func TestMissing_SeesATestThatIsGone(t *testing.T) {
	for _, name := range []string{"TestNothing", "TestGuarantees_NameTestsThatExist/NoSuch" + "Case"} {
		if missing(t, "internal/doctest", name) == "" {
			t.Errorf("got %s as a test that exists", name)
		}
	}
}

// SQLite has one writer: were a transaction open while a receiver thinks, no
// publish could be committed and no webhook changed until it answers.
func TestPromise_NoTransactionIsHeldWhileAReceiverAnswers(t *testing.T) {
	server := e2e.Start(t, t.TempDir())
	hanging, other := e2e.Listen(t), e2e.Listen(t)
	asked, answer := make(chan struct{}, 16), make(chan struct{})
	hanging.Answer(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		<-answer
		w.WriteHeader(http.StatusNoContent)
	})
	t.Cleanup(func() { close(answer) })
	create := func(url, event string) string {
		return server.Call("POST", "/v0/api_webhooks", []byte(`{"url": "`+url+`", "events": ["`+event+`"]}`)).Must(201).Text("id")
	}
	publish := func(event string) string {
		return server.Call("POST", "/v0/events", []byte(`{"event": "`+event+`", "payload": 1}`)).Must(202).Text("id")
	}
	slow := create(hanging.URL, "slow.event")
	create(other.URL, "quick.event")
	publish("slow.event")
	for range 2 { // the ping and the event
		select {
		case <-asked:
		case <-time.After(20 * time.Second):
			t.Fatal("the hanging receiver was not sent to")
		}
	}

	other.Event(t, publish("quick.event"))
	server.Call("PATCH", "/v0/api_webhooks/"+slow, []byte(`{"description": "still hanging"}`)).Must(200)
	if got := len(hanging.All()); got != 2 {
		t.Errorf("got %d requests at the hanging receiver, want the two that it still holds", got)
	}
}
