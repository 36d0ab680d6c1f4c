package sqlite

import (
	"time"

	"postrider"
)

// claims are the deliveries that this run has the right to send. They are in
// memory alone: the directory's lock keeps other processes out, and with the
// run they end.
//
// They belong to the writer. What a transaction claims is held at once, so that
// nothing later in the transaction claims it too; what it gives up is held until
// the commit. So both are void after a rollback.
type claims struct {
	held   map[postrider.DeliveryKey]*claim
	open   map[bundleKey]*openBundle
	places map[postrider.ID]*place

	firstTransaction int64 // of this run
	transaction      int64 // the one under way, or the last

	// What the transaction under way has done.
	drafts, claimedDrafts map[postrider.ID]*draft
	taken                 []*claim
	opened                []*openBundle
	left                  []leaving
}

// A claim is a delivery that is held.
type claim struct {
	key      postrider.DeliveryKey
	bundle   *openBundle // nil: it has a row in the queue
	due      int64
	accepted int64
	trigger  postrider.Trigger
	leaving  bool // by the transaction under way
}

// An openBundle is one whose deliveries were claimed, all of them.
type openBundle struct {
	bundleKey

	size    int // deliveries in it that are held
	leaving int // of those, by the transaction under way
}

// A place is from where on a claim for a webhook has to look: what is due
// before is held.
type place struct {
	queue  int64 // due times from here on
	bundle int64 // due times above
}

// A leaving is what a transaction does to a claim.
type leaving struct {
	claim  *claim
	bundle *openBundle // out of which it goes; nil: it was in none
	stays  whether
}

// whether a delivery stays held when it leaves its bundle.
type whether bool

const (
	stays whether = true
	goes  whether = false
)

func newClaims(firstTransaction int64) claims {
	return claims{
		held: map[postrider.DeliveryKey]*claim{}, open: map[bundleKey]*openBundle{}, places: map[postrider.ID]*place{},
		firstTransaction: firstTransaction, transaction: firstTransaction,
		drafts: map[postrider.ID]*draft{}, claimedDrafts: map[postrider.ID]*draft{},
	}
}

// begin starts a transaction. Its number is a time, and never used twice.
func (c *claims) begin() { c.transaction = max(c.transaction+1, micros(time.Now())) }

// of is the claim on a delivery; nil when this run has none, or gives it up in
// this transaction.
func (c *claims) of(key *postrider.DeliveryKey) *claim {
	if held := c.held[*key]; held != nil && !held.leaving {
		return held
	}
	return nil
}

func (c *claims) heldOf(b *openBundle) (list []*claim) {
	for _, held := range c.held {
		if held.bundle == b && !held.leaving {
			list = append(list, held)
		}
	}
	return list
}

func (c *claims) openBundle(key *bundleKey) *openBundle {
	b := &openBundle{bundleKey: *key}
	c.open[*key] = b
	c.opened = append(c.opened, b)
	return b
}

func (c *claims) hold(held *claim) {
	c.held[held.key] = held
	c.taken = append(c.taken, held)
	if held.bundle != nil {
		held.bundle.size++
	}
}

// leave gives a claim up, or takes it out of its bundle only. With the last one
// the bundle's row goes.
func (c *claims) leave(tx tx, held *claim, stays whether) error {
	held.leaving = true
	c.left = append(c.left, leaving{held, held.bundle, stays})
	if b := held.bundle; b != nil {
		if b.leaving++; b.leaving == b.size {
			return b.delete(tx)
		}
	}
	return nil
}

func (c *claims) place(webhook postrider.ID) *place {
	p := c.places[webhook]
	if p == nil {
		p = new(place)
		c.places[webhook] = p
	}
	return p
}

// lookFrom has the next claim look at a row of the queue, which is new, has
// another due time or is no longer held.
func (c *claims) lookFrom(webhook postrider.ID, due int64) {
	if p := c.places[webhook]; p != nil {
		p.queue = min(p.queue, due)
	}
}

// lookFromBundle has the next claim look at a bundle. One is due before those
// that were claimed only when the clock was set back.
func (c *claims) lookFromBundle(webhook postrider.ID, due int64) {
	if p := c.places[webhook]; p != nil {
		p.bundle = min(p.bundle, due-1)
	}
}

// committed makes final what the transaction has done.
func (c *claims) committed() {
	for _, l := range c.left {
		l.claim.leaving = false
		if l.bundle != nil {
			l.claim.bundle = nil
			l.bundle.leaving--
			if l.bundle.size--; l.bundle.size == 0 {
				delete(c.open, l.bundle.bundleKey)
			}
		}
		if !l.stays {
			delete(c.held, l.claim.key)
		}
	}
	for _, b := range c.opened {
		if b.size == 0 { // there was nothing to send in it
			delete(c.open, b.bundleKey)
		}
	}
	c.forget()
}

// rolledBack undoes what the transaction has done.
func (c *claims) rolledBack() {
	for _, l := range c.left {
		l.claim.leaving = false
		if l.bundle != nil {
			l.bundle.leaving--
		}
	}
	for _, held := range c.taken {
		delete(c.held, held.key)
		c.lookFrom(held.key.WebhookID, held.due)
	}
	for _, b := range c.opened {
		delete(c.open, b.bundleKey)
		c.lookFromBundle(b.webhook, b.due)
	}
	c.forget()
}

func (c *claims) forget() {
	clear(c.drafts)
	clear(c.claimedDrafts)
	clear(c.taken)
	clear(c.opened)
	clear(c.left)
	c.taken, c.opened, c.left = c.taken[:0], c.opened[:0], c.left[:0]
}
