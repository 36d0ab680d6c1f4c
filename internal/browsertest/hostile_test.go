package browsertest

import (
	"net/http"
	"strings"
	"testing"

	"postrider/internal/e2e"
)

// hostile is what strangers write: markup, links that run, colours of
// terminals, marks that turn the direction of writing.
const hostile = `<script>alert(1)</script><img src="https://evil.example/x" onerror="alert(2)"><a href="javascript:alert(3)">` +
	`</pre></textarea></title><svg onload=alert(4)>{{.}}${7*7}` + "\x1b[31mred\x1b[0m \u202egnp.exe\u2066"

// Whatever strangers write is shown as what it is: no dialog, no request to a
// third party, no element made from it. That no page opens a dialog or asks
// another host, each Tab watches for itself.
func TestPortal_ShowsWhatStrangersWriteAsText(t *testing.T) {
	w := newWorld(t, "--retry-schedule", "1h")
	w.describe("room.hostile", map[string]any{
		"description": hostile,
		"notes": hostile + "\n\n[run](javascript:alert(5)) [data](data:text/html,<script>alert(6)</script>) ![picture](https://evil.example/y.png) <iframe src=https://evil.example></iframe>\n\n" +
			"<style>body{display:none}</style> <form action=https://evil.example><input name=key></form>",
		"schema": map[string]any{"description": hostile}, "example": map[string]any{"text": hostile},
	})
	bodies := map[string]func(http.ResponseWriter){
		"/markup": func(rw http.ResponseWriter) {
			rw.Header().Set("Content-Type", "text/html")
			rw.Header().Set("X-Hostile", `"><script>alert(7)</script>`)
			rw.WriteHeader(http.StatusInternalServerError)
			rw.Write([]byte(hostile)) //nolint:errcheck // the test will tell
		},
		"/line":   func(rw http.ResponseWriter) { rw.Write([]byte(strings.Repeat("a", 64<<10))) },                           //nolint:errcheck // the test will tell
		"/binary": func(rw http.ResponseWriter) { rw.Write([]byte("\x00\x01\x02\xff\xfe\x80PNG\x1b\x00\x07\x08\x00\x00")) }, //nolint:errcheck // the test will tell
		"/moved": func(rw http.ResponseWriter) {
			rw.Header().Set("Location", "javascript:alert(8)")
			rw.WriteHeader(http.StatusFound)
		},
	}
	w.receiver.Answer(func(rw http.ResponseWriter, r *http.Request) { bodies["/"+strings.SplitN(r.URL.Path, "/", 3)[1]](rw) })
	var hooks []string
	for path := range bodies {
		hooks = append(hooks, w.webhook(path+`/%3Cscript%3Ealert(9)%3C/script%3E?q="><img/src=x/onerror=alert(10)>`, hostile, "room.*"))
	}
	event := w.publish("room.hostile", string(encode(t, map[string]any{hostile: hostile, "long": strings.Repeat("x", 64<<10)})))
	w.attempts(4, "event_id="+event)

	tab := NewTab(t, w.operator.URL)
	tab.SignIn(w.partner.Key)
	base := "/portal/t/lagoon-travel"
	pages := []string{
		base + "/", base + "/webhooks", base + "/logs", base + "/events/" + event, base + "/catalogue", base + "/catalogue/room.hostile",
		base + "/webhooks/new?event=room.hostile", base + "/logs?event=" + "%22%3E%3Cscript%3Ealert(11)%3C/script%3E", "/docs/events", "/docs/events/room.hostile",
	}
	for _, id := range hooks {
		pages = append(pages, base+"/webhooks/"+id, base+"/webhooks/"+id+"/edit", base+"/webhooks/"+id+"/delete")
	}
	for _, row := range w.partner.Pages("/v0/api_webhooks/logs?event_id="+event, 100) {
		pages = append(pages, base+"/logs/"+row["id"].(string), base+"/debugger?attempt="+row["id"].(string))
	}
	for _, width := range []int64{1280, 360} {
		tab.Size(width, 900)
		for _, path := range pages {
			tab.Open(path)
			if made := Script[int](tab, `document.querySelectorAll("main script, main iframe, main style, main form[action^='http'], main [onerror], main [onload], main a[href^='javascript' i], main a[href^='data' i], main img, main input[name=key]").length`); made != 0 {
				t.Errorf("%s: %d elements were made of a stranger's text", path, made)
			}
			if turned := Script[bool](tab, `/[\u001b\u202a-\u202e\u2066-\u2069]/.test(document.querySelector("main").innerText)`); turned {
				t.Errorf("%s: shows control characters or marks of direction as such", path)
			}
			if wide := Script[int](tab, `document.documentElement.scrollWidth`); int64(wide) > width {
				t.Errorf("%s: is %d pixels wide at %d", path, wide, width)
			}
		}
	}
	tab.Open(base + "/catalogue/room.hostile")
	if !strings.Contains(tab.Text(), "<script>alert(1)</script>") {
		t.Error("the example does not show the markup that it holds")
	}

	// A body is downloaded as a file, and is nothing that a browser shows.
	for _, row := range w.partner.Pages("/v0/api_webhooks/logs?event_id="+event, 100) {
		headers := Script[string](tab, `fetch("`+base+`/logs/`+row["id"].(string)+`/response").then((r) => ["content-type", "content-disposition",
			"x-content-type-options", "content-security-policy"].map((name) => r.headers.get(name)).join("|"))`)
		if !strings.HasPrefix(headers, "text/plain; charset=utf-8|attachment;") || !strings.Contains(headers, "|nosniff|default-src 'none'") {
			t.Errorf("a body comes with %s", headers)
		}
	}
}

// The live tail makes rows of text that strangers wrote, too.
func TestPortal_LiveRowsOfHostileEventsAreText(t *testing.T) {
	w := newWorld(t)
	tab := NewTab(t, w.operator.URL)
	tab.SignIn(w.partner.Key)
	tab.Open("/portal/t/lagoon-travel/logs")
	w.webhook(`/x?"><script>alert(1)</script><img/src=x/onerror=alert(2)>`, hostile, "*")
	tab.Open("/portal/t/lagoon-travel/logs")
	tab.WaitFor(`!document.querySelector("[data-live]").hidden`)
	w.publish("room.updated", `{}`)
	tab.WaitFor(`document.querySelectorAll("tr.fresh").length > 0`)
	if made := Script[int](tab, `document.querySelectorAll("main script, main img").length`); made != 0 {
		t.Errorf("%d elements were made of a stranger's text", made)
	}
}

// Other sites can neither send forms nor show the portal in a frame.
func TestPortal_IsClosedToOtherSites(t *testing.T) {
	w := newWorld(t)
	login := signIn(t, w)
	cookie := login.Get("Set-Cookie")
	for _, want := range []string{"HttpOnly", "SameSite=Lax", "Path=/portal", "Max-Age=86400"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("the cookie %q lacks %s", cookie, want)
		}
	}
	session, _, _ := strings.Cut(cookie, ";")
	for _, headers := range [][]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"},
	} {
		for _, path := range []string{"/portal/sign_in", "/portal/sign_out", "/portal/t/lagoon-travel/webhooks"} {
			got := w.operator.As("").Call(http.MethodPost, path, []byte("key="+w.partner.Key),
				append([]string{"Content-Type", "application/x-www-form-urlencoded", "Cookie", session}, headers...)...)
			if got.Status != http.StatusForbidden {
				t.Errorf("POST %s with %v: got %d, want 403", path, headers, got.Status)
			}
		}
	}
	page := w.operator.As("").Call(http.MethodGet, "/portal/t/lagoon-travel/", nil, "Cookie", session).Must(http.StatusOK)
	policy := page.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "form-action 'self'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy %q lacks %s", policy, want)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("the policy allows what is unsafe: %q", policy)
	}
	framed := newWorld(t, "--portal-frame-ancestors", "https://partners.example", "--public-url", "https://hooks.example")
	in := signIn(t, framed)
	if cookie := in.Get("Set-Cookie"); !strings.Contains(cookie, "SameSite=None") || !strings.Contains(cookie, "Secure") || !strings.Contains(cookie, "Partitioned") {
		t.Errorf("in a frame the cookie is %q", cookie)
	}
	if policy := in.Get("Content-Security-Policy"); !strings.Contains(policy, "frame-ancestors 'self' https://partners.example") {
		t.Errorf("got the policy %q", policy)
	}
}

// signIn sends the form as a program does, and is what the answer's headers
// say.
func signIn(t *testing.T, w *world) http.Header {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.operator.URL+"/portal/sign_in", strings.NewReader("key="+w.partner.Key))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := new(http.Transport).RoundTrip(request) // which follows no redirect
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusSeeOther {
		t.Fatalf("got %d, want 303", answer.StatusCode)
	}
	return answer.Header
}

// Everything can be reached and done with the keyboard alone.
func TestPortal_WorksWithTheKeyboardAlone(t *testing.T) {
	w := newWorld(t)
	tab := NewTab(t, w.operator.URL)
	tab.Open("/portal/sign_in")
	tab.Wait("#key")
	tab.Keys(w.partner.Key + "\r")
	tab.WaitText("Create your first webhook")
	tab.tabTo("New webhook")
	tab.Keys("\r")
	tab.Wait("#url")
	tab.tabTo("#url")
	tab.Keys(w.receiver.URL + "/api/callback")
	tab.tabTo("input[name=all]")
	if !Script[bool](tab, `document.querySelector("input[name=all]").checked`) {
		tab.Keys(" ")
	}
	tab.tabTo("Create webhook")
	if ring := Script[string](tab, `getComputedStyle(document.activeElement).outlineStyle`); ring == "none" {
		t.Error("what has the focus does not show it")
	}
	tab.Keys("\r")
	tab.WaitText("Signing secret")
	w.receiver.Wait(t, func(r e2e.Received) bool { return r.Header.Get("X-Clubmed-Event") == "ping" })
	tab.Size(360, 800)
	tab.Open("/portal/t/lagoon-travel/webhooks")
	tab.tabTo("#menu")
	tab.Keys(" ")
	tab.tabTo("Logs")
	tab.Keys("\r")
	tab.WaitFor(`location.pathname.endsWith("/logs")`)
}

// tabTo presses the tab key until the focus is on what matches a selector or
// begins with a text.
func (tab *Tab) tabTo(target string) {
	tab.t.Helper()
	for range 60 {
		tab.Keys("\t")
		if Script[bool](tab, `((e) => e !== null && ((() => { try { return e.matches(`+"`"+target+"`"+`); } catch { return false; } })() || e.innerText.trim().startsWith(`+"`"+target+"`"+`)))(document.activeElement)`) {
			return
		}
	}
	tab.t.Fatalf("the tab key does not lead to %q at %s", target, tab.At())
}
