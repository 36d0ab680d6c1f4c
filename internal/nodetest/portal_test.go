package nodetest

import (
	"regexp"
	"strings"
	"testing"

	"postrider/internal/e2e"
	"postrider/internal/pgtest"
)

// A row of the page on nodes: whether it is marked, and the address.
var nodeRow = regexp.MustCompile(`<tr><td><span class="strong">[^<]+</span> <span class="muted">run \d+</span>( <span class="tag">this node</span>)?` +
	`</td><td><span class="pill ok">Alive</span></td><td class="mono">[^<]+</td><td class="mono">([^<]+)</td><td class="muted"><time `)

// Whichever node is asked shows all that are alive, and which of them it is.
func TestPortal_ShowsAllNodes(t *testing.T) {
	cluster := pgtest.For(t, false)
	flags := []string{"--database-url", cluster.URL(e2e.NewDatabase(t, cluster)), "--encryption-key", e2e.EncryptionKey}
	one, two := e2e.Start(t, t.TempDir(), flags...), e2e.Start(t, t.TempDir(), flags...)
	address := func(s *e2e.Server) string { return strings.TrimPrefix(s.URL, "http://") }
	shown := func(s *e2e.Server) string {
		var list []string
		for _, row := range nodeRow.FindAllStringSubmatch(s.Page("/portal/operator/nodes"), -1) {
			mark := ""
			if row[1] != "" {
				mark = "*"
			}
			list = append(list, mark+row[2])
		}
		return strings.Join(list, " ")
	}
	for server, want := range map[*e2e.Server]string{
		one: "*" + address(one) + " " + address(two), two: address(one) + " *" + address(two),
	} {
		e2e.Until(t, "both nodes are shown at "+server.URL, func() bool { return shown(server) == want })
	}
	if err := one.Stop(); err != nil {
		t.Fatal(err)
	}
	if got, want := shown(two), "*"+address(two); got != want {
		t.Errorf("got %q once the other has stopped, want %q", got, want)
	}
}
