package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"postrider"
)

// A node says that it is alive every HeartbeatEvery. One that has said nothing
// for Lease is dead: its claims are free.
const (
	HeartbeatEvery = 2 * time.Second
	Lease          = 10 * time.Second
)

// endedKept is for how long the row of a dead node is kept at least: a
// transaction that it had under way may still be committed, and what that claims
// is freed, too.
const endedKept = 10 * time.Minute

// freedAtOnce bounds the rows that one transaction frees. A dead node may have
// any number of claims; all of them in one took longer than any statement may.
const freedAtOnce = 10_000

// rejoinAfter is for how long a node that was taken for dead has no lease.
const rejoinAfter = time.Second

const (
	changedChannel  = "postrider_changed"
	orphanedChannel = "postrider_orphaned"
)

const (
	joinSQL = `
INSERT INTO nodes (beat_at) VALUES (now())
RETURNING id, 1 + (SELECT count(*) FROM nodes n WHERE n.ended_at IS NULL AND n.beat_at > now() - $1::interval)`
	beatSQL = `
UPDATE nodes SET beat_at = now(), name = $3, version = $4, address = $5 WHERE id = $1 AND ended_at IS NULL
RETURNING (SELECT count(*) FROM nodes n WHERE n.ended_at IS NULL AND n.beat_at > now() - $2::interval)`
	// endDeadSQL leaves out whom another node is just ending, or who is saying
	// that it is alive: nobody's heartbeat waits for another's.
	endDeadSQL = `
UPDATE nodes SET ended_at = now() WHERE id = ANY (ARRAY(
    SELECT id FROM nodes WHERE ended_at IS NULL AND beat_at < now() - $1::interval FOR UPDATE SKIP LOCKED)) RETURNING id`
	// freeClaimsSQL also frees what a node claimed by a transaction that was
	// committed after its end. What others are freeing is left to them.
	freeClaimsSQL = `
UPDATE queue SET node = NULL WHERE ctid = ANY (ARRAY(
    SELECT q.ctid FROM nodes n JOIN queue q ON q.node = n.id WHERE n.ended_at IS NOT NULL LIMIT $1 FOR UPDATE OF q SKIP LOCKED))`
	freeLanesSQL = `
DELETE FROM lanes WHERE ctid = ANY (ARRAY(
    SELECT l.ctid FROM nodes n JOIN lanes l ON l.node = n.id WHERE n.ended_at IS NOT NULL LIMIT $1 FOR UPDATE OF l SKIP LOCKED))`
	// Of a node that is forgotten nobody would free what it still had.
	forgetNodesSQL = `
DELETE FROM nodes n WHERE n.ended_at < now() - $1::interval
    AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.node = n.id) AND NOT EXISTS (SELECT 1 FROM lanes l WHERE l.node = n.id)`
	tellSQL = `SELECT pg_notify($1, '')`
	// Ages, since the reader's clock is another one.
	aliveNodesSQL = `
SELECT id, name, version, address, extract(epoch FROM now() - started_at)::float8, extract(epoch FROM now() - beat_at)::float8
FROM nodes WHERE ended_at IS NULL AND beat_at > now() - $1::interval ORDER BY id LIMIT $2`
	endSQL = `UPDATE nodes SET ended_at = now() WHERE id = $1`
)

// Nobody holds the lock of nodes for long but who works on the store alone.
var errBusy = errors.New("the database is being exported, filled by an import, or encrypted with another key: start again after that")

// join makes this process a node, with a new run id. It knows from the start of
// the others, and takes its part of budgets and rates only.
func (s *Store) join(ctx context.Context) error {
	start := time.Now()
	var run, alive int64
	if err := s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, joinSQL, Lease).Scan(&run, &alive)
	}); err != nil {
		if hasCode(err, lockNotAvailable) {
			err = errBusy
		}
		return fmt.Errorf("become a node: %w", err)
	}
	s.run.Store(run)
	s.nodes.Store(alive)
	s.extend(start)
	return nil
}

// leave gives up what this node has claimed, at once. What there is no time for
// the others free, or the next node that starts: its end comes first.
func (s *Store) leave() error {
	run := s.run.Swap(0)
	if run == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	if err := s.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, endSQL, run)
		return err
	}); err != nil {
		return fmt.Errorf("give up this node's claims: %w", err)
	}
	if err := s.freeEnded(ctx); err != nil {
		s.o.Logger.Warn("this node's claims are left for others to free", "run", run, "error", err)
	}
	return nil
}

// freeEnded frees the claims and lanes of the nodes that have ended, part by
// part, and tells all nodes after each. Any number of nodes may do it at once.
func (s *Store) freeEnded(ctx context.Context) error {
	for _, sql := range []string{freeLanesSQL, freeClaimsSQL} {
		for freed := int64(freedAtOnce); freed == freedAtOnce; {
			var err error
			if freed, err = s.freePart(ctx, sql); err != nil {
				return fmt.Errorf("free what dead nodes had claimed: %w", err)
			}
		}
	}
	return nil
}

func (s *Store) freePart(ctx context.Context, sql string) (freed int64, err error) {
	err = s.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		done, err := tx.Exec(ctx, sql, freedAtOnce)
		if err != nil {
			return err
		}
		if freed = done.RowsAffected(); freed > 0 {
			_, err = tx.Exec(ctx, tellSQL, orphanedChannel)
		}
		return err
	})
	if err == nil && freed > 0 {
		signal(s.orphaned)
	}
	return freed, err
}

// extend moves the lease on. It counts from before the heartbeat was sent, so
// that it is over here before it is over in the database.
func (s *Store) extend(start time.Time) {
	until := start.Add(Lease)
	s.lease.Store(&until)
}

// Lease is until when, by this process's monotonic clock, nobody else sends
// what this node has claimed. A lease that was over may begin anew: what was
// claimed before is then another's.
func (s *Store) Lease() time.Time {
	if until := s.lease.Load(); until != nil {
		return *until
	}
	return time.Time{}
}

// Nodes is how many nodes are alive, this one among them.
func (s *Store) Nodes() int { return int(s.nodes.Load()) }

// Orphaned signals that another node's claims came free.
func (s *Store) Orphaned() <-chan struct{} { return s.orphaned }

// shownNodes bounds what Alive returns.
const shownNodes = 1000

// Alive are the nodes that are alive, the oldest first. One that has just
// started has no name until its first heartbeat.
func (s *Store) Alive(ctx context.Context) ([]postrider.Node, error) {
	run, now := s.run.Load(), time.Now()
	return readAll(ctx, s, aliveNodesSQL, []any{Lease, shownNodes}, func(row pgx.CollectableRow) (postrider.Node, error) {
		var n postrider.Node
		var started, beat float64
		err := row.Scan(&n.Run, &n.Name, &n.Version, &n.Address, &started, &beat)
		n.StartedAt, n.BeatAt, n.Self = now.Add(-seconds(started)), now.Add(-seconds(beat)), n.Run == run
		return n, err
	})
}

// beat says that this node is alive, and what it is called, and ends the dead
// ones. A node that was taken for dead becomes another one: its claims are gone.
// So does one that may have claimed what it does not know of, in a transaction of
// which it never heard the end: nobody would send that while the node is alive.
func (s *Store) beat(ctx context.Context, self postrider.Node) error {
	ctx, cancel := context.WithTimeout(ctx, Lease/2)
	defer cancel()
	start, run := time.Now(), s.run.Load()
	var alive int64
	err := s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		if s.doubted.Load() == run {
			if _, err := c.Exec(ctx, endSQL, run); err != nil {
				return err
			}
			s.o.Logger.Warn("the end of a transaction is not known; what this node has claimed is claimed anew", "run", run)
		}
		return c.QueryRow(ctx, beatSQL, run, Lease, self.Name, self.Version, self.Address).Scan(&alive)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		if s.doubted.Load() != run {
			s.o.Logger.Warn("this node was taken for dead; what it had claimed is another's", "run", run)
		}
		s.lease.Store(new(time.Time)) // over, and seen to be over before it begins anew
		if !wait(ctx, rejoinAfter) {
			return ctx.Err()
		}
		if err := s.join(ctx); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("say that this node is alive: %w", err)
	default:
		s.extend(start)
		s.nodes.Store(max(1, alive))
	}
	return s.endDead(ctx)
}

// endDead ends dead nodes and forgets those of long ago. What they had claimed
// is freed beside the heartbeat, however much it is.
func (s *Store) endDead(ctx context.Context) error {
	var dead []int64
	err := s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		found, err := c.Query(ctx, endDeadSQL, Lease)
		if err != nil {
			return err
		}
		if dead, err = pgx.CollectRows(found, pgx.RowTo[int64]); err != nil {
			return err
		}
		_, err = c.Exec(ctx, forgetNodesSQL, endedKept)
		return err
	})
	if len(dead) > 0 {
		s.o.Logger.Warn("a node has died; what it had claimed is given to others", "runs", dead)
	}
	if err != nil {
		return fmt.Errorf("end dead nodes: %w", err)
	}
	signal(s.ended)
	return nil
}

// bury frees what dead nodes had claimed, after each heartbeat.
func (s *Store) bury(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.ended:
		}
		if err := s.freeEnded(ctx); err != nil && ctx.Err() == nil {
			s.o.Logger.Error("dead nodes still have claims, which are tried again", "error", err)
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// housekeepEvery is how often a node looks whether there is something to tidy.
const housekeepEvery = 15 * time.Minute

// Run keeps this node alive until the context ends: it says so to the others,
// with its name, version and address, listens to them, and does its part of the
// housekeeping. A database that is away is waited for.
func (s *Store) Run(ctx context.Context, self postrider.Node) error {
	var beside sync.WaitGroup
	defer beside.Wait()
	for _, part := range []func(context.Context){s.listen, s.tidy, s.bury} {
		beside.Go(func() { part(ctx) })
	}
	failing := false
	for {
		err := s.beat(ctx, self)
		if ctx.Err() != nil {
			return nil
		}
		if failed := err != nil; failed != failing {
			failing = failed
			if failed {
				s.o.Logger.Error("the database does not answer", "error", err)
			} else {
				s.o.Logger.Info("the database answers again")
			}
		}
		if err == nil {
			s.writeTallies(ctx)
		}
		pause := HeartbeatEvery
		if failing {
			pause = HeartbeatEvery / 4 // back in time when it returns
		}
		if !wait(ctx, pause) {
			return nil
		}
	}
}

// wait reports whether the context lasted that long.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// listen turns the other nodes' notifications into signals, on a connection of
// its own. One that had to be made again may have missed some.
func (s *Store) listen(ctx context.Context) {
	for {
		err := s.listenOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		s.o.Logger.Debug("the connection that listens to other nodes is made again", "error", err)
		if !wait(ctx, time.Second) {
			return
		}
	}
}

func (s *Store) listenOnce(ctx context.Context) (err error) {
	c, err := pgx.ConnectConfig(ctx, s.config)
	if err != nil {
		return withoutPassword(err)
	}
	defer func() { err = errors.Join(err, c.Close(context.WithoutCancel(ctx))) }()
	if _, err := c.Exec(ctx, `LISTEN `+changedChannel+`; LISTEN `+orphanedChannel); err != nil {
		return err
	}
	signal(s.changed)
	signal(s.orphaned)
	for {
		told, err := c.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		if told.Channel == changedChannel {
			signal(s.changed)
		} else {
			signal(s.orphaned)
		}
	}
}

// tidy does the housekeeping, if no other node does.
func (s *Store) tidy(ctx context.Context) {
	for {
		if err := s.housekeep(ctx); err != nil && ctx.Err() == nil {
			s.o.Logger.Error("the database was not tidied", "error", err)
		}
		if !wait(ctx, housekeepEvery) {
			return
		}
	}
}

// housekeep makes the days ahead, removes what is old, and gives back what the
// queue does not need. An advisory lock elects the node that does it.
func (s *Store) housekeep(ctx context.Context) (err error) {
	if err := s.makeDays(ctx); err != nil {
		return err
	}
	c, err := pgx.ConnectConfig(ctx, s.patient())
	if err != nil {
		return fmt.Errorf("connect for housekeeping: %w", withoutPassword(err))
	}
	defer func() { err = errors.Join(err, c.Close(context.WithoutCancel(ctx))) }() // which frees the lock
	var elected bool
	if err := c.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, int64(housekeepingLock)).Scan(&elected); err != nil || !elected {
		return err
	}
	if err := expire(ctx, c); err != nil {
		return err
	}
	if s.o.Retention != 0 {
		if err := s.DropHistory(ctx, s.o.Retention); err != nil {
			return err
		}
	}
	return s.shrinkQueue(ctx, c, spareBytes)
}

// patient is the configuration of a connection for long work.
func (s *Store) patient() *pgx.ConnConfig {
	config := s.config.Copy()
	config.RuntimeParams["statement_timeout"] = "0"
	config.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	return config
}

// expiries remove what is over, a bounded part in each statement.
var expiries = []string{
	`DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(SELECT ctid FROM idempotency_keys
    WHERE expires_at <= now() ORDER BY expires_at LIMIT 5000))`,
	`DELETE FROM sessions WHERE ctid = ANY (ARRAY(SELECT ctid FROM sessions WHERE expires_at <= now() ORDER BY expires_at LIMIT 5000))`,
	`DELETE FROM tallies WHERE ctid = ANY (ARRAY(SELECT ctid FROM tallies
    WHERE minute < extract(epoch FROM now() - interval '` + fmt.Sprint(int(postrider.MaxTally.Hours())) + ` hours')::bigint / 60 LIMIT 5000))`,
	`DELETE FROM changes WHERE revision < (SELECT n FROM revision) AND ctid = ANY (ARRAY(SELECT c.ctid FROM (
    SELECT ctid, changed_at FROM changes ORDER BY revision LIMIT 5000) c WHERE c.changed_at < now() - interval '7 days'))`,
}

func expire(ctx context.Context, c *pgx.Conn) error {
	for _, sql := range expiries {
		for {
			done, err := c.Exec(ctx, sql)
			if err != nil {
				return fmt.Errorf("remove what has expired: %w", err)
			}
			if done.RowsAffected() < 5000 {
				break
			}
		}
	}
	return nil
}
