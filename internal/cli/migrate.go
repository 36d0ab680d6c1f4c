package cli

import (
	"context"

	"github.com/alecthomas/kong"

	"postrider/internal/config"
)

// migrateCommands are about the schema of the store.
type migrateCommands struct {
	Status migrateStatus `cmd:"" help:"Print which migrations the store has."`
	Up     migrateUp     `cmd:"" help:"Bring the store's schema up to date, before a server does at its start."`
}

type migrateStatus struct{ config.Flags }

// Help are the examples of migrate status --help.
func (c *migrateStatus) Help() string {
	return `It takes the flags of serve and reads the same variables and the same file. Servers may run meanwhile.

Examples:

    postrider migrate status --data-dir /srv/postrider
    POSTRIDER_DATABASE_URL=postgres://... postrider migrate status`
}

// Run prints.
func (c *migrateStatus) Run(ctx context.Context, parsed *kong.Context, p *process) error {
	settings, err := c.LoadWithoutKey(parsed)
	if err != nil {
		return err
	}
	return p.commands.MigrationStatus(ctx, settings, p.stdout)
}

type migrateUp struct{ config.Flags }

// Help are the examples of migrate up --help.
func (c *migrateUp) Help() string {
	return `It takes the flags of serve and reads the same variables and the same file. Nodes on a database may run meanwhile; the
server of a data directory has to be stopped.

Examples:

    postrider migrate up --data-dir /srv/postrider
    POSTRIDER_DATABASE_URL=postgres://... postrider migrate up`
}

// Run migrates.
func (c *migrateUp) Run(ctx context.Context, parsed *kong.Context, p *process) error {
	settings, err := c.LoadWithoutKey(parsed)
	if err != nil {
		return err
	}
	return p.commands.Migrate(ctx, settings, p.stdout)
}
