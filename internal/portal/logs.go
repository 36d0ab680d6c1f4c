package portal

import (
	"net/http"
	"net/url"
	"time"

	"postrider"
)

// A logRow is an attempt in a list.
type logRow struct {
	Attempt postrider.Attempt
	Base    string
	Hook    string // the receiver, short
	Now     time.Time
}

// State is an attempt's result in a word with a colour.
func (l logRow) State() state { return attemptState(&l.Attempt) }

func attemptState(a *postrider.Attempt) state {
	switch a.Status {
	case postrider.AttemptSuccess:
		return state{"ok", statusText(a)}
	case postrider.AttemptCancelled:
		return state{"off", "Cancelled"}
	case postrider.AttemptFailure:
	}
	return state{"bad", statusText(a)}
}

// statusText is the status code, or what came instead of one.
func statusText(a *postrider.Attempt) string {
	if a.Outcome.StatusCode != 0 {
		return number(int64(a.Outcome.StatusCode))
	}
	if words, found := failureWords[a.Outcome.Failure]; found {
		return words
	}
	return string(a.Outcome.Failure)
}

// failureWords name the failures without an answer, in as few words as a
// column has room for.
var failureWords = map[postrider.FailureCode]string{
	postrider.FailDNS:            "No such host",
	postrider.FailConnect:        "No connection",
	postrider.FailConnectRefused: "Refused",
	postrider.FailConnectTimeout: "No connection",
	postrider.FailTLS:            "TLS error",
	postrider.FailTLSExpired:     "TLS expired",
	postrider.FailTLSHostname:    "TLS wrong host",
	postrider.FailTLSUntrusted:   "TLS untrusted",
	postrider.FailTimeout:        "Timed out",
	postrider.FailReset:          "Reset",
	postrider.FailBlocked:        "Blocked",
	postrider.FailTooLarge:       "Too large",
	postrider.FailProtocol:       "Not HTTP",
	postrider.FailCancelled:      "Cancelled",
	postrider.FailExpired:        "Schedule over",
	postrider.FailRelayLost:      "Listener gone",
	postrider.FailUnsendable:     "Not sendable",
}

func (p *Portal) logRows(v *visit, attempts []postrider.Attempt) []logRow {
	rows := make([]logRow, len(attempts))
	for i, a := range attempts {
		rows[i] = logRow{Attempt: a, Base: v.base, Hook: hostOf(a.URL), Now: time.Now()}
	}
	return rows
}

// A logFilter is what the address of the logs says.
type logFilter struct {
	Webhook, Event, EventID, Status, Code, Failure, From, To string
}

var logStatuses = []option{{"", "Any result"}, {"success", "Succeeded"}, {"failure", "Failed"}, {"cancelled", "Cancelled"}}

var codeClasses = []option{{"", "Any status"}, {"2xx", "2xx"}, {"3xx", "3xx"}, {"4xx", "4xx"}, {"5xx", "5xx"}}

// failureCodes are those that can be filtered by, in the order of an attempt.
var failureCodes = []postrider.FailureCode{
	postrider.FailDNS, postrider.FailBlocked, postrider.FailConnect, postrider.FailConnectRefused,
	postrider.FailConnectTimeout, postrider.FailTLS, postrider.FailTLSExpired, postrider.FailTLSHostname,
	postrider.FailTLSUntrusted, postrider.FailTimeout, postrider.FailReset, postrider.FailProtocol, postrider.FailTooLarge,
	postrider.FailRedirect, postrider.FailHTTP4xx, postrider.FailHTTP5xx,
}

// An option is one choice of a select.
type option struct{ Value, Label string }

func readFilter(r *http.Request) logFilter {
	return logFilter{
		Webhook: r.FormValue("webhook"), Event: r.FormValue("event"), EventID: r.FormValue("event_id"),
		Status: r.FormValue("status"), Code: r.FormValue("code"), Failure: r.FormValue("error"),
		From: r.FormValue("from"), To: r.FormValue("to"),
	}
}

// Query is the filter as an address has it, without what is not set.
func (f logFilter) Query() string {
	values := url.Values{}
	for _, o := range []option{
		{"webhook", f.Webhook},
		{"event", f.Event},
		{"event_id", f.EventID},
		{"status", f.Status},
		{"code", f.Code},
		{"error", f.Failure},
		{"from", f.From},
		{"to", f.To},
	} {
		if o.Value != "" && o.Label != "" {
			values.Set(o.Value, o.Label)
		}
	}
	return values.Encode()
}

// Set reports whether the filter leaves anything out.
func (f logFilter) Set() bool { return f != logFilter{} }

// attempts is the filter for the store. What no attempt can have is refused,
// since an empty list would say something else.
func (f logFilter) attempts(tenant string) (filter postrider.AttemptFilter, err error) {
	filter = postrider.AttemptFilter{
		Tenant: tenant, EventType: f.Event, EventID: f.EventID, Status: postrider.AttemptStatus(f.Status),
		Failure: postrider.FailureCode(f.Failure), Limit: pageSize,
	}
	wrong := func(field, detail string) error {
		return &postrider.Error{Kind: postrider.Invalid, Field: field, Code: "invalid_parameter", Detail: detail}
	}
	if f.Webhook != "" {
		if filter.WebhookID, err = postrider.ParseID(f.Webhook); err != nil {
			return filter, wrong("webhook", "A webhook's id is a UUID.")
		}
	}
	if f.Code != "" {
		if len(f.Code) != 3 || f.Code[0] < '1' || f.Code[0] > '5' {
			return filter, wrong("code", "A class of status codes is written 2xx.")
		}
		filter.CodeClass = int(f.Code[0] - '0')
	}
	if filter.From, err = parseMoment(f.From); err != nil {
		return filter, wrong("from", "Write the time as 2026-01-31T14:30, in UTC.")
	}
	if filter.To, err = parseMoment(f.To); err != nil {
		return filter, wrong("to", "Write the time as 2026-01-31T14:30, in UTC.")
	}
	return filter, nil
}

// parseMoment reads what a browser makes of a field for date and time.
func parseMoment(text string) (t time.Time, err error) {
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05", time.RFC3339, time.DateOnly} {
		if t, err = time.Parse(layout, text); err == nil || text == "" {
			return t, nil
		}
	}
	return t, err
}

type logsPage struct {
	Filter   logFilter
	Error    string
	Rows     []logRow
	Next     string // link to older entries
	Stream   string // where new ones come from; empty on an older page
	Webhooks []option
	Events   []string
	Statuses []option
	Codes    []option
	Failures []postrider.FailureCode
	None     bool // the tenant has no webhook yet
}

func (p *Portal) listLogs(v *visit) error {
	data := logsPage{
		Filter: readFilter(v.r), Statuses: logStatuses, Codes: codeClasses, Failures: failureCodes,
	}
	p.filterChoices(v, &data)
	filter, err := data.Filter.attempts(v.tenant)
	if e, found := shown(err); found {
		data.Error = e.Detail
		p.render(v, http.StatusUnprocessableEntity, "logs", partOf(v, "log-results"), "Logs", data)
		return nil
	}
	if filter.Before, err = cursor(v); err != nil {
		return err
	}
	found, err := p.o.History.Attempts(v.r.Context(), filter)
	if err != nil {
		return err
	}
	data.Rows = p.logRows(v, found.Attempts)
	query := data.Filter.Query()
	if query != "" {
		query = "&" + query
	}
	if !found.Next.IsZero() {
		data.Next = v.base + "/logs?before=" + found.Next.String() + query
	}
	if filter.Before.IsZero() {
		newest := postrider.ID{}
		if len(found.Attempts) > 0 {
			newest = found.Attempts[0].ID
		}
		data.Stream = v.base + "/logs/stream?after=" + newest.String() + query
	}
	part := partOf(v, "log-results")
	if v.partial() && !filter.Before.IsZero() {
		part = "log-page" // more rows below those that are there
	}
	p.render(v, http.StatusOK, "logs", part, "Logs", data)
	return nil
}

// partOf is the part that htmx asked for, or nothing, which is the whole page.
func partOf(v *visit, part string) string {
	if v.partial() {
		return part
	}
	return ""
}

func (p *Portal) filterChoices(v *visit, data *logsPage) {
	webhooks, _ := p.o.Webhooks.Webhooks(v.tenant, postrider.ID{}, 100)
	known := data.Filter.Webhook == ""
	data.None = len(webhooks) == 0
	data.Webhooks = []option{{"", "Any webhook"}}
	for i := range webhooks {
		id := webhooks[i].ID.String()
		known = known || id == data.Filter.Webhook
		data.Webhooks = append(data.Webhooks, option{id, hostOf(webhooks[i].URL)})
	}
	if !known {
		data.Webhooks = append(data.Webhooks, option{data.Filter.Webhook, "Deleted or older webhook"})
	}
	types, _ := p.o.Catalogue.EventTypes("", maxCatalogue)
	for _, t := range types {
		data.Events = append(data.Events, t.Name)
	}
	data.Events = append(data.Events, postrider.PingEvent)
}
