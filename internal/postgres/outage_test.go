package postgres

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postrider"
	"postrider/internal/pgtest"
)

// recoveryBound is how long after the database's return everything works again.
const recoveryBound = 5 * time.Second

func TestOutage_IsToldAtOnceAndEndsWithoutARestart(t *testing.T) {
	server := pgtest.For(t, false)
	o := options("postgres")
	o.URL = server.URL("postgres")
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx, postrider.Node{}) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, s.Close()); err != nil {
			t.Error(err)
		}
	})
	webhook := postrider.NewID()
	before := accept(t, s, eventFor(webhook, true))

	for _, stop := range []func() error{server.Halt, server.Kill} {
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		for name, call := range map[string]func() error{
			"publish": func() error {
				_, err := s.Accept(t.Context(), []postrider.Accepted{eventFor(webhook, false)}, nil)
				return err
			},
			"publish with a key": func() error {
				_, err := s.Accept(t.Context(), []postrider.Accepted{eventFor(webhook, false)}, &postrider.IdempotencyKey{Key: "k"})
				return err
			},
			"read": func() error {
				_, err := s.Attempts(t.Context(), postrider.AttemptFilter{Tenant: "a", Limit: 1})
				return err
			},
			"change": func() error {
				return s.CreateTenant(t.Context(), postrider.Tenant{Name: "acme", CreatedAt: time.Now()})
			},
			"ping": func() error { return s.Ping(t.Context()) },
		} {
			start := time.Now()
			e, ok := errors.AsType[*postrider.Error](call())
			if !ok || e.Kind != postrider.Unavailable || e.RetryAfter <= 0 {
				t.Errorf("%s: got error %v, want unavailable, and when to try again", name, e)
			}
			if took := time.Since(start); took > connectWait+acquireWait {
				t.Errorf("%s: got the error after %v", name, took)
			}
		}
		if err := server.Restart(); err != nil {
			t.Fatal(err)
		}
		back := time.Now()
		for {
			_, err := s.Accept(t.Context(), []postrider.Accepted{eventFor(webhook, true)}, nil)
			if err == nil && s.Ping(t.Context()) == nil && time.Now().Before(s.Lease()) {
				break
			}
			if time.Since(back) > recoveryBound {
				t.Fatalf("got error %v and lease until %v, %v after the database's return", err, s.Lease(), time.Since(back))
			}
			<-time.After(20 * time.Millisecond)
		}
	}
	// What was claimed before is still this node's: it was not away for a lease.
	if err := s.Settle(t.Context(), []postrider.Settlement{done(&postrider.Delivery{DeliveryKey: postrider.DeliveryKey{
		Tenant: "default", EventID: before[0], WebhookID: webhook,
	}})}); err != nil {
		t.Fatal(err)
	}
	if _, deliveries, err := s.Event(t.Context(), "default", before[0]); err != nil || deliveries[0].State != postrider.DeliverySucceeded {
		t.Errorf("got %+v, %v, want it settled", deliveries, err)
	}
}

// A stall stands between a node and the database: while it lasts, nothing
// passes, and nobody is told so. It can also lose answers, and end the connections
// on which they came.
type stall struct {
	listener net.Listener
	loses    atomic.Bool
	all      sync.WaitGroup
	mu       sync.Mutex
	open     chan struct{} // while it is not closed, nothing passes
	ends     []net.Conn
}

// newStall stands before the database that the options name.
func newStall(t *testing.T, o *Options) *stall {
	t.Helper()
	at, err := url.Parse(o.URL)
	if err != nil {
		t.Fatal(err)
	}
	to := at.Host
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed with the test
	if err != nil {
		t.Fatal(err)
	}
	at.Host = listener.Addr().String()
	o.URL = at.String()
	s := &stall{listener: listener, open: make(chan struct{})}
	s.end()
	s.all.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to) //nolint:noctx // it is closed with the test
			if err != nil {
				near.Close()
				continue
			}
			s.mu.Lock()
			s.ends = append(s.ends, near, far)
			s.mu.Unlock()
			s.all.Go(func() { s.pass(far, near, func() bool { return false }) })
			s.all.Go(func() { s.pass(near, far, s.loses.Load) })
		}
	})
	t.Cleanup(func() {
		s.end()
		listener.Close()
		s.mu.Lock()
		for _, c := range s.ends {
			c.Close()
		}
		s.mu.Unlock()
		s.all.Wait()
	})
	return s
}

func (s *stall) pass(to, from net.Conn, lost func() bool) {
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		s.mu.Lock()
		open := s.open
		s.mu.Unlock()
		<-open
		if lost() {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (s *stall) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = make(chan struct{})
}

func (s *stall) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.open:
	default:
		close(s.open)
	}
}

// A database that takes what it is sent and never answers is worse than one
// that is down: whoever is under way waits for as long as a transaction may take.
func TestOutage_AHangIsWaitedForSoLongAndNoLonger(t *testing.T) {
	o := options(newDatabase(t))
	between := newStall(t, &o)
	s := openWith(t, o)
	webhook := postrider.NewID()
	accept(t, s, eventFor(webhook, false))
	between.begin()
	refused := func(name string, most time.Duration) {
		start := time.Now()
		_, err := s.Accept(t.Context(), []postrider.Accepted{eventFor(webhook, false)}, nil)
		took := time.Since(start)
		t.Logf("%s: %v", name, took)
		if e, ok := errors.AsType[*postrider.Error](err); !ok || e.Kind != postrider.Unavailable {
			t.Errorf("%s: got error %v, want unavailable", name, err)
		}
		if took > most+time.Second {
			t.Errorf("%s: got the answer after %v, want %v at most", name, took, most)
		}
	}
	var both sync.WaitGroup
	both.Go(func() { refused("under way", writeTimeout) })
	<-time.After(100 * time.Millisecond)
	both.Go(func() { refused("behind it", writeTimeout+connectWait) })
	both.Wait()
	refused("later", connectWait)
	<-time.After(2 * redialAfter)
	refused("later still", connectWait)
	between.end()
	back := time.Now()
	for {
		if _, err := s.Accept(t.Context(), []postrider.Accepted{eventFor(webhook, false)}, nil); err == nil {
			break
		}
		if time.Since(back) > recoveryBound {
			t.Fatalf("got nothing accepted %v after the database's return", time.Since(back))
		}
		<-time.After(20 * time.Millisecond)
	}
}

// What was committed without this node's hearing of it is claimed by a node that
// is alive and does not know: nobody would ever send it.
func TestOutage_AClaimOfWhichTheNodeNeverHeardIsFreed(t *testing.T) {
	for name, lose := range map[string]func(*testing.T, *Store, postrider.ID) error{
		"an event that was accepted": func(t *testing.T, s *Store, webhook postrider.ID) error {
			_, err := s.Accept(t.Context(), []postrider.Accepted{eventFor(webhook, true)}, nil)
			return err
		},
		"a claim": func(t *testing.T, s *Store, webhook postrider.ID) error {
			_, err := s.Claim(t.Context(), webhook, postrider.ClaimLimit{Rows: 10, Bytes: 1 << 20})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(newDatabase(t))
			between := newStall(t, &o)
			s := openWith(t, o)
			webhook := postrider.NewID()
			waiting := accept(t, s, eventFor(webhook, false))
			run := s.run.Load()
			between.loses.Store(true)
			if err := lose(t, s, webhook); err == nil {
				t.Fatal("got no error, though the answer was lost")
			}
			between.loses.Store(false)
			beat(t, s)
			if s.run.Load() == run {
				t.Error("got the same run, want another whose claims are all known")
			}
			want := 1
			if name != "a claim" {
				want = 2
			}
			if got := claim(t, s, webhook, 10, false); len(got.Deliveries) != want || got.Deliveries[0].EventID != waiting[0] {
				t.Errorf("got %+v, want %d deliveries, of %s and what was committed", got.Deliveries, want, waiting[0])
			}
		})
	}
}

// A transaction that the server itself has refused leaves no doubt.
func TestOutage_WhatIsRefusedIsNotDoubted(t *testing.T) {
	s := openNode(t, newDatabase(t))
	again := eventFor(postrider.NewID(), true)
	accept(t, s, again)
	if _, err := s.Accept(t.Context(), []postrider.Accepted{again}, nil); err == nil {
		t.Fatal("got the same event accepted twice")
	}
	run := s.run.Load()
	beat(t, s)
	if s.run.Load() != run || s.doubted.Load() != 0 {
		t.Errorf("got run %d after %d, want the same", s.run.Load(), run)
	}
}

func TestOpen_NodesThatStartAtOnceMakeTheSchemaOnce(t *testing.T) {
	if err := cluster.Do(t.Context(), "postgres", `CREATE DATABASE empty`); err != nil {
		t.Fatal(err)
	}
	const nodes = 4
	errs := make([]error, nodes)
	var all sync.WaitGroup
	for i := range nodes {
		all.Go(func() {
			s, err := Open(t.Context(), options("empty"))
			if err == nil {
				err = s.Close()
			}
			errs[i] = err
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

func TestOpen_AnOlderNodeWorksOnANewerSchema(t *testing.T) {
	database := newDatabase(t)
	if err := cluster.Do(t.Context(), database,
		`INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)`,
		`ALTER TABLE webhooks ADD COLUMN of_the_future text`); err != nil {
		t.Fatal(err)
	}
	s := openNode(t, database)
	accept(t, s, eventFor(postrider.NewID(), false))
}

func TestOpen_NamesSettingsThatBreakThePromise(t *testing.T) {
	var log strings.Builder
	o := options(newDatabase(t))
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, setting := range []string{"fsync = off", "full_page_writes = off", "synchronous_commit = off"} {
		if !strings.Contains(log.String(), setting) {
			t.Errorf("got log %q, want it to name %s", log.String(), setting)
		}
	}
}

func TestOpen_AnErrorDoesNotShowThePassword(t *testing.T) {
	for _, url := range []string{"postgres://u:s3cret@127.0.0.1:1/x", "postgres://u:s3cret@%zz/x", "postgres://u:s3cret@127.0.0.1:1/x?sslmode=none"} {
		o := options("postgres")
		o.URL = url
		s, err := Open(t.Context(), o)
		if err == nil {
			t.Fatalf("got a store: %v", s.Close())
		}
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("got %q", err)
		}
	}
}
