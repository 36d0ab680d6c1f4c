package api

import (
	"context"
	"strings"
	"time"

	"postrider"
)

// Entry is one attempt in the list of logs.
type Entry struct {
	ID            postrider.ID `json:"id" format:"uuid" doc:"The attempt's id."`
	EventID       string       `json:"event_id" doc:"Sent as X-<Brand>-Delivery and webhook-id; the same over retries." example:"0195b3f4-9a07-7c11-8e2d-1b7f60a9c3e4"`
	Event         string       `json:"event" doc:"The event type." example:"room_status.updated"`
	WebhookID     postrider.ID `json:"webhook_id" format:"uuid"`
	Attempt       int          `json:"attempt" doc:"1 for the first attempt of the delivery." example:"1"`
	Trigger       string       `json:"trigger" enum:"event,ping,retry,redelivery,replay" doc:"Why it was made."`
	At            instant      `json:"at" doc:"When it was started."`
	URL           string       `json:"url" doc:"As used, even if the webhook's URL changed since." example:"https://partner.example/callback"`
	Status        string       `json:"status" enum:"success,failure,cancelled" doc:"cancelled marks a delivery that was ended without being sent."`
	StatusCode    *int         `json:"status_code" doc:"Of the receiver's answer; null when none came." example:"200"`
	ErrorCode     *string      `json:"error_code" doc:"Why it failed, for programs; null on success."`
	Error         *string      `json:"error" doc:"What happened and what to do; null on success."`
	Duration      float64      `json:"duration" doc:"The whole attempt, in milliseconds." example:"48.215"`
	NextAttemptAt *instant     `json:"next_attempt_at" nullable:"true" doc:"When the delivery is tried again; null when it is not."`
	RemoteIP      *string      `json:"remote_ip" doc:"The address that was dialled; null when none was." example:"203.0.113.7"`
	Timings       timings      `json:"timings"`
}

type timings struct {
	DNS       float64 `json:"dns" doc:"Milliseconds to look the name up; 0 on a connection that was kept alive." example:"2.1"`
	Connect   float64 `json:"connect" doc:"Milliseconds to connect; 0 on a connection that was kept alive." example:"9.4"`
	TLS       float64 `json:"tls" doc:"Milliseconds for the TLS handshake; 0 without one." example:"14.8"`
	FirstByte float64 `json:"first_byte" doc:"Milliseconds from the request sent to the first byte of the answer." example:"21.3"`
	Total     float64 `json:"total" doc:"Milliseconds in all." example:"48.215"`
}

// wholeEntry is one attempt with what was sent and answered.
type wholeEntry struct {
	Entry
	Request  sent     `json:"request"`
	Response answered `json:"response"`
}

type sent struct {
	Headers map[string]string `json:"headers" doc:"In the exact spelling; the values of headers that carry credentials are masked."`
	Body    string            `json:"body" doc:"The exact body." example:"{\"room\": 12, \"status\": \"clean\"}"`
}

type answered struct {
	Headers   map[string]string `json:"headers" doc:"Empty when no answer came."`
	Body      string            `json:"body" doc:"As text, or in base64 as encoding says." example:"ok"`
	Truncated bool              `json:"truncated" doc:"More came than is kept."`
	Encoding  string            `json:"encoding" enum:"utf-8,base64" doc:"base64 marks a binary body."`
}

func showEntry(t *postrider.Attempt) Entry {
	o := &t.Outcome
	return Entry{
		ID: t.ID, EventID: t.EventID, Event: t.EventType, WebhookID: t.WebhookID, Attempt: t.Number,
		Trigger: string(t.Trigger), At: instant(t.At), URL: t.URL, Status: string(t.Status),
		StatusCode: orNull(o.StatusCode), ErrorCode: orNull(string(o.Failure)), Error: orNull(o.Detail),
		Duration: milliseconds(o.Timings.Total), NextAttemptAt: instantOrNull(t.NextAttemptAt), RemoteIP: orNull(o.RemoteIP),
		Timings: timings{
			DNS: milliseconds(o.Timings.DNS), Connect: milliseconds(o.Timings.Connect), TLS: milliseconds(o.Timings.TLS),
			FirstByte: milliseconds(o.Timings.FirstByte), Total: milliseconds(o.Timings.Total),
		},
	}
}

// milliseconds keeps three decimals: microseconds.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

func showWhole(t *postrider.Attempt) wholeEntry {
	request, _ := text(t.RequestBody, false) // a payload is UTF-8, or it was not accepted
	response, encoding := text(t.Outcome.Response.Body, t.Outcome.Response.Truncated)
	return wholeEntry{
		Entry:   showEntry(t),
		Request: sent{Headers: joined(t.RequestHeader), Body: request},
		Response: answered{
			Headers: joined(t.Outcome.Response.Header), Body: response,
			Truncated: t.Outcome.Response.Truncated, Encoding: encoding,
		},
	}
}

// joined is one text for each header (RFC 9110, section 5.3).
func joined(header postrider.Header) map[string]string {
	flat := make(map[string]string, len(header))
	for name, values := range header.Map() {
		flat[name] = strings.Join(values, ", ")
	}
	return flat
}

// LogFilter is what both lists of logs can be narrowed to.
type LogFilter struct {
	Event     string    `query:"event" doc:"An event type; ping for pings." example:"room_status.updated"`
	EventID   string    `query:"event_id" doc:"One event's attempts."`
	Status    string    `query:"status" enum:"success,failure,cancelled"`
	CodeClass string    `query:"code_class" enum:"2xx,3xx,4xx,5xx" doc:"The class of the receiver's status code."`
	ErrorCode string    `query:"error_code" enum:"dns,connect,connect_refused,connect_timeout,tls,tls_expired,tls_hostname,tls_untrusted,timeout,reset,http_4xx,http_5xx,redirect,blocked_address,too_large,protocol,cancelled,expired,relay_lost,unsendable" doc:"Why it failed."`
	From      time.Time `query:"from" doc:"Attempts started at this time or later (RFC 3339)."`
	To        time.Time `query:"to" doc:"Attempts started before this time (RFC 3339)."`
}

// EntryRef names one log entry in a route's path.
type EntryRef struct {
	TenantQuery
	AttemptID string `path:"attempt_id" doc:"The log entry's id, a UUID."`
}

type (
	logsInput struct {
		TenantQuery
		PageQuery
		LogFilter
		WebhookID string `query:"webhook_id" format:"uuid" doc:"One webhook's attempts."`
	}
	webhookLogsInput struct {
		WebhookRef
		PageQuery
		LogFilter
	}
	entryOutput    struct{ Body wholeEntry }
	redeliverInput struct {
		EntryRef
		Body *content[redeliverTo]
	}
)

func (f *LogFilter) filter(tenant string, before postrider.ID, limit int) postrider.AttemptFilter {
	filter := postrider.AttemptFilter{
		Tenant: tenant, EventType: f.Event, EventID: f.EventID, Status: postrider.AttemptStatus(f.Status),
		Failure: postrider.FailureCode(f.ErrorCode), From: f.From, To: f.To, Before: before, Limit: limit,
	}
	if f.CodeClass != "" {
		filter.CodeClass = int(f.CodeClass[0] - '0')
	}
	return filter
}

func (a *API) listLogs(ctx context.Context, c *call, in *logsInput) (*listOutput[Entry], error) {
	tenant, err := a.tenant(c, in.Tenant)
	if err != nil {
		return nil, err
	}
	before, err := a.cursors.openID("logs", tenant, in.Cursor)
	if err != nil {
		return nil, err
	}
	filter := in.filter(tenant, before, in.Limit)
	if in.WebhookID != "" {
		if filter.WebhookID, err = postrider.ParseID(in.WebhookID); err != nil {
			return nil, invalid("webhook_id", "invalid_parameter", "A webhook's id is a UUID.")
		}
	}
	return a.logPage(ctx, c, "logs", filter)
}

func (a *API) listWebhookLogs(ctx context.Context, c *call, in *webhookLogsInput) (*listOutput[Entry], error) {
	tenant, id, err := a.target(c, &in.WebhookRef)
	if err != nil {
		return nil, err
	}
	list := "logs of " + id.String()
	before, err := a.cursors.openID(list, tenant, in.Cursor)
	if err != nil {
		return nil, err
	}
	filter := in.filter(tenant, before, in.Limit)
	filter.WebhookID = id
	page, err := a.logPage(ctx, c, list, filter)
	if err == nil && len(page.Body.Data) == 0 && page.Body.NextCursor == "" {
		// A deleted webhook keeps its logs; one without any must exist.
		_, err = a.Webhooks.Webhook(tenant, id)
	}
	return page, err
}

func (a *API) logPage(
	ctx context.Context, c *call, list string, filter postrider.AttemptFilter,
) (*listOutput[Entry], error) {
	found, err := a.History.Attempts(ctx, filter)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(found.Attempts))
	for i := range found.Attempts {
		entries[i] = showEntry(&found.Attempts[i])
	}
	next := ""
	if !found.Next.IsZero() {
		next = a.cursors.sealID(list, filter.Tenant, found.Next)
	}
	return newPage(c, entries, next), nil
}

func (a *API) getLog(ctx context.Context, c *call, in *EntryRef) (*entryOutput, error) {
	tenant, id, err := a.entry(c, in)
	if err != nil {
		return nil, err
	}
	attempt, err := a.History.Attempt(ctx, tenant, id)
	if err != nil {
		return nil, err
	}
	return &entryOutput{showWhole(&attempt)}, nil
}

// entry is what both routes of one log entry start with.
func (a *API) entry(c *call, in *EntryRef) (tenant string, id postrider.ID, err error) {
	if tenant, err = a.tenant(c, in.Tenant); err != nil {
		return "", id, err
	}
	id, err = pathID("log entry", in.AttemptID)
	return tenant, id, err
}

type (
	redelivery struct {
		EventID   string       `json:"event_id" example:"0195b3f4-9a07-7c11-8e2d-1b7f60a9c3e4"`
		WebhookID postrider.ID `json:"webhook_id" format:"uuid"`
	}
	redeliverOutput struct{ Body redelivery }
)

func (in *redeliverInput) fault() error {
	if in.Body == nil {
		return nil
	}
	return in.Body.err
}

func (a *API) redeliver(ctx context.Context, c *call, in *redeliverInput) (*redeliverOutput, error) {
	tenant, id, err := a.entry(c, &in.EntryRef)
	if err != nil {
		return nil, err
	}
	var to postrider.ID
	if in.Body != nil {
		if to, err = a.redeliverTarget(tenant, &in.Body.Value); err != nil {
			return nil, err
		}
	}
	again, err := a.Publisher.Redeliver(ctx, tenant, id, to)
	return &redeliverOutput{redelivery(again)}, err
}
