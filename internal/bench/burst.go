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
	g, err := s.generate(ctx)
	if err != nil {
		return err
	}
	if err := s.warmUp(ctx, r, g); err != nil {
		return err
	}
	b, expected := r.open(s.load.Events, s.load.Webhooks), int64(s.load.Events)*int64(s.load.Webhooks)
	s.bar.Count("deliveries", b.towards(expected))
	meter, began := s.meter(), time.Now()
	if err := g.burst(ctx, b, s.load.Batch); err != nil {
		return err
	}
	published := time.Since(began)
	if err := s.arrive(ctx, b, expected); err != nil {
		return err
	}
	if err := rest(ctx); err != nil {
		return err
	}
	meter.stop(s.result, expected)
	s.account(b, expected)
	s.result.Ingest = rate(int64(s.load.Events), published)
	s.result.Delivered = rate(b.unique.Load(), b.lastAt().Sub(began))
	s.result.setLatency(&b.latency)
	s.result.Accept = g.accept.percentiles()
	return nil
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
