package portal

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"postrider"
)

type operatorPage struct {
	Chart    *chart
	Tenants  int
	Webhooks int
	More     bool // there are more than were looked at
	Troubles []hookRow
	Stopped  int // webhooks that are paused or disabled
	Oldest   time.Time
	Late     bool
}

// lookedAtTenants bounds how many tenants the operator's pages go through.
const lookedAtTenants = 500

func (p *Portal) operatorOverview(v *visit) (err error) {
	var data operatorPage
	ctx := v.r.Context()
	if data.Chart, err = p.chart(ctx, "", postrider.ID{}, v.r.FormValue("span")); err != nil {
		return err
	}
	tenants, more := p.o.Tenants.Tenants("", lookedAtTenants)
	data.Tenants, data.More = len(tenants), more
	left := lookedAt
	for _, t := range tenants {
		webhooks, more := p.o.Webhooks.Webhooks(t.Name, postrider.ID{}, max(1, left))
		if left <= 0 {
			data.More = data.More || len(webhooks) > 0
			break
		}
		left -= len(webhooks)
		data.Webhooks += len(webhooks)
		data.More = data.More || more
		failing, oldest, err := p.troubles(ctx, t.Name, webhooks)
		if err != nil {
			return err
		}
		for i := range failing {
			failing[i].Base = tenantBase(t.Name)
		}
		data.Troubles = append(data.Troubles, failing...)
		if !oldest.IsZero() && (data.Oldest.IsZero() || oldest.Before(data.Oldest)) {
			data.Oldest = oldest
		}
		for i := range webhooks {
			if !webhooks[i].Sending() {
				data.Stopped++
			}
		}
	}
	data.Late = !data.Oldest.IsZero() && time.Since(data.Oldest) > lateAfter
	return p.show(v, "operator", "Overview", data)
}

type allWebhooksPage struct {
	Rows   []hookRow
	Status string
	Search string
	More   bool
}

// allWebhooks lists the webhooks of every tenant, those that do not send
// alone when asked.
func (p *Portal) allWebhooks(v *visit) error {
	data := allWebhooksPage{Status: v.r.FormValue("status"), Search: strings.TrimSpace(v.r.FormValue("search"))}
	tenants, more := p.o.Tenants.Tenants("", lookedAtTenants)
	data.More = more
	for _, t := range tenants {
		webhooks, cut := p.o.Webhooks.Webhooks(t.Name, postrider.ID{}, lookedAt)
		data.More = data.More || cut
		webhooks = slices.DeleteFunc(webhooks, func(w postrider.Webhook) bool {
			return data.Status == "stopped" && w.Sending() || data.Status == "sending" && !w.Sending() ||
				!strings.Contains(strings.ToLower(w.URL+" "+w.Description+" "+t.Name+" "+w.ID.String()), strings.ToLower(data.Search))
		})
		if left := pageSize*2 - len(data.Rows); len(webhooks) > left {
			webhooks, data.More = webhooks[:left], true
		}
		rows, err := p.hookRows(v.r.Context(), t.Name, webhooks)
		if err != nil {
			return err
		}
		if data.Rows = append(data.Rows, rows...); len(data.Rows) >= pageSize*2 {
			break
		}
	}
	p.render(v, http.StatusOK, "allwebhooks", partOf(v, "all-rows"), "Webhooks", data)
	return nil
}

type tenantsPage struct {
	Tenants []tenantRow
	Next    string
	Name    string
	Error   string
}

type tenantRow struct {
	Tenant   postrider.Tenant
	Webhooks int
	More     bool
	Base     string
	Sum      postrider.Tally
	Day      []postrider.Tally
}

// Rate and Spark are those of the last day.
func (t tenantRow) Rate() string { return percent(t.Sum.Successes, t.Sum.Attempts()) }

// Spark is the last day as a picture.
func (t tenantRow) Spark() any { return sparkline(t.Day) }

func (p *Portal) listTenants(v *visit) error { return p.tenantsPage(v, http.StatusOK, tenantsPage{}) }

func (p *Portal) tenantsPage(v *visit, status int, data tenantsPage) error {
	tenants, more := p.o.Tenants.Tenants(v.r.FormValue("after"), pageSize)
	day := span{Step: time.Hour, Steps: 24}.query(time.Now())
	for _, t := range tenants {
		row := tenantRow{Tenant: t, Base: tenantBase(t.Name)}
		webhooks, cut := p.o.Webhooks.Webhooks(t.Name, postrider.ID{}, 100)
		row.Webhooks, row.More = len(webhooks), cut
		day.Tenant = t.Name
		var err error
		if row.Day, err = p.o.Counters.Tallies(v.r.Context(), day); err != nil {
			return err
		}
		for i := range row.Day {
			row.Sum.Add(&row.Day[i])
		}
		data.Tenants = append(data.Tenants, row)
	}
	if more {
		data.Next = v.base + "/tenants?after=" + tenants[len(tenants)-1].Name
	}
	p.render(v, status, "tenants", "", "Tenants", data)
	return nil
}

func (p *Portal) createTenant(v *visit) error {
	name := strings.TrimSpace(v.r.PostFormValue("name"))
	_, err := p.o.Tenants.CreateTenant(v.r.Context(), name)
	if e, found := shown(err); found && e.Field != "" {
		return p.tenantsPage(v, http.StatusUnprocessableEntity, tenantsPage{Name: name, Error: e.Detail})
	}
	if err != nil {
		return err
	}
	p.say(v, flash{Text: "The tenant " + name + " is there. Make an API key for it next."})
	return v.redirect(v.base + "/keys?tenant=" + name)
}

type keysPage struct {
	Keys    []postrider.APIKey
	Next    string
	Tenants []postrider.Tenant
	Tenant  string
	Name    string
	Error   string
}

func (p *Portal) listKeys(v *visit) error {
	return p.keysPage(v, http.StatusOK, keysPage{Tenant: v.r.FormValue("tenant")})
}

func (p *Portal) keysPage(v *visit, status int, data keysPage) error {
	before, err := cursor(v)
	if err != nil {
		return err
	}
	keys, more := p.o.Keys.APIKeys("", before, pageSize)
	data.Keys = keys
	data.Tenants, _ = p.o.Tenants.Tenants("", lookedAtTenants)
	if more {
		data.Next = v.base + "/keys?before=" + data.Keys[len(data.Keys)-1].ID.String()
	}
	p.render(v, status, "keys", "", "API keys", data)
	return nil
}

// operatorKey is what the form says for a key that is not a tenant's. It is
// no tenant's name, so that an empty field never makes an operator.
const operatorKey = "*operator*"

func (p *Portal) createKey(v *visit) error {
	data := keysPage{Tenant: v.r.PostFormValue("tenant"), Name: strings.TrimSpace(v.r.PostFormValue("name"))}
	if data.Tenant == "" {
		data.Error = "Choose whose key it becomes."
		return p.keysPage(v, http.StatusUnprocessableEntity, data)
	}
	tenant := data.Tenant
	if tenant == operatorKey {
		tenant = ""
	}
	_, text, err := p.o.Keys.CreateAPIKey(v.r.Context(), tenant, data.Name)
	if e, found := shown(err); found && (e.Field != "" || len(e.Fields) > 0) {
		data.Error = e.Detail
		return p.keysPage(v, http.StatusUnprocessableEntity, data)
	}
	if err != nil {
		return err
	}
	p.say(v, flash{Text: "The key is made.", Secret: text, Label: "API key"})
	return v.redirect(v.base + "/keys")
}

func (p *Portal) deleteKey(v *visit) error {
	id, err := v.id("API key")
	if err != nil {
		return err
	}
	if err := p.o.Keys.DeleteAPIKey(v.r.Context(), id); err != nil {
		return err
	}
	p.say(v, flash{Text: "The key is revoked. Who signed in with it is signed out."})
	return v.redirect(v.base + "/keys")
}

type nodesPage struct {
	Nodes
	Silent func(postrider.Node) bool
}

// silentAfter is more than two heartbeats of a node, and less than what it takes
// until it counts as dead.
const silentAfter = 5 * time.Second

func (p *Portal) listNodes(v *visit) error {
	return p.show(v, "nodes", "Nodes", nodesPage{
		Nodes:  p.o.Nodes(v.r.Context()),
		Silent: func(n postrider.Node) bool { return !n.BeatAt.IsZero() && time.Since(n.BeatAt) > silentAfter },
	})
}
