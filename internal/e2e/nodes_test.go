package e2e_test

import (
	"strings"
	"testing"

	"postrider/internal/e2e"
)

func TestPortal_AloneANodeShowsItself(t *testing.T) {
	server := e2e.Start(t, t.TempDir())
	address := strings.TrimPrefix(server.URL, "http://")
	// In a database of several nodes it has its name with its first heartbeat.
	e2e.Until(t, "the node at its address, serving the page", func() bool {
		page := server.Page("/portal/operator/nodes")
		return strings.Count(page, "this node</span>") == 1 && strings.Count(page, `<td class="mono">`+address+`</td>`) == 1
	})
}
