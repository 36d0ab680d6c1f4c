package postrider

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
)

// A Header is the headers of one message, in the exact spelling and in the order
// in which they are sent and shown: sorted by name. It is a list, since every
// attempt makes one, writes it to the wire and writes it down, and looks nothing
// up.
type Header []HeaderField

// A HeaderField is one line of a header. A name may stand in several.
type HeaderField struct{ Name, Value string }

// SortedHeader is a header of net/http's as a list.
func SortedHeader(h http.Header) Header {
	if h == nil {
		return nil
	}
	list := make(Header, 0, len(h))
	for name, values := range h {
		for _, value := range values {
			list = append(list, HeaderField{name, value})
		}
	}
	list.Sort()
	return list
}

// Map is a header as net/http has it.
func (h Header) Map() http.Header {
	m := make(http.Header, len(h))
	for i := range h {
		m[h[i].Name] = append(m[h[i].Name], h[i].Value)
	}
	return m
}

// Sort sorts by name. Lines of one name stay in their order.
func (h Header) Sort() {
	slices.SortStableFunc(h, func(a, b HeaderField) int { return cmp.Compare(a.Name, b.Name) })
}

// Get is the first value of a name, whatever its spelling; empty when there is
// none.
func (h Header) Get(name string) string {
	for i := range h {
		if strings.EqualFold(h[i].Name, name) {
			return h[i].Value
		}
	}
	return ""
}

// String writes headers as lines: compact, and readable in a database. The bytes
// are those of a stranger, and need not be text.
func (h Header) String() string {
	size := 0
	for i := range h {
		size += len(h[i].Name) + len(h[i].Value) + len(": \n")
	}
	var b strings.Builder
	b.Grow(size)
	for i := range h {
		b.WriteString(h[i].Name)
		b.WriteString(": ")
		b.WriteString(h[i].Value)
		b.WriteByte('\n')
	}
	return b.String()
}

// ParseHeader reads what String has written.
func ParseHeader(text string) (h Header) {
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		h = append(h, HeaderField{name, value})
	}
	return h
}
