package portal

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"
	"unicode/utf8"

	"postrider"
)

// pageSize is how many rows a list shows at once.
const pageSize = 30

type webhooksPage struct {
	Rows []hookRow
	Next string // link to the next page; empty on the last
}

func (p *Portal) listWebhooks(v *visit) error {
	before, err := cursor(v)
	if err != nil {
		return err
	}
	webhooks, more := p.o.Webhooks.Webhooks(v.tenant, before, pageSize)
	rows, err := p.hookRows(v.r.Context(), v.tenant, webhooks)
	if err != nil {
		return err
	}
	data := webhooksPage{Rows: rows}
	if more {
		data.Next = v.base + "/webhooks?before=" + webhooks[len(webhooks)-1].ID.String()
	}
	if v.partial() {
		p.render(v, http.StatusOK, "webhooks", "webhook-rows", "", data)
		return nil
	}
	return p.show(v, "webhooks", "Webhooks", data)
}

// cursor is where a page of a list starts. It is a bare id, since every list
// is read with its tenant: another one's id shows nothing of theirs.
func cursor(v *visit) (id postrider.ID, err error) {
	text := v.r.FormValue("before")
	if text == "" {
		return id, nil
	}
	if id, err = postrider.ParseID(text); err != nil {
		return id, postrider.Missing("page")
	}
	return id, nil
}

type webhookPage struct {
	Webhook  *postrider.Webhook
	State    state
	Chart    *chart
	Lane     *LaneState
	Evidence *postrider.Attempt // the last attempt, when it explains why nothing is sent
	Logs     []logRow
	More     bool
	Ping     pingForm
	Headers  []headerLine
}

type pingForm struct {
	Payload string
	Error   string
}

func (p *Portal) showWebhook(v *visit) error { return p.webhookPage(v, http.StatusOK, pingForm{}) }

func (p *Portal) webhookPage(v *visit, status int, ping pingForm) error {
	w, err := p.webhook(v)
	if err != nil {
		return err
	}
	ctx := v.r.Context()
	data := webhookPage{Webhook: &w, Ping: ping, Headers: maskedHeaders(w.Headers)}
	if data.Chart, err = p.chart(ctx, v.tenant, w.ID, v.r.FormValue("span")); err != nil {
		return err
	}
	found, err := p.o.History.Attempts(ctx, postrider.AttemptFilter{Tenant: v.tenant, WebhookID: w.ID, Limit: 10})
	if err != nil {
		return err
	}
	data.Logs, data.More = p.logRows(v, found.Attempts), !found.Next.IsZero()
	var last *postrider.Attempt
	if len(found.Attempts) > 0 {
		last = &found.Attempts[0]
	}
	if data.State = stateOf(&w, last); last != nil && last.Status == postrider.AttemptFailure {
		data.Evidence = last
	}
	if p.o.Lanes != nil {
		if lane, known := p.o.Lanes.Lane(w.ID); known {
			data.Lane = &lane
		}
	}
	p.render(v, status, "webhook", "", hostOf(w.URL), data)
	return nil
}

// webhook is the one that the path names, of the tenant that the path names.
func (p *Portal) webhook(v *visit) (postrider.Webhook, error) {
	id, err := v.id("webhook")
	if err != nil {
		return postrider.Webhook{}, err
	}
	return p.o.Webhooks.Webhook(v.tenant, id)
}

// pingWebhook sends a ping with the payload that was typed, byte by byte, or
// with the default one.
func (p *Portal) pingWebhook(v *visit) error {
	w, err := p.webhook(v)
	if err != nil {
		return err
	}
	ping := pingForm{Payload: v.r.PostFormValue("payload")}
	var payload []byte
	// A browser sends each line break of a text area as CR LF. No JSON text
	// holds one inside a string, so that nothing is lost by undoing it.
	if text := bytes.TrimSpace(bytes.ReplaceAll([]byte(ping.Payload), []byte("\r\n"), []byte("\n"))); len(text) > 0 {
		payload = text
		if !utf8.Valid(text) || !json.Valid(text) {
			ping.Error = "This is no JSON: " + jsonFault(text)
			return p.webhookPage(v, http.StatusUnprocessableEntity, ping)
		}
	}
	sent, err := p.o.Publisher.PingWebhook(v.r.Context(), v.tenant, w.ID, payload)
	if e, found := shown(err); found && e.Kind == postrider.Conflict {
		p.say(v, flash{Text: "The webhook is not sending, so no ping was sent. Switch it on first.", Bad: true})
		return v.redirect(v.base + "/webhooks/" + w.ID.String())
	} else if found {
		ping.Error = e.Detail
		return p.webhookPage(v, http.StatusUnprocessableEntity, ping)
	}
	if err != nil {
		return err
	}
	p.say(v, flash{Text: "Ping sent. Its attempt appears below within moments."})
	_ = sent
	return v.redirect(v.base + "/webhooks/" + w.ID.String() + "?live=1#logs")
}

func jsonFault(text []byte) string {
	var any json.RawMessage
	if err := json.Unmarshal(text, &any); err != nil {
		return err.Error() + "."
	}
	return "it holds bytes that are not UTF-8."
}

// switchWebhook is the partner's own switch. Switching on also takes back what
// the system has switched off.
func (p *Portal) switchWebhook(v *visit) error {
	w, err := p.webhook(v)
	if err != nil {
		return err
	}
	on := v.r.PostFormValue("active") == "true"
	_, err = p.o.Webhooks.UpdateWebhook(v.r.Context(), v.tenant, w.ID, func(w *postrider.Webhook) {
		if w.Active = on; on {
			w.Disabled = nil
		}
	})
	if err != nil {
		return err
	}
	text := "Paused. Events are held, and sent when you switch the webhook on again."
	if on {
		text = "Switched on. What was held is being sent."
	}
	p.say(v, flash{Text: text})
	return v.redirect(v.base + "/webhooks/" + w.ID.String())
}

type deletePage struct{ Webhook postrider.Webhook }

func (p *Portal) askDelete(v *visit) error {
	w, err := p.webhook(v)
	if err != nil {
		return err
	}
	return p.show(v, "delete", "Delete webhook", deletePage{w})
}

func (p *Portal) deleteWebhook(v *visit) error {
	id, err := v.id("webhook")
	if err != nil {
		return err
	}
	if err := p.o.Webhooks.DeleteWebhook(v.r.Context(), v.tenant, id); err != nil {
		return err
	}
	p.say(v, flash{Text: "The webhook is deleted. What was still to be sent is cancelled; its logs stay."})
	return v.redirect(v.base + "/webhooks")
}

// Every is a wait in words, for lists of them.
func waits(schedule []time.Duration) []string {
	list := make([]string, len(schedule))
	for i, wait := range schedule {
		list[i] = duration(wait)
	}
	return list
}
