package postgres

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"postrider"
)

const (
	putSessionSQL    = `INSERT INTO sessions (hash, link, tenant_id, key_hash, expires_at) VALUES ($1, $2, $3, $4, $5)`
	deleteSessionSQL = `DELETE FROM sessions WHERE hash = $1 AND NOT link`
	takeLinkSQL      = `DELETE FROM sessions WHERE hash = $1 AND link AND expires_at > now() RETURNING tenant_id, key_hash, expires_at`
	sessionSQL       = `SELECT tenant_id, key_hash, expires_at FROM sessions WHERE hash = $1 AND NOT link AND expires_at > now()`
)

// PutSession writes down a browser that has signed in.
func (s *Store) PutSession(ctx context.Context, session postrider.Session) error {
	return s.putSession(ctx, session, false)
}

// PutPortalLink writes down a one-time link.
func (s *Store) PutPortalLink(ctx context.Context, link postrider.Session) error {
	return s.putSession(ctx, link, true)
}

func (s *Store) putSession(ctx context.Context, session postrider.Session, link bool) error {
	return s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, putSessionSQL, session.Hash[:], link, session.Tenant, session.Key[:], session.ExpiresAt)
		return err
	})
}

// Session returns the session of a token's hash; one that is over is missing.
func (s *Store) Session(ctx context.Context, hash [sha256.Size]byte) (postrider.Session, error) {
	return s.oneSession(ctx, sessionSQL, hash)
}

// DeleteSession signs a browser out.
func (s *Store) DeleteSession(ctx context.Context, hash [sha256.Size]byte) error {
	return s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, deleteSessionSQL, hash[:])
		return err
	})
}

// TakePortalLink uses a link up. It is missing the second time.
func (s *Store) TakePortalLink(ctx context.Context, hash [sha256.Size]byte) (postrider.Session, error) {
	return s.oneSession(ctx, takeLinkSQL, hash)
}

func (s *Store) oneSession(ctx context.Context, sql string, hash [sha256.Size]byte) (postrider.Session, error) {
	session := postrider.Session{Hash: hash}
	err := s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		var key []byte
		err := c.QueryRow(ctx, sql, hash[:]).Scan(&session.Tenant, &key, &session.ExpiresAt)
		if errors.Is(err, pgx.ErrNoRows) {
			return postrider.Missing("session")
		}
		if err != nil {
			return fmt.Errorf("read a session: %w", err)
		}
		copy(session.Key[:], key)
		session.ExpiresAt = session.ExpiresAt.UTC()
		return nil
	})
	return session, err
}
