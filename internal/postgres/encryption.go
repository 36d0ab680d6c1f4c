package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"postrider"
)

const (
	putCheckSQL = `INSERT INTO encryption_check (sealed) VALUES ($1) ON CONFLICT DO NOTHING`
	checkSQL    = `SELECT sealed FROM encryption_check`
	changeCheck = `UPDATE encryption_check SET sealed = $1`
	sealedSQL   = `
SELECT tenant_id, id, sealed FROM webhooks WHERE sealed IS NOT NULL AND (tenant_id, id) > ($1, $2)
ORDER BY tenant_id, id LIMIT $3`
	putSealedSQL = `UPDATE webhooks SET sealed = $3 WHERE tenant_id = $1 AND id = $2`
)

// sealedCheck is the context, and the text, of the value that says whether a
// key is the database's.
var sealedCheck = []byte("postrider encryption check")

// ErrKey is what a node is told that has a key of its own.
var ErrKey = errors.New("the encryption key is not the one that this database's secrets are encrypted with: " +
	"give this node the same encryption_key as the others")

// resealPart is how many sealed values are in memory at once.
const resealPart = 500

// Reseal encrypts everything that is encrypted with the store's key with
// another one, in one transaction: a crash leaves all with the one key or all
// with the other. It returns how many webhooks that were. No other node may
// run, and none can start meanwhile: it would sign with secrets that it cannot
// read. Remnants of what the old key sealed can stay in unused parts of the
// tables, as they do in backups.
func (s *Store) Reseal(ctx context.Context, next Sealer) (webhooks int, err error) {
	err = s.alone(ctx, func(ctx context.Context, tx pgx.Tx) error {
		webhooks = 0
		for after := (sealedRow{}); ; {
			found, err := tx.Query(ctx, sealedSQL, after.Tenant, after.ID, resealPart)
			if err != nil {
				return err
			}
			page, err := pgx.CollectRows(found, pgx.RowToStructByPos[sealedRow])
			if err != nil {
				return fmt.Errorf("read encrypted values: %w", err)
			}
			for _, row := range page {
				plain, err := s.o.Sealer.Open(row.Sealed, row.ID[:])
				if err != nil {
					return fmt.Errorf("decrypt webhook %s: %w", row.ID, err)
				}
				if _, err := tx.Exec(ctx, putSealedSQL, row.Tenant, row.ID, next.Seal(plain, row.ID[:])); err != nil {
					return err
				}
				webhooks++
				after = row
			}
			if len(page) < resealPart {
				break
			}
		}
		_, err := tx.Exec(ctx, changeCheck, next.Seal(sealedCheck, sealedCheck))
		return err
	})
	if err == nil {
		s.o.Sealer = next
	}
	return webhooks, err
}

// A sealedRow is a webhook's encrypted part.
type sealedRow struct {
	Tenant string
	ID     postrider.ID
	Sealed []byte
}

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
			return ErrKey
		}
		return nil
	})
}
