package postgres

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"postrider/internal/pgtest"
	"postrider/internal/sealing"
	"postrider/internal/storetest"
	"postrider/internal/testkit"
)

// cluster is the server of all tests here. What it holds need not outlast it.
var cluster *pgtest.Cluster

func TestMain(m *testing.M) {
	flag.Parse()
	var err error
	// Tests look through the whole log of writes, which some make long.
	if cluster, err = pgtest.Start(false, "min_wal_size=32MB", "max_wal_size=64MB"); err == nil {
		err = makeTemplate()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := cluster.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

const template = "fresh"

// makeTemplate makes the database that every test gets a copy of: its now() is
// what the test says, where one says something.
func makeTemplate() error {
	ctx := context.Background()
	if err := cluster.Do(ctx, "postgres", `CREATE DATABASE `+template); err != nil {
		return err
	}
	if err := cluster.Do(ctx, template,
		`CREATE TABLE clock (at timestamptz)`, `INSERT INTO clock VALUES (NULL)`,
		`CREATE FUNCTION now() RETURNS timestamptz STABLE LANGUAGE sql AS 'SELECT coalesce(at, pg_catalog.now()) FROM public.clock'`,
		`ALTER DATABASE `+template+` SET search_path = public, pg_catalog`,
	); err != nil {
		return err
	}
	s, err := Open(ctx, options(template))
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	return cluster.Do(ctx, template, `DELETE FROM nodes`)
}

func options(database string) Options {
	sealer, err := sealing.New(make([]byte, 32))
	if err != nil {
		panic(err)
	}
	return Options{URL: cluster.URL(database), Sealer: sealer}
}

var databases atomic.Int64

// newDatabase makes a copy of the template.
func newDatabase(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("test%d", databases.Add(1))
	if err := cluster.Do(t.Context(), "postgres", `CREATE DATABASE `+name+` TEMPLATE `+template,
		`ALTER DATABASE `+name+` SET search_path = public, pg_catalog`); err != nil {
		t.Fatal(err)
	}
	return name
}

func open(t *testing.T, database string) *Store {
	t.Helper()
	s, err := Open(t.Context(), options(database))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// setClock makes it a time in a database.
func setClock(database string, at time.Time) error {
	return cluster.Do(context.Background(), database, `UPDATE clock SET at = '`+at.Format(time.RFC3339Nano)+`'`)
}

// simulated is the database of the test that runs, in which time is the
// bubble's.
var simulated string

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Engine{
		Open: func(t *testing.T, dir string) storetest.Store {
			t.Helper()
			mark := filepath.Join(dir, "database")
			name, err := os.ReadFile(mark)
			if err != nil {
				name = []byte(newDatabase(t))
				if err := os.WriteFile(mark, name, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			simulated = string(name)
			if err := setClock(simulated, time.Now()); err != nil {
				t.Fatal(err)
			}
			return open(t, simulated)
		},
		Simulate: synctest.Test,
		Advance: func(d time.Duration) {
			testkit.Advance(d)
			if err := setClock(simulated, time.Now()); err != nil {
				panic(err)
			}
		},
		Disk: disk,
	})
}

// disk is what is in the files of the cluster, the log of writes included.
func disk(t *testing.T, _ string) []byte {
	t.Helper()
	if err := cluster.Do(t.Context(), "postgres", `CHECKPOINT`); err != nil {
		t.Fatal(err)
	}
	var number uint32
	conn, err := pgx.Connect(t.Context(), cluster.URL(simulated))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // it has been read
	if err := conn.QueryRow(t.Context(), `SELECT oid FROM pg_database WHERE datname = current_database()`).Scan(&number); err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for _, dir := range []string{fmt.Sprintf("base/%d", number), "pg_wal"} {
		err := filepath.WalkDir(filepath.Join(cluster.Dir(), dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || strings.HasSuffix(path, ".ready") {
				return err
			}
			text, err := os.ReadFile(path)
			all.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.Bytes()
}
