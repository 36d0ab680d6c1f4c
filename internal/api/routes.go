package api

import (
	"net/http"
	"reflect"
)

// The sections of the reference.
const (
	webhooksGroup  = "Webhooks"
	logsGroup      = "Logs"
	replaysGroup   = "Replays"
	relayGroup     = "Listeners"
	catalogueGroup = "Catalogue"
	eventsGroup    = "Events"
	accountsGroup  = "Tenants and API keys"
)

// routes is the one list of all routes.
func (a *API) routes() {
	register(a, operation{
		method: "POST", path: "/v0/api_webhooks", id: "createWebhook", group: webhooksGroup, status: 201,
		errors:  []int{http.StatusConflict},
		summary: "Create a webhook",
		text: "Registers a URL for events. A ping is sent to it at once; its result stands in the logs, and a " +
			"ping that fails does not fail the creation.",
	}, a.createWebhook)
	register(a, operation{
		method: "GET", path: "/v0/api_webhooks", id: "listWebhooks",
		group: webhooksGroup, status: 200, errors: cursorErrors,
		summary: "List webhooks", text: "Newest first.",
	}, a.listWebhooks)
	register(a, operation{
		method: "GET", path: "/v0/api_webhooks/{id}", id: "getWebhook", group: webhooksGroup, status: 200,
		summary: "Get a webhook", text: "The secret is never shown; has_secret says whether there is one.",
	}, a.getWebhook)
	register(a, operation{
		method: "PATCH", path: "/v0/api_webhooks/{id}", id: "updateWebhook", group: webhooksGroup, status: 200,
		bodies:  []string{typeJSON, typePatch},
		summary: "Change a webhook",
		text: "A field that is absent stays as it is; null clears it. Attempts from now on use the new " +
			"values, those of events published before included.",
	}, a.patchWebhook)
	register(a, operation{
		method: "DELETE", path: "/v0/api_webhooks/{id}", id: "deleteWebhook", group: webhooksGroup, status: 204,
		summary: "Delete a webhook", text: "Pending deliveries are cancelled and marked so. The logs stay.",
	}, a.deleteWebhook)
	register(a, operation{
		method: "POST", path: "/v0/api_webhooks/ping", id: "pingWebhooks",
		group: webhooksGroup, status: 202, limit: a.PayloadLimit,
		summary: "Ping all active webhooks",
		text: "Sends a ping to every active webhook, whatever it subscribes to. The body is the payload, byte " +
			"by byte; without a body a default one is sent. A ping is attempted once.",
	}, a.ping)
	register(a, operation{
		method: "POST", path: "/v0/api_webhooks/{id}/ping", id: "pingWebhook",
		group: webhooksGroup, status: 202, limit: a.PayloadLimit,
		errors:  []int{http.StatusConflict},
		summary: "Ping one webhook", text: "Refused while the webhook does not send.",
	}, a.pingWebhook)
	register(a, operation{
		method: "POST", path: "/v0/api_webhooks/{id}/rotate_secret", id: "rotateSecret", group: webhooksGroup, status: 200,
		summary: "Rotate the secret",
		text: "During the grace deliveries carry the signatures of both secrets: webhook-signature lists them, the " +
			"newest first, and the hexadecimal one of the old secret stands in a header of its own. So a receiver can " +
			"change its secret at any moment of it. A grace of 0 revokes every old secret at once.",
	}, a.rotateSecret)
	register(a, operation{
		method: "POST", path: "/v0/api_webhooks/{id}/pause", id: "pauseWebhook",
		group: webhooksGroup, access: operatorOnly, status: 200,
		summary: "Pause a webhook",
		text: "Nothing more is sent to it, and its deliveries are held until it is resumed. Its partner's own " +
			"switch, active, stays as it is.",
	}, a.pauseWebhook)
	register(a, operation{
		method: "POST", path: "/v0/api_webhooks/{id}/resume", id: "resumeWebhook",
		group: webhooksGroup, access: operatorOnly, status: 200,
		summary: "Resume a webhook", text: "What was held goes out, in the order of acceptance.",
	}, a.resumeWebhook)

	register(a, operation{
		method: "GET", path: "/v0/api_webhooks/logs", id: "listLogs", group: logsGroup, status: 200, errors: cursorErrors,
		summary: "List attempts",
		text: "Every attempt of every delivery, newest first. A page may hold fewer entries than its limit " +
			"although more follow: next_cursor decides.",
	}, a.listLogs)
	register(a, operation{
		method: "GET", path: "/v0/api_webhooks/{id}/logs", id: "listWebhookLogs",
		group: logsGroup, status: 200, errors: cursorErrors,
		summary: "List attempts of a webhook", text: "Also of one that was deleted.",
	}, a.listWebhookLogs)
	register(a, operation{
		method: "GET", path: "/v0/api_webhooks/logs/{attempt_id}", id: "getLog", group: logsGroup, status: 200,
		summary: "Get an attempt", text: "With the whole request and response.",
	}, a.getLog)
	register(a, operation{
		method: "POST", path: "/v0/api_webhooks/logs/{attempt_id}/redeliver", id: "redeliver",
		group: logsGroup, status: 202,
		errors:  []int{http.StatusConflict},
		summary: "Send a delivery again",
		text: "The event of this attempt goes to its webhook once more, with the same event id, to the URL " +
			"and with the secret of now. With a body it can go to a listener instead: yesterday's failure, on a laptop.",
	}, a.redeliver)
	a.registerStream()
	a.registerListen()
	register(a, operation{
		method: "POST", path: "/v0/api_webhooks/{id}/replay", id: "startReplay", group: replaysGroup, status: 202,
		errors:  []int{http.StatusConflict},
		summary: "Send past deliveries again",
		text: "Those of events that were accepted in a time range and whose delivery has ended in a way: after an outage, " +
			"those that failed. They go out in the order in which the events were accepted, at a rate, to the URL and " +
			"with the secret of now, each with its whole retry schedule. A webhook has one replay at a time.",
	}, a.startReplay)
	register(a, operation{
		method: "GET", path: "/v0/replays/{id}", id: "getReplay", group: replaysGroup, status: 200,
		summary: "Get a replay", text: "How far it is. One that has ended can be looked at for 30 days.",
	}, a.getReplay)
	register(a, operation{
		method: "DELETE", path: "/v0/replays/{id}", id: "cancelReplay", group: replaysGroup, status: 200,
		summary: "Cancel a replay", text: "What it has queued is sent. One that has ended stays as it is.",
	}, a.cancelReplay)

	register(a, operation{
		method: "GET", path: "/v0/api_webhooks/events", id: "listEventTypes",
		group: catalogueGroup, status: 200, errors: cursorErrors,
		summary: "List event types", text: "The catalogue, by name.",
	}, a.listEventTypes)
	register(a, operation{
		method: "GET", path: "/v0/api_webhooks/events/{event}", id: "getEventType", group: catalogueGroup, status: 200,
		summary: "Get an event type", text: "With its schema and example.",
	}, a.getEventType)
	register(a, operation{
		method: "PUT", path: "/v0/api_webhooks/events/{event}", id: "putEventType",
		group: catalogueGroup, access: operatorOnly, status: 200, also: 201,
		limit:   a.PayloadLimit,
		summary: "Add or replace an event type", text: "201 when it is new, 200 when it replaces one.",
	}, a.putEventType)
	register(a, operation{
		method: "DELETE", path: "/v0/api_webhooks/events/{event}", id: "deleteEventType",
		group: catalogueGroup, access: operatorOnly, status: 204,
		summary: "Remove an event type", text: "Subscriptions to it stay.",
	}, a.deleteEventType)

	a.registerPublish()
	register(a, operation{
		method: "POST", path: "/v0/events/match", id: "matchEvent", group: eventsGroup, access: operatorOnly, status: 200,
		limit:   a.PayloadLimit + envelopeAllowance,
		summary: "Try an event",
		text: "Takes what POST /v0/events takes, with or without a payload, and tells for each webhook whether it would " +
			"get the event and why. What would be refused is refused with the same problem. Nothing is published or stored.",
	}, a.matchEvent)
	register(a, operation{
		method: "GET", path: "/v0/events/{id}", id: "getEvent", group: eventsGroup, status: 200,
		summary: "Get an event", text: "With its payload, byte by byte, and where each delivery stands.",
	}, a.getEvent)

	register(a, operation{
		method: "POST", path: "/v0/tenants", id: "createTenant", group: accountsGroup, access: operatorOnly, status: 201,
		errors:  []int{http.StatusConflict},
		summary: "Create a tenant", text: "An account for a partner. The tenant named default always exists.",
	}, a.createTenant)
	register(a, operation{
		method: "GET", path: "/v0/tenants", id: "listTenants",
		group: accountsGroup, access: operatorOnly, status: 200, errors: cursorErrors,
		summary: "List tenants", text: "Newest first.",
	}, a.listTenants)
	register(a, operation{
		method: "GET", path: "/v0/tenants/{tenant}", id: "getTenant",
		group: accountsGroup, access: operatorOnly, status: 200,
		summary: "Get a tenant", text: "By its name.",
	}, a.getTenant)
	register(a, operation{
		method: "POST", path: "/v0/tenants/{tenant}/pause", id: "pauseTenant",
		group: accountsGroup, access: operatorOnly, status: 200,
		summary: "Pause a tenant", text: "Nothing more is sent to any of its webhooks, and their deliveries are held.",
	}, a.pauseTenant)
	register(a, operation{
		method: "POST", path: "/v0/tenants/{tenant}/resume", id: "resumeTenant",
		group: accountsGroup, access: operatorOnly, status: 200,
		summary: "Resume a tenant", text: "What was held goes out. A webhook that is paused itself stays so.",
	}, a.resumeTenant)
	register(a, operation{
		method: "POST", path: "/v0/api_keys", id: "createAPIKey", group: accountsGroup, access: operatorOnly, status: 201,
		summary: "Create an API key", text: "For a tenant, or for an operator. The key is shown once.",
	}, a.createAPIKey)
	register(a, operation{
		method: "GET", path: "/v0/api_keys", id: "listAPIKeys",
		group: accountsGroup, access: operatorOnly, status: 200, errors: cursorErrors,
		summary: "List API keys", text: "Newest first, without the keys themselves.",
	}, a.listAPIKeys)
	register(a, operation{
		method: "DELETE", path: "/v0/api_keys/{id}", id: "deleteAPIKey",
		group: accountsGroup, access: operatorOnly, status: 204,
		summary: "Revoke an API key", text: "It stops working at once.",
	}, a.deleteAPIKey)
	a.registerPortal()

	a.mux.HandleFunc("GET /openapi.json", a.serveDocument)
	a.mux.HandleFunc("GET /docs/api", a.serveReference)
	a.mux.HandleFunc("GET /docs/api.css", a.serveStyle)
}

// cursorErrors are those of a list beyond the usual: a cursor that was not
// given out.
var cursorErrors = []int{http.StatusBadRequest}

// PublishPath is where events are published one by one.
const PublishPath = "/v0/events"

// registerPublish adds the two routes that huma does not serve.
func (a *API) registerPublish() {
	one := operation{
		method: "POST", path: PublishPath, id: "publishEvent", group: eventsGroup, access: operatorOnly, status: 202,
		errors: []int{http.StatusConflict}, limit: a.PayloadLimit + envelopeAllowance,
		summary: "Publish an event",
		text:    "The answer 202 means that the event and one delivery for each matching webhook are on disk.",
	}
	batch := operation{
		method: "POST", path: "/v0/events/batch", id: "publishBatch",
		group: eventsGroup, access: operatorOnly, status: 202,
		errors: []int{http.StatusConflict}, limit: a.BatchLimit, bodies: []string{typeJSON, typeNDJSON},
		summary: "Publish up to 1,000 events",
		text: "An array of events, or one event on each line. All are accepted or none; faults name the event " +
			"by its index, as in [3].event.",
	}
	a.documentPublish(one, reflect.TypeFor[publication](), reflect.TypeFor[receipt]())
	a.documentPublish(batch, reflect.TypeFor[[]publication](), reflect.TypeFor[receipts]())
	a.mux.HandleFunc("POST "+one.path, a.publishEvent(one))
	a.mux.HandleFunc("POST "+batch.path, a.publishBatch(batch))
}
