package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

type eventsCommands struct {
	List    listEvents   `cmd:"" help:"List the catalogue: the event types that can be subscribed to."`
	Get     getEvent     `cmd:"" help:"Show a published event and where its deliveries stand."`
	Publish publishEvent `cmd:"" help:"Publish an event."`
	Batch   publishBatch `cmd:"" help:"Publish up to 1,000 events at once: all are accepted, or none."`
	Match   matchEvent   `cmd:"" help:"Tell which webhooks would get an event, and why others would not."`
}

// An eventType is an entry of the catalogue.
type eventType struct {
	Event       string          `json:"event"`
	Description string          `json:"description"`
	Example     json.RawMessage `json:"example"`
	Deprecated  bool            `json:"deprecated"`
}

type listEvents struct {
	remote
	pages
}

// Help are the examples of events list --help.
func (*listEvents) Help() string {
	return `Examples:

    postrider events list
    postrider events list --all --json | jq -r .event`
}

// Run lists.
func (l *listEvents) Run(ctx context.Context, p *process) error {
	return showList(ctx, p, &l.remote, l.pages, "/v0/api_webhooks/events", url.Values{},
		[]string{"EVENT", "EXAMPLE", "DESCRIPTION"}, func(e eventType) []cell {
			description := cell{text: e.Description}
			if e.Deprecated {
				description = cell{"(deprecated) " + e.Description, faint}
			}
			return []cell{{text: e.Event}, {text: yes(hasValue(e.Example))}, description}
		}, "the catalogue is empty", "a server started with --dev has an example")
}

// hasValue reports whether a value was given; null is none.
func hasValue(text json.RawMessage) bool { return len(text) > 0 && !bytes.Equal(text, []byte("null")) }

// A receipt is what the server says of an event that it took.
type receipt struct {
	ID         string `json:"id"`
	Deliveries int    `json:"deliveries"`
}

// envelope are the flags of what is published.
type envelope struct {
	Tenant         string `placeholder:"TENANT" help:"Whose webhooks get it; * is every tenant. Without it, the tenant named default."`
	ID             string `name:"id" placeholder:"ID" help:"The event's id; one is made without it."`
	IdempotencyKey string `placeholder:"KEY" help:"Makes a command that is given twice count once, for 24 hours."`
}

func (e *envelope) header() http.Header {
	header := http.Header{}
	if e.IdempotencyKey != "" {
		header.Set("Idempotency-Key", e.IdempotencyKey)
	}
	return header
}

// publish sends an event. The payload goes out as the bytes that it is: they
// are what receivers get.
func (r *remote) publish(ctx context.Context, p *process, c *client, e *envelope, event, occurredAt string, payload []byte) error {
	fields := map[string]string{"event": event}
	for name, value := range map[string]string{"tenant": e.Tenant, "id": e.ID, "occurred_at": occurredAt} {
		if value != "" {
			fields[name] = value
		}
	}
	body := withPayload(encoded(fields), payload)
	var done receipt
	text, err := c.ask(ctx, &done, request{method: "POST", path: "/v0/events", body: body, header: e.header()})
	if err != nil {
		return err
	}
	s := new(sheet)
	s.add("id", done.ID)
	s.add("deliveries", fmt.Sprint(done.Deliveries))
	p.show(r, text, s)
	if done.Deliveries == 0 && !r.JSON {
		p.say("no webhook subscribes to %s", plain(event))
	}
	return nil
}

type publishEvent struct {
	remote
	envelope

	Event      string `arg:"" help:"The event type."`
	File       string `arg:"" optional:"" help:"File with the payload, JSON; - is the standard input, which is also read without a file."`
	Payload    string `placeholder:"JSON" help:"The payload itself, in place of a file."`
	OccurredAt string `placeholder:"TIME" help:"When it happened: 2026-03-14T15:00:00Z, or 2h for two hours ago."`
}

// Help are the examples of events publish --help.
func (*publishEvent) Help() string {
	return `Examples:

    postrider events publish room_status.updated --payload '{"room":12,"status":"clean"}'
    postrider events publish room_status.updated payload.json --tenant acme --id evt_2048
    jq -c .room data.json | postrider events publish room_status.updated

It takes the operator's key. Receivers get the payload byte by byte as it is here.`
}

// Run publishes.
func (e *publishEvent) Run(ctx context.Context, p *process) error {
	if e.Payload != "" && e.File != "" {
		return misuse("--payload", "is given beside a file", "give one of the two")
	}
	c, err := e.connect()
	if err != nil {
		return err
	}
	occurredAt := ""
	if e.OccurredAt != "" {
		t, err := moment("--occurred-at", e.OccurredAt, time.Now())
		if err != nil {
			return err
		}
		occurredAt = t.UTC().Format(time.RFC3339Nano)
	}
	source, payload := "--payload", []byte(e.Payload)
	if e.Payload == "" {
		source = "<file>"
		if payload, err = p.readBody(e.File); err != nil {
			return err
		}
	}
	if err := checkJSON(source, payload); err != nil {
		return err
	}
	return e.publish(ctx, p, c, &e.envelope, e.Event, occurredAt, payload)
}

type publishBatch struct {
	remote

	File           string `arg:"" optional:"" help:"File with the events: a JSON array, or an event on each line; - is the standard input, which is also read without a file."`
	IdempotencyKey string `placeholder:"KEY" help:"Makes a command that is given twice count once, for 24 hours."`
}

// Help are the examples of events batch --help.
func (*publishBatch) Help() string {
	return `Examples:

    postrider events batch events.ndjson
    generate-events | postrider events batch --json

An event is {"event": "room_status.updated", "payload": …}, and may have tenant, id and occurred_at.`
}

// Run publishes.
func (b *publishBatch) Run(ctx context.Context, p *process) error {
	body, err := p.readBody(b.File)
	if err != nil {
		return err
	}
	start := bytes.TrimLeft(body, " \t\r\n")
	if len(start) == 0 {
		return misuse("<file>", "is empty; a batch holds at least one event", "")
	}
	header := (&envelope{IdempotencyKey: b.IdempotencyKey}).header()
	if start[0] != '[' {
		header.Set("Content-Type", "application/x-ndjson")
	}
	return showReceipts(ctx, p, &b.remote, request{method: "POST", path: "/v0/events/batch", body: body, header: header},
		[]string{"ID", "DELIVERIES"}, func(one receipt) []cell { return []cell{{text: one.ID}, {text: fmt.Sprint(one.Deliveries)}} },
		"no event was published")
}

type getEvent struct {
	remote
	scoped

	ID string `arg:"" help:"The event's id."`
}

// Help are the examples of events get --help.
func (*getEvent) Help() string {
	return `Example:

    postrider events get evt_2048 --tenant acme`
}

// Run shows it.
func (g *getEvent) Run(ctx context.Context, p *process) error {
	c, err := g.connect()
	if err != nil {
		return err
	}
	var e struct {
		ID         string          `json:"id"`
		Event      string          `json:"event"`
		Tenant     string          `json:"tenant"`
		OccurredAt *time.Time      `json:"occurred_at"`
		CreatedAt  time.Time       `json:"created_at"`
		Payload    json.RawMessage `json:"payload"`
		Deliveries []struct {
			WebhookID     string       `json:"webhook_id"`
			State         string       `json:"state"`
			Attempts      int          `json:"attempts"`
			NextAttemptAt *time.Time   `json:"next_attempt_at"`
			LastAttempt   *lastAttempt `json:"last_attempt"`
		} `json:"deliveries"`
	}
	text, err := c.get(ctx, &e, "/v0/events/"+url.PathEscape(g.ID), g.add(url.Values{}))
	if err != nil {
		return err
	}
	s := new(sheet)
	s.add("id", e.ID)
	s.add("event", e.Event)
	s.add("tenant", e.Tenant)
	if e.OccurredAt != nil {
		s.add("occurred", when(e.OccurredAt))
	}
	s.add("accepted", when(&e.CreatedAt))
	s.add("payload", string(e.Payload))
	p.show(&g.remote, text, s)
	if g.JSON || len(e.Deliveries) == 0 {
		return nil
	}
	rows := make([][]cell, len(e.Deliveries))
	for i, d := range e.Deliveries {
		rows[i] = []cell{
			{text: d.WebhookID},
			{d.State, styleOf(d.State)},
			{text: fmt.Sprint(d.Attempts)},
			d.LastAttempt.outcome(),
			{text: when(d.NextAttemptAt)},
		}
	}
	fmt.Fprintln(p.stdout)
	p.screen().table([]string{"WEBHOOK", "STATE", "ATTEMPTS", "LAST ATTEMPT", "NEXT ATTEMPT"}, rows)
	return nil
}

type trigger struct {
	remote
	envelope

	Event string `arg:"" help:"The event type, as in events list."`
}

// Help are the examples of trigger --help.
func (*trigger) Help() string {
	return `It publishes the example that the catalogue has for an event type, to see what a receiver makes of it.

Examples:

    postrider trigger room_status.updated
    postrider trigger room_status.updated --tenant acme`
}

// Run publishes the example.
func (t *trigger) Run(ctx context.Context, p *process) error {
	c, err := t.connect()
	if err != nil {
		return err
	}
	var known eventType
	_, err = c.get(ctx, &known, "/v0/api_webhooks/events/"+url.PathEscape(t.Event), nil)
	if refusal, ok := errors.AsType[*problem](err); ok && refusal.Code == "not_found" {
		return &advised{"the catalogue has no event type " + plain(t.Event), "postrider events list shows those that it has"}
	}
	if err != nil {
		return err
	}
	if !hasValue(known.Example) {
		return &advised{
			"the catalogue has no example of " + plain(t.Event),
			"publish a payload of your own: postrider events publish " + plain(t.Event) + " --payload '{…}'",
		}
	}
	return t.publish(ctx, p, c, &t.envelope, t.Event, "", known.Example)
}
