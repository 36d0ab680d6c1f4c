package doctest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the top of the source tree, seen from this package's directory,
// which is where go test runs it.
const root = "../.."

// A page is a Markdown file, as far as these tests look into it.
type page struct {
	name   string // its path below root
	lines  []string
	blocks []block
}

// A block is what stands between two fences.
type block struct {
	language string
	text     string
	line     int // of the opening fence
}

// read reads a page. What is inside fences is no text of the page.
func read(t *testing.T, name string) *page {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	p := &page{name: name}
	var inside *block
	for i, line := range strings.Split(string(text), "\n") {
		fence, found := strings.CutPrefix(line, "```")
		switch {
		case found && inside == nil:
			inside = &block{language: fence, line: i + 1}
		case found:
			p.blocks = append(p.blocks, *inside)
			inside = nil
		case inside != nil:
			inside.text += line + "\n"
		default:
			p.lines = append(p.lines, line)
		}
	}
	if inside != nil {
		t.Fatalf("%s:%d: the fence is never closed", name, inside.line)
	}
	return p
}

// pages are all pages for people: not those of parts that were installed, nor
// what the program itself renders.
func pages(t *testing.T) []*page {
	t.Helper()
	var list []*page
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		hidden := name != "." && strings.HasPrefix(entry.Name(), ".")
		switch {
		case entry.IsDir() && (hidden || entry.Name() == "node_modules" || name == "internal"):
			return fs.SkipDir
		case !entry.IsDir() && filepath.Ext(name) == ".md":
			list = append(list, read(t, name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// Guards against a walk that finds nothing, with which all would pass.
	if len(list) < 10 {
		t.Fatalf("got %d pages, want the whole documentation", len(list))
	}
	return list
}

var (
	heading   = regexp.MustCompile(`^#{1,6} +(.*?) *$`)
	notInSlug = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
	inCode    = regexp.MustCompile("`[^`]*`")
	firstCode = regexp.MustCompile("^`([^`]+)`$")
)

// anchors are the names under which the page's headings can be linked to, made
// as GitHub makes them.
func (p *page) anchors() []string {
	var list []string
	for _, line := range p.lines {
		if found := heading.FindStringSubmatch(line); found != nil {
			slug := notInSlug.ReplaceAllString(strings.ToLower(found[1]), "")
			list = append(list, strings.ReplaceAll(slug, " ", "-"))
		}
	}
	return list
}

// table is the rows of the first table below a heading, without its own head.
func (p *page) table(t *testing.T, below string) [][]string {
	t.Helper()
	start := slices.IndexFunc(p.lines, func(line string) bool {
		found := heading.FindStringSubmatch(line)
		return found != nil && found[1] == below
	})
	if start < 0 {
		t.Fatalf("%s: there is no heading %q", p.name, below)
	}
	var rows [][]string
	for _, line := range p.lines[start+1:] {
		if heading.MatchString(line) || !strings.HasPrefix(line, "|") && rows != nil {
			break
		}
		if !strings.HasPrefix(line, "|") {
			continue
		}
		rows = append(rows, cells(line))
	}
	if len(rows) < 3 {
		t.Fatalf("%s: there is no table below %q", p.name, below)
	}
	return rows[2:]
}

// cells are those of a table's row.
func cells(line string) []string {
	list := strings.Split(strings.TrimSuffix(strings.TrimPrefix(line, "|"), "|"), "|")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

// names are the first cells of a table, which are code.
func (p *page) names(t *testing.T, below string) []string {
	t.Helper()
	var list []string
	for _, row := range p.table(t, below) {
		found := firstCode.FindStringSubmatch(row[0])
		if found == nil {
			t.Fatalf("%s: got the name %s below %q, want one in code", p.name, row[0], below)
		}
		list = append(list, found[1])
	}
	return list
}

// wantSame fails unless two lists have the same elements.
func wantSame(t *testing.T, where string, got, want []string) {
	t.Helper()
	for _, name := range want {
		if !slices.Contains(got, name) {
			t.Errorf("%s: lacks %s", where, name)
		}
	}
	for i, name := range got {
		switch {
		case !slices.Contains(want, name):
			t.Errorf("%s: tells of %s, which does not exist", where, name)
		case slices.Index(got, name) < i:
			t.Errorf("%s: tells of %s twice", where, name)
		}
	}
}
