package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"postrider/internal/progress"
)

type replaysCommands struct {
	Start  startReplay  `cmd:"" help:"Send past deliveries of a webhook again, or count them."`
	Get    getReplay    `cmd:"" help:"Show how far a replay is."`
	Cancel cancelReplay `cmd:"" help:"Stop a replay. What it has queued is sent."`
}

// A replay is what is shown of one.
type replay struct {
	ID        string     `json:"id"`
	WebhookID string     `json:"webhook_id"`
	State     string     `json:"state"`
	DryRun    bool       `json:"dry_run"`
	From      *time.Time `json:"from"`
	To        time.Time  `json:"to"`
	Status    string     `json:"status"`
	Events    []string   `json:"events"`
	Rate      float64    `json:"rate"`
	Total     int        `json:"total"`
	Queued    int        `json:"queued"`
	Skipped   int        `json:"skipped"`
}

func (r *replay) ended() bool { return r.State == "done" || r.State == "cancelled" }

func (r *replay) sheet() *sheet {
	s := new(sheet)
	s.add("id", r.ID)
	s.add("webhook", r.WebhookID)
	s.styled("state", r.State, map[string]string{"done": good, "cancelled": warning}[r.State])
	if r.DryRun {
		s.add("dry run", "yes: nothing is sent")
	}
	if r.From != nil {
		s.add("accepted from", when(r.From))
	}
	s.add("accepted before", when(&r.To))
	s.add("that", map[string]string{"failed": "failed", "succeeded": "succeeded", "cancelled": "were cancelled", "all": "have ended"}[r.Status])
	s.add("events", strings.Join(r.Events, ", "))
	s.add("rate", fmt.Sprintf("%v a second", r.Rate))
	s.add("deliveries", fmt.Sprint(r.Total))
	s.add("queued", fmt.Sprint(r.Queued))
	if r.Skipped > 0 {
		s.add("skipped", fmt.Sprintf("%d that were on their way already", r.Skipped))
	}
	return s
}

func replayPath(id string) string { return "/v0/replays/" + url.PathEscape(id) }

type startReplay struct {
	remote
	scoped

	Webhook string   `arg:"" name:"webhook-id" help:"The webhook's id."`
	From    string   `placeholder:"TIME" help:"Deliveries of events accepted since then: 2026-03-14T15:00:00Z, or 2h for two hours ago; without it, from the beginning."`
	To      string   `placeholder:"TIME" help:"Deliveries of events accepted before then; without it, until now."`
	Status  string   `placeholder:"STATUS" complete:"failed,succeeded,cancelled,all" help:"How the delivery has ended: failed (the default), succeeded, cancelled or all."`
	Events  []string `placeholder:"EVENT" help:"Only these event types and patterns."`
	Rate    *float64 `placeholder:"N" help:"Deliveries queued in a second, 0.01 to 1000; 100 without it."`
	DryRun  bool     `help:"Only count."`
	Detach  bool     `help:"Do not wait for the end."`
}

// Help are the examples of replays start --help.
func (*startReplay) Help() string {
	return `Examples:

    postrider replays start 0195b3f4-8c1e-7a52-9d3b-6f2a41c0e7d8 --from 24h --dry-run
    postrider replays start 0195b3f4-8c1e-7a52-9d3b-6f2a41c0e7d8 --from 24h --rate 20

It waits until all are queued, and shows how far it is. Ctrl-C ends the waiting and not the replay. How the deliveries
end stands in postrider logs list.`
}

// Run starts it.
func (s *startReplay) Run(ctx context.Context, p *process) error {
	body := map[string]any{}
	for name, text := range map[string]string{"from": s.From, "to": s.To} {
		if text == "" {
			continue
		}
		t, err := moment("--"+name, text, time.Now())
		if err != nil {
			return err
		}
		body[name] = t.UTC().Format(time.RFC3339Nano)
	}
	if s.Status != "" {
		body["status"] = s.Status
	}
	if s.Events != nil {
		body["events"] = s.Events
	}
	if s.Rate != nil {
		body["rate"] = *s.Rate
	}
	if s.DryRun {
		body["dry_run"] = true
	}
	c, err := s.connect()
	if err != nil {
		return err
	}
	var r replay
	text, err := c.ask(ctx, &r, request{
		method: "POST", path: webhookPath(s.Webhook) + "/replay", query: s.add(url.Values{}), body: encoded(body),
	})
	if err != nil {
		return err
	}
	if !s.Detach {
		if text, err = s.wait(ctx, p, c, &r, text); err != nil {
			return err
		}
	}
	p.show(&s.remote, text, r.sheet())
	if !r.ended() {
		p.say("it goes on: postrider replays get %s shows how far it is", r.ID)
	}
	return nil
}

// Between two looks at a replay.
const (
	firstLook   = 100 * time.Millisecond
	longestLook = time.Second
)

// wait looks until the replay has ended, or nobody wants to wait any more.
func (s *startReplay) wait(ctx context.Context, p *process, c *client, r *replay, text json.RawMessage) (json.RawMessage, error) {
	bar := progress.Start(p.stderr, isTerminal(p.stderr), "replay")
	defer bar.Clear()
	for look := firstLook; !r.ended(); look = min(2*look, longestLook) {
		r.counted(bar)
		select {
		case <-ctx.Done():
			return text, nil
		case <-time.After(look):
		}
		latest, err := c.get(ctx, r, replayPath(r.ID), s.add(url.Values{}))
		switch {
		case ctx.Err() != nil:
			return text, nil
		case err != nil:
			return nil, err
		}
		text = latest
	}
	return text, nil
}

// counted shows what of the replay's deliveries was looked for or queued.
func (r *replay) counted(bar *progress.Bar) {
	if r.State != "running" || r.Total == 0 {
		bar.Say("looking for deliveries, " + progress.Number(float64(r.Total)) + " found")
		return
	}
	done, total := int64(r.Queued+r.Skipped), int64(r.Total)
	bar.Count("deliveries queued", func() (int64, int64) { return done, total })
}

type getReplay struct {
	remote
	scoped

	ID string `arg:"" help:"The replay's id."`
}

// Help are the examples of replays get --help.
func (*getReplay) Help() string {
	return `Example:

    postrider replays get 0195b3f4-8c1e-7a52-9d3b-6f2a41c0e7d8`
}

// Run shows it.
func (g *getReplay) Run(ctx context.Context, p *process) error {
	return g.showReplay(ctx, p, request{path: replayPath(g.ID), query: g.add(url.Values{})})
}

type cancelReplay struct {
	remote
	scoped

	ID string `arg:"" help:"The replay's id."`
}

// Help are the examples of replays cancel --help.
func (*cancelReplay) Help() string {
	return `Example:

    postrider replays cancel 0195b3f4-8c1e-7a52-9d3b-6f2a41c0e7d8`
}

// Run stops it.
func (c *cancelReplay) Run(ctx context.Context, p *process) error {
	return c.showReplay(ctx, p, request{method: "DELETE", path: replayPath(c.ID), query: c.add(url.Values{})})
}

func (r *remote) showReplay(ctx context.Context, p *process, asked request) error {
	c, err := r.connect()
	if err != nil {
		return err
	}
	var shown replay
	text, err := c.ask(ctx, &shown, asked)
	if err != nil {
		return err
	}
	p.show(r, text, shown.sheet())
	return nil
}
