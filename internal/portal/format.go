package portal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"postrider"
)

// when is a moment to the second; clock the same to the millisecond.
func when(t time.Time) string  { return t.UTC().Format("2 Jan 2006, 15:04:05 UTC") }
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000 UTC") }

// ago is a moment as people say it, with the exact one behind it.
func ago(now, t time.Time) template.HTML {
	if t.IsZero() {
		return "never"
	}
	stamp := t.UTC().Format(time.RFC3339Nano)
	return template.HTML(`<time datetime="` + stamp + `" title="` + when(t) + `">` + //nolint:gosec // numbers and fixed words
		relative(now.Sub(t)) + `</time>`)
}

func relative(d time.Duration) string {
	form := func(n int, unit string) string {
		if n < 0 {
			return fmt.Sprintf("in %d %s", -n, unit)
		}
		return fmt.Sprintf("%d %s ago", n, unit)
	}
	switch abs := d.Abs(); {
	case abs < 5*time.Second:
		return "just now"
	case abs < time.Minute:
		return form(int(d/time.Second), "s")
	case abs < time.Hour:
		return form(int(d/time.Minute), "min")
	case abs < 48*time.Hour:
		return form(int(d/time.Hour), "h")
	}
	return form(int(d/(24*time.Hour)), "days")
}

// duration has three digits at most, since more say nothing to people.
func duration(d time.Duration) string {
	switch {
	case d == 0:
		return "0"
	case d < 10*time.Millisecond:
		return trimZero(float64(d)/1e6) + " ms"
	case d < time.Second:
		return strconv.Itoa(int(d.Round(time.Millisecond)/time.Millisecond)) + " ms"
	case d < time.Minute:
		return trimZero(d.Seconds()) + " s"
	case d < time.Hour:
		return trimZero(d.Minutes()) + " min"
	}
	return trimZero(d.Hours()) + " h"
}

func trimZero(f float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(f, 'f', 1, 64), ".0")
}

func size(n int) string {
	switch {
	case n < 1<<10:
		return plural(n, "byte")
	case n < 1<<20:
		return trimZero(float64(n)/(1<<10)) + " KiB"
	}
	return trimZero(float64(n)/(1<<20)) + " MiB"
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if stem, found := strings.CutSuffix(noun, "y"); found {
		return number(int64(n)) + " " + stem + "ies"
	}
	return number(int64(n)) + " " + noun + "s"
}

// number has a comma between thousands.
func number(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// percent of successes, never rounded up to a hundred.
func percent(successes, all int64) string {
	if all == 0 {
		return "–"
	}
	share := float64(successes) / float64(all) * 100
	if successes < all {
		share = min(share, 99.99)
	}
	text := strconv.FormatFloat(share, 'f', 2, 64)
	return strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(text, "0"), "0"), ".") + "%"
}

func shortID(id any) string {
	text := fmt.Sprint(id)
	if len(text) > 13 {
		return "…" + text[len(text)-8:]
	}
	return text
}

// hostOf is the part of a URL that tells receivers apart at a glance.
func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return text
	}
	return u.Host + strings.TrimSuffix(u.Path, "/")
}

// visible shows what would be invisible or change how its neighbours look:
// control characters (those of terminals too), and the marks that turn the
// direction of writing. Text of strangers is to be read as what it is.
func visible(s string) string {
	clean := func(r rune) bool {
		return r == '\n' || r == '\t' || r >= ' ' && r != utf8.RuneError && r != 0x7f && !turnsText(r) && !unicode.Is(unicode.Cc, r)
	}
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !clean(r) }) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case clean(r):
			b.WriteRune(r)
		case r == utf8.RuneError:
			if _, width := utf8.DecodeRuneInString(s[i:]); width == 1 {
				fmt.Fprintf(&b, "⟨%02X⟩", s[i])
				continue
			}
			b.WriteRune(r)
		case r == '\r':
			b.WriteString("␍")
		case r < ' ':
			b.WriteRune('␀' + r)
		case r == 0x7f:
			b.WriteString("␡")
		default:
			fmt.Fprintf(&b, "⟨U+%04X⟩", r)
		}
	}
	return b.String()
}

func turnsText(r rune) bool {
	return r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x200e || r == 0x200f || r == 0x061c ||
		r == 0x2028 || r == 0x2029 || r == 0xfeff
}

// A body is what travelled, ready to be looked at.
type body struct {
	Size      int
	Truncated bool
	Empty     bool
	Binary    bool
	Pretty    string // indented JSON; empty when it is none
	Form      bool   // Pretty is what the form's field payload holds
	Raw       string // as text, or as a hex dump
	Shortened bool   // Raw is only the beginning
}

const (
	// shownText bounds what a page shows of a body; the rest is a download.
	shownText = 128 << 10
	shownHex  = 2 << 10
)

func newBody(content []byte, mediaType string, truncated bool) body {
	b := body{Size: len(content), Truncated: truncated, Empty: len(content) == 0}
	if !isText(content) {
		b.Binary, b.Shortened = true, len(content) > shownHex
		b.Raw = hex.Dump(content[:min(len(content), shownHex)])
		return b
	}
	document := content
	if strings.HasPrefix(mediaType, string(postrider.Form)) {
		if values, err := url.ParseQuery(string(content)); err == nil && values.Has("payload") {
			document, b.Form = []byte(values.Get("payload")), true
		}
	}
	if len(document) <= shownText && json.Valid(document) {
		var indented bytes.Buffer
		if json.Indent(&indented, document, "", "  ") == nil {
			b.Pretty = visible(indented.String())
		}
	}
	b.Shortened = len(content) > shownText
	b.Raw = visible(strings.ToValidUTF8(string(content[:min(len(content), shownText)]), "�"))
	return b
}

// isText reports whether bytes are text that people may want to read: valid,
// and not mostly control characters.
func isText(content []byte) bool {
	if len(content) > 3 && !utf8.Valid(content) && !utf8.Valid(content[:len(content)-3]) {
		return false // a cut inside the last character is no fault
	}
	controls := 0
	for _, c := range content {
		if c < ' ' && c != '\n' && c != '\r' && c != '\t' && c != 0x1b {
			controls++
		}
	}
	return controls*20 <= len(content)
}

// A headerLine is one header as it travelled.
type headerLine struct{ Name, Value string }

func headerLines(h postrider.Header) []headerLine {
	var lines []headerLine
	for _, field := range h {
		lines = append(lines, headerLine{visible(field.Name), visible(field.Value)})
	}
	slices.SortStableFunc(lines, func(a, b headerLine) int {
		return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	})
	return lines
}
