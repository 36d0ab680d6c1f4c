package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"postrider"
)

var (
	insertEvents = prepared(`
INSERT INTO events (tenant_id, id, day, type, occurred_at, created_at, deliveries, payload)
SELECT unnest($1::text[]), unnest($2::text[]), unnest($3::date[]), unnest($4::text[]), unnest($5::timestamptz[]), unnest($6::timestamptz[]), unnest($7::int[]), unnest($8::bytea[])`)
	insertChosen = prepared(`
INSERT INTO chosen_ids (tenant_id, event_id, day) SELECT unnest($1::text[]), unnest($2::text[]), unnest($3::date[])`)
	dropExpiredKeys = prepared(`
DELETE FROM idempotency_keys i USING unnest($1::text[], $2::text[]) AS k (scope, key)
WHERE i.scope = k.scope AND i.key = k.key AND i.expires_at <= now()`)
	insertKeys = prepared(`
INSERT INTO idempotency_keys (scope, key, body_hash, answer, expires_at)
SELECT k.scope, k.key, k.body_hash, k.answer::jsonb, now() + k.ttl * interval '1 microsecond'
FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::bigint[]) AS k (scope, key, body_hash, answer, ttl)`)
)

const (
	idempotencyKeySQL = `SELECT body_hash, answer FROM idempotency_keys WHERE scope = $1 AND key = $2 AND expires_at > now()`
	chosenDaysSQL     = `SELECT event_id, day FROM chosen_ids WHERE tenant_id = $1 AND event_id = ANY ($2::text[])`
	acceptedEventSQL  = `SELECT type, payload, deliveries FROM events WHERE tenant_id = $1 AND id = $2 AND day = $3`
)

// acceptTries bounds how often an accept begins anew because another node or
// caller took the same id or key meanwhile.
const acceptTries = 5

// Accept writes events and their deliveries in one transaction: all or none.
// An event whose id the producer chose and has used before is not written
// again when it is the same, and is a conflict otherwise; so it is with an
// idempotency key. There is a receipt for each publication; with a repeated
// key they are the first answer's.
//
// What was accepted before is looked for first. Who is faster in between is
// found by the tables' keys: then it is looked for again.
func (s *Store) Accept(
	ctx context.Context, accepted []postrider.Accepted, key *postrider.IdempotencyKey,
) (receipts []postrider.Receipt, err error) {
	chosen := false
	for i := range accepted {
		chosen = chosen || accepted[i].ChosenID
	}
	for range acceptTries {
		if key != nil || chosen {
			if receipts, err = s.acceptedBefore(ctx, accepted, key); receipts != nil || err != nil {
				return receipts, err
			}
		}
		receipts = receiptsFor(accepted)
		var answer []byte
		if key != nil {
			if answer, err = json.Marshal(receipts); err != nil {
				return nil, fmt.Errorf("encode an answer to remember: %w", err)
			}
		}
		err = s.write(ctx, func(b *batch) { b.addAccepted(accepted, key, answer) })
		if err == nil || !taken(err) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return receipts, nil
}

// taken reports whether an id or a key was used by another meanwhile.
func taken(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == "23505" && (e.TableName == "chosen_ids" || e.TableName == "idempotency_keys")
}

func receiptsFor(accepted []postrider.Accepted) (receipts []postrider.Receipt) {
	for i := range accepted {
		a := &accepted[i]
		if a.Publication == len(receipts) {
			receipts = append(receipts, postrider.Receipt{ID: a.Event.ID})
		}
		receipts[a.Publication].Deliveries += a.Event.Deliveries
	}
	return receipts
}

func (b *batch) addAccepted(accepted []postrider.Accepted, key *postrider.IdempotencyKey, answer []byte) {
	if key != nil {
		into(&b.keys, textType, textType, bytesType, textType, int8Type).
			text(key.Scope).text(key.Key).bytes(key.BodyHash[:]).bytes(answer).int8(postrider.IdempotencyTTL.Microseconds())
	}
	for i := range accepted {
		a := &accepted[i]
		if a.Repeated {
			continue
		}
		e := &a.Event
		of := dayOf(e.CreatedAt)
		if a.ChosenID {
			into(&b.chosen, textType, textType, dateType).text(e.Tenant).text(e.ID).day(of)
		} else if id, err := postrider.ParseID(e.ID); err == nil {
			of = idDay(id)
		}
		into(&b.events, textType, textType, dateType, textType, timeType, timeType, int4Type, bytesType).
			text(e.Tenant).text(e.ID).day(of).text(e.Type).time(e.OccurredAt).time(e.CreatedAt).int4(e.Deliveries).bytes(e.Payload)
		if a.Fanout {
			into(&b.fanouts, textType, textType, uuidType, dateType).text(e.Tenant).text(e.ID).id(lastOf(a.Deliveries)).day(of)
		}
		for j := range a.Deliveries {
			b.addDelivery(&a.Deliveries[j], of)
		}
	}
}

// acceptedBefore returns the answer that a repeated key had, and marks the
// events with a chosen id that have been accepted.
func (s *Store) acceptedBefore(
	ctx context.Context, accepted []postrider.Accepted, key *postrider.IdempotencyKey,
) (receipts []postrider.Receipt, err error) {
	err = s.read(ctx, func(ctx context.Context, c *pgx.Conn) (err error) {
		if key != nil {
			receipts, err = repeatedAnswer(ctx, c, key)
			for i := range accepted {
				accepted[i].Repeated = receipts != nil
			}
			if receipts != nil || err != nil {
				return err
			}
		}
		for i := range accepted {
			if a := &accepted[i]; a.ChosenID {
				if a.Repeated, err = sameEvent(ctx, c, &a.Event); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return receipts, err
}

// sameEvent reports whether the event was accepted before, and how many
// deliveries it had then.
func sameEvent(ctx context.Context, c *pgx.Conn, e *postrider.Event) (bool, error) {
	of, err := eventDays(ctx, c, e.Tenant, []string{e.ID})
	if err != nil {
		return false, err
	}
	var kind string
	var payload []byte
	var deliveries int
	err = c.QueryRow(ctx, acceptedEventSQL, e.Tenant, e.ID, of[e.ID].start()).Scan(&kind, &payload, &deliveries)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for an event of the same id: %w", err)
	case kind != e.Type || !bytes.Equal(payload, e.Payload):
		return false, &postrider.Error{
			Kind: postrider.Conflict, Code: "event_id_taken", Field: "id",
			Detail: "Another event has been accepted under this id. Use an id once; the same event may be sent again.",
		}
	}
	e.Deliveries = deliveries
	return true, nil
}

func repeatedAnswer(ctx context.Context, c *pgx.Conn, key *postrider.IdempotencyKey) ([]postrider.Receipt, error) {
	var hash, answer []byte
	err := c.QueryRow(ctx, idempotencyKeySQL, key.Scope, key.Key).Scan(&hash, &answer)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for the idempotency key: %w", err)
	case !bytes.Equal(hash, key.BodyHash[:]):
		return nil, &postrider.Error{
			Kind: postrider.Conflict, Code: "idempotency_key_reused", Field: "Idempotency-Key",
			Detail: "This idempotency key was used with another body in the last 24 hours. Use a new key for a new request.",
		}
	}
	receipts := []postrider.Receipt{}
	if err := json.Unmarshal(answer, &receipts); err != nil {
		return nil, fmt.Errorf("decode a remembered answer: %w", err)
	}
	return receipts, nil
}

// A querier is a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// eventDays finds the days of a tenant's events. An id that nobody chose has
// its day in itself; one that is neither has none, and its event is not there.
func eventDays(ctx context.Context, q querier, tenant string, ids []string) (map[string]day, error) {
	days := make(map[string]day, len(ids))
	for _, id := range ids {
		if made, err := postrider.ParseID(id); err == nil {
			days[id] = idDay(made)
		}
	}
	found, err := q.Query(ctx, chosenDaysSQL, tenant, ids)
	if err != nil {
		return nil, fmt.Errorf("look for ids that were chosen: %w", err)
	}
	var id string
	var at time.Time
	if _, err := pgx.ForEachRow(found, []any{&id, &at}, func() error {
		days[id] = dayOf(at)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read ids that were chosen: %w", err)
	}
	return days, nil
}

const (
	eventSQL = `
SELECT type, occurred_at, created_at, deliveries, payload FROM events WHERE tenant_id = $1 AND id = $2 AND day = $3`
	eventQueueSQL = `
SELECT webhook_id, attempts, due_at FROM queue WHERE tenant_id = $1 AND event_id = $2 ORDER BY webhook_id LIMIT $3`
)

// maxEventAttempts bounds what Event reads of an event that went to very many
// webhooks.
const maxEventAttempts = 10_000

// Event returns an event and where each of its deliveries stands, by webhook.
func (s *Store) Event(ctx context.Context, tenant, id string) (postrider.Event, []postrider.DeliveryStatus, error) {
	e := postrider.Event{Tenant: tenant, ID: id}
	var deliveries []postrider.DeliveryStatus
	err := s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		of, err := eventDays(ctx, c, tenant, []string{id})
		if err != nil {
			return err
		}
		var occurred *time.Time
		err = c.QueryRow(ctx, eventSQL, tenant, id, of[id].start()).Scan(&e.Type, &occurred, &e.CreatedAt, &e.Deliveries, &e.Payload)
		if errors.Is(err, pgx.ErrNoRows) {
			return postrider.Missing("event")
		}
		if err != nil {
			return fmt.Errorf("read an event: %w", err)
		}
		e.OccurredAt, e.CreatedAt = fromOptional(occurred), e.CreatedAt.UTC()
		deliveries, err = eventDeliveries(ctx, c, tenant, id)
		return err
	})
	return e, deliveries, err
}

// eventDeliveries joins the two places where a delivery can be: what is not
// settled is in the queue, and what became of the rest is its last attempt.
func eventDeliveries(ctx context.Context, c *pgx.Conn, tenant, id string) ([]postrider.DeliveryStatus, error) {
	found, err := c.Query(ctx, eventQueueSQL, tenant, id, maxEventAttempts)
	if err != nil {
		return nil, fmt.Errorf("read an event's queued deliveries: %w", err)
	}
	list, err := pgx.CollectRows(found, func(row pgx.CollectableRow) (postrider.DeliveryStatus, error) {
		d := postrider.DeliveryStatus{State: postrider.DeliveryPending}
		err := row.Scan(&d.WebhookID, &d.Attempts, &d.NextAttemptAt)
		d.NextAttemptAt = d.NextAttemptAt.UTC()
		return d, err
	})
	if err != nil {
		return nil, fmt.Errorf("read an event's queued deliveries: %w", err)
	}
	page, err := attemptsPage(ctx, c, postrider.AttemptFilter{Tenant: tenant, EventID: id, Limit: maxEventAttempts})
	if err != nil {
		return nil, err
	}
	return postrider.WithAttempts(list, page.Attempts), nil
}

// optional is NULL for the zero time.
func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func fromOptional(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}
