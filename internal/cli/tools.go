package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"postrider"
	"postrider/internal/config"
)

// Sink are the flags of sink. It reads no variables: those of the server, such
// as POSTRIDER_LISTEN, are not meant for a receiver beside it.
type Sink struct {
	Listen string             `default:"127.0.0.1:4567" placeholder:"ADDRESS" help:"Address to receive on, host:port."`
	Secret []postrider.Secret `sep:"none" placeholder:"SECRET" help:"Secret that deliveries are signed with. Repeat it for several; without one, signatures are not checked."`
	Status int                `default:"204" placeholder:"CODE" help:"Status to answer with, 200 to 599."`
	Delay  time.Duration      `default:"0s" placeholder:"DURATION" help:"Wait before the answer."`
	Fail   float64            `default:"0" placeholder:"FRACTION" help:"Fraction of deliveries to answer 500 to, 0 to 1."`
	Brand  string             `default:"Clubmed" placeholder:"NAME" help:"Brand of the server, as in X-Clubmed-Signature."`
	JSON   bool               `help:"Print a JSON object for each delivery."`
	Color  bool               `kong:"-"` // the terminal shows colours
}

type sinkCommand struct{ Sink }

// Help are the examples of sink --help.
func (c *sinkCommand) Help() string {
	return `Examples:

    postrider sink --secret 'a secret to sign with'

    # three in ten deliveries fail, all are slow
    postrider sink --fail 0.3 --delay 2s

It listens until SIGINT or SIGTERM, and then prints how many it got.`
}

// Run runs the receiver.
func (c *sinkCommand) Run(ctx context.Context, parsed *kong.Context, p *process) error {
	c.Color = isTerminal(p.stdout) && !config.NoColor()
	return refused(parsed, p.commands.Sink(ctx, c.Sink, p.stdout))
}

// Bench are the flags of bench. A zero is the scenario's own default.
type Bench struct {
	Scenarios []string `arg:"" optional:"" name:"scenario" help:"What to measure; without one, throughput."`

	Count       int              `placeholder:"N" help:"Events to publish."`
	Connections int              `placeholder:"N" help:"Connections to the server, and of the bare loop."`
	Payload     int              `placeholder:"BYTES" help:"Size of an event's payload."`
	Batch       int              `placeholder:"N" help:"Events of one request, 1 to 1000."`
	Webhooks    int              `placeholder:"N" help:"Webhooks that an event goes to, or that share the load."`
	Rate        float64          `placeholder:"N" help:"Events a second, where the scenario has a rate."`
	Duration    time.Duration    `placeholder:"DURATION" help:"Length of a load with a rate."`
	Down        string           `placeholder:"HOW" help:"How the endpoint of a backlog is down: refused, 503 or hanging."`
	Timeout     time.Duration    `default:"10m" placeholder:"DURATION" help:"Longest time of one scenario."`
	BareFor     time.Duration    `default:"2s" placeholder:"DURATION" help:"Length of the bare loop that is measured before and after; negative: none, written as --bare-for=-1s."`
	URL         string           `placeholder:"URL" help:"Server that runs already, on a loopback address. Without one, a new one is started for each scenario."`
	AdminKey    postrider.Secret `placeholder:"KEY" help:"The operator's API key of the server at --url."`
	PID         int              `placeholder:"PID" help:"Process of the server at --url, for its processor time and memory."`
	DatabaseURL postrider.Secret `placeholder:"URL" help:"Empty PostgreSQL database for the servers that are started, instead of their directories. Its tables are dropped after each scenario."`
	Nodes       int              `placeholder:"N" help:"Servers on the database in the scenario nodes, 2 to 16; 2 by default."`
	ServeArg    []string         `sep:"none" placeholder:"FLAG" help:"Flag for the server that is started, such as --serve-arg=--max-in-flight=64. Repeat it for several."`
	Dir         string           `placeholder:"DIR" help:"Where the started server keeps its data for the time; by default the system's directory for temporary files."`
	JSON        bool             `help:"Print a JSON object for each scenario."`
	Progress    bool             `kong:"-"` // stderr is a terminal
}

type benchCommand struct {
	Bench
	scenarios [][2]string
}

// Help are the scenarios and the examples of bench --help.
func (c *benchCommand) Help() string {
	var text strings.Builder
	text.WriteString("It publishes at a server over HTTP, receives what it delivers, and measures a bare loop of signed\n" +
		"POSTs beside it as the limit. The scenarios:\n\n")
	for _, scenario := range append(c.scenarios, [2]string{"all", "one after another"}) {
		fmt.Fprintf(&text, "    %-14s %s\n", scenario[0], scenario[1])
	}
	text.WriteString(`
Examples:

    postrider bench
    postrider bench steady --rate 1000 --duration 10s
    postrider bench throughput fanout --json

    # on PostgreSQL: a database of its own, with nothing in it
    createdb bench
    postrider bench throughput batch nodes --database-url postgres://user@localhost/bench`)
	return text.String()
}

// Run measures.
func (c *benchCommand) Run(ctx context.Context, parsed *kong.Context, p *process) error {
	c.Progress = isTerminal(p.stderr)
	return refused(parsed, p.commands.Bench(ctx, c.Bench, p.stdout, p.stderr))
}

// isTerminal reports whether what is written is seen by a person at once.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
