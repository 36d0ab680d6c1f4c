package cli

import (
	"bytes"
	"context"
	"fmt"
)

type matchEvent struct {
	remote

	Event   string `arg:"" help:"The event type."`
	File    string `arg:"" optional:"" help:"File with a payload, JSON; - is the standard input. Without one the payload is null."`
	Payload string `placeholder:"JSON" help:"The payload itself, in place of a file."`
	Tenant  string `placeholder:"TENANT" help:"Whose webhooks are looked at; * is every tenant. Without it, the tenant named default."`
}

// Help are the examples of events match --help.
func (*matchEvent) Help() string {
	return `Examples:

    postrider events match room_status.updated
    postrider events match room_status.updated payload.json --tenant '*' --json

It takes the operator's key, and publishes nothing.`
}

// Run tells which webhooks would get it.
func (m *matchEvent) Run(ctx context.Context, p *process) error {
	if m.Payload != "" && m.File != "" {
		return misuse("--payload", "is given beside a file", "give one of the two")
	}
	source, payload := "--payload", []byte(m.Payload)
	if m.File != "" {
		var err error
		source = "<file>"
		if payload, err = p.readBody(m.File); err != nil {
			return err
		}
	}
	fields := map[string]string{"event": m.Event}
	if m.Tenant != "" {
		fields["tenant"] = m.Tenant
	}
	body := encoded(fields)
	if m.Payload != "" || m.File != "" {
		if err := checkJSON(source, payload); err != nil {
			return err
		}
		body = withPayload(body, payload)
	}
	c, err := m.connect()
	if err != nil {
		return err
	}
	var found struct {
		Data []struct {
			WebhookID string  `json:"webhook_id"`
			Tenant    string  `json:"tenant"`
			URL       string  `json:"url"`
			Delivery  string  `json:"delivery"`
			MatchedBy *string `json:"matched_by"`
			Reason    *string `json:"reason"`
		} `json:"data"`
		Deliveries int  `json:"deliveries"`
		Truncated  bool `json:"truncated"`
	}
	text, err := c.ask(ctx, &found, request{method: "POST", path: "/v0/events/match", body: body})
	if err != nil {
		return err
	}
	if m.JSON {
		p.show(&m.remote, text, nil)
		return nil
	}
	var rows [][]cell
	for _, w := range found.Data {
		style := map[string]string{"sent": good, "held": warning}[w.Delivery]
		rows = append(rows, []cell{
			{text: w.WebhookID}, {text: w.Tenant}, {w.Delivery, style}, {text: or(w.MatchedBy, "-")}, {text: or(w.Reason, "-")}, {text: w.URL},
		})
	}
	p.screen().table([]string{"WEBHOOK", "TENANT", "DELIVERY", "MATCHED BY", "REASON", "URL"}, rows)
	p.say("%s would get it", counted(found.Deliveries, "webhook"))
	if found.Truncated {
		p.say("there are more webhooks than are shown")
	}
	return nil
}

// withPayload adds a payload to an object, as the bytes that it is.
func withPayload(object, payload []byte) []byte {
	body := bytes.TrimSuffix(object, []byte("}\n"))
	return append(append(append(body, `,"payload":`...), payload...), '}')
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
