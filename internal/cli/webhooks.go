package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"postrider"
)

type webhooksCommands struct {
	List   listWebhooks  `cmd:"" help:"List webhooks, the newest first."`
	Get    getWebhook    `cmd:"" help:"Show a webhook."`
	Create createWebhook `cmd:"" help:"Create a webhook. The server pings it at once."`
	Update updateWebhook `cmd:"" help:"Change a webhook. What no flag names stays as it is."`
	Delete deleteWebhook `cmd:"" help:"Delete a webhook. Its pending deliveries are cancelled; the logs stay."`
	Ping   pingWebhooks  `cmd:"" help:"Send a ping to one webhook, or to all that are active."`
	Rotate rotateSecret  `cmd:"" help:"Give a webhook a new secret, beside which the old one signs along for a while."`
	Pause  pauseWebhook  `cmd:"" help:"Hold a webhook's deliveries, as the operator."`
	Resume resumeWebhook `cmd:"" help:"Send to a webhook again, what was held first."`
}

// A webhook is what the tables show of one.
type webhook struct {
	ID             string            `json:"id"`
	Tenant         string            `json:"tenant"`
	URL            string            `json:"url"`
	ContentType    string            `json:"content_type"`
	Events         []string          `json:"events"`
	Status         string            `json:"status"`
	DisabledReason *string           `json:"disabled_reason"`
	FailingSince   *time.Time        `json:"failing_since"`
	Description    string            `json:"description"`
	Headers        map[string]string `json:"headers"`
	InsecureSSL    bool              `json:"insecure_ssl"`
	Timeout        *float64          `json:"timeout_seconds"`
	RetrySchedule  *[]float64        `json:"retry_schedule"`
	MaxInFlight    *int              `json:"max_in_flight"`
	RateLimit      *float64          `json:"rate_limit"`
	Ordered        bool              `json:"ordered"`
	HasSecret      bool              `json:"has_secret"`
	PreviousUntil  *time.Time        `json:"previous_secret_expires_at"`
	LastAttempt    *lastAttempt      `json:"last_attempt"`
	CreatedAt      time.Time         `json:"created_at"`
	UpdatedAt      time.Time         `json:"updated_at"`
	Secret         string            `json:"secret"` // in the answer to a creation, when one was made
}

type lastAttempt struct {
	ID         string    `json:"id"`
	At         time.Time `json:"at"`
	Status     string    `json:"status"`
	StatusCode *int      `json:"status_code"`
	ErrorCode  *string   `json:"error_code"`
}

// styleOf is the colour of a state of a webhook, a delivery or an attempt.
func styleOf(status string) string {
	switch status {
	case "active", "success", "succeeded":
		return good
	case "disabled", "failure", "failed":
		return bad
	case "inactive", "paused", "held", "pending", "cancelled":
		return warning
	}
	return unstyled
}

// outcome is how the newest attempt ended, in a word or two.
func (l *lastAttempt) outcome() cell {
	if l == nil {
		return cell{"-", faint}
	}
	how := or(l.StatusCode, or(l.ErrorCode, ""))
	return cell{strings.TrimSpace(when(&l.At) + " " + l.Status + " " + how), styleOf(l.Status)}
}

func webhookPath(id string) string { return "/v0/api_webhooks/" + url.PathEscape(id) }

type listWebhooks struct {
	remote
	scoped
	pages
}

// Help are the examples of webhooks list --help.
func (*listWebhooks) Help() string {
	return `Examples:

    postrider webhooks list
    postrider webhooks list --tenant acme --all --json`
}

// Run lists.
func (l *listWebhooks) Run(ctx context.Context, p *process) error {
	titles := []string{"ID", "STATUS", "URL", "EVENTS", "LAST ATTEMPT"}
	return showList(ctx, p, &l.remote, l.pages, "/v0/api_webhooks", l.add(url.Values{}), titles, func(w webhook) []cell {
		return []cell{
			{text: w.ID},
			{w.Status, styleOf(w.Status)},
			{text: w.URL},
			{text: strings.Join(w.Events, ",")},
			w.LastAttempt.outcome(),
		}
	}, "no webhooks", "postrider webhooks create URL --events '*' makes one")
}

// showList writes a list as a table, or as an object on each line. What an
// empty list means, and what follows it, are words for stderr.
func showList[T any](ctx context.Context, p *process, r *remote, o pages, path string, query url.Values,
	titles []string, row func(T) []cell, none, next string,
) error {
	c, err := r.connect()
	if err != nil {
		return err
	}
	var rows [][]cell
	more, err := c.list(ctx, o, path, query, func(entry json.RawMessage) error {
		if r.JSON {
			_, err := fmt.Fprintf(p.stdout, "%s\n", entry)
			return err
		}
		var one T
		if json.Unmarshal(entry, &one) != nil {
			return &stranger{c.Server, "an entry of its list cannot be read"}
		}
		rows = append(rows, row(one))
		return nil
	})
	if err != nil || r.JSON {
		return err
	}
	p.screen().table(titles, rows)
	switch {
	case len(rows) == 0:
		p.say("%s", none)
		p.say("hint: %s", next)
	case more:
		p.say("more follow: see --limit and --all")
	}
	return nil
}

// show writes one thing: its sheet, or the server's own text of it.
func (p *process) show(r *remote, text json.RawMessage, s *sheet) {
	if r.JSON {
		fmt.Fprintf(p.stdout, "%s\n", strings.TrimSuffix(string(text), "\n"))
		return
	}
	s.write(p.screen())
}

// say is a word for people, beside the results.
func (p *process) say(format string, args ...any) {
	fmt.Fprintf(p.stderr, "postrider: "+format+"\n", args...)
}

func (w *webhook) sheet() *sheet {
	s := new(sheet)
	s.add("id", w.ID)
	s.add("tenant", w.Tenant)
	s.styled("status", w.Status, styleOf(w.Status))
	s.add("disabled because", or(w.DisabledReason, ""))
	if w.FailingSince != nil {
		s.add("failing since", when(w.FailingSince))
	}
	s.add("url", w.URL)
	s.add("events", strings.Join(w.Events, ", "))
	s.add("content type", w.ContentType)
	s.add("description", w.Description)
	for name, value := range sorted(w.Headers) {
		s.add("header", name+": "+value)
	}
	s.add("signed", yes(w.HasSecret))
	if w.PreviousUntil != nil {
		s.add("old secret until", when(w.PreviousUntil))
	}
	if w.InsecureSSL {
		s.styled("certificate", "not verified", warning)
	}
	s.add("timeout", secondsText(w.Timeout))
	if w.RetrySchedule != nil {
		waits := make([]string, len(*w.RetrySchedule))
		for i := range waits {
			waits[i] = secondsText(&(*w.RetrySchedule)[i])
		}
		s.add("retries after", cmp.Or(strings.Join(waits, ", "), "never"))
	}
	s.add("in flight at most", or(w.MaxInFlight, ""))
	if w.RateLimit != nil {
		s.add("rate limit", fmt.Sprintf("%v a second", *w.RateLimit))
	}
	if w.Ordered {
		s.add("ordered", "yes")
	}
	last := w.LastAttempt.outcome()
	s.styled("last attempt", last.text, last.style)
	s.add("created", when(&w.CreatedAt))
	s.add("updated", when(&w.UpdatedAt))
	return s
}

func secondsText(s *float64) string {
	if s == nil {
		return ""
	}
	return time.Duration(*s * float64(time.Second)).Round(time.Millisecond).String()
}

type getWebhook struct {
	remote
	scoped

	ID string `arg:"" help:"The webhook's id."`
}

// Help are the examples of webhooks get --help.
func (*getWebhook) Help() string {
	return `Example:

    postrider webhooks get 0195b3f4-8c1e-7a52-9d3b-6f2a41c0e7d8`
}

// Run shows it.
func (g *getWebhook) Run(ctx context.Context, p *process) error {
	return g.showWebhook(ctx, p, request{path: webhookPath(g.ID), query: g.add(url.Values{})})
}

// showWebhook shows the webhook that a request answers with.
func (r *remote) showWebhook(ctx context.Context, p *process, asked request) error {
	c, err := r.connect()
	if err != nil {
		return err
	}
	var w webhook
	text, err := c.ask(ctx, &w, asked)
	if err != nil {
		return err
	}
	s := w.sheet()
	s.add("secret", w.Secret)
	p.show(r, text, s)
	if w.Secret != "" {
		p.say("the secret is shown this once: keep it where the receiver finds it")
	}
	return nil
}

// webhookFlags are what a webhook is made of, but for its URL.
type webhookFlags struct {
	Events        []string         `placeholder:"EVENT" help:"Event types such as room_status.updated, patterns such as room_status.*, or * for all."`
	ContentType   *string          `placeholder:"TYPE" complete:"json,form" help:"How the payload travels: json, as the body, or form, in a form's field payload."`
	Secret        postrider.Secret `placeholder:"SECRET" help:"Secret that deliveries are signed with. In a file it stays out of the shell's history."`
	SecretFile    string           `placeholder:"FILE" help:"File with the secret; - is the standard input."`
	Description   *string          `placeholder:"TEXT" help:"For people."`
	Header        []string         `sep:"none" placeholder:"NAME:VALUE" help:"Header to send with every delivery. Repeat it for several."`
	Timeout       *time.Duration   `placeholder:"DURATION" help:"Total time of one attempt, 1s to 30s."`
	RetrySchedule []time.Duration  `placeholder:"DURATION" help:"Wait before each retry."`
	MaxInFlight   *int             `placeholder:"N" help:"Attempts at once at most."`
	RateLimit     *float64         `placeholder:"N" help:"Attempts a second at most."`
	Ordered       *bool            `negatable:"" help:"Send one at a time, in order."`
	InsecureSSL   *bool            `name:"insecure-ssl" negatable:"" help:"Do not verify the receiver's certificate."`
	Active        *bool            `negatable:"" help:"Send. With --no-active, deliveries are held."`
}

var contentTypes = map[string]string{"json": "application/json", "form": "application/x-www-form-urlencoded"}

// body is what the flags say, by the API's names.
func (f *webhookFlags) body(p *process) (map[string]any, error) {
	body := map[string]any{}
	put := func(name string, value any, given bool) {
		if given {
			body[name] = value
		}
	}
	put("events", f.Events, f.Events != nil)
	if f.ContentType != nil {
		body["content_type"] = cmp.Or(contentTypes[*f.ContentType], *f.ContentType)
	}
	secret := f.Secret
	if f.SecretFile != "" {
		if secret != "" {
			return nil, misuse("--secret-file", "is given beside --secret", "give one of the two")
		}
		var err error
		if secret, err = p.readSecretFile(f.SecretFile); err != nil {
			return nil, err
		}
	}
	put("secret", string(secret), secret != "")
	put("description", f.Description, f.Description != nil)
	headers, err := headerFlags(f.Header)
	if err != nil {
		return nil, err
	}
	put("headers", headers, len(headers) > 0)
	if f.Timeout != nil {
		body["timeout_seconds"] = f.Timeout.Seconds()
	}
	if f.RetrySchedule != nil {
		waits := make([]float64, len(f.RetrySchedule))
		for i, wait := range f.RetrySchedule {
			waits[i] = wait.Seconds()
		}
		body["retry_schedule"] = waits
	}
	put("max_in_flight", f.MaxInFlight, f.MaxInFlight != nil)
	put("rate_limit", f.RateLimit, f.RateLimit != nil)
	put("ordered", f.Ordered, f.Ordered != nil)
	put("insecure_ssl", f.InsecureSSL, f.InsecureSSL != nil)
	put("active", f.Active, f.Active != nil)
	return body, nil
}

// headerFlags reads flags of the form NAME:VALUE. Their text is not repeated in
// errors: it may hold a credential.
func headerFlags(texts []string) (map[string]any, error) {
	headers := map[string]any{}
	for _, text := range texts {
		name, value, found := strings.Cut(text, ":")
		if name = strings.TrimSpace(name); !found || name == "" {
			return nil, misuse("--header", "has no colon between a name and a value", "write --header 'X-Env: production'")
		}
		headers[name] = strings.TrimSpace(value)
	}
	return headers, nil
}

// readSecretFile reads a secret without the line break that editors put at the
// end of a file.
func (p *process) readSecretFile(path string) (postrider.Secret, error) {
	text, err := p.readFile("--secret-file", path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if secret == "" {
		return "", misuse("--secret-file", "holds no secret", "")
	}
	return postrider.Secret(secret), nil
}

type createWebhook struct {
	remote
	scoped
	webhookFlags

	URL            string `arg:"" help:"Where deliveries are sent."`
	GenerateSecret bool   `help:"Have the server make a secret, and print it this once."`
}

// Help are the examples of webhooks create --help.
func (*createWebhook) Help() string {
	return `Examples:

    postrider webhooks create https://partner.example/callback --events 'room_status.*' --generate-secret
    postrider webhooks create http://127.0.0.1:4567/ --events '*' --secret-file secret.txt --header 'X-Env: test'`
}

// Run creates it.
func (c *createWebhook) Run(ctx context.Context, p *process) error {
	if len(c.Events) == 0 {
		return misuse("--events", "a webhook subscribes to events", "--events '*' takes all; postrider events list shows them")
	}
	body, err := c.body(p)
	if err != nil {
		return err
	}
	body["url"] = c.URL
	if c.Tenant != "" {
		body["tenant"] = c.Tenant
	}
	if c.GenerateSecret {
		body["generate_secret"] = true
	}
	return c.showWebhook(ctx, p, request{method: "POST", path: "/v0/api_webhooks", body: encoded(body)})
}

type updateWebhook struct {
	remote
	scoped
	webhookFlags

	ID    string   `arg:"" help:"The webhook's id."`
	URL   *string  `name:"url" placeholder:"URL" help:"Where deliveries are sent, those that are pending included."`
	Clear []string `placeholder:"FIELD" complete:"secret,description,headers,timeout,retry-schedule,max-in-flight,rate-limit" help:"Go back to the default: secret, description, headers, timeout, retry-schedule, max-in-flight or rate-limit."`
}

// Help are the examples of webhooks update --help.
func (*updateWebhook) Help() string {
	return `Examples:

    postrider webhooks update 0195b3f4-8c1e-7a52-9d3b-6f2a41c0e7d8 --url https://partner.example/v2
    postrider webhooks update 0195b3f4-8c1e-7a52-9d3b-6f2a41c0e7d8 --no-active
    postrider webhooks update 0195b3f4-8c1e-7a52-9d3b-6f2a41c0e7d8 --clear rate-limit,secret

A --header adds or replaces one header; those not named stay.`
}

var clearable = map[string]string{
	"secret": "secret", "description": "description", "headers": "headers", "timeout": "timeout_seconds",
	"retry-schedule": "retry_schedule", "max-in-flight": "max_in_flight", "rate-limit": "rate_limit",
}

// Run changes it.
func (u *updateWebhook) Run(ctx context.Context, p *process) error {
	body, err := u.body(p)
	if err != nil {
		return err
	}
	if u.URL != nil {
		body["url"] = *u.URL
	}
	for _, name := range u.Clear {
		field, found := clearable[name]
		if !found {
			return misuse("--clear", fmt.Sprintf("%q is no field that can be cleared", name), "see postrider webhooks update --help")
		}
		if _, both := body[field]; both {
			return misuse("--clear", name+" is given a value as well", "give one of the two")
		}
		body[field] = nil
	}
	if len(body) == 0 {
		return misuse("<id>", "nothing is to be changed", "give a flag such as --url; see postrider webhooks update --help")
	}
	return u.showWebhook(ctx, p, request{method: "PATCH", path: webhookPath(u.ID), query: u.add(url.Values{}), body: encoded(body)})
}

type deleteWebhook struct {
	eraser
	scoped

	ID string `arg:"" help:"The webhook's id."`
}

// Help are the examples of webhooks delete --help.
func (*deleteWebhook) Help() string {
	return `It asks nothing back. To stop deliveries for a while: postrider webhooks update ID --no-active

Example:

    postrider webhooks delete 0195b3f4-8c1e-7a52-9d3b-6f2a41c0e7d8`
}

// Run deletes it.
func (d *deleteWebhook) Run(ctx context.Context, p *process) error {
	return d.erase(ctx, p, webhookPath(d.ID), d.add(url.Values{}), "webhook "+d.ID+" is deleted")
}

type pingWebhooks struct {
	remote
	scoped

	ID      string `arg:"" optional:"" help:"The webhook's id; without one, all active webhooks are pinged."`
	Payload string `placeholder:"JSON" help:"Payload of the ping; without one the default is sent."`
}

// Help are the examples of webhooks ping --help.
func (*pingWebhooks) Help() string {
	return `Examples:

    postrider webhooks ping
    postrider webhooks ping 0195b3f4-8c1e-7a52-9d3b-6f2a41c0e7d8 --payload '{"hello":"there"}'

The answer means that pings are on their way. How they ended stands in postrider logs list --event ping.`
}

type pinged struct {
	WebhookID string `json:"webhook_id"`
	EventID   string `json:"event_id"`
}

// Run pings.
func (g *pingWebhooks) Run(ctx context.Context, p *process) error {
	path := "/v0/api_webhooks/ping"
	if g.ID != "" {
		path = webhookPath(g.ID) + "/ping"
	}
	var payload []byte
	if g.Payload != "" {
		payload = []byte(g.Payload)
		if err := checkJSON("--payload", payload); err != nil {
			return err
		}
	}
	return showReceipts(ctx, p, &g.remote, request{method: "POST", path: path, query: g.add(url.Values{}), body: payload},
		[]string{"WEBHOOK", "EVENT ID"}, func(one pinged) []cell { return []cell{{text: one.WebhookID}, {text: one.EventID}} },
		"no webhook is active: nothing was pinged")
}

// showReceipts writes what an answer lists.
func showReceipts[T any](ctx context.Context, p *process, r *remote, asked request, titles []string, row func(T) []cell, none string) error {
	c, err := r.connect()
	if err != nil {
		return err
	}
	var answer page
	if _, err := c.ask(ctx, &answer, asked); err != nil {
		return err
	}
	var rows [][]cell
	for _, text := range answer.Data {
		var one T
		if json.Unmarshal(text, &one) != nil {
			return &stranger{c.Server, "its answer cannot be read"}
		}
		rows = append(rows, row(one))
		if r.JSON {
			fmt.Fprintf(p.stdout, "%s\n", text)
		}
	}
	if !r.JSON {
		p.screen().table(titles, rows)
	}
	if len(rows) == 0 {
		p.say("%s", none)
	}
	return nil
}

// readFile reads what a flag or argument names; - is the standard input.
func (p *process) readFile(source, path string) ([]byte, error) {
	if path == "-" {
		return p.readInput()
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, misuse(source, err.Error(), "")
	}
	return text, nil
}
