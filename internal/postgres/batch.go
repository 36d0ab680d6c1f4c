package postgres

import (
	"bytes"
	"slices"

	"postrider"
)

// A batch gathers the rows of a transaction, statement by statement, from all
// its operations.
type batch struct {
	node   int64
	claims bool // it claims deliveries for the node

	keys, events, chosen, deliveries, fanouts *rows
	done, retried, kept, released, attempts   *rows
	tallies                                   *rows
	lanes                                     []laneClaim // after the rows
}

// A laneClaim is the statements of one claim.
type laneClaim struct {
	webhook postrider.ID
	calls   []call
}

func newBatch(node int64) *batch { return &batch{node: node} }

// into makes the rows of a statement when the first comes.
func into(r **rows, kinds ...uint32) *rows {
	if *r == nil {
		*r = newRows(kinds...)
	}
	return *r
}

// calls are the batch's statements, in the order in which they are sent.
func (b *batch) calls() []call {
	calls := make([]call, 0, 8)
	add := func(id statement, r *rows, more ...[]byte) {
		if r != nil {
			calls = append(calls, call{id: id, params: r.params(more...)})
		}
	}
	node := int8Param(b.node)
	if b.keys != nil {
		// Only the columns of the key, to make room for one that has expired.
		calls = append(calls, call{id: dropExpiredKeys, params: b.keys.params()[:2]})
	}
	add(insertKeys, b.keys)
	add(insertChosen, b.chosen)
	add(insertEvents, b.events)
	add(insertFanouts, b.fanouts)
	add(insertDeliveries, b.deliveries, node)
	add(deleteDeliveries, b.done, node)
	add(retryDeliveries, b.retried, node)
	add(keepDeliveries, b.kept, node)
	add(releaseDeliveries, b.released, node)
	add(insertAttempts, b.attempts)
	add(addTallies, b.tallies)
	// Nodes lock lanes in the same order, or each would wait for the other.
	slices.SortStableFunc(b.lanes, func(x, y laneClaim) int { return bytes.Compare(x.webhook[:], y.webhook[:]) })
	for i := range b.lanes {
		calls = append(calls, b.lanes[i].calls...)
	}
	return calls
}

func (b *batch) addDelivery(d *postrider.Delivery, of day) {
	b.claims = b.claims || d.Claimed
	into(&b.deliveries, textType, textType, uuidType, timeType, dateType, int4Type, textType, boolType).
		text(d.Tenant).text(d.EventID).id(d.WebhookID).time(d.AcceptedAt).day(of).int4(len(d.Payload)).text(string(d.Trigger)).bool(d.Claimed)
}

// addKey names a delivery in the first columns of a statement.
func addKey(r *rows, key *postrider.DeliveryKey) *rows {
	return r.text(key.Tenant).text(key.EventID).id(key.WebhookID)
}
