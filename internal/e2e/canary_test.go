package e2e_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postrider/internal/e2e"
)

// A canary is a secret that is looked for wherever it should not be.
type canary struct {
	name, text string
	inStore    bool // it is kept readable: only logs must not have it
}

// forms are how a text could stand in a file: as it is, in hexadecimal, and in
// base64 from each of the three places in a group at which it can begin.
func (c canary) forms() [][]byte {
	forms := [][]byte{[]byte(c.text), []byte(hex.EncodeToString([]byte(c.text))), []byte(strings.ToUpper(hex.EncodeToString([]byte(c.text))))}
	for skip := range 3 {
		padded := append(make([]byte, skip), c.text...)
		encoded := base64.RawStdEncoding.EncodeToString(padded[:len(padded)/3*3])
		whole := encoded[(skip*4+2)/3:]
		forms = append(forms, []byte(whole), []byte(strings.NewReplacer("+", "-", "/", "_").Replace(whole)))
	}
	return forms
}

func wantAbsent(t *testing.T, where string, text []byte, canaries []canary) {
	t.Helper()
	for _, c := range canaries {
		for i, form := range c.forms() {
			if at := bytes.Index(text, form); at >= 0 {
				t.Errorf("%s: got the %s in its form %d, near %q", where, c.name, i, text[max(0, at-80):at])
			}
		}
	}
}

// searchFiles looks into every file of a data directory but the key's own.
func searchFiles(t *testing.T, dir string, canaries []canary) (seen int64) {
	t.Helper()
	var kept []canary
	for _, c := range canaries {
		if !c.inStore {
			kept = append(kept, c)
		}
	}
	if err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		var text []byte
		if err == nil && !entry.IsDir() {
			text, err = os.ReadFile(path)
			seen += int64(len(text))
			wantAbsent(t, path, text, kept)
		}
		if path != dir && errors.Is(err, fs.ErrNotExist) {
			return nil // a database goes on working, and removes files of its own
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return seen
}

// No secret is in a log, an answer, an error or a file, whatever is done with
// it: created, delivered with, failed with, rotated, sent wrong.
func TestSecrets_AreNowhereButWithTheirOwners(t *testing.T) {
	dir := t.TempDir()
	key := bytes.Repeat([]byte("encryption"), 4)[:32]
	server := e2e.Start(t, dir, "--log-level=debug", "--encryption-key="+base64.StdEncoding.EncodeToString(key))
	receiver := e2e.Listen(t)
	secret, old := canary{"secret", "canary-of-the-signing-secret", false}, canary{"new secret", "canary-of-the-secret-after-it", false}
	header := canary{"header", "canary-of-the-authorization", false}
	query := canary{"URL's query", "canary-of-the-url-query", true}
	wrong := canary{"wrong key", "prk_canary-of-a-key-that-is-unknown", false}
	refused := canary{"refused value", "canary-of-what-is-refused", false}
	canaries := []canary{
		secret, old, header, query, wrong, refused, {"operator's key", e2e.AdminKey, false}, {"encryption key", string(key), false},
	}

	var answers bytes.Buffer
	call := func(who *e2e.Server, method, path, body string, headers ...string) e2e.Answer {
		t.Helper()
		var sent []byte
		if body != "" {
			sent = []byte(body)
		}
		got := who.Call(method, path, sent, headers...)
		answers.Write(got.Body)
		for name, values := range got.Header {
			answers.WriteString("\n" + name + ": " + strings.Join(values, ", ") + "\n")
		}
		return got
	}

	// What is shown once is asked for apart.
	made := server.Call("POST", "/v0/api_keys", []byte(`{"tenant": "default", "name": "x"}`)).Must(201).Text("key")
	link := server.Call("POST", "/v0/portal_links", []byte(`{"tenant": "default"}`)).Must(201).Text("url")
	_, token, _ := strings.Cut(link, "token=")
	cookie := enter(t, link)
	_, session, _ := strings.Cut(cookie, "=")
	canaries = append(canaries, canary{"API key", made, false}, canary{"link's token", token, false}, canary{"session", session, false})
	partner := server.As(made)

	const hooks = "/v0/api_webhooks"
	fields := `"events": ["a.b"], "secret": "` + secret.text + `", "headers": {"Authorization": "Bearer ` + header.text + `"}}`
	id := call(partner, "POST", hooks, `{"url": "`+receiver.URL+`/?token=`+query.text+`", `+fields).Must(201).Text("id")
	receiver.Event(t, call(server, "POST", "/v0/events", `{"event": "a.b", "payload": 1}`).Must(202).Text("id"))
	receiver.Answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	failed := call(server, "POST", "/v0/events", `{"event": "a.b", "payload": 2}`).Must(202).Text("id")
	receiver.Event(t, failed)
	rotated := call(partner, "POST", hooks+"/"+id+"/rotate_secret", `{"secret": "`+old.text+`", "grace_seconds": 60}`).Must(200)
	if strings.Contains(string(rotated.Body), secret.text) {
		t.Error("a rotation shows the secret before")
	}
	answers.Reset() // the rotation has shown the new secret, as it should
	call(partner, "POST", hooks+"/"+id+"/ping", "")
	for _, url := range []string{ // attempts that fail before there is an answer
		"http://127.0.0.1:1024/?token=" + query.text, strings.Replace(receiver.URL, "http:", "https:", 1) + "/?token=" + query.text,
		"https://nowhere.invalid/?token=" + query.text,
	} {
		hook := call(partner, "POST", hooks, `{"url": "`+url+`", `+fields).Must(201).Text("id")
		e2e.Until(t, "the ping to "+hook+" failing", func() bool { return len(partner.Pages(hooks+"/"+hook+"/logs", 10)) > 0 })
	}
	for _, row := range []string{
		`{"secret": "` + refused.text + `\u0000"}`, `{"secret": ["` + refused.text + `"]}`, `{"secret": "whsec_` + refused.text + `"}`,
		`{"secret": "` + refused.text + `", "generate_secret": true}`, `{"secret": "` + refused.text + `"`,
		`{"headers": {"Authorization": "` + refused.text + `\r\n"}}`, `{"headers": {"Host": "` + refused.text + `"}}`,
		`{"headers": "` + refused.text + `"}`, `{"url": "https://user:` + refused.text + `@partner.example/"}`,
		`{"url": "https://10.0.0.1/?token=` + refused.text + `"}`, `{"url": "` + refused.text + `"}`,
	} {
		if got := call(partner, "PATCH", hooks+"/"+id, row); got.Status < 400 {
			t.Errorf("got status %d for %s, want it refused", got.Status, row)
		}
	}
	call(server.As(wrong.text), "GET", hooks, "").Must(401)
	call(server.As(""), "GET", hooks, "", "Authorization", "Basic "+wrong.text).Must(401)
	call(server.As(""), "GET", hooks+"?api_key="+wrong.text, "").Must(401)
	call(server.As(""), "GET", "/portal/enter?token="+wrong.text, "")
	for _, path := range []string{
		hooks, hooks + "/" + id, hooks + "/logs", hooks + "/" + id + "/logs", "/v0/events/" + failed, "/v0/api_keys", "/openapi.json",
	} {
		call(server, "GET", path, "").Must(200)
	}
	for _, row := range partner.Pages(hooks+"/logs", 100) {
		call(partner, "GET", hooks+"/logs/"+row["id"].(string), "").Must(200)
	}
	for _, path := range []string{"/portal/", "/portal/webhooks", "/portal/webhooks/" + id, "/portal/webhooks/" + id + "/edit", "/portal/logs"} {
		call(server.As(""), "GET", path, "", "Cookie", cookie)
	}

	var shown []canary // a partner sees the URLs that it has given
	for _, c := range canaries {
		if !c.inStore {
			shown = append(shown, c)
		}
	}
	wantAbsent(t, "the answers", answers.Bytes(), shown)
	server.Kill() // what is in the write-ahead log stays there
	if seen := searchFiles(t, server.Storage(), canaries); seen < 100_000 {
		t.Errorf("got %d bytes of files, want the database and its log", seen)
	}
	wantAbsent(t, "the log", []byte(server.Log()), canaries)
	if log := server.Log(); !strings.Contains(log, "level=DEBUG") || !strings.Contains(log, failed) {
		t.Errorf("got a log without what was done: the search is blind\n%s", log)
	}

	again := e2e.Start(t, dir, "--log-level=debug", "--encryption-key="+base64.StdEncoding.EncodeToString(key))
	if err := again.Stop(); err != nil {
		t.Fatal(err)
	}
	searchFiles(t, server.Storage(), canaries)
	wantAbsent(t, "the log of a start", []byte(again.Log()), canaries)
}
