package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"postrider"
	"postrider/internal/relay"
)

// A Forwarder makes requests to the server that listen forwards to.
type Forwarder interface {
	relay.Sender
	CheckURL(field, url string) error
}

type listenCommand struct {
	remote
	scoped

	Forward     string   `required:"" placeholder:"URL" help:"Where to send what arrives, such as http://localhost:4567/api/callback; 4567 alone is a port of this machine."`
	Events      []string `placeholder:"EVENT" help:"Event types such as room_status.updated, or patterns such as room_status.*; without any, all."`
	Webhook     string   `placeholder:"ID" help:"Get copies of what this webhook gets, signed with its secret; or attach to a temporary webhook that listen left behind."`
	Replay      string   `name:"replay" placeholder:"ATTEMPT_ID" help:"First get the event of a past attempt again, as in logs list."`
	PrintBody   bool     `help:"Print what is sent and answered, too."`
	Count       int      `placeholder:"N" help:"End after so many deliveries. Pings do not count."`
	AllowRemote bool     `help:"Forward to another machine than this one."`
	InsecureSSL bool     `name:"insecure-ssl" help:"Do not verify the certificate of the server that is forwarded to."`
}

// Help are the examples of listen --help.
func (*listenCommand) Help() string {
	return `It makes a temporary webhook with a secret of its own and hands every delivery to a server on this machine, with the
headers and bytes that a real POST has. What that server answers is the attempt's result in the logs. Ctrl-C removes
the webhook. When the connection breaks, listen comes back by itself, and what arrived meanwhile is delivered then.

Examples:

    postrider listen --forward http://localhost:4567/api/callback
    postrider listen --forward 4567 --events 'room_status.*' --print-body
    postrider listen --forward 4567 --replay 0195b3f4-9a07-7c11-8e2d-1b7f60a9c3e4
    postrider listen --forward 4567 --webhook 0195b3f4-8c1e-7a52-9d3b-6f2a41c0e7d8 --json`
}

// Run listens until Ctrl-C.
func (l *listenCommand) Run(ctx context.Context, p *process) error {
	forward, err := l.forwardURL()
	if err != nil {
		return err
	}
	sender := p.commands.Forwarder(l.AllowRemote)
	if err := sender.CheckURL("", forward); err != nil {
		return misuse("--forward", err.Error(), "")
	}
	c, err := l.connect()
	if err != nil {
		return err
	}
	header := http.Header{"User-Agent": {"postrider-cli"}}
	if c.Key != "" {
		header.Set("Authorization", "Bearer "+string(c.Key))
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	show := &listening{listenCommand: l, p: p, c: c, on: p.screen(), forward: forward, stop: stop, ctx: func() context.Context { return ctx }}
	err = relay.Listen(ctx, relay.ListenOptions{
		Server: c.Server, Header: header, Client: c.http, Sender: sender, Forward: forward, Tenant: l.Tenant, WebhookID: l.Webhook,
		Events: l.Events, InsecureSSL: l.InsecureSSL, Observer: show,
	})
	switch {
	case show.failed != nil:
		return show.failed
	case errors.Is(err, relay.ErrLeft):
		p.say("the server does not answer: the temporary webhook stays for %s at most", span(show.hold))
		p.say("hint: postrider webhooks delete %s removes it", show.webhook)
		return nil
	}
	return c.listenError(err)
}

// forwardURL completes what is short for a URL, and refuses what is not on this
// machine.
func (l *listenCommand) forwardURL() (string, error) {
	forward := l.Forward
	if forward != "" && strings.Trim(forward, "0123456789") == "" {
		forward = "localhost:" + forward
	}
	if !strings.Contains(forward, "://") {
		forward = "http://" + forward
	}
	u, err := url.Parse(forward)
	if err != nil || u.Host == "" {
		return "", misuse("--forward", "is no URL", "write it as http://localhost:4567/api/callback")
	}
	addr, err := netip.ParseAddr(u.Hostname())
	if here := u.Hostname() == "localhost" || err == nil && addr.IsLoopback(); !here && !l.AllowRemote {
		return "", misuse("--forward", fmt.Sprintf("%s is not this machine (localhost, 127.0.0.1, [::1])", plain(u.Hostname())),
			"--allow-remote forwards to another machine, too")
	}
	return forward, nil
}

// listenError is an error of the relay in the words of the other commands.
func (c *client) listenError(err error) error {
	if refusal, ok := errors.AsType[*relay.Refusal](err); ok {
		return c.refusal(&answer{refusal.Status, refusal.Header, refusal.Body})
	}
	if ended, ok := errors.AsType[*relay.Ended](err); ok {
		return &advised{plain(ended.Error()), "start postrider listen again, with a valid key"}
	}
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return &unreachable{c.Server, failed.Err}
	}
	return err
}

// A listening shows what happens.
type listening struct {
	*listenCommand

	p       *process
	c       *client
	on      screen
	forward string
	ctx     func() context.Context
	stop    context.CancelFunc
	failed  error // ends the listening

	webhook string
	hold    time.Duration
	brand   string
	away    bool
	counted int
}

// readyLine is the first object of --json.
type readyLine struct {
	Type    string   `json:"type"` // ready
	Webhook string   `json:"webhook_id"`
	CopyOf  string   `json:"copy_of,omitempty"`
	Secret  string   `json:"secret,omitempty"`
	Forward string   `json:"forward"`
	Events  []string `json:"events"`
}

// deliveryLine is an object of --json.
type deliveryLine struct {
	Type      string              `json:"type"` // delivery
	At        time.Time           `json:"at"`
	Event     string              `json:"event"`
	EventID   string              `json:"event_id"`
	Attempt   string              `json:"attempt"`
	Status    string              `json:"status"`
	Code      *int                `json:"status_code"`
	ErrorCode *string             `json:"error_code"`
	Error     *string             `json:"error"`
	Duration  float64             `json:"duration"` // milliseconds
	Headers   map[string][]string `json:"headers,omitempty"`
	Body      *string             `json:"body,omitempty"`
	Response  *string             `json:"response_body,omitempty"`
}

// Ready shows what a session is attached to, and asks for the replay.
func (s *listening) Ready(r *relay.Ready, again bool) {
	s.webhook, s.hold, s.brand = r.WebhookID.String(), r.Hold(), r.Brand
	if again {
		s.away = false
		s.p.say("attached again")
		return
	}
	if s.JSON {
		s.write(readyLine{"ready", s.webhook, r.CopyOf, r.Secret, s.forward, r.Events})
	} else {
		t := new(sheet)
		t.add("forwarding to", s.forward)
		t.add("events", strings.Join(r.Events, ", "))
		t.add("webhook", s.webhook)
		t.add("copy of", r.CopyOf)
		t.add("secret", r.Secret)
		t.write(s.on)
		fmt.Fprintln(s.on)
	}
	switch {
	case r.CopyOf != "":
		s.p.say("deliveries are signed with the secret of the webhook that is copied, which goes on getting its own")
	case r.Secret == "":
		s.p.say("attached to a temporary webhook that was made before: its secret is the one shown then")
	}
	if r.Status != "active" {
		s.p.say("the webhook is %s: nothing is delivered until it is active again", plain(r.Status))
	}
	if s.Replay != "" {
		s.replay()
	}
}

func (s *listening) replay() {
	body := encoded(map[string]string{"target": "relay", "webhook_id": s.webhook})
	_, err := s.c.call(s.ctx(), request{method: "POST", path: entryPath(s.Replay) + "/redeliver", query: s.add(url.Values{}), body: body})
	if err != nil {
		s.failed = err
		s.stop()
	}
}

// Away says once that the session is lost.
func (s *listening) Away(err error, _ time.Duration) {
	if s.away {
		return
	}
	s.away = true
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err
	}
	s.p.say("the session is lost (%v); coming back, deliveries wait on the server for %s", plain(err.Error()), span(s.hold))
}

// Standby says who gets the deliveries.
func (s *listening) Standby(on bool) {
	if on {
		s.p.say("another listener has attached to this webhook and gets its deliveries; this one waits")
	} else {
		s.p.say("this listener gets the deliveries again")
	}
}

// Delivered shows a delivery and how it ended.
func (s *listening) Delivered(r *postrider.Request, o *postrider.Outcome) (done bool) {
	named := func(name string) string { return r.Header.Get("X-" + s.brand + "-" + name) }
	d := deliveryLine{
		Type: "delivery", At: time.Now(), Event: named("Event"), EventID: named("Delivery"), Attempt: named("Attempt"), Status: "success",
		Duration: float64(o.Timings.Total.Microseconds()) / 1000,
	}
	if o.StatusCode != 0 {
		d.Code = &o.StatusCode
	}
	if !o.OK() {
		code := string(o.Failure)
		d.Status, d.ErrorCode, d.Error = "failure", &code, &o.Detail
	}
	if s.JSON {
		if s.PrintBody {
			sent, answered := string(r.Body), string(o.Response.Body)
			d.Headers, d.Body, d.Response = r.Header.Map(), &sent, &answered
		}
		s.write(d)
	} else {
		s.line(&d)
		if s.PrintBody {
			s.bodies(r, o)
		}
	}
	if d.Event != postrider.PingEvent {
		s.counted++
	}
	return s.Count > 0 && s.counted >= s.Count
}

func (s *listening) write(value any) { s.p.stdout.Write(bytes.TrimLeft(encoded(value), " ")) } //nolint:errcheck // as any other output

func (s *listening) line(d *deliveryLine) {
	style := styleOf(d.Status)
	result := or(d.Code, or(d.ErrorCode, d.Status))
	line := []string{
		s.on.styled(faint, d.At.Local().Format(time.TimeOnly)),
		padded(plain(d.Event), 24),
		s.on.styled(style, padded(result, 3)),
		padded(fmt.Sprintf("%.1f ms", d.Duration), 9),
		s.on.styled(faint, plain(d.EventID)),
	}
	if d.Attempt != "1" {
		line = append(line, s.on.styled(faint, "(try "+plain(d.Attempt)+")"))
	}
	if d.Error != nil {
		line = append(line, s.on.styled(style, plain(*d.Error)))
	}
	fmt.Fprintln(s.on, strings.Join(line, "  "))
}

// bodies shows both bodies, indented below the line.
func (s *listening) bodies(r *postrider.Request, o *postrider.Outcome) {
	for _, part := range []struct {
		mark string
		body []byte
	}{{"> ", r.Body}, {"< ", o.Response.Body}} {
		if len(part.body) == 0 {
			continue
		}
		for line := range strings.Lines(plainLines(readable(part.body))) {
			fmt.Fprintf(s.on, "    %s%s\n", s.on.styled(faint, part.mark), strings.TrimSuffix(line, "\n"))
		}
	}
}

// readable is JSON with its lines indented, for people; any other text stays.
func readable(body []byte) string {
	var text bytes.Buffer
	if json.Indent(&text, body, "", "  ") == nil {
		return text.String()
	}
	return string(body)
}

func padded(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}

// span is a duration without its zeros: 24h and not 24h0m0s.
func span(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = strings.TrimSuffix(text, zero[1:])
		}
	}
	return text
}
