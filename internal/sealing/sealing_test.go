package sealing

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func open(t *testing.T, dir string) *Sealer {
	t.Helper()
	key, err := KeyInDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := New(key)
	if err != nil {
		t.Fatal(err)
	}
	return sealer
}

func TestSealer_OpensItsOwnAfterRestart(t *testing.T) {
	dir := t.TempDir()
	sealed := open(t, dir).Seal([]byte("whsec_abc"), []byte("row 1"))
	if bytes.Contains(sealed, []byte("whsec_")) {
		t.Fatalf("the sealed value shows the secret: %q", sealed)
	}
	got, err := open(t, dir).Open(sealed, []byte("row 1"))
	if err != nil || string(got) != "whsec_abc" {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestSealer_RefusesWhatIsNotItsOwn(t *testing.T) {
	sealer := open(t, t.TempDir())
	sealed := sealer.Seal([]byte("secret"), []byte("row 1"))
	if _, err := sealer.Open(sealed, []byte("row 2")); err == nil {
		t.Error("a value moved to another row opened")
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := sealer.Open(changed, []byte("row 1")); err == nil {
			t.Errorf("a value with byte %d changed opened", i)
		}
	}
	for n := range sealed {
		if _, err := sealer.Open(sealed[:n], []byte("row 1")); err == nil {
			t.Errorf("a value cut to %d bytes opened", n)
		}
	}
	if _, err := open(t, t.TempDir()).Open(sealed, []byte("row 1")); !errors.Is(err, ErrKey) {
		t.Errorf("opening with another key: got %v, want %v", err, ErrKey)
	}
}

func TestKeyInDirectory_IsOnlyForItsOwner(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	info, err := os.Stat(filepath.Join(dir, KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("got mode %o, want 600", got)
	}
}

func TestKeyInDirectory_RefusesABrokenFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, KeyFile), []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := KeyInDirectory(dir); err == nil {
		t.Error("a broken key was used, or replaced: what it had sealed would be lost")
	}
}
