package bench

import (
	"context"
	"time"
)

// burst publishes as fast as the server takes events, to one webhook or to
// many: throughput, batch, fanout, large and tls.
func burst(ctx context.Context, s *stage) error {
	r, err := s.receive(ctx, answering, s.load.TLS)
	if err != nil {
		return err
	}
	// All webhooks subscribe to the same events.
	if err := s.subscribeAll(ctx, r, s.load.Webhooks, func(int) string { return eventType(0) }); err != nil {
		return err
	}
	_, err = s.flood(ctx, r, s.load.Events, s.result)
	return err
}

// flood publishes a number of events as fast as the servers take them, after a
// few that are not measured, and returns how long it took until the last one
// had arrived.
func (s *stage) flood(ctx context.Context, r *receiver, events int, into *Result) (took time.Duration, err error) {
	g, err := s.generate(ctx)
	if err != nil {
		return 0, err
	}
	if err := s.warmUp(ctx, r, g); err != nil {
		return 0, err
	}
	b, expected := r.open(events, s.load.Webhooks), int64(events)*int64(s.load.Webhooks)
	s.bar.Count("deliveries", b.towards(expected))
	meter, began := s.meter(), time.Now()
	if err := g.burst(ctx, b, s.load.Batch); err != nil {
		return 0, err
	}
	published := time.Since(began)
	if err := s.arrive(ctx, b, expected); err != nil {
		return 0, err
	}
	if err := rest(ctx); err != nil {
		return 0, err
	}
	meter.stop(into, expected)
	s.account(b, expected)
	took = b.lastAt().Sub(began)
	into.Ingest, into.Delivered = rate(int64(events), published), rate(b.unique.Load(), took)
	into.setLatency(&b.latency)
	into.Accept = g.accept.percentiles()
	return took, nil
}

// warmUp publishes a little that is not measured: connections come to stand,
// and the store's files get their first pages.
func (s *stage) warmUp(ctx context.Context, r *receiver, g *generator) error {
	const most = 2000 // deliveries
	events := max(1, min(s.load.Events/10, most/s.load.Webhooks))
	b := r.open(events, s.load.Webhooks)
	s.bar.Say("warming up")
	if err := g.burst(ctx, b, s.load.Batch); err != nil {
		return err
	}
	err := s.until(ctx, "the first deliveries", func() bool {
		return b.unique.Load() == int64(events)*int64(s.load.Webhooks)
	})
	g.accept = histogram{}
	return err
}
