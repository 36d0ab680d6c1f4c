package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"postrider"
)

// Relay hands deliveries to listeners. It checks what it is given.
type Relay interface {
	// Admit makes ready what a listener asks for, and returns the function that
	// upgrades its request and serves it until the session ends.
	Admit(ctx context.Context, asked postrider.Listener) (func(http.ResponseWriter, *http.Request), error)
	// Newest is the temporary webhook that a listener of the tenant attached to
	// last.
	Newest(tenant string) (postrider.ID, error)
}

var errUpgrade = malformed("", "websocket_required",
	"This route is a WebSocket (RFC 6455): the request asks for the upgrade with GET and its headers. postrider listen speaks to it.")

type listenInput struct {
	TenantQuery
	Session   string   `query:"session" doc:"A name of the listener's own choice, 16 to 64 letters, digits, underscores and dashes, that nobody can guess. With the same one it comes back to what it has not answered." example:"Zk3vQxT1m8yW4cBd0nRj5LhGa7UeSf2P"`
	Forward   string   `query:"forward" doc:"Where the listener sends what it gets, for people: it stands in the temporary webhook's URL." example:"http://localhost:4567/api/callback"`
	WebhookID string   `query:"webhook_id" format:"uuid" doc:"A temporary webhook to attach to, or another one of which a temporary copy is made. Absent: a new temporary webhook."`
	Events    []string `query:"events" doc:"What the new temporary webhook subscribes to, with commas between. Absent: all, or what the webhook that is copied does." example:"[\"room_status.*\"]"`
	Upgrade   string   `header:"Upgrade" doc:"websocket."`
}

func (a *API) registerListen() {
	const path = "/v0/api_webhooks/listen"
	register(a, operation{
		method: "GET", path: path, id: "listen", group: relayGroup, status: 101, errors: []int{400, 404, 429},
		summary: "Attach a listener",
		text: "The server's end of postrider listen, a WebSocket. Deliveries of a temporary webhook go through it to the listener, " +
			"which makes the request on its own machine and answers how that ended. The messages are those of the same " +
			"version of the program, and may change with it.",
	}, a.listen)
	answers := a.huma.OpenAPI().Paths[path].Get.Responses
	answers["101"] = &huma.Response{Description: "The session begins."}
}

func (a *API) listen(ctx context.Context, c *call, in *listenInput) (*huma.StreamResponse, error) {
	tenant, err := a.tenant(c, in.Tenant)
	if err != nil {
		return nil, err
	}
	if !strings.EqualFold(in.Upgrade, "websocket") {
		return nil, errUpgrade
	}
	asked := postrider.Listener{
		Tenant: tenant, Key: c.key.Hash, Token: in.Session, Events: in.Events, Forward: in.Forward,
	}
	if in.WebhookID != "" {
		if asked.WebhookID, err = pathID("webhook", in.WebhookID); err != nil {
			return nil, err
		}
	}
	serve, err := a.Relay.Admit(ctx, asked)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		r, w := humago.Unwrap(hc)
		serve(w, r)
	}}, nil
}

// redeliverTo is the optional body of a redelivery.
type redeliverTo struct {
	Target    optional[string] `json:"target" required:"false" enum:"webhook,relay" doc:"webhook, as without a body: the webhook of the attempt. relay: a temporary webhook, and so a listener (postrider listen); the webhook of the attempt gets nothing."`
	WebhookID optional[string] `json:"webhook_id" required:"false" format:"uuid" doc:"With the target relay: which temporary webhook. Absent or null: the one that a listener attached to last."`
}

// redeliverTarget is the temporary webhook that a redelivery goes to; zero: the
// webhook of the attempt.
func (a *API) redeliverTarget(tenant string, body *redeliverTo) (id postrider.ID, err error) {
	switch target := body.Target.Value; {
	case target == "relay" && body.WebhookID.given():
		if id, err = pathID("webhook", body.WebhookID.Value); err != nil {
			return id, err
		}
		w, err := a.Webhooks.Webhook(tenant, id)
		if err == nil && !w.Temporary() {
			err = invalid("webhook_id", "not_temporary", "This is no temporary webhook: a past event goes to its own webhook, or to a listener.")
		}
		return id, err
	case target == "relay":
		return a.Relay.Newest(tenant)
	case body.WebhookID.given():
		return id, invalid("webhook_id", "conflicting_fields", `A webhook_id goes with the target "relay".`)
	case body.Target.given() && target != "webhook":
		return id, invalid("target", "invalid_target", `The target is "webhook" or "relay".`)
	}
	return id, nil
}
