// Command postrider runs the webhook server and its tools. It knows signals,
// and which implementation stands behind which command; everything else is the
// business of the rooms it calls.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"postrider/internal/app"
	"postrider/internal/bench"
	"postrider/internal/cli"
)

// version is set by the linker: -ldflags '-X main.version=v1.2.3'.
var version string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks for a graceful stop. From then on signals have
	// their usual action again: the second one ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs a command until it is done or the context ends, and returns the
// exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return cli.Run(ctx, args, stdout, stderr, cli.Commands{
		Version:   version,
		Serve:     app.Serve,
		RotateKey: app.RotateKey,
		Migrate:   app.Migrate, MigrationStatus: app.MigrationStatus,
		ExamineDatabase: app.ExamineDatabase,
		Export:          app.Export, Import: app.Import,
		Sink:      receive,
		Bench:     measure,
		Forwarder: func(remote bool) cli.Forwarder { return app.Forwarder(remote) },
		Scenarios: bench.Scenarios(),
	})
}
