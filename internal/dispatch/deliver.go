package dispatch

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"postrider"
	"postrider/signature"
)

// deliver makes one attempt and hands its outcome to the settler. Deliveries
// that are not to be sent any more are marked: those of a nil or deleted webhook
// as cancelled, those of a failing one whose schedule is over as expired.
func (d *Dispatcher) deliver(t task) {
	delivery, out := t.delivery, t.out
	switch {
	case out == nil || !out.webhook.DeletedAt.IsZero():
		d.settler.add(t, unsent(delivery, out, postrider.AttemptCancelled, postrider.Outcome{
			Failure: postrider.FailCancelled, Detail: "The webhook was deleted before this delivery was sent.",
		}))
		return
	case t.failing && d.over(out.webhook, delivery):
		d.settler.add(t, unsent(delivery, out, postrider.AttemptFailure, postrider.Outcome{
			Failure: postrider.FailExpired,
			Detail:  "The retry schedule ended while the receiver kept failing. Mend the receiver, then send the delivery again.",
		}))
		return
	}
	attempt := postrider.Attempt{
		Tenant: delivery.Tenant, WebhookID: delivery.WebhookID, EventID: delivery.EventID,
		EventType: delivery.EventType, Number: delivery.Attempts + 1, Trigger: delivery.Trigger, At: time.Now(),
		URL: out.webhook.URL,
	}
	attempt.Outcome = d.attempt(&t, &attempt)
	// Our stop, the end of the lease, and a listener that went away are no failure of the receiver's.
	o := &attempt.Outcome
	cut := o.Failure == postrider.FailRelayLost || o.StatusCode == 0 && !o.OK() && d.lifetime(&t).Err() != nil
	if !cut {
		t.lane.outcome(out, o)
	}
	d.settler.add(t, d.judge(delivery, out.webhook, attempt, cut))
}

// lifetime is what an attempt must not outlive: with the lease, another node
// may have the lane of an ordered webhook.
func (d *Dispatcher) lifetime(t *task) context.Context {
	if t.out.webhook.Ordered && d.o.Shared != nil {
		return d.lease.context(t.term)
	}
	return d.attempts
}

// attempt builds, signs and sends. A delivery that makes our own code panic
// fails like any other, so that its lane goes on.
func (d *Dispatcher) attempt(t *task, a *postrider.Attempt) (o postrider.Outcome) {
	delivery, out := t.delivery, t.out
	defer func() {
		if problem := recover(); problem != nil {
			d.o.Logger.Error("an attempt panicked", "webhook", a.WebhookID, "event", a.EventID,
				"panic", fmt.Sprint(problem), "stack", string(debug.Stack()))
			o = postrider.Outcome{
				Failure: postrider.FailUnsendable,
				Detail:  "The request could not be made because of a fault in the server. Its operator has been told.",
			}
		}
	}()
	body := out.webhook.ContentType.Wrap(delivery.Payload)
	header := out.header(delivery.EventType, delivery.EventID, a.Number, a.At, body)
	a.RequestHeader = out.masked(header)
	return d.o.Sender.Send(d.lifetime(t), &postrider.Request{
		WebhookID: a.WebhookID, URL: a.URL, Header: header, Body: body, Timeout: out.timeout, InsecureSSL: out.webhook.InsecureSSL,
	})
}

// judge decides what an outcome means for the delivery, and for the webhook.
// An attempt that was cut short uses up nothing of the schedule.
func (d *Dispatcher) judge(
	delivery *postrider.Delivery, w *postrider.Webhook, a postrider.Attempt, cut bool,
) postrider.Settlement {
	s := postrider.Settlement{Key: delivery.DeliveryKey, Done: true}
	a.Status = postrider.AttemptSuccess
	if o := &a.Outcome; !o.OK() {
		a.Status = postrider.AttemptFailure
		if cut {
			s.Done, s.Keep, s.Attempts, s.Retries, s.Attempt = false, w.Ordered, a.Number, delivery.Retries, a
			return s
		}
		wait, again := d.retryIn(w, delivery, o)
		if again && (o.StatusCode != statusGone || !d.stillAt(&a)) {
			s.Done, s.RetryIn, s.Keep = false, wait, w.Ordered
			s.Attempts, s.Retries = a.Number, delivery.Retries+1
		}
	}
	d.noteHealth(&a)
	s.Attempt = a
	return s
}

// stillAt reports whether the webhook has the URL that the attempt used: what
// an address says of itself does not concern the one that replaced it.
func (d *Dispatcher) stillAt(a *postrider.Attempt) bool {
	w, found := d.o.Webhooks.WebhookByID(a.WebhookID)
	return found && w.URL == a.URL
}

// unsent marks a delivery that was ended without being sent.
func unsent(
	delivery *postrider.Delivery, out *outbound, status postrider.AttemptStatus, why postrider.Outcome,
) postrider.Settlement {
	a := postrider.Attempt{
		Tenant: delivery.Tenant, WebhookID: delivery.WebhookID, EventID: delivery.EventID,
		EventType: delivery.EventType, Number: delivery.Attempts, Trigger: delivery.Trigger, At: time.Now(),
		Status: status, Outcome: why,
	}
	if out != nil {
		a.URL = out.webhook.URL
	}
	return postrider.Settlement{Key: delivery.DeliveryKey, Attempt: a, Done: true}
}

// headerNames are spelled once; those of a brand follow its name.
type headerNames struct {
	userAgent, event, delivery, hookID, attempt, signature, previous string
}

func newHeaderNames(brand, version string) headerNames {
	return headerNames{
		userAgent: brand + "-Hookshot/" + version,
		event:     "X-" + brand + "-Event", delivery: "X-" + brand + "-Delivery", hookID: "X-" + brand + "-Hook-ID",
		attempt: "X-" + brand + "-Attempt", signature: "X-" + brand + "-Signature",
		previous: "X-" + brand + "-Signature-Previous",
	}
}

// outbound is what all requests to one webhook, as it is now, have in common.
type outbound struct {
	names     *headerNames
	webhook   *postrider.Webhook
	timeout   time.Duration
	signer    *signature.Signer // nil without a secret
	previous  []previousSigner  // newest first, which expires last
	template  postrider.Header  // sorted; what each attempt has of its own is empty
	sensitive []string          // names of headers that are masked in the log
}

// A previousSigner signs with a secret that was rotated out, until it expires.
type previousSigner struct {
	*signature.Signer

	until time.Time
}

func (d *Dispatcher) newOutbound(w *postrider.Webhook) *outbound {
	out := &outbound{names: &d.headers, webhook: w, timeout: d.o.Timeout}
	if w.Timeout != 0 {
		out.timeout = w.Timeout
	}
	out.template = postrider.Header{
		{Name: "Content-Type", Value: string(w.ContentType)},
		{Name: "User-Agent", Value: d.headers.userAgent},
		{Name: d.headers.hookID, Value: w.ID.String()},
	}
	own := []string{d.headers.event, d.headers.delivery, d.headers.attempt}
	if w.Secret != "" {
		own = append(own, d.headers.signature, signature.HeaderID, signature.HeaderTimestamp, signature.HeaderSignature)
		out.signer = signature.NewSigner(string(w.Secret))
		for _, old := range w.Previous {
			out.previous = append(out.previous, previousSigner{signature.NewSigner(string(old.Secret)), old.Until})
		}
		if len(out.previous) > 0 {
			own = append(own, d.headers.previous)
		}
	}
	for _, name := range own {
		out.template = append(out.template, postrider.HeaderField{Name: name})
	}
	// One of the webhook's that is named like ours gives way: the brand may be
	// newer than the webhook.
	ours := out.template
	for name, value := range w.Headers {
		if slices.ContainsFunc(ours, func(f postrider.HeaderField) bool { return strings.EqualFold(f.Name, name) }) {
			continue
		}
		out.template = append(out.template, postrider.HeaderField{Name: name, Value: value})
		if postrider.SensitiveHeader(name) {
			out.sensitive = append(out.sensitive, name)
		}
	}
	out.template.Sort()
	return out
}

// header makes the headers of one attempt. Both signatures cover the body's
// exact bytes. Whether an old secret still signs is asked for each attempt: the
// outbound lives as long as the webhook stays as it is.
func (out *outbound) header(eventType, eventID string, attempt int, at time.Time, body []byte) postrider.Header {
	h := slices.Clone(out.template)
	place := func(name string) int {
		return slices.IndexFunc(h, func(f postrider.HeaderField) bool { return f.Name == name })
	}
	set := func(name, value string) { h[place(name)].Value = value }
	set(out.names.event, eventType)
	set(out.names.delivery, eventID)
	set(out.names.attempt, strconv.Itoa(attempt))
	if out.signer == nil {
		return h
	}
	var buffer [128]byte
	set(out.names.signature, string(out.signer.AppendHex(buffer[:0], body)))
	set(signature.HeaderID, eventID)
	set(signature.HeaderTimestamp, strconv.FormatInt(at.Unix(), 10))
	standard := out.signer.AppendStandard(buffer[:0], eventID, at, body)
	old := out.previous
	for len(old) > 0 && at.Before(old[0].until) {
		if len(old) == len(out.previous) {
			set(out.names.previous, string(old[0].AppendHex(nil, body)))
		}
		standard = old[0].AppendStandard(append(standard, ' '), eventID, at, body)
		old = old[1:]
	}
	set(signature.HeaderSignature, string(standard))
	if i := place(out.names.previous); i >= 0 && h[i].Value == "" {
		h = slices.Delete(h, i, i+1)
	}
	return h
}

// masked is what the log keeps of a request's headers.
func (out *outbound) masked(h postrider.Header) postrider.Header {
	if len(out.sensitive) == 0 {
		return h
	}
	h = slices.Clone(h)
	for i := range h {
		if slices.Contains(out.sensitive, h[i].Name) {
			h[i].Value = postrider.Masked
		}
	}
	return h
}
