package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"postrider"
)

var insertAttempts = prepared(`
INSERT INTO attempts (tenant_id, id, webhook_id, at, next_attempt_at, number, status_code, dns, connect, tls, first_byte, total,
    truncated, event_id, event_type, trigger, status, failure, url, remote_ip, tls_version, detail, request_header, response_header,
    response_body)
SELECT a.tenant_id, a.id, a.webhook_id, a.at, now() + a.wait * interval '1 microsecond', a.number, a.status_code, a.dns, a.connect,
    a.tls, a.first_byte, a.total, a.truncated, a.event_id, a.event_type, a.trigger, a.status, a.failure, a.url, a.remote_ip,
    a.tls_version, a.detail, a.request_header, a.response_header, a.response_body
FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::bigint[], $6::int[], $7::int[], $8::int[], $9::int[],
    $10::int[], $11::int[], $12::int[], $13::boolean[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::text[],
    $20::text[], $21::text[], $22::text[], $23::bytea[], $24::bytea[], $25::bytea[])
    AS a (tenant_id, id, webhook_id, at, wait, number, status_code, dns, connect, tls, first_byte, total, truncated, event_id,
        event_type, trigger, status, failure, url, remote_ip, tls_version, detail, request_header, response_header, response_body)
ON CONFLICT DO NOTHING`)

func (b *batch) addAttempt(settlement *postrider.Settlement) {
	a, o := &settlement.Attempt, &settlement.Attempt.Outcome
	r := into(&b.attempts, textType, uuidType, uuidType, timeType, int8Type, int4Type, int4Type, int4Type, int4Type, int4Type, int4Type,
		int4Type, boolType, textType, textType, textType, textType, textType, textType, textType, textType, textType, bytesType,
		bytesType, bytesType)
	r.text(a.Tenant).id(a.ID).id(a.WebhookID).time(a.At)
	if settlement.Done {
		r.null()
	} else {
		r.int8(settlement.RetryIn.Microseconds())
	}
	r.int4(a.Number).int4(o.StatusCode)
	for _, part := range []time.Duration{o.Timings.DNS, o.Timings.Connect, o.Timings.TLS, o.Timings.FirstByte, o.Timings.Total} {
		r.int4(int(part.Microseconds()))
	}
	r.bool(o.Response.Truncated).text(a.EventID).text(a.EventType).text(string(a.Trigger)).text(string(a.Status)).
		text(string(o.Failure)).text(validText(a.URL)).text(o.RemoteIP).text(o.TLSVersion).text(validText(o.Detail)).
		text(a.RequestHeader.String()).text(o.Response.Header.String())
	if len(o.Response.Body) > 0 {
		r.bytes(o.Response.Body)
	} else {
		r.null()
	}
}

// validText is what PostgreSQL takes as text: UTF-8, and no NUL. A receiver may
// have put something else into what is said of it.
func validText(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\ufffd")
}

const (
	attemptColumns = `id, webhook_id, event_id, event_type, number, trigger, at, url, status, status_code, failure, detail,
    next_attempt_at, remote_ip, tls_version, dns, connect, tls, first_byte, total`
	attemptSQL = `
SELECT ` + attemptColumns + `, truncated, request_header, response_header, response_body FROM attempts WHERE tenant_id = $1 AND id = $2`
	payloadSQL     = `SELECT payload FROM events WHERE tenant_id = $1 AND id = $2 AND day = $3`
	lastAttemptSQL = `
SELECT ` + attemptColumns + ` FROM attempts WHERE tenant_id = $1 AND webhook_id = $2 ORDER BY id DESC LIMIT 1`
)

// searchedRows bounds how much history one page reads when its filter matches
// little.
const searchedRows = 20_000

// Attempts returns a page of a tenant's attempts, newest first, without
// headers and bodies.
func (s *Store) Attempts(ctx context.Context, f postrider.AttemptFilter) (page postrider.AttemptPage, err error) {
	err = s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		page, err = attemptsPage(ctx, c, f)
		return err
	})
	return page, err
}

func attemptsPage(ctx context.Context, c *pgx.Conn, f postrider.AttemptFilter) (page postrider.AttemptPage, err error) {
	var q conditions
	indexed := indexedRows(&f, &q)
	bounds := len(q.args)
	searched := max(searchedRows, f.Limit+1)
	limit := q.param(searched)
	rest := otherConditions(&f, &q)
	found, err := c.Query(ctx, pageSQL(indexed, limit, rest, q.param(f.Limit+1)), q.args...)
	if err != nil {
		return page, fmt.Errorf("read attempts: %w", err)
	}
	defer found.Close()
	for found.Next() {
		if len(page.Attempts) == f.Limit {
			page.Next = page.Attempts[f.Limit-1].ID
			return page, nil
		}
		a := postrider.Attempt{Tenant: f.Tenant}
		if err := scanAttempt(found, &a); err != nil {
			return page, fmt.Errorf("read an attempt: %w", err)
		}
		page.Attempts = append(page.Attempts, a)
	}
	if err := found.Err(); err != nil {
		return page, fmt.Errorf("read attempts: %w", err)
	}
	page.Next, err = searchEnd(ctx, c, indexed, q.args[:bounds], searched)
	// Attempts that were recorded between the two queries move the end of the
	// search up, above what was found already.
	if n := len(page.Attempts); n > 0 && bytes.Compare(page.Next[:], page.Attempts[n-1].ID[:]) > 0 {
		page.Next = page.Attempts[n-1].ID
	}
	return page, err
}

// pageSQL: the inner query walks one index backwards, through the days that the
// filter leaves; the outer one looks at what that finds, in that order, and
// never at more than searched rows. The conditions are our own text; values are
// parameters.
func pageSQL(indexed, searched, rest, limit string) string {
	return `SELECT ` + attemptColumns + ` FROM (SELECT ` + attemptColumns + ` FROM ` + indexed +
		` ORDER BY id DESC LIMIT ` + searched + `) AS attempts WHERE ` + rest + ` LIMIT ` + limit
}

func searchEndSQL(indexed, offset string) string {
	return `SELECT id FROM ` + indexed + ` ORDER BY id DESC LIMIT 1 OFFSET ` + offset
}

// searchEnd is where the next page goes on when the search gave up; zero when
// it came to the end of history.
func searchEnd(ctx context.Context, c *pgx.Conn, indexed string, args []any, searched int) (end postrider.ID, err error) {
	q := conditions{args: slices.Clone(args)}
	offset := q.param(searched - 1)
	err = c.QueryRow(ctx, searchEndSQL(indexed, offset), q.args...).Scan(&end)
	if errors.Is(err, pgx.ErrNoRows) {
		return postrider.ID{}, nil
	}
	if err != nil {
		return end, fmt.Errorf("look for the end of the search: %w", err)
	}
	return end, nil
}

// Conditions are gathered with their parameters.
type conditions struct {
	list []string
	args []any
}

// param is the name of a further parameter.
func (q *conditions) param(arg any) string {
	q.args = append(q.args, arg)
	return "$" + strconv.Itoa(len(q.args))
}

func (q *conditions) add(condition string, arg any) {
	q.list = append(q.list, condition+" "+q.param(arg))
}

// joined are the conditions since the last call.
func (q *conditions) joined() string {
	if len(q.list) == 0 {
		return "true"
	}
	text := strings.Join(q.list, " AND ")
	q.list = nil
	return text
}

// indexedRows is the table with the conditions that one of its indexes answers.
func indexedRows(f *postrider.AttemptFilter, q *conditions) string {
	q.add("tenant_id =", f.Tenant)
	switch {
	case f.EventID != "":
		q.add("event_id =", f.EventID)
	case !f.WebhookID.IsZero():
		q.add("webhook_id =", f.WebhookID)
	case f.Status == postrider.AttemptFailure || f.Status == postrider.AttemptCancelled || f.Failure != "" || f.CodeClass > 2:
		q.list = append(q.list, "status <> 'success'")
	}
	if !f.Before.IsZero() {
		q.add("id <", f.Before)
	}
	// An attempt's id holds the time at which it was made, to the millisecond.
	if !f.From.IsZero() {
		q.add("id >=", idAt(f.From))
	}
	if !f.To.IsZero() {
		q.add("id <", idAt(f.To.Add(time.Millisecond)))
	}
	return "attempts WHERE " + q.joined()
}

func otherConditions(f *postrider.AttemptFilter, q *conditions) string {
	if !f.WebhookID.IsZero() {
		q.add("webhook_id =", f.WebhookID)
	}
	if f.EventType != "" {
		q.add("event_type =", f.EventType)
	}
	if f.Status != "" {
		q.add("status =", string(f.Status))
	}
	if f.CodeClass != 0 {
		q.add("status_code / 100 =", f.CodeClass)
	}
	if f.Failure != "" {
		q.add("failure =", string(f.Failure))
	}
	if !f.From.IsZero() {
		q.add("at >=", f.From)
	}
	if !f.To.IsZero() {
		q.add("at <", f.To)
	}
	return q.joined()
}

// Attempt returns one attempt with its headers and bodies.
func (s *Store) Attempt(ctx context.Context, tenant string, id postrider.ID) (postrider.Attempt, error) {
	a := postrider.Attempt{Tenant: tenant}
	err := s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		var request, response, payload []byte
		err := scanAttempt(c.QueryRow(ctx, attemptSQL, tenant, id), &a, &a.Outcome.Response.Truncated, &request, &response,
			&a.Outcome.Response.Body)
		if errors.Is(err, pgx.ErrNoRows) {
			return postrider.Missing("log entry")
		}
		if err != nil {
			return fmt.Errorf("read an attempt: %w", err)
		}
		a.RequestHeader, a.Outcome.Response.Header = postrider.ParseHeader(string(request)), postrider.ParseHeader(string(response))
		of, err := eventDays(ctx, c, tenant, []string{a.EventID})
		if err != nil {
			return err
		}
		err = c.QueryRow(ctx, payloadSQL, tenant, a.EventID, of[a.EventID].start()).Scan(&payload)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("read an attempt's payload: %w", err)
		}
		// The body is not stored twice: it is the payload, wrapped as it was then.
		if contentType := a.RequestHeader.Get("Content-Type"); contentType != "" {
			a.RequestBody = postrider.ContentType(contentType).Wrap(payload)
		}
		return nil
	})
	return a, err
}

// LastAttempts returns the newest attempt of each of the webhooks that has
// one.
func (s *Store) LastAttempts(
	ctx context.Context, tenant string, webhooks []postrider.ID,
) (map[postrider.ID]postrider.Attempt, error) {
	last := make(map[postrider.ID]postrider.Attempt, len(webhooks))
	err := s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		for _, id := range webhooks {
			a := postrider.Attempt{Tenant: tenant}
			switch err := scanAttempt(c.QueryRow(ctx, lastAttemptSQL, tenant, id), &a); {
			case errors.Is(err, pgx.ErrNoRows):
			case err != nil:
				return fmt.Errorf("read a webhook's last attempt: %w", err)
			default:
				last[id] = a
			}
		}
		return nil
	})
	return last, err
}

// scanAttempt reads attemptColumns, and what further columns are asked for.
func scanAttempt(r pgx.Row, a *postrider.Attempt, more ...any) error {
	var next *time.Time
	var dns, connect, tls, firstByte, total int64
	o := &a.Outcome
	into := []any{
		&a.ID, &a.WebhookID, &a.EventID, &a.EventType, &a.Number, &a.Trigger, &a.At, &a.URL, &a.Status, &o.StatusCode, &o.Failure,
		&o.Detail, &next, &o.RemoteIP, &o.TLSVersion, &dns, &connect, &tls, &firstByte, &total,
	}
	if err := r.Scan(append(into, more...)...); err != nil {
		return err
	}
	a.At, a.NextAttemptAt = a.At.UTC(), fromOptional(next)
	o.Timings = postrider.Timings{
		DNS: time.Duration(dns) * time.Microsecond, Connect: time.Duration(connect) * time.Microsecond,
		TLS: time.Duration(tls) * time.Microsecond, FirstByte: time.Duration(firstByte) * time.Microsecond,
		Total: time.Duration(total) * time.Microsecond,
	}
	return nil
}
