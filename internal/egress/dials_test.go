package egress

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// dialling lists what reaches out from net, net/http and crypto/tls.
var dialling = map[string]map[string]bool{
	"net/http": {
		"Client": true, "Transport": true, "DefaultClient": true, "DefaultTransport": true,
		"Get": true, "Head": true, "Post": true, "PostForm": true,
	},
	"net": {
		"Dialer": true, "Dial": true, "DialTimeout": true, "DialTCP": true, "DialUDP": true, "DialIP": true, "DialUnix": true,
	},
	"crypto/tls": {"Client": true, "Dialer": true, "Dial": true, "DialWithDialer": true},
}

// mayDial are the packages that reach out: this one to strangers, the others
// to the server that a command line names, from where that was typed. Files that
// import testing serve tests alone, and are not judged either.
var mayDial = map[string]bool{"internal/egress": true, "internal/cli": true, "internal/relay": true, "internal/bench": true}

func TestOnlyEgressDials(t *testing.T) {
	root := moduleRoot(t)
	files := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name := entry.Name(); path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules" || isModule(path)) {
				return fs.SkipDir
			}
			return nil
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || mayDial[filepath.ToSlash(dir)] {
			return err
		}
		files++
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, found := range dials(t, path, source) {
			t.Errorf("%s: only internal/egress may reach out", found)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 {
		t.Error("no file was read")
	}
}

func TestOnlyEgressDials_FindsEverySpelling(t *testing.T) {
	for source, want := range map[string]int{
		`import "net/http"; var c = http.Client{}`:                                        1,
		`import "net/http"; var c = &http.Transport{}`:                                    1,
		`import "net/http"; var c = new(http.Client)`:                                     1,
		`import "net/http"; var get = http.Get`:                                           1,
		`import "net/http"; func f() { http.DefaultClient.Do(nil); http.Post("","",nil)}`: 2,
		`import web "net/http"; var c web.Client`:                                         1,
		`import . "net/http"; var c = DefaultClient`:                                      1,
		`import "net"; var d net.Dialer`:                                                  1,
		`import "net"; func f() { net.Dial("tcp", "") }`:                                  1,
		`import "crypto/tls"; func f() { tls.Dial("tcp", "", nil) }`:                      1,
		`import "net/http"; var s http.Server; var h http.Header`:                         0,
		`import "net"; func f() { net.Listen("tcp", "") }`:                                0,
		`import ("net/http"; "testing"); var c = http.Client{}; var t *testing.T`:         0,
		`import http "example.test/other"; var c http.Client`:                             0,
	} {
		if got := dials(t, "x.go", []byte("package x; "+source)); len(got) != want {
			t.Errorf("%s: got %v, want %d", source, got, want)
		}
	}
}

// dials lists the places in a file that reach out.
func dials(t *testing.T, path string, source []byte) (found []string) {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, source, 0)
	if err != nil {
		t.Fatal(err)
	}
	imported := map[string]string{} // by the name it has in the file
	for _, spec := range file.Imports {
		pkg := strings.Trim(spec.Path.Value, `"`)
		if pkg == "testing" {
			return nil
		}
		if dialling[pkg] == nil {
			continue
		}
		name := pkg[strings.LastIndexByte(pkg, '/')+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		if name == "." {
			found = append(found, files.Position(spec.Pos()).String()+": "+pkg+" is imported without a name")
		}
		imported[name] = pkg
	}
	ast.Inspect(file, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if pkg, ok := selector.X.(*ast.Ident); ok && dialling[imported[pkg.Name]][selector.Sel.Name] {
			found = append(found, files.Position(n.Pos()).String()+": "+imported[pkg.Name]+"."+selector.Sel.Name)
		}
		return true
	})
	return found
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for !isModule(dir) {
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the test")
		}
		dir = parent
	}
	return dir
}

func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}
