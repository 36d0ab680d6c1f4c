package postgres

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"

	"postrider"
)

// olderDatabase is one with the schema of the version before this one.
func olderDatabase(t *testing.T) (database string) {
	t.Helper()
	database = emptyDatabase(t)
	if err := Migrations(t.Context(), cluster.URL(database), func(ctx context.Context, p *goose.Provider) error {
		known := p.ListSources()
		_, err := p.UpTo(ctx, known[len(known)-2].Version)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return database
}

func emptyDatabase(t *testing.T) (database string) {
	t.Helper()
	database = fmt.Sprintf("test%d", databases.Add(1))
	if err := cluster.Do(t.Context(), "postgres", `CREATE DATABASE `+database); err != nil {
		t.Fatal(err)
	}
	return database
}

func connectTo(t *testing.T, database string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(cluster.URL(database))
	if err != nil {
		t.Fatal(err)
	}
	return connect(t, config)
}

// lacking is how many migrations a database lacks.
func lacking(t *testing.T, c *pgx.Conn) (missing int) {
	t.Helper()
	list, _, err := migrationsOf(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		if m.AppliedAt.IsZero() {
			missing++
		}
	}
	return missing
}

// olderSQL is what the first version's nodes do, and may do for as long as
// versions work side by side that were not told otherwise: it is not to be
// edited with the schema.
var olderSQL = []string{
	`UPDATE nodes SET beat_at = now() WHERE id = 1 AND ended_at IS NULL`,
	`INSERT INTO events (tenant_id, id, created_at, occurred_at, day, deliveries, type, payload)
VALUES ('default', gen_random_uuid()::text, now(), NULL, current_date, 1, 'a', '{}')`,
	`INSERT INTO queue (tenant_id, event_id, webhook_id, accepted_at, due_at, day, size, trigger, node)
SELECT tenant_id, id, '00000000-0000-0000-0000-000000000001', now(), now(), day, 2, 'event', 1 FROM events`,
	`INSERT INTO replays (tenant_id, id, webhook_id, to_at, status, events, dry_run, rate, state, after, total, queued, skipped, open, created_at)
VALUES ('default', gen_random_uuid(), gen_random_uuid(), now(), 'failed', '{}', false, 1, 'running', gen_random_uuid(), 0, 0, 0, true, now())`,
	`INSERT INTO attempts (tenant_id, id, webhook_id, at, number, status_code, dns, connect, tls, first_byte, total, truncated, event_id, event_type,
    trigger, status, failure, url, remote_ip, tls_version, detail, request_header, response_header)
SELECT tenant_id, gen_random_uuid(), webhook_id, now(), 1, 200, 0, 0, 0, 0, 0, false, event_id, 'a', trigger, 'success', '', 'u', '', '', '', '', '' FROM queue`,
	`DELETE FROM queue WHERE node = 1`,
	`DELETE FROM events`,
	`DELETE FROM replays`,
}

func TestOpen_AnOlderNodeWorksWhileANewerOneJoins(t *testing.T) {
	database := olderDatabase(t)
	older := connectTo(t, database)
	if behind := lacking(t, older); behind != 1 {
		t.Fatalf("got a schema that lacks %d migrations, want the last to be missing", behind)
	}
	do(t, older, `INSERT INTO nodes (beat_at) VALUES (now())`)
	for _, table := range historyTables {
		if err := pgx.BeginFunc(t.Context(), older, func(tx pgx.Tx) error { return makeDay(t.Context(), tx, table, dayOf(time.Now())) }); err != nil {
			t.Fatal(err)
		}
	}
	do(t, older, olderSQL...)
	opened := make(chan error)
	var newer *Store
	go func() {
		var err error
		newer, err = Open(t.Context(), options(database))
		opened <- err
	}()
	for opening := true; opening; {
		do(t, older, olderSQL...)
		select {
		case err := <-opened:
			if err != nil {
				t.Fatal(err)
			}
			opening = false
		default:
		}
	}
	do(t, older, olderSQL...) // on the newer schema
	accept(t, newer, eventFor(postrider.NewID(), false))
	if behind := lacking(t, older); behind != 0 {
		t.Errorf("got a schema that lacks %d migrations, want the newer node's", behind)
	}
	if err := newer.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpen_ATableThatIsInUseIsAskedForAgain(t *testing.T) {
	database := olderDatabase(t)
	user := connectTo(t, database)
	do(t, user, `BEGIN`, `LOCK TABLE replays IN ACCESS SHARE MODE`)
	freed := make(chan error)
	go func() {
		<-time.After(lockWait + time.Second/2) // longer than for any lock is waited
		_, err := user.Exec(t.Context(), `COMMIT`)
		freed <- err
	}()
	s := open(t, database)
	if err := <-freed; err != nil {
		t.Error(err)
	}
	if behind := lacking(t, user); behind != 0 {
		t.Errorf("got a schema that lacks %d migrations, want none", behind)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestMigrationStatus_OnlyReads(t *testing.T) {
	database := emptyDatabase(t)
	list, newest, err := MigrationStatus(t.Context(), cluster.URL(database))
	if err != nil || newest != 0 || len(list) == 0 || !list[0].AppliedAt.IsZero() {
		t.Errorf("got %+v, %d, %v of an empty database, want all missing", list, newest, err)
	}
	if err := CheckEmpty(t.Context(), cluster.URL(database)); err != nil {
		t.Errorf("got %v, want the database still empty", err)
	}
	openNode(t, database)
	list, newest, err = MigrationStatus(t.Context(), cluster.URL(database))
	if err != nil || newest != list[len(list)-1].Version {
		t.Errorf("got %+v, %d, %v, want the newest", list, newest, err)
	}
	for _, m := range list {
		if age := time.Since(m.AppliedAt); age < 0 || age > time.Minute || !strings.HasSuffix(m.Name, ".sql") {
			t.Errorf("got %+v, want it applied just now", m)
		}
	}
}
