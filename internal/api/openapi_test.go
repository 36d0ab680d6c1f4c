package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postrider"
	"postrider/internal/api"
)

var update = flag.Bool("update", false, "write the golden files")

// document is the OpenAPI document, as plain values.
func (c *client) document() map[string]any {
	c.tb.Helper()
	a := c.do("", "GET", "/openapi.json", "").want(200)
	if got := a.Header().Get("Content-Type"); got != "application/openapi+json" {
		c.tb.Errorf("got the type %q", got)
	}
	return a.object()
}

func TestOpenAPI_Golden(t *testing.T) {
	const golden = "testdata/openapi.json"
	got, err := json.MarshalIndent(newClient(t).document(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(golden, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("the document has changed; if it was meant to, run go test -update: %s", diff)
	}
}

// operations calls f with each operation of the document.
func operations(document map[string]any, f func(name string, op map[string]any)) {
	for path, item := range document["paths"].(map[string]any) {
		for method, op := range item.(map[string]any) {
			f(strings.ToUpper(method)+" "+path, op.(map[string]any))
		}
	}
}

func TestOpenAPI_HasEveryRouteWhole(t *testing.T) {
	document := newClient(t).document()
	var got, want, ids []string
	for _, r := range allRoutes {
		want = append(want, r.method+" "+strings.NewReplacer("{event_id}", "{id}", "{key_id}", "{id}", "{replay_id}", "{id}").Replace(r.path))
	}
	operations(document, func(name string, op map[string]any) {
		got = append(got, name)
		ids = append(ids, op["operationId"].(string))
		if op["summary"] == "" || op["description"] == "" || len(op["tags"].([]any)) != 1 {
			t.Errorf("%s: is not documented: %v", name, op)
		}
		parameters := map[string]bool{}
		list, _ := op["parameters"].([]any)
		for _, p := range list {
			p := p.(map[string]any)
			parameters[p["name"].(string)] = true
			if p["description"] == nil && p["schema"].(map[string]any)["enum"] == nil {
				t.Errorf("%s: the parameter %s is not described", name, p["name"])
			}
		}
		for _, match := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(name, -1) {
			if !parameters[match[1]] {
				t.Errorf("%s: the parameter %s is not listed", name, match[1])
			}
		}
		succeeds := false
		for status, answer := range op["responses"].(map[string]any) {
			content, _ := answer.(map[string]any)["content"].(map[string]any)
			succeeds = succeeds || status < "300"
			if status >= "400" && content["application/problem+json"] == nil {
				t.Errorf("%s: the answer %s is no problem document", name, status)
			}
		}
		if !succeeds {
			t.Errorf("%s: no answer is a success", name)
		}
		if body, found := op["requestBody"].(map[string]any); found {
			for mediaType, media := range body["content"].(map[string]any) {
				if media.(map[string]any)["schema"] == nil {
					t.Errorf("%s: the body as %s has no schema", name, mediaType)
				}
			}
		}
	})
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	slices.Sort(ids)
	if unique := slices.Compact(slices.Clone(ids)); len(unique) != len(ids) {
		t.Errorf("an operationId stands for two operations: %v", ids)
	}
	if document["openapi"] != "3.1.0" || document["info"].(map[string]any)["version"] != "1.2.3" {
		t.Errorf("got %v, %v", document["openapi"], document["info"])
	}
}

// walk calls f with every value in v.
func walk(v any, f func(any)) {
	f(v)
	switch v := v.(type) {
	case map[string]any:
		for _, inner := range v {
			walk(inner, f)
		}
	case []any:
		for _, inner := range v {
			walk(inner, f)
		}
	}
}

func TestOpenAPI_ReferencesResolve(t *testing.T) {
	document := newClient(t).document()
	schemas := document["components"].(map[string]any)["schemas"].(map[string]any)
	used := map[string]bool{}
	walk(document, func(v any) {
		object, _ := v.(map[string]any)
		ref, _ := object["$ref"].(string)
		if name, found := strings.CutPrefix(ref, "#/components/schemas/"); found {
			used[name] = true
			if schemas[name] == nil {
				t.Errorf("%s leads nowhere", ref)
			}
		}
		if len(ref) > 0 && len(object) > 1 && object["description"] == nil {
			t.Errorf("%s stands beside %v", ref, object)
		}
	})
	for name := range schemas {
		if !used[name] {
			t.Errorf("nothing uses the schema %s", name)
		}
	}
}

// The fields that the document promises are those that are sent.
func TestOpenAPI_SaysWhatIsSent(t *testing.T) {
	c := newClient(t)
	replace := acme(t, c.world)
	schemas := c.document()["components"].(map[string]any)["schemas"].(map[string]any)
	for path, name := range map[string]string{
		"/v0/api_webhooks/{id}":              "Webhook",
		"/v0/api_webhooks/logs/{attempt_id}": "WholeEntry",
		"/v0/api_webhooks/events/{event}":    "EventType",
		"/v0/events/{event_id}":              "WholeEvent",
		"/v0/replays/{replay_id}":            "Replay",
	} {
		schema, found := schemas[name].(map[string]any)
		if !found {
			t.Errorf("there is no schema %s", name)
			continue
		}
		properties := schema["properties"].(map[string]any)
		sent := c.do("acme", "GET", replace.Replace(path), "").want(200).object()
		for field := range sent {
			if properties[field] == nil {
				t.Errorf("%s: %s is sent and not documented", name, field)
			}
		}
		required, _ := schema["required"].([]any)
		for _, field := range required {
			if _, found := sent[field.(string)]; !found {
				t.Errorf("%s: %s is promised and not sent", name, field)
			}
		}
		if len(required) != len(properties) {
			t.Errorf("%s: got %d of %d fields promised, want all", name, len(required), len(properties))
		}
	}
}

// What the document and the reference show as an example can be sent.
func TestOpenAPI_ExamplesAreAccepted(t *testing.T) {
	sent := 0
	operations(newClient(t).document(), func(name string, op map[string]any) {
		body, found := op["requestBody"].(map[string]any)
		if !found {
			return
		}
		for mediaType, media := range body["content"].(map[string]any) {
			example, err := json.Marshal(media.(map[string]any)["example"])
			if err != nil {
				t.Fatal(err)
			}
			c := newClient(t)
			replace := acme(t, c.world)
			method, path, _ := strings.Cut(name, " ")
			ofAcme := strings.HasPrefix(path, "/v0/api_webhooks/{id}") || strings.HasSuffix(path, "/ping") || strings.HasSuffix(path, "/redeliver")
			if path = replace.Replace(path); ofAcme {
				path += "?tenant=acme"
			}
			if a := c.do("operator", method, path, string(example), "Content-Type", mediaType); a.Code >= 300 && a.Code != 409 {
				t.Errorf("%s as %s: got %d for the example %s: %s", name, mediaType, a.Code, example, a.Body)
			}
			sent++
		}
	})
	if sent < 10 {
		t.Errorf("got %d examples, want more", sent)
	}
}

func TestOpenAPI_WebhooksAreTheCatalogueOfNow(t *testing.T) {
	c := newClient(t)
	if got := len(c.document()["webhooks"].(map[string]any)); got != 1 {
		t.Errorf("got %d webhooks, want the ping alone", got)
	}
	c.types["a.b"] = postrider.EventType{
		Name: "a.b", Description: "d", Deprecated: true, Example: []byte(`{"n": 1.0}`),
		Schema: []byte(`{"type": "object", "$defs": {"x": {"const": 1}}, "properties": {"n": {"$ref": "#/$defs/x"}}}`),
	}
	for i := range 250 {
		c.types[fmt.Sprintf("c.n%d", i)] = postrider.EventType{Schema: []byte(`true`), Name: fmt.Sprintf("c.n%d", i)}
	}
	webhooks := c.document()["webhooks"].(map[string]any)
	if len(webhooks) != 252 {
		t.Errorf("got %d webhooks, want 252", len(webhooks))
	}
	post := webhooks["a.b"].(map[string]any)["post"].(map[string]any)
	media := post["requestBody"].(map[string]any)["content"].(map[string]any)["application/json"].(map[string]any)
	want := map[string]any{
		"$id": "/schemas/a.b", "type": "object", "$defs": map[string]any{"x": map[string]any{"const": 1.0}},
		"properties": map[string]any{"n": map[string]any{"$ref": "#/$defs/x"}},
	}
	if diff := cmp.Diff(want, media["schema"]); diff != "" {
		t.Error(diff)
	}
	if post["deprecated"] != true || media["example"].(map[string]any)["n"] != 1.0 {
		t.Errorf("got %v", post)
	}
}

func TestReference_ShowsEveryOperationAndLoadsNothingElse(t *testing.T) {
	c := newClient(t, func(o *api.Options) { o.Brand = `Ac<me>"` })
	a := c.do("", "GET", "/docs/api", "").want(200)
	page := a.Body.String()
	if got := a.Header().Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("got the type %q", got)
	}
	if got := a.Header().Get("Content-Security-Policy"); !strings.Contains(got, "style-src 'self'") || strings.Contains(got, "unsafe") {
		t.Errorf("got the policy %q", got)
	}
	if strings.Contains(page, "<me>") {
		t.Error("the brand is not escaped")
	}
	for _, forbidden := range []string{"<script", "style=", "<style", "onclick", "src=", "{{", "<no value>", "ZgotmplZ"} {
		if strings.Contains(page, forbidden) {
			t.Errorf("got %q in the page", forbidden)
		}
	}
	for _, link := range regexp.MustCompile(`<link [^>]*href="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		style := c.do("", "GET", link[1], "").want(200)
		if got := style.Header().Get("Content-Type"); got != "text/css; charset=utf-8" || strings.Contains(style.Body.String(), "url(") {
			t.Errorf("%s: got a style of type %q", link[1], got)
		}
	}
	operations(c.document(), func(name string, op map[string]any) {
		if !strings.Contains(page, `<article id="`+op["operationId"].(string)+`">`) {
			t.Errorf("the page lacks %s", name)
		}
	})
	ids := map[string]bool{}
	for _, id := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if ids[id[1]] {
			t.Errorf("two parts of the page have the id %s", id[1])
		}
		ids[id[1]] = true
	}
	for _, link := range regexp.MustCompile(` href="#([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if !ids[link[1]] {
			t.Errorf("#%s leads nowhere", link[1])
		}
	}
	for _, code := range api.Codes() {
		if !ids["error-"+code.Code] {
			t.Errorf("the page does not explain %s, to which problems link", code.Code)
		}
	}
}

func TestCodes_AreSortedAndOnce(t *testing.T) {
	codes := api.Codes()
	if !slices.IsSortedFunc(codes, func(a, b api.Code) int {
		if a.Status != b.Status {
			return a.Status - b.Status
		}
		return strings.Compare(a.Code, b.Code)
	}) {
		t.Error("the codes are not sorted by status and code")
	}
	if once := slices.Compact(slices.Clone(codes)); len(once) != len(codes) {
		t.Error("a code is listed twice")
	}
}

// Every code that some room can give to a user is explained: they are found in
// the sources as the Code of an error, or as what makes one.
func TestCodes_OfAllRoomsAreListed(t *testing.T) {
	listed := map[string]bool{}
	for _, code := range api.Codes() {
		listed[code.Code] = true
	}
	makers := map[string]int{"invalid": 1, "malformed": 1, "fault": 1, "newProblem": 1} // and which argument is the code
	literals := map[string]bool{"Error": true, "FieldError": true, "urlFault": true}
	found := 0
	// The errors of these rooms end in a terminal or on a page.
	elsewhere := []string{"bench", "cli", "config", "portal", "sink"}
	check := func(set *token.FileSet, node ast.Node) {
		literal, ok := node.(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			return
		}
		found++
		if code, err := strconv.Unquote(literal.Value); err != nil || !listed[code] {
			t.Errorf("%s: the code %s is not listed in codes.go", set.Position(literal.Pos()), literal.Value)
		}
	}
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".."
		if entry.IsDir() && (hidden || slices.Contains(elsewhere, entry.Name())) {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			return err
		}
		for node := range ast.Preorder(file) {
			switch node := node.(type) {
			case *ast.CallExpr:
				if name, ok := node.Fun.(*ast.Ident); ok && makers[name.Name] > 0 && len(node.Args) > makers[name.Name] {
					check(set, node.Args[makers[name.Name]])
				}
			case *ast.CompositeLit:
				if !literals[typeName(node.Type)] || len(node.Elts) == 0 {
					continue
				}
				for _, element := range node.Elts {
					if pair, ok := element.(*ast.KeyValueExpr); ok && pair.Key.(*ast.Ident).Name == "Code" {
						check(set, pair.Value)
					}
				}
				check(set, node.Elts[0]) // without names, the code comes first
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 50 {
		t.Errorf("got %d codes in the sources: the search is blind", found)
	}
}

func typeName(expr ast.Expr) string {
	switch expr := expr.(type) {
	case *ast.Ident:
		return expr.Name
	case *ast.SelectorExpr:
		return expr.Sel.Name
	}
	return ""
}

// Neither maps nor time show in it.
func TestReference_IsTheSameForEveryRequest(t *testing.T) {
	c := newClient(t)
	first, second := c.do("", "GET", "/docs/api", ""), c.do("", "GET", "/docs/api", "")
	if !bytes.Equal(first.Body.Bytes(), second.Body.Bytes()) {
		t.Error("the page changes")
	}
}
