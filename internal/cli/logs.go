package cli

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"time"
)

type logsCommands struct {
	List      listLogs  `cmd:"" help:"List attempts, the newest first."`
	Get       getLog    `cmd:"" help:"Show an attempt with its whole request and response."`
	Tail      tailLogs  `cmd:"" help:"Show attempts as they are made."`
	Redeliver redeliver `cmd:"" help:"Send the delivery of an attempt again."`
}

// An entry is what the tables show of an attempt.
type entry struct {
	ID            string     `json:"id"`
	EventID       string     `json:"event_id"`
	Event         string     `json:"event"`
	WebhookID     string     `json:"webhook_id"`
	Attempt       int        `json:"attempt"`
	Trigger       string     `json:"trigger"`
	At            time.Time  `json:"at"`
	URL           string     `json:"url"`
	Status        string     `json:"status"`
	StatusCode    *int       `json:"status_code"`
	ErrorCode     *string    `json:"error_code"`
	Error         *string    `json:"error"`
	Duration      float64    `json:"duration"` // milliseconds
	NextAttemptAt *time.Time `json:"next_attempt_at"`
	RemoteIP      *string    `json:"remote_ip"`
	Request       struct {
		Headers map[string]string `json:"headers"`
		Body    string            `json:"body"`
	} `json:"request"`
	Response struct {
		Headers   map[string]string `json:"headers"`
		Body      string            `json:"body"`
		Truncated bool              `json:"truncated"`
		Encoding  string            `json:"encoding"`
	} `json:"response"`
}

// outcome is how the attempt ended, in a word.
func (e *entry) outcome() cell {
	return cell{or(e.ErrorCode, or(e.StatusCode, e.Status)), styleOf(e.Status)}
}

func (e *entry) took() string { return strconv.FormatFloat(e.Duration, 'f', 1, 64) + " ms" }

func entryPath(id string) string { return "/v0/api_webhooks/logs/" + url.PathEscape(id) }

// filters narrow both the list and the tail.
type filters struct {
	Webhook   string `placeholder:"ID" help:"Attempts of one webhook."`
	Event     string `placeholder:"EVENT" help:"Attempts for one event type; ping for pings."`
	EventID   string `name:"event-id" placeholder:"ID" help:"Attempts of one event."`
	Status    string `placeholder:"STATUS" complete:"success,failure,cancelled" help:"success, failure or cancelled."`
	CodeClass string `placeholder:"CLASS" complete:"2xx,3xx,4xx,5xx" help:"Class of the receiver's status code: 2xx, 3xx, 4xx or 5xx."`
	ErrorCode string `placeholder:"CODE" complete:"dns,connect,connect_refused,connect_timeout,tls,tls_expired,tls_hostname,tls_untrusted,timeout,reset,http_4xx,http_5xx,redirect,blocked_address,too_large,protocol,cancelled,expired,relay_lost,unsendable" help:"Why it failed, such as timeout or http_5xx."`
}

func (f *filters) query() url.Values {
	query := url.Values{}
	for name, value := range map[string]string{
		"webhook_id": f.Webhook, "event": f.Event, "event_id": f.EventID,
		"status": f.Status, "code_class": f.CodeClass, "error_code": f.ErrorCode,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return query
}

type listLogs struct {
	remote
	scoped
	pages
	filters

	From string `placeholder:"TIME" help:"Attempts since then: 2026-03-14T15:00:00Z, or 2h for two hours ago."`
	To   string `placeholder:"TIME" help:"Attempts before then."`
}

// Help are the examples of logs list --help.
func (*listLogs) Help() string {
	return `Examples:

    postrider logs list --status failure --from 24h
    postrider logs list --webhook 0195b3f4-8c1e-7a52-9d3b-6f2a41c0e7d8 --all --json`
}

// moment reads a time, or how long ago.
func moment(source, text string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, misuse(source, fmt.Sprintf("%q is no time such as 2026-03-14T15:00:00Z, and not how long ago, such as 2h", text), "")
	}
	return t, nil
}

// Run lists.
func (l *listLogs) Run(ctx context.Context, p *process) error {
	query := l.add(l.query())
	for _, bound := range [][2]string{{"from", l.From}, {"to", l.To}} {
		if bound[1] == "" {
			continue
		}
		t, err := moment("--"+bound[0], bound[1], time.Now())
		if err != nil {
			return err
		}
		query.Set(bound[0], t.UTC().Format(time.RFC3339Nano))
	}
	titles := []string{"ID", "AT", "EVENT", "TRY", "TRIGGER", "RESULT", "TOOK", "URL"}
	return showList(ctx, p, &l.remote, l.pages, "/v0/api_webhooks/logs", query, titles, func(e entry) []cell {
		return []cell{
			{text: e.ID},
			{text: when(&e.At)},
			{text: e.Event},
			{text: strconv.Itoa(e.Attempt)},
			{text: e.Trigger},
			e.outcome(),
			{text: e.took()},
			{text: e.URL},
		}
	}, "no attempts", "postrider webhooks ping makes some")
}

type getLog struct {
	remote
	scoped

	ID string `arg:"" name:"attempt-id" help:"The attempt's id, as in logs list."`
}

// Help are the examples of logs get --help.
func (*getLog) Help() string {
	return `Examples:

    postrider logs get 0195b3f4-9a07-7c11-8e2d-1b7f60a9c3e4
    postrider logs get 0195b3f4-9a07-7c11-8e2d-1b7f60a9c3e4 --json | jq -r .request.body`
}

// Run shows it.
func (g *getLog) Run(ctx context.Context, p *process) error {
	c, err := g.connect()
	if err != nil {
		return err
	}
	var e entry
	text, err := c.get(ctx, &e, entryPath(g.ID), g.add(url.Values{}))
	if err != nil {
		return err
	}
	p.show(&g.remote, text, e.sheet())
	if g.JSON {
		return nil
	}
	on := p.screen()
	on.message("request", e.Request.Headers, e.Request.Body, "")
	note := ""
	switch {
	case e.Response.Encoding == "base64" && e.Response.Body != "":
		note = "(binary, in base64)"
	case e.Response.Truncated:
		note = "(cut: more came than is kept)"
	}
	if len(e.Response.Headers) > 0 || e.Response.Body != "" {
		on.message("response", e.Response.Headers, e.Response.Body, note)
	}
	return nil
}

func (e *entry) sheet() *sheet {
	s := new(sheet)
	s.add("id", e.ID)
	s.add("event", e.Event)
	s.add("event id", e.EventID)
	s.add("webhook", e.WebhookID)
	s.add("attempt", fmt.Sprintf("%d (%s)", e.Attempt, e.Trigger))
	s.add("at", when(&e.At))
	s.add("url", e.URL)
	s.add("address", or(e.RemoteIP, ""))
	s.styled("result", e.Status, styleOf(e.Status))
	s.add("status code", or(e.StatusCode, ""))
	s.add("error code", or(e.ErrorCode, ""))
	s.add("error", or(e.Error, ""))
	s.add("took", e.took())
	if e.NextAttemptAt != nil {
		s.add("next attempt", when(e.NextAttemptAt))
	}
	return s
}

// message writes headers and a body as they would stand on the wire.
func (s screen) message(title string, headers map[string]string, body, note string) {
	fmt.Fprintf(s, "\n%s\n", s.styled(bold, title))
	for name, value := range sorted(headers) {
		fmt.Fprintf(s, "%s: %s\n", s.styled(faint, plain(name)), plain(value))
	}
	if body != "" {
		fmt.Fprintf(s, "\n%s\n", plainLines(body))
	}
	if note != "" {
		fmt.Fprintln(s, s.styled(faint, note))
	}
}

type redeliver struct {
	remote
	scoped

	ID     string `arg:"" name:"attempt-id" help:"The attempt's id, as in logs list."`
	Target string `placeholder:"TARGET" complete:"webhook,relay" help:"webhook, as without it: the webhook of the attempt. relay: whoever runs postrider listen, the last one that was started."`
}

// Help are the examples of logs redeliver --help.
func (*redeliver) Help() string {
	return `The event goes to the same webhook once more, with the same event id, to the URL and with the secret of now.

Examples:

    postrider logs redeliver 0195b3f4-9a07-7c11-8e2d-1b7f60a9c3e4
    postrider logs redeliver 0195b3f4-9a07-7c11-8e2d-1b7f60a9c3e4 --target relay`
}

// Run sends it again.
func (r *redeliver) Run(ctx context.Context, p *process) error {
	c, err := r.connect()
	if err != nil {
		return err
	}
	var again pinged
	asked := request{method: "POST", path: entryPath(r.ID) + "/redeliver", query: r.add(url.Values{})}
	if r.Target != "" {
		asked.body = encoded(map[string]string{"target": r.Target})
	}
	text, err := c.ask(ctx, &again, asked)
	if err != nil {
		return err
	}
	s := new(sheet)
	s.add("event id", again.EventID)
	s.add("webhook", again.WebhookID)
	p.show(&r.remote, text, s)
	return nil
}
