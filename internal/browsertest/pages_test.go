package browsertest

import (
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postrider/internal/e2e"
)

// axe judges pages by WCAG. Its licence stands beside it.
//
//go:embed testdata/axe/axe.min.js
var axe string

var pictures = flag.String("pictures", "", "a directory to write a picture of every page to, for looking at them all")

// A stop is a page that is looked at.
type stop struct {
	name   string
	path   string
	before func(*Tab) // what is done there before it is looked at
}

// furnish makes a world in which every page has something to show.
func furnish(t *testing.T) (w *world, partner, operator, anyone []stop) {
	t.Helper()
	w = newWorld(t, "--retry-schedule", "1h,2h,4h", "--public-url", "https://hooks.clubmed.example")
	w.catalogue()
	board := w.webhook("/api/callback", "Housekeeping board", "room_status.*")
	w.webhook("/booking/events", "Booking sync", "booking.created", "booking.cancelled")
	crm := w.webhook("/crm/hooks", "CRM import", "booking.*")
	w.webhook("/old/endpoint", "Moved last year", "booking.cancelled")
	for i := range 24 {
		w.publish("room_status.updated", fmt.Sprintf(`{"resort": "ALBC", "room": "%d", "status": "clean"}`, 200+i))
	}
	event := w.publish("booking.created", `{"booking_id": "B-10482", "resort": "ALBC", "nights": 7, "amount": 289000, "currency": "EUR", "guest": "Zoë Delacroix"}`)
	w.attempts(27, "status=success")
	failed := w.attempts(2, "status=failure&webhook_id="+crm)["id"].(string)
	base := "/portal/t/lagoon-travel"
	partner = []stop{
		{"overview", base + "/?span=1h", nil},
		{"webhooks", base + "/webhooks", nil},
		{"webhook", base + "/webhooks/" + board + "?span=1h", nil},
		{"webhook-failing", base + "/webhooks/" + crm + "?span=1h", nil},
		{"webhook-new", base + "/webhooks/new", nil},
		{"webhook-edit", base + "/webhooks/" + board + "/edit", func(tab *Tab) { tab.Script(`document.querySelector("details.fold").open = true`) }},
		{"webhook-delete", base + "/webhooks/" + board + "/delete", nil},
		{"logs", base + "/logs", nil},
		{"logs-filtered", base + "/logs?status=failure&error=http_5xx", nil},
		{"logs-none", base + "/logs?event=nothing.like_it", nil},
		{"attempt", base + "/logs/" + failed, nil},
		{"event", base + "/events/" + event, nil},
		{"catalogue", base + "/catalogue", nil},
		{"event-type", base + "/catalogue/room_status.updated", nil},
		{"debugger", base + "/debugger", nil},
		{"debugger-verdict", base + "/debugger?attempt=" + failed, func(tab *Tab) {
			tab.Fill("#d-secret", "not the secret at all")
			tab.Press("Check")
			tab.WaitText("Wrong secret")
		}},
		{"not-found", base + "/logs/0195b3f4-9a07-7c11-8e2d-1b7f60a9c3e4", nil},
	}
	operator = []stop{
		{"operator", "/portal/operator/?span=1h", nil},
		{"operator-webhooks", "/portal/operator/webhooks", nil},
		{"operator-tenants", "/portal/operator/tenants", nil},
		{"operator-keys", "/portal/operator/keys", nil},
		{"operator-nodes", "/portal/operator/nodes", nil},
		{"overview-empty", "/portal/t/default/", nil},
		{"webhooks-empty", "/portal/t/default/webhooks", nil},
		{"logs-empty", "/portal/t/default/logs", nil},
	}
	anyone = []stop{
		{"sign-in", "/portal/sign_in", nil},
		{"docs", "/docs", nil},
		{"docs-events", "/docs/events", nil},
		{"docs-event", "/docs/events/room_status.updated", nil},
		{"docs-receivers", "/docs/receivers", nil},
		{"docs-receiver", "/docs/receivers/node-express", nil},
	}
	return w, partner, operator, anyone
}

// Every page in both themes, on a phone and on a desk: nothing to be scrolled
// sideways, and no violation that axe can find.
func TestPages_AreReadableByEveryone(t *testing.T) {
	w, partner, operator, anyone := furnish(t)
	visit := func(key string, stops []stop) {
		tab := NewTab(t, w.operator.URL)
		if key != "" {
			tab.SignIn(key)
		}
		for _, s := range stops {
			for _, theme := range []string{"light", "dark"} {
				tab.Theme(theme)
				for _, width := range []int64{1280, 360} {
					tab.look(s, theme, width)
				}
			}
		}
	}
	visit(w.partner.Key, partner)
	visit(e2e.AdminKey, operator)
	visit("", anyone)
}

func (tab *Tab) look(s stop, theme string, width int64) {
	tab.t.Helper()
	name := fmt.Sprintf("%s-%s-%d", s.name, theme, width)
	tab.Size(width, 900)
	tab.Open(s.path)
	if s.before != nil {
		s.before(tab)
	}
	tab.settle()
	if *pictures != "" {
		tab.picture(filepath.Join(*pictures, name+".png"))
	}
	if wide := Script[int](tab, `document.documentElement.scrollWidth`); int64(wide) > width {
		tab.t.Errorf("%s: is %d pixels wide, want at most %d", name, wide, width)
	}
	for _, violation := range tab.violations() {
		tab.t.Errorf("%s: %s", name, violation)
	}
}

// settle waits until everything is drawn.
func (tab *Tab) settle() {
	tab.t.Helper()
	tab.Script(`document.fonts.ready.then(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true)))))`)
}

func (tab *Tab) picture(path string) {
	tab.t.Helper()
	if err := os.WriteFile(path, tab.Shot(), 0o600); err != nil {
		tab.t.Fatal(err)
	}
}

// violations are what axe finds on the page.
func (tab *Tab) violations() (list []string) {
	tab.t.Helper()
	tab.Script(axe + "; true")
	report := Script[string](tab, `axe.run(document, {resultTypes: ["violations"]}).then((r) => JSON.stringify(r.violations.map(
		(v) => ({id: v.id, help: v.help, nodes: v.nodes.map((n) => n.html.slice(0, 200) + " " + n.failureSummary)}))))`)
	var found []struct {
		ID, Help string
		Nodes    []string
	}
	if err := json.Unmarshal([]byte(report), &found); err != nil {
		tab.t.Fatal(err)
	}
	for _, f := range found {
		list = append(list, fmt.Sprintf("%s: %s\n\t%s", f.ID, f.Help, strings.Join(f.Nodes, "\n\t")))
	}
	return list
}
