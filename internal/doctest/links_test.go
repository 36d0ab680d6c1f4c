package doctest

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// link finds the target of [text](target) and of ![image](target).
var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestLinks_LeadSomewhere(t *testing.T) {
	links := 0
	for _, p := range pages(t) {
		for _, line := range p.lines {
			for _, found := range link.FindAllStringSubmatch(inCode.ReplaceAllString(line, ""), -1) {
				links++
				if fault := p.follow(t, found[1]); fault != "" {
					t.Errorf("%s: the link to %s: %s", p.name, found[1], fault)
				}
			}
		}
	}
	if links < 30 {
		t.Errorf("got %d links, want those of the whole documentation", links)
	}
}

// follow says what is wrong with a link; "" is nothing. Links to other sites
// are not followed: tests stay at home.
func (p *page) follow(t *testing.T, target string) (fault string) {
	t.Helper()
	if strings.Contains(target, "://") {
		return ""
	}
	path, anchor, _ := strings.Cut(target, "#")
	name := p.name
	if path != "" {
		name = filepath.Join(filepath.Dir(p.name), path)
	}
	if strings.HasPrefix(name, "..") || strings.HasPrefix(path, "/") {
		return "leads out of the project"
	}
	if _, err := os.Stat(filepath.Join(root, name)); err != nil {
		return "there is no such file"
	}
	if anchor != "" && !slices.Contains(read(t, name).anchors(), anchor) {
		return "there is no such heading"
	}
	return ""
}

func TestFollow_SeesABrokenLink(t *testing.T) {
	p := read(t, "README.md")
	for _, target := range []string{"docs/nothing.md", "docs/quickstart.md#nothing", "#nothing", "../elsewhere", "/etc/passwd"} {
		if p.follow(t, target) == "" {
			t.Errorf("got no fault of the link to %s", target)
		}
	}
	for _, target := range []string{"docs/quickstart.md#start-the-server", "#try-it", "LICENSE", "docs/receivers/go/", "https://example.org/"} {
		if fault := p.follow(t, target); fault != "" {
			t.Errorf("the link to %s: got %q, want no fault", target, fault)
		}
	}
}

// Examples are copied: one that is no JSON costs somebody an hour.
func TestExamples_OfJSONAreJSON(t *testing.T) {
	examples := 0
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			if b.language != "json" {
				continue
			}
			examples++
			decoder := json.NewDecoder(bytes.NewReader([]byte(b.text)))
			var value any
			if err := decoder.Decode(&value); err != nil {
				t.Errorf("%s:%d: %v", p.name, b.line, err)
			} else if err := decoder.Decode(&value); err != io.EOF {
				t.Errorf("%s:%d: more than one value", p.name, b.line)
			}
		}
	}
	if examples < 10 {
		t.Errorf("got %d examples, want those of the whole documentation", examples)
	}
}

// A fence without a language is not coloured, and nothing checks it.
func TestExamples_SayWhatTheyAre(t *testing.T) {
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			if b.language == "" && strings.HasPrefix(p.name, "docs/") {
				t.Errorf("%s:%d: the fence has no language", p.name, b.line)
			}
		}
	}
}
