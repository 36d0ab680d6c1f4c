package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"postrider"
)

// fanoutPart is for how many webhooks one commit writes deliveries. An event
// that matches more is accepted with the first of them; the others follow in
// parts, so that nobody else waits for a long transaction.
const fanoutPart = 1000

// fanouts are the events with deliveries still to be written.
type fanouts struct {
	mu      sync.Mutex
	pending []postrider.Fanout
	wake    chan struct{}
}

func (f *fanouts) add(fanout postrider.Fanout) {
	f.mu.Lock()
	f.pending = append(f.pending, fanout)
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *fanouts) take() []postrider.Fanout {
	f.mu.Lock()
	defer f.mu.Unlock()
	taken := f.pending
	f.pending = nil
	return taken
}

// Run writes the deliveries of large fan-outs, those first that an earlier run
// left unfinished. It returns when the context ends; what is then not written
// is written by the next run, or by another node.
func (p *Publisher) Run(ctx context.Context) error {
	unfinished, err := p.o.Store.Fanouts(ctx)
	if ended(ctx) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read unfinished fan-outs: %w", err)
	}
	// One that was accepted since this run began is pending, too.
	begun, left := map[fanoutKey]bool{}, map[fanoutKey]postrider.ID{}
	for _, f := range unfinished {
		if p.o.Shared {
			left[keyOf(&f)] = f.After // perhaps another node is at it
			continue
		}
		begun[keyOf(&f)] = true
		if p.expand(ctx, f); ended(ctx) {
			return nil
		}
	}
	var look <-chan time.Time
	if p.o.Shared {
		ticker := time.NewTicker(fanoutLook)
		defer ticker.Stop()
		look = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look:
			left = p.takeOver(ctx, left)
		case <-p.fanouts.wake:
		}
		for _, f := range p.fanouts.take() {
			if begun[keyOf(&f)] {
				continue
			}
			if p.expand(ctx, f); ended(ctx) {
				return nil
			}
		}
	}
}

// fanoutLook is how often the fan-outs of other nodes are looked at.
const fanoutLook = 5 * time.Second

// A fanoutKey is an event's tenant and id.
type fanoutKey [2]string

func keyOf(f *postrider.Fanout) fanoutKey { return fanoutKey{f.Event.Tenant, f.Event.ID} }

// takeOver goes on with the fan-outs that are where they were at the last look:
// the node that accepted them is gone. It returns where the others are.
func (p *Publisher) takeOver(ctx context.Context, before map[fanoutKey]postrider.ID) (left map[fanoutKey]postrider.ID) {
	unfinished, err := p.o.Store.Fanouts(ctx)
	if err != nil {
		if !ended(ctx) {
			p.o.Logger.Error("the fan-outs of other nodes were not looked at", "error", err)
		}
		return before
	}
	left = map[fanoutKey]postrider.ID{}
	for _, f := range unfinished {
		if at, seen := before[keyOf(&f)]; seen && at == f.After {
			p.expand(ctx, f)
		} else {
			left[keyOf(&f)] = f.After
		}
	}
	return left
}

// ended reports that a part is to stop, which is no error.
func ended(ctx context.Context) bool { return ctx.Err() != nil }

// expandPause is the wait before a part that could not be written is tried
// again.
const expandPause = time.Second

// expand writes a fan-out's deliveries part by part, to the webhooks that
// existed when the event was accepted and subscribe to it now. It ends early
// when another node has gone on with it.
func (p *Publisher) expand(ctx context.Context, f postrider.Fanout) {
	left := p.o.Webhooks.Match(f.Event.Tenant, f.Event.Type)
	for len(left) > 0 && bytes.Compare(left[0].ID[:], f.After[:]) <= 0 {
		left = left[1:]
	}
	for len(left) > 0 && left[len(left)-1].CreatedAt.After(f.Event.CreatedAt) {
		left = left[:len(left)-1]
	}
	for ctx.Err() == nil {
		part := left[:min(len(left), fanoutPart)]
		deliveries := deliveriesOf(&f.Event, part, postrider.TriggerEvent)
		p.o.Lanes.Admit(deliveries)
		err := p.o.Store.Expand(ctx, f.Event.Tenant, f.Event.ID, deliveries, len(part) == len(left))
		if err == nil {
			p.o.Lanes.Committed(deliveries)
			if left = left[len(part):]; len(left) == 0 {
				return
			}
			continue
		}
		p.o.Lanes.Abandoned(deliveries)
		if errors.Is(err, postrider.ErrStale) {
			return
		}
		p.o.Logger.Error("a fan-out waits for the store", "event", f.Event.ID, "webhooks_left", len(left), "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(expandPause):
		}
	}
}

func lastWebhook(deliveries []postrider.Delivery) postrider.ID {
	return deliveries[len(deliveries)-1].WebhookID
}
