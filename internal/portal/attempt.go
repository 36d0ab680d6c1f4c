package portal

import (
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"postrider"
)

type attemptPage struct {
	Attempt  postrider.Attempt
	State    state
	Advice   string
	Request  []headerLine
	Response []headerLine
	Sent     body
	Got      body
	Location string // where a redirect pointed: text, and never a link
	Webhook  *postrider.Webhook
	Curl     string
	Timing   []timing
	Again    bool // it can be sent again
}

func (p *Portal) showAttempt(v *visit) error {
	a, err := p.attempt(v)
	if err != nil {
		return err
	}
	data := attemptPage{
		Attempt: a, State: attemptState(&a), Advice: advice(&a), Request: headerLines(a.RequestHeader),
		Response: headerLines(a.Outcome.Response.Header), Timing: timingsOf(&a.Outcome.Timings), Curl: visible(curl(&a)),
		Sent: newBody(a.RequestBody, mediaType(a.RequestHeader), false),
		Got:  newBody(a.Outcome.Response.Body, mediaType(a.Outcome.Response.Header), a.Outcome.Response.Truncated),
	}
	if a.Outcome.Failure == postrider.FailRedirect {
		data.Location = visible(a.Outcome.Response.Header.Get("Location"))
	}
	if w, err := p.o.Webhooks.Webhook(v.tenant, a.WebhookID); err == nil {
		data.Webhook, data.Again = &w, true
	}
	return p.show(v, "attempt", "Attempt", data)
}

func (p *Portal) attempt(v *visit) (postrider.Attempt, error) {
	id, err := v.id("log entry")
	if err != nil {
		return postrider.Attempt{}, err
	}
	return p.o.History.Attempt(v.r.Context(), v.tenant, id)
}

func mediaType(h postrider.Header) string { return strings.ToLower(h.Get("Content-Type")) }

// advice is what to do about a failure, beyond what the attempt itself says.
func advice(a *postrider.Attempt) string {
	o := &a.Outcome
	switch o.Failure {
	case "":
		return ""
	case postrider.FailExpired:
		return "Mend the receiver, then send this delivery again."
	case postrider.FailRelayLost:
		return "Nothing is to be done: the delivery waits for the next listener."
	case postrider.FailDNS:
		return "Check the host name in the webhook's URL, and that its DNS record is public."
	case postrider.FailConnectRefused, postrider.FailConnect:
		return "Nothing listens at this address and port. Check that your server runs and that the URL has the right port."
	case postrider.FailConnectTimeout:
		return "Packets to this address get no answer. A firewall that drops them is the usual reason: let the sender in."
	case postrider.FailTLSExpired:
		return "Renew the certificate of your server, then send this delivery again."
	case postrider.FailTLSHostname:
		return "The certificate is for another name. Use a host name that it covers, or get one that covers this host."
	case postrider.FailTLSUntrusted, postrider.FailTLS:
		return "Have your server send its certificate with all intermediate ones. For a test, a webhook can be told not to verify."
	case postrider.FailTimeout:
		return "Answer first and work later: put the event in a queue and answer 2xx at once."
	case postrider.FailReset:
		return "Your server, or a proxy before it, closed the connection before it answered. Its own log says why."
	case postrider.FailRedirect:
		return "Redirects are never followed. Point the webhook at the final address."
	case postrider.FailBlocked:
		return "Webhooks may not point into private networks. Use an address that is reachable from the internet."
	case postrider.FailProtocol, postrider.FailTooLarge:
		return "What came back is no HTTP that can be understood. Check that the port speaks HTTP, and http or https as the URL says."
	case postrider.FailHTTP4xx:
		return adviceFor4xx(o.StatusCode)
	case postrider.FailHTTP5xx:
		return "Your server reports a fault of its own. Its log of this moment says which; the response below may, too."
	case postrider.FailCancelled, postrider.FailUnsendable:
	}
	return ""
}

func adviceFor4xx(code int) string {
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden:
		return "Your server refused the request. If it checks the signature, try the signature debugger; if it wants " +
			"credentials, add them as a header of the webhook."
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return "Nothing takes a POST at this path. Check the path of the webhook's URL against your server's routes."
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return "Your server asks to be sent less at a time. Deliveries slow down by themselves and are sent again."
	case http.StatusGone:
		return "410 means that no more deliveries are wanted, so the webhook was switched off. Switch it on to go on."
	case http.StatusRequestEntityTooLarge:
		return "The body is larger than your server takes. Raise its limit."
	case http.StatusUnsupportedMediaType, http.StatusBadRequest, http.StatusUnprocessableEntity:
		return "Your server could not read the body. Check the webhook's content type against what the server parses."
	}
	return "Your server did not accept the request. The response below may say why."
}

// A timing is one part of an attempt's time.
type timing struct {
	Name  string
	Class string
	Took  time.Duration
}

func timingsOf(t *postrider.Timings) []timing {
	rest := t.Total - t.DNS - t.Connect - t.TLS - t.FirstByte
	return []timing{
		{"DNS", "t1", t.DNS},
		{"Connect", "t2", t.Connect},
		{"TLS", "t3", t.TLS},
		{"First byte", "t4", t.FirstByte},
		{"Rest", "t5", max(0, rest)},
	}
}

// TimingBar draws the parts in proportion. Sizes are attributes, since the
// policy allows no styles inside the page.
func (d attemptPage) TimingBar() template.HTML {
	var sum time.Duration
	for _, t := range d.Timing {
		sum += t.Took
	}
	if sum == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(`<svg class="timing" viewBox="0 0 1000 12" preserveAspectRatio="none" width="1000" height="12" aria-hidden="true">`)
	x := 0.0
	for _, t := range d.Timing {
		if t.Took == 0 {
			continue
		}
		width := float64(t.Took) / float64(sum) * 1000
		fmt.Fprintf(&b, `<rect class="%s" x="%.1f" y="0" width="%.1f" height="12"/>`, t.Class, x, max(2, width))
		x += width
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // numbers and fixed words
}

// curl is a command that sends the same request again. Masked values stand for
// themselves: whoever has them puts them in.
func curl(a *postrider.Attempt) string {
	var b strings.Builder
	b.WriteString("curl -i -X POST " + quote(a.URL))
	for _, field := range a.RequestHeader {
		b.WriteString(" \\\n  -H " + quote(field.Name+": "+field.Value))
	}
	if len(a.RequestBody) > 0 && len(a.RequestBody) <= 32<<10 {
		b.WriteString(" \\\n  --data-binary " + quote(string(a.RequestBody)))
	} else if len(a.RequestBody) > 0 {
		b.WriteString(" \\\n  --data-binary @request-body")
	}
	return b.String()
}

// quote is for a POSIX shell. A leading @ would have curl read a file; the
// bodies that are sent are JSON or a form and never begin with one.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// downloadBody gives a body as it is. A browser is told not to take it for
// anything but a file.
func (p *Portal) downloadBody(v *visit) error {
	a, err := p.attempt(v)
	if err != nil {
		return err
	}
	part := v.r.PathValue("part")
	content := a.RequestBody
	switch part {
	case "request":
	case "response":
		content = a.Outcome.Response.Body
	default:
		return postrider.Missing("page")
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("Content-Disposition", `attachment; filename="`+part+"-"+a.ID.String()+`.txt"`)
	v.w.Write(content) //nolint:errcheck // the visitor is gone: there is nobody to tell
	return nil
}

func (p *Portal) redeliver(v *visit) error {
	id, err := v.id("log entry")
	if err != nil {
		return err
	}
	again, err := p.o.Publisher.Redeliver(v.r.Context(), v.tenant, id, postrider.ID{})
	if e, found := shown(err); found && e.Kind == postrider.Conflict {
		p.say(v, flash{Text: e.Detail, Bad: true})
		return v.redirect(v.base + "/logs/" + id.String())
	}
	if err != nil {
		return err
	}
	p.say(v, flash{Text: "The delivery is being sent again. Its attempts stand below, the newest first."})
	return v.redirect(v.base + "/events/" + again.EventID + "?live=1")
}

// prettyJSON is indented when it is JSON, else as it is.
func prettyJSON(text []byte) string {
	var value json.RawMessage
	if json.Unmarshal(text, &value) != nil {
		return visible(string(text))
	}
	return newBody(text, "", false).Pretty
}
