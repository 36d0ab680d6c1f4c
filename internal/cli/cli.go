// Package cli is the command line: it reads arguments and settings, calls the
// command that they name, and turns how it ended into words and an exit code.
//
// It knows commands, flags, errors and hints, and how to speak to a server over
// the public API: what it does there, any other client can. It must not know a
// store, nor how the commands that run something do their work: main hands that
// in, as functions.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"postrider"
	"postrider/internal/config"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // the command was understood, and failed
	exitUsage  = 2 // the command line or a setting is wrong: trying again does not help
)

// Commands are the work behind the commands. Each function runs until it is
// done or the context ends; the end of the context is no error. Results go to
// stdout, words to stderr.
type Commands struct {
	Version string // of the build, such as v1.2.3; empty: what the Go toolchain noted
	Serve   func(ctx context.Context, settings config.Serve, version string, stdout, stderr io.Writer) error
	// RotateKey encrypts the stored secrets with the next key, or without one
	// with a new key in the data directory.
	RotateKey func(ctx context.Context, settings config.Serve, next postrider.Secret, stdout io.Writer) error

	// MigrationStatus prints which migrations the store has, and Migrate runs
	// those that it lacks.
	MigrationStatus func(ctx context.Context, settings config.Serve, stdout io.Writer) error
	Migrate         func(ctx context.Context, settings config.Serve, stdout io.Writer) error

	// Export writes all that the store holds to the standard output, and Import
	// fills an empty store: from another one, a directory or a URL, or without
	// one from such an output. They return how many rows each of
	// postrider.ExportTables has, and tell of their progress meanwhile.
	Export func(ctx context.Context, settings config.Serve, stdout io.Writer, progress func(done, total int64)) ([]int64, error)
	Import func(ctx context.Context, settings config.Serve, from postrider.Secret, stdin io.Reader, progress func(done, total int64)) ([]int64, error)

	// ExamineDatabase tells note what it finds of a database.
	ExamineDatabase func(ctx context.Context, url postrider.Secret, note func(check, status, detail, hint string))

	Sink  func(ctx context.Context, options Sink, stdout io.Writer) error
	Bench func(ctx context.Context, options Bench, stdout, stderr io.Writer) error
	// Forwarder reaches loopback addresses alone, or with remote any.
	Forwarder func(remote bool) Forwarder
	// Scenarios are the names that bench takes, each with what it is about.
	Scenarios [][2]string
}

// A grammar is the whole command line. A field of it is a command, and a
// field of that one is a flag.
type grammar struct {
	ShowVersion kong.VersionFlag `name:"version" hidden:"" help:"The same as the command version."`

	Webhooks webhooksCommands `cmd:"" group:"Over the API:" help:"Work with webhooks."`
	Logs     logsCommands     `cmd:"" group:"Over the API:" help:"See what was sent and answered, and send it again."`
	Events   eventsCommands   `cmd:"" group:"Over the API:" help:"See the catalogue, and publish."`
	Trigger  trigger          `cmd:"" group:"Over the API:" help:"Publish the catalogue's example of an event type."`
	Replays  replaysCommands  `cmd:"" group:"Over the API:" help:"Send past deliveries again."`
	Tenants  tenantsCommands  `cmd:"" group:"Over the API:" help:"Work with tenants."`
	Keys     keysCommands     `cmd:"" group:"Over the API:" help:"Work with API keys."`
	Portal   portalCommands   `cmd:"" group:"Over the API:" help:"Let partners into the portal."`
	Profile  profileCommands  `cmd:"" group:"Over the API:" help:"Keep servers and the keys to them under names."`

	Listen listenCommand `cmd:"" group:"Tools of a receiver:" help:"Get deliveries on this machine, at a server behind no public address."`
	Sign   sign          `cmd:"" group:"Tools of a receiver:" help:"Print the headers that a body would be signed with."`
	Verify verify        `cmd:"" group:"Tools of a receiver:" help:"Check the signatures of a request, and say why one fails."`
	Sink   sinkCommand   `cmd:"" group:"Tools of a receiver:" help:"Run a receiver that shows deliveries and checks their signatures."`

	Serve   serveCommand    `cmd:"" group:"The server:" help:"Run the server."`
	Doctor  doctor          `cmd:"" group:"The server:" help:"Look for what is wrong with the server and the way to it, and say what to do."`
	Migrate migrateCommands `cmd:"" group:"The server:" help:"Look at the schema of the store, or bring it up to date."`
	Export  exportCommand   `cmd:"" group:"The server:" help:"Write all that the store holds to the standard output."`
	Import  importCommand   `cmd:"" group:"The server:" help:"Fill an empty store from another one, or from an export."`
	Secrets secretsCommands `cmd:"" group:"The server:" help:"Work with what the server keeps encrypted."`
	Bench   benchCommand    `cmd:"" group:"The server:" help:"Measure a server: rates, latencies, processor time and memory."`
	Config  struct {
		Check   checkCommand   `cmd:"" help:"Say what is wrong with the settings that serve would start with."`
		Default defaultCommand `cmd:"" help:"Print a settings file with every key, its meaning and its default."`
		Doc     docCommand     `cmd:"" help:"Print the reference page of the settings, in Markdown."`
	} `cmd:"" group:"The server:" help:"Check the settings, or show what can be set."`

	Completion completion     `cmd:"" group:"This program:" help:"Print what makes a shell complete commands and flags."`
	Version    versionCommand `cmd:"" group:"This program:" help:"Print the version, the commit and the Go version of this program."`
}

// A process is what a command works with.
type process struct {
	commands       Commands
	build          build
	stdin          io.Reader
	stdout, stderr io.Writer
	selected       *kong.Node // the command that runs
}

// errReported ends a command that has said on stdout what is wrong.
var errReported = errors.New("reported on stdout")

// Run runs the command that args name and returns the exit code: 0 when it did
// its work, 1 when it failed, 2 when the command line or a setting is wrong.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer, commands Commands) int {
	p := &process{commands: commands, build: thisBuild(commands.Version), stdin: os.Stdin, stdout: stdout, stderr: stderr}
	answered := false // by --help or --version, after which kong goes on parsing
	parser := kong.Must(&grammar{Bench: benchCommand{scenarios: commands.Scenarios}},
		kong.Name("postrider"),
		kong.Description("Postrider delivers events to webhooks: signed, retried and logged."),
		kong.Vars{"version": p.build.String()},
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { answered = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
		kong.ValueFormatter(describe),
		kong.BindTo(ctx, (*context.Context)(nil)),
		config.Options(),
	)
	parsed, err := parser.Parse(args)
	switch {
	case answered:
		return exitOK
	case err != nil:
		return p.misused(err)
	}
	p.selected = parsed.Selected()
	if err := parsed.Run(p); err != nil {
		return p.failed(err)
	}
	return exitOK
}

// describe is a flag's line in the help: what it does, its default, and its
// variable.
func describe(value *kong.Value) string {
	var notes []string
	if value.HasDefault {
		notes = append(notes, "default "+value.Default)
	}
	if variable := value.Tag.Get("env"); variable != "" {
		notes = append(notes, "$"+variable)
	}
	if len(notes) == 0 {
		return value.Help
	}
	return fmt.Sprintf("%s (%s)", value.Help, strings.Join(notes, ", "))
}

type serveCommand struct{ config.Flags }

// Help are the examples of serve --help.
func (c *serveCommand) Help() string {
	return `Examples:

    # try it: a receiver, example events and keys to paste
    postrider serve --dev

    # with settings of one's own
    postrider serve --data-dir /srv/postrider --listen :8080
    POSTRIDER_LISTEN=:8080 postrider serve --config postrider.yaml

A flag outranks its variable, which outranks the file. SIGINT and SIGTERM stop the server when what is in flight has
ended; a second one ends it at once.`
}

// Run runs the server.
func (c *serveCommand) Run(ctx context.Context, parsed *kong.Context, p *process) error {
	settings, err := c.Load(parsed)
	if err != nil {
		return err
	}
	return p.commands.Serve(ctx, settings, p.build.version, p.stdout, p.stderr)
}

type checkCommand struct{ config.Flags }

// Help are the examples of config check --help.
func (c *checkCommand) Help() string {
	return `It takes the flags of serve, reads the same variables and the same file, and starts nothing.

Examples:

    postrider config check --config postrider.yaml
    postrider config check --config postrider.yaml --listen :8080`
}

// Run prints "ok", or a line for everything that is wrong.
func (c *checkCommand) Run(parsed *kong.Context, p *process) error {
	_, err := c.Load(parsed)
	var faults config.Faults
	switch {
	case err == nil:
		fmt.Fprintln(p.stdout, "ok")
		return nil
	case !errors.As(err, &faults):
		return err
	}
	for _, fault := range faults {
		line := fault.Error()
		if fault.Hint != "" {
			line += " (" + fault.Hint + ")"
		}
		fmt.Fprintln(p.stdout, line)
	}
	return errReported
}

type defaultCommand struct{}

// Help are the examples of config default --help.
func (defaultCommand) Help() string {
	return `Example:

    postrider config default > postrider.yaml`
}

// Run prints a settings file that changes nothing.
func (defaultCommand) Run(p *process) error {
	config.WriteFile(p.stdout)
	return nil
}

type docCommand struct{}

// Run prints the reference page.
func (docCommand) Run(p *process) error {
	config.WriteReference(p.stdout)
	return nil
}

type versionCommand struct{}

// Run prints what this program was built from.
func (versionCommand) Run(p *process) error {
	fmt.Fprintln(p.stdout, p.build)
	return nil
}
