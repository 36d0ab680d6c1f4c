package api

import (
	"context"
	"time"

	"postrider"
)

// Replays send past deliveries again. They check what they are given.
type Replays interface {
	StartReplay(ctx context.Context, asked postrider.Replay) (postrider.Replay, error)
	Replay(ctx context.Context, tenant string, id postrider.ID) (postrider.Replay, error)
	CancelReplay(ctx context.Context, tenant string, id postrider.ID) (postrider.Replay, error)
}

type newReplay struct {
	From   optional[time.Time] `json:"from" required:"false" doc:"Deliveries of events that were accepted at this time or later (RFC 3339). Absent or null: from the beginning." example:"2026-03-14T00:00:00Z"`
	To     optional[time.Time] `json:"to" required:"false" doc:"Deliveries of events that were accepted before this time. Absent or null: until now."`
	Status optional[string]    `json:"status" required:"false" enum:"failed,succeeded,cancelled,all" doc:"How the delivery has ended. What still waits for a retry has not. Default failed."`
	Events []string            `json:"events" required:"false" maxItems:"100" doc:"Only these event types and patterns. Absent, null or empty: all. Pings are never replayed." example:"[\"room_status.*\"]"`
	DryRun bool                `json:"dry_run" required:"false" doc:"Only counts: total is how many deliveries would be sent."`
	Rate   optional[float64]   `json:"rate" required:"false" minimum:"0.01" maximum:"1000" doc:"How many deliveries are queued in a second. Default 100." example:"50"`
}

type replay struct {
	ID        postrider.ID `json:"id" format:"uuid"`
	WebhookID postrider.ID `json:"webhook_id" format:"uuid"`
	State     string       `json:"state" enum:"collecting,running,done,cancelled" doc:"collecting: the deliveries are looked for. running: they are queued. A dry run is done when they are counted."`
	DryRun    bool         `json:"dry_run" example:"false"`
	From      *instant     `json:"from" nullable:"true"`
	To        instant      `json:"to"`
	Status    string       `json:"status" enum:"failed,succeeded,cancelled,all"`
	Events    []string     `json:"events" nullable:"false" doc:"Empty: all." example:"[\"room_status.*\"]"`
	Rate      float64      `json:"rate" doc:"Deliveries queued in a second." example:"50"`
	Total     int          `json:"total" doc:"How many deliveries there are to send; changes while they are looked for." example:"1250"`
	Queued    int          `json:"queued" doc:"How many of them were queued so far. Their attempts stand in the logs, with the trigger replay." example:"400"`
	Skipped   int          `json:"skipped" doc:"How many were not queued, since they were on their way again by then." example:"0"`
	CreatedAt instant      `json:"created_at"`
	EndedAt   *instant     `json:"ended_at" nullable:"true" doc:"When it was done or cancelled; null before."`
}

type (
	startReplayInput struct {
		WebhookRef
		WithBody[newReplay]
	}
	replayInput struct {
		TenantQuery
		ID string `path:"id" doc:"The replay's id, a UUID."`
	}
	replayOutput struct{ Body replay }
)

// build makes the replay that was asked for. What the replays check is not
// checked here.
func (n *newReplay) build(tenant string, webhook postrider.ID) (postrider.Replay, error) {
	var faults postrider.Faults
	if n.Status.given() && n.Status.Value == "" {
		faults.Add(invalid("status", "invalid_status", `The status is "failed", "succeeded", "cancelled" or "all".`))
	}
	if n.Rate.given() && n.Rate.Value == 0 {
		faults.Add(invalid("rate", "invalid_rate", "The rate is 0.01 to 1,000 deliveries a second."))
	}
	return postrider.Replay{
		Tenant: tenant, WebhookID: webhook, From: n.From.Value.UTC(), To: n.To.Value.UTC(),
		Status: postrider.ReplayStatus(n.Status.Value), Events: n.Events, DryRun: n.DryRun, Rate: n.Rate.Value,
	}, faults.Err()
}

func showReplay(r *postrider.Replay) *replayOutput {
	return &replayOutput{replay{
		ID: r.ID, WebhookID: r.WebhookID, State: string(r.State), DryRun: r.DryRun, From: instantOrNull(r.From), To: instant(r.To),
		Status: string(r.Status), Events: append([]string{}, r.Events...), Rate: r.Rate, Total: r.Total, Queued: r.Queued,
		Skipped: r.Skipped, CreatedAt: instant(r.CreatedAt), EndedAt: instantOrNull(r.EndedAt),
	}}
}

func (a *API) startReplay(ctx context.Context, c *call, in *startReplayInput) (*replayOutput, error) {
	tenant, id, err := a.target(c, &in.WebhookRef)
	if err != nil {
		return nil, err
	}
	asked, err := in.Body.Value.build(tenant, id)
	if err != nil {
		return nil, err
	}
	started, err := a.Replays.StartReplay(ctx, asked)
	return showReplay(&started), err
}

func (a *API) getReplay(ctx context.Context, c *call, in *replayInput) (*replayOutput, error) {
	return a.withReplay(ctx, c, in, a.Replays.Replay)
}

func (a *API) cancelReplay(ctx context.Context, c *call, in *replayInput) (*replayOutput, error) {
	return a.withReplay(ctx, c, in, a.Replays.CancelReplay)
}

func (a *API) withReplay(
	ctx context.Context, c *call, in *replayInput, do func(context.Context, string, postrider.ID) (postrider.Replay, error),
) (*replayOutput, error) {
	tenant, err := a.tenant(c, in.Tenant)
	if err != nil {
		return nil, err
	}
	id, err := pathID("replay", in.ID)
	if err != nil {
		return nil, err
	}
	found, err := do(ctx, tenant, id)
	return showReplay(&found), err
}
