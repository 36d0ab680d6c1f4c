package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"postrider"
)

var (
	putSession = prepared(`INSERT INTO sessions (hash, link, tenant_id, key_hash, expires_at) VALUES (?, ?, ?, ?, ?)`)
	// Each new session removes a few old ones, so that the table needs no job
	// of its own.
	expireSessions = prepared(`
DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions WHERE expires_at <= ? LIMIT 8)`)
	deleteSession = prepared(`DELETE FROM sessions WHERE hash = ? AND link = 0`)
	takeLink      = prepared(`
DELETE FROM sessions WHERE hash = ? AND link = 1 AND expires_at > ? RETURNING tenant_id, key_hash, expires_at`)
)

const sessionSQL = `
SELECT tenant_id, key_hash, expires_at FROM sessions WHERE hash = ? AND link = 0 AND expires_at > ?`

// PutSession writes down a browser that has signed in.
func (s *Store) PutSession(ctx context.Context, session postrider.Session) error {
	return s.putSession(ctx, session, 0)
}

// PutPortalLink writes down a one-time link.
func (s *Store) PutPortalLink(ctx context.Context, link postrider.Session) error {
	return s.putSession(ctx, link, 1)
}

func (s *Store) putSession(ctx context.Context, session postrider.Session, link int) error {
	return s.write(ctx, func(tx tx) error {
		if _, err := tx.exec(expireSessions, micros(time.Now())); err != nil {
			return err
		}
		_, err := tx.exec(putSession, session.Hash[:], link, session.Tenant, session.Key[:], micros(session.ExpiresAt))
		return err
	})
}

// Session returns the session of a token's hash; one that is over is missing.
func (s *Store) Session(ctx context.Context, hash [sha256.Size]byte) (postrider.Session, error) {
	return scanSession(hash, s.read.QueryRowContext(ctx, sessionSQL, hash[:], micros(time.Now())))
}

// DeleteSession signs a browser out.
func (s *Store) DeleteSession(ctx context.Context, hash [sha256.Size]byte) error {
	return s.write(ctx, func(tx tx) error {
		_, err := tx.exec(deleteSession, hash[:])
		return err
	})
}

// TakePortalLink uses a link up. It is missing the second time.
func (s *Store) TakePortalLink(ctx context.Context, hash [sha256.Size]byte) (link postrider.Session, err error) {
	err = s.write(ctx, func(tx tx) error {
		link, err = scanSession(hash, tx.queryRow(takeLink, hash[:], micros(time.Now())))
		return err
	})
	return link, err
}

func scanSession(hash [sha256.Size]byte, r row) (postrider.Session, error) {
	session := postrider.Session{Hash: hash}
	var key []byte
	var expires int64
	err := r.Scan(&session.Tenant, &key, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		return session, postrider.Missing("session")
	}
	if err != nil {
		return session, fmt.Errorf("read a session: %w", err)
	}
	copy(session.Key[:], key)
	session.ExpiresAt = fromMicros(expires)
	return session, nil
}
