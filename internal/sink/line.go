package sink

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// print writes the line of a delivery, in one write so that lines stay whole.
func (s *Sink) print(d delivery) {
	if s.options.Quiet {
		return
	}
	var line []byte
	if s.options.JSON {
		line = d.json()
	} else {
		line = []byte(d.text(s.options.Color))
	}
	s.printing.Lock()
	defer s.printing.Unlock()
	s.options.Out.Write(append(line, '\n')) //nolint:errcheck // nobody is left to tell
}

func (d delivery) json() []byte {
	line := struct {
		At          time.Time `json:"at"`
		Event       string    `json:"event"`
		ID          string    `json:"delivery"`
		WebhookID   string    `json:"webhook_id,omitempty"`
		Attempt     string    `json:"attempt,omitempty"`
		Status      int       `json:"status"`
		Bytes       int       `json:"bytes"`
		Signature   verdict   `json:"signature"`
		Reason      string    `json:"reason,omitempty"`
		AgeMS       *int64    `json:"age_ms,omitempty"`
		ContentType string    `json:"content_type"`
		Payload     string    `json:"payload"`
	}{
		At: d.At, Event: d.Event, ID: d.ID, WebhookID: d.WebhookID, Attempt: d.Attempt, Status: d.Status, Bytes: d.Bytes,
		Signature: d.verdict, Reason: d.Reason, ContentType: d.ContentType, Payload: d.Payload,
	}
	if d.Age >= 0 {
		age := d.Age.Milliseconds()
		line.AgeMS = &age
	}
	text, err := json.Marshal(line)
	if err != nil {
		panic("sink: a line of texts and numbers cannot fail to be JSON: " + err.Error())
	}
	return text
}

// The colours of a terminal.
const (
	bold, dim, red, green, yellow = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m"
	reset                         = "\x1b[0m"
)

// text is the line for people.
func (d delivery) text(color bool) string {
	paint := func(code, text string) string {
		if !color || text == "" {
			return text
		}
		return code + text + reset
	}
	statusColor := green
	if d.Status >= http.StatusMultipleChoices {
		statusColor = red
	}
	words := []string{
		paint(dim, d.At.Format("15:04:05.000")),
		paint(bold, fmt.Sprintf("%-20s", safe(d.Event, maxEvent, "(no event)"))),
		paint(dim, shortID(d.ID)),
		fmt.Sprintf("%-3s", "#"+safe(d.Attempt, maxAttempt, "?")),
		paint(statusColor, strconv.Itoa(d.Status)),
		fmt.Sprintf("%8s", size(d.Bytes)),
		fmt.Sprintf("%7s", age(d.Age)),
		d.signature(paint),
		paint(dim, safe(d.Payload, maxPayload, "(empty)")),
	}
	return strings.Join(words, "  ")
}

// How many characters of the sender's texts are shown.
const (
	maxEvent   = 40
	maxAttempt = 6
	maxID      = 20
	maxPayload = 80
)

func (d delivery) signature(paint func(code, text string) string) string {
	switch d.verdict {
	case verified:
		return paint(green, "signature ok")
	case wrong:
		return paint(red, "signature WRONG") + " (" + safe(d.Reason, 120, "") + ")"
	case stripped:
		return paint(red, "unsigned") + " (" + d.Reason + ")"
	case unchecked:
		return paint(yellow, "signature not checked")
	case unsigned:
		return paint(yellow, "unsigned")
	case unread:
		return paint(red, "not read: over 10 MiB")
	}
	panic("sink: a verdict without words: " + d.verdict)
}

// shortID is the end of a UUID: those made at about the same time begin alike.
func shortID(id string) string {
	if len(id) == 36 && strings.Count(id, "-") == 4 {
		return "…" + safe(id[len(id)-8:], maxID, "")
	}
	return safe(id, maxID, "(no id)")
}

// size is a number of bytes for people.
func size(n int) string {
	switch {
	case n < 10_000:
		return strconv.Itoa(n) + " B"
	case n < 10_000_000:
		return strconv.Itoa(n/1000) + " kB"
	}
	return strconv.Itoa(n/1_000_000) + " MB"
}

// age is how long ago the event was accepted, as precisely as its id says it.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return ""
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < 100*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	}
	return d.Round(time.Second).String()
}

// safe is a stranger's text for a terminal: at most limit characters, and those
// that are not printable escaped, so that it can neither colour the terminal
// nor move its cursor nor turn its writing round.
func safe(text string, limit int, empty string) string {
	if text == "" {
		return empty
	}
	var out strings.Builder
	shown := 0
	for i, r := range text {
		if shown == limit {
			out.WriteString("…")
			break
		}
		shown++
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			fmt.Fprintf(&out, `\x%02x`, text[i])
		case unicode.IsPrint(r):
			out.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			out.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return out.String()
}
