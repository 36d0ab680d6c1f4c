package e2e

import (
	"fmt"
	"io"
	"sync"
	"testing"

	"postrider/internal/pgtest"
)

// EncryptionKey is the key of every server that Start starts on PostgreSQL.
const EncryptionKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// cluster is where the servers that Start starts have their databases; nil:
// they use the embedded store.
var cluster *pgtest.Cluster

// databases are those of cluster, by the data directory that they stand for.
var databases struct {
	sync.Mutex
	names map[string]string
}

// database is the URL of the database that stands for a data directory.
func database(t testing.TB, cluster *pgtest.Cluster, dir string) string {
	t.Helper()
	databases.Lock()
	defer databases.Unlock()
	name, found := databases.names[dir]
	if !found {
		name = NewDatabase(t, cluster)
		databases.names[dir] = name
	}
	return cluster.URL(name)
}

// Storage is the directory with all that the server has stored.
func (s *Server) Storage() string {
	if s.Database != "" {
		return cluster.Dir()
	}
	return s.Dir
}

var made struct {
	sync.Mutex
	n int
}

// NewDatabase makes an empty database and returns its name.
func NewDatabase(t testing.TB, cluster *pgtest.Cluster) string {
	t.Helper()
	made.Lock()
	made.n++
	name := fmt.Sprintf("e2e_%d", made.n)
	made.Unlock()
	if err := cluster.Do(t.Context(), "postgres", `CREATE DATABASE `+name); err != nil {
		t.Fatal(err)
	}
	return name
}

// OnBothEngines runs the tests twice: with the embedded store, then with a
// database for each data directory, says which, and returns the exit code.
func OnBothEngines(run func() int, say io.Writer) (code int, err error) {
	fmt.Fprintln(say, "# with SQLite")
	code = run()
	if cluster, err = pgtest.Start(false); err != nil {
		return 1, err
	}
	databases.names = map[string]string{}
	fmt.Fprintln(say, "# with PostgreSQL")
	code = max(code, run())
	err = cluster.Stop()
	cluster = nil
	return code, err
}

// WithEachEngine runs one test of a package whose others have the embedded store
// alone: with that one, then with a database. It gives it what its servers are
// started with. What a killed server had in hand is free in a database once the
// lease is over, and no sooner.
func WithEachEngine(t *testing.T, test func(t *testing.T, flags ...string)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) { test(t) })
	t.Run("PostgreSQL", func(t *testing.T) {
		cluster := pgtest.For(t, true)
		test(t, "--database-url", cluster.URL(NewDatabase(t, cluster)), "--encryption-key", EncryptionKey)
	})
}
