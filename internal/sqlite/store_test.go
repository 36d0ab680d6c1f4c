package sqlite_test

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"postrider"
	"postrider/internal/sealing"
	"postrider/internal/sqlite"
	"postrider/internal/storetest"
	"postrider/internal/testkit"
)

// child makes the test binary the process that TestCrash kills.
var child = flag.String("child", "", "accept events into the store in this directory until killed")

func TestMain(m *testing.M) {
	flag.Parse()
	if *child != "" {
		acceptUntilKilled(*child)
		return
	}
	goleak.VerifyTestMain(m)
}

func open(t *testing.T, dir string) *sqlite.Store {
	t.Helper()
	store, err := openIn(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func openIn(ctx context.Context, dir string) (*sqlite.Store, error) {
	sealer, err := sealing.New(make([]byte, 32))
	if err != nil {
		return nil, err
	}
	return sqlite.Open(ctx, dir, sealer)
}

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Engine{
		Open:     func(t *testing.T, dir string) storetest.Store { return open(t, dir) },
		Simulate: synctest.Test,
		Advance:  testkit.Advance,
		Disk:     disk,
	})
}

// disk is what is in all files of a directory.
func disk(t *testing.T, dir string) []byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.Bytes()
}

func TestOpen_ADirectoryInUseIsRefused(t *testing.T) {
	dir := t.TempDir()
	store := open(t, dir)
	second, err := openIn(t.Context(), dir)
	if err == nil {
		second.Close() //nolint:errcheck // the test has failed
		t.Fatal("got a second opening of the same directory")
	}
	if !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "in use by another postrider process") {
		t.Errorf("got %q, want it to name the directory and say what to do", err)
	}
	if err := store.Ping(t.Context()); err != nil {
		t.Errorf("got error %v from the first opening, want it undisturbed", err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir).Close(); err != nil {
		t.Errorf("got error %v once the first was closed", err)
	}
}

func TestOpen_ADirectoryThatCannotBeMadeIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if store, err := openIn(t.Context(), filepath.Join(file, "data")); err == nil {
		t.Errorf("got a store below a file: %v", store.Close())
	}
}

func TestOpen_ADatabaseThatIsNoneIsAnError(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, sqlite.FileName), bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the lock of the first try is gone by the second
		_, err := openIn(t.Context(), dir)
		if err == nil || !strings.Contains(err.Error(), sqlite.FileName) {
			t.Errorf("got error %v, want one that names the file", err)
		}
	}
}

func TestOpen_FilesAreTheOwnersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	store := open(t, dir)
	defer store.Close() //nolint:errcheck // nothing of the test depends on it
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("got mode %v, %v, want 0700: the database is in there", info.Mode().Perm(), err)
	}
}

func TestClose_AWriteAfterwardsIsAnError(t *testing.T) {
	store := open(t, t.TempDir())
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := store.Release(t.Context(), nil); err == nil {
		t.Error("got a write accepted by a closed store")
	}
}

func TestClose_LeavesTheDatabaseInOneFile(t *testing.T) {
	dir := t.TempDir()
	store := open(t, dir)
	if err := store.CreateTenant(t.Context(), postrider.Tenant{Name: "partner"}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Tenants(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, sqlite.FileName+"*")); err != nil || len(left) != 1 {
		t.Errorf("got files %q, %v, want the database alone", left, err)
	}
}

func TestWrite_AnEndedContextWritesNothing(t *testing.T) {
	store := open(t, t.TempDir())
	defer store.Close() //nolint:errcheck // nothing of the test depends on it
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := store.Redeliver(ctx, "default", [16]byte{}, [16]byte{}); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("got error %v, want the context's", err)
	}
}
