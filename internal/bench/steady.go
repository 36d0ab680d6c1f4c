package bench

import (
	"context"
	"time"
)

// steady publishes at a constant rate and measures how late each event
// arrives.
func steady(ctx context.Context, s *stage) error {
	r, err := s.receive(ctx, answering, false)
	if err != nil {
		return err
	}
	if err := s.subscribeAll(ctx, r, s.load.Webhooks, eventType); err != nil {
		return err
	}
	g, err := s.generate(ctx)
	if err != nil {
		return err
	}
	if _, err := s.hold(ctx, r, g, time.Second, allGood(s.load.Webhooks)); err != nil { // warms up
		return err
	}
	g.accept, g.late = histogram{}, histogram{}
	meter := s.meter()
	b, err := s.hold(ctx, r, g, s.load.duration(), allGood(s.load.Webhooks))
	if err != nil {
		return err
	}
	meter.stop(s.result, b.unique.Load())
	s.account(b, int64(len(b.sent)))
	s.result.setLatency(&b.latency)
	s.result.Accept, s.result.Late = g.accept.percentiles(), g.late.percentiles()
	return nil
}

// A mix says which webhooks the events of a steady load go to, one each and in
// turn. The first good ones are measured; nothing is expected of the others.
type mix struct{ good, bad int }

func allGood(n int) mix { return mix{good: n} }

func (m mix) all() int { return m.good + m.bad }

// hookOf sends every so many events to a bad webhook, so that the bad ones get
// as much as the good ones, evenly in between.
func (m mix) hookOf(event int) int { return event % m.all() }

// expected is how many of the first events go to good webhooks.
func (m mix) expected(events int) int64 {
	return int64(events/m.all()*m.good + min(events%m.all(), m.good))
}

// rate gives every webhook the same, whether or not there are bad ones: the
// good ones together get what was asked for.
func (m mix) rate(good float64) float64 { return good * float64(m.all()) / float64(m.good) }

// hold keeps the load up for a while, and waits for what good webhooks get.
func (s *stage) hold(ctx context.Context, r *receiver, g *generator, d time.Duration, m mix) (*book, error) {
	perSecond := m.rate(s.load.Rate)
	b := r.open(max(1, int(perSecond*d.Seconds())), m.good)
	expected := m.expected(len(b.sent))
	s.bar.Count("deliveries", b.towards(expected))
	if err := g.steady(ctx, b, perSecond, m.hookOf); err != nil {
		return nil, err
	}
	if err := s.arrive(ctx, b, expected); err != nil {
		return nil, err
	}
	return b, rest(ctx)
}

// noisyHanging measures good webhooks beside ones that never answer.
func noisyHanging(ctx context.Context, s *stage) error {
	hung, err := s.receive(ctx, hanging, false)
	if err != nil {
		return err
	}
	return s.noisy(ctx, hung.hook)
}

// noisyDead measures good webhooks beside ones that refuse connections.
func noisyDead(ctx context.Context, s *stage) error {
	port, err := newDeadPort()
	if err != nil {
		return err
	}
	s.closing = append(s.closing, port.close)
	return s.noisy(ctx, func(int) string { return "http://" + port.addr + "/" })
}

// noisy measures the good webhooks twice on one server: alone, and beside the
// bad ones, with the same load of their own both times.
func (s *stage) noisy(ctx context.Context, badURL func(n int) string) error {
	m := mix{good: max(1, s.load.Webhooks-s.load.Bad), bad: s.load.Bad}
	r, err := s.receive(ctx, answering, false)
	if err != nil {
		return err
	}
	if err := s.subscribeAll(ctx, r, m.good, eventType); err != nil {
		return err
	}
	g, err := s.generate(ctx)
	if err != nil {
		return err
	}
	if _, err := s.hold(ctx, r, g, time.Second, allGood(m.good)); err != nil { // warms up
		return err
	}
	without, err := s.hold(ctx, r, g, s.load.duration(), allGood(m.good))
	if err != nil {
		return err
	}
	bad := make([]webhook, m.bad)
	for i := range bad {
		bad[i] = webhook{URL: badURL(i), Events: []string{eventType(m.good + i)}}
	}
	if err := s.subscribe(ctx, bad...); err != nil {
		return err
	}
	g.accept, g.late = histogram{}, histogram{}
	meter := s.meter()
	with, err := s.hold(ctx, r, g, s.load.duration(), m)
	if err != nil {
		return err
	}
	meter.stop(s.result, with.unique.Load())
	s.account(without, allGood(m.good).expected(len(without.sent)))
	s.account(with, m.expected(len(with.sent)))
	s.result.setLatency(&with.latency)
	s.result.Without = without.latency.percentiles()
	s.result.Accept, s.result.Late = g.accept.percentiles(), g.late.percentiles()
	return nil
}
