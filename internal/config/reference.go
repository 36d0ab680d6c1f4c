package config

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// WriteFile writes a settings file that changes nothing: every key with its
// meaning and its default, as a comment. A default that were written out would
// stay as it is when a later version has a better one.
func WriteFile(w io.Writer) {
	fmt.Fprint(w, `# Settings of postrider serve. Each line that begins with #key shows a default:
# take the # away to change it, then try the file with
# postrider config check --config FILE
# Variables of the environment and flags of the command line outrank this file.
`)
	for _, flag := range documented() {
		fmt.Fprintf(w, "\n%s#%s: %s\n", wrap("# ", flag.Help), key(flag), fileValue(flag))
	}
}

// fileValue is a flag's default as the file has it, or what stands for a value
// where there is none.
func fileValue(flag *kong.Flag) string {
	switch {
	case flag.IsBool():
		return "false"
	case flag.IsSlice():
		return "[" + strings.ReplaceAll(flag.Default, ",", ", ") + "]"
	case flag.Default == "":
		return flag.PlaceHolder
	}
	return flag.Default
}

// wrap breaks a sentence into lines of a comment.
func wrap(prefix, text string) string {
	var lines strings.Builder
	width := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case width == 0:
			lines.WriteString(prefix)
		case width+len(word) > 76:
			lines.WriteString("\n" + prefix)
			width = 0
		default:
			lines.WriteString(" ")
		}
		lines.WriteString(word)
		width += len(word) + 1
	}
	return lines.String() + "\n"
}

// documented are the flags that users are told about.
func documented() (flags []*kong.Flag) {
	for _, flag := range flagsOf(new(Serve)) {
		if !flag.Hidden {
			flags = append(flags, flag)
		}
	}
	return flags
}

const introduction = `<!-- Printed by: postrider config doc. Change internal/config, not this page. -->

# Configuration

Every setting of ` + "`postrider serve`" + ` can be given in four places. The first that has it wins:

1. a flag of the command line, ` + "`--data-dir /srv/postrider`" + `;
2. a variable of the environment, ` + "`POSTRIDER_DATA_DIR=/srv/postrider`" + `. One that is empty counts as not set;
3. a key of the file that ` + "`--config FILE`" + ` or ` + "`POSTRIDER_CONFIG`" + ` names, ` + "`data_dir: /srv/postrider`" + `;
4. the default, which runs on a laptop.

The file is YAML, flat, with the keys below; ` + "`data-dir`" + ` is the same key as ` + "`data_dir`" + `. A key that does not exist is an error, and so is one that stands there twice. Durations are written as ` + "`5s`, `5m`, `24h` or `1h30m`" + `. A list has commas between its elements, ` + "`10.0.0.0/8,192.168.0.0/16`" + `; in the file it may be a YAML list, and a flag may be repeated.

` + "```yaml" + `
listen: :8080
data_dir: /srv/postrider
allow_hosts:
  - hooks.example.internal
retry_schedule: [5s, 5m, 1h, 6h]
` + "```" + `

| command | does |
|---|---|
| ` + "`postrider config default > postrider.yaml`" + ` | writes a file with every key, its meaning and its default, all as comments |
| ` + "`postrider config check --config postrider.yaml`" + ` | says ` + "`ok`" + `, or all that is wrong with the file, the environment and the flags together |
| ` + "`postrider config doc`" + ` | prints this page |

Other processes can see a command line: give ` + "`admin_key` and `encryption_key`" + ` in the environment, or in a file that only the server's user can read. Postrider never prints them.
`

// WriteReference writes the reference page of the settings, in Markdown.
func WriteReference(w io.Writer) {
	fmt.Fprint(w, introduction)
	for _, flag := range documented() {
		fmt.Fprintf(w, "\n## `%s`\n\n%s\n\n", key(flag), flag.Help)
		written := "--" + flag.Name
		if !flag.IsBool() {
			written += " " + flag.PlaceHolder
		}
		if flag.IsSlice() {
			written += ",…"
		}
		fmt.Fprintf(w, "Flag `%s`, variable `%s`, default %s.\n", written, variable(flag), shownDefault(flag))
	}
}

// shownDefault is a flag's default for people.
func shownDefault(flag *kong.Flag) string {
	switch {
	case flag.IsBool():
		return "`false`"
	case flag.Default == "":
		return "none"
	}
	return "`" + flag.Default + "`"
}
