package cli

import (
	"context"
	"fmt"
	"time"
)

type portalCommands struct {
	Link portalLink `cmd:"" help:"Print a link that opens the portal as a tenant, once."`
}

type portalLink struct {
	remote

	Tenant    string        `arg:"" help:"Whose pages it opens."`
	ExpiresIn time.Duration `default:"5m" placeholder:"DURATION" help:"For how long it can be followed, 1s to 1h."`
}

// Help are the examples of portal link --help.
func (*portalLink) Help() string {
	return `Examples:

    postrider portal link acme
    xdg-open "$(postrider portal link acme --expires-in 30s --json | jq -r .url)"

It takes the operator's key. Whoever has the link is the tenant, in the portal, for up to 24 hours.`
}

// Run prints it.
func (l *portalLink) Run(ctx context.Context, p *process) error {
	if l.ExpiresIn%time.Second != 0 {
		return misuse("--expires-in", "is in whole seconds", "")
	}
	c, err := l.connect()
	if err != nil {
		return err
	}
	var made struct {
		URL       string    `json:"url"`
		Tenant    string    `json:"tenant"`
		ExpiresAt time.Time `json:"expires_at"`
	}
	body := encoded(map[string]any{"tenant": l.Tenant, "expires_in": int(l.ExpiresIn.Seconds())})
	text, err := c.ask(ctx, &made, request{method: "POST", path: "/v0/portal_links", body: body})
	if err != nil {
		return err
	}
	if l.JSON {
		p.show(&l.remote, text, nil)
		return nil
	}
	fmt.Fprintln(p.stdout, plain(made.URL))
	p.say("it works once, until %s", when(&made.ExpiresAt))
	return nil
}
