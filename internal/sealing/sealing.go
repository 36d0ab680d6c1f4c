// Package sealing encrypts the secrets that must be kept readable for the
// sender but not for a reader of the disk: AES-256-GCM with one key of the
// operator's or of the data directory.
//
// It knows keys and bytes. It must not know what is sealed or where it is
// stored. The app makes a Sealer and hands it to the store.
package sealing

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// KeyFile is the key's name in the data directory, and NextKeyFile that of the
// key which is to take its place.
const (
	KeyFile     = "encryption.key"
	NextKeyFile = KeyFile + ".next"
)

// A Sealer seals and opens with one key. It may be used concurrently.
type Sealer struct {
	aead cipher.AEAD
	id   [4]byte // tells which key sealed a value
}

// ParseKey reads an encryption key: 32 bytes in standard base64.
func ParseKey(text string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) != 32 {
		return nil, errors.New("an encryption key is 32 bytes in base64; make one with: openssl rand -base64 32")
	}
	return key, nil
}

// FormatKey is the text that ParseKey reads.
func FormatKey(key []byte) string { return base64.StdEncoding.EncodeToString(key) }

// HasKey reports whether a key is kept in dir, or one that cannot be looked at.
func HasKey(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, KeyFile))
	return !errors.Is(err, fs.ErrNotExist)
}

// KeepKey keeps a key in dir. A directory that has another one is refused with
// ErrKey.
func KeepKey(dir string, key []byte) error {
	if !HasKey(dir) {
		return putKey(dir, filepath.Join(dir, KeyFile), key)
	}
	kept, err := readKey(filepath.Join(dir, KeyFile))
	if err == nil && !bytes.Equal(kept, key) {
		err = ErrKey
	}
	return err
}

// KeyInDirectory returns the key kept in dir and makes one, readable by the
// owner only, when there is none.
func KeyInDirectory(dir string) ([]byte, error) {
	path := filepath.Join(dir, KeyFile)
	key, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(dir, path)
	}
	return key, err
}

func readKey(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the encryption key: %w", err)
	}
	key, err := ParseKey(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// MakeNextKey makes the key that is to take the place of the one in dir. It is
// on disk before anything is sealed with it.
func MakeNextKey(dir string) ([]byte, error) { return makeKey(dir, filepath.Join(dir, NextKeyFile)) }

// NextKey returns what MakeNextKey has made, nil when there is none.
func NextKey(dir string) ([]byte, error) {
	key, err := readKey(filepath.Join(dir, NextKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return key, err
}

// UseNextKey puts the next key in the place of the key.
func UseNextKey(dir string) error {
	if err := os.Rename(filepath.Join(dir, NextKeyFile), filepath.Join(dir, KeyFile)); err != nil {
		return fmt.Errorf("put the next encryption key in place: %w", err)
	}
	return syncDirectory(dir)
}

// ForgetKey removes the keys from dir, where another place has them now.
func ForgetKey(dir string) error {
	for _, name := range []string{KeyFile, NextKeyFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the encryption key: %w", err)
		}
	}
	return syncDirectory(dir)
}

// syncDirectory has a change of names outlive a power cut.
func syncDirectory(dir string) error {
	opened, err := os.Open(dir)
	if err == nil {
		err = errors.Join(opened.Sync(), opened.Close())
	}
	if err != nil {
		return fmt.Errorf("have the encryption key's place on disk: %w", err)
	}
	return nil
}

func makeKey(dir, path string) ([]byte, error) {
	key := make([]byte, 32)
	rand.Read(key)
	return key, putKey(dir, path, key)
}

// putKey writes the key under another name first: a crash leaves no half key
// under which the first secrets would then be sealed.
func putKey(dir, path string, key []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	draft := path + ".new"
	file, err := os.OpenFile(draft, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write the encryption key: %w", err)
	}
	_, err = fmt.Fprintln(file, FormatKey(key))
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("write the encryption key: %w", err)
	}
	if err := os.Rename(draft, path); err != nil {
		return fmt.Errorf("put the encryption key in place: %w", err)
	}
	return syncDirectory(dir)
}

// New makes a Sealer of a 32-byte key.
func New(key []byte) (*Sealer, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("use the encryption key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("use the encryption key: %w", err)
	}
	hash := sha256.Sum256(append([]byte("postrider encryption key id:"), key...))
	return &Sealer{aead: aead, id: [4]byte(hash[:4])}, nil
}

// Seal encrypts plain. The context must be given again to open it: a sealed
// value copied to another row does not open there.
func (s *Sealer) Seal(plain, context []byte) []byte {
	return s.aead.Seal(bytes.Clone(s.id[:]), nil, plain, context) //nolint:gosec // this AEAD makes a random nonce itself
}

// ErrKey is the error of a value that another key sealed.
var ErrKey = errors.New("sealed with another encryption key: start with the key that was in use when it was stored")

// Open decrypts what Seal returned.
func (s *Sealer) Open(sealed, context []byte) ([]byte, error) {
	if len(sealed) < len(s.id) || !bytes.Equal(sealed[:len(s.id)], s.id[:]) {
		return nil, ErrKey
	}
	plain, err := s.aead.Open(nil, nil, sealed[len(s.id):], context)
	if err != nil {
		return nil, errors.New("the sealed value was changed or belongs elsewhere")
	}
	return plain, nil
}
