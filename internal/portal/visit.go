package portal

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"postrider"
)

// A visit is one request of a browser, with who it is.
type visit struct {
	w       http.ResponseWriter
	r       *http.Request
	session postrider.Session // the zero Session where nobody is signed in
	signed  bool
	tenant  string // whose pages these are; empty: the operator's own, or none
	base    string // what links within these pages begin with
}

type handler func(*visit) error

// tenantBase is where the pages of a tenant are.
func tenantBase(tenant string) string { return "/portal/t/" + url.PathEscape(tenant) }

const operatorBase = "/portal/operator"

// open adds a page that needs nobody to be signed in.
func (p *Portal) open(pattern string, handle handler) {
	p.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		v := &visit{w: w, r: r}
		v.session, v.signed = p.sessionOf(r)
		p.serve(v, handle)
	})
}

// tenant adds a page about a tenant. To anybody else than the tenant and the
// operator it does not exist.
func (p *Portal) tenant(pattern string, handle handler) {
	method, path, _ := strings.Cut(pattern, " ")
	p.mux.HandleFunc(method+" /portal/t/{tenant}"+path, func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("tenant")
		v := &visit{w: w, r: r, tenant: name, base: tenantBase(name)}
		p.admit(v, handle, func() bool {
			if v.session.Tenant == name {
				return true
			}
			_, err := p.o.Tenants.Tenant(name)
			return v.session.Operator() && err == nil
		})
	})
}

// operator adds a page that only the operator sees.
func (p *Portal) operator(pattern string, handle handler) {
	method, path, _ := strings.Cut(pattern, " ")
	p.mux.HandleFunc(method+" "+operatorBase+path, func(w http.ResponseWriter, r *http.Request) {
		v := &visit{w: w, r: r, base: operatorBase}
		p.admit(v, handle, v.session.Operator)
	})
}

func (p *Portal) admit(v *visit, handle handler, allowed func() bool) {
	v.session, v.signed = p.sessionOf(v.r)
	if !v.signed {
		p.askToSignIn(v)
		return
	}
	if !allowed() {
		v.tenant, v.base = "", ""
		handle = p.noPage
	}
	p.serve(v, handle)
}

// maxForm bounds what a form may send: the largest payload that the debugger
// or a ping takes, as a form encodes it.
const maxForm = 4 << 20

func (p *Portal) serve(v *visit, handle handler) {
	if v.r.Method == http.MethodPost {
		v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxForm)
		if err := v.r.ParseForm(); err != nil {
			p.fail(v, &postrider.Error{
				Kind: postrider.TooLarge, Code: "invalid_form", Detail: "This form cannot be read, or is larger than 4 MiB.",
			})
			return
		}
	}
	if err := handle(v); err != nil {
		p.fail(v, err)
	}
}

// noPage answers for what does not exist, and what is not this visitor's.
func (p *Portal) noPage(v *visit) error { return postrider.Missing("page") }

var statusOfKind = map[postrider.Kind]int{
	postrider.Invalid:         http.StatusUnprocessableEntity,
	postrider.Malformed:       http.StatusBadRequest,
	postrider.Unauthenticated: http.StatusUnauthorized,
	postrider.Forbidden:       http.StatusForbidden,
	postrider.NotFound:        http.StatusNotFound,
	postrider.Conflict:        http.StatusConflict,
	postrider.TooLarge:        http.StatusRequestEntityTooLarge,
	postrider.RateLimited:     http.StatusTooManyRequests,
	postrider.Unavailable:     http.StatusServiceUnavailable,
	postrider.StorageFull:     http.StatusInsufficientStorage,
}

// A failure is what the page of an error shows.
type failure struct {
	Status int
	Title  string
	Detail string
}

// fail shows an error's page. What is not the visitor's to see is logged here,
// its last stop.
func (p *Portal) fail(v *visit, err error) {
	shown := failure{http.StatusInternalServerError, "Something broke", "Something broke on this side. It is logged; try again later."}
	if e, found := errors.AsType[*postrider.Error](err); found && statusOfKind[e.Kind] != 0 {
		shown = failure{statusOfKind[e.Kind], http.StatusText(statusOfKind[e.Kind]), e.Detail}
		if e.Kind == postrider.NotFound {
			shown.Title = "Not found"
		}
	} else if v.r.Context().Err() != nil {
		return // the visitor has left: nobody reads an answer, and nothing broke
	} else {
		p.o.Logger.ErrorContext(v.r.Context(), "page failed", "path", v.r.URL.Path, "error", err)
	}
	if v.partial() {
		// htmx shows what comes back in place of what it asked for.
		p.render(v, shown.Status, "error", "problem", "", shown)
		return
	}
	p.render(v, shown.Status, "error", "", shown.Title, shown)
}

func (p *Portal) refuseCrossSite(w http.ResponseWriter, r *http.Request) {
	p.fail(&visit{w: w, r: r}, &postrider.Error{
		Kind: postrider.Forbidden, Code: "cross_site",
		Detail: "This form was sent from another site. Open the portal itself and try again there.",
	})
}

// partial reports whether htmx asked for a part of a page.
func (v *visit) partial() bool {
	return v.r.Header.Get("HX-Request") == "true" && v.r.Header.Get("HX-History-Restore-Request") != "true"
}

// redirect sends the browser on, after a form.
func (v *visit) redirect(to string) error {
	if v.partial() {
		v.w.Header().Set("HX-Redirect", to)
		return nil
	}
	http.Redirect(v.w, v.r, to, http.StatusSeeOther)
	return nil
}

// id reads an id from the path. One that is no id names nothing.
func (v *visit) id(noun string) (postrider.ID, error) {
	id, err := postrider.ParseID(v.r.PathValue("id"))
	if err != nil {
		return id, postrider.Missing(noun)
	}
	return id, nil
}
