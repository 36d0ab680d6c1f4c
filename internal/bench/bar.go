package bench

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// A bar shows on a terminal what goes on. Without a terminal it shows nothing.
type bar struct {
	w    io.Writer
	name string
	on   bool

	mu       sync.Mutex
	what     string
	total    int64
	progress *atomic.Int64 // nil: what goes on has no number

	stop  chan struct{}
	drawn sync.WaitGroup
}

// redraw is how often a bar is drawn: seldom enough to cost nothing.
const redraw = 200 * time.Millisecond

// startBar starts to draw, until it is cleared.
func startBar(o Options, name string) *bar {
	b := &bar{w: o.Stderr, name: name, on: o.Progress, stop: make(chan struct{})}
	if b.on {
		b.drawn.Go(b.run)
	}
	return b
}

func (b *bar) run() {
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

// line is what the bar looks like now.
func (b *bar) line() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.progress == nil || b.total == 0 {
		return fmt.Sprintf("%s: %s", b.name, b.what)
	}
	n := b.progress.Load()
	part := float64(n) / float64(b.total)
	return fmt.Sprintf("%s: %s ▕%s▏ %3.0f %%  %s of %s", b.name, b.what, blocks(part, 30), 100*min(part, 1),
		number(float64(n)), number(float64(b.total)))
}

// say shows words.
func (b *bar) say(what string) { b.count(what, 0, nil) }

// count shows how far a number is on its way to a total.
func (b *bar) count(what string, total int64, progress *atomic.Int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.what, b.total, b.progress = what, total, progress
}

// clear takes the bar away, for good.
func (b *bar) clear() {
	close(b.stop)
	b.drawn.Wait()
}
