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
	"postrider/internal/postgres"
	"postrider/internal/sealing"
	"postrider/internal/sqlite"
	"postrider/internal/transfer"
)

// Export writes all that the store of the settings holds to w, and returns how
// many rows that are of each table. No server may run on the store meanwhile.
func Export(ctx context.Context, c config.Serve, w io.Writer, progress func(done, total int64)) (rows []int64, err error) {
	from, key, err := openSource(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, from.close()) }()
	sealer, err := sealing.New(key)
	if err != nil {
		return nil, err
	}
	return transfer.Write(ctx, w, from.store, sealer, progress)
}

// Import fills the empty store of the settings: from another store, a data
// directory or a database's URL, or without one from r, which Export wrote to.
// It returns how many rows of each table that are. The store is filled wholly,
// or is still empty; nothing of it is made before the source has been found
// right.
func Import(ctx context.Context, c config.Serve, from postrider.Secret, r io.Reader, progress func(done, total int64)) (rows []int64, err error) {
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = errors.New("the import was interrupted; the target is as empty as before")
		}
	}()
	var key []byte
	if from == "" {
		key, err = keyBeside(c)
	} else {
		var source *app
		if source, key, err = openSource(ctx, sourceOf(c, from)); err == nil {
			sent, stop := send(ctx, source, key)
			defer func() { err = errors.Join(err, stop(), source.close()) }()
			r = sent
		} else {
			err = fmt.Errorf("read the source: %w", err)
		}
	}
	if err != nil {
		return nil, err
	}
	sealer, err := sealing.New(key)
	if err != nil {
		return nil, err
	}
	export, err := transfer.Open(r, sealer)
	if err != nil {
		return nil, err
	}
	to, err := openTarget(ctx, c, key)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, to.close()) }()
	return export.Fill(ctx, to.store, progress)
}

// send exports a store to the reader that it returns, until that has all or is
// stopped.
func send(ctx context.Context, from *app, key []byte) (_ io.Reader, stop func() error) {
	reading, writing := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		sealer, err := sealing.New(key)
		if err == nil {
			_, err = transfer.Write(ctx, writing, from.store, sealer, func(int64, int64) {})
		}
		writing.CloseWithError(err) // the reader gets the error
	}()
	return reading, func() error {
		err := reading.Close()
		<-ended
		return err
	}
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

// errNoKey is the error of a move to which no key was given.
var errNoKey = fmt.Errorf("%w: none was given", postrider.ErrOtherKey)

// keyBeside is the key of an export that comes without its store: that of the
// settings, or one that was put into the target's directory.
func keyBeside(c config.Serve) ([]byte, error) {
	switch {
	case c.EncryptionKey != "":
		return sealing.ParseKey(string(c.EncryptionKey))
	case c.DatabaseURL == "" && sealing.HasKey(c.DataDir):
		return sealing.KeyInDirectory(c.DataDir)
	}
	return nil, errNoKey
}

// openSource opens the store that is moved from, and returns its key.
func openSource(ctx context.Context, c config.Serve) (*app, []byte, error) {
	if c.DatabaseURL != "" && c.EncryptionKey == "" {
		return nil, nil, errNoKey
	}
	if err := storeIn(ctx, c); err != nil {
		return nil, nil, err
	}
	a, key, err := openEnd(ctx, c)
	if c.EncryptionKey != "" && isOtherKey(err) {
		err = postrider.ErrOtherKey
	}
	return a, key, err
}

// openTarget opens the store that is moved to, with the source's key. It keeps
// the key in its directory, as the source did, unless it is a setting.
func openTarget(ctx context.Context, c config.Serve, key []byte) (a *app, err error) {
	if c.EncryptionKey == "" && c.DatabaseURL == "" {
		err = sealing.KeepKey(c.DataDir, key)
	} else {
		c.EncryptionKey = postrider.Secret(sealing.FormatKey(key))
	}
	if err == nil {
		a, _, err = openEnd(ctx, c)
	}
	if isOtherKey(err) {
		err = fmt.Errorf("%w: it has another encryption key than the source", postrider.ErrNotEmpty)
	}
	return a, err
}

func isOtherKey(err error) bool {
	return errors.Is(err, sealing.ErrKey) || errors.Is(err, postgres.ErrKey)
}

// storeIn refuses a place without a store: opening it would make one.
func storeIn(ctx context.Context, c config.Serve) error {
	if c.DatabaseURL != "" {
		found, err := postgres.Examine(ctx, string(c.DatabaseURL))
		if err == nil && found.Nodes < 0 {
			err = fmt.Errorf("%w in this database", postrider.ErrNoStore)
		}
		return err
	}
	_, err := os.Stat(filepath.Join(c.DataDir, sqlite.FileName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w in %s: it has no %s", postrider.ErrNoStore, c.DataDir, sqlite.FileName)
	case err != nil:
		return fmt.Errorf("look for the store: %w", err)
	}
	return nil
}

// openEnd opens the store at one end of a move, and returns its key.
func openEnd(ctx context.Context, c config.Serve) (*app, []byte, error) {
	a := &app{config: c, logger: slog.New(slog.DiscardHandler)}
	key, err := a.unlock(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, a.close())
	}
	return a, key, nil
}
