package receivertest

import (
	"os"
	"path/filepath"
	"testing"
)

// Middleware builds a receiver that is made with the middleware of package
// signature, in a module of its own as partners have it.
func Middleware(tb testing.TB) Program {
	tb.Helper()
	dir := tb.TempDir()
	run(tb, filepath.Join(checkout(tb), "internal", "receivertest", "testdata", "middleware"), "go", "build", "-o", dir, ".")
	return Program{dir, []string{"./receiver"}}
}

// An SDK is @postrider/receiver of sdk/js: built and packed in a folder of its
// own, and installed from its package into another, as its users have it.
type SDK struct {
	dir     string // a copy of sdk/js with what its lock file names
	app     string // its examples, with the package installed beside them
	archive string // what npm publishes
	serve   string // testdata/serve.js
}

// NewSDK builds sdk/js, which takes some ten seconds. It lasts as long as the
// test.
func NewSDK(tb testing.TB) *SDK {
	tb.Helper()
	needTools(tb)
	root, top := tb.TempDir(), checkout(tb)
	s := &SDK{
		dir:   filepath.Join(root, "sdk", "js"),
		app:   filepath.Join(root, "sdk", "js", "app"), // below, so that the frameworks are found
		serve: filepath.Join(top, "internal", "receivertest", "testdata", "serve.js"),
	}
	copyTree(tb, s.dir, filepath.Join(top, "sdk", "js"))
	copyTree(tb, filepath.Join(root, "signature", "testdata"), filepath.Join(top, "signature", "testdata"))
	copyTree(tb, s.app, filepath.Join(top, "sdk", "js", "examples"))
	install(tb, s.dir)
	run(tb, s.dir, "npm", "pack") // builds it first
	archives, err := filepath.Glob(filepath.Join(s.dir, "*.tgz"))
	if err != nil || len(archives) != 1 {
		tb.Fatalf("npm packed %v, error %v, want one archive", archives, err)
	}
	s.archive = archives[0]
	// It has no dependencies, and so needs no registry.
	run(tb, s.app, "npm", "install", "--offline", "--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit",
		"--no-fund", s.archive)
	return s
}

// Program is one of the examples: express, fastify, fetch or http.
func (s *SDK) Program(example string) Program {
	if example == "fetch" {
		return Program{s.app, []string{"node", s.serve, "fetch.js"}}
	}
	return Program{s.app, []string{"node", example + ".js"}}
}

// copyTree copies a folder without what a developer's own run leaves behind.
func copyTree(tb testing.TB, to, from string) {
	tb.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		tb.Fatal(err)
	}
	leftovers, err := filepath.Glob(filepath.Join(to, "*.tgz"))
	if err != nil {
		tb.Fatal(err)
	}
	for _, leftover := range append(leftovers, filepath.Join(to, "node_modules"), filepath.Join(to, "dist")) {
		if err := os.RemoveAll(leftover); err != nil {
			tb.Fatal(err)
		}
	}
}

// install puts the packages of a lock file into node_modules.
func install(tb testing.TB, dir string) {
	tb.Helper()
	run(tb, dir, "npm", "ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund")
}
