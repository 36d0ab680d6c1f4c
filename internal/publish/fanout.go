package publish

import (
	"bytes"
	"context"
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
// is written by the next run.
func (p *Publisher) Run(ctx context.Context) error {
	unfinished, err := p.o.Store.Fanouts(ctx)
	if ended(ctx) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read unfinished fan-outs: %w", err)
	}
	// One that was accepted since this run began is pending, too.
	begun := map[[2]string]bool{}
	for _, f := range unfinished {
		begun[[2]string{f.Event.Tenant, f.Event.ID}] = true
		if p.expand(ctx, f); ended(ctx) {
			return nil
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.fanouts.wake:
		}
		for _, f := range p.fanouts.take() {
			if begun[[2]string{f.Event.Tenant, f.Event.ID}] {
				continue
			}
			if p.expand(ctx, f); ended(ctx) {
				return nil
			}
		}
	}
}

// ended reports that a part is to stop, which is no error.
func ended(ctx context.Context) bool { return ctx.Err() != nil }

// expandPause is the wait before a part that could not be written is tried
// again.
const expandPause = time.Second

// expand writes a fan-out's deliveries part by part, to the webhooks that
// existed when the event was accepted and subscribe to it now.
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
