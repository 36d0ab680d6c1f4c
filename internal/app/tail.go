package app

import (
	"context"
	"sync"
	"time"

	"postrider"
)

// A tail tells streams that there is something to read. It carries nothing
// itself: what a stream missed is in the store.
type tail struct {
	mu      sync.Mutex
	waiting map[string]chan struct{} // by tenant, closed at the next change
	once    sync.Once
	stopped chan struct{}
}

func newTail() *tail {
	return &tail{waiting: map[string]chan struct{}{}, stopped: make(chan struct{})}
}

// Changed is closed once attempts of the tenant were recorded after the call,
// or the server stops.
func (t *tail) Changed(tenant string) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed, found := t.waiting[tenant]
	if !found {
		changed = make(chan struct{})
		t.waiting[tenant] = changed
	}
	return changed
}

// Stopped is closed when the server stops.
func (t *tail) Stopped() <-chan struct{} { return t.stopped }

// stop ends the streams, so that a stop of the server need not wait for them.
func (t *tail) stop() { t.once.Do(func() { close(t.stopped) }) }

// listenEvery is how often streams look for what other nodes have recorded.
const listenEvery = time.Second

// listen has all streams look again and again, since what other nodes record
// makes no sound here.
func (t *tail) listen(ctx context.Context) error {
	tick := time.NewTicker(listenEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		t.mu.Lock()
		for _, changed := range t.waiting {
			close(changed)
		}
		clear(t.waiting)
		t.mu.Unlock()
	}
}

func (t *tail) nudge(settlements []postrider.Settlement) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		return
	}
	for i := range settlements {
		tenant := settlements[i].Key.Tenant
		if changed, found := t.waiting[tenant]; found {
			close(changed)
			delete(t.waiting, tenant)
		}
	}
}

// heard is the store as the lanes use it: what they have recorded is heard by
// the tail.
type heard struct {
	store
	tail *tail
}

// Settle records attempts, then tells the streams.
func (h heard) Settle(ctx context.Context, settlements []postrider.Settlement) error {
	err := h.store.Settle(ctx, settlements)
	if err == nil {
		h.tail.nudge(settlements)
	}
	return err
}
