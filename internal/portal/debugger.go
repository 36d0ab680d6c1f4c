package portal

import (
	"errors"
	"net/http"
	"time"

	"postrider"
	"postrider/signature"
)

type debuggerPage struct {
	Headers  string
	Body     string
	Verdicts []verdict
}

// showDebugger is empty, or filled with what an attempt sent.
func (p *Portal) showDebugger(v *visit) error {
	var data debuggerPage
	if id, err := postrider.ParseID(v.r.FormValue("attempt")); err == nil {
		a, err := p.o.History.Attempt(v.r.Context(), v.tenant, id)
		if err != nil {
			return err
		}
		for _, line := range headerLines(a.RequestHeader) {
			data.Headers += line.Name + ": " + line.Value + "\n"
		}
		data.Body = string(a.RequestBody)
	}
	return p.show(v, "debugger", "Signature debugger", data)
}

// debug judges what was pasted. Nothing of it is kept, and the secret is not
// sent back.
func (p *Portal) debug(v *visit) error {
	data := debuggerPage{Headers: v.r.PostFormValue("headers"), Body: v.r.PostFormValue("body")}
	s := suspect{
		brand: p.o.Brand, header: parseHeaders(data.Headers), body: []byte(data.Body), secret: v.r.PostFormValue("secret"),
		now: time.Now(),
	}
	if err := p.recall(v, &s); err != nil {
		return err
	}
	data.Verdicts = s.diagnose()
	p.render(v, http.StatusOK, "debugger", partOf(v, "verdicts"), "Signature debugger", data)
	return nil
}

// recall looks the request up in the tenant's own log, by what its headers
// say.
func (p *Portal) recall(v *visit, s *suspect) error {
	if id, err := postrider.ParseID(s.header.Get(p.headerName("Hook-ID"))); err == nil {
		if w, err := p.o.Webhooks.Webhook(v.tenant, id); err == nil {
			s.webhook = &w
		}
	}
	id := s.header.Get(signature.HeaderID)
	if id == "" {
		id = s.header.Get(p.headerName("Delivery"))
	}
	if postrider.CheckEventID("id", id) != nil {
		return nil //nolint:nilerr // without an event there is less to compare with
	}
	event, _, err := p.o.History.Event(v.r.Context(), v.tenant, id)
	if e, found := errors.AsType[*postrider.Error](err); found && e.Kind == postrider.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	s.event = &event
	return nil
}
