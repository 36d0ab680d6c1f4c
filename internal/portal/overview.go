package portal

import (
	"context"
	"slices"
	"time"

	"postrider"
)

type overviewPage struct {
	Chart    *chart
	Failing  []hookRow
	Webhooks int
	More     bool // there are more webhooks than were looked at
	Oldest   time.Time
	Late     bool // the oldest due delivery waits for longer than it should
	Recent   []logRow
}

const (
	// lookedAt bounds how many webhooks the overview asks about, one indexed
	// look each.
	lookedAt = 300
	// lateAfter is when a due delivery should long have been sent.
	lateAfter = time.Minute
	recent    = 8
)

func (p *Portal) overview(v *visit) (err error) {
	ctx := v.r.Context()
	var data overviewPage
	if data.Chart, err = p.chart(ctx, v.tenant, postrider.ID{}, v.r.FormValue("span")); err != nil {
		return err
	}
	webhooks, more := p.o.Webhooks.Webhooks(v.tenant, postrider.ID{}, lookedAt)
	data.Webhooks, data.More = len(webhooks), more
	if data.Failing, data.Oldest, err = p.troubles(ctx, v.tenant, webhooks); err != nil {
		return err
	}
	data.Late = !data.Oldest.IsZero() && time.Since(data.Oldest) > lateAfter
	page, err := p.o.History.Attempts(ctx, postrider.AttemptFilter{Tenant: v.tenant, Limit: recent})
	if err != nil {
		return err
	}
	data.Recent = p.logRows(v, page.Attempts)
	return p.show(v, "overview", "Overview", data)
}

// troubles are the webhooks that do not send or whose last attempt failed, and
// since when the oldest delivery of those that send has been due.
func (p *Portal) troubles(
	ctx context.Context, tenant string, webhooks []postrider.Webhook,
) (failing []hookRow, oldest time.Time, err error) {
	ids, sending := make([]postrider.ID, len(webhooks)), []postrider.ID(nil)
	for i := range webhooks {
		ids[i] = webhooks[i].ID
		if webhooks[i].Sending() {
			sending = append(sending, ids[i])
		}
	}
	last, err := p.o.History.LastAttempts(ctx, tenant, ids)
	if err != nil {
		return nil, oldest, err
	}
	for i := range webhooks {
		row := hookRow{Webhook: webhooks[i]}
		if a, found := last[webhooks[i].ID]; found {
			row.Last = &a
		}
		if row.Webhook.Disabled != nil || row.Webhook.Active && row.Last != nil && row.Last.Status == postrider.AttemptFailure {
			failing = append(failing, row)
		}
	}
	oldest, err = p.o.Counters.OldestDue(ctx, sending)
	return failing, oldest, err
}

// hookRow is a webhook in a list.
type hookRow struct {
	Webhook postrider.Webhook
	Last    *postrider.Attempt // nil before the first
	Day     []postrider.Tally  // the last 24 hours, by the hour
	Sum     postrider.Tally    // of Day
	Base    string             // of its tenant's pages
}

// Spark is the last day as a picture.
func (h hookRow) Spark() any { return sparkline(h.Day) }

// Rate is the share of the last day's attempts that succeeded.
func (h hookRow) Rate() string { return percent(h.Sum.Successes, h.Sum.Attempts()) }

// State is a word about how it does, and how to colour it.
func (h hookRow) State() state { return stateOf(&h.Webhook, h.Last) }

// A state is a word with a colour: ok, bad, warn or off.
type state struct{ Tone, Word string }

func stateOf(w *postrider.Webhook, last *postrider.Attempt) state {
	switch {
	case w.Disabled != nil:
		return state{"bad", "Disabled"}
	case !w.Active:
		return state{"off", "Paused"}
	case !w.Sending():
		return state{"off", "Held by the operator"}
	case last == nil:
		return state{"off", "Nothing sent yet"}
	case last.Status == postrider.AttemptFailure:
		return state{"bad", "Failing"}
	}
	return state{"ok", "Healthy"}
}

// hookRows adds to webhooks what their rows show.
func (p *Portal) hookRows(ctx context.Context, tenant string, webhooks []postrider.Webhook) ([]hookRow, error) {
	ids := make([]postrider.ID, len(webhooks))
	for i := range webhooks {
		ids[i] = webhooks[i].ID
	}
	last, err := p.o.History.LastAttempts(ctx, tenant, ids)
	if err != nil {
		return nil, err
	}
	day := span{Step: time.Hour, Steps: 24}.query(time.Now())
	rows := make([]hookRow, len(webhooks))
	for i := range webhooks {
		row := &rows[i]
		row.Webhook, row.Base = webhooks[i], tenantBase(tenant)
		if a, found := last[row.Webhook.ID]; found {
			row.Last = &a
		}
		day.Tenant, day.WebhookID = tenant, row.Webhook.ID
		if row.Day, err = p.o.Counters.Tallies(ctx, day); err != nil {
			return nil, err
		}
		for n := range row.Day {
			row.Sum.Add(&row.Day[n])
		}
	}
	return slices.Clip(rows), nil
}
