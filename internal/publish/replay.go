package publish

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"postrider"
)

// A ReplayStore keeps replays and takes their steps.
type ReplayStore interface {
	CreateReplay(context.Context, postrider.Replay) error
	Replay(ctx context.Context, tenant string, id postrider.ID) (postrider.Replay, error)
	CancelReplay(ctx context.Context, tenant string, id postrider.ID) (postrider.Replay, error)
	// AdvanceReplay takes one small step, and queues up to room deliveries.
	AdvanceReplay(ctx context.Context, was postrider.Replay, room int) (postrider.Replay, error)
	OpenReplays(context.Context) ([]postrider.Replay, error)
}

// ReplayOptions are a Replayer's settings.
type ReplayOptions struct {
	Store ReplayStore
	// Webhook returns a tenant's webhook.
	Webhook func(tenant string, id postrider.ID) (postrider.Webhook, error)
	// Wake makes a webhook's lane look for work in the store.
	Wake func(webhook postrider.ID)
	// Shared is set when other nodes take steps of the same replays, too.
	Shared bool
	Logger *slog.Logger // nil: nowhere
}

// A Replayer sends past deliveries again. It may be used concurrently. All that
// it knows of a replay is in the store, so that one goes on after a restart.
type Replayer struct {
	o    ReplayOptions
	wake chan struct{}
	runs map[postrider.ID]replayRun // of running replays; Run's own
}

// A replayRun is how far this node has seen a replay come.
type replayRun struct {
	taken int       // deliveries queued or skipped, by whichever node
	next  time.Time // when the one after them is due
}

// NewReplayer makes a Replayer. It starts nothing.
func NewReplayer(o ReplayOptions) *Replayer {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Replayer{o: o, wake: make(chan struct{}, 1), runs: map[postrider.ID]replayRun{}}
}

const (
	// dryRunPatience is for how long the caller of a dry run is kept waiting for
	// its count; one that takes longer goes on by itself.
	dryRunPatience = 2 * time.Second
	// collectPause lets others read between two steps of a search.
	collectPause = 2 * time.Millisecond
	// queuePause is the shortest time between two steps that queue, so that
	// high rates share commits.
	queuePause = 50 * time.Millisecond
	// fullPause is the wait for a webhook that has enough in its queue.
	fullPause = time.Second
	// replayLook is how often other nodes' replays are looked for.
	replayLook = 5 * time.Second
	// replayRoom is how many deliveries one step queues at most.
	replayRoom = 100
)

// StartReplay begins a replay; empty fields mean the defaults. Of a dry run it
// usually returns the end.
func (r *Replayer) StartReplay(ctx context.Context, asked postrider.Replay) (postrider.Replay, error) {
	if _, err := r.o.Webhook(asked.Tenant, asked.WebhookID); err != nil {
		return asked, err
	}
	start := time.Now()
	asked.ID, asked.CreatedAt, asked.State = postrider.NewID(), start.UTC().Truncate(time.Microsecond), postrider.ReplayCollecting
	asked.Status = cmp.Or(asked.Status, postrider.ReplayFailed)
	asked.Rate = cmp.Or(asked.Rate, postrider.DefaultReplayRate)
	if asked.To.IsZero() || asked.To.After(asked.CreatedAt) {
		asked.To = asked.CreatedAt
	}
	if err := asked.Check(); err != nil {
		return asked, err
	}
	if err := r.o.Store.CreateReplay(ctx, asked); err != nil {
		return asked, fmt.Errorf("start a replay: %w", err)
	}
	defer r.signal()
	replay, err := r.o.Store.Replay(ctx, asked.Tenant, asked.ID)
	for err == nil && replay.DryRun && !replay.State.Ended() && time.Since(start) < dryRunPatience {
		replay, err = r.o.Store.AdvanceReplay(ctx, replay, 0)
	}
	return replay, err
}

// Replay tells how far a replay is.
func (r *Replayer) Replay(ctx context.Context, tenant string, id postrider.ID) (postrider.Replay, error) {
	return r.o.Store.Replay(ctx, tenant, id)
}

// CancelReplay ends a replay. What it has queued is sent.
func (r *Replayer) CancelReplay(ctx context.Context, tenant string, id postrider.ID) (postrider.Replay, error) {
	defer r.signal()
	return r.o.Store.CancelReplay(ctx, tenant, id)
}

func (r *Replayer) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run takes the steps of all replays in turn, each at its own pace, until the
// context ends.
func (r *Replayer) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		wait, err := r.round(ctx)
		if err != nil && ctx.Err() == nil {
			r.o.Logger.Error("the replays wait for the store", "error", err)
			wait = fullPause
		}
		r.nap(ctx, wait)
	}
	return nil
}

// nap waits for a while, or for good when wait is negative, until there is
// another replay or the context ends.
func (r *Replayer) nap(ctx context.Context, wait time.Duration) {
	var due <-chan time.Time
	if wait >= 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-r.wake:
	case <-due:
	}
}

// round takes a step of each replay whose turn it is, and returns how long
// until that of the next one; negative: there is none.
func (r *Replayer) round(ctx context.Context) (wait time.Duration, err error) {
	open, err := r.o.Store.OpenReplays(ctx)
	if err != nil {
		return 0, err
	}
	if len(open) == 0 {
		clear(r.runs)
		if r.o.Shared {
			return replayLook, nil
		}
		return -1, nil
	}
	wait = fullPause
	for i := range open {
		until, err := r.step(ctx, open[i])
		if err != nil {
			return 0, fmt.Errorf("replay %s: %w", open[i].ID, err)
		}
		wait = min(wait, until)
	}
	return wait, nil
}

// step advances a replay if it is due, and returns how long until its next
// step.
func (r *Replayer) step(ctx context.Context, was postrider.Replay) (time.Duration, error) {
	if was.State != postrider.ReplayRunning {
		delete(r.runs, was.ID)
		_, err := r.o.Store.AdvanceReplay(ctx, was, 0)
		return collectPause, err
	}
	now := time.Now()
	gap := time.Duration(float64(time.Second) / was.Rate)
	before := was.Queued + was.Skipped
	run, started := r.runs[was.ID]
	if !started {
		run = replayRun{taken: before, next: now}
	}
	// What other nodes have queued since is part of the rate.
	run.next, run.taken = run.next.Add(time.Duration(before-run.taken)*gap), before
	r.runs[was.ID] = run
	if wait := run.next.Sub(now); wait > 0 {
		return wait, nil
	}
	room := min(replayRoom, int(now.Sub(run.next)/gap)+1)
	replay, err := r.o.Store.AdvanceReplay(ctx, was, room)
	if err != nil {
		return 0, err
	}
	if replay.Queued > was.Queued {
		r.o.Wake(was.WebhookID)
	}
	taken := replay.Queued + replay.Skipped - before
	run.taken, run.next = run.taken+taken, run.next.Add(time.Duration(taken)*gap)
	if taken < room && replay.State == postrider.ReplayRunning {
		run.next = now.Add(fullPause) // no burst afterwards for what was not queued meanwhile
	}
	r.runs[was.ID] = run
	return max(queuePause, run.next.Sub(now)), nil
}
