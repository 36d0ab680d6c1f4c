// Package publish accepts events: it checks them, matches them with the
// webhooks that subscribe, and has the store commit each event with its
// deliveries in one transaction. What it has accepted is on disk.
//
// It must not know HTTP, SQL or how deliveries are sent. The api calls it, and
// it hands what was committed to the lanes.
package publish

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"
	"unicode/utf8"

	"postrider"
)

// Webhooks are where events go.
type Webhooks interface {
	ActiveWebhooks(tenant string) []*postrider.Webhook
	Webhook(tenant string, id postrider.ID) (postrider.Webhook, error)
	Matches
	Checks
}

// Matches find the webhooks that events go to.
type Matches interface {
	Match(tenant, eventType string) []*postrider.Webhook
	MatchAll(eventType string) map[string][]*postrider.Webhook
	TryMatch(tenant, eventType string, limit int) postrider.Trial
}

// Checks judge the names in a publication.
type Checks interface {
	CheckTenant(field, name string) error
	CheckCatalogued(field, eventType string) error
}

// A Store commits events.
type Store interface {
	Accept(context.Context, []postrider.Accepted, *postrider.IdempotencyKey) ([]postrider.Receipt, error)
	Redeliver(ctx context.Context, tenant string, attempt, to postrider.ID) (postrider.Redelivery, error)
	Expand(ctx context.Context, tenant, event string, deliveries []postrider.Delivery, done bool) error
	Fanouts(context.Context) ([]postrider.Fanout, error)
}

// Lanes send what was committed.
type Lanes interface {
	// Admit marks as claimed those deliveries that their lanes have room for,
	// and keeps the room until Committed or Abandoned is called.
	Admit([]postrider.Delivery)
	Committed([]postrider.Delivery)
	Abandoned([]postrider.Delivery)
	// Wake makes a webhook's lane look for work in the store.
	Wake(webhook postrider.ID)
}

// Options are a Publisher's settings.
type Options struct {
	Webhooks Webhooks
	Store    Store
	Lanes    Lanes
	// Shared is set when other nodes write to the store, too.
	Shared bool
	// PayloadLimit is the largest payload, in bytes.
	PayloadLimit int64
	// StrictCatalogue refuses event types that the catalogue lacks.
	StrictCatalogue bool
	Logger          *slog.Logger // nil: nowhere
}

// A Publisher may be used concurrently.
type Publisher struct {
	o       Options
	fanouts fanouts
}

// New makes a Publisher. It starts nothing.
func New(o Options) *Publisher {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Publisher{o: o, fanouts: fanouts{wake: make(chan struct{}, 1)}}
}

// Publish accepts events, all or none: when it returns without an error, every
// event and one delivery for each matching webhook are on disk. The receipts
// are in the order of the publications.
func (p *Publisher) Publish(
	ctx context.Context, publications []postrider.Publication, key *postrider.IdempotencyKey,
) ([]postrider.Receipt, error) {
	if err := p.check(publications); err != nil {
		return nil, err
	}
	accepted := make([]postrider.Accepted, 0, len(publications))
	now := time.Now().UTC()
	for i := range publications {
		accepted = p.match(accepted, i, &publications[i], now)
	}
	return p.commit(ctx, accepted, key)
}

// match appends a publication's event, once for each tenant that it goes to.
func (p *Publisher) match(
	accepted []postrider.Accepted, index int, publication *postrider.Publication, now time.Time,
) []postrider.Accepted {
	event := postrider.Event{
		ID: publication.ID, Tenant: publication.Tenant, Type: publication.Event, Payload: publication.Payload,
		OccurredAt: publication.OccurredAt, CreatedAt: now,
	}
	if event.ID == "" {
		event.ID = postrider.NewID().String()
	}
	add := func(tenant string, webhooks []*postrider.Webhook) {
		event.Tenant = tenant
		a := newAccepted(event, webhooks[:min(len(webhooks), fanoutPart)], postrider.TriggerEvent)
		a.Publication, a.ChosenID = index, publication.ID != ""
		a.Fanout, a.Event.Deliveries = len(webhooks) > fanoutPart, len(webhooks)
		accepted = append(accepted, a)
	}
	switch event.Tenant {
	case postrider.EveryTenant:
		all := p.o.Webhooks.MatchAll(event.Type)
		for tenant, webhooks := range all {
			add(tenant, webhooks)
		}
		if len(all) == 0 { // it is kept all the same, to be seen
			add(postrider.DefaultTenant, nil)
		}
	case "":
		add(postrider.DefaultTenant, p.o.Webhooks.Match(postrider.DefaultTenant, event.Type))
	default:
		add(event.Tenant, p.o.Webhooks.Match(event.Tenant, event.Type))
	}
	return accepted
}

func newAccepted(event postrider.Event, webhooks []*postrider.Webhook, trigger postrider.Trigger) postrider.Accepted {
	event.Deliveries = len(webhooks)
	return postrider.Accepted{Event: event, Deliveries: deliveriesOf(&event, webhooks, trigger)}
}

func deliveriesOf(event *postrider.Event, webhooks []*postrider.Webhook, trigger postrider.Trigger) []postrider.Delivery {
	deliveries := make([]postrider.Delivery, len(webhooks))
	for i, w := range webhooks {
		deliveries[i] = postrider.Delivery{
			DeliveryKey: postrider.DeliveryKey{Tenant: event.Tenant, EventID: event.ID, WebhookID: w.ID},
			EventType:   event.Type, Payload: event.Payload, Trigger: trigger, AcceptedAt: event.CreatedAt,
		}
	}
	return deliveries
}

// commit has the deliveries that fit into their lanes committed as claimed, so
// that they are sent from memory without being read back.
func (p *Publisher) commit(
	ctx context.Context, accepted []postrider.Accepted, key *postrider.IdempotencyKey,
) ([]postrider.Receipt, error) {
	p.o.Lanes.Admit(joined(accepted))
	receipts, err := p.o.Store.Accept(ctx, accepted, key)
	for i := range accepted {
		if err != nil || accepted[i].Repeated {
			p.o.Lanes.Abandoned(accepted[i].Deliveries)
		} else {
			p.o.Lanes.Committed(accepted[i].Deliveries)
			if accepted[i].Fanout {
				p.fanouts.add(postrider.Fanout{Event: accepted[i].Event, After: lastWebhook(accepted[i].Deliveries)})
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("commit events: %w", err)
	}
	return receipts, nil
}

// joined is the deliveries of all events of a request as one list, of which
// each event's are from here on a part.
func joined(accepted []postrider.Accepted) []postrider.Delivery {
	if len(accepted) == 1 {
		return accepted[0].Deliveries
	}
	var all []postrider.Delivery
	for i := range accepted {
		all = append(all, accepted[i].Deliveries...)
	}
	rest := all
	for i := range accepted {
		n := len(accepted[i].Deliveries)
		accepted[i].Deliveries, rest = rest[:n:n], rest[n:]
	}
	return all
}

// TryMatch tells where an event would go, or why it would be refused, and
// publishes nothing. The payload may be left out.
func (p *Publisher) TryMatch(publication postrider.Publication, limit int) (postrider.Trial, error) {
	if publication.Payload == nil {
		publication.Payload = []byte("null")
	}
	if err := p.check([]postrider.Publication{publication}); err != nil {
		return postrider.Trial{}, err
	}
	return p.o.Webhooks.TryMatch(cmp.Or(publication.Tenant, postrider.DefaultTenant), publication.Event, limit), nil
}

// Redeliver sends the delivery of an attempt again, to the webhook as it is
// now, or to the one of the same tenant that to names.
func (p *Publisher) Redeliver(ctx context.Context, tenant string, attempt, to postrider.ID) (postrider.Redelivery, error) {
	again, err := p.o.Store.Redeliver(ctx, tenant, attempt, to)
	if err != nil {
		return again, fmt.Errorf("redeliver: %w", err)
	}
	p.o.Lanes.Wake(again.WebhookID)
	return again, nil
}

// check reports every fault of the publications.
func (p *Publisher) check(publications []postrider.Publication) error {
	var faults postrider.Faults
	ids := map[[2]string]bool{}
	for i := range publications {
		publication := &publications[i]
		field := func(name string) string {
			if len(publications) == 1 {
				return name
			}
			return fmt.Sprintf("[%d].%s", i, name)
		}
		p.checkOne(&faults, field, publication)
		if id := [2]string{publication.Tenant, publication.ID}; id[1] != "" && len(publications) > 1 {
			if ids[id] {
				faults.Add(&postrider.Error{
					Kind: postrider.Invalid, Code: "duplicate_id", Field: field("id"),
					Detail: "Another event of this batch has the same id.",
				})
			}
			ids[id] = true
		}
	}
	return faults.Err()
}

func (p *Publisher) checkOne(faults *postrider.Faults, field func(string) string, publication *postrider.Publication) {
	if err := postrider.CheckPublished("event", publication.Event); err != nil {
		faults.Add(postrider.CheckPublished(field("event"), publication.Event))
	} else if p.o.StrictCatalogue {
		faults.Add(p.o.Webhooks.CheckCatalogued(field("event"), publication.Event))
	}
	if publication.ID != "" {
		faults.Add(postrider.CheckEventID(field("id"), publication.ID))
	}
	if t := publication.Tenant; t != "" && t != postrider.EveryTenant {
		faults.Add(p.o.Webhooks.CheckTenant(field("tenant"), t))
	}
	faults.Add(p.checkPayload(field("payload"), publication.Payload, publication.Valid))
}

// checkPayload refuses what is not JSON in UTF-8. json.Valid alone accepts
// bytes that are not UTF-8, over which receivers that decode the body before
// they hash it would compute another signature.
func (p *Publisher) checkPayload(field string, payload []byte, known bool) error {
	if int64(len(payload)) > p.o.PayloadLimit {
		return &postrider.Error{
			Kind: postrider.TooLarge, Code: "payload_too_large", Field: field,
			Detail: fmt.Sprintf("The payload is %d bytes; at most %d are accepted.", len(payload), p.o.PayloadLimit),
		}
	}
	if !known && (!utf8.Valid(payload) || !json.Valid(payload)) {
		return &postrider.Error{
			Kind: postrider.Invalid, Code: "invalid_payload", Field: field,
			Detail: "The payload is any JSON value, in UTF-8.",
		}
	}
	return nil
}
