package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/alecthomas/kong"

	"postrider"
	"postrider/internal/config"
	"postrider/internal/progress"
)

type exportCommand struct {
	config.Flags

	JSON bool `help:"Print the counts, on stderr, as a JSON object."`
}

// Help are the examples of export --help.
func (*exportCommand) Help() string {
	return `It takes the flags of serve, reads the same variables and the same file, and needs the server stopped. What it writes
to the standard output is read by postrider import. Secrets stay encrypted with the key of this store: keep the key too.

Examples:

    postrider export --data-dir /srv/postrider > postrider.export
    postrider export --data-dir /srv/postrider | zstd > postrider.export.zst`
}

// Run exports.
func (c *exportCommand) Run(ctx context.Context, parsed *kong.Context, p *process) error {
	settings, err := c.Load(parsed)
	if err != nil {
		return err
	}
	if isTerminal(p.stdout) {
		return misuse("standard output", "is a terminal, which cannot keep an export", "add > postrider.export")
	}
	tell, stop := p.moved("exporting")
	rows, err := p.commands.Export(ctx, settings, p.stdout, tell)
	stop()
	if err != nil {
		return err
	}
	p.showRows(p.stderr, "exported", rows, c.JSON)
	return nil
}

// keyFile is where a server keeps its encryption key, in its data directory.
const keyFile = "encryption.key"

type importCommand struct {
	From postrider.Secret `placeholder:"DIR|URL" help:"Store to move from: a data directory, or a database's URL. Without it, an export is read from the standard input."`
	JSON bool             `help:"Print the counts as a JSON object."`

	config.Flags
}

// Help are the examples of import --help.
func (*importCommand) Help() string {
	return `It takes the flags of serve, reads the same variables and the same file: they name the store that is filled, which must
be empty. Servers on both ends must be stopped. The target gets all or, when it is broken off, nothing: start it again then.

Examples:

    # grow from one machine to PostgreSQL
    postrider import --from /srv/postrider --database-url postgres://user:password@host/postrider

    # and back, with the key that the nodes had
    POSTRIDER_ENCRYPTION_KEY=... postrider import --from postgres://user:password@host/postrider --data-dir /srv/postrider

    # from a file of postrider export
    POSTRIDER_ENCRYPTION_KEY=... postrider import --data-dir /srv/postrider < postrider.export

The encryption key is the source's; with --from a directory, the one that is kept there.`
}

// Run imports.
func (c *importCommand) Run(ctx context.Context, parsed *kong.Context, p *process) error {
	fromDirectory := c.From != "" && !strings.Contains(string(c.From), "://")
	load := c.Load
	if fromDirectory { // which has the key
		load = c.LoadWithoutKey
	}
	settings, err := load(parsed)
	if err != nil {
		return err
	}
	if file, ok := p.stdin.(*os.File); ok && c.From == "" && isTerminal(file) {
		return misuse("--from", "is missing, and no export comes from the standard input", "name a data directory or a database's URL, or add < postrider.export")
	}
	tell, stop := p.moved("importing")
	rows, err := p.commands.Import(ctx, settings, c.From, p.stdin, tell)
	stop()
	if err != nil {
		return err
	}
	p.showRows(p.stdout, "imported", rows, c.JSON)
	switch {
	case settings.EncryptionKey == "" && settings.DatabaseURL != "":
		p.say("from now on encryption_key must be the key in %s: give it to every node", filepath.Join(string(c.From), keyFile))
	case settings.EncryptionKey == "":
		p.say("the encryption key is in %s, where the server looks for it", filepath.Join(settings.DataDir, keyFile))
	case settings.DatabaseURL == "":
		p.say("the encryption key stays a setting: start the server with the same encryption_key, or put its text into %s for it",
			filepath.Join(settings.DataDir, keyFile))
	}
	return nil
}

// showRows writes how many rows of each table there were: the target has
// counted the same.
func (p *process) showRows(w io.Writer, did string, rows []int64, asJSON bool) {
	var total int64
	fields := make([]string, len(rows))
	s := new(sheet)
	for i, n := range rows {
		name := postrider.ExportTables[i].Name
		fields[i] = fmt.Sprintf("%q:%d", name, n)
		s.add(name, strconv.FormatInt(n, 10))
		total += n
	}
	if asJSON {
		fmt.Fprintf(w, "{%s}\n", strings.Join(fields, ","))
		return
	}
	s.write(screen{w, isTerminal(w) && !config.NoColor()})
	p.say("%s %d rows", did, total)
}

// moved draws how many rows were moved until it is stopped, as far as tell is
// told.
func (p *process) moved(what string) (tell func(done, total int64), stop func()) {
	var done, total atomic.Int64
	bar := progress.Start(p.stderr, isTerminal(p.stderr), what)
	bar.Count("rows", func() (int64, int64) { return done.Load(), total.Load() })
	return func(n, of int64) { done.Store(n); total.Store(of) }, bar.Clear
}
