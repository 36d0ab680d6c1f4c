package registry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"postrider"
	"postrider/internal/registry"
	"postrider/internal/sealing"
	"postrider/internal/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fixture is a registry on a real store that can be made to fail.
type fixture struct {
	*registry.Registry

	t     *testing.T
	store *failing
	o     registry.Options

	mu      sync.Mutex
	changed []postrider.ID
	created []postrider.ID
}

// failing is a store whose writes fail while err is set.
type failing struct {
	*sqlite.Store

	err error
}

func (f *failing) PutWebhook(ctx context.Context, w postrider.Webhook) error {
	if f.err != nil {
		return f.err
	}
	return f.Store.PutWebhook(ctx, w)
}

func (f *failing) CreateAPIKey(ctx context.Context, k postrider.APIKey) error {
	if f.err != nil {
		return f.err
	}
	return f.Store.CreateAPIKey(ctx, k)
}

func (f *failing) DeleteAPIKey(ctx context.Context, id postrider.ID) (bool, error) {
	if f.err != nil {
		return false, f.err
	}
	return f.Store.DeleteAPIKey(ctx, id)
}

func (f *failing) PutEventType(ctx context.Context, t postrider.EventType) error {
	if f.err != nil {
		return f.err
	}
	return f.Store.PutEventType(ctx, t)
}

var errDisk = errors.New("the disk is gone")

func newFixture(t *testing.T, change ...func(*registry.Options)) *fixture {
	t.Helper()
	sealer, err := sealing.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.Context(), t.TempDir(), sealer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{t: t, store: &failing{Store: store}}
	f.o = registry.Options{
		Store: f.store,
		Created: func(_ context.Context, w *postrider.Webhook) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.created = append(f.created, w.ID)
		},
		Changed: func(id postrider.ID) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.changed = append(f.changed, id)
		},
	}
	for _, c := range change {
		c(&f.o)
	}
	f.Registry = f.reload()
	return f
}

// reload is a registry as it is after a restart.
func (f *fixture) reload() *registry.Registry {
	f.t.Helper()
	r, err := registry.New(f.t.Context(), f.o)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

func (f *fixture) tenants(names ...string) {
	f.t.Helper()
	for _, name := range names {
		if _, err := f.CreateTenant(f.t.Context(), name); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *fixture) webhook(change ...func(*postrider.Webhook)) postrider.Webhook {
	f.t.Helper()
	w := postrider.Webhook{
		Tenant: postrider.DefaultTenant, URL: "https://partner.test/", ContentType: postrider.JSON, Events: []string{"*"}, Active: true,
	}
	for _, c := range change {
		c(&w)
	}
	w, err := f.CreateWebhook(f.t.Context(), w)
	if err != nil {
		f.t.Fatal(err)
	}
	return w
}

func of(tenant string) func(*postrider.Webhook) {
	return func(w *postrider.Webhook) { w.Tenant = tenant }
}

func takes(events ...string) func(*postrider.Webhook) {
	return func(w *postrider.Webhook) { w.Events = events }
}

func (f *fixture) update(w postrider.Webhook, change func(*postrider.Webhook)) postrider.Webhook {
	f.t.Helper()
	w, err := f.UpdateWebhook(f.t.Context(), w.Tenant, w.ID, change)
	if err != nil {
		f.t.Fatal(err)
	}
	return w
}

func wantCode(t *testing.T, err error, kind postrider.Kind, code string) {
	t.Helper()
	if e, ok := errors.AsType[*postrider.Error](err); !ok || e.Kind != kind || e.Code != code {
		t.Errorf("got error %v, want code %q", err, code)
	}
}

func wantSame(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestNew_TheDefaultTenantAlwaysExists(t *testing.T) {
	f := newFixture(t)
	for range 2 { // it is made once
		if tenant, err := f.reload().Tenant(postrider.DefaultTenant); err != nil || tenant.CreatedAt.IsZero() {
			t.Errorf("got %+v, %v, want the default tenant", tenant, err)
		}
	}
}

func TestNew_ARestartFindsEverythingAsItWas(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	f.tenants("a", "b")
	w := f.webhook(of("a"), func(w *postrider.Webhook) {
		w.Secret, w.Headers, w.Timeout = "12345678", map[string]string{"X-Y": "z"}, 2*time.Second
		w.RetrySchedule = []time.Duration{time.Minute}
	})
	f.webhook(of("b"))
	f.update(w, func(w *postrider.Webhook) { w.Description = "changed" })
	gone := f.webhook(of("a"))
	if err := f.DeleteWebhook(ctx, "a", gone.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := f.PauseTenant(ctx, "b", true); err != nil {
		t.Fatal(err)
	}
	if _, err := f.DisableWebhook(ctx, w.ID, postrider.Disabled{At: time.Now().UTC().Truncate(time.Microsecond), Code: "gone", Reason: "r"}); err != nil {
		t.Fatal(err)
	}
	key, text, err := f.CreateAPIKey(ctx, "a", "deploy")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.PutEventType(ctx, postrider.EventType{Name: "stay.ended", Schema: []byte(`{}`)}); err != nil {
		t.Fatal(err)
	}

	again := f.reload()
	for _, tenant := range []string{"a", "b", postrider.DefaultTenant} {
		before, _ := f.Webhooks(tenant, postrider.ID{}, 100)
		after, _ := again.Webhooks(tenant, postrider.ID{}, 100)
		wantSame(t, "webhooks of "+tenant, after, before)
	}
	beforeTenants, _ := f.Tenants("", 100)
	afterTenants, _ := again.Tenants("", 100)
	wantSame(t, "tenants", afterTenants, beforeTenants)
	beforeTypes, _ := f.EventTypes("", 100)
	afterTypes, _ := again.EventTypes("", 100)
	wantSame(t, "catalogue", afterTypes, beforeTypes)
	if got, err := again.Authenticate(text); err != nil || got != key {
		t.Errorf("got %+v, %v, want key %+v", got, err, key)
	}
	if _, found := again.WebhookByID(gone.ID); found {
		t.Error("got a deleted webhook that has nothing queued")
	}
}

func TestTenants_AreListedNewestFirstInPages(t *testing.T) {
	f := newFixture(t)
	want := []string{postrider.DefaultTenant}
	for i := range 25 {
		name := fmt.Sprint("t", i)
		f.tenants(name)
		want = append(want, name)
	}
	slices.Reverse(want)
	for _, limit := range []int{1, 7, 26, 100} {
		var got []string
		for more := true; more; {
			var page []postrider.Tenant
			after := ""
			if len(got) > 0 {
				after = got[len(got)-1]
			}
			page, more = f.Tenants(after, limit)
			if len(page) > limit || more && len(page) < limit {
				t.Fatalf("got a page of %d, more %v, want at most %d", len(page), more, limit)
			}
			for _, tenant := range page {
				got = append(got, tenant.Name)
			}
		}
		wantSame(t, fmt.Sprintf("in pages of %d", limit), got, want)
	}
}

func TestCreateTenant_RefusesWhatIsTakenOrNoName(t *testing.T) {
	f := newFixture(t)
	f.tenants("a")
	f.webhook(of("a"))
	_, err := f.CreateTenant(t.Context(), "a")
	wantCode(t, err, postrider.Conflict, "tenant_exists")
	if list, _ := f.Webhooks("a", postrider.ID{}, 10); len(list) != 1 {
		t.Errorf("got %d webhooks after the refusal, want the tenant as it was", len(list))
	}
	_, err = f.CreateTenant(t.Context(), "*")
	wantCode(t, err, postrider.Invalid, "invalid_tenant")
	_, err = f.Tenant("b")
	wantCode(t, err, postrider.NotFound, "not_found")
}

func TestPauseTenant_HoldsItsWebhooksAndNoOthers(t *testing.T) {
	f := newFixture(t)
	f.tenants("a", "b")
	a, b := f.webhook(of("a")), f.webhook(of("b"))
	f.Match("a", "x") // remembered from before
	for _, paused := range []bool{true, true, false} {
		if got, err := f.PauseTenant(t.Context(), "a", paused); err != nil || got.Paused != paused {
			t.Errorf("got %+v, %v, want paused %v", got, err, paused)
		}
		if w, _ := f.WebhookByID(a.ID); w.Sending() == paused {
			t.Errorf("got webhook a sending %v while paused %v", w.Sending(), paused)
		}
		if matched := f.Match("a", "x"); len(matched) != 1 || matched[0].Sending() == paused {
			t.Errorf("got %+v matched, want a's webhook as it is now", matched)
		}
		if w, _ := f.WebhookByID(b.ID); !w.Sending() {
			t.Error("got b's webhook held")
		}
		changed := f.update(a, func(w *postrider.Webhook) { w.Description += "x" })
		if w, _ := f.WebhookByID(a.ID); w.Sending() == paused || changed.Description == "" {
			t.Errorf("got webhook a sending %v after an edit while paused %v", w.Sending(), paused)
		}
	}
	if got := f.webhook(of("a")); !slices.Contains(f.changed, a.ID) || got.TenantPaused {
		t.Errorf("got %v told as changed, want a's webhook", f.changed)
	}
	_, err := f.PauseTenant(t.Context(), "nobody", true)
	wantCode(t, err, postrider.NotFound, "not_found")
}

func TestAPIKeys_WorkUntilTheyAreDeleted(t *testing.T) {
	f := newFixture(t, func(o *registry.Options) { o.AdminKey = "configured-admin-key" })
	ctx := t.Context()
	f.tenants("a")
	tenants, text, err := f.CreateAPIKey(ctx, "a", "deploy")
	if err != nil {
		t.Fatal(err)
	}
	operators, operatorText, err := f.CreateAPIKey(ctx, "", "ops")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{text: "a", operatorText: "", "configured-admin-key": ""} {
		if key, err := f.Authenticate(text); err != nil || key.Tenant != want || key.Operator() != (want == "") {
			t.Errorf("got %+v, %v, want a key of tenant %q", key, err, want)
		}
	}
	for _, wrong := range []string{"", "x", text + "x", text[:len(text)-1], strings.ToUpper(text), tenants.Prefix, "configured-admin-ke"} {
		_, err := f.Authenticate(wrong)
		wantCode(t, err, postrider.Unauthenticated, "unauthenticated")
	}
	if err := f.DeleteAPIKey(ctx, tenants.ID); err != nil {
		t.Fatal(err)
	}
	_, err = f.Authenticate(text)
	wantCode(t, err, postrider.Unauthenticated, "unauthenticated")
	_, err = f.reload().Authenticate(text)
	wantCode(t, err, postrider.Unauthenticated, "unauthenticated")
	wantCode(t, f.DeleteAPIKey(ctx, tenants.ID), postrider.NotFound, "not_found")
	wantCode(t, f.DeleteAPIKey(ctx, postrider.ID{}), postrider.NotFound, "not_found") // the configured one has no id
	if _, err := f.Authenticate("configured-admin-key"); err != nil {
		t.Errorf("got %v for the configured key, want it valid", err)
	}
	if page, _ := f.APIKeys("", postrider.ID{}, 10); len(page) != 1 || page[0].ID != operators.ID {
		t.Errorf("got %+v, want the stored key alone", page)
	}
}

func TestAPIKeys_AreRefusedForNobodyAndWithoutAName(t *testing.T) {
	f := newFixture(t)
	_, _, err := f.CreateAPIKey(t.Context(), "nobody", "x")
	wantCode(t, err, postrider.Invalid, "unknown_tenant")
	_, _, err = f.CreateAPIKey(t.Context(), "", " ")
	wantCode(t, err, postrider.Invalid, "invalid_name")
	_, _, err = f.CreateAPIKey(t.Context(), "nobody", "")
	wantCode(t, err, postrider.Invalid, "invalid")
	if f.HasOperator() {
		t.Error("got an operator's key, want none yet")
	}
	if _, _, err := f.CreateAPIKey(t.Context(), "", "x"); err != nil || !f.HasOperator() {
		t.Errorf("got %v and no operator's key", err)
	}
}

func TestAPIKeys_OfATenantAreListedNewestFirstInPages(t *testing.T) {
	f := newFixture(t)
	f.tenants("a", "b")
	want := map[string][]postrider.ID{}
	for i := range 20 {
		tenant := []string{"a", "b", "a", ""}[i%4]
		key, _, err := f.CreateAPIKey(t.Context(), tenant, "x")
		if err != nil {
			t.Fatal(err)
		}
		if tenant != "" {
			want[tenant] = append(want[tenant], key.ID)
		}
		want[""] = append(want[""], key.ID) // the operator sees all
	}
	for tenant, ids := range want {
		slices.Reverse(ids)
		var got []postrider.ID
		var before postrider.ID
		for more := true; more; {
			var page []postrider.APIKey
			page, more = f.APIKeys(tenant, before, 3)
			for _, key := range page {
				got, before = append(got, key.ID), key.ID
			}
		}
		wantSame(t, "keys of "+tenant, got, ids)
	}
}

func TestCatalogue_IsListedByNameInPagesWithTheSystemsTypes(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	for _, name := range []string{"b", "a.z", "zz", "a"} {
		if _, created, err := f.PutEventType(ctx, postrider.EventType{Name: name}); err != nil || !created {
			t.Errorf("got created %v, %v, want a new entry", created, err)
		}
	}
	want := []string{"a", "a.z", "b", "webhook.disabled", "webhook.failing", "webhook.recovered", "zz"}
	var got []string
	for more := true; more; {
		var page []postrider.EventType
		after := ""
		if len(got) > 0 {
			after = got[len(got)-1]
		}
		page, more = f.EventTypes(after, 2)
		for _, entry := range page {
			got = append(got, entry.Name)
		}
	}
	wantSame(t, "the catalogue", got, want)

	first, err := f.EventType("a")
	if err != nil {
		t.Fatal(err)
	}
	changed, created, err := f.PutEventType(ctx, postrider.EventType{Name: "a", Description: "new"})
	if err != nil || created || !changed.CreatedAt.Equal(first.CreatedAt) || changed.UpdatedAt.Before(first.UpdatedAt) {
		t.Errorf("got %+v, created %v, %v, want the entry of before, changed", changed, created, err)
	}
	if err := f.DeleteEventType(ctx, "a"); err != nil {
		t.Error(err)
	}
	wantCode(t, f.DeleteEventType(ctx, "a"), postrider.NotFound, "not_found")
	wantCode(t, f.DeleteEventType(ctx, "webhook.failing"), postrider.Invalid, "reserved_event")
	_, err = f.EventType("a")
	wantCode(t, err, postrider.NotFound, "not_found")
}

func TestCatalogue_RefusesEntriesThatAreWrong(t *testing.T) {
	f := newFixture(t)
	for field, entry := range map[string]postrider.EventType{
		"event":       {Name: "A"},
		"description": {Name: "a", Description: strings.Repeat("a", 1001)},
		"notes":       {Name: "a", Notes: "\xff"},
		"schema":      {Name: "a", Schema: []byte(`{`)},
		"example":     {Name: "a", Example: []byte(`nothing`)},
	} {
		_, _, err := f.PutEventType(t.Context(), entry)
		if e, ok := errors.AsType[*postrider.Error](err); !ok || e.Field != field || e.Kind != postrider.Invalid {
			t.Errorf("got %v, want the field %s refused", err, field)
		}
	}
	f.store.err = errDisk
	if _, _, err := f.PutEventType(t.Context(), postrider.EventType{Name: "a"}); !errors.Is(err, errDisk) {
		t.Errorf("got %v, want the store's error", err)
	}
	if _, err := f.EventType("a"); err == nil {
		t.Error("got an entry that is not in the store")
	}
}

func TestCatalogue_AStrictOneKnowsTypesPatternsAndThePing(t *testing.T) {
	f := newFixture(t, func(o *registry.Options) { o.StrictCatalogue = true })
	if _, _, err := f.PutEventType(t.Context(), postrider.EventType{Name: "room_status.updated"}); err != nil {
		t.Fatal(err)
	}
	for pattern, known := range map[string]bool{
		"room_status.updated": true, "room_status.*": true, "*": true, "ping": true, "webhook.*": true,
		"stay.ended": false, "stay.*": false, "room_status": false, "room.*": false,
	} {
		err := f.CheckCatalogued("events[0]", pattern)
		if (err == nil) != known {
			t.Errorf("%s: got %v, want known %v", pattern, err, known)
		}
	}
	w := postrider.Webhook{
		Tenant: postrider.DefaultTenant, ContentType: postrider.JSON, Events: []string{"room_status.updated", "stay.ended"},
	}
	_, err := f.CreateWebhook(t.Context(), w)
	if e, ok := errors.AsType[*postrider.Error](err); !ok || e.Code != "unknown_event" || e.Field != "events[1]" {
		t.Errorf("got %v, want events[1] unknown", err)
	}
	// A webhook outlives its entry in the catalogue.
	kept := f.webhook(takes("room_status.updated"))
	if err := f.DeleteEventType(t.Context(), "room_status.updated"); err != nil {
		t.Fatal(err)
	}
	f.update(kept, func(w *postrider.Webhook) { w.Description = "an edit of something else" })
	_, err = f.UpdateWebhook(t.Context(), kept.Tenant, kept.ID, func(w *postrider.Webhook) { w.Events = []string{"stay.ended"} })
	wantCode(t, err, postrider.Invalid, "unknown_event")
}
