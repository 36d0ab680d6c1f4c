package portal

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"postrider"
)

// A webhookForm is the form of a webhook: what was typed, and what is wrong
// with it.
type webhookForm struct {
	ID          postrider.ID // zero: a new one
	URL         string
	Description string
	ContentType string
	All         bool     // every event
	Events      []string // those chosen from the catalogue
	Patterns    string   // further ones, typed, one a line
	SecretMode  string   // keep, generate, own or none
	Secret      string
	HasSecret   bool
	Grace       string // for how long a secret that is replaced signs along
	Headers     string // "Name: value", one a line
	Timeout     string // seconds
	Schedule    string // waits with commas; empty: the default
	RateLimit   string // attempts a second; empty: no limit
	MaxInFlight string // attempts at once; empty: the default
	Ordered     bool
	InsecureSSL bool
	Active      bool

	Catalogue []postrider.EventType
	Errors    map[string]string // by field; "" is the form as a whole
	Advanced  bool              // the folded part is open
	Defaults  struct {
		Timeout  time.Duration
		Schedule []string
	}
}

// Chosen reports whether an event type is ticked.
func (f *webhookForm) Chosen(name string) bool { return slices.Contains(f.Events, name) }

// Graces are the choices of how long an old secret signs along.
func (f *webhookForm) Graces() []option {
	return []option{{"24h", "a day"}, {"1h", "an hour"}, {"168h", "a week"}, {"0s", "no longer"}}
}

// New reports whether the form makes a webhook.
func (f *webhookForm) New() bool { return f.ID.IsZero() }

func (p *Portal) newForm() *webhookForm {
	f := &webhookForm{Errors: map[string]string{}}
	f.Catalogue, _ = p.o.Catalogue.EventTypes("", maxCatalogue)
	f.Defaults.Timeout, f.Defaults.Schedule = p.o.Timeout, waits(p.o.RetrySchedule)
	return f
}

func (p *Portal) newWebhook(v *visit) error {
	f := p.newForm()
	f.ContentType, f.SecretMode, f.Active = string(postrider.JSON), "generate", true
	f.All = len(f.Catalogue) == 0
	if event := v.r.FormValue("event"); event != "" {
		if _, err := p.o.Catalogue.EventType(event); err == nil {
			f.Events = []string{event}
		}
	}
	return p.show(v, "form", "New webhook", f)
}

func (p *Portal) editWebhook(v *visit) error {
	w, err := p.webhook(v)
	if err != nil {
		return err
	}
	f := p.newForm()
	f.fill(&w)
	return p.show(v, "form", "Edit webhook", f)
}

// fill shows a webhook as it is. What is secret stays so.
func (f *webhookForm) fill(w *postrider.Webhook) {
	f.ID, f.URL, f.Description, f.ContentType = w.ID, w.URL, w.Description, string(w.ContentType)
	f.SecretMode, f.HasSecret = "keep", w.Secret != ""
	f.InsecureSSL, f.Active = w.InsecureSSL, w.Active
	var typed []string
	for _, pattern := range w.Events {
		inCatalogue := slices.ContainsFunc(f.Catalogue, func(t postrider.EventType) bool { return t.Name == pattern })
		switch {
		case pattern == "*":
			f.All = true
		case inCatalogue:
			f.Events = append(f.Events, pattern)
		default:
			typed = append(typed, pattern)
		}
	}
	f.Patterns = strings.Join(typed, "\n")
	var lines []string
	for _, line := range maskedHeaders(w.Headers) {
		lines = append(lines, line.Name+": "+line.Value)
	}
	f.Headers = strings.Join(lines, "\n")
	if w.Timeout != 0 {
		f.Timeout = trimZero(w.Timeout.Seconds())
	}
	if w.RetrySchedule != nil {
		f.Schedule = cmp.Or(formatSchedule(w.RetrySchedule), "none")
	}
	if w.RateLimit != 0 {
		f.RateLimit = strconv.FormatFloat(w.RateLimit, 'f', -1, 64)
	}
	if w.MaxInFlight != 0 {
		f.MaxInFlight = strconv.Itoa(w.MaxInFlight)
	}
	f.Ordered = w.Ordered
	f.unfold()
}

// unfold opens the folded part when something in it is set.
func (f *webhookForm) unfold() {
	f.Advanced = f.Headers != "" || f.Timeout != "" || f.Schedule != "" || f.RateLimit != "" || f.MaxInFlight != "" ||
		f.Ordered || f.InsecureSSL
}

func formatSchedule(schedule []time.Duration) string {
	list := make([]string, len(schedule))
	for i, wait := range schedule {
		text := strings.TrimSuffix(wait.String(), "m0s")
		if len(text) != len(wait.String()) {
			text = strings.TrimSuffix(text+"m", "h0m")
			if !strings.HasSuffix(text, "m") {
				text += "h"
			}
		}
		list[i] = text
	}
	return strings.Join(list, ", ")
}

// maskedHeaders are a webhook's own headers, without what may be a credential.
func maskedHeaders(headers map[string]string) []headerLine {
	var lines []headerLine
	for name, value := range headers {
		if postrider.SensitiveHeader(name) {
			value = postrider.Masked
		}
		lines = append(lines, headerLine{name, value})
	}
	slices.SortFunc(lines, func(a, b headerLine) int { return strings.Compare(a.Name, b.Name) })
	return lines
}

// read takes what was typed.
func (f *webhookForm) read(r *http.Request) {
	value := func(name string) string { return strings.TrimSpace(r.PostFormValue(name)) }
	f.URL, f.Description, f.ContentType = value("url"), value("description"), value("content_type")
	f.All, f.Events, f.Patterns = value("all") == "true", r.PostForm["events"], value("patterns")
	f.SecretMode, f.Secret, f.Grace = value("secret_mode"), value("secret"), value("grace")
	f.Headers, f.Timeout, f.Schedule = value("headers"), value("timeout_seconds"), value("retry_schedule")
	f.RateLimit, f.MaxInFlight, f.Ordered = value("rate_limit"), value("max_in_flight"), value("ordered") == "true"
	f.InsecureSSL, f.Active = value("insecure_ssl") == "true", value("active") == "true"
	f.unfold()
}

// apply changes a webhook to what was typed. It returns the secret when there
// is a new one, and notes what cannot be read.
func (f *webhookForm) apply(w *postrider.Webhook) (secret postrider.Secret) {
	w.URL, w.Description, w.ContentType = f.URL, f.Description, postrider.ContentType(f.ContentType)
	w.InsecureSSL, w.Events = f.InsecureSSL, f.patterns()
	if w.Active = f.Active; f.Active {
		w.Disabled = nil
	}
	switch f.SecretMode {
	case "generate":
		secret = postrider.NewSecret()
		w.Rotate(secret, f.grace(), time.Now())
	case "own":
		if secret = postrider.Secret(f.Secret); secret == "" {
			f.Errors["secret"] = "Type a secret of 8 to 256 characters, or choose one of the other options."
		} else {
			w.Rotate(secret, f.grace(), time.Now())
		}
	case "none":
		w.Rotate("", 0, time.Now())
	}
	w.Headers = f.headers(w.Headers)
	w.Timeout = time.Duration(f.number("timeout_seconds", f.Timeout, "Write a number of seconds, such as 10.") * float64(time.Second))
	w.RateLimit = f.number("rate_limit", f.RateLimit, "Write a number of attempts a second, such as 5 or 0.5.")
	w.MaxInFlight = int(f.number("max_in_flight", f.MaxInFlight, "Write a whole number, such as 4."))
	w.RetrySchedule, w.Ordered = f.schedule(), f.Ordered
	return secret
}

// grace is how long an old secret signs along; what is no choice ends it at
// once.
func (f *webhookForm) grace() time.Duration {
	grace, err := time.ParseDuration(f.Grace)
	if err != nil || grace < 0 || grace > postrider.MaxGrace {
		return 0
	}
	return grace
}

// number reads a number that is not given as 0, which stands for the default.
func (f *webhookForm) number(field, text, help string) float64 {
	if text == "" {
		return 0
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n >= 0 && n < 1e6) {
		f.Errors[field] = help
		return 0
	}
	return n
}

func (f *webhookForm) patterns() []string {
	if f.All {
		return []string{"*"}
	}
	list := slices.Clone(f.Events)
	for pattern := range strings.FieldsFuncSeq(f.Patterns, func(r rune) bool { return r == ',' || r <= ' ' }) {
		if !slices.Contains(list, pattern) {
			list = append(list, pattern)
		}
	}
	return list
}

// headers reads lines. A masked value stands for what it was.
func (f *webhookForm) headers(old map[string]string) map[string]string {
	if f.Headers == "" {
		return nil
	}
	headers := map[string]string{}
	for line := range strings.Lines(f.Headers) {
		name, value, found := strings.Cut(strings.TrimSpace(line), ":")
		if strings.TrimSpace(line) == "" {
			continue
		}
		if !found {
			f.Errors["headers"] = "Write one header a line, as Name: value."
			continue
		}
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if value == postrider.Masked {
			value = old[name]
		}
		headers[name] = value
	}
	return headers
}

func (f *webhookForm) schedule() []time.Duration {
	switch strings.ToLower(f.Schedule) {
	case "":
		return nil
	case "none":
		return []time.Duration{}
	}
	list := []time.Duration{}
	for text := range strings.FieldsFuncSeq(f.Schedule, func(r rune) bool { return r == ',' || r <= ' ' }) {
		wait, err := time.ParseDuration(text)
		if err != nil {
			f.Errors["retry_schedule"] = "Write waits such as 5s, 5m, 2h with commas between, or none."
			return nil
		}
		list = append(list, wait)
	}
	return list
}

// blame puts an error beside the fields that it is about; reported tells that
// there was one to show.
func (f *webhookForm) blame(err error) (reported bool) {
	e, found := shown(err)
	if !found {
		return false
	}
	faults := e.Fields
	if len(faults) == 0 {
		faults = []postrider.FieldError{{Field: e.Field, Code: e.Code, Detail: e.Detail}}
	}
	for _, fault := range faults {
		field := fault.Field
		if at := strings.IndexAny(field, ".["); at >= 0 {
			field = field[:at]
		}
		detail := fault.Detail
		if field == "headers" && len(fault.Field) > len(field)+1 {
			detail = fault.Field[len(field)+1:] + ": " + detail
		}
		if field == "events" && len(f.patterns()) == 0 {
			detail = "Choose at least one event, or all of them."
		}
		if f.Errors[field] == "" {
			f.Errors[field] = detail
		}
	}
	for _, field := range []string{"headers", "timeout_seconds", "retry_schedule", "rate_limit", "max_in_flight"} {
		f.Advanced = f.Advanced || f.Errors[field] != ""
	}
	return true
}

// shown is the error when it may be shown.
func shown(err error) (*postrider.Error, bool) {
	e, found := errors.AsType[*postrider.Error](err)
	return e, found
}

// checkWebhook judges one field while the form is filled in.
func (p *Portal) checkWebhook(v *visit) error {
	f := p.newForm()
	f.read(v.r)
	var w postrider.Webhook
	if f.apply(&w); f.SecretMode == "keep" {
		w.Secret = ""
	}
	f.blame(w.Check())
	if f.URL != "" && p.o.CheckURL != nil {
		f.blame(p.o.CheckURL("url", f.URL))
	}
	field := v.r.Header.Get("HX-Trigger-Name")
	switch field {
	case "patterns", "all":
		field = "events"
	case "secret_mode":
		field, f.Errors["secret"] = "secret", "" // what is to be typed is not there yet
	}
	p.render(v, http.StatusOK, "form", "field-error-alone", "", fieldError{field, f.Errors[field]})
	return nil
}

type fieldError struct{ Field, Text string }

// Error is what is wrong with a field, for the template.
func (f *webhookForm) Error(field string) fieldError { return fieldError{field, f.Errors[field]} }

func (p *Portal) createWebhook(v *visit) error {
	f := p.newForm()
	f.read(v.r)
	w := postrider.Webhook{Tenant: v.tenant}
	secret := f.apply(&w)
	if len(f.Errors) > 0 {
		f.blame(w.Check())
		return p.refill(v, f)
	}
	made, err := p.o.Webhooks.CreateWebhook(v.r.Context(), w)
	if f.blame(err) {
		return p.refill(v, f)
	}
	if err != nil {
		return err
	}
	p.say(v, f.made("The webhook is there. A ping is on its way to it.", secret))
	return v.redirect(v.base + "/webhooks/" + made.ID.String() + "?live=1")
}

// made says what was done, with the secret when its owner has not seen it yet.
func (f *webhookForm) made(text string, secret postrider.Secret) flash {
	if f.SecretMode != "generate" {
		return flash{Text: text}
	}
	return flash{Text: text, Secret: string(secret), Label: "Signing secret"}
}

func (p *Portal) refill(v *visit, f *webhookForm) error {
	title := "New webhook"
	if !f.New() {
		title = "Edit webhook"
	}
	p.render(v, http.StatusUnprocessableEntity, "form", "", title, f)
	return nil
}

func (p *Portal) updateWebhook(v *visit) error {
	before, err := p.webhook(v)
	if err != nil {
		return err
	}
	f := p.newForm()
	f.ID, f.HasSecret = before.ID, before.Secret != ""
	f.read(v.r)
	after := before
	secret := f.apply(&after)
	if len(f.Errors) > 0 {
		f.blame(after.Check())
		return p.refill(v, f)
	}
	mode := f.SecretMode
	if secret != "" {
		f.SecretMode, f.Secret = "own", string(secret) // the one that was made above, and no other
	}
	_, err = p.o.Webhooks.UpdateWebhook(v.r.Context(), v.tenant, before.ID, func(w *postrider.Webhook) { f.apply(w) })
	f.SecretMode, f.Secret = mode, ""
	if f.blame(err) {
		return p.refill(v, f)
	}
	if err != nil {
		return err
	}
	p.say(v, f.made("Saved. Attempts from now on use the new settings.", secret))
	return v.redirect(v.base + "/webhooks/" + before.ID.String())
}
