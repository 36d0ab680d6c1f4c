package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// readFile reads the settings of a YAML file by key; "" is no file. Nothing in
// it is passed over: a key that no flag has, or that stands there twice, is a
// fault, since whoever wrote it expects it to work.
func readFile(path string, flags []*kong.Flag) (entries map[string]entry, faults Faults) {
	entries = map[string]entry{}
	if path == "" {
		return entries, nil
	}
	root, err := parseFile(path)
	if err != nil {
		return entries, Faults{{Source: path, Detail: err.Error()}}
	}
	known := map[string]*kong.Flag{}
	for _, flag := range flags {
		known[key(flag)] = flag
	}
	lines := map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		name, value := root.Content[i], root.Content[i+1]
		key := strings.ReplaceAll(name.Value, "-", "_")
		fault := Fault{Key: key, Source: fmt.Sprintf("%s:%d", path, name.Line)}
		// What is no key at all may be a secret after a forgotten space.
		if plainKey.MatchString(name.Value) {
			fault.Source += ": " + name.Value
		}
		switch flag := known[key]; {
		case flag == nil:
			fault.Detail = "there is no such key"
			if near := nearest(key, known); near != "" {
				fault.Hint = "the nearest key is " + near
			}
		case lines[key] != 0:
			fault.Detail = fmt.Sprintf("is set on line %d already", lines[key])
		default:
			lines[key] = name.Line
			var texts []string
			if texts, fault.Detail = textsOf(value, flag.IsSlice()); fault.Detail == "" {
				entries[key] = entry{source: fault.Source, texts: texts}
				continue
			}
		}
		faults = append(faults, fault)
	}
	return entries, faults
}

var plainKey = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,40}$`)

// parseFile returns the file's one mapping. Its errors hold nothing of the
// file's text, which may be a secret that somebody forgot to quote.
func parseFile(path string) (*yaml.Node, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		if failed, ok := errors.AsType[*fs.PathError](err); ok {
			err = failed.Err // the path stands before it already
		}
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document, more yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return new(yaml.Node), nil // comments only
	case err != nil && strings.Contains(err.Error(), "unknown anchor"):
		return nil, errors.New("a value that begins with * stands in quotes")
	case err != nil:
		return nil, fmt.Errorf("is no YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("has more than one document")
	}
	root := document.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return new(yaml.Node), nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, errors.New("is no list of keys with their values, such as listen: 127.0.0.1:8080")
	}
	return root, nil
}

// textsOf are the texts of a value or of a list's elements, just as written: a
// number is not turned around by YAML first.
func textsOf(value *yaml.Node, isList bool) (texts []string, fault string) {
	if value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	switch {
	case !strings.HasPrefix(value.Tag, "!!"):
		return nil, "has a YAML tag; a value that begins with ! stands in quotes"
	case value.Kind == yaml.ScalarNode && value.Tag == "!!null":
		return nil, "has no value; leave the key out for the default"
	case value.Kind == yaml.ScalarNode:
		return []string{value.Value}, ""
	case value.Kind != yaml.SequenceNode:
		return nil, "has keys of its own; settings are not nested"
	case !isList:
		return nil, "is a list, and takes one value"
	}
	for _, element := range value.Content {
		if element.Kind != yaml.ScalarNode || element.Tag == "!!null" {
			return nil, "is a list with an element that is no plain value"
		}
		texts = append(texts, element.Value)
	}
	return texts, ""
}

// nearest is the known key that a misspelt one was probably meant to be, or
// none.
func nearest(key string, known map[string]*kong.Flag) (near string) {
	least := max(2, len(key)/3) + 1
	for name, flag := range known {
		if d := distance(key, name); !flag.Hidden && (d < least || d == least && near != "" && name < near) {
			near, least = name, d
		}
	}
	return near
}

// distance is how many letters must be put in, left out or changed to turn one
// word into another (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for i := range row {
		row[i] = i
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := diagonal
			if a[i] != b[j] {
				changed++
			}
			diagonal = row[j+1]
			row[j+1] = min(changed, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
