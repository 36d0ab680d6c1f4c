package nodetest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postrider/internal/e2e"
	"postrider/internal/pgtest"
)

// command is the program with arguments, killed when the test ends.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), e2e.Binary(t), args...)
	c.Env = append(os.Environ(), "POSTRIDER_ENCRYPTION_KEY="+e2e.EncryptionKey)
	return c
}

// run runs the program, and returns all that it said.
func run(t *testing.T, stdin io.Reader, args ...string) (string, error) {
	t.Helper()
	c := command(t, args...)
	c.Stdin = stdin
	out, err := c.CombinedOutput()
	return string(out), err
}

// publish publishes a number of events in one request.
func publish(node *e2e.Server, event, ids string, n, payload int) {
	var body bytes.Buffer
	for i := range n {
		fmt.Fprintf(&body, `{"event": %q, "id": "%s_%d", "payload": %q}`+"\n", event, ids, i, strings.Repeat("x", payload))
	}
	node.Call(http.MethodPost, "/v0/events/batch", body.Bytes(), "Content-Type", "application/x-ndjson").Must(http.StatusAccepted)
}

const moveSecret = "a secret that moves"

// A store on a database with a webhook that has a secret, deliveries that wait
// for it, and enough events that no pipe holds an export of them.
func filledDatabase(t *testing.T, cluster *pgtest.Cluster, receiver *e2e.Receiver) (url string) {
	t.Helper()
	url = cluster.URL(e2e.NewDatabase(t, cluster))
	node := e2e.Start(t, t.TempDir(), "--database-url", url, "--encryption-key", e2e.EncryptionKey)
	id := node.Call(http.MethodPost, "/v0/api_webhooks", fmt.Appendf(nil, `{"url": %q, "events": ["held.*"], "secret": %q}`,
		receiver.URL, moveSecret)).Must(http.StatusCreated).Text("id")
	receiver.Wait(t, func(r e2e.Received) bool { return r.Header.Get("X-Clubmed-Event") == "ping" })
	node.Call(http.MethodPost, "/v0/api_webhooks/"+id+"/pause", nil).Must(http.StatusOK)
	publish(node, "held.made", "held", 3, 20)
	for i := range 4 {
		publish(node, "bulk.made", fmt.Sprintf("bulk_%d", i), 500, 2000)
	}
	if err := node.Stop(); err != nil {
		t.Fatal(err)
	}
	return url
}

// What was moved to a directory is served from there: it delivers what waited,
// signed with the secret that has moved, whether the key stays a setting or is
// put where the command says.
func TestImport_ADirectoryServesWhatCameFromADatabase(t *testing.T) {
	for name, keep := range map[string]func(t *testing.T, dir string) (flags []string){
		"the key stays a setting": func(*testing.T, string) []string { return []string{"--encryption-key", e2e.EncryptionKey} },
		"the key is put into the directory": func(t *testing.T, dir string) []string {
			t.Helper()
			if err := os.WriteFile(filepath.Join(dir, "encryption.key"), []byte(e2e.EncryptionKey+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			receiver, dir := e2e.Listen(t), filepath.Join(t.TempDir(), "moved")
			url := filledDatabase(t, pgtest.For(t, true), receiver)
			out, err := run(t, nil, "import", "--from", url, "--data-dir", dir)
			if err != nil || !strings.Contains(out, "the encryption key stays a setting") {
				t.Fatalf("import: got %v, %s, want it to say where the key has to be", err, out)
			}
			server := e2e.Start(t, dir, keep(t, dir)...)
			var page struct{ Data []struct{ ID string } }
			server.Call(http.MethodGet, "/v0/api_webhooks", nil).Must(http.StatusOK).Into(&page)
			server.Call(http.MethodPost, "/v0/api_webhooks/"+page.Data[0].ID+"/resume", nil).Must(http.StatusOK)
			for i := range 3 {
				got := receiver.Event(t, fmt.Sprintf("held_%d", i))
				mac := hmac.New(sha256.New, []byte(moveSecret))
				mac.Write(got.Body)
				if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); got.Header.Get("X-Clubmed-Signature") != want {
					t.Errorf("got the signature %q, want %q", got.Header.Get("X-Clubmed-Signature"), want)
				}
			}
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A feed is an import that has been given the first half of an export.
type feed struct {
	*exec.Cmd
	in   io.WriteCloser
	out  bytes.Buffer
	rest []byte
}

// halfWay starts an import and gives it half of an export, which it has begun
// to write to its target when this returns: no pipe holds that much.
func halfWay(t *testing.T, export []byte, args ...string) *feed {
	t.Helper()
	f := &feed{Cmd: command(t, append([]string{"import"}, args...)...), rest: export[len(export)/2:]}
	f.Stdout, f.Stderr = &f.out, &f.out
	var err error
	if f.in, err = f.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := f.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.in.Write(export[:len(export)/2]); err != nil {
		t.Fatalf("give the import half of it: %v; %s", err, &f.out)
	}
	return f
}

// importAgain imports until it is let, and returns the counts. What it may be
// told before is that the import that was killed counts as running.
func importAgain(t *testing.T, export []byte, args ...string) (counts string) {
	t.Helper()
	e2e.Until(t, "an import after the one that was broken off", func() bool {
		c := command(t, append([]string{"import", "--json"}, args...)...)
		var stdout, stderr bytes.Buffer
		c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(export), &stdout, &stderr
		err := c.Run()
		if err != nil && !strings.Contains(stderr.String(), "one that was killed counts as running for 10 s more") {
			t.Fatalf("import: %v\n%s", err, &stderr)
		}
		counts = stdout.String()
		return err == nil
	})
	return counts
}

// exported is what postrider export writes of a database, with its counts.
func exported(t *testing.T, url string) (export []byte, counts string) {
	t.Helper()
	c := command(t, "export", "--json", "--database-url", url)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		t.Fatalf("export: %v\n%s", err, &stderr)
	}
	return stdout.Bytes(), stderr.String()
}

// Wherever an import ends, its target has nothing: a server would begin anew on
// it, and the next import has all.
func TestImport_KilledLeavesAnEmptyTarget(t *testing.T) {
	cluster := pgtest.For(t, true)
	export, want := exported(t, filledDatabase(t, cluster, e2e.Listen(t)))
	for name, target := range map[string][]string{
		"SQLite": {"--data-dir", t.TempDir()}, "PostgreSQL": {"--database-url", cluster.URL(e2e.NewDatabase(t, cluster))},
	} {
		t.Run(name, func(t *testing.T) {
			f := halfWay(t, export, target...)
			if err := f.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			if f.Wait() == nil {
				t.Fatal("the import ended before it was killed")
			}
			if got := importAgain(t, export, target...); got != want {
				t.Errorf("got the counts %s after the import that was killed, want %s", got, want)
			}
			if out, err := run(t, bytes.NewReader(export), append([]string{"import"}, target...)...); err == nil || !strings.Contains(out, "the target is not empty") {
				t.Errorf("got %v, %s, want a third import refused", err, out)
			}
		})
	}
}

func TestImport_CanBeStartedAgainAfterItsDatabaseWasLost(t *testing.T) {
	cluster := pgtest.For(t, true)
	export, want := exported(t, filledDatabase(t, cluster, e2e.Listen(t)))
	target := []string{"--database-url", cluster.URL(e2e.NewDatabase(t, cluster))}
	f := halfWay(t, export, target...)
	if err := cluster.Kill(); err != nil {
		t.Fatal(err)
	}
	f.in.Write(f.rest) //nolint:errcheck // it may have ended
	f.in.Close()
	if err := f.Wait(); err == nil || !strings.Contains(f.out.String(), "the database cannot be reached") ||
		!strings.Contains(f.out.String(), "then start again") {
		t.Errorf("got %v, %s, want the database's loss and the next step", err, &f.out)
	}
	if err := cluster.Restart(); err != nil {
		t.Fatal(err)
	}
	if got := importAgain(t, export, target...); got != want {
		t.Errorf("got the counts %s after the database's return, want %s", got, want)
	}
}

// An export whose database went away says so, and what it has written is known
// to be a part.
func TestExport_ThatLostItsDatabaseIsKnownToBeAPart(t *testing.T) {
	cluster := pgtest.For(t, true)
	url := filledDatabase(t, cluster, e2e.Listen(t))
	c := command(t, "export", "--database-url", url)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	part := make([]byte, 100_000)
	if _, err := io.ReadFull(stdout, part); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Kill(); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(stdout)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err == nil || !strings.Contains(stderr.String(), "the database cannot be reached") {
		t.Errorf("got %v, %s, want the database's loss", err, &stderr)
	}
	if out, err := run(t, bytes.NewReader(append(part, rest...)), "import", "--data-dir", t.TempDir()); err == nil ||
		!strings.Contains(out, "the export is cut off or damaged") {
		t.Errorf("got %v, %s, want the part refused", err, out)
	}
}
