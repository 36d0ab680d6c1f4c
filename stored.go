package postrider

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Forms in which every store keeps a value, so that it can move from one store
// to another as it is.

// hidden is what of a webhook nobody may read on a disk.
type hidden struct {
	Secret   string         `json:"secret,omitempty"`
	Previous []hiddenSecret `json:"previous,omitempty"`

	Headers map[string]string `json:"headers,omitempty"`
}

type hiddenSecret struct {
	Secret string `json:"secret"`
	Until  int64  `json:"until"` // microseconds since 1970
}

// Hidden is what of a webhook is stored encrypted only, nil when there is
// nothing: its secrets and its headers.
func (w *Webhook) Hidden() ([]byte, error) {
	if w.Secret == "" && len(w.Previous) == 0 && len(w.Headers) == 0 {
		return nil, nil
	}
	h := hidden{Secret: string(w.Secret), Headers: w.Headers}
	for _, old := range w.Previous {
		h.Previous = append(h.Previous, hiddenSecret{string(old.Secret), old.Until.UnixMicro()})
	}
	text, err := json.Marshal(h) //nolint:gosec // the store encrypts it
	if err != nil {
		return nil, fmt.Errorf("encode the webhook's secrets: %w", err)
	}
	return text, nil
}

// Reveal gives a webhook what Hidden has returned of it.
func (w *Webhook) Reveal(text []byte) error {
	var h hidden
	if err := json.Unmarshal(text, &h); err != nil {
		return fmt.Errorf("decode the webhook's secrets: %w", err)
	}
	w.Secret, w.Headers, w.Previous = Secret(h.Secret), h.Headers, nil
	for _, old := range h.Previous {
		w.Previous = append(w.Previous, PreviousSecret{Secret: Secret(old.Secret), Until: time.UnixMicro(old.Until).UTC()})
	}
	return nil
}

// FormatHeader writes headers as lines, sorted by name, in their exact
// spelling: compact, and readable in a database. The bytes are those of a
// stranger, and need not be text.
func FormatHeader(h http.Header) string {
	names := make([]string, 0, 16)
	size := 0
	for name, values := range h {
		names = append(names, name)
		for _, value := range values {
			size += len(name) + len(value) + len(": \n")
		}
	}
	slices.Sort(names)
	var b strings.Builder
	b.Grow(size)
	for _, name := range names {
		for _, value := range h[name] {
			b.WriteString(name)
			b.WriteString(": ")
			b.WriteString(value)
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// ParseHeader reads what FormatHeader has written.
func ParseHeader(text string) http.Header {
	h := http.Header{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		h[name] = append(h[name], value)
	}
	return h
}
