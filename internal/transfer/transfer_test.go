package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postrider"
	"postrider/internal/pgtest"
	"postrider/internal/postgres"
	"postrider/internal/sealing"
	"postrider/internal/sqlite"
	"postrider/internal/storetest"
	"postrider/internal/transfer"
)

var cluster *pgtest.Cluster

func TestMain(m *testing.M) {
	flag.Parse()
	var err error
	if cluster, err = pgtest.Start(false); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := cluster.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func sealer(t *testing.T, first byte) *sealing.Sealer {
	t.Helper()
	key := make([]byte, 32)
	key[0] = first
	s, err := sealing.New(key)
	must(t, err)
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openSQLite(t *testing.T) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), t.TempDir(), sealer(t, 0))
	must(t, err)
	t.Cleanup(func() { s.Close() }) //nolint:errcheck // the test is over
	return s
}

func openPostgres(t *testing.T) *postgres.Store {
	t.Helper()
	name := fmt.Sprintf("test_%d", time.Now().UnixNano())
	must(t, cluster.Do(t.Context(), "postgres", `CREATE DATABASE `+name))
	s, err := postgres.Open(t.Context(), postgres.Options{URL: cluster.URL(name), Sealer: sealer(t, 0)})
	must(t, err)
	t.Cleanup(func() { s.Close() }) //nolint:errcheck // the test is over
	return s
}

func quiet(int64, int64) {}

func read(ctx context.Context, r io.Reader, to transfer.Target, key transfer.Sealer, progress transfer.Progress) ([]int64, error) {
	export, err := transfer.Open(r, key)
	if err != nil {
		return nil, err
	}
	return export.Fill(ctx, to, progress)
}

// rowsOf are all rows that a store hands over, by table and as texts; those of
// the queue in their order, and the others sorted.
func rowsOf(t *testing.T, from transfer.Source) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	must(t, from.Export(t.Context(), func([]int64) error { return nil }, func(table *postrider.ExportTable, values []any) error {
		line := fmt.Sprintf("%#v", values)
		if table.Name == "idempotency_keys" {
			line = strings.ReplaceAll(line, " ", "") // the answer is JSON
		}
		all[table.Name] = append(all[table.Name], line)
		return nil
	}))
	for name, rows := range all {
		if name != "queue" {
			slices.Sort(rows)
		}
	}
	return all
}

func move(ctx context.Context, t *testing.T, from transfer.Source, to transfer.Target) {
	t.Helper()
	var stream bytes.Buffer
	wrote, err := transfer.Write(ctx, &stream, from, sealer(t, 0), quiet)
	must(t, err)
	filled, err := read(ctx, &stream, to, sealer(t, 0), quiet)
	must(t, err)
	if !slices.Equal(wrote, filled) {
		t.Errorf("got %d rows read, want the %d written", filled, wrote)
	}
}

// fill gives a store rows of every noun.
func fill(t *testing.T, s *sqlite.Store) {
	t.Helper()
	ctx, now := t.Context(), time.Now().UTC().Truncate(time.Microsecond)
	must(t, s.CreateTenant(ctx, postrider.Tenant{Name: "acme", Paused: true, CreatedAt: now}))
	must(t, s.CreateAPIKey(ctx, postrider.APIKey{ID: postrider.NewID(), Tenant: "acme", Name: "a 'key'", Prefix: "prk_", CreatedAt: now}))
	must(t, s.PutEventType(ctx, postrider.EventType{
		Name: "a.b", Description: "d", Notes: "*n*", Schema: []byte(`{"type": "object"}`), CreatedAt: now, UpdatedAt: now,
	}))
	webhook := postrider.Webhook{
		ID: postrider.NewID(), Tenant: "acme", URL: "https://partner.test/", ContentType: postrider.JSON, Events: []string{"a.*", "c"},
		Active: true, Ordered: true, Secret: "a secret of many words", Headers: map[string]string{"X-A": "b"}, RateLimit: 0.1,
		RetrySchedule: []time.Duration{}, Timeout: time.Second, CreatedAt: now, UpdatedAt: now,
		Disabled: &postrider.Disabled{At: now, Code: "gone", Reason: "It answered 410."},
	}
	must(t, s.PutWebhook(ctx, webhook))
	plain := webhook
	plain.ID, plain.Secret, plain.Headers, plain.Disabled, plain.RetrySchedule, plain.DeletedAt = postrider.NewID(), "", nil, nil, nil, now
	must(t, s.PutWebhook(ctx, plain))

	var list []postrider.Accepted
	payloads := storetest.Payloads()
	payloads["1 MiB"] = []byte(`"` + strings.Repeat("x", 1<<20-2) + `"`)
	n := 0
	for name, payload := range payloads {
		e := postrider.Event{ID: postrider.NewID().String(), Tenant: "acme", Type: "a.b", Payload: payload, CreatedAt: now, Deliveries: 1}
		a := postrider.Accepted{Event: e, Publication: n}
		if n%3 == 0 {
			a.Event.ID, a.ChosenID, a.Event.OccurredAt = "chosen "+name, true, now.Add(-time.Hour)
			a.Event.CreatedAt = now.AddDate(0, 0, -n) // some in days without a partition
		}
		a.Fanout = n%5 == 0
		a.Deliveries = []postrider.Delivery{{
			DeliveryKey: postrider.DeliveryKey{Tenant: "acme", EventID: a.Event.ID, WebhookID: webhook.ID}, EventType: "a.b",
			Payload: payload, Trigger: postrider.TriggerEvent, AcceptedAt: a.Event.CreatedAt,
		}}
		list = append(list, a)
		n++
	}
	_, err := s.Accept(ctx, list, &postrider.IdempotencyKey{Scope: "acme", Key: "k 1"})
	must(t, err)
	claimed, err := s.Claim(ctx, webhook.ID, postrider.ClaimLimit{Rows: 8, Bytes: 1 << 30})
	must(t, err)
	for i := range claimed.Deliveries {
		d := &claimed.Deliveries[i]
		a := postrider.Attempt{
			ID: postrider.NewID(), Tenant: d.Tenant, WebhookID: d.WebhookID, EventID: d.EventID, EventType: d.EventType, Number: 1,
			Trigger: d.Trigger, At: now, URL: webhook.URL, Status: postrider.AttemptFailure,
			RequestHeader: postrider.Header{{Name: "Content-Type", Value: "application/json"}},
		}
		a.Outcome.StatusCode, a.Outcome.Failure = 500, postrider.FailHTTP5xx
		a.Outcome.Response.Header = postrider.Header{{Name: "X-Odd", Value: "a\xff\x80"}}
		a.Outcome.Response.Body = []byte("\x00\xff\xfe body")
		must(t, s.Settle(ctx, []postrider.Settlement{{
			Key: d.DeliveryKey, Attempt: a, Done: i < 3, RetryIn: time.Minute, Attempts: 1, Retries: 1,
		}}))
	}
	replay := postrider.Replay{
		ID: postrider.NewID(), Tenant: "acme", WebhookID: webhook.ID, To: now.Add(time.Hour), From: now.AddDate(-1, 0, 0), Rate: 1.5,
		Status: postrider.ReplayFailed, State: postrider.ReplayCollecting, CreatedAt: now,
	}
	must(t, s.CreateReplay(ctx, replay))
	replay, err = s.Replay(ctx, "acme", replay.ID) // it says now where to begin
	must(t, err)
	_, err = s.AdvanceReplay(ctx, replay, 100)
	must(t, err)
}

func TestMove_ThereAndBackChangesNothing(t *testing.T) {
	first, shared, last := openSQLite(t), openPostgres(t), openSQLite(t)
	fill(t, first)
	want := rowsOf(t, first)
	for i := range postrider.ExportTables {
		if name := postrider.ExportTables[i].Name; len(want[name]) == 0 {
			t.Errorf("got no rows of %s to move, want some", name)
		}
	}
	move(t.Context(), t, first, shared)
	if diff := cmp.Diff(want, rowsOf(t, shared)); diff != "" {
		t.Errorf("PostgreSQL has other rows (-want +got):\n%.4000s", diff)
	}
	move(t.Context(), t, shared, last)
	if diff := cmp.Diff(want, rowsOf(t, last)); diff != "" {
		t.Errorf("SQLite has other rows after the way back (-want +got):\n%.4000s", diff)
	}
	events := 0
	for name, payload := range storetest.Payloads() {
		for _, s := range []interface {
			Event(ctx context.Context, tenant, id string) (postrider.Event, []postrider.DeliveryStatus, error)
		}{shared, last} {
			e, _, err := s.Event(t.Context(), "acme", "chosen "+name)
			if err != nil {
				continue // it got an id of ours
			}
			events++
			if !bytes.Equal(e.Payload, payload) {
				t.Errorf("%s: got another payload than the one accepted", name)
			}
		}
	}
	if events < 10 {
		t.Errorf("got %d events found by their chosen ids, want more", events)
	}
}

func TestRead_LeavesTheTargetEmptyUnlessAllHasCome(t *testing.T) {
	from := openSQLite(t)
	fill(t, from)
	var stream bytes.Buffer
	_, err := transfer.Write(t.Context(), &stream, from, sealer(t, 0), quiet)
	must(t, err)
	whole := stream.Bytes()
	changed := slices.Clone(whole)
	changed[len(changed)/2] ^= 1
	for name, to := range map[string]interface {
		transfer.Source
		transfer.Target
	}{"SQLite": openSQLite(t), "PostgreSQL": openPostgres(t)} {
		for _, cut := range []int{len(whole) / 3, len(whole) - 33, len(whole) - 1} {
			if _, err := read(t.Context(), bytes.NewReader(whole[:cut]), to, sealer(t, 0), quiet); !errors.Is(err, postrider.ErrDamaged) {
				t.Errorf("%s: cut at %d: got error %v, want ErrDamaged", name, cut, err)
			}
		}
		if _, err := read(t.Context(), bytes.NewReader(changed), to, sealer(t, 0), quiet); err == nil {
			t.Errorf("%s: got a changed export imported", name)
		}
		if _, err := read(t.Context(), bytes.NewReader(whole), to, sealer(t, 1), quiet); !errors.Is(err, postrider.ErrOtherKey) {
			t.Errorf("%s: another key: got error %v, want ErrOtherKey", name, err)
		}
		if _, err := read(t.Context(), strings.NewReader("{}"), to, sealer(t, 0), quiet); !errors.Is(err, postrider.ErrNoExport) {
			t.Errorf("%s: no export: got error %v, want ErrNoExport", name, err)
		}
		next := bytes.Replace(whole, []byte("export 1\n"), []byte("export 2\n"), 1)
		if _, err := read(t.Context(), bytes.NewReader(next), to, sealer(t, 0), quiet); !errors.Is(err, postrider.ErrOtherVersion) {
			t.Errorf("%s: another version: got error %v, want ErrOtherVersion", name, err)
		}
		if rows := rowsOf(t, to); len(rows) != 0 {
			t.Fatalf("%s: got rows after imports that failed", name)
		}
		_, err := read(t.Context(), bytes.NewReader(whole), to, sealer(t, 0), quiet)
		must(t, err)
		if _, err := read(t.Context(), bytes.NewReader(whole), to, sealer(t, 0), quiet); !errors.Is(err, postrider.ErrNotEmpty) {
			t.Errorf("%s: twice: got error %v, want ErrNotEmpty", name, err)
		}
	}
}

func TestWrite_RefusesADatabaseThatAServerRunsOn(t *testing.T) {
	name := fmt.Sprintf("test_%d", time.Now().UnixNano())
	must(t, cluster.Do(t.Context(), "postgres", `CREATE DATABASE `+name))
	var stores []*postgres.Store
	for range 2 {
		s, err := postgres.Open(t.Context(), postgres.Options{URL: cluster.URL(name), Sealer: sealer(t, 0)})
		must(t, err)
		stores = append(stores, s)
	}
	if _, err := transfer.Write(t.Context(), io.Discard, stores[0], sealer(t, 0), quiet); !errors.Is(err, postrider.ErrInUse) {
		t.Errorf("got error %v, want ErrInUse", err)
	}
	must(t, stores[1].Close())
	if _, err := transfer.Write(t.Context(), io.Discard, stores[0], sealer(t, 0), quiet); err != nil {
		t.Errorf("got error %v once the other has stopped, want none", err)
	}
	must(t, stores[0].Close())
}
