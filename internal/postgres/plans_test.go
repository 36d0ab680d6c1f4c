package postgres

import (
	"context"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"postrider"
)

var (
	update = flag.Bool("update", false, "write the golden files")
	// The plans are those of -history=5000000 -queued=1000000, which take some
	// minutes to fill in.
	history = flag.Int("history", 100_000, "how many events and attempts the plans are made over")
	queued  = flag.Int("queued", 20_000, "how many queued deliveries the plans are made over")
)

// readSQL is every statement but those of the writer, by name.
func readSQL() [][2]string {
	list := [][2]string{
		{"tenants", tenantsSQL},
		{"tenant", tenantSQL},
		{"API keys", apiKeysSQL},
		{"API key", apiKeySQL},
		{"webhooks", webhooksSQL},
		{"webhook", webhookSQL},
		{"event types", eventTypesSQL},
		{"event type", eventTypeSQL},
		{"event", eventSQL},
		{"event accepted before", acceptedEventSQL},
		{"days of chosen ids", chosenDaysSQL},
		{"idempotency key", idempotencyKeySQL},
		{"an event's queued deliveries", eventQueueSQL},
		{"attempt", attemptSQL},
		{"an attempt's payload", payloadSQL},
		{"last attempt", lastAttemptSQL},
		{"newest attempt", newestAttemptSQL},
		{"attempt to repeat", redeliveredSQL},
		{"queue again", queueAgainSQL},
		{"waiting webhooks", waitingSQL},
		{"oldest due", oldestSQL},
		{"fan-outs", fanoutsSQL},
		{"fan-out", lockFanoutSQL},
		{"tallies", talliesSQL},
		{"session", sessionSQL},
		{"portal link", takeLinkSQL},
		{"changes", changesSQL},
		{"heartbeat", beatSQL},
		{"end dead nodes", endDeadSQL},
		{"free claims", freeClaimsSQL},
		{"free lanes", freeLanesSQL},
		{"forget nodes", forgetNodesSQL},
		{"replay", replaySQL},
		{"open replays", openReplaysSQL},
		{"other replay", otherReplaySQL},
		{"forget replays", forgetReplaysSQL},
		{"length of a webhook's queue", countQueuedSQL},
		{"attempts to replay", replayedAttemptsSQL},
		{"events to replay", replayedEventsSQL},
		{"queue what was collected", queueCollectedSQL},
		{"clear what was collected", clearReplaySQL},
	}
	for i, sql := range expiries {
		list = append(list, [2]string{fmt.Sprintf("expiry %d", i+1), sql})
	}
	id, at := postrider.NewID(), time.Now()
	for _, page := range []struct {
		name   string
		filter postrider.AttemptFilter
	}{
		{"all", postrider.AttemptFilter{}},
		{"of a webhook", postrider.AttemptFilter{WebhookID: id}},
		{"of an event", postrider.AttemptFilter{EventID: "e"}},
		{"of an event for a webhook", postrider.AttemptFilter{EventID: "e", WebhookID: id}},
		{"that failed", postrider.AttemptFilter{Status: postrider.AttemptFailure}},
		{"that were cancelled", postrider.AttemptFilter{Status: postrider.AttemptCancelled}},
		{"answered with 5xx", postrider.AttemptFilter{CodeClass: 5}},
		{"that succeeded", postrider.AttemptFilter{Status: postrider.AttemptSuccess}},
		{"of a type", postrider.AttemptFilter{EventType: "a"}},
		{"of a webhook and a time", postrider.AttemptFilter{WebhookID: id, From: at, To: at, Before: id}},
		{"that failed in a time", postrider.AttemptFilter{Status: postrider.AttemptFailure, From: at, To: at, Before: id}},
	} {
		page.filter.Tenant = "a"
		var q conditions
		indexed := indexedRows(&page.filter, &q)
		end := searchEndSQL(indexed, fmt.Sprintf("$%d", len(q.args)+1))
		searched := q.param(1)
		rest := otherConditions(&page.filter, &q)
		list = append(list,
			[2]string{"page of attempts " + page.name, pageSQL(indexed, searched, rest, q.param(1))},
			[2]string{"end of a search for attempts " + page.name, end})
	}
	var q conditions
	tenant, from, to, limit := q.param(1), q.param(1), q.param(1), q.param(1)
	return append(list, [2]string{"page of attempts after an id", tailSQL(tenant, from, to, limit, "status = 'failure'")})
}

// whole are the tables that may be read from one end to the other: those that
// the registry and the expander load at the start, and the nodes and their lanes,
// which are few.
var whole = regexp.MustCompile(`Seq Scan on (tenants|api_keys|webhooks w|event_types|fanouts f|nodes|nodes n|nodes nodes_1|lanes l|revision)$`)

// growing are the scans of the tables that grow with deliveries.
var growing = regexp.MustCompile(`(Index Scan|Index Only Scan|Bitmap Index Scan)( Backward)?( using \w+)? on (queue|events|attempts)`)

// walked are the steps that read an index of a growing table without a
// condition: from one end to the other, as bad as the table itself.
func walked(steps []string) (found []string) {
	for i, step := range steps {
		if !growing.MatchString(step) {
			continue
		}
		conditioned := false
		for _, more := range steps[i+1:] {
			if strings.Contains(more, "->") || !strings.HasPrefix(more, indent(step)+" ") {
				break
			}
			conditioned = conditioned || strings.Contains(more, "Index Cond:")
		}
		if !conditioned {
			found = append(found, step)
		}
	}
	return found
}

func indent(line string) string { return line[:len(line)-len(strings.TrimLeft(line, " "))] }

func TestWalked_FindsWhatHasNoConditionOfItsOwn(t *testing.T) {
	steps := []string{
		"Limit",
		"  ->  Index Scan using events_day_pkey on events_20260101 e",
		"        Filter: (type = $1)",
		"  ->  Index Only Scan Backward using queue_due on queue q",
		"        Index Cond: (webhook_id = $1)",
		"  ->  Index Scan using nodes_pkey on nodes n",
		"  ->  Bitmap Heap Scan on attempts_rest a",
		"        ->  Bitmap Index Scan on attempts_rest_pkey",
	}
	if got, want := walked(steps), []string{steps[1], steps[7]}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPlans_EveryQueryIsAnsweredByAnIndex(t *testing.T) {
	database := newDatabase(t)
	s := openNode(t, database)
	fillTables(t, database)
	reader, writer := connect(t, s.config), connect(t, s.writing())
	var text strings.Builder
	explain := func(c *pgx.Conn, name, query string) {
		all := plan(t, c, query)
		for _, step := range walked(all) {
			t.Errorf("%s: got %q without a condition, want a part of the index", name, step)
		}
		steps := shorten(all)
		for _, step := range steps {
			if strings.Contains(step, "Seq Scan") && !whole.MatchString(step) {
				t.Errorf("%s: got %q, want an index to answer it", name, step)
			}
			// A sort may order what is bounded already, not all rows of history.
			if strings.HasSuffix(step, "Sort") && strings.Contains(name, " of ") {
				t.Errorf("%s: got %q, want the order of an index", name, step)
			}
		}
		fmt.Fprintf(&text, "%s\n%s\n\n", name, strings.Join(steps, "\n"))
	}
	for _, query := range readSQL() {
		explain(reader, query[0], query[1])
	}
	written := slices.Clone(writeSQL)
	slices.Sort(written)
	for _, query := range written {
		query = strings.Join(strings.Fields(query), " ")
		if !strings.HasPrefix(query, "INSERT INTO") {
			explain(writer, query, query)
		}
	}
	golden(t, "testdata/plans.txt", text.String())
}

func connect(t *testing.T, config *pgx.ConnConfig) *pgx.Conn {
	t.Helper()
	c, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) }) //nolint:errcheck // it has been read
	return c
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s (-want +got); after a look, write it with -update:\n%s", path, diff)
	}
}

// fillTables gives every table that grows many rows, over the days that have
// partitions, and the planner its statistics of them.
func fillTables(t *testing.T, database string) {
	t.Helper()
	// Item i of n: a time in the days ahead, or in the two days before, which have
	// no partitions, and an id of that time. Of a table that is known to be empty
	// any plan is as good as another, and none would be told from a bad one.
	const at = `(date_trunc('day', now()) + (i - 1) * interval '10 days' / $n - interval '2 days')`
	// The same number of days from yesterday on, whatever the hour: the plans of
	// what expires must not depend on how much of the day is over.
	const expiry = `(now() - interval '1 day' + i * interval '7 days' / $n)`
	const id = `(lpad(to_hex((extract(epoch FROM ` + at + `) * 1000)::bigint), 12, '0') || '7000' || lpad(to_hex(i), 16, '8'))::uuid`
	const webhook = `lpad(to_hex(i % 200), 32, '0')::uuid`
	fills := []struct {
		n   int
		sql string
	}{
		{20_000, `INSERT INTO webhooks SELECT 't' || i % 7, ` + webhook + `, 'u', 'c', NULL, '{}', true, '', false, 0, NULL, 0, 0, false, false, NULL, 0,
    NULL, NULL, NULL, now(), now(), NULL FROM generate_series(1, 200) i`},
		{*history, `INSERT INTO events SELECT 't' || i % 7, ` + id + `::text, ` + at + `, NULL, ` + at + `::date, 1, 'room_status.updated', '{}'
    FROM generate_series(1, $n) i`},
		{*history, `INSERT INTO attempts SELECT 't' || i % 7, ` + id + `, ` + webhook + `, ` + at + `, NULL, 1, 200, 0, 0, 0, 0, 0, false,
    ` + id + `::text, 'room_status.updated', 'event', CASE WHEN i % 50 = 0 THEN 'failure' ELSE 'success' END, '', 'u', '', '', '', '', '', NULL
    FROM generate_series(1, $n) i`},
		{*queued, `INSERT INTO queue (tenant_id, event_id, webhook_id, accepted_at, due_at, node, day, size, trigger)
    SELECT 't' || i % 7, ` + id + `::text, ` + webhook + `, now(), now() + i * interval '1 second',
        CASE WHEN i % 20 = 0 THEN (SELECT min(id) FROM nodes) END, ` + at + `::date, 2, 'event' FROM generate_series(1, $n) i`},
		{20_000, `INSERT INTO chosen_ids SELECT 't', i::text, ` + at + `::date FROM generate_series(1, $n) i`},
		{20_000, `INSERT INTO idempotency_keys SELECT 's', i::text, '', '[]', ` + expiry + ` FROM generate_series(1, $n) i`},
		{20_000, `INSERT INTO sessions SELECT decode(lpad(to_hex(i), 64, '0'), 'hex'), i % 2 = 0, 't', '', ` + expiry + ` FROM generate_series(1, $n) i`},
		{20_000, `INSERT INTO changes SELECT i, 'webhook', 't', 'k', ` + expiry + ` FROM generate_series(1, $n) i`},
		{20_000, `INSERT INTO tallies SELECT 't' || i % 7, ` + webhook + `, i, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM generate_series(1, $n) i`},
		{20_000, `INSERT INTO replays SELECT 't' || i % 7, ` + id + `, ` + webhook + `, NULL, now(), 'failed', '{}', false, 1, 'done', ` + id + `, 0, 0, 0,
    i % 1000 = 0, now(), ` + expiry + ` FROM generate_series(1, $n) i`},
		{20_000, `INSERT INTO replay_deliveries SELECT 't' || i % 7, lpad(to_hex(i % 3), 32, '0')::uuid, ` + at + `, i::text, now()::date, 1
    FROM generate_series(1, $n) i`},
	}
	statements := []string{`SET synchronous_commit = off`}
	for _, fill := range fills {
		statements = append(statements, strings.ReplaceAll(fill.sql, "$n", fmt.Sprint(fill.n)))
	}
	if err := cluster.Do(t.Context(), database, append(statements, `VACUUM ANALYZE`)...); err != nil {
		t.Fatal(err)
	}
}

// examples are values of the types that statements take.
var examples = map[uint32]string{
	16: "true", 17: `'\x00'`, 20: "10", 21: "10", 23: "10", 25: "'t1'", 701: "1", 1082: "current_date", 1184: "now()", 1186: "'1 day'",
	2950: "'00000000-0000-0000-0000-000000000007'", 1000: "'{true}'", 1001: `'{"\\x00"}'`, 1016: "'{10}'", 1007: "'{10}'", 1009: "'{t1}'",
	1182: "'{2026-01-01}'", 1185: "'{2026-01-01}'", 2951: "'{00000000-0000-0000-0000-000000000007}'",
}

var dayName = regexp.MustCompile(`(events|attempts)_\d{8}`)

// Of two ways to run a subplan the planner keeps one, and the number that it had.
var subplan = regexp.MustCompile(`SubPlan \d+`)

var copyNumber = regexp.MustCompile(`(events|attempts|e|a)_(\d+|rest)\b`)

// plan is how PostgreSQL answers a query, a line for each step.
func plan(t *testing.T, c *pgx.Conn, query string) []string {
	t.Helper()
	prepared, err := c.Prepare(t.Context(), "explained", query)
	if err != nil {
		t.Fatalf("prepare %q: %v", query, err)
	}
	var args []string
	for _, kind := range prepared.ParamOIDs {
		if examples[kind] == "" {
			t.Fatalf("%q has a parameter of type %d, want an example for it", query, kind)
		}
		args = append(args, examples[kind])
	}
	list := ""
	if len(args) > 0 {
		list = "(" + strings.Join(args, ", ") + ")"
	}
	rows, err := c.Query(t.Context(), `EXPLAIN (COSTS OFF) EXECUTE explained`+list, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("explain %q: %v", query, err)
	}
	if err := c.Deallocate(t.Context(), "explained"); err != nil {
		t.Fatal(err)
	}
	return steps
}

// shorten leaves steps that differ in the day alone there once.
func shorten(steps []string) (short []string) {
	seen := map[string]bool{}
	for _, step := range steps {
		step = copyNumber.ReplaceAllString(dayName.ReplaceAllString(step, "${1}_day"), "$1")
		step = subplan.ReplaceAllString(step, "SubPlan")
		if !seen[step] && !strings.Contains(step, "Subplans Removed") {
			short = append(short, step)
		}
		seen[step] = true
	}
	return short
}
