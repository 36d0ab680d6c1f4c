package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"postrider"
)

const (
	revisionSQL     = `SELECT n FROM revision`
	nextRevisionSQL = `UPDATE revision SET n = n + 1 RETURNING n`
	insertChangeSQL = `
WITH change AS (INSERT INTO changes (revision, noun, tenant_id, key) VALUES ($1, $2, $3, $4))
SELECT pg_notify('` + changedChannel + `', $1::bigint::text)`
	changesSQL = `SELECT revision, noun, tenant_id, key FROM changes WHERE revision > $1 ORDER BY revision LIMIT $2`
)

// changesPage bounds what one call of Changes brings.
const changesPage = 1000

// change writes a change of the registry as the next revision. It is refused
// with postrider.ErrStale when that is not the one after the last that this
// node has heard of. The row of the revision is locked until the commit: over
// all nodes, changes are made one after another.
func (s *Store) change(ctx context.Context, change postrider.Change, write func(context.Context, pgx.Tx) error) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	err := s.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, nextRevisionSQL).Scan(&change.Revision); err != nil {
			return fmt.Errorf("take the registry's next revision: %w", err)
		}
		if change.Revision != s.revision+1 {
			return postrider.ErrStale
		}
		if err := write(ctx, tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, insertChangeSQL, change.Revision, change.Noun, change.Tenant, change.Key)
		return err
	})
	if err == nil {
		s.revision = change.Revision
	}
	return err
}

// Revision is the last change of the registry that this node has heard of.
func (s *Store) Revision() int64 {
	s.turn.Lock()
	defer s.turn.Unlock()
	return s.revision
}

// errGap ends a node that was away for longer than changes are kept.
var errGap = errors.New("this node has missed changes of the registry that are not kept any more; restart it")

// Changes returns the registry's changes after a revision, in their order: a
// bounded number, so ask until there are none.
func (s *Store) Changes(ctx context.Context, after int64) (list []postrider.Change, err error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	list, err = readAll(ctx, s, changesSQL, []any{after, changesPage}, func(row pgx.CollectableRow) (c postrider.Change, err error) {
		err = row.Scan(&c.Revision, &c.Noun, &c.Tenant, &c.Key)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the registry's changes: %w", err)
	}
	if len(list) == 0 {
		return nil, nil
	}
	if list[0].Revision != after+1 {
		s.lost.because(errGap)
		return nil, errGap
	}
	s.revision = max(s.revision, list[len(list)-1].Revision)
	return list, nil
}

// Changed signals that there may be changes to ask for.
func (s *Store) Changed() <-chan struct{} { return s.changed }
