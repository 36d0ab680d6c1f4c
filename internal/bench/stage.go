package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"postrider"
	"postrider/internal/progress"
)

// A stage is what a scenario plays on: a server, receivers, and the result
// that it fills in.
type stage struct {
	o      Options
	name   string
	load   Load
	server *server
	others []*server // more nodes on its database
	result *Result
	bar    *progress.Bar
	secret string

	hooks   []string // ids of the webhooks, to delete on a server that is not ours
	closing []func()
}

// measure runs one scenario between two runs of the bare loop.
func measure(ctx context.Context, o Options, sc scenario) (_ *Result, err error) {
	s := &stage{
		o: o, name: sc.name, load: sc.load.with(o), secret: string(postrider.NewSecret()),
		result: &Result{Scenario: sc.name, about: sc.about, Store: o.store()}, bar: progress.Start(o.Stderr, o.Progress, sc.name),
	}
	s.result.Load = s.load
	defer s.bar.Clear()
	bare := func() error { return nil }
	if o.BareFor > 0 && !sc.lone {
		s.result.Bare = new(Bare)
		bare = func() error {
			s.bar.Say("bare loop")
			return s.result.Bare.measure(ctx, bareLoop{
				connections: s.load.Connections, payload: s.load.Payload, tls: s.load.TLS, rate: s.load.Rate, duration: o.BareFor,
			})
		}
	}
	if err := bare(); err != nil {
		return nil, err
	}
	if err := s.play(ctx, sc); err != nil {
		return nil, err
	}
	if err := bare(); err != nil {
		return nil, err
	}
	s.result.compare()
	return s.result, nil
}

// play runs the scenario on a server, and takes everything down again.
func (s *stage) play(ctx context.Context, sc scenario) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.o.Timeout, fmt.Errorf("not done within %v", s.o.Timeout))
	defer cancel()
	defer func() {
		for _, closing := range slices.Backward(s.closing) {
			closing()
		}
	}()
	if s.o.URL != "" {
		if s.server, err = attach(s.o); err != nil {
			return err
		}
		defer func() {
			// Also after an end that was asked for: nothing of ours stays behind.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			err = errors.Join(err, s.server.unsubscribe(ctx, s.hooks))
		}()
		if err := s.server.makeTenant(ctx); err != nil {
			return fmt.Errorf("make a tenant: %w", err)
		}
		return sc.run(ctx, s)
	}
	dir, err := os.MkdirTemp(s.o.Dir, "postrider-bench-")
	if err != nil {
		return fmt.Errorf("make a data directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if s.o.Database != nil {
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute) // also after an end that was asked for
			defer cancel()
			if left := s.o.Database.Clear(ctx); left != nil {
				err = errors.Join(err, fmt.Errorf("the tables of this run are left in the database: %w", left))
			}
		}()
	}
	if s.server, err = start(ctx, s.o, dir, postrider.NewID().String()); err != nil {
		return err
	}
	defer func() { // those that run then
		for _, server := range s.all() {
			server.kill()
		}
	}()
	return sc.run(ctx, s)
}

// all are the servers that run.
func (s *stage) all() []*server { return append([]*server{s.server}, s.others...) }

// restart kills the server and starts it again on the same data.
func (s *stage) restart(ctx context.Context) error {
	s.server.kill()
	again, err := start(ctx, s.o, s.server.dataDir, s.server.key)
	if err != nil {
		return err
	}
	s.server = again
	return nil
}

// receive makes a receiver that lives as long as the stage.
func (s *stage) receive(ctx context.Context, mode int32, tls bool) (*receiver, error) {
	listener, err := listen(ctx)
	if err != nil {
		return nil, fmt.Errorf("listen for deliveries: %w", err)
	}
	r, err := startReceiver(listener, receiverOptions{secret: s.secret, mode: mode, tls: tls})
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	s.closing = append(s.closing, r.close)
	return r, nil
}

// subscribe creates webhooks at the server.
func (s *stage) subscribe(ctx context.Context, hooks ...webhook) error {
	for i := range hooks {
		hooks[i].Secret = s.secret
	}
	ids, err := s.server.subscribe(ctx, hooks)
	s.hooks = append(s.hooks, ids...)
	return err
}

// subscribeAll creates a number of webhooks at one receiver and waits for
// their pings. Each subscribes to what eventOf says.
func (s *stage) subscribeAll(ctx context.Context, r *receiver, n int, eventOf func(hook int) string) error {
	s.bar.Say("webhooks")
	hooks := make([]webhook, n)
	for i := range hooks {
		hooks[i] = webhook{URL: r.hook(i), Events: []string{eventOf(i)}, InsecureSSL: s.load.TLS}
		if n == 1 { // as many at once as the bare loop that it is held against
			hooks[i].MaxInFlight = s.load.Connections
		}
	}
	before := r.pings.Load()
	if err := s.subscribe(ctx, hooks...); err != nil {
		return err
	}
	return s.until(ctx, "pings", func() bool { return r.pings.Load()-before >= int64(n) })
}

// generate makes a generator that lives as long as the stage.
func (s *stage) generate(ctx context.Context) (*generator, error) {
	g, err := newGenerator(ctx, s.load.Connections, s.load.Payload, s.all()...)
	if err != nil {
		return nil, err
	}
	s.closing = append(s.closing, g.close)
	return g, nil
}

// until waits for a condition by looking at it: what is waited for happens in
// another process. Times are never taken from when it returns.
func (s *stage) until(ctx context.Context, what string, done func() bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		for _, server := range s.all() {
			if err := server.alive(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		case <-tick.C:
		}
	}
	return nil
}

// arrive waits until everything that was expected has arrived. When the time
// is up first, what is missing is lost: that is a result, and no error.
func (s *stage) arrive(ctx context.Context, b *book, expected int64) error {
	s.bar.Count("deliveries", b.towards(expected))
	err := s.until(ctx, "deliveries", func() bool { return b.unique.Load() >= expected })
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil
	}
	return err
}

// quiet is how long the server is left alone after the last receipt, so that
// what it does afterwards is counted too, and what it sends twice is seen.
const quiet = 500 * time.Millisecond

// rest lets the quiet pass.
func rest(ctx context.Context) error { return pause(ctx, quiet) }

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return context.Cause(ctx)
		}
	}
	return nil // the time that was up has cost deliveries, and they are counted as lost
}

// account adds a book to the result: what was lost, and how late the rest was.
func (s *stage) account(b *book, expected int64) {
	r := s.result
	r.Expected += expected
	r.Lost += expected - b.unique.Load()
	r.Duplicates += b.duplicates.Load()
	r.Checked += b.checked.Load()
	r.WrongSignatures += b.wrong.Load()
}

// A meter reads the servers' processor time over a part of a scenario.
type meter struct {
	servers []*server
	cpu     time.Duration
	known   bool
}

func (s *stage) meter() meter {
	m := meter{servers: s.all()}
	m.cpu, m.known = m.read()
	return m
}

func (m meter) read() (sum time.Duration, known bool) {
	for _, server := range m.servers {
		cpu, ok := server.cpu()
		if !ok {
			return 0, false
		}
		sum += cpu
	}
	return sum, true
}

// stop puts into the result what a number of deliveries has cost since the
// meter was made, and the memory of the server that took most.
func (m meter) stop(r *Result, deliveries int64) {
	if cpu, ok := m.read(); ok && m.known && deliveries > 0 {
		cost := costOf(cpu-m.cpu, deliveries)
		r.CPU = &cost
	}
	for _, server := range m.servers {
		if peak, ok := server.memory("VmHWM"); ok && (r.PeakRSS == nil || peak > *r.PeakRSS) {
			r.PeakRSS = &peak
		}
	}
}
