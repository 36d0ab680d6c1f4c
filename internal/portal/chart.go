package portal

import (
	"context"
	"fmt"
	"html/template"
	"strings"
	"time"

	"postrider"
)

// A span is a stretch of time that charts can show.
type span struct {
	Key   string
	Label string
	Step  time.Duration
	Steps int
}

// spans have about as many steps as a narrow screen has room for bars.
var spans = []span{
	{"1h", "1 hour", time.Minute, 60},
	{"24h", "24 hours", 30 * time.Minute, 48},
	{"7d", "7 days", 3 * time.Hour, 56},
	{"30d", "30 days", 12 * time.Hour, 60},
}

const defaultSpan = 1

func spanOf(key string) span {
	for _, s := range spans {
		if s.Key == key {
			return s
		}
	}
	return spans[defaultSpan]
}

// query asks for the tallies of the span that ends now, the step under way
// included.
func (s span) query(now time.Time) postrider.TallyQuery {
	to := now.UTC().Truncate(s.Step).Add(s.Step)
	return postrider.TallyQuery{From: to.Add(-s.Step * time.Duration(s.Steps)), To: to, Step: s.Step}
}

// A chart is the attempts of a span, and their sum.
type chart struct {
	Span    span
	Spans   []span
	Tallies []postrider.Tally
	Sum     postrider.Tally
}

func (p *Portal) chart(ctx context.Context, tenant string, webhook postrider.ID, key string) (*chart, error) {
	c := &chart{Span: spanOf(key), Spans: spans}
	q := c.Span.query(time.Now())
	q.Tenant, q.WebhookID = tenant, webhook
	var err error
	if c.Tallies, err = p.o.Counters.Tallies(ctx, q); err != nil {
		return c, err
	}
	for i := range c.Tallies {
		c.Sum.Add(&c.Tallies[i])
	}
	return c, nil
}

// Empty reports whether there is nothing to draw.
func (c *chart) Empty() bool { return c.Sum.Attempts() == 0 }

// Rate is the share of attempts that succeeded.
func (c *chart) Rate() string { return percent(c.Sum.Successes, c.Sum.Attempts()) }

// Median and Slow are latencies that half, and 95 in 100 attempts stayed
// within.
func (c *chart) Median() string { return latency(&c.Sum, 0.5) }

// Slow is the 95th percentile.
func (c *chart) Slow() string { return latency(&c.Sum, 0.95) }

func latency(t *postrider.Tally, q float64) string {
	if t.Attempts() == 0 {
		return "–"
	}
	d := t.Quantile(q)
	if d >= postrider.LatencyBounds[len(postrider.LatencyBounds)-1] {
		return "> " + duration(d)
	}
	return duration(d)
}

// A bar is one step of a chart.
type bar struct {
	At        time.Time
	Unix      int64
	Label     string
	Successes int64
	Failures  int64
	P50, P95  float64 // in milliseconds
}

// Bars are the chart's steps, oldest first.
func (c *chart) Bars() []bar {
	list := make([]bar, len(c.Tallies))
	layout := "15:04"
	if c.Span.Step >= 3*time.Hour {
		layout = "2 Jan 15:04"
	}
	for i := range c.Tallies {
		t := &c.Tallies[i]
		list[i] = bar{
			At: t.At, Unix: t.At.Unix(), Label: t.At.Format(layout), Successes: t.Successes, Failures: t.Failures,
			P50: milliseconds(t.Quantile(0.5)), P95: milliseconds(t.Quantile(0.95)),
		}
	}
	return list
}

func milliseconds(d time.Duration) float64 { return float64(d.Round(100*time.Microsecond)) / 1e6 }

// Drawing is the chart of successes and failures as a picture, for browsers
// that run no scripts.
func (c *chart) Drawing() template.HTML { return bars(c.Tallies, 600, 120, 2) }

// sparkline is the same in the height of a line of text.
func sparkline(tallies []postrider.Tally) template.HTML { return bars(tallies, 96, 22, 1) }

// bars draws stacked bars. Sizes are attributes, since a policy that allows no
// styles inside the page allows those.
func bars(tallies []postrider.Tally, width, height, gap int) template.HTML {
	most := int64(1)
	for i := range tallies {
		most = max(most, tallies[i].Attempts())
	}
	each := float64(width) / float64(max(1, len(tallies)))
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="bars" viewBox="0 0 %d %d" width="%d" height="%d" preserveAspectRatio="none" aria-hidden="true">`,
		width, height, width, height)
	rect := func(class string, i int, from, n int64) int64 {
		if n == 0 {
			return from
		}
		tall := max(1.5, float64(n)/float64(most)*float64(height))
		bottom := float64(height) - float64(from)/float64(most)*float64(height)
		fmt.Fprintf(&b, `<rect class="%s" x="%.2f" y="%.2f" width="%.2f" height="%.2f" rx="1"/>`,
			class, float64(i)*each, bottom-tall, max(0.5, each-float64(gap)), tall)
		return from + n
	}
	for i := range tallies {
		t := &tallies[i]
		if t.Attempts() == 0 {
			fmt.Fprintf(&b, `<rect class="none" x="%.2f" y="%d" width="%.2f" height="1"/>`,
				float64(i)*each, height-1, max(0.5, each-float64(gap)))
			continue
		}
		rect("bad", i, rect("ok", i, 0, t.Successes), t.Failures)
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // numbers and fixed words
}
