package cli

import (
	"context"
	"net/url"
	"time"
)

type keysCommands struct {
	List   listKeys  `cmd:"" help:"List API keys, the newest first, by their first characters."`
	Create createKey `cmd:"" help:"Create an API key and print it this once."`
	Delete deleteKey `cmd:"" help:"Revoke an API key. It stops working at once."`
}

type apiKey struct {
	ID        string    `json:"id"`
	Prefix    string    `json:"prefix"`
	Tenant    *string   `json:"tenant"`
	Operator  bool      `json:"operator"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
	Key       string    `json:"key"` // in the answer to a creation
}

func (k *apiKey) owner() string { return or(k.Tenant, "(operator)") }

type listKeys struct {
	remote
	pages

	Tenant string `placeholder:"TENANT" help:"The keys of one tenant."`
}

// Help are the examples of keys list --help.
func (*listKeys) Help() string {
	return `Example:

    postrider keys list --tenant acme`
}

// Run lists.
func (l *listKeys) Run(ctx context.Context, p *process) error {
	titles := []string{"ID", "KEY", "OF", "NAME", "CREATED"}
	return showList(ctx, p, &l.remote, l.pages, "/v0/api_keys", scoped{l.Tenant}.add(url.Values{}), titles, func(k apiKey) []cell {
		return []cell{{text: k.ID}, {text: k.Prefix + "…"}, {text: k.owner()}, {text: k.Name}, {text: when(&k.CreatedAt)}}
	}, "no API keys", "postrider keys create NAME --tenant TENANT makes one")
}

type createKey struct {
	remote

	Name     string `arg:"" help:"For people: what the key is for."`
	Tenant   string `placeholder:"TENANT" help:"Whose key it becomes."`
	Operator bool   `help:"Make an operator's key, which may do everything."`
}

// Help are the examples of keys create --help.
func (*createKey) Help() string {
	return `Examples:

    postrider keys create 'acme production' --tenant acme
    postrider keys create 'publisher' --operator --json | jq -r .key`
}

// Run creates it.
func (c *createKey) Run(ctx context.Context, p *process) error {
	if (c.Tenant != "") == c.Operator {
		return misuse("--tenant", "a key is a tenant's, or with --operator the operator's", "give one of the two")
	}
	body := map[string]any{"name": c.Name}
	if c.Operator {
		body["operator"] = true
	} else {
		body["tenant"] = c.Tenant
	}
	server, err := c.connect()
	if err != nil {
		return err
	}
	var k apiKey
	text, err := server.ask(ctx, &k, request{method: "POST", path: "/v0/api_keys", body: encoded(body)})
	if err != nil {
		return err
	}
	s := new(sheet)
	s.add("id", k.ID)
	s.add("name", k.Name)
	s.add("of", k.owner())
	s.add("key", k.Key)
	p.show(&c.remote, text, s)
	p.say("the key is shown this once: only its hash is kept")
	return nil
}

type deleteKey struct {
	eraser

	ID string `arg:"" help:"The key's id, as in keys list."`
}

// Help are the examples of keys delete --help.
func (*deleteKey) Help() string {
	return `Example:

    postrider keys delete 0195b3f4-8c1e-7a52-9d3b-6f2a41c0e7d8`
}

// Run revokes it.
func (d *deleteKey) Run(ctx context.Context, p *process) error {
	return d.erase(ctx, p, "/v0/api_keys/"+url.PathEscape(d.ID), nil, "key "+d.ID+" is revoked")
}
