package portal

import (
	"time"

	"postrider"
)

type eventPage struct {
	Event      postrider.Event
	Payload    body
	Deliveries []deliveryRow
	Attempts   []logRow
	More       bool
}

// A deliveryRow is where one delivery of an event stands.
type deliveryRow struct {
	Status postrider.DeliveryStatus
	Hook   string
	Known  bool // the webhook exists
	Now    time.Time
}

// State is the delivery's state in a word with a colour.
func (d deliveryRow) State() state {
	switch d.Status.State {
	case postrider.DeliverySucceeded:
		return state{"ok", "Succeeded"}
	case postrider.DeliveryFailed:
		return state{"bad", "Failed"}
	case postrider.DeliveryCancelled:
		return state{"off", "Cancelled"}
	case postrider.DeliveryHeld:
		return state{"off", "Held"}
	case postrider.DeliveryPending:
	}
	if d.Status.Attempts > 0 {
		return state{"warn", "Will be tried again"}
	}
	return state{"warn", "Being sent"}
}

// shownDeliveries bounds the rows of an event that went to very many webhooks.
const shownDeliveries = 200

func (p *Portal) showEvent(v *visit) error {
	id := v.r.PathValue("id")
	if postrider.CheckEventID("id", id) != nil {
		return postrider.Missing("event")
	}
	// The attempts are read first: one that comes in between is then missing in
	// the list, from where the live tail goes on, and brings the state with it.
	found, err := p.o.History.Attempts(v.r.Context(), postrider.AttemptFilter{Tenant: v.tenant, EventID: id, Limit: 50})
	if err != nil {
		return err
	}
	event, deliveries, err := p.o.History.Event(v.r.Context(), v.tenant, id)
	if err != nil {
		return err
	}
	data := eventPage{Event: event, Payload: newBody(event.Payload, "", false), More: len(deliveries) > shownDeliveries}
	for _, status := range deliveries[:min(len(deliveries), shownDeliveries)] {
		row := deliveryRow{Status: status, Now: time.Now()}
		if w, err := p.o.Webhooks.Webhook(v.tenant, status.WebhookID); err == nil {
			row.Hook, row.Known = hostOf(w.URL), true
			if !w.Sending() && status.State == postrider.DeliveryPending {
				row.Status.State = postrider.DeliveryHeld
			}
		} else if status.Last != nil {
			row.Hook = hostOf(status.Last.URL)
		}
		data.Deliveries = append(data.Deliveries, row)
	}
	data.Attempts = p.logRows(v, found.Attempts)
	return p.show(v, "event", "Event", data)
}
