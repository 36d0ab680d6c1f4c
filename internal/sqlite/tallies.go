package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"postrider"
)

const latencyColumns = `to_5, to_10, to_25, to_50, to_100, to_250, to_500, to_1000, to_2500, to_5000, to_10000, above`

var (
	addTally = prepared(`
INSERT INTO tallies (tenant_id, webhook_id, minute, successes, failures, ` + latencyColumns + `)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET successes = successes + excluded.successes, failures = failures + excluded.failures,
    to_5 = to_5 + excluded.to_5, to_10 = to_10 + excluded.to_10, to_25 = to_25 + excluded.to_25,
    to_50 = to_50 + excluded.to_50, to_100 = to_100 + excluded.to_100, to_250 = to_250 + excluded.to_250,
    to_500 = to_500 + excluded.to_500, to_1000 = to_1000 + excluded.to_1000, to_2500 = to_2500 + excluded.to_2500,
    to_5000 = to_5000 + excluded.to_5000, to_10000 = to_10000 + excluded.to_10000, above = above + excluded.above`)
	expireTallies = prepared(`
DELETE FROM tallies WHERE (tenant_id, webhook_id, minute) IN
    (SELECT tenant_id, webhook_id, minute FROM tallies WHERE minute < ? LIMIT 2000)`)
)

const talliesSQL = `
SELECT (minute - ?1) / ?2, sum(successes), sum(failures), sum(to_5), sum(to_10), sum(to_25), sum(to_50), sum(to_100),
    sum(to_250), sum(to_500), sum(to_1000), sum(to_2500), sum(to_5000), sum(to_10000), sum(above)
FROM tallies WHERE tenant_id = ?3 AND webhook_id = ?4 AND minute >= ?1 AND minute < ?5
GROUP BY 1`

// A tallyKey is what one row counts.
type tallyKey struct {
	tenant  string
	webhook postrider.ID
	minute  int64
}

func minuteOf(t time.Time) int64 { return t.Unix() / 60 }

// tally counts a settle's attempts, in its transaction. The attempts of one
// webhook and minute are added up first: a full batch costs few statements.
func (s *Store) tally(tx tx, settlements []postrider.Settlement) error {
	counts := make(map[tallyKey]*postrider.Tally, 4)
	for i := range settlements {
		a := &settlements[i].Attempt
		if a.Status == postrider.AttemptCancelled {
			continue
		}
		key := tallyKey{a.Tenant, a.WebhookID, minuteOf(a.At)}
		t := counts[key]
		if t == nil {
			t = new(postrider.Tally)
			counts[key] = t
		}
		t.Count(a)
	}
	sums := make(map[tallyKey]*postrider.Tally, 2)
	for key, t := range counts {
		if err := s.addTally(tx, key, t); err != nil {
			return err
		}
		for _, of := range []tallyKey{{tenant: key.tenant, minute: key.minute}, {minute: key.minute}} {
			if sums[of] == nil {
				sums[of] = new(postrider.Tally)
			}
			sums[of].Add(t)
		}
	}
	for key, t := range sums {
		if err := s.addTally(tx, key, t); err != nil {
			return err
		}
	}
	return s.expireTallies(tx)
}

func (s *Store) addTally(tx tx, key tallyKey, t *postrider.Tally) error {
	args := make([]any, 0, 5+len(t.Latency))
	args = append(args, key.tenant, webhookColumn(key.webhook), key.minute, t.Successes, t.Failures)
	for _, n := range t.Latency {
		args = append(args, n)
	}
	_, err := tx.exec(addTally, args...)
	return err
}

// webhookColumn is the empty text of bytes for a sum.
func webhookColumn(id postrider.ID) []byte {
	if id.IsZero() {
		return []byte{}
	}
	return id[:]
}

// expireTallies removes what is too old to be shown, once a minute and a
// bounded part at a time.
func (s *Store) expireTallies(tx tx) error {
	now := time.Now()
	if minute := minuteOf(now); minute != s.tallied {
		if _, err := tx.exec(expireTallies, minuteOf(now.Add(-postrider.MaxTally))); err != nil {
			return err
		}
		s.tallied = minute
	}
	return nil
}

// Tallies returns the counts of a span of time, one for each step, those
// without any attempt included.
func (s *Store) Tallies(ctx context.Context, q postrider.TallyQuery) ([]postrider.Tally, error) {
	step := max(1, int64(q.Step/time.Minute))
	from, to := minuteOf(q.From), minuteOf(q.To)
	list := make([]postrider.Tally, max(0, (to-from+step-1)/step))
	for i := range list {
		list[i].At = time.Unix((from+int64(i)*step)*60, 0).UTC()
	}
	rows, err := s.read.QueryContext(ctx, talliesSQL, from, step, q.Tenant, webhookColumn(q.WebhookID), to)
	if err != nil {
		return nil, fmt.Errorf("read the tallies: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var i int
		var t postrider.Tally
		into := []any{&i, &t.Successes, &t.Failures}
		for n := range t.Latency {
			into = append(into, &t.Latency[n])
		}
		if err := rows.Scan(into...); err != nil {
			return nil, fmt.Errorf("read a tally: %w", err)
		}
		list[i].Add(&t)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the tallies: %w", err)
	}
	return list, nil
}

const oldestSQL = `
SELECT min(due_at) FROM (
    SELECT min(due_at) AS due_at FROM queue WHERE webhook_id = ?1
    UNION ALL SELECT min(due_at) FROM bundles WHERE webhook_id = ?1)`

// OldestDue returns since when the oldest unsettled delivery of the webhooks
// has been due; the zero time when none of theirs is.
func (s *Store) OldestDue(ctx context.Context, webhooks []postrider.ID) (oldest time.Time, err error) {
	now := time.Now()
	for _, id := range webhooks {
		var due sql.NullInt64
		if err := s.read.QueryRowContext(ctx, oldestSQL, id[:]).Scan(&due); err != nil {
			return oldest, fmt.Errorf("look for the oldest due delivery: %w", err)
		}
		if at := fromOptional(due); due.Valid && at.Before(now) && (oldest.IsZero() || at.Before(oldest)) {
			oldest = at
		}
	}
	return oldest, nil
}
