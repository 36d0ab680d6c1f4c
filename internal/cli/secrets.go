package cli

import (
	"context"
	"encoding/base64"

	"github.com/alecthomas/kong"

	"postrider"
	"postrider/internal/config"
)

// secretsCommands are about what the server keeps encrypted.
type secretsCommands struct {
	Rotate rotateKey `cmd:"" help:"Encrypt the stored secrets with another key."`
}

type rotateKey struct {
	NewEncryptionKey postrider.Secret `env:"POSTRIDER_NEW_ENCRYPTION_KEY" placeholder:"BASE64" help:"The new key, 32 bytes in base64. Without one, a key is made in the data directory."`

	config.Flags
}

// Help are the examples of secrets rotate --help.
func (c *rotateKey) Help() string {
	return `It takes the flags of serve, reads the same variables and the same file, and needs the server stopped, or every node of a database.

Examples:

    # the key is in the data directory: a new one takes its place
    postrider secrets rotate --data-dir /srv/postrider

    # the key is a setting: give both, then set encryption_key to the new one
    POSTRIDER_ENCRYPTION_KEY=... POSTRIDER_NEW_ENCRYPTION_KEY=... postrider secrets rotate --data-dir /srv/postrider

    # the store is a database
    POSTRIDER_ENCRYPTION_KEY=... POSTRIDER_NEW_ENCRYPTION_KEY=... postrider secrets rotate --database-url postgres://...

It can be broken off at any moment: all secrets have the old key then, or all have the new one.`
}

// Run rotates the key.
func (c *rotateKey) Run(ctx context.Context, parsed *kong.Context, p *process) error {
	settings, err := c.Load(parsed)
	if err != nil {
		return err
	}
	const hint = "openssl rand -base64 32 makes one"
	key, err := base64.StdEncoding.DecodeString(string(c.NewEncryptionKey))
	switch {
	case c.NewEncryptionKey == "" && settings.EncryptionKey != "":
		return misuse("--new-encryption-key", "is needed, since encryption_key is a setting and must be changed with it", hint)
	case c.NewEncryptionKey != "" && (err != nil || len(key) != 32):
		return misuse("--new-encryption-key", "is not 32 bytes in base64", hint)
	}
	return p.commands.RotateKey(ctx, settings, c.NewEncryptionKey, p.stdout)
}
