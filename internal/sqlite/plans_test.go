package sqlite

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postrider"
)

var update = flag.Bool("update", false, "write the golden files")

// plainSealer stands for one that no test here looks at.
type plainSealer struct{}

func (plainSealer) Seal(plain, _ []byte) []byte           { return plain }
func (plainSealer) Open(sealed, _ []byte) ([]byte, error) { return sealed, nil }

func openPlain(t *testing.T) *Store {
	t.Helper()
	store, err := Open(t.Context(), t.TempDir(), plainSealer{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return store
}

// readSQL is every query of the readers, by name; those of the writer are all
// in writeSQL.
func readSQL() [][2]string {
	list := [][2]string{
		{"tenants", tenantsSQL},
		{"API keys", apiKeysSQL},
		{"webhooks", webhooksSQL},
		{"event types", eventTypesSQL},
		{"event", eventSQL},
		{"an event's queued deliveries", eventQueueSQL},
		{"an event's bundles", bundlesOfEventSQL},
		{"last transaction", lastTransactionSQL},
		{"attempt", attemptSQL},
		{"last attempt", lastAttemptSQL},
		{"waiting webhooks", waitingSQL},
		{"fan-outs", fanoutsSQL},
		{"newest attempt", newestAttemptSQL},
		{"page of attempts after an id", tailSQL("status = 'failure'")},
		{"tallies", talliesSQL},
		{"oldest due", oldestSQL},
		{"session", sessionSQL},
		{"replay", replaySQL},
		{"open replays", openReplaysSQL},
		{"attempts to replay", replayedAttemptsSQL},
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
		{"with a failure", postrider.AttemptFilter{Failure: postrider.FailDNS}},
		{"answered with 5xx", postrider.AttemptFilter{CodeClass: 5}},
		{"that succeeded", postrider.AttemptFilter{Status: postrider.AttemptSuccess}},
		{"of a type", postrider.AttemptFilter{EventType: "a"}},
		{"of a time", postrider.AttemptFilter{From: at, To: at, Before: id}},
		{"of a webhook and a time", postrider.AttemptFilter{WebhookID: id, From: at, To: at, Before: id}},
		{"that failed in a time", postrider.AttemptFilter{Status: postrider.AttemptFailure, From: at, To: at, Before: id}},
	} {
		page.filter.Tenant = "a"
		indexed, _ := indexedRows(&page.filter)
		rest, _ := otherConditions(&page.filter)
		list = append(list,
			[2]string{"page of attempts " + page.name, pageSQL(indexed, rest)},
			[2]string{"end of a search for attempts " + page.name, searchEndSQL(indexed)})
	}
	return list
}

// whole are the tables that may be read from one end to the other: what the
// registry and the expander load at the start, and what a query computes.
var whole = regexp.MustCompile(`^SCAN (tenants|api_keys|webhooks|event_types|f|CONSTANT ROW|attempts|webhook|page|ahead|bundled)$`)

// The queries that may read those tables whole. Attempts, page and ahead are
// there the names of bounded inner queries, webhook that of the skipping one.
func mayScan(name, step string) bool {
	return whole.MatchString(step) && (step != "SCAN attempts" || strings.HasPrefix(name, "page of attempts "))
}

func TestPlans_EveryQueryIsAnsweredByAnIndex(t *testing.T) {
	s := openPlain(t)
	fillTables(t, s)
	var all strings.Builder
	explain := func(name, query string) {
		steps := plan(t, s, query)
		for _, step := range steps {
			bare := strings.TrimLeft(step, " ")
			if strings.HasPrefix(bare, "SCAN ") && !mayScan(name, bare) || strings.Contains(bare, "TEMP B-TREE") && name != "tallies" {
				t.Errorf("%s: got %q, want an index to answer it", name, bare)
			}
		}
		fmt.Fprintf(&all, "%s\n%s\n\n", name, strings.Join(steps, "\n"))
	}
	for _, query := range readSQL() {
		explain(query[0], query[1])
	}
	written := slices.Clone(writeSQL)
	slices.Sort(written)
	for _, query := range written {
		query = strings.Join(strings.Fields(query), " ")
		if !strings.HasPrefix(query, "INSERT INTO") && strings.Contains(query, " ") && query != "BEGIN IMMEDIATE" {
			explain(query, query)
		}
	}
	golden(t, "testdata/plans.txt", all.String())
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

// fillTables gives every table that grows tens of thousands of rows, and the
// planner its statistics of them.
func fillTables(t *testing.T, s *Store) {
	t.Helper()
	const numbers = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000) `
	for _, fill := range []string{
		`INSERT INTO webhooks SELECT 't' || i % 7, randomblob(16), 'u', 'c', NULL, '[]', 1, '', 0, 0, NULL, 0, 0, 0, 0, NULL, 0,
    NULL, NULL, NULL, i, i, NULL FROM n`,
		`INSERT INTO events SELECT 't' || i % 7, i, 'room_status.updated', NULL, i, i % 3, x'7b7d', i FROM n`,
		`INSERT INTO bundles SELECT i, CAST(i % 50 AS BLOB), i, 't' || i % 7, 1, x'00' FROM n`,
		`INSERT INTO queue SELECT 't' || i % 7, i, CAST(i % 50 AS BLOB), 'event', 0, 0, i, i FROM n`,
		`INSERT INTO attempts SELECT 't' || i % 7, randomblob(16), CAST(i % 50 AS BLOB), i, 'room_status.updated', 1, 'event', i, 'u',
    iif(i % 5, 'success', 'failure'), 200, '', '', NULL, '', '', 0, 0, 0, 0, 0, 0, '', '', NULL FROM n`,
		`INSERT INTO idempotency_keys SELECT 's', i, x'00', '[]', i FROM n`,
		`INSERT INTO replays SELECT 't' || i % 7, randomblob(16), CAST(i % 50 AS BLOB), NULL, i, 'failed', '[]', 0, 1, 'done', x'', 0, 0, 0,
    i % 1000 = 0, i, i FROM n`,
		`INSERT INTO replay_deliveries SELECT CAST(i % 3 AS BLOB), i, i, 1 FROM n`,
		`INSERT INTO sessions SELECT randomblob(32), i % 2, 't', x'00', i FROM n`,
		`INSERT INTO tallies SELECT 't' || i % 7, randomblob(16), i, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM n`,
	} {
		into := strings.Fields(fill)[2]
		if _, err := s.conn.ExecContext(t.Context(), strings.Replace(fill, " SELECT", " "+numbers+"SELECT", 1)); err != nil {
			t.Fatalf("fill %s: %v", into, err)
		}
	}
}

var parameter = regexp.MustCompile(`\?(\d*)`)

// plan is how SQLite answers a query, a line for each step.
func plan(t *testing.T, s *Store, query string) []string {
	t.Helper()
	args := 0
	for i, p := range parameter.FindAllStringSubmatch(query, -1) {
		number := i + 1
		if p[1] != "" {
			fmt.Sscan(p[1], &number) //nolint:errcheck // they are digits
		}
		args = max(args, number)
	}
	rows, err := s.conn.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, make([]any, args)...)
	if err != nil {
		t.Fatalf("explain %q: %v", query, err)
	}
	defer rows.Close() //nolint:errcheck // what was read has been read
	var steps []string
	depth := map[int]int{}
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		depth[id] = depth[parent] + 1
		steps = append(steps, strings.Repeat("  ", depth[id])+detail)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return steps
}
