package portal

import (
	"bytes"
	"flag"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"postrider"
)

var update = flag.Bool("update", false, "copy docs/receivers anew")

// The receivers that are compiled in are those that are tested.
func TestGuide_HasTheReceiversOfTheDocumentation(t *testing.T) {
	const source = "../../docs/receivers"
	want := map[string][]byte{}
	err := fs.WalkDir(os.DirFS(source), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if entry != nil && entry.Name() == "node_modules" {
				return fs.SkipDir
			}
			return err
		}
		dir, _, _ := strings.Cut(name, "/")
		shown := name == "README.md"
		for _, o := range receiverNames {
			shown = shown || dir == o.Value
		}
		if shown && path.Base(name) != "package-lock.json" {
			content, err := os.ReadFile(path.Join(source, name))
			want["guide/receivers/"+name+".txt"] = content
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		for name, content := range want {
			if err := os.WriteFile(name, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	found := 0
	err = fs.WalkDir(os.DirFS("."), "guide/receivers", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		found++
		content, err := os.ReadFile(name)
		if !bytes.Equal(content, want[name]) {
			t.Errorf("%s is not what docs/receivers has; copy it with go test ./internal/portal -update", name)
		}
		return err
	})
	if err != nil || found != len(want) {
		t.Errorf("got %d files, %v; want %d", found, err, len(want))
	}
}

func TestGuide_SpeaksWithTheRunningBrand(t *testing.T) {
	g := newGuide(&Options{
		Brand: "Lagoon", PublicURL: "https://hooks.lagoon.example", Timeout: 15 * time.Second,
		RetrySchedule: []time.Duration{5 * time.Second, time.Hour},
	})
	text := string(g.text) + string(g.overview)
	for _, r := range g.receivers {
		text += string(r.Text)
		for _, file := range r.Files {
			text += file.Content
		}
		if len(r.Files) == 0 {
			t.Errorf("%s has no program", r.Name)
		}
	}
	if strings.Contains(text, "Clubmed") {
		t.Error("the guide names another brand than the one that runs")
	}
	for _, want := range []string{"X-Lagoon-Signature", "https://hooks.lagoon.example/v0/api_webhooks", "up to 2 times, after 5 s, 1 h"} {
		if !strings.Contains(text, want) {
			t.Errorf("the guide does not say %q", want)
		}
	}
	for _, h := range g.headings {
		if !strings.Contains(string(g.text), `id="`+h.ID+`"`) {
			t.Errorf("the list beside the guide leads to %q, which is not there", h.ID)
		}
	}
	for _, link := range regexp.MustCompile(`href="([^"#]*)`).FindAllStringSubmatch(string(g.overview), -1) {
		if !strings.HasPrefix(link[1], "/docs") && !strings.HasPrefix(link[1], "https://") {
			t.Errorf("the receivers' page leads to %q, which is no page of ours", link[1])
		}
	}
}

// Whatever colour the brand has, text in it and on it can be read.
func TestLook_IsReadableInEveryColour(t *testing.T) {
	for r := 0; r < 256; r += 51 {
		for g := 0; g < 256; g += 51 {
			for b := 0; b < 256; b += 51 {
				accent := rgb{uint8(r), uint8(g), uint8(b)}
				css := string(newLook(Options{Accent: accent.String()}).css)
				var colours []rgb
				for _, text := range regexp.MustCompile(`#[0-9a-f]{6}`).FindAllString(css, -1) {
					c, ok := parseColour(text)
					if !ok {
						t.Fatalf("got %q in %s", text, css)
					}
					colours = append(colours, c)
				}
				for _, pair := range [][2]rgb{{colours[0], colours[1]}, {colours[2], lightSurface}, {colours[3], darkSurface}} {
					if contrast(pair[0], pair[1]) < 4.5 {
						t.Errorf("%s: %s on %s has a contrast of %.2f, want 4.5", accent, pair[0], pair[1], contrast(pair[0], pair[1]))
					}
				}
			}
		}
	}
}

func TestVisible_LeavesNothingThatActs(t *testing.T) {
	for text, want := range map[string]string{
		"plain, Zoë\n\tok": "plain, Zoë\n\tok", "a\x1b[31mb": "a␛[31mb", "x\u202egnp": "x⟨U+202E⟩gnp", "nul\x00": "nul␀",
		"bad\xff": "bad⟨FF⟩", "del\x7f\u0085": "del␡⟨U+0085⟩", "line\r\n": "line␍\n", "\ufefftext": "⟨U+FEFF⟩text", "real \ufffd": "real \ufffd",
	} {
		if got := visible(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func FuzzVisible(f *testing.F) {
	f.Add("a\x1b[0m\u202e\xff")
	acts := regexp.MustCompile(`[\x00-\x08\x0b-\x1f\x7f-\x{9f}\x{202a}-\x{202e}\x{2066}-\x{2069}\x{200e}\x{200f}\x{61c}\x{feff}]`)
	f.Fuzz(func(t *testing.T, text string) {
		if got := visible(text); !utf8.ValidString(got) || acts.MatchString(got) {
			t.Errorf("%q: got %q", text, got)
		}
	})
}

func TestRenderMarkdown_KeepsTextAndDropsWhatActs(t *testing.T) {
	got := string(renderMarkdown("# T\n\n**b** `c` [ok](https://a.example/) [run](javascript:alert(1)) [d](data:text/html,x) " +
		"![i](https://evil.example/i.png) <script>alert(1)</script> <b onclick=x>y</b> <style>*{}</style> <a href=\"//evil.example\">z</a>\n\n|a|b|\n|-|-|\n|1|2|"))
	for _, want := range []string{"<h1", "<strong>b</strong>", "<code>c</code>", `href="https://a.example/"`, "nofollow", "<table>"} {
		if !strings.Contains(got, want) {
			t.Errorf("got %s, want %s in it", got, want)
		}
	}
	for _, bad := range []string{"javascript:", "data:", "<img", "<script", "onclick", "<style", "//evil"} {
		if strings.Contains(got, bad) {
			t.Errorf("got %s, want no %s in it", got, bad)
		}
	}
}

func TestCurl_QuotesForAShell(t *testing.T) {
	a := postrider.Attempt{URL: "https://a.example/?q=it's", RequestHeader: postrider.Header{{Name: "X-A", Value: "b'c"}}, RequestBody: []byte(`{"a":"$(rm) 'x'"}`)}
	want := `curl -i -X POST 'https://a.example/?q=it'\''s' \` + "\n" + `  -H 'X-A: b'\''c' \` + "\n" + `  --data-binary '{"a":"$(rm) '\''x'\''"}'`
	if got := curl(&a); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestSafeNext_StaysHere(t *testing.T) {
	p, session := &Portal{}, &postrider.Session{Tenant: "acme"}
	for next, want := range map[string]string{
		"/portal/t/acme/logs?status=failure": "/portal/t/acme/logs?status=failure", "": "/portal/t/acme/", "https://evil.example/portal/": "/portal/t/acme/",
		"//evil.example/portal/": "/portal/t/acme/", "/portal/../v0": "/portal/t/acme/", `/portal/\evil.example`: "/portal/t/acme/",
		"/docs": "/portal/t/acme/", "javascript:alert(1)": "/portal/t/acme/", "/portal/%2e%2e/x": "/portal/t/acme/",
	} {
		if got := p.safeNext(session, next); got != want {
			t.Errorf("%q: got %q, want %q", next, got, want)
		}
	}
}

func TestFormatSchedule_ReadsBackAsItIs(t *testing.T) {
	for _, schedule := range [][]time.Duration{
		{5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 24 * time.Hour}, {90 * time.Second, 90 * time.Minute, 0}, {1500 * time.Millisecond},
	} {
		f := webhookForm{Schedule: formatSchedule(schedule), Errors: map[string]string{}}
		got := f.schedule()
		if len(f.Errors) > 0 || len(got) != len(schedule) {
			t.Fatalf("%q: got %v, %v", f.Schedule, got, f.Errors)
		}
		for i := range got {
			if got[i] != schedule[i] {
				t.Errorf("%q: got %v, want %v", f.Schedule, got, schedule)
			}
		}
	}
}

func TestNewBody_TellsTextFromBytes(t *testing.T) {
	if b := newBody([]byte("\x00\x01\x02\xff\xfe"), "text/html", false); !b.Binary || !strings.Contains(b.Raw, "00 01 02 ff fe") {
		t.Errorf("got %+v, want a hex dump", b)
	}
	if b := newBody([]byte("payload=%7B%22a%22%3A1%7D"), string(postrider.Form), false); !b.Form || b.Pretty != "{\n  \"a\": 1\n}" {
		t.Errorf("got %+v, want the payload", b)
	}
	if b := newBody(bytes.Repeat([]byte("é"), shownText), "", true); b.Binary || !b.Shortened || !b.Truncated {
		t.Errorf("got binary %v, shortened %v", b.Binary, b.Shortened)
	}
	if b := newBody([]byte(`{"a":1}   `), "application/json", false); b.Pretty == "" || b.Raw != `{"a":1}   ` {
		t.Errorf("got %+v", b)
	}
}
