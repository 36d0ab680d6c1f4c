package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const (
	putCheckSQL = `INSERT INTO encryption_check (sealed) VALUES ($1) ON CONFLICT DO NOTHING`
	checkSQL    = `SELECT sealed FROM encryption_check`
)

// sealedCheck is the context, and the text, of the value that says whether a
// key is the database's.
var sealedCheck = []byte("postrider encryption check")

// errOtherKey is what a node is told that has a key of its own.
var errOtherKey = errors.New("the encryption key is not the one that this database's secrets are encrypted with: " +
	"give this node the same encryption_key as the others")

// CheckKey refuses a node whose encryption key is not the one that the first
// node of this database had. Without it the node would notice at the first
// delivery that it cannot sign.
func (s *Store) CheckKey(ctx context.Context) error {
	return s.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, putCheckSQL, s.o.Sealer.Seal(sealedCheck, sealedCheck)); err != nil {
			return fmt.Errorf("write a value to check the encryption key with: %w", err)
		}
		var sealed []byte
		if err := tx.QueryRow(ctx, checkSQL).Scan(&sealed); err != nil {
			return fmt.Errorf("read the value to check the encryption key with: %w", err)
		}
		if _, err := s.o.Sealer.Open(sealed, sealedCheck); err != nil {
			return errOtherKey
		}
		return nil
	})
}
