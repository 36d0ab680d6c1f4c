package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"postrider"
)

var (
	findCheck  = prepared(`SELECT sealed FROM encryption WHERE one = 1`)
	putCheck   = prepared(`INSERT INTO encryption (one, sealed) VALUES (1, ?1) ON CONFLICT DO UPDATE SET sealed = ?1`)
	findSealed = prepared(`
SELECT tenant_id, id, sealed FROM webhooks WHERE (tenant_id, id) > (?, ?) AND sealed IS NOT NULL ORDER BY tenant_id, id LIMIT ?`)
	putSealed = prepared(`UPDATE webhooks SET sealed = ? WHERE tenant_id = ? AND id = ?`)
)

// checked is what the check value says, and checkContext where it belongs.
var checked, checkContext = []byte("postrider"), []byte("encryption")

// checkKey refuses a key that is not the one which the store's secrets are
// encrypted with. A store that has none yet takes the key as its own, so that
// a wrong one is found at the start and not at the first secret.
func (s *Store) checkKey(ctx context.Context) error {
	return s.write(ctx, func(tx tx) error {
		var sealed []byte
		switch err := tx.queryRow(findCheck).Scan(&sealed); {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return fmt.Errorf("read the check value of the encryption key: %w", err)
		default:
			if _, err := s.sealer.Open(sealed, checkContext); err != nil {
				return fmt.Errorf("try the encryption key: %w", err)
			}
			return nil
		}
		// It may be older than the check value, with webhooks of another key.
		first, err := sealedAfter(tx, sealedRow{}, 1)
		if err != nil {
			return err
		}
		for _, row := range first {
			if _, err := s.sealer.Open(row.sealed, row.id[:]); err != nil {
				return fmt.Errorf("try the encryption key on webhook %s: %w", row.id, err)
			}
		}
		_, err = tx.exec(putCheck, s.sealer.Seal(checked, checkContext))
		return err
	})
}

// resealPart is how many sealed values are in memory at once.
const resealPart = 500

// Reseal encrypts everything that is encrypted with the store's key with
// another one, in one transaction: a crash leaves all with the one key or all
// with the other. It returns how many webhooks that were. The store belongs to
// the next key from then on. Remnants of what the old key sealed can stay in
// unused parts of the file, as they do in backups.
func (s *Store) Reseal(ctx context.Context, next Sealer) (webhooks int, err error) {
	err = s.write(ctx, func(tx tx) error {
		webhooks = 0
		for after := (sealedRow{}); ; {
			page, err := sealedAfter(tx, after, resealPart)
			if err != nil {
				return err
			}
			for _, row := range page {
				plain, err := s.sealer.Open(row.sealed, row.id[:])
				if err != nil {
					return fmt.Errorf("decrypt webhook %s: %w", row.id, err)
				}
				if _, err := tx.exec(putSealed, next.Seal(plain, row.id[:]), row.tenant, row.id[:]); err != nil {
					return err
				}
				webhooks++
				after = row
			}
			if len(page) < resealPart {
				break
			}
		}
		_, err := tx.exec(putCheck, next.Seal(checked, checkContext))
		return err
	})
	if err == nil {
		s.sealer = next
	}
	return webhooks, err
}

// A sealedRow is a webhook's encrypted part.
type sealedRow struct {
	tenant string
	id     postrider.ID
	sealed []byte
}

func sealedAfter(tx tx, after sealedRow, limit int) (list []sealedRow, err error) {
	rows, err := tx.query(findSealed, after.tenant, after.id[:], limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // what was read has been read
	for rows.Next() {
		var row sealedRow
		if err := rows.Scan(&row.tenant, scanID{&row.id}, &row.sealed); err != nil {
			return nil, fmt.Errorf("read an encrypted value: %w", err)
		}
		list = append(list, row)
	}
	return list, rows.Err()
}
