// Package bench measures a real Postrider: it publishes at a server over HTTP,
// receives the deliveries, and tells rates, latencies, processor time and
// memory beside a bare loop of signed POSTs as the limit.
//
// It knows the API as a producer and partners see it, and /proc. It must not
// know how the server works inside, and reaches nothing but loopback addresses.
// `postrider bench` calls it.
package bench

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"postrider"
)

// Options of a run. Zero fields mean the scenario's own default.
type Options struct {
	Scenarios []string // names, or all that begin with one and a dash; none: throughput

	Count       int           // events to publish
	Connections int           // to the server, and of the bare loop
	Payload     int           // bytes of an event's payload
	Batch       int           // events of one request
	Webhooks    int           // that an event goes to, or that share the load
	Rate        float64       // events a second, where the scenario has a rate
	Duration    time.Duration // of a steady load
	Down        string        // backlog: how the endpoint is down: refused, 503 or hanging
	Timeout     time.Duration // of one scenario; 0: 10 minutes
	BareFor     time.Duration // of the bare loop, before and again after; 0: 2 s; negative: no bare loop

	// URL is a server that runs already, on a loopback address. Without one, a
	// child is started for each scenario, in a directory that is removed after.
	URL      string
	AdminKey string // of the server at URL
	PID      int    // of the server at URL, for its CPU and memory; 0: not told

	// Database is where the children keep their store instead; nil: each in its
	// own directory.
	Database *Database
	Nodes    int // servers on the database, where the scenario has several

	Executable string   // of the child; empty: this one
	ServeArgs  []string // more flags of the child's serve
	Dir        string   // where the child's data directory is made; empty: the system's place for temporary files

	JSON     bool      // nothing but a JSON line for each scenario on Stdout
	Stdout   io.Writer // results
	Stderr   io.Writer // words
	Progress bool      // Stderr is a terminal: draw a progress bar
}

// A Database is an empty one of PostgreSQL, which is the benchmark's for the
// time. How to look into it is told by who gives it.
type Database struct {
	URL   string
	Check func(context.Context) error // refuses one that is not empty
	Clear func(context.Context) error // removes what the children have made

	key string // with which the children encrypt there
}

// store is the engine of the children's store, where it is not the usual one.
func (o Options) store() string {
	if o.Database == nil {
		return ""
	}
	return "postgresql"
}

const (
	defaultTimeout = 10 * time.Minute
	defaultBareFor = 2 * time.Second
)

func (o Options) withDefaults() (Options, error) {
	if len(o.Scenarios) == 0 {
		o.Scenarios = []string{"throughput"}
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.BareFor == 0 {
		o.BareFor = defaultBareFor
	}
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	if o.Stderr == nil {
		o.Stderr = io.Discard
	}
	if o.Dir == "" {
		o.Dir = os.TempDir()
	}
	if o.Database != nil {
		key := make([]byte, 32)
		rand.Read(key)
		database := *o.Database
		database.key = base64.StdEncoding.EncodeToString(key)
		o.Database = &database
	}
	if o.Executable == "" && o.URL == "" {
		self, err := os.Executable()
		if err != nil {
			return o, fmt.Errorf("find our own executable: %w", err)
		}
		o.Executable = self
	}
	return o, o.check()
}

// check refuses what no scenario can use.
func (o Options) check() error {
	var faults postrider.Faults
	within := func(field string, value, least, most int) {
		if value != 0 && (value < least || value > most) {
			faults.Add(&postrider.Error{
				Kind: postrider.Invalid, Field: field, Code: "out_of_range", Detail: fmt.Sprintf("It is %d to %d.", least, most),
			})
		}
	}
	within("count", o.Count, 1, 10_000_000)
	within("connections", o.Connections, 1, 4096)
	within("payload", o.Payload, minPayload, 8<<20)
	within("batch", o.Batch, 1, 1000)
	within("webhooks", o.Webhooks, 1, 20_000)
	within("nodes", o.Nodes, 2, 16)
	if o.Database != nil && o.URL != "" {
		faults.Add(&postrider.Error{
			Kind: postrider.Invalid, Field: "database_url", Code: "not_ours", Detail: "It is for servers that are started, and one that runs already was given.",
		})
	}
	if o.Rate < 0 || o.Rate > 100_000 {
		faults.Add(&postrider.Error{
			Kind: postrider.Invalid, Field: "rate", Code: "out_of_range", Detail: "It is at most 100,000 events a second.",
		})
	}
	if o.Duration < 0 || o.Duration > time.Hour {
		faults.Add(&postrider.Error{Kind: postrider.Invalid, Field: "duration", Code: "out_of_range", Detail: "It is at most an hour."})
	}
	if !slices.Contains([]string{"", downRefused, down503, downHanging}, o.Down) {
		faults.Add(&postrider.Error{
			Kind: postrider.Invalid, Field: "down", Code: "unknown_down", Detail: "An endpoint is down as refused, 503 or hanging.",
		})
	}
	return faults.Err()
}

// A scenario is one kind of load, with its own size unless told otherwise.
type scenario struct {
	name  string
	about string
	load  Load
	own   bool // it starts and kills the server: a child only
	empty bool // each start is on a store of its own, which a database is not
	lone  bool // without the bare loop
	run   func(ctx context.Context, s *stage) error
}

// scenarios are all there are, in the order in which they run.
var scenarios = []scenario{
	{
		name: "throughput", about: "one webhook, single publishes",
		load: Load{Events: 50_000, Webhooks: 1, Connections: 64, Batch: 1, Payload: 512}, run: burst,
	},
	{
		name: "batch", about: "one webhook, publishes of 100 events",
		load: Load{Events: 100_000, Webhooks: 1, Connections: 64, Batch: 100, Payload: 512}, run: burst,
	},
	{
		name: "fanout", about: "every event goes to 100 webhooks",
		load: Load{Events: 500, Webhooks: 100, Connections: 64, Batch: 1, Payload: 512}, run: burst,
	},
	{
		name: "large", about: "one webhook, bodies of 256 KiB",
		load: Load{Events: 1000, Webhooks: 1, Connections: 64, Batch: 1, Payload: 256 << 10}, run: burst,
	},
	{
		name: "tls", about: "one webhook behind TLS",
		load: Load{Events: 50_000, Webhooks: 1, Connections: 64, Batch: 1, Payload: 512, TLS: true}, run: burst,
	},
	{
		name: "steady", about: "a constant rate, whether or not the server keeps up",
		load: Load{Webhooks: 1, Connections: 64, Batch: 1, Payload: 512, Rate: 500, Seconds: 30}, run: steady,
	},
	{
		name: "noisy-hanging", about: "of 10 webhooks 1 never answers; the others are measured",
		load: Load{Webhooks: 10, Bad: 1, Connections: 64, Batch: 1, Payload: 512, Rate: 500, Seconds: 20}, run: noisyHanging, lone: true,
	},
	{
		name: "noisy-dead", about: "of 100 webhooks 20 refuse connections; the others are measured",
		load: Load{Webhooks: 100, Bad: 20, Connections: 64, Batch: 1, Payload: 512, Rate: 500, Seconds: 20}, run: noisyDead, lone: true,
	},
	{
		name: "backlog", about: "the endpoint is down while events are published, then up",
		load: Load{Events: 100_000, Webhooks: 1, Connections: 64, Batch: 100, Payload: 512}, run: backlog,
	},
	{
		name: "restart", about: "kill -9 with a backlog, and again half way through it",
		load: Load{Events: 100_000, Webhooks: 1, Connections: 64, Batch: 100, Payload: 512}, run: restart, own: true,
	},
	{
		name: "idle", about: "an empty store and nothing to do",
		run: idle, own: true, lone: true, empty: true,
	},
	{
		name: "nodes", about: "servers on one database, published to in turn, held against one",
		load: Load{Events: 40_000, Webhooks: 1, Connections: 64, Batch: 1, Payload: 512, Nodes: 2}, run: nodes, own: true,
	},
}

// refuse says why a scenario cannot run with the options.
func (s *scenario) refuse(o Options) error {
	refused := &postrider.Error{Kind: postrider.Invalid, Field: "scenario"}
	switch {
	case s.own && o.URL != "":
		refused.Code = "needs_child"
		refused.Detail = fmt.Sprintf("The scenario %s starts and kills the server: it runs without a URL only.", s.name)
	case s.load.Nodes > 0 && o.Database == nil:
		refused.Code = "needs_database"
		refused.Detail = fmt.Sprintf("The scenario %s has several servers on one database: give an empty one with --database-url.", s.name)
	case s.empty && o.Database != nil:
		refused.Code = "needs_directory"
		refused.Detail = fmt.Sprintf("The scenario %s starts on one empty store after another: it runs without a database only.", s.name)
	default:
		return nil
	}
	return refused
}

// Scenarios are the names that Options takes, each with what it is about.
func Scenarios() (list [][2]string) {
	for _, s := range scenarios {
		list = append(list, [2]string{s.name, s.about})
	}
	return list
}

// choose finds scenarios by name, or by the part of it before a dash. All are
// those that run with or without a database.
func choose(names []string, database bool) (chosen []scenario, err error) {
	var faults postrider.Faults
	known := make([]string, 0, len(scenarios))
	for _, s := range scenarios {
		known = append(known, s.name)
	}
	for _, name := range names {
		before := len(chosen)
		for _, s := range scenarios {
			runs := s.load.Nodes == 0
			if database {
				runs = !s.empty
			}
			if name == s.name || name == "all" && runs || strings.HasPrefix(s.name, name+"-") {
				chosen = append(chosen, s)
			}
		}
		if len(chosen) == before {
			faults.Add(&postrider.Error{
				Kind: postrider.Invalid, Field: "scenario", Code: "unknown_scenario",
				Detail: fmt.Sprintf("There is no scenario %q. There are all, %s.", name, strings.Join(known, ", ")),
			})
		}
	}
	return chosen, faults.Err()
}

// ErrLost ends a run in which deliveries did not arrive, or were signed wrong.
var ErrLost = errors.New("deliveries were lost or wrong")

// Run measures the scenarios one after another and writes what it found. The
// results that were complete are returned whatever the error is.
func Run(ctx context.Context, o Options) ([]Result, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	chosen, err := choose(o.Scenarios, o.Database != nil)
	if err != nil {
		return nil, err
	}
	for _, s := range chosen {
		if err := s.refuse(o); err != nil {
			return nil, err
		}
	}
	if o.Database != nil {
		if err := o.Database.Check(ctx); err != nil {
			return nil, err
		}
	}
	machine, err := look(o.Dir)
	if err != nil {
		return nil, err
	}
	if machine.Volatile {
		fmt.Fprintf(o.Stderr, "%s is in memory: nothing there is ever written to a disk, and rates are too good. Give another directory.\n", o.Dir)
	}
	var results []Result
	var failed []error
	for _, s := range chosen {
		result, err := measure(ctx, o, s)
		if err != nil {
			return results, fmt.Errorf("%s: %w", s.name, err)
		}
		result.Machine = machine
		if result.Lost > 0 || result.WrongSignatures > 0 {
			failed = append(failed, fmt.Errorf("%s: %d lost, %d wrong signatures: %w", s.name, result.Lost, result.WrongSignatures, ErrLost))
		}
		results = append(results, *result)
		if err := result.write(o.Stdout, o.JSON); err != nil {
			return results, err
		}
	}
	if len(results) > 1 && !o.JSON {
		writeSummary(o.Stdout, results)
	}
	return results, errors.Join(failed...)
}
