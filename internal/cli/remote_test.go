package cli

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"postrider/internal/e2e"
)

// The commands of the API run against the real server: one for each transcript,
// with its receiver.
func TestTranscripts_OverTheAPI(t *testing.T) {
	files, err := filepath.Glob("testdata/remote/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %d transcripts and error %v, want some", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			server, receiver := e2e.Start(t, t.TempDir()), e2e.Listen(t)
			receiver.Answer(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/broken" {
					w.WriteHeader(http.StatusInternalServerError)
				}
				fmt.Fprint(w, "told \x1b[31mred\x07\n")
			})
			fillCatalogue(server)
			stranger := httptest.NewServer(http.RedirectHandler("https://elsewhere.test/", http.StatusFound))
			t.Cleanup(stranger.Close)
			testscript.Run(t, testscript.Params{
				Files: []string{file}, UpdateScripts: *update, RequireExplicitExec: true, RequireUniqueNames: true,
				Deadline: time.Now().Add(2 * time.Minute),
				Setup: func(env *testscript.Env) error {
					for name, value := range map[string]string{
						"COLUMNS": "110", "TZ": "UTC", "HOME": env.WorkDir, "POSTRIDER_SERVER": server.URL, "POSTRIDER_KEY": e2e.AdminKey,
						"RECEIVER": receiver.URL, "STRANGER": stranger.URL, "DATA": server.Dir,
					} {
						env.Setenv(name, value)
					}
					return nil
				},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "capture": capture, "until": until},
			})
		})
	}
}

func fillCatalogue(server *e2e.Server) {
	server.Call(http.MethodPut, "/v0/api_webhooks/events/room_status.updated", []byte(
		`{"description":"A room's status has changed.","example":{"room": 12,  "status":"clean"}}`)).Must(http.StatusCreated)
	server.Call(http.MethodPut, "/v0/api_webhooks/events/stay.ended", []byte(`{"description":"Old.","deprecated":true}`)).Must(http.StatusCreated)
}

// capture keeps what a group of a pattern matches in the last output, or in a
// file. Such as: capture ID '"id":"([^"]+)"' or capture ID pattern file.
func capture(script *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		script.Fatalf("usage: capture variable pattern [file]")
	}
	file := "stdout"
	if len(args) > 2 {
		file = args[2]
	}
	found := regexp.MustCompile(args[1]).FindStringSubmatch(script.ReadFile(file))
	if len(found) != 2 {
		script.Fatalf("got no match of %q", args[1])
	}
	script.Setenv(args[0], found[1])
}

// until runs a command again and again until its output matches. It is for what
// becomes true a little later. Such as: until success postrider logs list.
func until(script *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		script.Fatalf("usage: until pattern command...")
	}
	pattern := regexp.MustCompile("(?m)" + args[0])
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for {
		if err := script.Exec(args[1], args[2:]...); err == nil && pattern.MatchString(script.ReadFile("stdout")) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			script.Fatalf("the output never matched %q", args[0])
		}
	}
}
