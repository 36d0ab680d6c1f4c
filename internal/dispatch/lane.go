package dispatch

import (
	"sync"
	"time"

	"postrider"
)

// unsettledPerSlot bounds the attempts of a lane whose outcomes are not yet on
// disk, as a multiple of its attempts at once. A crash repeats at most these
// and what is on the wire.
const unsettledPerSlot = 8

// A lane is what is in memory of one webhook's work: a bounded queue of claimed
// deliveries, and the knowledge whether the store has more.
type lane struct {
	d       *Dispatcher
	webhook postrider.ID

	mu        sync.Mutex
	ready     fifo
	reserved  int // room kept for deliveries that are being committed
	bytes     int // payload bytes of all that is reserved, ready, in flight or unsettled
	workers   int
	starting  int // of the workers, those that have not looked for work yet
	unsettled int
	// spilled: the store may have due deliveries that are not claimed. While it
	// is set nothing is admitted past them.
	spilled   bool
	spills    int // counts spill, so that a refill sees what came meanwhile
	refilling bool
	dueAt     time.Time   // when timer fires; zero when it is not set
	timer     *time.Timer // wakes the lane for the next retry
	stopped   bool
	retired   bool

	out *outbound // what all requests to the webhook have in common
}

// fifo is a queue that reuses its space.
type fifo struct {
	items []*postrider.Delivery
	head  int
}

func (q *fifo) len() int { return len(q.items) - q.head }

func (q *fifo) push(d *postrider.Delivery) {
	if q.head > 64 && q.head*2 > len(q.items) {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, d)
}

func (q *fifo) pushFront(d *postrider.Delivery) {
	if q.head > 0 {
		q.head--
		q.items[q.head] = d
		return
	}
	q.items = append([]*postrider.Delivery{d}, q.items...)
}

func (q *fifo) pop() *postrider.Delivery {
	d := q.items[q.head]
	q.items[q.head] = nil
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return d
}

// urgent deliveries go to the front: somebody is looking at the log.
func urgent(d *postrider.Delivery) bool { return d.Trigger == postrider.TriggerPing }

// The extra room for urgent deliveries when the lane is full.
const (
	urgentRows  = 16
	urgentBytes = 1 << 20
)

// reserve keeps room for a delivery that is about to be committed, if there is.
func (l *lane) reserve(d *postrider.Delivery) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	size := len(d.Payload)
	rows, bytes := l.d.o.LaneRows, l.d.o.LaneBytes
	total := l.d.o.TotalBytes
	if urgent(d) {
		rows, bytes, total = rows+urgentRows, bytes+urgentBytes, total+urgentBytes
	} else if l.spilled {
		return false // it would overtake those in the store
	}
	if l.stopped || l.retired || l.ready.len()+l.reserved >= rows ||
		l.bytes > 0 && (l.bytes+size > bytes || l.d.bytes.Load()+int64(size) > total) {
		return false
	}
	l.reserved++
	l.hold(size)
	return true
}

// hold counts payload bytes in; a negative size counts them out.
func (l *lane) hold(size int) {
	l.bytes += size
	l.d.bytes.Add(int64(size))
}

func (l *lane) unreserve(d *postrider.Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reserved--
	l.hold(-len(d.Payload))
	l.refillWhenLow()
}

// push takes a delivery that was committed in reserved room.
func (l *lane) push(d *postrider.Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reserved--
	if urgent(d) {
		l.ready.pushFront(d)
	} else {
		l.ready.push(d)
	}
	l.startWorkers()
}

// startWorkers has as many goroutines at work as there is work and budget for.
// Those that are sending are not counted on: it may take them long. The caller
// holds the lock.
func (l *lane) startWorkers() {
	if l.stopped || !l.d.running.Load() {
		return
	}
	for l.workers < l.d.o.MaxInFlight && l.starting < l.ready.len() && l.mayStart() {
		l.workers++
		l.starting++
		l.d.work.Add(1)
		go l.work()
	}
}

func (l *lane) mayStart() bool { return l.unsettled < unsettledPerSlot*l.d.o.MaxInFlight }

// work sends what is ready and ends when nothing is.
func (l *lane) work() {
	defer l.d.work.Done()
	for first := true; ; first = false {
		delivery, out := l.next(first)
		if delivery == nil {
			return
		}
		l.d.deliver(l, delivery, out)
	}
}

// next takes the next delivery to send; nil ends the worker. The first time is
// the one for which startWorkers made the worker.
func (l *lane) next(first bool) (*postrider.Delivery, *outbound) {
	w, _ := l.d.o.Webhooks.WebhookByID(l.webhook)
	l.mu.Lock()
	defer l.mu.Unlock()
	if first {
		l.starting--
	}
	if l.stopped || l.ready.len() == 0 || !l.mayStart() {
		l.workers--
		return nil, nil
	}
	if held(w) {
		l.workers--
		l.giveBack()
		return nil, nil
	}
	switch {
	case w == nil:
		l.out = nil // long deleted
	case l.out == nil || l.out.webhook != w:
		l.out = l.d.newOutbound(w)
	}
	delivery := l.ready.pop()
	l.unsettled++
	l.refillWhenLow()
	return delivery, l.out
}

// giveBack returns all that is ready to the store, since the webhook stopped
// sending: it is held there. The caller holds the lock.
func (l *lane) giveBack() {
	keys := l.drainLocked()
	if len(keys) == 0 {
		return
	}
	l.d.work.Go(func() {
		l.release(keys)
		l.d.Wake(l.webhook) // it may be sending again by now
	})
}

// release keeps trying while the store is away, until the stop: then the claims
// end with the run.
func (l *lane) release(keys []postrider.DeliveryKey) {
	for {
		err := l.d.o.Store.Release(l.d.attempts, keys)
		if err == nil {
			return
		}
		l.d.o.Logger.Error("held deliveries are still claimed", "webhook", l.webhook, "deliveries", len(keys), "error", err)
		select {
		case <-l.d.stop:
			return
		case <-time.After(storePause):
		}
	}
}

func (l *lane) drain() []postrider.DeliveryKey {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.drainLocked()
}

func (l *lane) drainLocked() []postrider.DeliveryKey {
	keys := make([]postrider.DeliveryKey, 0, l.ready.len())
	for l.ready.len() > 0 {
		d := l.ready.pop()
		l.hold(-len(d.Payload))
		keys = append(keys, d.DeliveryKey)
	}
	return keys
}

// settled frees what a delivery held, once its outcome is on disk.
func (l *lane) settled(s *postrider.Settlement, size int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsettled--
	l.hold(-size)
	if !s.Done {
		l.wakeAfterLocked(s.RetryIn)
	}
	l.startWorkers()
	l.refillWhenLow() // the bytes that are free now may have been what was missing
}

// spill notes that the store has deliveries for this lane, and fetches them.
// It reports false when the lane has retired: another has taken its place.
func (l *lane) spill() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.retired {
		return false
	}
	l.spilled = true
	l.spills++
	l.refillWhenLow()
	return true
}

// start sets a lane going that was filled before the dispatcher ran.
func (l *lane) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.startWorkers()
	l.refillWhenLow()
}

// refillWhenLow starts a refill when the store has work and memory has room. A
// lane with nothing in memory always gets on, however full the others are. The
// caller holds the lock.
func (l *lane) refillWhenLow() {
	if !l.spilled || l.refilling || l.stopped || !l.d.running.Load() || l.ready.len() > l.d.o.LaneRows/2 ||
		l.bytes > l.d.o.LaneBytes/2 || l.bytes > 0 && l.d.bytes.Load() >= l.d.o.TotalBytes {
		return
	}
	l.refilling = true
	l.d.work.Go(l.refill)
}

// storePause is how long to wait after the store did not answer.
const storePause = time.Second

// refill claims due deliveries from the store.
func (l *lane) refill() {
	l.mu.Lock()
	spills := l.spills
	rows, room := l.d.o.LaneRows-l.ready.len()-l.reserved, l.d.keepRoom(l.d.o.LaneBytes-l.bytes)
	l.mu.Unlock()
	defer l.d.freeRoom(room)
	limit := postrider.ClaimLimit{Rows: max(1, rows), Bytes: max(1, room)}
	w, found := l.d.o.Webhooks.WebhookByID(l.webhook)
	limit.Early = !found || !w.DeletedAt.IsZero()
	claimed, err := l.d.o.Store.Claim(l.d.attempts, l.webhook, limit)

	l.mu.Lock()
	defer l.mu.Unlock()
	l.refilling = false
	if err != nil {
		l.d.o.Logger.Error("a lane got no answer from the store", "webhook", l.webhook, "error", err)
		l.wakeAfterLocked(storePause)
		return
	}
	for i := range claimed.Deliveries {
		d := &claimed.Deliveries[i]
		l.hold(len(d.Payload))
		l.ready.push(d)
	}
	if !claimed.More && l.spills == spills {
		l.spilled = false
	}
	if claimed.NextDue >= 0 {
		l.wakeAfterLocked(claimed.NextDue)
	}
	l.startWorkers()
	l.refillWhenLow()
}

// wakeAfter looks into the store again after a while.
func (l *lane) wakeAfter(wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wakeAfterLocked(wait)
}

func (l *lane) wakeAfterLocked(wait time.Duration) {
	at := time.Now().Add(wait)
	if l.stopped || l.retired || !l.dueAt.IsZero() && !at.Before(l.dueAt) {
		return
	}
	l.dueAt = at
	if l.timer == nil {
		l.timer = time.AfterFunc(wait, l.wake)
	} else {
		l.timer.Reset(wait)
	}
}

func (l *lane) wake() {
	l.mu.Lock()
	l.dueAt = time.Time{}
	l.mu.Unlock()
	l.d.Wake(l.webhook)
}

// stop ends the lane's work: workers finish what they are sending.
func (l *lane) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	if l.timer != nil {
		l.timer.Stop()
	}
}

// idle reports whether nothing is going on that will look into the store.
func (l *lane) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.idleLocked()
}

func (l *lane) idleLocked() bool {
	return l.ready.len() == 0 && l.reserved == 0 && l.workers == 0 && l.unsettled == 0 && !l.refilling
}

// retire ends an idle lane that waits for nothing.
func (l *lane) retire() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retired = l.idleLocked() && !l.spilled && l.dueAt.IsZero()
	return l.retired
}

func (l *lane) addTo(s *Stats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Ready += l.ready.len()
	s.InFlight += l.workers
	s.Unsettled += l.unsettled
}
