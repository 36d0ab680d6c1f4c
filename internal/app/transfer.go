package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"postrider"
	"postrider/internal/config"
	"postrider/internal/sealing"
	"postrider/internal/sqlite"
	"postrider/internal/transfer"
)

// Export writes all that the store of the settings holds to w, and returns how
// many rows that are of each table. No server may run on the store meanwhile.
func Export(ctx context.Context, c config.Serve, w io.Writer, progress func(done, total int64)) (rows []int64, err error) {
	if err := storeIn(c); err != nil {
		return nil, err
	}
	a, key, err := openEnd(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	return transfer.Write(ctx, w, a.store, key, progress)
}

// Import fills the empty store of the settings: from another store, a data
// directory or a database's URL, or without one from r, which Export wrote to.
// It returns how many rows of each table that are. The store is filled wholly,
// or is still empty.
func Import(ctx context.Context, c config.Serve, from postrider.Secret, r io.Reader, progress func(done, total int64)) (rows []int64, err error) {
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = errors.New("the import was interrupted; the target is as empty as before")
		}
	}()
	if from != "" {
		c.EncryptionKey, err = keyOf(c, from)
		if err != nil {
			return nil, err
		}
	}
	if c.EncryptionKey == "" {
		// One that is made now would not be the source's.
		if _, err := os.Stat(filepath.Join(c.DataDir, sealing.KeyFile)); err != nil || c.DatabaseURL != "" {
			return nil, fmt.Errorf("%w, which has none yet", postrider.ErrOtherKey)
		}
	}
	a, key, err := openEnd(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	if from == "" {
		return transfer.Read(ctx, r, a.store, key, progress)
	}
	reading, writing := io.Pipe()
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, err := Export(ctx, sourceOf(c, from), writing, func(int64, int64) {})
		writing.CloseWithError(err) // the reader gets the error
	}()
	defer func() {
		reading.Close() //nolint:errcheck // it never fails; the writer ends
		<-written
	}()
	return transfer.Read(ctx, reading, a.store, key, progress)
}

// sourceOf are the settings of the store that is moved from.
func sourceOf(c config.Serve, from postrider.Secret) config.Serve {
	if strings.Contains(string(from), "://") {
		c.DatabaseURL = from
	} else {
		c.DataDir, c.DatabaseURL = string(from), ""
	}
	return c
}

// keyOf is the encryption key of the settings, or else the one that the source
// has in its directory: the target gets the same. A target with a file of its
// own goes by that.
func keyOf(c config.Serve, from postrider.Secret) (postrider.Secret, error) {
	source := sourceOf(c, from)
	if c.EncryptionKey != "" || source.DatabaseURL != "" {
		return c.EncryptionKey, nil
	}
	text, err := os.ReadFile(filepath.Join(source.DataDir, sealing.KeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", storeIn(source)
	}
	if err != nil {
		return "", fmt.Errorf("read the source's encryption key: %w", err)
	}
	return postrider.Secret(strings.TrimSpace(string(text))), nil
}

// storeIn refuses a data directory without a store, which would be made.
func storeIn(c config.Serve) error {
	if c.DatabaseURL != "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(c.DataDir, sqlite.FileName)); err != nil {
		return fmt.Errorf("look for the store: %w", err)
	}
	return nil
}

// openEnd opens the store at one end of a move, and returns its key.
func openEnd(ctx context.Context, c config.Serve) (_ *app, _ *sealing.Sealer, err error) {
	a := &app{config: c, logger: slog.New(slog.DiscardHandler)}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	text, err := a.unlock(ctx)
	if err != nil {
		return nil, nil, err
	}
	key, err := sealing.New(text)
	return a, key, err
}
