package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"postrider"
)

// The deliveries of a batch become due in the order in which it has them. A
// node whose row has ended claims nothing any more, in any statement. Where a
// delivery is named by its key, its node is compared in words that no index
// answers: queue_claimed would be walked for each.
var (
	insertDeliveries = prepared(`
INSERT INTO queue (tenant_id, event_id, webhook_id, accepted_at, due_at, day, size, trigger, node)
SELECT d.tenant_id, d.event_id, d.webhook_id, coalesce(d.accepted_at, now()), now(), d.day, d.size, d.trigger,
    CASE WHEN d.claimed THEN (SELECT n.id FROM nodes n WHERE n.id = $9::bigint AND n.ended_at IS NULL) END
FROM unnest($1::text[], $2::text[], $3::uuid[], $4::timestamptz[], $5::date[], $6::int[], $7::text[], $8::boolean[])
    AS d (tenant_id, event_id, webhook_id, accepted_at, day, size, trigger, claimed)`)

	deleteDeliveries = prepared(`
DELETE FROM queue q USING unnest($1::text[], $2::text[], $3::uuid[]) AS k (tenant_id, event_id, webhook_id)
WHERE q.tenant_id = k.tenant_id AND q.event_id = k.event_id AND q.webhook_id = k.webhook_id AND q.node IS NOT DISTINCT FROM $4::bigint`)
	retryDeliveries = prepared(`
UPDATE queue q SET trigger = 'retry', attempts = k.attempts, retries = k.retries,
    due_at = now() + k.wait * interval '1 microsecond', node = NULL
FROM unnest($1::text[], $2::text[], $3::uuid[], $4::int[], $5::int[], $6::bigint[])
    AS k (tenant_id, event_id, webhook_id, attempts, retries, wait)
WHERE q.tenant_id = k.tenant_id AND q.event_id = k.event_id AND q.webhook_id = k.webhook_id AND q.node IS NOT DISTINCT FROM $7::bigint`)
	keepDeliveries = prepared(`
UPDATE queue q SET trigger = 'retry', attempts = k.attempts, retries = k.retries
FROM unnest($1::text[], $2::text[], $3::uuid[], $4::int[], $5::int[])
    AS k (tenant_id, event_id, webhook_id, attempts, retries)
WHERE q.tenant_id = k.tenant_id AND q.event_id = k.event_id AND q.webhook_id = k.webhook_id AND q.node IS NOT DISTINCT FROM $6::bigint`)
	releaseDeliveries = prepared(`
UPDATE queue q SET node = NULL FROM unnest($1::text[], $2::text[], $3::uuid[]) AS k (tenant_id, event_id, webhook_id)
WHERE q.tenant_id = k.tenant_id AND q.event_id = k.event_id AND q.webhook_id = k.webhook_id AND q.node IS NOT DISTINCT FROM $4::bigint`)

	// takeLane makes an ordered webhook's lane this node's, if it is nobody's or
	// a dead node's, and holds its row: who else wants the lane waits, and then
	// sees what was claimed.
	takeLane = prepared(`
INSERT INTO lanes AS l (tenant_id, webhook_id, node)
SELECT q.tenant_id, q.webhook_id, n.id
FROM (SELECT tenant_id, webhook_id FROM queue WHERE webhook_id = $1::uuid AND node IS NULL ORDER BY due_at, place LIMIT 1) q,
    (SELECT id FROM nodes WHERE id = $2::bigint AND ended_at IS NULL) n
ON CONFLICT (tenant_id, webhook_id) DO UPDATE SET node = excluded.node
WHERE l.node = excluded.node OR NOT EXISTS (SELECT 1 FROM nodes n WHERE n.id = l.node AND n.ended_at IS NULL)
RETURNING true`)
	claimDeliveries = prepared(claimSQL(`true`, `SKIP LOCKED`))
	// claimOrdered leaves no delivery out: it waits for rows that others hold,
	// and claims nothing behind one that another node still has in hand.
	claimOrdered = prepared(claimSQL(`EXISTS (SELECT 1 FROM lanes l WHERE l.tenant_id = q.tenant_id AND l.webhook_id = q.webhook_id AND l.node = $2::bigint)
        AND NOT EXISTS (SELECT 1 FROM nodes n JOIN queue c ON c.node = n.id AND c.webhook_id = $1::uuid WHERE n.id <> $2::bigint)`, ``))
	findRest = prepared(`
SELECT now(),
    (SELECT due_at FROM queue WHERE webhook_id = $1::uuid AND node IS NULL ORDER BY due_at, place LIMIT 1),
    (SELECT due_at FROM queue WHERE webhook_id = $1::uuid AND node IS NULL AND due_at > now() ORDER BY due_at, place LIMIT 1)`)
	// giveLaneUp comes after holdLane, so that it sees what was claimed before.
	holdLane = prepared(`
SELECT true FROM lanes WHERE webhook_id = $1::uuid AND node = $2::bigint FOR UPDATE`)
	giveLaneUp = prepared(`
DELETE FROM lanes l WHERE l.webhook_id = $1::uuid AND l.node = $2::bigint
    AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.webhook_id = $1::uuid AND q.node IS NULL)
    AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.webhook_id = $1::uuid AND q.node = $2::bigint)`)
)

// claimSQL claims a webhook's due deliveries, oldest first: up to $3 of them
// and $4 bytes, but one whatever its size; with $5 also those that are not due.
func claimSQL(condition, locked string) string {
	return `
WITH found AS MATERIALIZED (
    SELECT q.tenant_id, q.event_id, q.due_at, q.place, q.size FROM queue q
    WHERE q.webhook_id = $1::uuid AND q.node IS NULL AND q.due_at <= CASE WHEN $5::boolean THEN 'infinity' ELSE now() END
        AND ` + condition + `
    ORDER BY q.due_at, q.place LIMIT $3::int FOR UPDATE OF q ` + locked + `
), fitting AS (
    SELECT tenant_id, event_id, due_at, place, row_number() OVER w AS n, sum(size) OVER w AS bytes FROM found WINDOW w AS (ORDER BY due_at, place)
), taken AS (
    UPDATE queue q SET node = n.id FROM fitting f, nodes n
    WHERE q.tenant_id = f.tenant_id AND q.event_id = f.event_id AND q.webhook_id = $1::uuid AND (f.n = 1 OR f.bytes <= $4::bigint)
        AND n.id = $2::bigint AND n.ended_at IS NULL
    RETURNING q.tenant_id, q.event_id, q.trigger, q.attempts, q.retries, q.accepted_at, q.day, q.due_at, q.place
)
SELECT t.tenant_id, t.event_id, t.trigger, t.attempts, t.retries, t.accepted_at, e.type, e.payload
FROM taken t JOIN events e ON e.tenant_id = t.tenant_id AND e.id = t.event_id AND e.day = t.day
ORDER BY t.due_at, t.place`
}

// laneRetry is when a lane looks again that another node holds.
const laneRetry = time.Second

// rowsRetry is when a lane looks again whose due deliveries are just being
// claimed by another node.
const rowsRetry = 50 * time.Millisecond

// Claim gives this node the right to send a webhook's due deliveries, oldest
// first, within the limit. An ordered webhook's are claimed by one node alone,
// until it has settled or released them all; to others nothing is due.
func (s *Store) Claim(ctx context.Context, webhook postrider.ID, limit postrider.ClaimLimit) (postrider.Claimed, error) {
	var claimed postrider.Claimed
	err := s.write(ctx, func(b *batch) {
		claimed = postrider.Claimed{NextDue: -1}
		b.addClaim(webhook, limit, &claimed)
	})
	return claimed, err
}

func (b *batch) addClaim(webhook postrider.ID, limit postrider.ClaimLimit, claimed *postrider.Claimed) {
	b.claims = true
	id, node := webhook[:], int8Param(b.node)
	claim, calls := claimDeliveries, make([]call, 0, 5)
	if limit.Ordered {
		claim = claimOrdered
		calls = append(calls, call{id: takeLane, params: [][]byte{id, node}})
	}
	params := [][]byte{id, node, int4Param(limit.Rows), int8Param(int64(limit.Bytes)), boolParam(limit.Early)}
	calls = append(calls, call{id: claim, params: params, row: func(values [][]byte) error {
		claimed.Deliveries = append(claimed.Deliveries, postrider.Delivery{
			DeliveryKey: postrider.DeliveryKey{Tenant: string(values[0]), EventID: string(values[1]), WebhookID: webhook},
			Trigger:     postrider.Trigger(values[2]), Attempts: readInt4(values[3]), Retries: readInt4(values[4]),
			AcceptedAt: readTime(values[5]), EventType: string(values[6]), Payload: slices.Clone(values[7]), Claimed: true,
		})
		return nil
	}}, call{id: findRest, params: [][]byte{id}, row: func(values [][]byte) error {
		now := readTime(values[0])
		left := values[1] != nil && (limit.Early || !readTime(values[1]).After(now))
		claimed.More = left && len(claimed.Deliveries) > 0
		switch {
		case values[2] != nil:
			claimed.NextDue = readTime(values[2]).Sub(now)
		case left && limit.Early:
			claimed.NextDue = rowsRetry
		}
		if left && len(claimed.Deliveries) == 0 { // others have them
			claimed.NextDue = rowsRetry
			if limit.Ordered {
				claimed.NextDue = laneRetry
			}
		}
		return nil
	}})
	if limit.Ordered {
		calls = append(calls, call{id: holdLane, params: [][]byte{id, node}}, call{id: giveLaneUp, params: [][]byte{id, node}})
	}
	b.lanes = append(b.lanes, laneClaim{webhook, calls})
}

// Settle records attempts and what becomes of their deliveries. The queue is
// only changed where the claim is still this node's own; the attempt is
// recorded in any case, since it was made.
func (s *Store) Settle(ctx context.Context, settlements []postrider.Settlement) error {
	if len(settlements) == 0 {
		return nil
	}
	err := s.write(ctx, func(b *batch) {
		for i := range settlements {
			b.addSettlement(&settlements[i])
		}
	})
	if err == nil {
		s.tally(ctx, settlements)
	}
	return err
}

func (b *batch) addSettlement(settlement *postrider.Settlement) {
	key := &settlement.Key
	switch {
	case settlement.Done:
		addKey(into(&b.done, textType, textType, uuidType), key)
	case settlement.Keep:
		addKey(into(&b.kept, textType, textType, uuidType, int4Type, int4Type), key).int4(settlement.Attempts).int4(settlement.Retries)
	default:
		addKey(into(&b.retried, textType, textType, uuidType, int4Type, int4Type, int8Type), key).
			int4(settlement.Attempts).int4(settlement.Retries).int8(settlement.RetryIn.Microseconds())
	}
	b.addAttempt(settlement)
}

// Release gives claimed deliveries back, unsent and at once due.
func (s *Store) Release(ctx context.Context, keys []postrider.DeliveryKey) error {
	return s.write(ctx, func(b *batch) {
		for i := range keys {
			addKey(into(&b.released, textType, textType, uuidType), &keys[i])
		}
	})
}

const (
	redeliveredSQL = `
SELECT t.id, a.event_id, w.id IS NULL OR w.deleted_at IS NOT NULL
FROM attempts a CROSS JOIN LATERAL (SELECT coalesce($3::uuid, a.webhook_id) AS id) t
LEFT JOIN webhooks w ON w.tenant_id = a.tenant_id AND w.id = t.id
WHERE a.tenant_id = $1 AND a.id = $2`
	// A delivery that still waits is sent at once; one that is being sent is
	// left alone: what was asked for is happening.
	queueAgainSQL = `
INSERT INTO queue AS q (tenant_id, event_id, webhook_id, trigger, attempts, accepted_at, due_at, day, size)
SELECT e.tenant_id, e.id, $3, $4,
    coalesce((SELECT max(a.number) FROM attempts a WHERE a.tenant_id = $1 AND a.event_id = $2 AND a.webhook_id = $3), 0),
    now(), now(), e.day, octet_length(e.payload)
FROM events e WHERE e.tenant_id = $1 AND e.id = $2 AND e.day = $5
ON CONFLICT (tenant_id, event_id, webhook_id) DO UPDATE
SET trigger = excluded.trigger, retries = 0, accepted_at = excluded.accepted_at, due_at = excluded.due_at WHERE q.node IS NULL`
	queuedSQL = `SELECT 1 FROM queue WHERE tenant_id = $1 AND event_id = $2 AND webhook_id = $3`
)

// Redeliver puts the delivery of an attempt into the queue again, due at once
// and with its whole retry schedule before it. With a webhook in to, the event
// goes to that one of the tenant's instead.
func (s *Store) Redeliver(ctx context.Context, tenant string, attempt, to postrider.ID) (again postrider.Redelivery, err error) {
	var target *postrider.ID
	if !to.IsZero() {
		target = &to
	}
	err = s.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var deleted bool
		err := tx.QueryRow(ctx, redeliveredSQL, tenant, attempt, target).Scan(&again.WebhookID, &again.EventID, &deleted)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return postrider.Missing("log entry")
		case err != nil:
			return fmt.Errorf("read the attempt to repeat: %w", err)
		case deleted:
			return &postrider.Error{
				Kind: postrider.Conflict, Code: "webhook_deleted",
				Detail: "The webhook of this delivery has been deleted, so there is nowhere to send it again.",
			}
		}
		of, err := eventDays(ctx, tx, tenant, []string{again.EventID})
		if err != nil {
			return err
		}
		done, err := tx.Exec(ctx, queueAgainSQL, tenant, again.EventID, again.WebhookID, postrider.TriggerRedelivery, of[again.EventID].start())
		if err != nil {
			return fmt.Errorf("queue a delivery again: %w", err)
		}
		if done.RowsAffected() > 0 {
			return nil
		}
		var one int
		if err := tx.QueryRow(ctx, queuedSQL, tenant, again.EventID, again.WebhookID).Scan(&one); errors.Is(err, pgx.ErrNoRows) {
			return postrider.Missing("event") // it is older than what is kept
		} else if err != nil {
			return fmt.Errorf("look for the delivery in the queue: %w", err)
		}
		return nil
	})
	return again, err
}

// waitingSQL finds the webhooks with deliveries that a node may claim by
// skipping along the index from one webhook to the next: its cost is the number
// of webhooks, not of deliveries.
const waitingSQL = `
WITH RECURSIVE webhook (id, due_at) AS (
    (SELECT webhook_id, due_at FROM queue WHERE node IS NULL AND webhook_id > $1 ORDER BY webhook_id, due_at, place LIMIT 1)
    UNION ALL
    SELECT next.webhook_id, next.due_at FROM webhook CROSS JOIN LATERAL (
        SELECT webhook_id, due_at FROM queue WHERE node IS NULL AND webhook_id > webhook.id ORDER BY webhook_id, due_at, place LIMIT 1
    ) next
)
SELECT id, due_at, now() FROM webhook LIMIT $2`

// Waiting returns up to limit webhooks that have queued deliveries which no
// node has claimed, in the order of their ids and above after.
func (s *Store) Waiting(ctx context.Context, after postrider.ID, limit int) (list []postrider.Waiting, err error) {
	err = s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		found, err := c.Query(ctx, waitingSQL, after, limit)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (w postrider.Waiting, err error) {
			var due, now time.Time
			err = row.Scan(&w.WebhookID, &due, &now)
			w.Due = due.Sub(now)
			return w, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for webhooks with work: %w", err)
	}
	return list, nil
}
