package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"postrider"
)

const (
	newestAttemptSQL = `SELECT id, now() FROM attempts WHERE tenant_id = $1 ORDER BY id DESC LIMIT 1`
	clockSQL         = `SELECT now()`
)

// settledAfter is how old attempts are when a reader that follows them sees
// them, while several nodes record: the ids of one node rise in the order in
// which it commits, those of two need not. It bounds how far apart the nodes'
// clocks may be, together with the longest commit.
const settledAfter = 2 * time.Second

// horizon is the id below which nothing can appear any more; all ones while one
// node alone records.
func (s *Store) horizon(now time.Time) postrider.ID {
	if s.nodes.Load() <= 1 {
		return postrider.ID(bytes.Repeat([]byte{0xff}, len(postrider.ID{})))
	}
	return idAt(now.Add(-settledAfter))
}

// NewestAttempt is where a reader of AttemptsAfter starts that wants to see
// only what is new; the zero ID when nothing was attempted.
func (s *Store) NewestAttempt(ctx context.Context, tenant string) (id postrider.ID, err error) {
	err = s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		var now time.Time
		err := c.QueryRow(ctx, newestAttemptSQL, tenant).Scan(&id, &now)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if end := s.horizon(now); err == nil && bytes.Compare(end[:], id[:]) < 0 {
			id = end
		}
		return err
	})
	if err != nil {
		return id, fmt.Errorf("look for the newest attempt: %w", err)
	}
	return id, nil
}

// AttemptsAfter returns attempts above an id, oldest first, without headers
// and bodies. Nothing can appear below an id that was read: with several nodes,
// what was recorded in the last moments is left for the next call. The filter's
// Before is not looked at. Go on from the id that is returned: also when no
// attempt was found, since it is where the search gave up.
func (s *Store) AttemptsAfter(
	ctx context.Context, f postrider.AttemptFilter, after postrider.ID,
) (found []postrider.Attempt, last postrider.ID, err error) {
	last = after
	err = s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		var now time.Time
		if err := c.QueryRow(ctx, clockSQL).Scan(&now); err != nil {
			return err
		}
		var q conditions
		tenant, from, to, limit := q.param(f.Tenant), q.param(after), q.param(s.horizon(now)), q.param(tailRows)
		if f.EventID != "" {
			q.add("event_id =", f.EventID)
		}
		rows, err := c.Query(ctx, tailSQL(tenant, from, to, limit, otherConditions(&f, &q)), q.args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() && len(found) < f.Limit {
			a, matches := postrider.Attempt{Tenant: f.Tenant}, false
			if err := scanAttempt(rows, &a, &matches); err != nil {
				return err
			}
			if last = a.ID; matches {
				found = append(found, a)
			}
		}
		return rows.Err()
	})
	if err != nil {
		return nil, after, fmt.Errorf("read new attempts: %w", err)
	}
	return found, last, nil
}

// tailSQL reads what comes after an id: what a reader has not seen yet, which
// is little, in the order of the primary key whatever the conditions.
func tailSQL(tenant, from, to, limit, rest string) string {
	return `SELECT ` + attemptColumns + `, (` + rest + `) FROM (SELECT ` + attemptColumns + ` FROM attempts WHERE tenant_id = ` + tenant +
		` AND id > ` + from + ` AND id < ` + to + ` ORDER BY id LIMIT ` + limit + `) AS attempts`
}

// tailRows bounds how much one AttemptsAfter reads.
const tailRows = 2000
