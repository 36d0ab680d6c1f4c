package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"postrider"
	"postrider/internal/app"
	"postrider/internal/config"
)

var update = flag.Bool("update", false, "write what the commands print into the transcripts")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"postrider": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt) // as main does
		code := Run(ctx, os.Args[1:], os.Stdout, os.Stderr, Commands{
			Version: "v1.2.3", Serve: started, Sink: received, Bench: measured,
			Forwarder: func(remote bool) Forwarder { return app.Forwarder(remote) },
			Scenarios: [][2]string{{"throughput", "one webhook, single publishes"}},
		})
		stop()
		os.Exit(code)
	}})
}

// started stands where main puts the server: it says which settings reached
// it. cmd/postrider has the transcripts of the real one.
func started(_ context.Context, s config.Serve, version string, stdout, _ io.Writer) error {
	_, err := fmt.Fprintf(stdout, "%s on %s in %s as %s, secrets %v %v\n", version, s.Listen, s.DataDir, s.Brand, s.AdminKey, s.EncryptionKey)
	return err
}

// received stands where main puts the receiver.
func received(_ context.Context, o Sink, stdout io.Writer) error {
	if o.Status > 599 {
		return &postrider.Error{Kind: postrider.Invalid, Field: "status", Code: "invalid_status", Detail: "A final status is 200 to 599."}
	}
	secrets := make([]string, len(o.Secret))
	for i, secret := range o.Secret {
		secrets[i] = strings.ToUpper(string(secret)) // printed as it is, it would be redacted
	}
	_, err := fmt.Fprintf(stdout, "%s %q %d %v %v %s %v\n", o.Listen, secrets, o.Status, o.Delay, o.Fail, o.Brand, o.JSON)
	return err
}

// measured stands where main puts the load generator.
func measured(_ context.Context, o Bench, stdout, _ io.Writer) error {
	var faults postrider.Faults
	for _, field := range []string{"count", "scenario"} {
		if o.Count < 0 {
			faults.Add(&postrider.Error{Kind: postrider.Invalid, Field: field, Code: "out_of_range", Detail: "It is wrong."})
		}
	}
	if err := faults.Err(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stdout, "%q %d %v %v %q %v\n", o.Scenarios, o.Count, o.Rate, o.BareFor, o.ServeArg, o.JSON)
	return err
}

func TestTranscripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: *update, RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("COLUMNS", "110")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// exits runs a command and wants an exit code; testscript itself only tells
// zero from the rest. Such as: exits 2 postrider serve --no-such-flag.
func exits(script *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		script.Fatalf("usage: exits code command...")
	}
	got := "0"
	if err := script.Exec(args[1], args[2:]...); err != nil {
		var ended *exec.ExitError
		if !errors.As(err, &ended) {
			script.Fatalf("run %s: %v", args[1], err)
		}
		got = strconv.Itoa(ended.ExitCode())
	}
	if got != args[0] {
		script.Fatalf("got exit code %s, want %s", got, args[0])
	}
}
