package e2e_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"postrider/internal/e2e"
)

// Every test here runs with the embedded store and with PostgreSQL.
func TestMain(m *testing.M) {
	flag.Parse()
	code, err := e2e.OnBothEngines(m.Run, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
