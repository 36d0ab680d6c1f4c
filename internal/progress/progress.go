// Package progress shows on a terminal how far something is, in one line that
// is drawn again and again.
//
// It knows how that line looks. It must not know what is being done, nor how to
// tell a terminal from a file. The command line and the benchmark call it.
package progress

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// A Bar shows what goes on until it is cleared. Without a terminal it shows
// nothing. Its methods may be called concurrently.
type Bar struct {
	w    io.Writer
	name string
	on   bool

	mu   sync.Mutex
	what string
	far  func() (done, total int64) // nil: what goes on has no number

	stop  chan struct{}
	drawn sync.WaitGroup
}

// redraw is how often a bar is drawn: seldom enough to cost nothing.
const redraw = 200 * time.Millisecond

// Start starts to draw on w, if that is a terminal.
func Start(w io.Writer, terminal bool, name string) *Bar {
	b := &Bar{w: w, name: name, on: terminal, stop: make(chan struct{})}
	if b.on {
		b.drawn.Go(b.run)
	}
	return b
}

func (b *Bar) run() {
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	for {
		select {
		case <-b.stop:
			fmt.Fprint(b.w, "\r\x1b[K")
			return
		case <-tick.C:
			fmt.Fprintf(b.w, "\r\x1b[K%s", b.line())
		}
	}
}

// width is that of a bar, in columns.
const width = 30

// line is what the bar looks like now.
func (b *Bar) line() string {
	b.mu.Lock()
	what, far := b.what, b.far
	b.mu.Unlock()
	words := strings.TrimSuffix(b.name+": "+what, ": ")
	if far == nil {
		return words
	}
	done, total := far()
	if total == 0 {
		return words
	}
	part := float64(done) / float64(total)
	return fmt.Sprintf("%s ▕%s▏ %3.0f %%  %s of %s", words, Blocks(part, width), 100*min(part, 1), Number(float64(done)), Number(float64(total)))
}

// Say shows words.
func (b *Bar) Say(what string) { b.Count(what, nil) }

// Count shows how far a number is on its way to a total; both are asked for
// whenever the bar is drawn. A total of zero is one that is not known.
func (b *Bar) Count(what string, far func() (done, total int64)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.what, b.far = what, far
}

// Clear takes the bar away, for good.
func (b *Bar) Clear() {
	close(b.stop)
	b.drawn.Wait()
}

// Blocks is a bar that fills a part of a width, to an eighth of a character.
func Blocks(part float64, width int) string {
	const eighths = "▏▎▍▌▋▊▉"
	n := int(math.Round(min(max(part, 0), 1) * float64(width) * 8))
	if n == 0 && part > 0 {
		n = 1
	}
	bar := strings.Repeat("█", n/8)
	if rest := n % 8; rest > 0 {
		bar += string([]rune(eighths)[rest-1])
	}
	return bar + strings.Repeat(" ", width-utf8.RuneCountInString(bar))
}

// Number is a whole number with commas between thousands.
func Number(value float64) string {
	digits := strconv.FormatFloat(value, 'f', 0, 64)
	var out strings.Builder
	for i, digit := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			out.WriteByte(',')
		}
		out.WriteRune(digit)
	}
	return out.String()
}
