package dispatch

import (
	"fmt"
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
	sending   int // of the workers, those with an attempt on the wire
	unsettled int
	pace      pace
	headAt    time.Time // an ordered lane's head is not tried again before
	term      int       // of the lease in which all that is ready was claimed
	nodes     int       // by which the budget is shared
	// spilled: the store may have due deliveries that are not claimed. While it
	// is set nothing is admitted past them.
	spilled   bool
	spills    int // counts spill, so that a refill sees what came meanwhile
	refilling bool
	releasing int         // releases under way, before whose end nothing is claimed
	dueAt     time.Time   // when timer fires; zero when it is not set
	timer     *time.Timer // wakes the lane for the next retry
	resumeAt  time.Time   // when resume fires; zero when it is not set
	resume    *time.Timer // starts workers again after a pause
	stopped   bool
	retired   bool
	starved   bool // waits for a slot; guarded by the slots' lock

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

func (q *fifo) front() *postrider.Delivery { return q.items[q.head] }

func (q *fifo) pop() *postrider.Delivery {
	d := q.items[q.head]
	q.items[q.head] = nil
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return d
}

// urgent deliveries go to the front, and out to a receiver that is failing:
// somebody is looking at the log, to see whether it works again.
func urgent(d *postrider.Delivery) bool {
	return d.Trigger == postrider.TriggerPing || d.Trigger == postrider.TriggerRedelivery
}

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
	if l.stopped || l.retired || !l.holds() || l.ready.len()+l.reserved >= rows ||
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

// startWorkers has as many goroutines at work as there is work and leave for.
// Those that are sending are not counted on: it may take them long. The caller
// holds the lock.
func (l *lane) startWorkers() {
	if l.stopped || !l.d.running.Load() || !l.holds() || l.starting >= l.ready.len() {
		return
	}
	w, _ := l.d.o.Webhooks.WebhookByID(l.webhook)
	l.look(w)
	now := time.Now()
	for l.starting < l.ready.len() {
		if yes, wait := l.may(now, l.workers); !yes {
			l.resumeAfter(now, wait)
			return
		}
		l.workers++
		l.starting++
		l.d.work.Add(1)
		go l.work()
		if l.pace.limiter != nil {
			return // there is one token
		}
	}
}

// look takes over what has changed of the webhook. An edit of its partner's is
// a new beginning: what the receiver did before does not count.
func (l *lane) look(w *postrider.Webhook) {
	nodes := l.d.lease.nodes()
	if l.out != nil && l.out.webhook == w && l.nodes == nodes {
		return
	}
	l.nodes = nodes
	if w == nil { // long deleted
		l.out, l.pace = nil, pace{}
		l.pace.setBudget(l.d.o.MaxInFlight, 0)
		return
	}
	if l.out == nil || !l.out.webhook.UpdatedAt.Equal(w.UpdatedAt) {
		l.pace, l.headAt = pace{}, time.Time{}
	}
	if w.Ordered && l.d.o.Shared != nil && l.out != nil && !l.out.webhook.Ordered {
		l.giveBack(l.drainLocked()) // to be claimed again, with the lane as a whole
	}
	l.out = l.d.newOutbound(w)
	budget := l.d.o.MaxInFlight
	if w.MaxInFlight != 0 {
		budget = w.MaxInFlight
	}
	budget = l.d.lease.share(budget)
	if w.Ordered {
		budget = 1
	}
	l.pace.setBudget(budget, w.RateLimit/float64(nodes))
}

// holds reports whether the lease holds, in which what is ready may be sent.
// What was claimed before another began is given back: somebody else may have
// it by now. The caller holds the lock.
func (l *lane) holds() bool {
	term, holds := l.d.lease.look()
	if holds && term != l.term {
		l.term = term
		l.giveBack(l.drainLocked())
	}
	return holds
}

// may reports whether an attempt may start while others are busy. If it may
// not, a positive wait says when to look again. The caller holds the lock and
// has looked.
func (l *lane) may(now time.Time, busy int) (yes bool, wait time.Duration) {
	switch {
	case l.unsettled >= unsettledPerSlot*l.pace.budget || l.d.settler.full():
		return false, 0
	case l.out == nil || !l.out.webhook.Sending(): // to be cancelled, or given back
		return busy < l.pace.budget, 0
	case l.out.webhook.Ordered && l.unsettled > 0:
		return false, 0
	case urgent(l.ready.front()):
		return busy < l.pace.budget, 0
	case now.Before(l.headAt):
		return false, l.headAt.Sub(now)
	}
	return l.pace.may(now, busy)
}

// work sends what is ready and ends when nothing is, or nothing may be sent.
func (l *lane) work() {
	defer l.d.work.Done()
	for first := true; ; first = false {
		next, found := l.next(first)
		if !found {
			return
		}
		l.d.deliver(next)
		for _, starved := range l.d.slots.give() {
			starved.start()
		}
	}
}

// A task is a delivery whose turn it is.
type task struct {
	lane     *lane
	delivery *postrider.Delivery
	out      *outbound
	term     int  // of the lease in which it was claimed
	failing  bool // the receiver has been failing for a while
	pressing bool // the lane soon has to wait until it is settled
}

// next takes the next delivery to send; none ends the worker. The first time is
// the one for which startWorkers made the worker.
func (l *lane) next(first bool) (next task, found bool) {
	w, _ := l.d.o.Webhooks.WebhookByID(l.webhook)
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if first {
		l.starting--
	} else {
		l.sending--
	}
	if l.stopped || !l.holds() || l.ready.len() == 0 {
		l.workers--
		return task{}, false
	}
	if held(w) {
		l.workers--
		l.giveBack(l.drainLocked())
		return task{}, false
	}
	if l.look(w); l.ready.len() == 0 {
		l.workers--
		return task{}, false
	}
	yes, wait := l.may(now, l.sending)
	if !yes || !l.d.slots.take(l, l.sending) {
		l.workers--
		l.resumeAfter(now, wait)
		return task{}, false
	}
	l.pace.start(now)
	next = task{lane: l, delivery: l.ready.pop(), out: l.out, term: l.term, failing: l.pace.open()}
	l.sending++
	l.unsettled++
	next.pressing = l.pressing()
	l.refillWhenLow()
	return next, true
}

// pressing reports whether the lane cannot go on, or not for long, before what
// it sends is settled: it is ordered, near its bound of unsettled attempts, or
// soon without work for want of room. The caller holds the lock.
func (l *lane) pressing() bool {
	return l.out != nil && l.out.webhook.Ordered ||
		2*l.unsettled > unsettledPerSlot*l.pace.budget ||
		2*l.bytes > l.d.o.LaneBytes && l.ready.len() < l.pace.budget
}

// outcome tells the lane's pace how an attempt ended, unless the webhook has
// been edited since it began.
func (l *lane) outcome(out *outbound, o *postrider.Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out != nil && l.out.webhook.UpdatedAt.Equal(out.webhook.UpdatedAt) && o.Failure != postrider.FailRelayLost {
		l.pace.outcome(time.Now(), o)
	}
}

// resumeAfter starts workers again after a pause; none when wait is 0. The
// caller holds the lock.
func (l *lane) resumeAfter(now time.Time, wait time.Duration) {
	at := now.Add(wait)
	if wait <= 0 || l.stopped || !l.resumeAt.IsZero() && !at.Before(l.resumeAt) {
		return
	}
	l.resumeAt = at
	if l.resume == nil {
		l.resume = time.AfterFunc(wait, func() {
			l.mu.Lock()
			l.resumeAt = time.Time{}
			l.mu.Unlock()
			l.start()
		})
	} else {
		l.resume.Reset(wait)
	}
}

// giveBack returns deliveries to the store that are not to be sent from memory:
// they are held there, or are claimed anew. The caller holds the lock.
func (l *lane) giveBack(keys []postrider.DeliveryKey) {
	if len(keys) == 0 {
		return
	}
	l.releasing++
	l.d.work.Go(func() {
		l.release(keys)
		l.mu.Lock()
		l.releasing--
		l.mu.Unlock()
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
		l.d.o.Logger.Error("deliveries that are given back are still claimed", "webhook", l.webhook, "deliveries", len(keys), "error", err)
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

// settled frees what a task held, once its outcome is on disk.
func (l *lane) settled(s *postrider.Settlement, t *task) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsettled--
	l.holds()
	switch {
	case s.Keep && t.term == l.term:
		t.delivery.Trigger, t.delivery.Attempts, t.delivery.Retries = postrider.TriggerRetry, s.Attempts, s.Retries
		l.ready.pushFront(t.delivery)
		l.headAt = time.Now().Add(s.RetryIn)
	case s.Keep: // the lane may be another node's: what follows goes back with its head
		l.hold(-len(t.delivery.Payload))
		l.giveBack(append(l.drainLocked(), t.delivery.DeliveryKey))
	default:
		l.hold(-len(t.delivery.Payload))
		if !s.Done {
			l.wakeAfterLocked(s.RetryIn)
		}
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
	l.startWorkers() // the webhook may have changed
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
	if !l.spilled || l.refilling || l.releasing > 0 || l.stopped || !l.d.running.Load() || l.ready.len() > l.d.o.LaneRows/2 ||
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
	term, holds := l.d.lease.look()
	var claimed postrider.Claimed
	var err error
	if holds {
		claimed, err = l.claim(postrider.ClaimLimit{Rows: max(1, rows), Bytes: max(1, room)})
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	l.refilling = false
	if !holds {
		return // to be set going with the next lease
	}
	if err != nil {
		l.d.o.Logger.Error("a lane got no answer from the store", "webhook", l.webhook, "error", err)
		l.wakeAfterLocked(storePause)
		return
	}
	if l.holds(); l.term != term {
		l.giveBack(keysOf(claimed.Deliveries))
		l.refillWhenLow()
		return
	}
	for i := range claimed.Deliveries {
		d := &claimed.Deliveries[i]
		l.hold(len(d.Payload))
		if urgent(d) {
			l.ready.pushFront(d)
		} else {
			l.ready.push(d)
		}
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

// claim asks the store for work. A webhook that is not known may be another
// node's newest: it is taken for deleted only when no change says otherwise.
func (l *lane) claim(limit postrider.ClaimLimit) (postrider.Claimed, error) {
	w, found := l.d.o.Webhooks.WebhookByID(l.webhook)
	if !found {
		if err := l.d.o.Webhooks.Refresh(l.d.attempts); err != nil {
			return postrider.Claimed{}, fmt.Errorf("look for an unknown webhook: %w", err)
		}
		w, found = l.d.o.Webhooks.WebhookByID(l.webhook)
	}
	limit.Early = !found || !w.DeletedAt.IsZero()
	limit.Ordered = found && w.Ordered
	return l.d.o.Store.Claim(l.d.attempts, l.webhook, limit)
}

func keysOf(deliveries []postrider.Delivery) []postrider.DeliveryKey {
	keys := make([]postrider.DeliveryKey, len(deliveries))
	for i := range deliveries {
		keys[i] = deliveries[i].DeliveryKey
	}
	return keys
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
	for _, timer := range []*time.Timer{l.timer, l.resume} {
		if timer != nil {
			timer.Stop()
		}
	}
}

// idle reports whether nothing is going on that will look into the store.
func (l *lane) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.idleLocked()
}

func (l *lane) idleLocked() bool {
	return l.ready.len() == 0 && l.reserved == 0 && l.workers == 0 && l.unsettled == 0 && !l.refilling && l.releasing == 0
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
	s.InFlight += l.sending
	s.Unsettled += l.unsettled
}
