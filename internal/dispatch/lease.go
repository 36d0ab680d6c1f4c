package dispatch

import (
	"context"
	"sync"
	"time"
)

// Shared is what a store tells of the other nodes that work on it.
type Shared interface {
	// Lease is until when nobody else sends what this node has claimed. It is
	// moved on while the node is alive and reaches the store.
	Lease() time.Time
	// Nodes is how many nodes are alive, this one among them.
	Nodes() int
	// Orphaned signals that another node's claims came free.
	Orphaned() <-chan struct{}
}

// A lease is for how long the lanes may rely on what they have claimed. Without
// other nodes it never ends.
//
// A process that was frozen finds its lease over, or moved on after it had been
// over, which is as bad: others may have claimed the same meanwhile. So what
// counts is that each look comes before the end that the look before has seen.
// Otherwise a new term begins, in which nothing claimed earlier is sent.
type lease struct {
	shared Shared // nil: no other node

	mu     sync.Mutex
	until  time.Time // as last seen
	term   int
	ctx    context.Context //nolint:containedctx // the lifetime of what must not outlive the lease
	end    context.CancelFunc
	parent context.Context //nolint:containedctx // of all attempts
}

// look returns the term, and whether the lease holds now.
func (l *lease) look() (term int, holds bool) {
	if l.shared == nil {
		return 0, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.ctx != nil && !now.Before(l.until) {
		l.end()
		l.ctx = nil
		l.term++
	}
	l.until = l.shared.Lease()
	if !now.Before(l.until) {
		return l.term, false
	}
	if l.ctx == nil {
		l.ctx, l.end = context.WithCancel(l.parent)
	}
	return l.term, true
}

// context ends with the lease. It has ended where a term is over.
func (l *lease) context(term int) context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil || term != l.term {
		return ended
	}
	return l.ctx
}

var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// share is this node's part of a limit, rounded up.
func (l *lease) share(limit int) int { return (limit + l.nodes() - 1) / l.nodes() }

func (l *lease) nodes() int {
	if l.shared == nil {
		return 1
	}
	return max(1, l.shared.Nodes())
}

func (l *lease) orphaned() <-chan struct{} {
	if l.shared == nil {
		return nil
	}
	return l.shared.Orphaned()
}

// leaseLook is how often the lease is looked at when nothing is sent: often
// enough that it is never missed how it was moved on.
const leaseLook = 500 * time.Millisecond

// watchLease ends the lease on time, and sets the lanes going when another has
// begun.
func (d *Dispatcher) watchLease(stop <-chan struct{}) {
	if d.lease.shared == nil {
		return
	}
	term, held := d.lease.look()
	for {
		wait := time.NewTimer(d.lease.untilLook())
		select {
		case <-stop:
			wait.Stop()
			return
		case <-wait.C:
		}
		nowTerm, holds := d.lease.look()
		switch {
		case held && !holds:
			d.o.Logger.Warn("the node's lease is over: nothing is sent until the store has heard of it again")
		case holds && (!held || nowTerm != term):
			d.o.Logger.Info("the node has its lease again", "term", nowTerm)
			d.startAll()
		}
		term, held = nowTerm, holds
	}
}

// untilLook is until the lease's end, or until the next look if that is sooner.
func (l *lease) untilLook() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if left := time.Until(l.until); l.ctx != nil && left < leaseLook {
		return max(0, left)
	}
	return leaseLook
}
