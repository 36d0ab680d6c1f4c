package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postrider"
)

// refusing is a database that has something in it.
var refusing = &Database{
	Check: func(context.Context) error { return &postrider.Error{Kind: postrider.Invalid, Code: "not_empty"} },
	Clear: func(context.Context) error { panic("a database that is not the benchmark's is cleared") },
}

func TestRun_RefusesWhatItCannotDo(t *testing.T) {
	for name, test := range map[string]struct {
		options Options
		code    string
	}{
		"no such scenario":         {Options{Scenarios: []string{"fast"}}, "unknown_scenario"},
		"somebody else's server":   {Options{URL: "http://192.0.2.1:8080", AdminKey: "k"}, "not_loopback"},
		"a name for a server":      {Options{URL: "http://localhost:8080", AdminKey: "k"}, "not_loopback"},
		"a URL that is none":       {Options{URL: "127.0.0.1:8080", AdminKey: "k"}, "invalid_url"},
		"a server without its key": {Options{URL: "http://127.0.0.1:8080"}, "required"},
		"to kill a server":         {Options{URL: "http://127.0.0.1:8080", AdminKey: "k", Scenarios: []string{"restart"}}, "needs_child"},
		"nodes without a database": {Options{Scenarios: []string{"nodes"}}, "needs_database"},
		"empty stores in one":      {Options{Scenarios: []string{"idle"}, Database: refusing}, "needs_directory"},
		"a database of another's":  {Options{URL: "http://127.0.0.1:8080", AdminKey: "k", Database: refusing}, "not_ours"},
		"a database that is used":  {Options{Database: refusing}, "not_empty"},
		"one node of several":      {Options{Scenarios: []string{"nodes"}, Database: refusing, Nodes: 1}, "out_of_range"},
		"a payload without room":   {Options{Payload: 10}, "out_of_range"},
		"too many in a batch":      {Options{Batch: 1001}, "out_of_range"},
		"a negative rate":          {Options{Rate: -1}, "out_of_range"},
		"a way to be down":         {Options{Down: "asleep"}, "unknown_down"},
	} {
		t.Run(name, func(t *testing.T) {
			test.options.BareFor = -1
			_, err := Run(t.Context(), test.options)
			var refused *postrider.Error
			if !errors.As(err, &refused) || refused.Code != test.code {
				t.Errorf("got %v, want code %s", err, test.code)
			}
		})
	}
}

// Whatever a run comes to, the database is as it was before.
func TestRun_ClearsTheDatabase(t *testing.T) {
	cleared := errors.New("cleared")
	_, err := Run(t.Context(), Options{Executable: "/bin/false", Dir: t.TempDir(), BareFor: -1, Database: &Database{
		Check: func(context.Context) error { return nil }, Clear: func(context.Context) error { return cleared },
	}})
	if err == nil || !errors.Is(err, cleared) || !strings.Contains(err.Error(), "the tables of this run are left in the database") {
		t.Errorf("got %v, want the server's end, and that something was left", err)
	}
}

func TestChoose_TakesAllThatRunOnTheStore(t *testing.T) {
	for database, want := range map[bool]string{false: "idle", true: "nodes"} {
		chosen, err := choose([]string{"all"}, database)
		if err != nil {
			t.Fatal(err)
		}
		if got := chosen[len(chosen)-1].name; got != want || len(chosen) != len(scenarios)-1 {
			t.Errorf("database %v: got %d scenarios, the last %s, want all but one, the last %s", database, len(chosen), got, want)
		}
	}
}

func TestRun_SaysWhyAServerDidNotStart(t *testing.T) {
	dir := t.TempDir()
	_, err := Run(t.Context(), Options{Executable: "/bin/false", Dir: dir, BareFor: -1})
	if err == nil || !strings.Contains(err.Error(), "ended at its start: exit status 1") {
		t.Errorf("got %v, want that the server ended", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("got %v, %v left in the directory, want nothing", left, err)
	}
}

func TestChoose_TakesFamilies(t *testing.T) {
	for want, names := range map[string][]string{
		"throughput steady":           {"throughput", "steady"},
		"noisy-hanging noisy-dead":    {"noisy"},
		"idle noisy-dead":             {"idle", "noisy-dead"},
		"throughput batch fanout ...": {"all"},
	} {
		chosen, err := choose(names, false)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range chosen {
			got = append(got, s.name)
		}
		if len(got) == len(scenarios)-1 { // nodes takes a database
			got = append(got[:3], "...")
		}
		if joined := strings.Join(got, " "); joined != want {
			t.Errorf("%v: got %q, want %q", names, joined, want)
		}
	}
}

// A scenario without a rate does not get one, and a single webhook stays one.
func TestLoad_TakesWhatTheScenarioHas(t *testing.T) {
	o := Options{Count: 10, Connections: 2, Payload: 100, Batch: 5, Webhooks: 50, Rate: 7, Duration: time.Minute}
	got := Load{Events: 1000, Webhooks: 1, Connections: 64, Batch: 1, Payload: 512}.with(o)
	if diff := cmp.Diff(Load{Events: 10, Webhooks: 1, Connections: 2, Batch: 5, Payload: 100}, got); diff != "" {
		t.Error(diff)
	}
	got = Load{Webhooks: 100, Bad: 20, Connections: 64, Batch: 1, Payload: 512, Rate: 500, Seconds: 20}.with(o)
	if diff := cmp.Diff(Load{Webhooks: 50, Bad: 10, Connections: 2, Batch: 5, Payload: 100, Rate: 7, Seconds: 60}, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseStat_ReadsPastTheProgramsName(t *testing.T) {
	const rest = " S 1 2 3 4 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 12345 1000 200 18446744073709551615"
	for _, name := range []string{"postrider", "a) S 1 (b", "with space"} {
		if got, ok := parseStat("42 (" + name + ")" + rest); !ok || got != 3*time.Second {
			t.Errorf("%q: got %v, %v, want 3s", name, got, ok)
		}
	}
	for _, broken := range []string{"", "42 (postrider) S 1 2", "42 (postrider) S 1 2 3 4 5 6 7 8 9 10 x y"} {
		if _, ok := parseStat(broken); ok {
			t.Errorf("%q: got a time, want none", broken)
		}
	}
}

func TestServer_ReadsItsUse(t *testing.T) {
	s := &server{pid: os.Getpid()}
	if mib, ok := s.memory("VmHWM"); !ok || mib < 1 || mib > 1<<20 {
		t.Errorf("got %v MiB, %v, want this process's peak", mib, ok)
	}
	if cpu, ok := s.cpu(); !ok || cpu < 0 || cpu > ownCPU()+time.Second {
		t.Errorf("got %v, %v, want about %v", cpu, ok, ownCPU())
	}
	unknown := new(server)
	if _, ok := unknown.cpu(); ok {
		t.Error("got a time of no process")
	}
}

func TestResult_ComparesWithBare(t *testing.T) {
	cpu := 0.12
	r := Result{Delivered: 12_000, CPU: &cpu, Bare: &Bare{Delivered: 40_000, CPU: 0.05}}
	r.compare()
	if r.DeliveredRatio == nil || *r.DeliveredRatio != 0.3 || r.CPURatio == nil || math.Abs(*r.CPURatio-2.4) > 1e-9 {
		t.Errorf("got %v and %v, want 0.3 and 2.4", r.DeliveredRatio, r.CPURatio)
	}
	// At a rate that was asked for, the bare loop delivers no more than that.
	r = Result{Load: Load{Rate: 500}, Delivered: 500, Bare: &Bare{Delivered: 500}}
	if r.compare(); r.DeliveredRatio != nil {
		t.Errorf("got ratio %v, want none at a given rate", *r.DeliveredRatio)
	}
}

func TestResult_ComparesNodesWithOne(t *testing.T) {
	r := Result{Scenario: "nodes", Load: Load{Nodes: 2}, Store: "postgresql", Delivered: 9000, OneNode: 10_000, Machine: Machine{Sync: &Percentiles{}}}
	r.compare()
	if r.NodesRatio == nil || *r.NodesRatio != 0.9 {
		t.Errorf("got %v, want 0.9", r.NodesRatio)
	}
	for _, want := range []string{"  store              postgresql\n", "    by one node      10,000/s   all together 0.90 of it\n"} {
		if table := r.table(); !strings.Contains(table, want) {
			t.Errorf("got %s, want %q in it", table, want)
		}
	}
}

func sample() *Result {
	var h histogram
	for range 90 {
		h.record(700 * time.Microsecond)
	}
	for range 10 {
		h.record(5 * time.Millisecond)
	}
	cpu, peak := 0.1204, 44.5
	r := &Result{
		Scenario: "throughput", about: "one webhook, single publishes",
		Load:    Load{Events: 50_000, Webhooks: 1, Connections: 64, Batch: 1, Payload: 512},
		Machine: Machine{CPUs: 2, Go: "go1.26", Sync: &Percentiles{0.1, 0.2, 0.5, 4}},
		Ingest:  12_345, Delivered: 12_000, Expected: 50_000, Lost: 1, Checked: 50, CPU: &cpu, PeakRSS: &peak,
		Accept: &Percentiles{1, 2, 3, 1234}, Bare: &Bare{Delivered: 40_000, CPU: 0.05, Latency: &Percentiles{1, 2, 3, 4}},
	}
	r.setLatency(&h)
	r.compare()
	return r
}

func TestResult_TableForPeople(t *testing.T) {
	const want = `throughput: one webhook, single publishes
  load               50,000 events, 64 connections, 512 bytes
  accepted           12,345 events/s
  delivered          12,000/s   0.30 of bare (40,000/s)
  lost               1 of 50,000   twice 0   signatures wrong 0 of 50 looked at
  publish to 202     p50 1.00 ms   p90 2.00 ms   p99 3.00 ms   max 1234 ms
  publish to receipt p50 0.70 ms   p90 0.70 ms   p99 5.00 ms   max 5.00 ms
  CPU                0.120 s per 1,000 deliveries   2.41 of bare (0.050 s)
  memory, peak       44.5 MiB
  machine            2 CPUs, go1.26, fsync p50 0.10 ms p99 0.50 ms
    0.60 ms – 0.80 ms   ████████████████████████████████████████  90.0 %
    0.80 ms – 1.20 ms                                              0.0 %
    1.20 ms – 1.60 ms                                              0.0 %
    1.60 ms – 2.40 ms                                              0.0 %
    2.40 ms – 3.20 ms                                              0.0 %
    3.20 ms – 4.80 ms                                              0.0 %
    4.80 ms – 6.40 ms   ████▌                                     10.0 %
`
	if diff := cmp.Diff(want, sample().table()); diff != "" {
		t.Error(diff)
	}
}

func TestResult_OneLineOfJSON(t *testing.T) {
	var out bytes.Buffer
	if err := sample().write(&out, true); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n"); n != 1 || !strings.HasSuffix(out.String(), "\n") {
		t.Errorf("got %d lines, want one", n)
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"scenario": "throughput", "delivered_per_second": 12_000.0, "lost": 1.0, "delivered_of_bare": 0.3,
		"latency_ms": map[string]any{"p50": 0.704, "p90": 0.704, "p99": 5.0, "max": 5.0}, // the upper end of the bucket of 0.7
	} {
		if diff := cmp.Diff(want, got[name]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if _, found := got["ready_ms"]; found {
		t.Error("got a time to ready, which this scenario does not measure")
	}
}

func TestSummary_HasARowForEachScenario(t *testing.T) {
	var out bytes.Buffer
	ready := 23.5
	writeSummary(&out, []Result{*sample(), {Scenario: "idle", Ready: &ready}})
	const want = `scenario        delivered/s   of bare       p50       p99  CPU/1,000   of bare    memory   lost
throughput           12,000      0.30   0.70 ms   5.00 ms    0.120 s      2.41    44 MiB      1
idle                      -         -         -         -          -         -         -      0
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestSubscribe_IsUnderstoodByURLParsers(t *testing.T) {
	listener, err := listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := startReceiver(listener, receiverOptions{secret: "a secret of the bench", tls: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	u, err := url.Parse(r.hook(12))
	if err != nil || u.Scheme != "https" || u.Path != "/12" || u.Hostname() != "127.0.0.1" {
		t.Errorf("got %v, %v, want https on 127.0.0.1 and the path /12", u, err)
	}
	if err := postrider.CheckEventType("events[0]", eventType(19_999)); err != nil {
		t.Errorf("got %v, want an event type", err)
	}
}
