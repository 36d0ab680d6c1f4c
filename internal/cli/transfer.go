package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"postrider"
	"postrider/internal/config"
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
	shown := p.progress("exporting")
	rows, err := p.commands.Export(ctx, settings, p.stdout, shown.draw)
	shown.clear()
	if err != nil {
		return err
	}
	p.showRows(p.stderr, "exported", rows, c.JSON)
	return nil
}

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
	shown := p.progress("importing")
	rows, err := p.commands.Import(ctx, settings, c.From, p.stdin, shown.draw)
	shown.clear()
	if err != nil {
		return err
	}
	p.showRows(p.stdout, "imported", rows, c.JSON)
	if fromDirectory && settings.EncryptionKey == "" {
		p.say("from now on encryption_key must be the key in %s: give it to every node", filepath.Join(string(c.From), "encryption.key"))
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

// A progress shows on a terminal how far something is; elsewhere nothing.
type progress struct {
	w     io.Writer
	what  string
	on    bool
	drawn time.Time
}

// redraw is how often progress is drawn: seldom enough to cost nothing.
const redraw = 200 * time.Millisecond

func (p *process) progress(what string) *progress {
	return &progress{w: p.stderr, what: what, on: isTerminal(p.stderr)}
}

// barWidth is that of a bar in columns.
const barWidth = 30

func (p *progress) draw(done, total int64) {
	if !p.on || time.Since(p.drawn) < redraw {
		return
	}
	p.drawn = time.Now()
	part := float64(done) / float64(max(1, total))
	full := int(part * barWidth)
	fmt.Fprintf(p.w, "\r\x1b[K%s ▕%s%s▏ %3.0f %%  %d of %d rows", p.what, strings.Repeat("█", full), strings.Repeat(" ", barWidth-full),
		100*part, done, total)
}

// clear takes the bar away.
func (p *progress) clear() {
	if p.on {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
