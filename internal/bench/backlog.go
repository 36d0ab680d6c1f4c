package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// The ways in which an endpoint is down.
const (
	downRefused = "refused" // connections are refused
	down503     = "503"     // it answers 503
	downHanging = "hanging" // it takes requests and does not answer
)

// patient retries often enough to find the endpoint up soon, and long enough
// for any scenario.
var patient = slices.Repeat([]float64{5}, 30)

// The event types of a backlog: one is for the endpoint that is down, the
// other for one that is up all the time.
const (
	downHook  = 0
	freshHook = 1
	freshRate = 20 // events a second
)

// An endpoint can be down, and brought up again.
type endpoint struct {
	url  string
	book *book
	up   func() error
}

// down makes an endpoint that is down in one of the ways, and registers it.
func (s *stage) down(ctx context.Context, way string) (*endpoint, error) {
	e := &endpoint{book: newBook(s.load.Events, 1)}
	if way == downRefused {
		port, err := newDeadPort()
		if err != nil {
			return nil, err
		}
		s.closing = append(s.closing, port.close)
		e.url = "http://" + port.addr + "/0"
		e.up = func() error {
			listener, err := port.revive()
			if err != nil {
				return err
			}
			return s.serveBook(listener, e.book)
		}
	} else {
		mode := hanging
		if way == down503 {
			mode = failing
		}
		r, err := s.receive(ctx, mode, false)
		if err != nil {
			return nil, err
		}
		r.book.Store(e.book)
		e.url = r.hook(0)
		e.up = func() error { r.answer(); return nil }
	}
	return e, s.subscribe(ctx, webhook{URL: e.url, Events: []string{eventType(downHook)}, Timeout: 30, RetrySchedule: patient})
}

// serveBook serves a receiver on a listener for the rest of the stage.
func (s *stage) serveBook(listener net.Listener, b *book) error {
	r, err := startReceiver(listener, receiverOptions{secret: s.secret})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	r.book.Store(b)
	s.closing = append(s.closing, r.close)
	return nil
}

// A probe publishes a fresh event now and then, to a webhook that is up, and
// measures how late it arrives beside everything else that goes on.
type probe struct {
	stage    *stage
	receiver *receiver
}

func (s *stage) probe(ctx context.Context) (*probe, error) {
	r, err := s.receive(ctx, answering, false)
	if err != nil {
		return nil, err
	}
	hook := webhook{URL: r.hook(0), Events: []string{eventType(freshHook)}}
	if err := s.subscribe(ctx, hook); err != nil {
		return nil, err
	}
	return &probe{s, r}, s.until(ctx, "a ping", func() bool { return r.pings.Load() > 0 })
}

// during probes while something is done, and returns what it saw.
func (p *probe) during(ctx context.Context, do func() error) (*Percentiles, error) {
	s := p.stage
	g, err := newGenerator(ctx, 1, minPayload, s.server)
	if err != nil {
		return nil, err
	}
	defer g.close()
	const most = int(freshRate * time.Hour / time.Second)
	b := p.receiver.open(most, 1)
	q := s.server.newRequest(b.newPayload(minPayload), 1, true)
	published := int64(0)
	group, working := errgroup.WithContext(ctx)
	defer g.breakOff(working)()
	probing, stop := context.WithCancel(working)
	defer stop()
	group.Go(func() error {
		err := pace(probing, most, freshRate, func(event int, due time.Time) error {
			b.publish(event, due)
			q.set(0, event, freshHook)
			published++
			return g.conns[0].do(q.raw)
		})
		if err != nil && probing.Err() == nil {
			return fmt.Errorf("fresh events: %w", err)
		}
		return nil // what was probed beside is done, or has failed itself
	})
	group.Go(func() error {
		defer stop()
		return do()
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if err := s.arrive(ctx, b, published); err != nil {
		return nil, err
	}
	s.account(b, published)
	return b.latency.percentiles(), nil
}

// backlog publishes while the endpoint is down, brings it up, and measures how
// fast what has waited goes out.
func backlog(ctx context.Context, s *stage) error {
	way := s.o.Down
	if way == "" {
		way = downRefused
	}
	s.result.Down = way
	e, err := s.down(ctx, way)
	if err != nil {
		return err
	}
	p, err := s.probe(ctx)
	if err != nil {
		return err
	}
	if s.result.FreshDown, err = p.during(ctx, func() error { return s.pile(ctx, e) }); err != nil {
		return err
	}
	meter := s.meter()
	s.result.FreshDrain, err = p.during(ctx, func() error { return s.drain(ctx, e, int64(s.load.Events)) })
	if err != nil {
		return err
	}
	if err := rest(ctx); err != nil {
		return err
	}
	meter.stop(s.result, int64(s.load.Events))
	s.account(e.book, int64(s.load.Events))
	return nil
}

// pile publishes all events to the endpoint that is down.
func (s *stage) pile(ctx context.Context, e *endpoint) error {
	s.bar.Say("publishing to an endpoint that is down")
	g, err := s.generate(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := g.burst(ctx, e.book, s.load.Batch); err != nil {
		return err
	}
	s.result.Ingest = rate(int64(s.load.Events), time.Since(began))
	s.result.Accept = g.accept.percentiles()
	return nil
}

// drain brings the endpoint up and waits for a number of its deliveries.
func (s *stage) drain(ctx context.Context, e *endpoint, deliveries int64) error {
	began := time.Now()
	if err := e.up(); err != nil {
		return fmt.Errorf("bring the endpoint up: %w", err)
	}
	if err := s.arrive(ctx, e.book, deliveries); err != nil {
		return err
	}
	s.result.Delivered = rate(e.book.unique.Load(), e.book.lastAt().Sub(began))
	return nil
}

// restart kills the server with a backlog that is due, and once more when half
// of it has gone out. Nothing may be lost, and no more arrive twice than were
// on their way.
func restart(ctx context.Context, s *stage) error {
	e, err := s.down(ctx, downHanging)
	if err != nil {
		return err
	}
	if err := s.pile(ctx, e); err != nil {
		return err
	}
	s.bar.Say("kill -9")
	if err := s.restart(ctx); err != nil {
		return err
	}
	ready := s.server.ready
	if err := e.up(); err != nil {
		return err
	}
	if err := s.arrive(ctx, e.book, int64(s.load.Events/2)); err != nil {
		return err
	}
	if err := s.restart(ctx); err != nil {
		return err
	}
	readyMS := milliseconds(max(ready, s.server.ready))
	s.result.Ready = &readyMS
	p, err := s.probe(ctx)
	if err != nil {
		return err
	}
	meter, began, before := s.meter(), time.Now(), e.book.unique.Load()
	s.result.FreshDrain, err = p.during(ctx, func() error { return s.arrive(ctx, e.book, int64(s.load.Events)) })
	if err != nil {
		return err
	}
	if err := rest(ctx); err != nil {
		return err
	}
	drained := e.book.unique.Load() - before
	meter.stop(s.result, drained)
	s.account(e.book, int64(s.load.Events))
	s.result.Delivered = rate(drained, e.book.lastAt().Sub(began))
	return nil
}
