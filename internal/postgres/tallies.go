package postgres

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"postrider"
)

const latencyColumns = `to_5, to_10, to_25, to_50, to_100, to_250, to_500, to_1000, to_2500, to_5000, to_10000, above`

var addTallies = prepared(`
INSERT INTO tallies AS t (tenant_id, webhook_id, minute, successes, failures, ` + latencyColumns + `)
SELECT unnest($1::text[]), unnest($2::uuid[]), unnest($3::bigint[]), unnest($4::bigint[]), unnest($5::bigint[]), unnest($6::bigint[]), unnest($7::bigint[]), unnest($8::bigint[]), unnest($9::bigint[]), unnest($10::bigint[]), unnest($11::bigint[]), unnest($12::bigint[]), unnest($13::bigint[]), unnest($14::bigint[]), unnest($15::bigint[]), unnest($16::bigint[]), unnest($17::bigint[])
ON CONFLICT (tenant_id, webhook_id, minute) DO UPDATE SET successes = t.successes + excluded.successes,
    failures = t.failures + excluded.failures, to_5 = t.to_5 + excluded.to_5, to_10 = t.to_10 + excluded.to_10,
    to_25 = t.to_25 + excluded.to_25, to_50 = t.to_50 + excluded.to_50, to_100 = t.to_100 + excluded.to_100,
    to_250 = t.to_250 + excluded.to_250, to_500 = t.to_500 + excluded.to_500, to_1000 = t.to_1000 + excluded.to_1000,
    to_2500 = t.to_2500 + excluded.to_2500, to_5000 = t.to_5000 + excluded.to_5000,
    to_10000 = t.to_10000 + excluded.to_10000, above = t.above + excluded.above`)

const talliesSQL = `
SELECT (minute - $1) / $2, sum(successes)::bigint, sum(failures)::bigint, sum(to_5)::bigint, sum(to_10)::bigint,
    sum(to_25)::bigint, sum(to_50)::bigint, sum(to_100)::bigint, sum(to_250)::bigint, sum(to_500)::bigint,
    sum(to_1000)::bigint, sum(to_2500)::bigint, sum(to_5000)::bigint, sum(to_10000)::bigint, sum(above)::bigint
FROM tallies WHERE tenant_id = $3 AND webhook_id = $4 AND minute >= $1 AND minute < $5
GROUP BY 1`

// A tallyKey is what one row counts. Without a webhook it is a tenant's sum,
// without a tenant that of all.
type tallyKey struct {
	tenant  string
	webhook postrider.ID
	minute  int64
}

func minuteOf(t time.Time) int64 { return t.Unix() / 60 }

// TallyCounts are what was counted and is not yet written. They are written
// together, at most once in tallyEvery: a row that every transaction changed
// would be waited for by every node, and would leave as many dead versions
// behind. A crash loses what was counted since; the attempts themselves are
// committed.
type tallyCounts struct {
	mu      sync.Mutex
	waiting map[tallyKey]*postrider.Tally
	written time.Time
}

const tallyEvery = time.Second

// tally counts what was recorded.
func (s *Store) tally(ctx context.Context, settlements []postrider.Settlement) {
	c := &s.counts
	c.mu.Lock()
	if c.waiting == nil {
		c.waiting = map[tallyKey]*postrider.Tally{}
	}
	for i := range settlements {
		a := &settlements[i].Attempt
		if a.Status == postrider.AttemptCancelled {
			continue
		}
		minute := minuteOf(a.At)
		for _, key := range []tallyKey{{a.Tenant, a.WebhookID, minute}, {tenant: a.Tenant, minute: minute}, {minute: minute}} {
			t := c.waiting[key]
			if t == nil {
				t = new(postrider.Tally)
				c.waiting[key] = t
			}
			t.Count(a)
		}
	}
	due := time.Since(c.written) >= tallyEvery
	c.mu.Unlock()
	if due {
		s.writeTallies(ctx)
	}
}

// writeTallies writes what was counted. What cannot be written is kept.
func (s *Store) writeTallies(ctx context.Context) {
	c := &s.counts
	c.mu.Lock()
	list := c.waiting
	c.waiting, c.written = nil, time.Now()
	c.mu.Unlock()
	if len(list) == 0 {
		return
	}
	// In one order on every node, so that two never wait for each other.
	keys := slices.SortedFunc(maps.Keys(list), func(a, b tallyKey) int {
		return cmp.Or(cmp.Compare(a.tenant, b.tenant), bytes.Compare(a.webhook[:], b.webhook[:]), cmp.Compare(a.minute, b.minute))
	})
	err := s.write(context.WithoutCancel(ctx), func(b *batch) {
		kinds := append([]uint32{textType, uuidType}, slices.Repeat([]uint32{int8Type}, 3+len(postrider.Tally{}.Latency))...)
		r := into(&b.tallies, kinds...)
		for _, key := range keys {
			t := list[key]
			r.text(key.tenant).id(key.webhook).int8(key.minute).int8(t.Successes).int8(t.Failures)
			for _, n := range t.Latency {
				r.int8(n)
			}
		}
	})
	if err == nil || errors.Is(err, errClosed) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, t := range c.waiting {
		if list[key] == nil {
			list[key] = new(postrider.Tally)
		}
		list[key].Add(t)
	}
	c.waiting = list
}

// Tallies returns the counts of a span of time, one for each step, those
// without any attempt included. Another node's last second may be missing.
func (s *Store) Tallies(ctx context.Context, q postrider.TallyQuery) ([]postrider.Tally, error) {
	step := max(1, int64(q.Step/time.Minute))
	from, to := minuteOf(q.From), minuteOf(q.To)
	list := make([]postrider.Tally, max(0, (to-from+step-1)/step))
	for i := range list {
		list[i].At = time.Unix((from+int64(i)*step)*60, 0).UTC()
	}
	s.writeTallies(ctx)
	err := s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		found, err := c.Query(ctx, talliesSQL, from, step, q.Tenant, q.WebhookID, to)
		if err != nil {
			return err
		}
		var i int
		var t postrider.Tally
		into := []any{&i, &t.Successes, &t.Failures}
		for n := range t.Latency {
			into = append(into, &t.Latency[n])
		}
		_, err = pgx.ForEachRow(found, into, func() error {
			list[i].Add(&t)
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the tallies: %w", err)
	}
	return list, nil
}

// oldestSQL looks at what is claimed node by node.
const oldestSQL = `
SELECT min(due_at) FROM (
    (SELECT due_at FROM queue WHERE webhook_id = $1 AND node IS NULL ORDER BY due_at, place LIMIT 1)
    UNION ALL
    SELECT q.due_at FROM nodes n JOIN queue q ON q.node = n.id AND q.webhook_id = $1
) AS queued WHERE due_at < now()`

// OldestDue returns since when the oldest unsettled delivery of the webhooks
// has been due; the zero time when none of theirs is.
func (s *Store) OldestDue(ctx context.Context, webhooks []postrider.ID) (oldest time.Time, err error) {
	err = s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		for _, id := range webhooks {
			var due *time.Time
			if err := c.QueryRow(ctx, oldestSQL, id).Scan(&due); err != nil {
				return fmt.Errorf("look for the oldest due delivery: %w", err)
			}
			if due != nil && (oldest.IsZero() || due.Before(oldest)) {
				oldest = due.UTC()
			}
		}
		return nil
	})
	return oldest, err
}
