package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"

	"postrider/internal/config"
	"postrider/internal/postgres"
	"postrider/internal/sqlite"
)

// MigrationStatus prints which of this binary's migrations the store has. It
// changes nothing, and waits for nobody who does.
func MigrationStatus(ctx context.Context, c config.Serve, stdout io.Writer) error {
	if c.DatabaseURL != "" {
		list, current, err := postgres.MigrationStatus(ctx, string(c.DatabaseURL))
		if err != nil {
			return fmt.Errorf("work with the store's migrations: %w", err)
		}
		for _, m := range list {
			printMigration(stdout, m.Version, m.AppliedAt, m.Name)
		}
		printVersions(stdout, current, list[len(list)-1].Version)
		return nil
	}
	return migrations(ctx, c, func(ctx context.Context, p *goose.Provider) error {
		list, err := p.Status(ctx)
		if err != nil {
			return err
		}
		for _, m := range list {
			printMigration(stdout, m.Source.Version, m.AppliedAt, filepath.Base(m.Source.Path))
		}
		current, newest, err := p.GetVersions(ctx)
		if err == nil {
			printVersions(stdout, current, newest)
		}
		return err
	})
}

func printMigration(stdout io.Writer, version int64, appliedAt time.Time, name string) {
	when := "missing"
	if !appliedAt.IsZero() {
		when = appliedAt.UTC().Format(time.RFC3339)
	}
	fmt.Fprintf(stdout, "%-5d  %-20s  %s\n", version, when, name)
}

func printVersions(stdout io.Writer, current, newest int64) {
	if current > newest {
		fmt.Fprintf(stdout, "The store has version %d, which a newer binary made; this one knows %d.\n", current, newest)
		return
	}
	fmt.Fprintf(stdout, "The store has version %d of %d.\n", current, newest)
}

// Migrate brings the store's schema up to date, as a server does at its start.
func Migrate(ctx context.Context, c config.Serve, stdout io.Writer) error {
	up := postgres.Up
	if c.DatabaseURL == "" {
		// Opening it keeps a server out, and runs what is missing.
		a := &app{config: c, logger: newLogger(c, io.Discard)}
		_, err := a.unlock(ctx)
		if err := errors.Join(err, a.close()); err != nil {
			return err
		}
		up = func(ctx context.Context, p *goose.Provider) ([]*goose.MigrationResult, error) { return p.Up(ctx) }
	}
	return migrations(ctx, c, func(ctx context.Context, p *goose.Provider) error {
		done, err := up(ctx, p)
		if err != nil {
			return err
		}
		for _, m := range done {
			fmt.Fprintf(stdout, "%-5d  %s\n", m.Source.Version, filepath.Base(m.Source.Path))
		}
		current, err := p.GetDBVersion(ctx)
		if err == nil {
			fmt.Fprintf(stdout, "The store has version %d.\n", current)
		}
		return err
	})
}

func migrations(ctx context.Context, c config.Serve, run func(context.Context, *goose.Provider) error) error {
	var err error
	switch {
	case c.DatabaseURL != "":
		err = postgres.Migrations(ctx, string(c.DatabaseURL), run)
	default:
		if err = storeIn(ctx, c); err == nil {
			err = sqlite.Migrations(ctx, c.DataDir, run)
		}
	}
	if err != nil {
		return fmt.Errorf("work with the store's migrations: %w", err)
	}
	return nil
}
