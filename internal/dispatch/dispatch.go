// Package dispatch sends deliveries: one lane for each webhook with work, so
// that a slow, dead or hostile endpoint fills its own lane and nothing else.
//
//	publish ── Admit, Committed ──▶ lane ── deliver ──▶ Sender
//	store ── Claim ─────────────▶   │                     │ Outcome
//	store ◀── Settle ── settler ◀───┴─────────────────────┘
//
// It knows lanes, claims, the retry schedule and what an outcome means. It
// must not know HTTP handlers, SQL or how a socket is opened. Publish hands it
// what was just committed, the registry tells it of changed webhooks, the app
// runs it.
package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"postrider"
)

// A Store keeps the deliveries that are not settled.
type Store interface {
	Claim(ctx context.Context, webhook postrider.ID, limit postrider.ClaimLimit) (postrider.Claimed, error)
	Settle(context.Context, []postrider.Settlement) error
	Release(context.Context, []postrider.DeliveryKey) error
	Waiting(ctx context.Context, after postrider.ID, limit int) ([]postrider.Waiting, error)
}

// Webhooks are where deliveries go, as they are at the moment of sending.
type Webhooks interface {
	WebhookByID(postrider.ID) (*postrider.Webhook, bool)
	DisableWebhook(context.Context, postrider.ID, postrider.Disabled) (disabled bool, err error)
	// SetFailing applies only while the webhook's Failing is still as given.
	SetFailing(ctx context.Context, id postrider.ID, from, to postrider.Failing) (changed bool, err error)
	// Forget is called when a deleted webhook has no deliveries any more.
	Forget(postrider.ID)
	// Refresh brings what other nodes have changed.
	Refresh(context.Context) error
}

// A Sender makes one attempt. It never fails: what goes wrong is the outcome.
type Sender interface {
	Send(context.Context, *postrider.Request) postrider.Outcome
}

// Options are a Dispatcher's settings. Zero fields mean the defaults.
type Options struct {
	Store    Store
	Shared   Shared // nil: no other node works on the store
	Webhooks Webhooks
	Sender   Sender
	Logger   *slog.Logger
	Brand    string // part of the header names, such as Clubmed
	Version  string // part of the User-Agent

	Timeout       time.Duration   // of one attempt; default 15 s
	RetrySchedule []time.Duration // default DefaultRetrySchedule
	MaxInFlight   int             // attempts at once of a webhook that does not say; default 16
	MaxSending    int             // attempts at once of all webhooks; default 4,096
	DisableAfter  time.Duration   // of failures without a success; default 5 days
	LaneRows      int             // deliveries of one webhook in memory; default 4,096
	LaneBytes     int             // payload bytes of one webhook in memory; default 8 MiB
	TotalBytes    int64           // payload bytes of all lanes; default 64 MiB
	Grace         time.Duration   // how long a stop waits for attempts; default 20 s
	SweepEvery    time.Duration   // default 15 s, and 1 s where other nodes leave work, too

	// Announce is told what happens to a webhook, by an event type of the
	// system's and its payload; nil: nobody is.
	Announce func(ctx context.Context, about *postrider.Webhook, eventType string, payload []byte)
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.RetrySchedule == nil {
		o.RetrySchedule = DefaultRetrySchedule
	}
	def(&o.Brand, "Clubmed")
	def(&o.Version, "dev")
	def(&o.Timeout, 15*time.Second)
	def(&o.MaxInFlight, 16)
	def(&o.MaxSending, 4096)
	def(&o.DisableAfter, 5*24*time.Hour)
	def(&o.LaneRows, 4096)
	def(&o.LaneBytes, 8<<20)
	def(&o.TotalBytes, 64<<20)
	def(&o.Grace, 20*time.Second)
	if o.Shared != nil {
		def(&o.SweepEvery, time.Second)
	}
	def(&o.SweepEvery, 15*time.Second)
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// A Dispatcher owns the lanes. Its methods may be called concurrently; nothing
// is sent before Run.
type Dispatcher struct {
	o       Options
	headers headerNames
	settler *settler
	slots   slots
	lease   lease

	mu       sync.RWMutex
	lanes    map[postrider.ID]*lane
	stopping bool

	running atomic.Bool
	stop    chan struct{} // closed when Run begins to stop

	work   sync.WaitGroup // workers and refills
	bytes  atomic.Int64   // payload bytes in all lanes
	room   atomic.Int64   // payload bytes that refills under way may bring
	oldest atomic.Int64   // Stats.OldestDue

	// attempts is the context of everything that is being sent: it outlives
	// Run's, so that a stop does not cut attempts short.
	attempts context.Context //nolint:containedctx // the lifetime of all attempts, ended by Run
	abort    context.CancelFunc
}

// New makes a Dispatcher. It starts nothing.
func New(o Options) *Dispatcher {
	o.setDefaults()
	d := &Dispatcher{o: o, headers: newHeaderNames(o.Brand, o.Version), lanes: map[postrider.ID]*lane{}, stop: make(chan struct{})}
	d.settler = newSettler(d)
	d.slots.total = o.MaxSending
	d.attempts, d.abort = context.WithCancel(context.Background())
	d.lease.shared, d.lease.parent = o.Shared, d.attempts
	return d
}

// Run sends until the context ends, then stops in order: nothing new is
// started, what is in flight may finish within the grace, its outcomes are
// recorded, and what waits in memory is given back to the store.
func (d *Dispatcher) Run(ctx context.Context) error {
	settled := make(chan struct{})
	go func() { //nolint:contextcheck // outcomes are recorded after the context has ended, too
		defer close(settled)
		d.settler.run()
	}()
	var watch sync.WaitGroup
	sent := make(chan struct{})
	watch.Go(func() { d.watchLease(sent) })
	d.running.Store(true)
	d.startAll()
	d.sweepUntil(ctx)

	close(d.stop)
	d.mu.Lock()
	d.stopping = true
	for _, l := range d.lanes {
		l.stop()
	}
	d.mu.Unlock()
	grace := time.AfterFunc(d.o.Grace, d.abort)
	d.work.Wait()
	grace.Stop()
	close(sent)
	watch.Wait()
	d.abort()
	d.settler.close()
	<-settled
	return d.releaseAll() //nolint:contextcheck // it is what remains to be done when the context has ended
}

// startAll sets the lanes going: those that were filled before Run, and those
// that had to wait for what concerns them all.
func (d *Dispatcher) startAll() {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, l := range d.lanes {
		l.start()
	}
}

// maxRelease bounds what is given back at once. All lanes together may have more
// than the store can write in the time that it has for one statement.
const maxRelease = 5000

func (d *Dispatcher) releaseAll() error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var keys []postrider.DeliveryKey
	for _, l := range d.lanes {
		keys = append(keys, l.drain()...)
	}
	for left := keys; len(left) > 0; {
		part := left[:min(len(left), maxRelease)]
		if err := d.o.Store.Release(context.Background(), part); err != nil {
			return fmt.Errorf("release %d claimed deliveries: %w", len(left), err)
		}
		left = left[len(part):]
	}
	return nil
}

// Admit marks as claimed those deliveries of a request that their lanes have
// room for now, and keeps that room. The others are left to be claimed from the
// store, and with them all of the same lane that follow. So is what is ordered
// where other nodes accept it, too: the store alone knows the order.
func (d *Dispatcher) Admit(deliveries []postrider.Delivery) {
	var full map[postrider.ID]bool
	for i := range deliveries {
		delivery := &deliveries[i]
		id := delivery.WebhookID
		w, found := d.o.Webhooks.WebhookByID(id)
		if !found || !w.Sending() || full[id] || w.Ordered && d.o.Shared != nil {
			continue
		}
		if delivery.Claimed = d.lane(id).reserve(delivery); !delivery.Claimed {
			if full == nil {
				full = map[postrider.ID]bool{}
			}
			full[id] = true
		}
	}
}

// Committed starts what Admit claimed and notes what it did not.
func (d *Dispatcher) Committed(deliveries []postrider.Delivery) {
	for i := range deliveries {
		delivery := &deliveries[i]
		if delivery.Claimed {
			d.lane(delivery.WebhookID).push(delivery)
		} else {
			d.Wake(delivery.WebhookID)
		}
	}
}

// Abandoned gives back the room that Admit kept, for deliveries that were not
// committed.
func (d *Dispatcher) Abandoned(deliveries []postrider.Delivery) {
	for i := range deliveries {
		if delivery := &deliveries[i]; delivery.Claimed {
			d.lane(delivery.WebhookID).unreserve(delivery)
		}
	}
}

// Wake makes a webhook's lane look for work in the store: something is there,
// or the webhook has changed.
func (d *Dispatcher) Wake(webhook postrider.ID) {
	if w, _ := d.o.Webhooks.WebhookByID(webhook); !held(w) {
		for !d.lane(webhook).spill() { // a lane that retired meanwhile is not found again
		}
	}
}

// held reports whether a webhook's deliveries wait until it sends again. Those
// of one that is deleted, or that nobody knows any more, do not: they are
// cancelled.
func held(w *postrider.Webhook) bool { return w != nil && !w.Sending() && w.DeletedAt.IsZero() }

// lane returns a webhook's lane and makes it when there is none.
func (d *Dispatcher) lane(webhook postrider.ID) *lane {
	d.mu.RLock()
	l, found := d.lanes[webhook]
	d.mu.RUnlock()
	if found {
		return l
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if l, found = d.lanes[webhook]; !found {
		// Where order counts, nothing is admitted before the first look into the store.
		w, known := d.o.Webhooks.WebhookByID(webhook)
		l = &lane{d: d, webhook: webhook, stopped: d.stopping, spilled: known && w.Ordered}
		l.term, _ = d.lease.look()
		d.lanes[webhook] = l
	}
	return l
}

// keepRoom keeps memory for a refill, of the bytes that it asks for what the
// lanes have left: never all of it, since other lanes are to find some too.
func (d *Dispatcher) keepRoom(asked int) int {
	for {
		kept := d.room.Load()
		room := max(0, min(int64(asked), (d.o.TotalBytes-d.bytes.Load()-kept)/4))
		if d.room.CompareAndSwap(kept, kept+room) {
			return int(room)
		}
	}
}

func (d *Dispatcher) freeRoom(room int) { d.room.Add(-int64(room)) }

// sweepUntil looks through the store for webhooks with work: at the start, when
// a node has left some behind, and every now and then. Without other nodes it
// finds after the start only what was missed, so that nothing is ever stuck.
func (d *Dispatcher) sweepUntil(ctx context.Context) {
	for all := true; ; {
		began := time.Now()
		if _, holds := d.lease.look(); holds {
			if err := d.sweep(ctx, all); err != nil && ctx.Err() == nil {
				d.o.Logger.Error("the sweep for due deliveries ended early", "error", err)
			} else {
				all = false
			}
		}
		// A sweep that takes long, over very many webhooks, comes less often.
		nap := time.NewTimer(max(d.o.SweepEvery, 4*time.Since(began)))
		select {
		case <-ctx.Done():
			nap.Stop()
			return
		case <-nap.C:
		case <-d.lease.orphaned():
			nap.Stop()
			all = true
		}
	}
}

// sweepPage is how many webhooks one question to the store asks for.
const sweepPage = 1000

func (d *Dispatcher) sweep(ctx context.Context, all bool) error {
	var oldest time.Duration
	var after postrider.ID
	for {
		page, err := d.o.Store.Waiting(ctx, after, sweepPage)
		if err != nil {
			return err
		}
		for _, waiting := range page {
			after = waiting.WebhookID
			w, found := d.o.Webhooks.WebhookByID(after)
			if held(w) {
				continue
			}
			oldest = max(oldest, -waiting.Due)
			switch l := d.lane(after); {
			case waiting.Due > 0 && found && w.DeletedAt.IsZero():
				l.wakeAfter(waiting.Due)
			case all || l.idle() || d.leftBehind(w, -waiting.Due):
				d.Wake(after) //nolint:contextcheck // attempts outlive a sweep
			}
		}
		if len(page) < sweepPage {
			break
		}
	}
	d.oldest.Store(int64(oldest))
	d.dropIdle()
	return nil
}

// leftBehind reports whether a lane that is busy should look into the store,
// since other nodes accept for it, too: the lane of an ordered webhook is told
// of nothing, and another node may have more than it can hold.
func (d *Dispatcher) leftBehind(w *postrider.Webhook, overdue time.Duration) bool {
	return d.o.Shared != nil && (w != nil && w.Ordered || overdue > 2*d.o.SweepEvery)
}

// dropIdle forgets the lanes that have nothing to do. Nobody can be about to
// use one: whoever reserves in a lane does it under the lane's lock, after
// which it is not idle, and a lane that is gone is never found again.
func (d *Dispatcher) dropIdle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, l := range d.lanes {
		if l.retire() {
			delete(d.lanes, id)
			d.o.Webhooks.Forget(id)
		}
	}
}

// Stats are for metrics.
type Stats struct {
	Lanes     int
	Ready     int           // deliveries in memory that wait for a worker
	InFlight  int           // attempts on the wire
	Unsettled int           // attempts made whose outcome is not yet on disk
	Bytes     int64         // payload bytes in memory
	OldestDue time.Duration // how long the oldest due delivery has waited, at the last sweep
}

// Stats counts what the lanes hold now.
func (d *Dispatcher) Stats() Stats {
	d.mu.RLock()
	defer d.mu.RUnlock()
	s := Stats{Lanes: len(d.lanes), Bytes: d.bytes.Load(), OldestDue: time.Duration(d.oldest.Load())}
	for _, l := range d.lanes {
		l.addTo(&s)
	}
	return s
}
