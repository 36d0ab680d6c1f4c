package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"runtime"
	"strconv"
	"strings"
	"time"

	"postrider/internal/progress"
)

// Load is how much a scenario does.
type Load struct {
	Events      int     `json:"events,omitempty"`
	Webhooks    int     `json:"webhooks,omitempty"`
	Bad         int     `json:"bad_webhooks,omitempty"` // of them
	Connections int     `json:"connections,omitempty"`
	Batch       int     `json:"batch,omitempty"`
	Payload     int     `json:"payload_bytes,omitempty"`
	TLS         bool    `json:"tls,omitempty"`
	Nodes       int     `json:"nodes,omitempty"`
	Rate        float64 `json:"rate_per_second,omitempty"` // of events to webhooks that are measured
	Seconds     float64 `json:"seconds,omitempty"`
}

// with takes what was asked for, where the scenario has the field at all.
func (l Load) with(o Options) Load {
	for _, field := range []struct {
		own   *int
		asked int
	}{
		{&l.Events, o.Count}, {&l.Connections, o.Connections}, {&l.Batch, o.Batch}, {&l.Payload, o.Payload}, {&l.Nodes, o.Nodes},
	} {
		if *field.own != 0 && field.asked != 0 {
			*field.own = field.asked
		}
	}
	if l.Webhooks > 1 && o.Webhooks != 0 {
		l.Bad = l.Bad * o.Webhooks / l.Webhooks
		l.Webhooks = o.Webhooks
	}
	if l.Rate != 0 && o.Rate != 0 {
		l.Rate = o.Rate
	}
	if l.Seconds != 0 && o.Duration != 0 {
		l.Seconds = o.Duration.Seconds()
	}
	return l
}

func (l Load) duration() time.Duration { return time.Duration(l.Seconds * float64(time.Second)) }

// A Result is what one scenario measured. Pointers are nil, and numbers zero,
// where a scenario does not measure them.
type Result struct {
	Scenario string  `json:"scenario"`
	Load     Load    `json:"load"`
	Down     string  `json:"down,omitempty"`
	Store    string  `json:"store,omitempty"` // postgresql, or of a server that was there before: not told
	Machine  Machine `json:"machine"`

	Ingest          float64 `json:"ingest_per_second,omitempty"`    // events accepted
	Delivered       float64 `json:"delivered_per_second,omitempty"` // first publish to last receipt; a backlog: endpoint up to last receipt
	OneNode         float64 `json:"delivered_by_one_per_second,omitempty"`
	Expected        int64   `json:"expected"` // deliveries
	Lost            int64   `json:"lost"`
	Duplicates      int64   `json:"duplicates"`
	Checked         int64   `json:"signatures_checked"` // a sample
	WrongSignatures int64   `json:"signatures_wrong"`

	Accept  *Percentiles `json:"accept_ms,omitempty"`  // request to its 202
	Latency *Percentiles `json:"latency_ms,omitempty"` // publish to receipt
	Late    *Percentiles `json:"late_ms,omitempty"`    // of the generator itself, part of the latency
	Without *Percentiles `json:"latency_without_bad_ms,omitempty"`

	FreshDown  *Percentiles `json:"fresh_while_down_ms,omitempty"`
	FreshDrain *Percentiles `json:"fresh_while_draining_ms,omitempty"`
	Ready      *float64     `json:"ready_ms,omitempty"`

	CPU     *float64 `json:"cpu_seconds_per_1000,omitempty"` // of the server, per 1,000 deliveries
	PeakRSS *float64 `json:"peak_rss_mib,omitempty"`
	IdleRSS *float64 `json:"idle_rss_mib,omitempty"`
	Binary  *float64 `json:"binary_mib,omitempty"`

	Bare           *Bare    `json:"bare,omitempty"`
	DeliveredRatio *float64 `json:"delivered_of_bare,omitempty"`
	CPURatio       *float64 `json:"cpu_of_bare,omitempty"`
	NodesRatio     *float64 `json:"delivered_of_one,omitempty"`
	P99Ratio       *float64 `json:"p99_of_without_bad,omitempty"`

	about   string
	latency *histogram
}

func (r *Result) setLatency(h *histogram) {
	r.latency, r.Latency = h, h.percentiles()
}

// rate is how many a second, to a tenth.
func rate(n int64, d time.Duration) float64 { return math.Round(float64(n)/d.Seconds()*10) / 10 }

// costOf is the seconds that a thousand have cost, to the tenth of a
// millisecond.
func costOf(cpu time.Duration, n int64) float64 {
	return math.Round(cpu.Seconds()/float64(max(n, 1))*1e7) / 1e4
}

// compare adds the ratios.
func (r *Result) compare() {
	ratio := func(a, b float64) *float64 {
		if a == 0 || b == 0 {
			return nil
		}
		q := math.Round(a/b*1000) / 1000
		return &q
	}
	if r.Bare != nil {
		if r.Load.Rate == 0 {
			r.DeliveredRatio = ratio(r.Delivered, r.Bare.Delivered)
		}
		if r.CPU != nil {
			r.CPURatio = ratio(*r.CPU, r.Bare.CPU)
		}
	}
	r.NodesRatio = ratio(r.Delivered, r.OneNode)
	if r.Without != nil {
		r.P99Ratio = ratio(r.Latency.P99, r.Without.P99)
	}
}

func thisMachine() Machine { return Machine{CPUs: runtime.NumCPU(), Go: runtime.Version()} }

// write writes the table and the JSON line, or the line alone.
func (r *Result) write(w io.Writer, onlyJSON bool) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode a result: %w", err)
	}
	text := string(line) + "\n"
	if !onlyJSON {
		text = r.table() + text + "\n"
	}
	_, err = io.WriteString(w, text)
	return err
}

// table is the result for people.
func (r *Result) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", r.Scenario, r.about)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-18s %s\n", name, fmt.Sprintf(format, args...))
	}
	percentiles := func(name string, p *Percentiles) {
		if p != nil {
			row(name, "p50 %s   p90 %s   p99 %s   max %s", ms(p.P50), ms(p.P90), ms(p.P99), ms(p.Max))
		}
	}
	if load := r.Load.words(); load != "" {
		row("load", "%s", load)
	}
	if r.Store != "" {
		row("store", "%s", r.Store)
	}
	if r.Down != "" {
		row("endpoint down", "%s", r.Down)
	}
	if r.Ingest > 0 {
		row("accepted", "%s events/s", progress.Number(r.Ingest))
	}
	if r.Delivered > 0 {
		row("delivered", "%s/s%s", progress.Number(r.Delivered), r.ofBare())
	}
	if r.NodesRatio != nil {
		row("  by one node", "%s/s   all together %.2f of it", progress.Number(r.OneNode), *r.NodesRatio)
	}
	if r.Expected > 0 {
		row("lost", "%d of %s   twice %d   signatures wrong %d of %d looked at",
			r.Lost, progress.Number(float64(r.Expected)), r.Duplicates, r.WrongSignatures, r.Checked)
	}
	percentiles("publish to 202", r.Accept)
	percentiles("publish to receipt", r.Latency)
	if r.Bare != nil && r.Load.Rate > 0 {
		percentiles("  bare", r.Bare.Latency)
	}
	percentiles("  without the bad", r.Without)
	if r.P99Ratio != nil {
		row("  p99 ratio", "%.2f", *r.P99Ratio)
	}
	percentiles("  generator late", r.Late)
	percentiles("fresh while down", r.FreshDown)
	percentiles("fresh meanwhile", r.FreshDrain)
	if r.Ready != nil {
		row("ready after", "%s", ms(*r.Ready))
	}
	if r.CPU != nil {
		row("CPU", "%.3f s per 1,000 deliveries%s", *r.CPU, r.cpuOfBare())
	}
	for _, size := range []struct {
		name string
		mib  *float64
	}{{"memory, peak", r.PeakRSS}, {"memory, idle", r.IdleRSS}, {"binary", r.Binary}} {
		if size.mib != nil {
			row(size.name, "%.1f MiB", *size.mib)
		}
	}
	row("machine", "%d CPUs, %s, fsync p50 %s p99 %s", r.Machine.CPUs, r.Machine.Go, ms(r.Machine.Sync.P50), ms(r.Machine.Sync.P99))
	if r.latency != nil {
		b.WriteString(drawing(r.latency))
	}
	return b.String()
}

func (r *Result) ofBare() string {
	if r.DeliveredRatio == nil {
		return ""
	}
	return fmt.Sprintf("   %.2f of bare (%s/s)", *r.DeliveredRatio, progress.Number(r.Bare.Delivered))
}

func (r *Result) cpuOfBare() string {
	if r.CPURatio == nil {
		return ""
	}
	return fmt.Sprintf("   %.2f of bare (%.3f s)", *r.CPURatio, r.Bare.CPU)
}

// words is the load for people.
func (l Load) words() string {
	var words []string
	add := func(n int, format string) {
		if n > 0 {
			words = append(words, fmt.Sprintf(format, progress.Number(float64(n))))
		}
	}
	add(l.Events, "%s events")
	if l.Rate > 0 {
		words = append(words, fmt.Sprintf("%s/s for %g s", progress.Number(l.Rate), l.Seconds))
	}
	if l.Batch > 1 {
		add(l.Batch, "%s a request")
	}
	if l.Webhooks > 1 {
		add(l.Webhooks, "%s webhooks")
	}
	add(l.Bad, "%s of them bad")
	add(l.Nodes, "%s nodes")
	add(l.Connections, "%s connections")
	add(l.Payload, "%s bytes")
	return strings.Join(words, ", ")
}

// ms is a number of milliseconds for people: three digits that count.
func ms(value float64) string {
	switch {
	case value >= 10_000:
		return strconv.FormatFloat(value/1000, 'f', 1, 64) + " s"
	case value >= 100:
		return strconv.FormatFloat(value, 'f', 0, 64) + " ms"
	case value >= 10:
		return strconv.FormatFloat(value, 'f', 1, 64) + " ms"
	}
	return strconv.FormatFloat(value, 'f', 2, 64) + " ms"
}

// The drawing of a histogram.
const (
	drawingWidth = 40
	// least is the fraction of values below which a row at either end is left
	// out of the drawing; the percentiles tell of them.
	least = 0.0005
)

// drawing shows a distribution: a row for each doubling split in two, and a
// bar as long as the row's part of the values.
func drawing(h *histogram) string {
	total := h.total()
	if total == 0 {
		return ""
	}
	type band struct {
		low, high time.Duration
		n         int64
	}
	var bands []band
	for low := 50 * time.Microsecond; low < time.Hour; low *= 2 {
		middle := low + low/2
		bands = append(bands, band{low, middle, h.between(low, middle)}, band{middle, 2 * low, h.between(middle, 2*low)})
	}
	bands[0].low, bands[0].n = 0, h.between(0, bands[0].high)
	few := func(b band) bool { return float64(b.n) < least*float64(total) }
	for len(bands) > 1 && few(bands[0]) {
		bands = bands[1:]
	}
	for len(bands) > 1 && few(bands[len(bands)-1]) {
		bands = bands[:len(bands)-1]
	}
	var most int64
	for _, b := range bands {
		most = max(most, b.n)
	}
	var out strings.Builder
	for _, b := range bands {
		fmt.Fprintf(&out, "  %9s – %-9s %s %5.1f %%\n", ms(milliseconds(b.low)), ms(milliseconds(b.high)),
			progress.Blocks(float64(b.n)/float64(most), drawingWidth), 100*float64(b.n)/float64(total))
	}
	return out.String()
}

// writeSummary writes one row for each scenario.
func writeSummary(w io.Writer, results []Result) {
	fmt.Fprintf(w, "%-14s %12s %9s %9s %9s %10s %9s %9s %6s\n",
		"scenario", "delivered/s", "of bare", "p50", "p99", "CPU/1,000", "of bare", "memory", "lost")
	for i := range results {
		r := &results[i]
		optional := func(value *float64, format string) string {
			if value == nil {
				return "-"
			}
			return fmt.Sprintf(format, *value)
		}
		p50, p99, delivered, memory := "-", "-", "-", r.PeakRSS
		if r.Latency != nil {
			p50, p99 = ms(r.Latency.P50), ms(r.Latency.P99)
		}
		if r.Delivered > 0 {
			delivered = progress.Number(r.Delivered)
		}
		if memory == nil {
			memory = r.IdleRSS
		}
		fmt.Fprintf(w, "%-14s %12s %9s %9s %9s %10s %9s %9s %6d\n", r.Scenario, delivered, optional(r.DeliveredRatio, "%.2f"),
			p50, p99, optional(r.CPU, "%.3f s"), optional(r.CPURatio, "%.2f"), optional(memory, "%.0f MiB"), r.Lost)
	}
}
