package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"postrider"
)

var insertAttempt = prepared(`
INSERT OR IGNORE INTO attempts (tenant_id, id, webhook_id, event_id, event_type, number, trigger, at, url, status,
    status_code, failure, detail, next_attempt_at, remote_ip, tls_version, dns, connect, tls, first_byte, total,
    truncated, request_header, response_header, response_body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)

// headerTexts are an attempt's headers as they are stored. They are made before
// the transaction, for which others wait.
type headerTexts struct{ request, response string }

func textsOf(settlements []postrider.Settlement) []headerTexts {
	list := make([]headerTexts, len(settlements))
	for i := range settlements {
		a := &settlements[i].Attempt
		list[i] = headerTexts{a.RequestHeader.String(), a.Outcome.Response.Header.String()}
	}
	return list
}

func recordAttempt(tx tx, a *postrider.Attempt, header *headerTexts) error {
	o := &a.Outcome
	var body any
	if len(o.Response.Body) > 0 {
		body = o.Response.Body
	}
	_, err := tx.exec(insertAttempt, a.Tenant, a.ID[:], a.WebhookID[:], a.EventID, a.EventType, a.Number, string(a.Trigger),
		micros(a.At), a.URL, string(a.Status), o.StatusCode, string(o.Failure), o.Detail, optional(a.NextAttemptAt),
		o.RemoteIP, o.TLSVersion, o.Timings.DNS.Microseconds(), o.Timings.Connect.Microseconds(),
		o.Timings.TLS.Microseconds(), o.Timings.FirstByte.Microseconds(), o.Timings.Total.Microseconds(),
		o.Response.Truncated, header.request, header.response, body)
	return err
}

const (
	attemptColumns = `id, webhook_id, event_id, event_type, number, trigger, at, url, status, status_code, failure, detail,
    next_attempt_at, remote_ip, tls_version, dns, connect, tls, first_byte, total`
	attemptSQL = `
SELECT ` + attemptColumns + `, truncated, request_header, response_header, response_body,
    (SELECT payload FROM events e WHERE e.tenant_id = attempts.tenant_id AND e.id = attempts.event_id)
FROM attempts WHERE tenant_id = ? AND id = ?`
	lastAttemptSQL = `
SELECT ` + attemptColumns + ` FROM attempts INDEXED BY attempts_webhook
WHERE tenant_id = ? AND webhook_id = ? ORDER BY id DESC LIMIT 1`
)

// searchedRows bounds how much history one page reads when its filter matches
// little.
const searchedRows = 20_000

// Attempts returns a page of a tenant's attempts, newest first, without
// headers and bodies.
func (s *Store) Attempts(ctx context.Context, f postrider.AttemptFilter) (page postrider.AttemptPage, err error) {
	indexed, indexedArgs := indexedRows(&f)
	rest, restArgs := otherConditions(&f)
	searched := max(searchedRows, f.Limit+1)
	args := slices.Concat(indexedArgs, []any{searched}, restArgs, []any{f.Limit + 1})
	rows, err := s.read.QueryContext(ctx, pageSQL(indexed, rest), args...)
	if err != nil {
		return page, fmt.Errorf("read attempts: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if len(page.Attempts) == f.Limit {
			page.Next = page.Attempts[f.Limit-1].ID
			return page, nil
		}
		a := postrider.Attempt{Tenant: f.Tenant}
		if err := scanAttempt(rows, &a); err != nil {
			return page, fmt.Errorf("read an attempt: %w", err)
		}
		page.Attempts = append(page.Attempts, a)
	}
	if err := rows.Err(); err != nil {
		return page, fmt.Errorf("read attempts: %w", err)
	}
	page.Next, err = s.searchEnd(ctx, indexed, indexedArgs, searched)
	// Attempts that were recorded between the two queries move the end of the
	// search up, above what was found already.
	if n := len(page.Attempts); n > 0 && bytes.Compare(page.Next[:], page.Attempts[n-1].ID[:]) > 0 {
		page.Next = page.Attempts[n-1].ID
	}
	return page, err
}

// pageSQL: the inner query walks one index backwards; the outer one looks at
// what that finds, in that order, and never at more than searched rows. Asking
// it to sort again would make it read all of them first. The conditions are our
// own text; values are parameters.
func pageSQL(indexed, rest string) string {
	return `SELECT ` + attemptColumns + ` FROM (SELECT ` + attemptColumns + ` FROM ` + indexed +
		` ORDER BY id DESC LIMIT ?) AS attempts WHERE ` + rest + ` LIMIT ?`
}

func searchEndSQL(indexed string) string {
	return `SELECT id FROM ` + indexed + ` ORDER BY id DESC LIMIT 1 OFFSET ?`
}

// searchEnd is where the next page goes on when the search gave up; zero when
// it came to the end of history.
func (s *Store) searchEnd(ctx context.Context, indexed string, args []any, searched int) (end postrider.ID, err error) {
	err = s.read.QueryRowContext(ctx, searchEndSQL(indexed), append(slices.Clone(args), searched-1)...).Scan(scanID{&end})
	if errors.Is(err, sql.ErrNoRows) {
		return postrider.ID{}, nil
	}
	if err != nil {
		return end, fmt.Errorf("look for the end of the search: %w", err)
	}
	return end, nil
}

// indexedRows is the table with the conditions that one of its indexes answers.
// The index is named, since SQLite takes a tenant's rows for few and would read
// all of them instead.
func indexedRows(f *postrider.AttemptFilter) (from string, args []any) {
	index, conditions, args := "", []string{"tenant_id = ?"}, []any{f.Tenant}
	add := func(condition string, arg any) {
		conditions, args = append(conditions, condition), append(args, arg)
	}
	switch {
	case f.EventID != "":
		index = " INDEXED BY attempts_event"
		add("event_id = ?", f.EventID)
	case !f.WebhookID.IsZero():
		index = " INDEXED BY attempts_webhook"
		add("webhook_id = ?", f.WebhookID[:])
	case f.Status == postrider.AttemptFailure || f.Status == postrider.AttemptCancelled || f.Failure != "" || f.CodeClass > 2:
		index = " INDEXED BY attempts_unsuccessful"
		conditions = append(conditions, "status <> 'success'")
	}
	if !f.Before.IsZero() {
		add("id < ?", f.Before[:])
	}
	// An attempt's id holds the time at which it was made, to the millisecond.
	if !f.From.IsZero() {
		from := idAt(f.From)
		add("id >= ?", from[:])
	}
	if !f.To.IsZero() {
		to := idAt(f.To.Add(time.Millisecond))
		add("id < ?", to[:])
	}
	return "attempts" + index + " WHERE " + strings.Join(conditions, " AND "), args
}

// idAt is below every id made at or after t's millisecond.
func idAt(t time.Time) (id postrider.ID) {
	binary.BigEndian.PutUint64(id[:8], uint64(max(0, t.UnixMilli()))<<16)
	return id
}

func otherConditions(f *postrider.AttemptFilter) (string, []any) {
	conditions, args := []string{"true"}, []any(nil)
	add := func(condition string, arg any) {
		conditions, args = append(conditions, condition), append(args, arg)
	}
	if !f.WebhookID.IsZero() {
		add("webhook_id = ?", f.WebhookID[:])
	}
	if f.EventType != "" {
		add("event_type = ?", f.EventType)
	}
	if f.Status != "" {
		add("status = ?", string(f.Status))
	}
	if f.CodeClass != 0 {
		add("status_code / 100 = ?", f.CodeClass)
	}
	if f.Failure != "" {
		add("failure = ?", string(f.Failure))
	}
	if !f.From.IsZero() {
		add("at >= ?", micros(f.From))
	}
	if !f.To.IsZero() {
		add("at < ?", micros(f.To))
	}
	return strings.Join(conditions, " AND "), args
}

// Attempt returns one attempt with its headers and bodies.
func (s *Store) Attempt(ctx context.Context, tenant string, id postrider.ID) (postrider.Attempt, error) {
	a := postrider.Attempt{Tenant: tenant}
	var request, response string
	var payload []byte
	row := s.read.QueryRowContext(ctx, attemptSQL, tenant, id[:])
	err := scanAttempt(row, &a, &a.Outcome.Response.Truncated, &request, &response, &a.Outcome.Response.Body, &payload)
	if errors.Is(err, sql.ErrNoRows) {
		return a, postrider.Missing("log entry")
	}
	if err != nil {
		return a, fmt.Errorf("read an attempt: %w", err)
	}
	a.RequestHeader, a.Outcome.Response.Header = postrider.ParseHeader(request), postrider.ParseHeader(response)
	// The body is not stored twice: it is the payload, wrapped as it was then.
	if contentType := a.RequestHeader.Get("Content-Type"); contentType != "" {
		a.RequestBody = postrider.ContentType(contentType).Wrap(payload)
	}
	return a, nil
}

// LastAttempts returns the newest attempt of each of the webhooks that has
// one.
func (s *Store) LastAttempts(
	ctx context.Context, tenant string, webhooks []postrider.ID,
) (map[postrider.ID]postrider.Attempt, error) {
	last := make(map[postrider.ID]postrider.Attempt, len(webhooks))
	for _, id := range webhooks {
		a := postrider.Attempt{Tenant: tenant}
		switch err := scanAttempt(s.read.QueryRowContext(ctx, lastAttemptSQL, tenant, id[:]), &a); {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return nil, fmt.Errorf("read a webhook's last attempt: %w", err)
		default:
			last[id] = a
		}
	}
	return last, nil
}

type row interface{ Scan(into ...any) error }

// scanAttempt reads attemptColumns, and what further columns are asked for.
func scanAttempt(r row, a *postrider.Attempt, more ...any) error {
	var at int64
	var next sql.NullInt64
	var dns, connect, tls, firstByte, total int64
	o := &a.Outcome
	into := []any{
		scanID{&a.ID},
		scanID{&a.WebhookID},
		&a.EventID, &a.EventType, &a.Number, &a.Trigger, &at, &a.URL,
		&a.Status, &o.StatusCode, &o.Failure, &o.Detail, &next, &o.RemoteIP, &o.TLSVersion, &dns, &connect, &tls,
		&firstByte, &total,
	}
	if err := r.Scan(append(into, more...)...); err != nil {
		return err
	}
	a.At, a.NextAttemptAt = fromMicros(at), fromOptional(next)
	o.Timings = postrider.Timings{
		DNS: time.Duration(dns) * time.Microsecond, Connect: time.Duration(connect) * time.Microsecond,
		TLS: time.Duration(tls) * time.Microsecond, FirstByte: time.Duration(firstByte) * time.Microsecond,
		Total: time.Duration(total) * time.Microsecond,
	}
	return nil
}
