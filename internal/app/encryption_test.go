package app

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postrider"
	"postrider/internal/config"
	"postrider/internal/sealing"
	"postrider/internal/sqlite"
)

// settingsIn are those of a server whose store is in a directory.
func settingsIn(dir string) config.Serve { return config.Serve{DataDir: dir, LogLevel: "error"} }

// unlocked opens a store as a server does, and closes it again.
func unlocked(t *testing.T, c config.Serve) error {
	t.Helper()
	a := &app{config: c, logger: newLogger(c, t.Output())}
	_, err := a.unlock(t.Context())
	if closed := a.close(); closed != nil {
		t.Error(closed)
	}
	return err
}

func rotate(t *testing.T, c config.Serve, next string) (string, error) {
	t.Helper()
	var stdout bytes.Buffer
	err := RotateKey(t.Context(), c, postrider.Secret(next), &stdout)
	return stdout.String(), err
}

func TestRotateKey_GoesOnWhereverItEnded(t *testing.T) {
	dir := t.TempDir()
	c := settingsIn(dir)
	if err := unlocked(t, c); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(filepath.Join(dir, sealing.KeyFile))
	if err != nil {
		t.Fatal(err)
	}

	// It ended before the store changed over: the key is the old one.
	if _, err := sealing.MakeNextKey(dir); err != nil {
		t.Fatal(err)
	}
	if err := unlocked(t, c); err != nil {
		t.Errorf("got %v with a next key that is not in use yet", err)
	}
	if kept, err := os.ReadFile(filepath.Join(dir, sealing.KeyFile)); err != nil || !bytes.Equal(kept, old) {
		t.Errorf("got the key %q, %v, want it to be as before", kept, err)
	}

	if _, err := rotate(t, c, ""); err != nil {
		t.Fatal(err)
	}
	rotated, err := os.ReadFile(filepath.Join(dir, sealing.KeyFile))
	if err != nil || bytes.Equal(rotated, old) {
		t.Fatalf("got the old key, %v, want another", err)
	}
	// It ended after the store changed over, before the key took its place.
	if err := os.Rename(filepath.Join(dir, sealing.KeyFile), filepath.Join(dir, sealing.NextKeyFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, sealing.KeyFile), old, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unlocked(t, c); err != nil {
		t.Errorf("got %v, want the rotation ended", err)
	}
	if now, err := os.ReadFile(filepath.Join(dir, sealing.KeyFile)); err != nil || !bytes.Equal(now, rotated) {
		t.Errorf("got the key %q, %v, want the one that the store has", now, err)
	}
	if _, err := os.Stat(filepath.Join(dir, sealing.NextKeyFile)); err == nil {
		t.Error("the next key is there still")
	}

	// A wrong key says what to do.
	if err := os.WriteFile(filepath.Join(dir, sealing.KeyFile), old, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unlocked(t, c); err == nil || !strings.Contains(err.Error(), "put back the file that was backed up with the database") {
		t.Errorf("got %v, want it to say what to do", err)
	}
}

func TestRotateKey_FromTheDirectoryToASettingAndOn(t *testing.T) {
	dir := t.TempDir()
	c := settingsIn(dir)
	if _, err := rotate(t, c, ""); err == nil {
		t.Error("got a rotation of a store that is not there")
	}
	if _, err := os.Stat(filepath.Join(dir, sqlite.FileName)); err == nil {
		t.Fatal("a store was made")
	}
	if err := unlocked(t, c); err != nil {
		t.Fatal(err)
	}
	if said, err := rotate(t, c, firstKey); err != nil || !strings.Contains(said, "encryption_key must be the new key") {
		t.Fatalf("got %q, %v", said, err)
	}
	c.EncryptionKey = postrider.Secret(secondKey)
	if err := unlocked(t, c); err == nil || !strings.Contains(err.Error(), "after postrider secrets rotate the new one") {
		t.Errorf("got %v with a wrong key, want it to say what to do", err)
	}
	c.EncryptionKey = postrider.Secret(firstKey)
	if err := unlocked(t, c); err != nil {
		t.Error(err)
	}
	if _, err := rotate(t, c, firstKey); err == nil {
		t.Error("got a rotation to the key in use")
	}
	if _, err := rotate(t, c, secondKey); err != nil {
		t.Error(err)
	}
	c.EncryptionKey = postrider.Secret(secondKey)
	if err := unlocked(t, c); err != nil {
		t.Error(err)
	}
}

var (
	firstKey  = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32))
	secondKey = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{2}, 32))
)
