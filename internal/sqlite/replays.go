package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"postrider"
)

const replayColumns = `tenant_id, id, webhook_id, from_at, to_at, status, events, dry_run, rate, state, after, total,
    queued, skipped, created_at, ended_at`

var (
	insertReplay = prepared(`
INSERT INTO replays (` + replayColumns + `, open) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)`)
	findReplay      = prepared(replaySQL)
	findOtherReplay = prepared(`SELECT id FROM replays WHERE open = 1 AND webhook_id = ? AND ended_at IS NULL`)
	updateReplay    = prepared(`UPDATE replays SET state = ?, after = ?, total = ?, queued = ?, skipped = ?, ended_at = ? WHERE tenant_id = ? AND id = ?`)
	closeReplay     = prepared(`UPDATE replays SET open = 0 WHERE tenant_id = ? AND id = ?`)
	forgetReplays   = prepared(`DELETE FROM replays WHERE open = 0 AND ended_at < ?`)
	findWebhook     = prepared(`SELECT 1 FROM webhooks WHERE tenant_id = ? AND id = ? AND deleted_at IS NULL`)
	countQueued     = prepared(`
SELECT (SELECT count(*) FROM (SELECT 1 FROM queue WHERE webhook_id = ?1 LIMIT ?2) AS ahead)
    + (SELECT coalesce(sum(size), 0) FROM (SELECT size FROM bundles WHERE webhook_id = ?1 LIMIT ?2) AS bundled)`)
	collectDelivery = prepared(`
INSERT INTO replay_deliveries (replay_id, accepted_at, event_id, attempts) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING`)
	recountDelivery = prepared(`UPDATE replay_deliveries SET attempts = ?4 WHERE replay_id = ?1 AND accepted_at = ?2 AND event_id = ?3`)
	dropCollected   = prepared(`DELETE FROM replay_deliveries WHERE replay_id = ? AND accepted_at = ? AND event_id = ?`)
	findCollected   = prepared(`
SELECT accepted_at, event_id, attempts FROM replay_deliveries WHERE replay_id = ? ORDER BY accepted_at, event_id LIMIT ?`)
	clearCollected = prepared(`
DELETE FROM replay_deliveries WHERE replay_id = ?1 AND (accepted_at, event_id) IN
    (SELECT accepted_at, event_id FROM replay_deliveries WHERE replay_id = ?1 LIMIT ?2)`)
	// A delivery that is in the queue is on its way by itself, and one whose
	// event is no longer kept cannot be sent.
	queueReplayed = prepared(`
INSERT INTO queue (tenant_id, event_id, webhook_id, trigger, attempts, retries, accepted_at, due_at)
SELECT ?1, ?2, ?3, ?4, ?5, 0, ?6, ?6 WHERE EXISTS (SELECT 1 FROM events WHERE tenant_id = ?1 AND id = ?2)
ON CONFLICT DO NOTHING`)
)

const (
	replaySQL      = `SELECT ` + replayColumns + ` FROM replays WHERE tenant_id = ? AND id = ?`
	openReplaysSQL = `SELECT ` + replayColumns + ` FROM replays WHERE open = 1 LIMIT ?`
	// The attempts of a webhook in the order in which they were recorded, each
	// with its event and whether the delivery is in the queue.
	replayedAttemptsSQL = `
SELECT page.id, page.event_id, page.number, page.status, coalesce(e.type, ''), coalesce(e.created_at, 0), q.event_id IS NOT NULL
FROM (SELECT id, tenant_id, event_id, webhook_id, number, status FROM attempts INDEXED BY attempts_webhook
    WHERE tenant_id = ? AND webhook_id = ? AND id > ? ORDER BY id LIMIT ?) AS page
LEFT JOIN events e ON e.tenant_id = page.tenant_id AND e.id = page.event_id
LEFT JOIN queue q ON q.tenant_id = page.tenant_id AND q.event_id = page.event_id AND q.webhook_id = page.webhook_id`
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

// CreateReplay stores a new replay. A webhook has one at a time.
func (s *Store) CreateReplay(ctx context.Context, r postrider.Replay) error {
	r.After = idAt(r.From)
	events, err := json.Marshal(r.Events)
	if err != nil {
		return fmt.Errorf("encode the replay's events: %w", err)
	}
	return s.write(ctx, func(tx tx) error {
		var other postrider.ID
		switch err := tx.queryRow(findOtherReplay, r.WebhookID[:]).Scan(scanID{&other}); {
		case err == nil:
			return &postrider.Error{
				Kind: postrider.Conflict, Code: "replay_running",
				Detail: fmt.Sprintf("The replay %s of this webhook is not done. Wait for it, or cancel it with DELETE /v0/replays/%s.", other, other),
			}
		case !errors.Is(err, sql.ErrNoRows):
			return fmt.Errorf("look for another replay: %w", err)
		}
		if _, err := tx.exec(forgetReplays, micros(r.CreatedAt.Add(-replaysKept))); err != nil {
			return err
		}
		_, err := tx.exec(insertReplay, r.Tenant, r.ID[:], r.WebhookID[:], optional(r.From), micros(r.To), string(r.Status),
			string(events), r.DryRun, r.Rate, string(r.State), r.After[:], r.Total, r.Queued, r.Skipped, micros(r.CreatedAt),
			optional(r.EndedAt))
		return err
	})
}

// Replay returns a tenant's replay.
func (s *Store) Replay(ctx context.Context, tenant string, id postrider.ID) (postrider.Replay, error) {
	return oneReplay(s.read.QueryRowContext(ctx, replaySQL, tenant, id[:]))
}

// OpenReplays returns those that AdvanceReplay still has something to do for.
func (s *Store) OpenReplays(ctx context.Context) ([]postrider.Replay, error) {
	rows, err := s.read.QueryContext(ctx, openReplaysSQL, openReplays)
	if err != nil {
		return nil, fmt.Errorf("read the open replays: %w", err)
	}
	defer rows.Close()
	var list []postrider.Replay
	for rows.Next() {
		r, err := scanReplay(rows)
		if err != nil {
			return nil, fmt.Errorf("read an open replay: %w", err)
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// CancelReplay ends a replay; what it has queued stays queued. One that has
// ended stays as it is.
func (s *Store) CancelReplay(ctx context.Context, tenant string, id postrider.ID) (r postrider.Replay, err error) {
	err = s.write(ctx, func(tx tx) (err error) {
		if r, err = oneReplay(tx.queryRow(findReplay, tenant, id[:])); err != nil || r.State.Ended() {
			return err
		}
		return endReplay(tx, &r, postrider.ReplayStopped)
	})
	return r, err
}

// AdvanceReplay takes the next step of a replay, a small one: it looks at some
// attempts, or queues up to room deliveries, or forgets some that were
// collected. It does nothing when the replay is not as given any more. It
// returns what has become of it.
func (s *Store) AdvanceReplay(ctx context.Context, was postrider.Replay, room int) (r postrider.Replay, err error) {
	var found []replayed
	if was.State == postrider.ReplayCollecting {
		if found, err = s.replayedAttempts(ctx, &was); err != nil {
			return was, err
		}
	}
	err = s.write(ctx, func(tx tx) (err error) {
		if r, err = oneReplay(tx.queryRow(findReplay, was.Tenant, was.ID[:])); err != nil {
			return err
		}
		if r.State != was.State || r.After != was.After {
			return nil
		}
		if r.State.Ended() {
			return clearReplay(tx, &r)
		}
		var one int
		switch err := tx.queryRow(findWebhook, r.Tenant, r.WebhookID[:]).Scan(&one); {
		case errors.Is(err, sql.ErrNoRows):
			return endReplay(tx, &r, postrider.ReplayStopped)
		case err != nil:
			return fmt.Errorf("look for the replay's webhook: %w", err)
		}
		if r.State == postrider.ReplayCollecting {
			return collect(tx, &r, found)
		}
		return s.queueCollected(tx, &r, room)
	})
	return r, err
}

// A replayed attempt, as a replay looks at it.
type replayed struct {
	id       postrider.ID
	eventID  string
	number   int
	status   postrider.AttemptStatus
	event    string
	accepted int64
	queued   bool
}

func (s *Store) replayedAttempts(ctx context.Context, r *postrider.Replay) ([]replayed, error) {
	rows, err := s.read.QueryContext(ctx, replayedAttemptsSQL, r.Tenant, r.WebhookID[:], r.After[:], replayPage)
	if err != nil {
		return nil, fmt.Errorf("read attempts to replay: %w", err)
	}
	defer rows.Close()
	var list []replayed
	for rows.Next() {
		var a replayed
		if err := rows.Scan(scanID{&a.id}, &a.eventID, &a.number, &a.status, &a.event, &a.accepted, &a.queued); err != nil {
			return nil, fmt.Errorf("read an attempt to replay: %w", err)
		}
		list = append(list, a)
	}
	return list, rows.Err()
}

// collect keeps the deliveries whose last attempt is one of those asked for. A
// later attempt of the same delivery takes it out again when it is not.
func collect(tx tx, r *postrider.Replay, found []replayed) error {
	for i := range found {
		a := &found[i]
		r.After = a.id
		if !r.Takes(a.event, fromMicros(a.accepted)) {
			continue
		}
		if a.queued || !r.Status.Takes(a.status) {
			n, err := tx.exec(dropCollected, r.ID[:], a.accepted, a.eventID)
			if err != nil {
				return err
			}
			r.Total -= int(n)
			continue
		}
		n, err := tx.exec(collectDelivery, r.ID[:], a.accepted, a.eventID, a.number)
		if err == nil && n == 0 {
			_, err = tx.exec(recountDelivery, r.ID[:], a.accepted, a.eventID, a.number)
		}
		if err != nil {
			return err
		}
		r.Total += int(n)
	}
	switch {
	case len(found) == replayPage:
	case r.DryRun:
		return endReplay(tx, r, postrider.ReplayDone)
	default:
		r.State = postrider.ReplayRunning
	}
	return saveReplay(tx, r)
}

// queueCollected queues the next deliveries, due at once and with their whole
// retry schedule before them.
func (s *Store) queueCollected(tx tx, r *postrider.Replay, room int) error {
	var waiting int
	if err := tx.queryRow(countQueued, r.WebhookID[:], replayAhead).Scan(&waiting); err != nil {
		return fmt.Errorf("count the webhook's queue: %w", err)
	}
	if room = min(room, replayAhead-waiting); room <= 0 {
		return nil
	}
	page, err := collected(tx, r, room)
	if err != nil {
		return err
	}
	now := time.Now()
	for i := range page {
		a := &page[i]
		due := s.dueNow(now)
		n, err := tx.exec(queueReplayed, r.Tenant, a.eventID, r.WebhookID[:], string(postrider.TriggerReplay), a.number, due)
		if err != nil {
			return err
		}
		s.claims.lookFrom(r.WebhookID, due)
		if _, err := tx.exec(dropCollected, r.ID[:], a.accepted, a.eventID); err != nil {
			return err
		}
		r.Queued += int(n)
		r.Skipped += 1 - int(n)
	}
	if len(page) < room {
		return endReplay(tx, r, postrider.ReplayDone)
	}
	return saveReplay(tx, r)
}

func collected(tx tx, r *postrider.Replay, limit int) ([]replayed, error) {
	rows, err := tx.query(findCollected, r.ID[:], limit)
	if err != nil {
		return nil, fmt.Errorf("read what a replay has collected: %w", err)
	}
	defer rows.Close() //nolint:errcheck // what was read has been read
	var page []replayed
	for rows.Next() {
		var a replayed
		if err := rows.Scan(&a.accepted, &a.eventID, &a.number); err != nil {
			return nil, fmt.Errorf("read a collected delivery: %w", err)
		}
		page = append(page, a)
	}
	return page, rows.Err()
}

// clearReplay forgets what was collected and will not be queued.
func clearReplay(tx tx, r *postrider.Replay) error {
	n, err := tx.exec(clearCollected, r.ID[:], replayClear)
	if err == nil && n < replayClear {
		_, err = tx.exec(closeReplay, r.Tenant, r.ID[:])
	}
	return err
}

func endReplay(tx tx, r *postrider.Replay, state postrider.ReplayState) error {
	r.State, r.EndedAt = state, fromMicros(micros(time.Now()))
	return saveReplay(tx, r)
}

func saveReplay(tx tx, r *postrider.Replay) error {
	_, err := tx.exec(updateReplay, string(r.State), r.After[:], r.Total, r.Queued, r.Skipped, optional(r.EndedAt), r.Tenant, r.ID[:])
	return err
}

func oneReplay(row row) (postrider.Replay, error) {
	r, err := scanReplay(row)
	if errors.Is(err, sql.ErrNoRows) {
		return r, postrider.Missing("replay")
	}
	if err != nil {
		return r, fmt.Errorf("read a replay: %w", err)
	}
	return r, nil
}

func scanReplay(row row) (r postrider.Replay, err error) {
	var from, ended sql.NullInt64
	var to, created int64
	var events string
	if err := row.Scan(&r.Tenant, scanID{&r.ID}, scanID{&r.WebhookID}, &from, &to, (*string)(&r.Status), &events, &r.DryRun, &r.Rate,
		(*string)(&r.State), scanID{&r.After}, &r.Total, &r.Queued, &r.Skipped, &created, &ended); err != nil {
		return r, err
	}
	r.From, r.To, r.CreatedAt, r.EndedAt = fromOptional(from), fromMicros(to), fromMicros(created), fromOptional(ended)
	if err := json.Unmarshal([]byte(events), &r.Events); err != nil {
		return r, fmt.Errorf("decode its events: %w", err)
	}
	return r, nil
}
