package receivertest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSDK(t *testing.T) {
	sdk := NewSDK(t)
	t.Run("PassesItsTestsAndEveryVector", func(t *testing.T) { passesItsTestsAndEveryVector(t, sdk) })
	t.Run("PublishesTheProgramAndItsTypes", func(t *testing.T) { publishesTheProgramAndItsTypes(t, sdk) })
	// The receivers made with our packages take what those of the documentation
	// take, and refuse what they refuse.
	const unset = "a secret is one line and not empty"
	testReceivers(t, map[string]subject{
		"GoMiddleware":      {program: Middleware(t), secret: ownSecret, unset: unset, standard: true, anyID: true},
		"GoMiddlewareWhsec": {program: Middleware(t), secret: whsec, unset: unset, standard: true, anyID: true},
		"Express":           {program: sdk.Program("express"), secret: ownSecret, unset: unset, standard: true, anyID: true},
		"Fastify":           {program: sdk.Program("fastify"), secret: whsec, unset: unset, standard: true, anyID: true},
		"Fetch":             {program: sdk.Program("fetch"), secret: ownSecret, unset: unset, standard: true, anyID: true},
		"HTTP":              {program: sdk.Program("http"), secret: whsec, unset: unset, standard: true, anyID: true},
	})
}

// The package's own tests: its types fit the frameworks', its adapters stand up
// in them, and the vectors of package signature judge it, with both of its
// cryptographies.
func passesItsTestsAndEveryVector(t *testing.T, sdk *SDK) {
	t.Helper()
	run(t, sdk.dir, "npm", "run", "check")
	said := run(t, sdk.dir, "npm", "test")
	runs := regexp.MustCompile(`(?m)\bpass (\d+)$`).FindAllStringSubmatch(said, -1)
	if len(runs) != 2 {
		t.Fatalf("got %d runs, want one for each cryptography\n%s", len(runs), said)
	}
	for _, passed := range runs {
		if got, err := strconv.Atoi(passed[1]); err != nil || got < countVectors(t) {
			t.Errorf("got %d tests passed, want more than the %d vectors", got, countVectors(t))
		}
	}
}

func countVectors(t *testing.T) (count int) {
	t.Helper()
	for _, name := range []string{"hex.json", "standard.json", "request.json"} {
		text, err := os.ReadFile(filepath.Join(checkout(t), "signature", "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		var one []json.RawMessage
		var several map[string][]json.RawMessage
		if json.Unmarshal(text, &one) != nil && json.Unmarshal(text, &several) != nil {
			t.Fatalf("%s holds no vectors", name)
		}
		count += len(one)
		for _, vectors := range several {
			count += len(vectors)
		}
	}
	return count
}

// What is published is the program, its types and its words: no source, no test,
// nothing of the machine that it was built on.
func publishesTheProgramAndItsTypes(t *testing.T, sdk *SDK) {
	t.Helper()
	got := strings.Fields(run(t, sdk.dir, "tar", "--list", "--file", sdk.archive))
	want := []string{"package/LICENSE", "package/README.md", "package/package.json"}
	modules, err := filepath.Glob(filepath.Join(sdk.dir, "src", "*.ts"))
	if err != nil || len(modules) == 0 {
		t.Fatalf("got modules %v and error %v", modules, err)
	}
	for _, module := range modules {
		name := "package/dist/" + strings.TrimSuffix(filepath.Base(module), ".ts")
		want = append(want, name+".js", name+".d.ts")
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the archive (-want +got):\n%s", diff)
	}

	var manifest struct {
		License              string
		Dependencies         map[string]string
		OptionalDependencies map[string]string
		PeerDependencies     map[string]string
	}
	text, err := os.ReadFile(filepath.Join(sdk.app, "node_modules", "@postrider", "receiver", "package.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	if dependencies := len(manifest.Dependencies) + len(manifest.OptionalDependencies) + len(manifest.PeerDependencies); dependencies != 0 {
		t.Errorf("got %d dependencies, want none", dependencies)
	}
	if manifest.License != "Apache-2.0" {
		t.Errorf("got licence %q, want Apache-2.0", manifest.License)
	}
}

// A lock file that says where its packages come from sends everyone there.
func TestLockFiles_NameNoRegistry(t *testing.T) {
	for _, dir := range []string{"sdk/js", "docs/receivers/node-express", "docs/receivers/standard-webhooks"} {
		text, err := os.ReadFile(filepath.Join(checkout(t), dir, "package-lock.json"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), `"resolved"`) || !strings.Contains(string(text), `"integrity"`) {
			t.Errorf("%s: want integrity and nothing resolved", dir)
		}
	}
}
