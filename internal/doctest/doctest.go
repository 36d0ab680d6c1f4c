// Package doctest holds the documentation to the program: links lead
// somewhere, tables are complete, commands do what the page shows, and every
// promise names a test that exists.
//
// It knows the pages and the program as its users see it. It must not know how
// anything works. Nobody calls it; go test runs it.
package doctest
