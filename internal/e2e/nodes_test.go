package e2e_test

import (
	"strings"
	"testing"

	"postrider/internal/e2e"
)

func TestPortal_AloneANodeShowsItself(t *testing.T) {
	server := e2e.Start(t, t.TempDir())
	page := server.Page("/portal/operator/nodes")
	address := strings.TrimPrefix(server.URL, "http://")
	if rows := strings.Count(page, "this node</span>"); rows != 1 || strings.Count(page, `<td class="mono">`+address+`</td>`) != 1 {
		t.Errorf("got %d nodes that serve the page, want one, at %s:\n%s", rows, address, page)
	}
}
