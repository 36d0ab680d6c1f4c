package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"postrider"
)

const replayColumns = `tenant_id, id, webhook_id, from_at, to_at, status, events, dry_run, rate, state, after, total,
    queued, skipped, created_at, ended_at`

const (
	insertReplaySQL = `
INSERT INTO replays (` + replayColumns + `, open)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, true)`
	replaySQL        = `SELECT ` + replayColumns + ` FROM replays WHERE tenant_id = $1 AND id = $2`
	lockReplaySQL    = replaySQL + ` FOR UPDATE`
	openReplaysSQL   = `SELECT ` + replayColumns + ` FROM replays WHERE open ORDER BY id LIMIT $1`
	otherReplaySQL   = `SELECT id FROM replays WHERE open AND tenant_id = $1 AND webhook_id = $2 AND ended_at IS NULL`
	updateReplaySQL  = `UPDATE replays SET state = $3, after = $4, total = $5, queued = $6, skipped = $7, ended_at = $8 WHERE tenant_id = $1 AND id = $2`
	closeReplaySQL   = `UPDATE replays SET open = false WHERE tenant_id = $1 AND id = $2`
	forgetReplaysSQL = `DELETE FROM replays WHERE NOT open AND ended_at < $1`
	webhookExistsSQL = `SELECT 1 FROM webhooks WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL`
	countQueuedSQL   = `
SELECT count(*) FROM (
    (SELECT 1 FROM queue WHERE webhook_id = $1 AND node IS NULL LIMIT $2)
    UNION ALL
    (SELECT 1 FROM nodes n JOIN queue q ON q.node = n.id AND q.webhook_id = $1 LIMIT $2)
) AS ahead`
	// The attempts of a webhook in the order in which they were recorded, each
	// with whether the delivery is in the queue.
	replayedAttemptsSQL = `
SELECT page.id, page.event_id, page.number, page.status, q.event_id IS NOT NULL
FROM (SELECT id, tenant_id, event_id, webhook_id, number, status FROM attempts
    WHERE tenant_id = $1 AND webhook_id = $2 AND id > $3 ORDER BY id LIMIT $4) AS page
LEFT JOIN queue q ON q.tenant_id = page.tenant_id AND q.event_id = page.event_id AND q.webhook_id = page.webhook_id
ORDER BY page.id`
	replayedEventsSQL = `
SELECT e.id, e.type, e.created_at, e.day FROM unnest($2::text[], $3::date[]) AS k (id, day)
JOIN events e ON e.tenant_id = $1 AND e.id = k.id AND e.day = k.day`
	collectSQL = `
INSERT INTO replay_deliveries AS d (tenant_id, replay_id, accepted_at, event_id, day, attempts) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id, replay_id, accepted_at, event_id) DO UPDATE SET attempts = excluded.attempts
RETURNING (xmax = 0)`
	dropCollectedSQL = `DELETE FROM replay_deliveries WHERE tenant_id = $1 AND replay_id = $2 AND accepted_at = $3 AND event_id = $4`
	clearReplaySQL   = `
DELETE FROM replay_deliveries WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM replay_deliveries WHERE tenant_id = $1 AND replay_id = $2 LIMIT $3))`
	// A delivery that is in the queue is on its way by itself, and one whose
	// event is not kept any more has nothing to be sent.
	queueCollectedSQL = `
WITH page AS (
    DELETE FROM replay_deliveries WHERE ctid = ANY (ARRAY(SELECT ctid FROM replay_deliveries
        WHERE tenant_id = $1 AND replay_id = $2 ORDER BY accepted_at, event_id LIMIT $4))
    RETURNING accepted_at, event_id, day, attempts
), queued AS (
    INSERT INTO queue (tenant_id, event_id, webhook_id, trigger, attempts, accepted_at, due_at, day, size)
    SELECT e.tenant_id, e.id, $3, $5, p.attempts, now(), now(), e.day, octet_length(e.payload)
    FROM (SELECT accepted_at, event_id, day, attempts FROM page ORDER BY accepted_at, event_id) p JOIN events e ON e.tenant_id = $1 AND e.id = p.event_id AND e.day = p.day
    ORDER BY p.accepted_at, p.event_id
    ON CONFLICT DO NOTHING RETURNING 1
)
SELECT (SELECT count(*) FROM page), (SELECT count(*) FROM queued)`
)

const (
	// replayPage is how many attempts one step of a replay looks at.
	replayPage = 500
	// replayClear is how many collected deliveries one step forgets.
	replayClear = 1000
	// replayAhead is how many deliveries of its webhook may wait in the queue
	// while a replay adds to them: an event that comes now waits behind no more.
	replayAhead = 500
	// replaysKept is for how long one that has ended can be looked at.
	replaysKept = 30 * 24 * time.Hour
	// openReplays bounds what one look at the open replays brings.
	openReplays = 1000
)

// CreateReplay stores a new replay. A webhook has one at a time, over all
// nodes.
func (s *Store) CreateReplay(ctx context.Context, r postrider.Replay) error {
	r.After = idAt(r.From)
	if r.Events == nil {
		r.Events = []string{}
	}
	err := s.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, forgetReplaysSQL, r.CreatedAt.Add(-replaysKept)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, insertReplaySQL, r.Tenant, r.ID, r.WebhookID, optional(r.From), r.To, r.Status, r.Events, r.DryRun, r.Rate,
			r.State, r.After, r.Total, r.Queued, r.Skipped, r.CreatedAt, optional(r.EndedAt))
		return err
	})
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.ConstraintName != "replays_running" {
		return err
	}
	other := "the other"
	err = s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		var id postrider.ID
		err := c.QueryRow(ctx, otherReplaySQL, r.Tenant, r.WebhookID).Scan(&id)
		if err == nil {
			other = id.String()
		}
		if errors.Is(err, pgx.ErrNoRows) {
			return nil // it has just ended
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("look for another replay: %w", err)
	}
	return &postrider.Error{
		Kind: postrider.Conflict, Code: "replay_running",
		Detail: fmt.Sprintf("The replay %s of this webhook is not done. Wait for it, or cancel it with DELETE /v0/replays/%s.", other, other),
	}
}

// Replay returns a tenant's replay.
func (s *Store) Replay(ctx context.Context, tenant string, id postrider.ID) (r postrider.Replay, err error) {
	err = s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		r, err = oneReplay(c.QueryRow(ctx, replaySQL, tenant, id))
		return err
	})
	return r, err
}

// OpenReplays returns those that AdvanceReplay still has something to do for.
func (s *Store) OpenReplays(ctx context.Context) ([]postrider.Replay, error) {
	list, err := readAll(ctx, s, openReplaysSQL, []any{openReplays}, func(row pgx.CollectableRow) (postrider.Replay, error) {
		return scanReplay(row)
	})
	if err != nil {
		return nil, fmt.Errorf("read the open replays: %w", err)
	}
	return list, nil
}

// CancelReplay ends a replay; what it has queued stays queued. One that has
// ended stays as it is.
func (s *Store) CancelReplay(ctx context.Context, tenant string, id postrider.ID) (r postrider.Replay, err error) {
	err = s.transact(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		if r, err = oneReplay(tx.QueryRow(ctx, lockReplaySQL, tenant, id)); err != nil || r.State.Ended() {
			return err
		}
		return endReplay(ctx, tx, &r, postrider.ReplayStopped)
	})
	return r, err
}

// AdvanceReplay takes the next step of a replay, a small one: it looks at some
// attempts, or queues up to room deliveries, or forgets some that were
// collected. It does nothing when the replay is not as given any more, because
// another node has taken that step. It returns what has become of it.
func (s *Store) AdvanceReplay(ctx context.Context, was postrider.Replay, room int) (r postrider.Replay, err error) {
	r = was
	err = s.transact(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		if r, err = oneReplay(tx.QueryRow(ctx, lockReplaySQL, was.Tenant, was.ID)); err != nil {
			return err
		}
		if r.State != was.State || r.After != was.After || r.Queued+r.Skipped != was.Queued+was.Skipped {
			return nil
		}
		if r.State.Ended() {
			return clearReplay(ctx, tx, &r)
		}
		var one int
		switch err := tx.QueryRow(ctx, webhookExistsSQL, r.Tenant, r.WebhookID).Scan(&one); {
		case errors.Is(err, pgx.ErrNoRows):
			return endReplay(ctx, tx, &r, postrider.ReplayStopped)
		case err != nil:
			return fmt.Errorf("look for the replay's webhook: %w", err)
		}
		if r.State == postrider.ReplayCollecting {
			return collect(ctx, tx, &r)
		}
		return queueCollected(ctx, tx, &r, room)
	})
	return r, err
}

// A replayed attempt, as a replay looks at it.
type replayed struct {
	id      postrider.ID
	eventID string
	number  int
	status  postrider.AttemptStatus
	queued  bool
}

// A replayedEvent is what decides whether it is sent again.
type replayedEvent struct {
	kind     string
	accepted time.Time
	day      time.Time
}

func replayedAttempts(ctx context.Context, tx pgx.Tx, r *postrider.Replay) ([]replayed, error) {
	found, err := tx.Query(ctx, replayedAttemptsSQL, r.Tenant, r.WebhookID, r.After, replayPage)
	if err != nil {
		return nil, fmt.Errorf("read attempts to replay: %w", err)
	}
	return pgx.CollectRows(found, func(row pgx.CollectableRow) (a replayed, err error) {
		err = row.Scan(&a.id, &a.eventID, &a.number, &a.status, &a.queued)
		return a, err
	})
}

func replayedEvents(ctx context.Context, tx pgx.Tx, tenant string, found []replayed) (map[string]replayedEvent, error) {
	ids := make([]string, 0, len(found))
	for i := range found {
		ids = append(ids, found[i].eventID)
	}
	days, err := eventDays(ctx, tx, tenant, ids)
	if err != nil {
		return nil, err
	}
	list, at := make([]string, 0, len(days)), make([]time.Time, 0, len(days))
	for id, of := range days {
		list, at = append(list, id), append(at, of.start())
	}
	rows, err := tx.Query(ctx, replayedEventsSQL, tenant, list, at)
	if err != nil {
		return nil, fmt.Errorf("read events to replay: %w", err)
	}
	events := make(map[string]replayedEvent, len(days))
	var id string
	var e replayedEvent
	_, err = pgx.ForEachRow(rows, []any{&id, &e.kind, &e.accepted, &e.day}, func() error {
		events[id] = e
		return nil
	})
	return events, err
}

// collect keeps the deliveries whose last attempt is one of those asked for. A
// later attempt of the same delivery takes it out again when it is not.
func collect(ctx context.Context, tx pgx.Tx, r *postrider.Replay) error {
	found, err := replayedAttempts(ctx, tx, r)
	if err != nil {
		return err
	}
	events, err := replayedEvents(ctx, tx, r.Tenant, found)
	if err != nil {
		return err
	}
	for i := range found {
		a := &found[i]
		r.After = a.id
		e, kept := events[a.eventID]
		if !kept || !r.Takes(e.kind, e.accepted) {
			continue
		}
		if a.queued || !r.Status.Takes(a.status) {
			done, err := tx.Exec(ctx, dropCollectedSQL, r.Tenant, r.ID, e.accepted, a.eventID)
			if err != nil {
				return err
			}
			r.Total -= int(done.RowsAffected())
			continue
		}
		var added bool
		if err := tx.QueryRow(ctx, collectSQL, r.Tenant, r.ID, e.accepted, a.eventID, e.day, a.number).Scan(&added); err != nil {
			return err
		}
		if added {
			r.Total++
		}
	}
	switch {
	case len(found) == replayPage:
	case r.DryRun:
		return endReplay(ctx, tx, r, postrider.ReplayDone)
	default:
		r.State = postrider.ReplayRunning
	}
	return saveReplay(ctx, tx, r)
}

// queueCollected queues the next deliveries, due at once and with their whole
// retry schedule before them.
func queueCollected(ctx context.Context, tx pgx.Tx, r *postrider.Replay, room int) error {
	var waiting int
	if err := tx.QueryRow(ctx, countQueuedSQL, r.WebhookID, replayAhead).Scan(&waiting); err != nil {
		return fmt.Errorf("count the webhook's queue: %w", err)
	}
	if room = min(room, replayAhead-waiting); room <= 0 {
		return nil
	}
	var taken, queued int
	if err := tx.QueryRow(ctx, queueCollectedSQL, r.Tenant, r.ID, r.WebhookID, room, postrider.TriggerReplay).Scan(&taken, &queued); err != nil {
		return fmt.Errorf("queue what a replay has collected: %w", err)
	}
	r.Queued += queued
	r.Skipped += taken - queued
	if taken < room {
		return endReplay(ctx, tx, r, postrider.ReplayDone)
	}
	return saveReplay(ctx, tx, r)
}

// clearReplay forgets what was collected and will not be queued.
func clearReplay(ctx context.Context, tx pgx.Tx, r *postrider.Replay) error {
	done, err := tx.Exec(ctx, clearReplaySQL, r.Tenant, r.ID, replayClear)
	if err == nil && done.RowsAffected() < replayClear {
		_, err = tx.Exec(ctx, closeReplaySQL, r.Tenant, r.ID)
	}
	return err
}

func endReplay(ctx context.Context, tx pgx.Tx, r *postrider.Replay, state postrider.ReplayState) error {
	if err := tx.QueryRow(ctx, clockSQL).Scan(&r.EndedAt); err != nil {
		return err
	}
	r.State, r.EndedAt = state, r.EndedAt.UTC()
	return saveReplay(ctx, tx, r)
}

func saveReplay(ctx context.Context, tx pgx.Tx, r *postrider.Replay) error {
	_, err := tx.Exec(ctx, updateReplaySQL, r.Tenant, r.ID, r.State, r.After, r.Total, r.Queued, r.Skipped, optional(r.EndedAt))
	return err
}

func oneReplay(row pgx.Row) (postrider.Replay, error) {
	r, err := scanReplay(row)
	if errors.Is(err, pgx.ErrNoRows) {
		return r, postrider.Missing("replay")
	}
	if err != nil {
		return r, fmt.Errorf("read a replay: %w", err)
	}
	return r, nil
}

func scanReplay(row pgx.Row) (r postrider.Replay, err error) {
	var from, ended *time.Time
	if err := row.Scan(&r.Tenant, &r.ID, &r.WebhookID, &from, &r.To, &r.Status, &r.Events, &r.DryRun, &r.Rate, &r.State, &r.After, &r.Total,
		&r.Queued, &r.Skipped, &r.CreatedAt, &ended); err != nil {
		return r, err
	}
	r.From, r.To, r.CreatedAt, r.EndedAt = fromOptional(from), r.To.UTC(), r.CreatedAt.UTC(), fromOptional(ended)
	if len(r.Events) == 0 {
		r.Events = nil
	}
	return r, nil
}
