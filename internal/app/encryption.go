package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"postrider"
	"postrider/internal/config"
	"postrider/internal/sealing"
	"postrider/internal/sqlite"
)

// unlock opens the store with its encryption key, and returns the key.
func (a *app) unlock(ctx context.Context) ([]byte, error) {
	if text := a.config.EncryptionKey; text != "" {
		key, err := sealing.ParseKey(string(text))
		if err != nil {
			return nil, err
		}
		if err = a.openWith(ctx, key); errors.Is(err, sealing.ErrKey) {
			err = fmt.Errorf("encryption_key is not the key of this store: give the one that was in use before, "+
				"or after postrider secrets rotate the new one: %w", err)
		}
		return key, err
	}
	dir := a.config.DataDir
	if _, err := os.Stat(filepath.Join(dir, sqlite.FileName)); err == nil && !sealing.HasKey(dir) {
		// One that is made now would not be the store's.
		return nil, fmt.Errorf("%s has a store, and no %s: put back the file that was backed up with the database, or set encryption_key",
			dir, sealing.KeyFile)
	}
	key, err := sealing.KeyInDirectory(dir)
	if err != nil {
		return nil, err
	}
	if err = a.openWith(ctx, key); !errors.Is(err, sealing.ErrKey) {
		return key, err
	}
	// A rotation that ended between the store and the file has left the key.
	next, nextErr := sealing.NextKey(dir)
	if nextErr != nil {
		return nil, errors.Join(err, nextErr)
	}
	if next != nil {
		nextErr = a.openWith(ctx, next)
	}
	switch {
	case next == nil || errors.Is(nextErr, sealing.ErrKey):
		return nil, fmt.Errorf("%s is not the key of this store: put back the file that was backed up with the database, "+
			"or set encryption_key: %w", filepath.Join(dir, sealing.KeyFile), err)
	case nextErr != nil:
		return nil, nextErr
	}
	a.logger.Warn("a rotation of the encryption key had not ended, and has now")
	return next, sealing.UseNextKey(dir)
}

func (a *app) openWith(ctx context.Context, key []byte) error {
	sealer, err := sealing.New(key)
	if err != nil {
		return err
	}
	return a.openStore(ctx, sealer)
}

// RotateKey encrypts the store's secrets with another key: the next one, or
// without one a new key in the data directory. No server may run meanwhile.
//
// It can end at any moment. The store changes over in one transaction; the key
// that it may change over to is on disk before, and takes the place of the old
// one after.
func RotateKey(ctx context.Context, c config.Serve, next postrider.Secret, stdout io.Writer) (err error) {
	if err := storeIn(ctx, c); err != nil {
		return err
	}
	a := &app{config: c, logger: slog.New(slog.DiscardHandler)}
	defer func() { err = errors.Join(err, a.close()) }()
	before, err := a.unlock(ctx)
	if err != nil {
		return err
	}
	key, err := nextKey(c, next)
	if err != nil {
		return err
	}
	if string(key) == string(before) {
		return errors.New("the new encryption key is the one in use")
	}
	sealer, err := sealing.New(key)
	if err != nil {
		return err
	}
	webhooks, err := a.store.Reseal(ctx, sealer)
	if err != nil {
		return fmt.Errorf("encrypt the secrets anew: %w", err)
	}
	place := "encryption_key must be the new key from now on"
	switch {
	case next == "":
		place = "the new key is in " + filepath.Join(c.DataDir, sealing.KeyFile)
		err = sealing.UseNextKey(c.DataDir)
	case c.EncryptionKey == "":
		err = sealing.ForgetKey(c.DataDir)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "Encrypted the secrets of %d webhooks with a new key; %s.\n", webhooks, place)
	return nil
}

func nextKey(c config.Serve, next postrider.Secret) ([]byte, error) {
	if next != "" {
		return sealing.ParseKey(string(next))
	}
	return sealing.MakeNextKey(c.DataDir)
}
