package api

import (
	"context"

	"postrider"
)

type tenant struct {
	ID        string  `json:"id" doc:"The same as name: what tenant fields and parameters take." example:"acme"`
	Name      string  `json:"name" example:"acme"`
	Paused    bool    `json:"paused" doc:"The operator's switch. While it is on, the deliveries of all webhooks of the tenant are held." example:"false"`
	CreatedAt instant `json:"created_at"`
}

type newTenant struct {
	Name *string `json:"name" nullable:"false" maxLength:"64" doc:"1 to 64 letters, digits, dots, dashes or underscores, starting with a letter or digit. It never changes." example:"acme"`
}

type (
	createTenantInput struct{ WithBody[newTenant] }
	tenantsInput      struct{ PageQuery }
	tenantInput       struct {
		Tenant string `path:"tenant" doc:"The tenant's name." example:"acme"`
	}
	tenantOutput struct{ Body tenant }
)

func showTenant(t postrider.Tenant) tenant {
	return tenant{ID: t.Name, Name: t.Name, Paused: t.Paused, CreatedAt: instant(t.CreatedAt)}
}

func (a *API) createTenant(ctx context.Context, _ *call, in *createTenantInput) (*tenantOutput, error) {
	name := in.Body.Value.Name
	if name == nil {
		return nil, required("name")
	}
	made, err := a.Tenants.CreateTenant(ctx, *name)
	return &tenantOutput{showTenant(made)}, err
}

func (a *API) listTenants(_ context.Context, c *call, in *tenantsInput) (*listOutput[tenant], error) {
	after, err := a.cursors.open("tenants", "", in.Cursor)
	if err != nil {
		return nil, err
	}
	list, more := a.Tenants.Tenants(after, in.Limit)
	shown := make([]tenant, len(list))
	for i := range list {
		shown[i] = showTenant(list[i])
	}
	if !more {
		return newPage(c, shown, ""), nil
	}
	return newPage(c, shown, a.cursors.seal("tenants", "", list[len(list)-1].Name)), nil
}

func (a *API) getTenant(_ context.Context, _ *call, in *tenantInput) (*tenantOutput, error) {
	found, err := a.Tenants.Tenant(in.Tenant)
	return &tenantOutput{showTenant(found)}, err
}

func (a *API) pauseTenant(ctx context.Context, _ *call, in *tenantInput) (*tenantOutput, error) {
	changed, err := a.Tenants.PauseTenant(ctx, in.Tenant, true)
	return &tenantOutput{showTenant(changed)}, err
}

func (a *API) resumeTenant(ctx context.Context, _ *call, in *tenantInput) (*tenantOutput, error) {
	changed, err := a.Tenants.PauseTenant(ctx, in.Tenant, false)
	return &tenantOutput{showTenant(changed)}, err
}

// KeyInfo is an API key as it can be shown: by its first characters.
type KeyInfo struct {
	ID        postrider.ID `json:"id" format:"uuid"`
	Prefix    string       `json:"prefix" doc:"The key's first characters, to recognise it by." example:"prk_Zk3vQx"`
	Tenant    *string      `json:"tenant" doc:"Whose key it is; null for the operator's." example:"acme"`
	Operator  bool         `json:"operator" doc:"Whether it is the operator's."`
	Name      string       `json:"name" example:"acme production"`
	CreatedAt instant      `json:"created_at"`
}

type createdAPIKey struct {
	KeyInfo
	Key string `json:"key" doc:"The key. It is shown this once; only its hash is kept." example:"prk_Zk3vQxT1m8yW4cBd0nRj5LhGa7UeSf2P"`
}

type newAPIKey struct {
	Tenant   *string `json:"tenant" required:"false" nullable:"false" doc:"Whose key it becomes. Required unless operator is true." example:"acme"`
	Operator bool    `json:"operator" required:"false" doc:"Makes an operator's key. Not together with tenant."`
	Name     *string `json:"name" nullable:"false" maxLength:"100" doc:"For people: 1 to 100 printable characters." example:"acme production"`
}

type (
	createAPIKeyInput  struct{ WithBody[newAPIKey] }
	createAPIKeyOutput struct{ Body createdAPIKey }
	apiKeysInput       struct {
		PageQuery
		Tenant string `query:"tenant" doc:"The keys of one tenant; absent: all keys." example:"acme"`
	}
	apiKeyInput struct {
		ID string `path:"id" doc:"The key's id, a UUID."`
	}
)

func showAPIKey(k postrider.APIKey) KeyInfo {
	return KeyInfo{
		ID: k.ID, Prefix: k.Prefix, Tenant: orNull(k.Tenant), Operator: k.Operator(), Name: k.Name,
		CreatedAt: instant(k.CreatedAt),
	}
}

// check gives the tenant and name of the key that is asked for. An operator's
// key is never made by leaving a field out.
func (n *newAPIKey) check() (tenant, name string, err error) {
	var faults postrider.Faults
	switch {
	case n.Operator && n.Tenant != nil:
		faults.Add(invalid("operator", "conflicting_fields", "An operator's key belongs to no tenant: give one of the two."))
	case !n.Operator && (n.Tenant == nil || *n.Tenant == ""):
		faults.Add(required("tenant"))
	case !n.Operator:
		tenant = *n.Tenant
	}
	if n.Name == nil {
		faults.Add(required("name"))
	} else {
		name = *n.Name
	}
	return tenant, name, faults.Err()
}

func (a *API) createAPIKey(ctx context.Context, _ *call, in *createAPIKeyInput) (*createAPIKeyOutput, error) {
	tenant, name, err := in.Body.Value.check()
	if err != nil {
		return nil, err
	}
	key, text, err := a.Keys.CreateAPIKey(ctx, tenant, name)
	return &createAPIKeyOutput{createdAPIKey{showAPIKey(key), text}}, err
}

func (a *API) listAPIKeys(_ context.Context, c *call, in *apiKeysInput) (*listOutput[KeyInfo], error) {
	if in.Tenant != "" {
		if _, err := a.tenant(c, in.Tenant); err != nil {
			return nil, err
		}
	}
	before, err := a.cursors.openID("api_keys", in.Tenant, in.Cursor)
	if err != nil {
		return nil, err
	}
	list, more := a.Keys.APIKeys(in.Tenant, before, in.Limit)
	shown := make([]KeyInfo, len(list))
	for i := range list {
		shown[i] = showAPIKey(list[i])
	}
	if !more {
		return newPage(c, shown, ""), nil
	}
	return newPage(c, shown, a.cursors.sealID("api_keys", in.Tenant, list[len(list)-1].ID)), nil
}

func (a *API) deleteAPIKey(ctx context.Context, _ *call, in *apiKeyInput) (*struct{}, error) {
	id, err := pathID("API key", in.ID)
	if err != nil {
		return nil, err
	}
	return nil, a.Keys.DeleteAPIKey(ctx, id)
}
