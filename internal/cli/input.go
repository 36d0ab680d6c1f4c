package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"

	"postrider/internal/config"
)

// readInput reads the standard input to its end.
func (p *process) readInput() ([]byte, error) {
	text, err := io.ReadAll(p.stdin)
	if err != nil {
		return nil, fmt.Errorf("read the standard input: %w", err)
	}
	return text, nil
}

// readBody reads what the argument <file> names, or the standard input. It
// does not wait for a person to type where the argument was forgotten.
func (p *process) readBody(path string) ([]byte, error) {
	if path != "" {
		return p.readFile("<file>", path)
	}
	if file, ok := p.stdin.(*os.File); ok && isTerminal(file) {
		return nil, misuse("<file>", "is missing, and nothing comes from the standard input", "name a file, or - to type it and end with Ctrl-D")
	}
	return p.readInput()
}

// checkJSON refuses what is not one JSON value, and says where it breaks. What
// is put into a request as it stands must be whole: half of a value could name
// fields of its own.
func checkJSON(source string, text []byte) error {
	if json.Valid(text) {
		return nil
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return misuse(source, "is empty; a payload is a JSON value", "")
	}
	detail := "is no JSON"
	var value any
	if wrong, ok := errors.AsType[*json.SyntaxError](json.Unmarshal(text, &value)); ok {
		before := text[:min(int(wrong.Offset), len(text))]
		detail = fmt.Sprintf("is no JSON: %s, on line %d", plain(wrong.Error()), bytes.Count(before, []byte("\n"))+1)
	}
	return misuse(source, detail, "in a shell, JSON stands in single quotes: '{\"room\":12}'")
}

// sorted are the entries of a map by key.
func sorted[V any](m map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}

// An eraser has the flags of a command that takes something away: it has no
// result, so there is no --json.
type eraser struct{ config.Remote }

// erase deletes what a path names, and says so.
func (e *eraser) erase(ctx context.Context, p *process, path string, query url.Values, done string) error {
	target, err := e.Resolve()
	if err != nil {
		return err
	}
	if _, err := newClient(target).call(ctx, request{method: "DELETE", path: path, query: query}); err != nil {
		return err
	}
	p.say("%s", plain(strings.TrimSpace(done)))
	return nil
}
