package api

import (
	"context"
	"net/url"
	"time"

	"postrider"
)

// Links keeps one-time links into the portal.
type Links interface {
	PutPortalLink(ctx context.Context, link postrider.Session) error
}

const (
	defaultLinkAge = 5 * time.Minute
	maxLinkAge     = time.Hour
)

type newPortalLink struct {
	Tenant    *string `json:"tenant" nullable:"false" maxLength:"64" doc:"Whose pages it opens." example:"acme"`
	ExpiresIn *int    `json:"expires_in" required:"false" nullable:"false" minimum:"1" maximum:"3600" doc:"For how many seconds it can be followed; 300 when absent." example:"300"`
}

type portalLink struct {
	URL       string  `json:"url" doc:"Send the partner's browser here, or show it in a frame. It works once." example:"https://hooks.example.com/portal/enter?token=Zk3vQxT1m8yW4cBd0nRj5LhGa7UeSf2PZk3vQxT1m8y" format:"uri"`
	Tenant    string  `json:"tenant" example:"acme"`
	ExpiresAt instant `json:"expires_at" doc:"Until when it can be followed. The session that it begins lasts for 24 hours at most."`
}

type (
	createPortalLinkInput  struct{ WithBody[newPortalLink] }
	createPortalLinkOutput struct{ Body portalLink }
)

func (a *API) registerPortal() {
	register(a, operation{
		method: "POST", path: "/v0/portal_links", id: "createPortalLink",
		group: accountsGroup, access: operatorOnly, status: 201,
		summary: "Create a link into the portal",
		text: "For a partner who is signed in with you already: the link opens the portal as that tenant, once. " +
			"Revoking the key that made it ends it, and the session that it began.",
	}, a.createPortalLink)
}

func (a *API) createPortalLink(ctx context.Context, c *call, in *createPortalLinkInput) (*createPortalLinkOutput, error) {
	tenant, age, err := in.Body.Value.check()
	if err != nil {
		return nil, err
	}
	if _, err := a.Tenants.Tenant(tenant); err != nil {
		if isNotFound(err) {
			err = invalid("tenant", "unknown_tenant", "There is no tenant of this name. Create it first with POST /v0/tenants.")
		}
		return nil, err
	}
	token := postrider.NewToken()
	link := postrider.Session{
		Hash: postrider.HashToken(token), Tenant: tenant, Key: c.key.Hash,
		ExpiresAt: time.Now().UTC().Add(age).Truncate(time.Second),
	}
	if err := a.Links.PutPortalLink(ctx, link); err != nil {
		return nil, err
	}
	return &createPortalLinkOutput{portalLink{
		URL: a.PublicURL + "/portal/enter?token=" + url.QueryEscape(token), Tenant: tenant, ExpiresAt: instant(link.ExpiresAt),
	}}, nil
}

func (n *newPortalLink) check() (tenant string, age time.Duration, err error) {
	var faults postrider.Faults
	if n.Tenant == nil || *n.Tenant == "" {
		faults.Add(required("tenant"))
	} else {
		tenant = *n.Tenant
	}
	age = defaultLinkAge
	if n.ExpiresIn != nil {
		age = time.Duration(*n.ExpiresIn) * time.Second
		if *n.ExpiresIn < 1 || *n.ExpiresIn > int(maxLinkAge/time.Second) {
			faults.Add(invalid("expires_in", "invalid_expires_in", "A link can be followed for 1 to 3,600 seconds."))
		}
	}
	return tenant, age, faults.Err()
}
