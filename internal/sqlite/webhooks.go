package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"postrider"
)

var putWebhook = prepared(`
INSERT INTO webhooks (tenant_id, id, url, content_type, sealed, events, active, description, insecure_ssl, timeout,
    retry_schedule, disabled_at, disabled_code, disabled_reason, created_at, updated_at, deleted_at, max_in_flight,
    rate_limit, ordered, paused, failing_since, failing_warned)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)
ON CONFLICT (tenant_id, id) DO UPDATE SET url = ?3, content_type = ?4, sealed = ?5, events = ?6, active = ?7,
    description = ?8, insecure_ssl = ?9, timeout = ?10, retry_schedule = ?11, disabled_at = ?12, disabled_code = ?13,
    disabled_reason = ?14, updated_at = ?16, deleted_at = ?17, max_in_flight = ?18, rate_limit = ?19, ordered = ?20,
    paused = ?21, failing_since = ?22, failing_warned = ?23`)

// Webhooks that are deleted are kept while deliveries of theirs are queued,
// since those are still to be marked as cancelled.
const webhooksSQL = `
SELECT tenant_id, id, url, content_type, sealed, events, active, description, insecure_ssl, timeout, retry_schedule,
    disabled_at, disabled_code, disabled_reason, created_at, updated_at, deleted_at, max_in_flight, rate_limit, ordered,
    paused, failing_since, failing_warned
FROM webhooks WHERE deleted_at IS NULL OR EXISTS (SELECT 1 FROM queue WHERE queue.webhook_id = webhooks.id)
    OR EXISTS (SELECT 1 FROM bundles WHERE bundles.webhook_id = webhooks.id)`

// PutWebhook writes a webhook, new or changed.
func (s *Store) PutWebhook(ctx context.Context, w postrider.Webhook) error {
	args, err := s.webhookRow(&w)
	if err != nil {
		return err
	}
	return s.write(ctx, func(tx tx) error {
		_, err := tx.exec(putWebhook, args...)
		return err
	})
}

func (s *Store) webhookRow(w *postrider.Webhook) ([]any, error) {
	events, err := json.Marshal(w.Events)
	if err != nil {
		return nil, fmt.Errorf("encode the webhook's events: %w", err)
	}
	var sealed, schedule any
	hidden, err := w.Hidden()
	if err != nil {
		return nil, err
	}
	if hidden != nil {
		sealed = s.sealer.Seal(hidden, w.ID[:])
	}
	if w.RetrySchedule != nil {
		waits := make([]int64, len(w.RetrySchedule))
		for i, wait := range w.RetrySchedule {
			waits[i] = wait.Microseconds()
		}
		text, err := json.Marshal(waits)
		if err != nil {
			return nil, fmt.Errorf("encode the webhook's retry schedule: %w", err)
		}
		schedule = string(text)
	}
	var disabledAt, disabledCode, disabledReason any
	if d := w.Disabled; d != nil {
		disabledAt, disabledCode, disabledReason = micros(d.At), d.Code, d.Reason
	}
	return []any{
		w.Tenant, w.ID[:], w.URL, string(w.ContentType), sealed, string(events), w.Active, w.Description, w.InsecureSSL,
		w.Timeout.Microseconds(), schedule, disabledAt, disabledCode, disabledReason, micros(w.CreatedAt),
		micros(w.UpdatedAt), optional(w.DeletedAt), w.MaxInFlight, w.RateLimit, w.Ordered, w.Paused,
		optional(w.Failing.Since), w.Failing.Warned,
	}, nil
}

// Webhooks returns all webhooks, and the deleted ones that still have queued
// deliveries, in no order.
func (s *Store) Webhooks(ctx context.Context) ([]postrider.Webhook, error) {
	rows, err := s.read.QueryContext(ctx, webhooksSQL)
	if err != nil {
		return nil, fmt.Errorf("read the webhooks: %w", err)
	}
	defer rows.Close()
	var webhooks []postrider.Webhook
	for rows.Next() {
		w, err := s.scanWebhook(rows)
		if err != nil {
			return nil, fmt.Errorf("read a webhook: %w", err)
		}
		webhooks = append(webhooks, w)
	}
	return webhooks, rows.Err()
}

func (s *Store) scanWebhook(rows *sql.Rows) (w postrider.Webhook, err error) {
	var (
		sealed                   []byte
		events                   string
		timeout, created, update int64
		schedule, code, reason   sql.NullString
		disabledAt, deletedAt    sql.NullInt64
		failingSince             sql.NullInt64
	)
	if err := rows.Scan(&w.Tenant, scanID{&w.ID}, &w.URL, &w.ContentType, &sealed, &events, &w.Active, &w.Description,
		&w.InsecureSSL, &timeout, &schedule, &disabledAt, &code, &reason, &created, &update, &deletedAt,
		&w.MaxInFlight, &w.RateLimit, &w.Ordered, &w.Paused, &failingSince, &w.Failing.Warned); err != nil {
		return w, err
	}
	if err := json.Unmarshal([]byte(events), &w.Events); err != nil {
		return w, fmt.Errorf("decode its events: %w", err)
	}
	if sealed != nil {
		plain, err := s.sealer.Open(sealed, w.ID[:])
		if err != nil {
			return w, fmt.Errorf("decrypt webhook %s: %w", w.ID, err)
		}
		if err := w.Reveal(plain); err != nil {
			return w, err
		}
	}
	if schedule.Valid {
		var waits []int64
		if err := json.Unmarshal([]byte(schedule.String), &waits); err != nil {
			return w, fmt.Errorf("decode its retry schedule: %w", err)
		}
		w.RetrySchedule = make([]time.Duration, len(waits))
		for i, wait := range waits {
			w.RetrySchedule[i] = time.Duration(wait) * time.Microsecond
		}
	}
	if disabledAt.Valid {
		w.Disabled = &postrider.Disabled{At: fromMicros(disabledAt.Int64), Code: code.String, Reason: reason.String}
	}
	w.Failing.Since = fromOptional(failingSince)
	w.Timeout = time.Duration(timeout) * time.Microsecond
	w.CreatedAt, w.UpdatedAt, w.DeletedAt = fromMicros(created), fromMicros(update), fromOptional(deletedAt)
	return w, nil
}
