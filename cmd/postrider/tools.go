package main

import (
	"context"
	"io"

	"postrider/internal/app"
	"postrider/internal/bench"
	"postrider/internal/cli"
	"postrider/internal/sink"
)

// receive runs a receiver.
func receive(ctx context.Context, o cli.Sink, stdout io.Writer) error {
	secrets := make([]string, len(o.Secret))
	for i, secret := range o.Secret {
		secrets[i] = string(secret)
	}
	return sink.Run(ctx, o.Listen, sink.Options{
		Secrets: func() []string { return secrets }, Status: o.Status, Delay: o.Delay, Fail: o.Fail, Brand: o.Brand,
		Out: stdout, Color: o.Color, JSON: o.JSON,
	})
}

// measure measures a server, and writes the results.
func measure(ctx context.Context, o cli.Bench, stdout, stderr io.Writer) error {
	var database *bench.Database
	if o.DatabaseURL != "" {
		database = &bench.Database{
			URL:   string(o.DatabaseURL),
			Check: func(ctx context.Context) error { return app.CheckEmpty(ctx, o.DatabaseURL) },
			Clear: func(ctx context.Context) error { return app.DropTables(ctx, o.DatabaseURL) },
		}
	}
	_, err := bench.Run(ctx, bench.Options{
		Scenarios: o.Scenarios,
		Count:     o.Count, Connections: o.Connections, Payload: o.Payload, Batch: o.Batch, Webhooks: o.Webhooks,
		Rate: o.Rate, Duration: o.Duration, Down: o.Down, Timeout: o.Timeout, BareFor: o.BareFor,
		URL: o.URL, AdminKey: string(o.AdminKey), PID: o.PID,
		Database: database, Nodes: o.Nodes, ServeArgs: o.ServeArg, Dir: o.Dir,
		JSON: o.JSON, Stdout: stdout, Stderr: stderr, Progress: o.Progress,
	})
	return err
}
