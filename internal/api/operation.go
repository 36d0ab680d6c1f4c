package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"postrider"
)

// access says whose key a route takes.
type access int

const (
	everyKey     access = iota // a partner's for its own tenant, the operator's for any
	operatorOnly               // the operator's
)

// An operation is a route as the list in routes.go states it.
type operation struct {
	method, path string
	id           string // operationId
	group        string // the section of the reference
	summary      string
	text         string // Markdown is not rendered: plain sentences
	access       access
	status       int      // of success
	also         int      // another status of success; 0: none
	errors       []int    // beyond those that every route of its kind has
	limit        int64    // of the body; 0: bodyLimit
	bodies       []string // the media types of the body; none: JSON
}

// A call is what a handler knows of the request beside its input.
type call struct {
	key postrider.APIKey
	url *url.URL
}

type callKey struct{}

// register adds an operation to the document and to the mux. The handler runs
// for a key that may call it, with an input that was decoded whole.
func register[I, O any](a *API, o operation, handle func(context.Context, *call, *I) (*O, error)) {
	op := o.huma()
	op.Middlewares = huma.Middlewares{func(hc huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(hc)
		c, body, _, err := a.admit(w, r, o)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next(huma.WithValue(hc, callKey{}, c))
	}}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		if b, ok := any(in).(interface{ fault() error }); ok && b.fault() != nil {
			return nil, a.problemOf(ctx, b.fault())
		}
		out, err := handle(ctx, ctx.Value(callKey{}).(*call), in)
		if err != nil {
			return nil, a.problemOf(ctx, err)
		}
		return out, nil
	})
}

// admit is what every route does first: whose key is it, has it requests left,
// may it call this, is the body of a type and size that the route takes. Only
// then is memory spent on the body.
func (a *API) admit(
	w http.ResponseWriter, r *http.Request, o operation,
) (c *call, body []byte, mediaType string, err error) {
	key, err := a.Keys.Authenticate(keyText(r))
	if err != nil {
		return nil, nil, "", err
	}
	if err := a.rates.take(&key, time.Now()); err != nil {
		return nil, nil, "", err
	}
	if o.access == operatorOnly && !key.Operator() {
		return nil, nil, "", errOperatorOnly
	}
	c = &call{key: key, url: r.URL}
	if !o.takesBody() {
		return c, nil, "", nil
	}
	if mediaType, err = checkMediaType(r, o.mediaTypes()...); err != nil {
		return nil, nil, "", err
	}
	body, err = readBody(w, r, o.bodyLimit())
	return c, body, mediaType, err
}

// keyText is the key that a request carries, empty without one.
func keyText(r *http.Request) string {
	if keys := r.Header["X-Api-Key"]; len(keys) > 0 {
		return keys[0]
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

var (
	errOperatorOnly = &postrider.Error{
		Kind: postrider.Forbidden, Code: "operator_only", Detail: "Only the operator's key may do this.",
	}
	errOtherTenant = &postrider.Error{
		Kind: postrider.Forbidden, Field: "tenant", Code: "other_tenant", Detail: "This key acts for its own tenant only.",
	}
)

// tenantField is the tenant that a field of the body names: a partner's own,
// the one that the operator names, or the default tenant. Whether a named one
// exists is for those to say who use it.
func (a *API) tenantField(c *call, named string) (string, error) {
	switch {
	case !c.key.Operator():
		if named != "" && named != c.key.Tenant {
			return "", errOtherTenant
		}
		return c.key.Tenant, nil
	case named == "":
		return postrider.DefaultTenant, nil
	}
	return named, nil
}

// tenant is the one that the query parameter names, and it exists.
func (a *API) tenant(c *call, named string) (string, error) {
	tenant, err := a.tenantField(c, named)
	if err != nil || !c.key.Operator() || named == "" {
		return tenant, err
	}
	if _, err := a.Tenants.Tenant(named); err != nil {
		if isNotFound(err) {
			err = &postrider.Error{
				Kind: postrider.NotFound, Field: "tenant", Code: "unknown_tenant", Detail: "There is no tenant of this name.",
			}
		}
		return "", err
	}
	return named, nil
}

func isNotFound(err error) bool {
	var e *postrider.Error
	return errors.As(err, &e) && e.Kind == postrider.NotFound
}

// TenantQuery is embedded in the input of every route that acts for a tenant.
// It is exported, like all that inputs embed, because huma passes over embedded
// types that are not.
type TenantQuery struct {
	Tenant string `query:"tenant" doc:"The operator's key: the tenant to act for, default when absent. A partner's key acts for its own tenant only." example:"default"`
}

// pathID reads an id from the path. One that is no id names nothing: to huma the
// parameters are any text, since it would answer 422.
func pathID(noun, text string) (postrider.ID, error) {
	id, err := postrider.ParseID(text)
	if err != nil {
		return id, postrider.Missing(noun)
	}
	return id, nil
}

func (o operation) takesBody() bool {
	return o.method == http.MethodPost || o.method == http.MethodPut || o.method == http.MethodPatch
}

func (o operation) mediaTypes() []string {
	if len(o.bodies) > 0 {
		return o.bodies
	}
	return jsonOnly
}

var jsonOnly = []string{typeJSON}

func (o operation) bodyLimit() int64 {
	if o.limit > 0 {
		return o.limit
	}
	return bodyLimit
}

// huma is the operation as huma wants it. Its own checks of the body are off:
// it is decoded and checked here.
func (o operation) huma() huma.Operation {
	op := huma.Operation{
		Method: o.method, Path: o.path, OperationID: o.id, Tags: []string{o.group},
		Summary: o.summary, Description: o.text, DefaultStatus: o.status,
		Errors: o.failures(), Responses: map[string]*huma.Response{},
		SkipValidateBody: true, RejectUnknownQueryParameters: true,
		// The body is read before huma comes to it, within the server's limits.
		MaxBodyBytes: -1, BodyReadTimeout: -1,
	}
	if o.also != 0 {
		op.Metadata = map[string]any{alsoAnswers: o.also}
	}
	if o.access == operatorOnly {
		op.Description += " Only with the operator's key."
		op.Extensions = map[string]any{"x-operator-only": true}
	}
	return op
}

// failures lists the statuses of the errors that the operation can answer.
func (o operation) failures() []int {
	list := append([]int{401, 403, 422, 429, 500, 503}, o.errors...)
	if strings.Contains(o.path, "{") {
		list = append(list, 404)
	}
	if o.takesBody() {
		list = append(list, 400, 413, 415, 507)
	}
	slices.Sort(list)
	return slices.Compact(list)
}
