package bench

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A generator publishes at servers, over connections that it keeps.
type generator struct {
	conns   []*conn
	accept  histogram // from a request written to its answer read
	late    histogram // open loop: from when an event was due to its request written
	payload int       // bytes
}

// newGenerator spreads the connections evenly over the servers, as a load
// balancer would.
func newGenerator(ctx context.Context, connections, payload int, servers ...*server) (*generator, error) {
	g := &generator{payload: payload}
	for i := range connections {
		c, err := servers[i%len(servers)].dial(ctx)
		if err != nil {
			g.close()
			return nil, err
		}
		g.conns = append(g.conns, c)
	}
	return g, nil
}

func (g *generator) close() {
	for _, c := range g.conns {
		c.Close()
	}
}

// breakOff makes every request under way fail once the context ends. The
// returned function takes that back.
func (g *generator) breakOff(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, g.close)
}

// run has every connection at work until all have ended. The first that fails
// ends the others, whose connections are then of no more use.
func (g *generator) run(ctx context.Context, work ...func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer g.breakOff(ctx)() // taken back before the context is ended
	var group sync.WaitGroup
	for _, do := range work {
		group.Go(func() {
			if err := do(ctx); err != nil {
				cancel(err)
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}

// burst publishes all events of a book as fast as the server takes them: each
// connection sends its next request, of one event or a batch, once the one
// before is answered.
func (g *generator) burst(ctx context.Context, b *book, batch int) error {
	payload := b.newPayload(g.payload)
	var next atomic.Int64
	var work []func(context.Context) error
	for _, c := range g.conns {
		work = append(work, func(context.Context) error {
			var q *request
			for {
				first := int(next.Add(int64(batch))) - batch
				n := min(batch, len(b.sent)-first)
				if n <= 0 {
					return nil
				}
				if q == nil || len(q.seqAt) != n {
					q = c.server.newRequest(payload, n, batch == 1)
				}
				now := time.Now()
				for i := range n {
					q.set(i, first+i, 0)
					b.publish(first+i, now)
				}
				if err := c.do(q.raw); err != nil {
					return err
				}
				g.accept.record(time.Since(now))
			}
		})
	}
	return g.run(ctx, work...)
}

// steady publishes single events at a rate, whether or not the server keeps
// up: an event counts as published when it was due, so that the wait of one
// that was held up by a slow answer is not left out (coordinated omission).
// hookOf says which webhook an event is for.
func (g *generator) steady(ctx context.Context, b *book, rate float64, hookOf func(event int) int) error {
	payload := b.newPayload(g.payload)
	due := make(chan int, len(b.sent))
	work := []func(context.Context) error{func(ctx context.Context) error {
		defer close(due)
		return pace(ctx, len(b.sent), rate, func(event int, at time.Time) error {
			b.publish(event, at)
			due <- event
			return nil
		})
	}}
	for _, c := range g.conns {
		work = append(work, func(context.Context) error {
			q := c.server.newRequest(payload, 1, true)
			for event := range due {
				q.set(0, event, hookOf(event))
				now := time.Now()
				g.late.record(now.Sub(b.base) - time.Duration(b.sent[event].Load()))
				if err := c.do(q.raw); err != nil {
					return err
				}
				g.accept.record(time.Since(now))
			}
			return nil
		})
	}
	return g.run(ctx, work...)
}

// pace calls n times at a rate, each time with when the call was due, until a
// call fails.
//
// It waits in a system call of its own thread. The runtime's timers round a
// wait of less than a millisecond up to one when nothing else is running, which
// would be measured as the server's latency.
func pace(ctx context.Context, n int, rate float64, call func(i int, due time.Time) error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := time.Now()
	for i := range n {
		due := began.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		for wait := time.Until(due); wait > 0; wait = time.Until(due) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			ts := syscall.NsecToTimespec(int64(min(wait, 100*time.Millisecond)))
			syscall.Nanosleep(&ts, nil) //nolint:errcheck // a signal ends it early, and the loop goes on
		}
		if err := call(i, due); err != nil {
			return err
		}
	}
	return nil
}
