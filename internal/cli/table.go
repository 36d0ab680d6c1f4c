package cli

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"postrider/internal/config"
)

// Styles of a terminal (ECMA-48), by what they say.
const (
	unstyled = ""
	bold     = "1"
	faint    = "2"
	bad      = "31"
	good     = "32"
	warning  = "33"
)

// A cell is a text in a table.
type cell struct{ text, style string }

// A screen writes for people: aligned, and coloured where a terminal shows it.
type screen struct {
	io.Writer
	colored bool
}

func (p *process) screen() screen {
	return screen{p.stdout, isTerminal(p.stdout) && !config.NoColor()}
}

// styled is a text in a style, where the screen has any.
func (s screen) styled(style, text string) string {
	if !s.colored || style == unstyled {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

// table writes rows below titles. Without rows it writes nothing.
func (s screen) table(titles []string, rows [][]cell) {
	if len(rows) == 0 {
		return
	}
	head := make([]cell, len(titles))
	for i, title := range titles {
		head[i] = cell{title, bold}
	}
	rows = append([][]cell{head}, rows...)
	widths := make([]int, len(titles))
	for _, row := range rows {
		for i := range row {
			row[i].text = plain(row[i].text)
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i].text))
		}
	}
	for _, row := range rows {
		s.row(widths, row)
	}
}

// row writes cells in columns of the given widths, two spaces apart.
func (s screen) row(widths []int, row []cell) {
	var line strings.Builder
	for i, c := range row {
		line.WriteString(s.styled(c.style, c.text))
		if i < len(row)-1 {
			line.WriteString(strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(c.text))+2))
		}
	}
	fmt.Fprintln(s, strings.TrimRight(line.String(), " "))
}

// fields writes what is known of one thing, a line for each that is not empty.
func (s screen) fields(fields []cell, values []cell) {
	width := 0
	for _, f := range fields {
		width = max(width, len(f.text))
	}
	for i, f := range fields {
		if values[i].text != "" {
			s.row([]int{width}, []cell{{f.text, faint}, {plain(values[i].text), values[i].style}})
		}
	}
}

// A sheet collects the lines of one thing.
type sheet struct{ names, values []cell }

func (s *sheet) add(name, value string) { s.styled(name, value, unstyled) }

func (s *sheet) styled(name, value, style string) {
	s.names, s.values = append(s.names, cell{text: name}), append(s.values, cell{value, style})
}

func (s *sheet) write(on screen) {
	for i := range s.names {
		s.names[i].style = faint
	}
	on.fields(s.names, s.values)
}

// plain is text that a terminal shows and does not obey: partners write URLs,
// descriptions and answers, and an escape sequence in one could rewrite what
// stands above it.
func plain(text string) string { return shown(text, false) }

// plainLines is plain for a text of several lines.
func plainLines(text string) string { return shown(text, true) }

func shown(text string, lines bool) string {
	if strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return text
	}
	var safe strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) && r != utf8.RuneError || lines && (r == '\n' || r == '\t') {
			safe.WriteRune(r)
		} else {
			fmt.Fprintf(&safe, "\\u%04x", r)
		}
	}
	return safe.String()
}

// when shows a time of the API in the zone of whoever reads it; null is a dash.
func when(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

// or is the text of a value that may be null.
func or[T any](value *T, absent string) string {
	if value == nil {
		return absent
	}
	return fmt.Sprint(*value)
}

// yes is yes or no.
func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
