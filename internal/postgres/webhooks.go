package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"postrider"
)

const (
	putWebhookSQL = `
INSERT INTO webhooks (tenant_id, id, url, content_type, sealed, events, active, description, insecure_ssl, timeout,
    retry_schedule, disabled_at, disabled_code, disabled_reason, created_at, updated_at, deleted_at, max_in_flight,
    rate_limit, ordered, paused, failing_since, failing_warned)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)
ON CONFLICT (tenant_id, id) DO UPDATE SET url = $3, content_type = $4, sealed = $5, events = $6, active = $7,
    description = $8, insecure_ssl = $9, timeout = $10, retry_schedule = $11, disabled_at = $12, disabled_code = $13,
    disabled_reason = $14, updated_at = $16, deleted_at = $17, max_in_flight = $18, rate_limit = $19, ordered = $20,
    paused = $21, failing_since = $22, failing_warned = $23`

	webhookColumns = `tenant_id, id, url, content_type, sealed, events, active, description, insecure_ssl, timeout, retry_schedule,
    disabled_at, disabled_code, disabled_reason, created_at, updated_at, deleted_at, max_in_flight, rate_limit, ordered,
    paused, failing_since, failing_warned`
	// Webhooks that are deleted are kept while deliveries of theirs are queued,
	// since those are still to be marked as cancelled. What is claimed is looked
	// for node by node: there are few.
	webhooksSQL = `SELECT ` + webhookColumns + ` FROM webhooks w WHERE deleted_at IS NULL
    OR EXISTS (SELECT 1 FROM queue q WHERE q.webhook_id = w.id AND q.node IS NULL)
    OR EXISTS (SELECT 1 FROM nodes n JOIN queue q ON q.node = n.id AND q.webhook_id = w.id)`
)

// PutWebhook writes a webhook, new or changed.
func (s *Store) PutWebhook(ctx context.Context, w postrider.Webhook) error {
	args, err := s.webhookRow(&w)
	if err != nil {
		return err
	}
	change := postrider.Change{Noun: postrider.NounWebhook, Tenant: w.Tenant, Key: w.ID.String()}
	return s.change(ctx, change, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, putWebhookSQL, args...)
		return err
	})
}

func (s *Store) webhookRow(w *postrider.Webhook) ([]any, error) {
	var sealed []byte
	hidden, err := w.Hidden()
	if err != nil {
		return nil, err
	}
	if hidden != nil {
		sealed = s.o.Sealer.Seal(hidden, w.ID[:])
	}
	var schedule []int64 // nil: NULL
	if w.RetrySchedule != nil {
		schedule = make([]int64, len(w.RetrySchedule))
		for i, wait := range w.RetrySchedule {
			schedule[i] = wait.Microseconds()
		}
	}
	var disabledAt *time.Time
	var disabledCode, disabledReason *string
	if d := w.Disabled; d != nil {
		disabledAt, disabledCode, disabledReason = &d.At, &d.Code, &d.Reason
	}
	return []any{
		w.Tenant, w.ID, w.URL, string(w.ContentType), sealed, w.Events, w.Active, w.Description, w.InsecureSSL,
		w.Timeout.Microseconds(), schedule, disabledAt, disabledCode, disabledReason, w.CreatedAt, w.UpdatedAt,
		optional(w.DeletedAt), w.MaxInFlight, w.RateLimit, w.Ordered, w.Paused, optional(w.Failing.Since), w.Failing.Warned,
	}, nil
}

// Webhooks returns all webhooks, and the deleted ones that still have queued
// deliveries, in no order.
func (s *Store) Webhooks(ctx context.Context) ([]postrider.Webhook, error) {
	list, err := readAll(ctx, s, webhooksSQL, nil, s.scanWebhook)
	if err != nil {
		return nil, fmt.Errorf("read the webhooks: %w", err)
	}
	return list, nil
}

func (s *Store) scanWebhook(row pgx.CollectableRow) (w postrider.Webhook, err error) {
	var (
		sealed                              []byte
		timeout                             int64
		schedule                            []int64
		code, reason                        *string
		disabledAt, deletedAt, failingSince *time.Time
	)
	if err := row.Scan(&w.Tenant, &w.ID, &w.URL, &w.ContentType, &sealed, &w.Events, &w.Active, &w.Description,
		&w.InsecureSSL, &timeout, &schedule, &disabledAt, &code, &reason, &w.CreatedAt, &w.UpdatedAt, &deletedAt,
		&w.MaxInFlight, &w.RateLimit, &w.Ordered, &w.Paused, &failingSince, &w.Failing.Warned); err != nil {
		return w, err
	}
	if sealed != nil {
		plain, err := s.o.Sealer.Open(sealed, w.ID[:])
		if err != nil {
			return w, fmt.Errorf("decrypt webhook %s: %w", w.ID, err)
		}
		if err := w.Reveal(plain); err != nil {
			return w, err
		}
	}
	if schedule != nil {
		w.RetrySchedule = make([]time.Duration, len(schedule))
		for i, wait := range schedule {
			w.RetrySchedule[i] = time.Duration(wait) * time.Microsecond
		}
	}
	if disabledAt != nil && code != nil && reason != nil {
		w.Disabled = &postrider.Disabled{At: disabledAt.UTC(), Code: *code, Reason: *reason}
	}
	w.Timeout = time.Duration(timeout) * time.Microsecond
	w.CreatedAt, w.UpdatedAt = w.CreatedAt.UTC(), w.UpdatedAt.UTC()
	w.DeletedAt, w.Failing.Since = fromOptional(deletedAt), fromOptional(failingSince)
	return w, nil
}
