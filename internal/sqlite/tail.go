package sqlite

import (
	"context"
	"fmt"
	"slices"

	"postrider"
)

const newestAttemptSQL = `SELECT coalesce(max(id), zeroblob(16)) FROM attempts WHERE tenant_id = ?`

// NewestAttempt is where a reader of AttemptsAfter starts that wants to see
// only what is new; the zero ID when nothing was attempted.
func (s *Store) NewestAttempt(ctx context.Context, tenant string) (id postrider.ID, err error) {
	if err := s.read.QueryRowContext(ctx, newestAttemptSQL, tenant).Scan(scanID{&id}); err != nil {
		return id, fmt.Errorf("look for the newest attempt: %w", err)
	}
	return id, nil
}

// AttemptsAfter returns attempts above an id, oldest first, without headers
// and bodies. Ids rise in the order in which attempts are recorded, so that
// nothing can appear below an id that was read. The filter's Before is not
// looked at. Go on from the id that is returned: also when no attempt was
// found, since it is where the search gave up.
func (s *Store) AttemptsAfter(
	ctx context.Context, f postrider.AttemptFilter, after postrider.ID,
) (found []postrider.Attempt, last postrider.ID, err error) {
	rest, restArgs := otherConditions(&f)
	if f.EventID != "" {
		rest, restArgs = rest+" AND event_id = ?", append(restArgs, f.EventID)
	}
	rows, err := s.read.QueryContext(ctx, tailSQL(rest), slices.Concat(restArgs, []any{f.Tenant, after[:], tailRows})...)
	if err != nil {
		return nil, after, fmt.Errorf("read new attempts: %w", err)
	}
	defer rows.Close()
	for last = after; rows.Next() && len(found) < f.Limit; {
		a, matches := postrider.Attempt{Tenant: f.Tenant}, false
		if err := scanAttempt(rows, &a, &matches); err != nil {
			return nil, after, fmt.Errorf("read a new attempt: %w", err)
		}
		if last = a.ID; matches {
			found = append(found, a)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, after, fmt.Errorf("read new attempts: %w", err)
	}
	return found, last, nil
}

// tailSQL reads what comes after an id: what a reader has not seen yet, which
// is little, in the order of the primary key whatever the conditions.
func tailSQL(rest string) string {
	return `SELECT ` + attemptColumns + `, (` + rest + `) FROM (SELECT ` + attemptColumns +
		` FROM attempts WHERE tenant_id = ? AND id > ? ORDER BY id LIMIT ?) AS attempts`
}

// tailRows bounds how much one AttemptsAfter reads.
const tailRows = 2000
