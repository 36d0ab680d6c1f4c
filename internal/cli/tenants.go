package cli

import (
	"context"
	"net/url"
	"time"
)

type tenantsCommands struct {
	List   listTenants  `cmd:"" help:"List tenants, the newest first."`
	Get    getTenant    `cmd:"" help:"Show a tenant."`
	Create createTenant `cmd:"" help:"Create a tenant: the account of a partner."`
	Pause  pauseTenant  `cmd:"" help:"Hold all deliveries of a tenant."`
	Resume resumeTenant `cmd:"" help:"Send to a tenant again, what was held first."`
}

type tenant struct {
	Name      string    `json:"name"`
	Paused    bool      `json:"paused"`
	CreatedAt time.Time `json:"created_at"`
}

func (t *tenant) status() string {
	if t.Paused {
		return "paused"
	}
	return "active"
}

type listTenants struct {
	remote
	pages
}

// Help are the examples of tenants list --help.
func (*listTenants) Help() string {
	return `Example:

    postrider tenants list --all --json`
}

// Run lists.
func (l *listTenants) Run(ctx context.Context, p *process) error {
	return showList(ctx, p, &l.remote, l.pages, "/v0/tenants", url.Values{}, []string{"NAME", "STATUS", "CREATED"}, func(t tenant) []cell {
		return []cell{{text: t.Name}, {t.status(), styleOf(t.status())}, {text: when(&t.CreatedAt)}}
	}, "no tenants", "postrider tenants create NAME makes one")
}

type getTenant struct {
	remote

	Name string `arg:"" help:"The tenant's name."`
}

// Help are the examples of tenants get --help.
func (*getTenant) Help() string {
	return `Example:

    postrider tenants get acme`
}

// Run shows it.
func (g *getTenant) Run(ctx context.Context, p *process) error {
	return g.showTenant(ctx, p, request{path: "/v0/tenants/" + url.PathEscape(g.Name)})
}

func (r *remote) showTenant(ctx context.Context, p *process, asked request) error {
	c, err := r.connect()
	if err != nil {
		return err
	}
	var t tenant
	text, err := c.ask(ctx, &t, asked)
	if err != nil {
		return err
	}
	s := new(sheet)
	s.add("name", t.Name)
	s.styled("status", t.status(), styleOf(t.status()))
	s.add("created", when(&t.CreatedAt))
	p.show(r, text, s)
	return nil
}

type createTenant struct {
	remote

	Name string `arg:"" help:"1 to 64 letters, digits, dots, dashes or underscores. It never changes."`
}

// Help are the examples of tenants create --help.
func (*createTenant) Help() string {
	return `Example:

    postrider tenants create acme
    postrider keys create 'acme production' --tenant acme`
}

// Run creates it.
func (c *createTenant) Run(ctx context.Context, p *process) error {
	return c.showTenant(ctx, p, request{method: "POST", path: "/v0/tenants", body: encoded(map[string]string{"name": c.Name})})
}

type pauseTenant struct {
	remote

	Name string `arg:"" help:"The tenant's name."`
}

// Help are the examples of tenants pause --help.
func (*pauseTenant) Help() string {
	return `It takes the operator's key.

Example:

    postrider tenants pause acme`
}

// Run pauses it.
func (c *pauseTenant) Run(ctx context.Context, p *process) error {
	return c.showTenant(ctx, p, request{method: "POST", path: "/v0/tenants/" + url.PathEscape(c.Name) + "/pause"})
}

type resumeTenant struct {
	remote

	Name string `arg:"" help:"The tenant's name."`
}

// Help are the examples of tenants resume --help.
func (*resumeTenant) Help() string {
	return `It takes the operator's key. A webhook that is paused itself stays so.

Example:

    postrider tenants resume acme`
}

// Run resumes it.
func (c *resumeTenant) Run(ctx context.Context, p *process) error {
	return c.showTenant(ctx, p, request{method: "POST", path: "/v0/tenants/" + url.PathEscape(c.Name) + "/resume"})
}
