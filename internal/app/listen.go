package app

import (
	"context"
	"net/netip"

	"postrider"
	"postrider/internal/egress"
	"postrider/internal/registry"
	"postrider/internal/relay"
)

func (a *app) newRelay() *relay.Relay {
	return relay.New(relay.Options{
		Webhooks: a.registry, Wake: func(id postrider.ID) { a.lanes.Wake(id) }, HasKey: a.registry.HasKey, Logger: a.logger,
		Brand: a.config.Brand, Hold: a.config.RelayHold, Ping: a.config.RelayPing,
	})
}

// attended are the webhooks as the lanes of this node see them: a temporary one
// to which nobody is attached here does not send, so that its deliveries wait
// in the store, where the node that has its listener finds them.
type attended struct {
	*registry.Registry
	relay *relay.Relay
}

// WebhookByID returns a webhook as it is now.
func (a attended) WebhookByID(id postrider.ID) (*postrider.Webhook, bool) {
	w, found := a.Registry.WebhookByID(id)
	if found && a.relay.Holds(w) {
		waiting := *w
		waiting.Paused = true
		w = &waiting
	}
	return w, found
}

// outlet sends to the internet, or through the relay.
type outlet struct {
	*egress.Client
	relay *relay.Relay
}

// Send makes one attempt.
func (o outlet) Send(ctx context.Context, r *postrider.Request) postrider.Outcome {
	if (&postrider.Webhook{URL: r.URL}).Temporary() {
		return o.relay.Send(ctx, r)
	}
	return o.Client.Send(ctx, r)
}

// Forwarder makes the requests of a listener on its own machine, as the server
// makes those of any webhook: the same headers and bytes, the same judgement of
// what comes back. It reaches loopback addresses alone, unless remote opens
// every address.
func Forwarder(remote bool) *egress.Client {
	allowed := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	if remote {
		allowed = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	}
	return egress.New(egress.Options{Policy: egress.Policy{AllowCIDRs: allowed}})
}
