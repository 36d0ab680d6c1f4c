package api

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"postrider"
)

// Webhook is a webhook as the API shows it. The secret is no part of it. It is
// exported because huma passes over embedded types that are not.
type Webhook struct {
	ID             postrider.ID      `json:"id" format:"uuid" example:"0195b3f4-8c1e-7a52-9d3b-6f2a41c0e7d8"`
	Tenant         string            `json:"tenant" doc:"Whose webhook it is." example:"default"`
	URL            string            `json:"url" doc:"Where deliveries are sent." example:"https://partner.example/callback"`
	ContentType    string            `json:"content_type" enum:"application/json,application/x-www-form-urlencoded" doc:"How the payload travels: as the body, or as the form's field payload."`
	Events         []string          `json:"events" nullable:"false" doc:"The event types and patterns subscribed to." example:"[\"room_status.*\"]"`
	Active         bool              `json:"active" doc:"The partner's switch. While it is off, deliveries are held."`
	Description    string            `json:"description" example:"Room status for the front desk"`
	Headers        map[string]string `json:"headers" doc:"Sent with every delivery. The values of headers that carry credentials are shown as [redacted]."`
	InsecureSSL    bool              `json:"insecure_ssl" doc:"Whether the receiver's certificate is left unverified." example:"false"`
	TimeoutSeconds *float64          `json:"timeout_seconds" doc:"The total time of one attempt; null is the server's default." example:"15"`
	RetrySchedule  *[]float64        `json:"retry_schedule" doc:"The wait before each retry in seconds; null is the server's default, [] means no retries." example:"[5, 300, 1800]"`
	MaxInFlight    *int              `json:"max_in_flight" doc:"How many attempts are on the wire at once at most; null is the server's default." example:"16"`
	RateLimit      *float64          `json:"rate_limit" doc:"How many attempts start in a second at most; null means no limit." example:"50"`
	Ordered        bool              `json:"ordered" doc:"Whether deliveries go out one at a time, in the order in which events were accepted: the next one only once the one before has succeeded or ended." example:"false"`
	HasSecret      bool              `json:"has_secret" doc:"Whether deliveries are signed."`
	PreviousUntil  *instant          `json:"previous_secret_expires_at" nullable:"true" doc:"Until when a secret that was rotated out signs along; null when none does."`
	Status         string            `json:"status" enum:"active,inactive,disabled,paused" doc:"inactive: switched off by its partner. disabled: switched off by the system, see disabled_reason. paused: held back by the operator. While it is not active, deliveries are held."`
	DisabledReason *string           `json:"disabled_reason" doc:"Why the system disabled it; null while it is not."`
	FailingSince   *instant          `json:"failing_since" nullable:"true" doc:"Since when every attempt has failed; null when the last one succeeded."`
	LastAttempt    *lastAttempt      `json:"last_attempt" doc:"The newest attempt; null before the first."`
	CreatedAt      instant           `json:"created_at"`
	UpdatedAt      instant           `json:"updated_at"`
}

// lastAttempt is the newest attempt of a webhook or delivery, in short.
type lastAttempt struct {
	ID         postrider.ID `json:"id" format:"uuid" doc:"The log entry's id."`
	At         instant      `json:"at"`
	Status     string       `json:"status" enum:"success,failure,cancelled"`
	StatusCode *int         `json:"status_code" doc:"null when no answer came." example:"200"`
	ErrorCode  *string      `json:"error_code" doc:"null on success."`
}

// TransformSchema says that last_attempt can be null, which huma cannot say of
// a type that has a schema of its own.
func (*Webhook) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	nullable(s, "last_attempt")
	return s
}

func nullable(s *huma.Schema, field string) {
	was := s.Properties[field]
	s.Properties[field] = &huma.Schema{
		Description: was.Description,
		AnyOf:       []*huma.Schema{{Ref: was.Ref}, {Type: "null"}},
	}
}

// createdWebhook is the answer to a creation.
type createdWebhook struct {
	Webhook
	Secret string `json:"secret,omitempty" doc:"The generated secret, when generate_secret asked for one. It is shown this once." example:"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"`
}

type newWebhook struct {
	Tenant         string              `json:"tenant" required:"false" doc:"The operator's key: whose webhook it becomes, default when absent."`
	URL            *string             `json:"url" nullable:"false" maxLength:"2048" doc:"Where deliveries are sent: http or https, a public address." example:"https://partner.example/callback"`
	Events         []string            `json:"events" nullable:"false" minItems:"1" maxItems:"100" doc:"Event types such as room_status.updated, patterns such as room_status.*, or * for all." example:"[\"room_status.*\"]"`
	ContentType    optional[string]    `json:"content_type" required:"false" enum:"application/json,application/x-www-form-urlencoded" doc:"Default application/json: the payload is the body. application/x-www-form-urlencoded: it is the form's field payload."`
	Secret         optional[string]    `json:"secret" required:"false" minLength:"8" maxLength:"256" doc:"Signs deliveries. Printable characters; after whsec_, base64. Absent or null: deliveries are not signed." example:"a long and random text"`
	GenerateSecret bool                `json:"generate_secret" required:"false" doc:"Makes a secret and shows it once, in this answer. Not together with secret."`
	Active         optional[bool]      `json:"active" required:"false" doc:"Default true. While false, deliveries are held."`
	Description    optional[string]    `json:"description" required:"false" maxLength:"1000" doc:"For people." example:"Room status for the front desk"`
	Headers        map[string]string   `json:"headers" required:"false" maxProperties:"20" doc:"Sent with every delivery; those that HTTP or the sender sets are refused." example:"{\"X-Env\": \"production\"}"`
	InsecureSSL    bool                `json:"insecure_ssl" required:"false" doc:"Does not verify the receiver's certificate."`
	TimeoutSeconds optional[float64]   `json:"timeout_seconds" required:"false" minimum:"1" maximum:"30" doc:"The total time of one attempt. Absent or null: the server's default." example:"15"`
	RetrySchedule  optional[[]float64] `json:"retry_schedule" required:"false" maxItems:"30" doc:"The wait before each retry in seconds, each 0 to 604800. Absent or null: the server's default; []: no retries." example:"[5, 300, 1800]"`
	MaxInFlight    optional[int]       `json:"max_in_flight" required:"false" minimum:"1" maximum:"256" doc:"How many attempts are on the wire at once at most. Absent or null: the server's default." example:"16"`
	RateLimit      optional[float64]   `json:"rate_limit" required:"false" maximum:"10000" doc:"How many attempts start in a second at most; 0.5 is one in two seconds, and one in an hour is the least. Absent or null: no limit." example:"50"`
	Ordered        bool                `json:"ordered" required:"false" doc:"Sends one delivery at a time, in the order in which events were accepted. One that fails holds up those behind it until its schedule ends."`
}

// build makes the webhook that was asked for. What the registry checks is not
// checked here.
func (n *newWebhook) build(tenant string) (w postrider.Webhook, generated string, err error) {
	var faults postrider.Faults
	if n.URL == nil {
		faults.Add(required("url"))
	}
	if n.Events == nil {
		faults.Add(required("events"))
	}
	w = postrider.Webhook{
		Tenant: tenant, Events: n.Events, Active: true, ContentType: postrider.JSON,
		Description: n.Description.Value, Headers: n.Headers, InsecureSSL: n.InsecureSSL, Ordered: n.Ordered,
	}
	if n.URL != nil {
		w.URL = *n.URL
	}
	if n.ContentType.given() {
		w.ContentType = postrider.ContentType(n.ContentType.Value)
	}
	if n.Active.given() {
		w.Active = n.Active.Value
	}
	for _, name := range slices.Sorted(maps.Keys(n.Headers)) {
		faults.Add(checkNotMask(name, n.Headers[name]))
	}
	w.Timeout, err = timeoutOf(n.TimeoutSeconds)
	faults.Add(err)
	w.RetrySchedule = scheduleOf(n.RetrySchedule)
	w.MaxInFlight, err = maxInFlightOf(n.MaxInFlight)
	faults.Add(err)
	w.RateLimit, err = rateLimitOf(n.RateLimit)
	faults.Add(err)
	w.Secret, err = secretOf(n.Secret)
	faults.Add(err)
	if n.GenerateSecret {
		if n.Secret.given() {
			faults.Add(invalid("generate_secret", "conflicting_fields", "Give a secret or ask for one, not both."))
		}
		w.Secret = postrider.NewSecret()
		generated = string(w.Secret)
	}
	return w, generated, faults.Err()
}

// webhookPatch changes a webhook: absent keeps, null clears.
type webhookPatch struct {
	URL            optional[string]                      `json:"url" required:"false" nullable:"false" maxLength:"2048" doc:"Retries of pending deliveries go to the new URL." example:"https://partner.example/callback"`
	Events         optional[[]string]                    `json:"events" required:"false" nullable:"false" minItems:"1" maxItems:"100" doc:"Replaces the whole list." example:"[\"room_status.*\"]"`
	ContentType    optional[string]                      `json:"content_type" required:"false" nullable:"false" enum:"application/json,application/x-www-form-urlencoded"`
	Active         optional[bool]                        `json:"active" required:"false" nullable:"false" doc:"While false, deliveries are held. true also enables a webhook that the system disabled."`
	Secret         optional[string]                      `json:"secret" required:"false" minLength:"8" maxLength:"256" doc:"Replaces the secret at once; rotate_secret lets the old one sign along for a while. null removes it: deliveries are no longer signed."`
	Description    optional[string]                      `json:"description" required:"false" maxLength:"1000" doc:"null empties it."`
	Headers        optional[map[string]optional[string]] `json:"headers" required:"false" doc:"Merged by name: a value sets a header, null removes it, those not named stay. null for the whole field removes all. A value [redacted] is refused, so that what was read cannot overwrite a credential with its mask." example:"{\"X-Env\": \"production\"}"`
	InsecureSSL    optional[bool]                        `json:"insecure_ssl" required:"false" doc:"null is false."`
	TimeoutSeconds optional[float64]                     `json:"timeout_seconds" required:"false" minimum:"1" maximum:"30" doc:"null is the server's default." example:"15"`
	RetrySchedule  optional[[]float64]                   `json:"retry_schedule" required:"false" maxItems:"30" doc:"null is the server's default." example:"[5, 300, 1800]"`
	MaxInFlight    optional[int]                         `json:"max_in_flight" required:"false" minimum:"1" maximum:"256" doc:"null is the server's default." example:"16"`
	RateLimit      optional[float64]                     `json:"rate_limit" required:"false" maximum:"10000" doc:"Attempts a second; null removes the limit." example:"50"`
	Ordered        optional[bool]                        `json:"ordered" required:"false" doc:"null is false."`
}

// change checks the patch and gives the function that applies it.
func (p *webhookPatch) change() (func(*postrider.Webhook), error) {
	var faults postrider.Faults
	for _, field := range []struct {
		name string
		null bool
	}{{"url", p.URL.Null}, {"events", p.Events.Null}, {"content_type", p.ContentType.Null}, {"active", p.Active.Null}} {
		if field.null {
			faults.Add(required(field.name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Headers.Value)) {
		faults.Add(checkNotMask(name, p.Headers.Value[name].Value))
	}
	timeout, err := timeoutOf(p.TimeoutSeconds)
	faults.Add(err)
	maxInFlight, err := maxInFlightOf(p.MaxInFlight)
	faults.Add(err)
	rateLimit, err := rateLimitOf(p.RateLimit)
	faults.Add(err)
	secret, err := secretOf(p.Secret)
	faults.Add(err)
	return func(w *postrider.Webhook) {
		p.URL.apply(&w.URL)
		p.Events.apply(&w.Events)
		p.Active.apply(&w.Active)
		p.Description.apply(&w.Description)
		p.InsecureSSL.apply(&w.InsecureSSL)
		p.Ordered.apply(&w.Ordered)
		if p.Active.Value {
			w.Disabled = nil // asked for by its partner, it sends again
		}
		if p.ContentType.Set {
			w.ContentType = postrider.ContentType(p.ContentType.Value)
		}
		if p.Secret.Set {
			w.Secret, w.Previous = secret, nil
		}
		if p.TimeoutSeconds.Set {
			w.Timeout = timeout
		}
		if p.RetrySchedule.Set {
			w.RetrySchedule = scheduleOf(p.RetrySchedule)
		}
		if p.MaxInFlight.Set {
			w.MaxInFlight = maxInFlight
		}
		if p.RateLimit.Set {
			w.RateLimit = rateLimit
		}
		if p.Headers.Set {
			w.Headers = mergeHeaders(w.Headers, p.Headers)
		}
	}, faults.Err()
}

// apply sets a field when the patch names it; null sets the zero value.
func (o *optional[T]) apply(field *T) {
	if o.Set {
		*field = o.Value
	}
}

// mergeHeaders gives a map of its own: the one before may be shared.
func mergeHeaders(was map[string]string, patch optional[map[string]optional[string]]) map[string]string {
	if patch.Null {
		return nil
	}
	merged := maps.Clone(was)
	if merged == nil {
		merged = map[string]string{}
	}
	for name := range patch.Value {
		maps.DeleteFunc(merged, func(old, _ string) bool { return strings.EqualFold(old, name) })
	}
	for name, value := range patch.Value {
		if value.given() {
			merged[name] = value.Value
		}
	}
	return merged
}

// secretOf refuses the empty text: no secret is absent or null.
func secretOf(o optional[string]) (postrider.Secret, error) {
	if o.given() && o.Value == "" {
		return "", invalid("secret", "invalid_secret", "A secret is 8 to 256 printable characters; null means none.")
	}
	return postrider.Secret(o.Value), nil
}

// timeoutOf gives 0, the server's default, for absent and null. A 0 that was
// given is out of range, which the webhook's own check could no longer see.
func timeoutOf(o optional[float64]) (time.Duration, error) {
	if !o.given() {
		return 0, nil
	}
	timeout := seconds(o.Value)
	if timeout < postrider.MinTimeout || timeout > postrider.MaxTimeout {
		return 0, invalid("timeout_seconds", "invalid_timeout", "The timeout is 1 to 30 seconds.")
	}
	return timeout, nil
}

// maxInFlightOf gives 0, the server's default, for absent and null, and refuses
// a 0 that was given.
func maxInFlightOf(o optional[int]) (int, error) {
	if o.given() && (o.Value < 1 || o.Value > postrider.MaxInFlight) {
		return 0, invalid("max_in_flight", "invalid_max_in_flight", "A webhook has 1 to 256 attempts in flight at once.")
	}
	return o.Value, nil
}

// rateLimitOf gives 0, no limit, for absent and null. A limit of nothing is not
// what pausing a webhook is asked for with.
func rateLimitOf(o optional[float64]) (float64, error) {
	if o.given() && o.Value == 0 {
		return 0, invalid("rate_limit", "invalid_rate_limit",
			"The rate limit is up to 10,000 attempts a second, and at least one in an hour. null means no limit.")
	}
	return o.Value, nil
}

// scheduleOf is nil, the server's default, for absent and null.
func scheduleOf(o optional[[]float64]) []time.Duration {
	if !o.given() {
		return nil
	}
	schedule := make([]time.Duration, len(o.Value))
	for i, wait := range o.Value {
		schedule[i] = seconds(wait)
	}
	return schedule
}

// seconds is exact to the millisecond, and out of every range for what no
// Duration can hold.
func seconds(s float64) time.Duration {
	if math.Abs(s) > 1e9 {
		return time.Duration(math.Copysign(math.MaxInt64, s))
	}
	return time.Duration(math.Round(s*1e3)) * time.Millisecond
}

func checkNotMask(name, value string) error {
	if value != postrider.Masked {
		return nil
	}
	return invalid("headers."+name, "masked_value",
		"This is the mask that stands for a stored value. Send the value itself, or leave the header out to keep it.")
}

// maskHeaders hides the values of headers that usually carry credentials.
func maskHeaders(headers map[string]string) map[string]string {
	shown := make(map[string]string, len(headers))
	for name, value := range headers {
		if postrider.SensitiveHeader(name) {
			value = postrider.Masked
		}
		shown[name] = value
	}
	return shown
}

func showWebhook(w *postrider.Webhook, last map[postrider.ID]postrider.Attempt) Webhook {
	shown := Webhook{
		ID: w.ID, Tenant: w.Tenant, URL: w.URL, ContentType: string(w.ContentType), Events: w.Events, Active: w.Active,
		Description: w.Description, Headers: maskHeaders(w.Headers), InsecureSSL: w.InsecureSSL,
		MaxInFlight: orNull(w.MaxInFlight), RateLimit: orNull(w.RateLimit), Ordered: w.Ordered,
		HasSecret: w.Secret != "", PreviousUntil: instantOrNull(w.PreviousUntil(time.Now())), Status: string(w.Status()), FailingSince: instantOrNull(w.Failing.Since),
		CreatedAt: instant(w.CreatedAt), UpdatedAt: instant(w.UpdatedAt),
	}
	if w.Timeout != 0 {
		timeout := w.Timeout.Seconds()
		shown.TimeoutSeconds = &timeout
	}
	if w.RetrySchedule != nil {
		waits := make([]float64, len(w.RetrySchedule))
		for i, wait := range w.RetrySchedule {
			waits[i] = wait.Seconds()
		}
		shown.RetrySchedule = &waits
	}
	if w.Disabled != nil {
		shown.DisabledReason = &w.Disabled.Reason
	}
	if attempt, ok := last[w.ID]; ok {
		shown.LastAttempt = showLast(&attempt)
	}
	return shown
}

func showLast(t *postrider.Attempt) *lastAttempt {
	if t == nil {
		return nil
	}
	return &lastAttempt{
		ID: t.ID, At: instant(t.At), Status: string(t.Status),
		StatusCode: orNull(t.Outcome.StatusCode), ErrorCode: orNull(string(t.Outcome.Failure)),
	}
}

// showWebhooks adds to each webhook its last attempt.
func (a *API) showWebhooks(ctx context.Context, tenant string, list ...postrider.Webhook) ([]Webhook, error) {
	ids := make([]postrider.ID, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	last, err := a.History.LastAttempts(ctx, tenant, ids)
	if err != nil {
		return nil, err
	}
	shown := make([]Webhook, len(list))
	for i := range list {
		shown[i] = showWebhook(&list[i], last)
	}
	return shown, nil
}

type (
	createWebhookInput  struct{ WithBody[newWebhook] }
	createWebhookOutput struct{ Body createdWebhook }

	// WebhookRef names a webhook in the path.
	WebhookRef struct {
		TenantQuery
		ID string `path:"id" doc:"The webhook's id, a UUID."`
	}
	webhooksInput struct {
		TenantQuery
		PageQuery
	}
	patchWebhookInput struct {
		WebhookRef
		WithBody[webhookPatch]
	}
	webhookOutput struct{ Body Webhook }
)

func (a *API) createWebhook(ctx context.Context, c *call, in *createWebhookInput) (*createWebhookOutput, error) {
	tenant, err := a.tenantField(c, in.Body.Value.Tenant)
	if err != nil {
		return nil, err
	}
	asked, generated, err := in.Body.Value.build(tenant)
	if err != nil {
		return nil, err
	}
	made, err := a.Webhooks.CreateWebhook(ctx, asked)
	if err != nil {
		return nil, err
	}
	return &createWebhookOutput{createdWebhook{showWebhook(&made, nil), generated}}, nil
}

func (a *API) listWebhooks(ctx context.Context, c *call, in *webhooksInput) (*listOutput[Webhook], error) {
	tenant, err := a.tenant(c, in.Tenant)
	if err != nil {
		return nil, err
	}
	before, err := a.cursors.openID("webhooks", tenant, in.Cursor)
	if err != nil {
		return nil, err
	}
	list, more := a.Webhooks.Webhooks(tenant, before, in.Limit)
	shown, err := a.showWebhooks(ctx, tenant, list...)
	if err != nil || !more {
		return newPage(c, shown, ""), err
	}
	return newPage(c, shown, a.cursors.sealID("webhooks", tenant, list[len(list)-1].ID)), nil
}

// target is what most routes of one webhook start with.
func (a *API) target(c *call, in *WebhookRef) (tenant string, id postrider.ID, err error) {
	if tenant, err = a.tenant(c, in.Tenant); err != nil {
		return "", id, err
	}
	id, err = pathID("webhook", in.ID)
	return tenant, id, err
}

func (a *API) getWebhook(ctx context.Context, c *call, in *WebhookRef) (*webhookOutput, error) {
	tenant, id, err := a.target(c, in)
	if err != nil {
		return nil, err
	}
	found, err := a.Webhooks.Webhook(tenant, id)
	if err != nil {
		return nil, err
	}
	shown, err := a.showWebhooks(ctx, tenant, found)
	if err != nil {
		return nil, err
	}
	return &webhookOutput{shown[0]}, nil
}

func (a *API) patchWebhook(ctx context.Context, c *call, in *patchWebhookInput) (*webhookOutput, error) {
	change, err := in.Body.Value.change()
	if err != nil {
		return nil, err
	}
	return a.update(ctx, c, &in.WebhookRef, change)
}

// update changes a webhook and shows it as it has become.
func (a *API) update(ctx context.Context, c *call, in *WebhookRef, change func(*postrider.Webhook)) (*webhookOutput, error) {
	tenant, id, err := a.target(c, in)
	if err != nil {
		return nil, err
	}
	changed, err := a.Webhooks.UpdateWebhook(ctx, tenant, id, change)
	if err != nil {
		return nil, err
	}
	shown, err := a.showWebhooks(ctx, tenant, changed)
	if err != nil {
		return nil, err
	}
	return &webhookOutput{shown[0]}, nil
}

func (a *API) deleteWebhook(ctx context.Context, c *call, in *WebhookRef) (*struct{}, error) {
	tenant, id, err := a.target(c, in)
	if err != nil {
		return nil, err
	}
	return nil, a.Webhooks.DeleteWebhook(ctx, tenant, id)
}

func (a *API) pauseWebhook(ctx context.Context, c *call, in *WebhookRef) (*webhookOutput, error) {
	return a.setPaused(ctx, c, in, true)
}

func (a *API) resumeWebhook(ctx context.Context, c *call, in *WebhookRef) (*webhookOutput, error) {
	return a.setPaused(ctx, c, in, false)
}

func (a *API) setPaused(ctx context.Context, c *call, in *WebhookRef, paused bool) (*webhookOutput, error) {
	return a.update(ctx, c, in, func(w *postrider.Webhook) { w.Paused = paused })
}

type ping struct {
	WebhookID postrider.ID `json:"webhook_id" format:"uuid"`
	EventID   string       `json:"event_id" doc:"The ping's event id: X-<Brand>-Delivery of the delivery, and a filter of the logs." example:"0195b3f4-9a07-7c11-8e2d-1b7f60a9c3e4"`
}

type (
	pingInput struct {
		TenantQuery
		WithAnyJSON
	}
	pingWebhookInput struct {
		WebhookRef
		WithAnyJSON
	}
	pings struct {
		Data []ping `json:"data" nullable:"false" doc:"One entry per webhook that is pinged."`
	}
	pingOutput struct{ Body pings }
)

func showPings(list ...postrider.Pinged) *pingOutput {
	out := &pingOutput{}
	for _, p := range list {
		out.Body.Data = append(out.Body.Data, ping(p))
	}
	return out
}

func (a *API) ping(ctx context.Context, c *call, in *pingInput) (*pingOutput, error) {
	tenant, err := a.tenant(c, in.Tenant)
	if err != nil {
		return nil, err
	}
	pinged, err := a.Publisher.Ping(ctx, tenant, in.payload())
	return showPings(pinged...), err
}

func (a *API) pingWebhook(ctx context.Context, c *call, in *pingWebhookInput) (*pingOutput, error) {
	tenant, id, err := a.target(c, &in.WebhookRef)
	if err != nil {
		return nil, err
	}
	pinged, err := a.Publisher.PingWebhook(ctx, tenant, id, in.payload())
	return showPings(pinged), err
}
