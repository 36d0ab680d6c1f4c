// Package archtest holds the source tree to its rules: which room may import
// which, and the habits that no linter checks.
//
// It knows the names of all rooms and nothing of what they do. Nobody calls
// it; go test runs it.
package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
)

// root is the top of the source tree, seen from this package's directory,
// which is where go test runs it.
const root = "../.."

// A source is one parsed Go file.
type source struct {
	Name string // its path below root
	Room string // its directory below root; "." is the root package
	Test bool   // a _test.go file
	Text []byte
	Tree *ast.File
	fset *token.FileSet
}

// Imports are the file's import paths.
func (s *source) Imports() []string {
	var paths []string
	for _, spec := range s.Tree.Imports {
		paths = append(paths, strings.Trim(spec.Path.Value, `"`))
	}
	return paths
}

// At is where a node stands, for messages.
func (s *source) At(node ast.Node) string {
	position := s.fset.Position(node.Pos())
	position.Column = 0
	return position.String()
}

// newSource parses one file. It is fatal when the file is no Go.
func newSource(t *testing.T, name string, text []byte) *source {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatalf("parsing: %v", err)
	}
	return &source{
		Name: name, Room: path.Dir(name), Test: strings.HasSuffix(name, "_test.go"),
		Text: text, Tree: file, fset: fset,
	}
}

// sources are the module's Go files.
func sources(t *testing.T) []*source {
	t.Helper()
	var list []*source
	walk(t, func(name string, text []byte) {
		if strings.HasSuffix(name, ".go") {
			list = append(list, newSource(t, name, text))
		}
	})
	// Guards against a walk that silently finds nothing, with which every
	// test here would pass.
	if len(list) < 10 {
		t.Fatalf("got %d Go files below the root, want the whole project", len(list))
	}
	return list
}

// walk visits every file of the project: not what was installed or built, and
// not what other modules (those with a go.mod of their own) hold.
func walk(t *testing.T, visit func(name string, text []byte)) {
	t.Helper()
	tree := os.DirFS(root)
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return enter(tree, name)
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err == nil {
			visit(name, text)
		}
		return err
	})
	if err != nil {
		t.Fatalf("reading the source tree: %v", err)
	}
}

func enter(tree fs.FS, name string) error {
	switch path.Base(name) {
	case ".git", "node_modules", "bin", "postrider-data":
		return fs.SkipDir
	}
	if _, err := fs.Stat(tree, path.Join(name, "go.mod")); err == nil && name != "." {
		return fs.SkipDir
	}
	return nil
}
