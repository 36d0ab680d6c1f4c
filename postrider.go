// Package postrider holds the nouns of the service: what a webhook, an event,
// a delivery, an attempt, a tenant and an API key are, which values they may
// have, and the errors that a user may see.
//
// It knows nothing of HTTP handlers, SQL or sockets, and imports the standard
// library only. Every other package imports it.
package postrider
