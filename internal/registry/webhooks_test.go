package registry_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"postrider"
	"postrider/internal/registry"
)

func TestWebhooks_AreTheirTenantsAlone(t *testing.T) {
	f := newFixture(t)
	f.tenants("a", "b")
	w := f.webhook(of("a"))
	ctx := t.Context()
	for _, tenant := range []string{"b", "", "*", "nobody", postrider.DefaultTenant} {
		_, err := f.Webhook(tenant, w.ID)
		wantCode(t, err, postrider.NotFound, "not_found")
		_, err = f.UpdateWebhook(ctx, tenant, w.ID, func(w *postrider.Webhook) { w.URL = "https://evil.test/" })
		wantCode(t, err, postrider.NotFound, "not_found")
		wantCode(t, f.DeleteWebhook(ctx, tenant, w.ID), postrider.NotFound, "not_found")
		if page, more := f.Webhooks(tenant, postrider.ID{}, 10); len(page) > 0 || more {
			t.Errorf("got %+v listed for %q", page, tenant)
		}
		if got := f.ActiveWebhooks(tenant); len(got) > 0 {
			t.Errorf("got %+v active for %q", got, tenant)
		}
		if got := f.Match(tenant, "stay.ended"); len(got) > 0 {
			t.Errorf("got %+v matched for %q", got, tenant)
		}
	}
	got, err := f.Webhook("a", w.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "the webhook", got, w)
}

func TestWebhooks_AreListedNewestFirstInPages(t *testing.T) {
	f := newFixture(t)
	f.tenants("a")
	var want []postrider.ID
	for i := range 23 {
		want = append(want, f.webhook().ID)
		if i%3 == 0 {
			f.webhook(of("a"))
		}
	}
	slices.Reverse(want)
	for _, limit := range []int{1, 5, 23, 100} {
		var got []postrider.ID
		var before postrider.ID
		for more := true; more; {
			var page []postrider.Webhook
			page, more = f.Webhooks(postrider.DefaultTenant, before, limit)
			if len(page) > limit || more && len(page) < limit {
				t.Fatalf("got a page of %d, more %v, want at most %d", len(page), more, limit)
			}
			for _, w := range page {
				got, before = append(got, w.ID), w.ID
			}
		}
		wantSame(t, fmt.Sprintf("in pages of %d", limit), got, want)
	}
	// A page goes on where it was also when the webhook there has been deleted.
	if err := f.DeleteWebhook(t.Context(), postrider.DefaultTenant, want[4]); err != nil {
		t.Fatal(err)
	}
	if page, _ := f.Webhooks(postrider.DefaultTenant, want[4], 3); len(page) != 3 || page[0].ID != want[5] {
		t.Errorf("got %d webhooks from %v, want 3 from %v", len(page), page, want[5])
	}
}

func TestCreateWebhook_RefusesWhatIsWrongAndTellsOfWhatIsNot(t *testing.T) {
	errURL := &postrider.Error{Kind: postrider.Invalid, Field: "url", Code: "invalid_url", Detail: "No."}
	f := newFixture(t, func(o *registry.Options) {
		o.CheckURL = func(field, url string) error {
			if url == "https://denied.test/" {
				return errURL
			}
			return nil
		}
	})
	create := func(change func(*postrider.Webhook)) error {
		w := postrider.Webhook{Tenant: postrider.DefaultTenant, URL: "https://a.test/", ContentType: postrider.JSON, Events: []string{"*"}}
		change(&w)
		_, err := f.CreateWebhook(t.Context(), w)
		return err
	}
	if err := create(func(w *postrider.Webhook) { w.URL = "https://denied.test/" }); !errors.Is(err, errURL) {
		t.Errorf("got %v, want what the guard says", err)
	}
	wantCode(t, create(func(w *postrider.Webhook) { w.Events = nil }), postrider.Invalid, "invalid_events")
	wantCode(t, create(func(w *postrider.Webhook) { w.Tenant = "nobody" }), postrider.Invalid, "unknown_tenant")
	wantCode(t, create(func(w *postrider.Webhook) { w.URL, w.Events = "https://denied.test/", nil }), postrider.Invalid, "invalid")
	f.store.err = errDisk
	if err := create(func(*postrider.Webhook) {}); !errors.Is(err, errDisk) {
		t.Errorf("got %v, want the store's error", err)
	}
	f.store.err = nil
	if page, _ := f.Webhooks(postrider.DefaultTenant, postrider.ID{}, 10); len(page) > 0 || len(f.created) > 0 {
		t.Errorf("got %+v registered and %v told, want nothing", page, f.created)
	}
	if w := f.webhook(); !slices.Equal(f.created, []postrider.ID{w.ID}) || w.CreatedAt.IsZero() || !w.UpdatedAt.Equal(w.CreatedAt) {
		t.Errorf("got %+v and %v told, want the new webhook", w, f.created)
	}
}

func TestUpdateWebhook_ChangesWhatItMayAndTellsOfIt(t *testing.T) {
	f := newFixture(t)
	f.tenants("b")
	w := f.webhook(func(w *postrider.Webhook) { w.Headers = map[string]string{"X-A": "1"} })
	got := f.update(w, func(w *postrider.Webhook) {
		w.ID, w.Tenant, w.CreatedAt, w.UpdatedAt = postrider.NewID(), "b", time.Time{}, time.Time{}
		w.URL, w.Headers["X-B"] = "https://new.test/", "2"
	})
	if got.ID != w.ID || got.Tenant != w.Tenant || !got.CreatedAt.Equal(w.CreatedAt) || got.UpdatedAt.Before(w.UpdatedAt) {
		t.Errorf("got %+v, want the same webhook as %+v", got, w)
	}
	if got.URL != "https://new.test/" || len(got.Headers) != 2 || len(w.Headers) != 1 {
		t.Errorf("got %+v of %+v, want the change in the new one alone", got, w)
	}
	if !slices.Equal(f.changed, []postrider.ID{w.ID}) {
		t.Errorf("got %v told as changed, want the webhook", f.changed)
	}
}

func TestUpdateWebhook_ARefusalChangesNothing(t *testing.T) {
	f := newFixture(t)
	w := f.webhook()
	_, err := f.UpdateWebhook(t.Context(), w.Tenant, w.ID, func(w *postrider.Webhook) {
		w.Events[0], w.ContentType = "changed", "wrong"
	})
	wantCode(t, err, postrider.Invalid, "invalid_content_type")
	f.store.err = errDisk
	_, err = f.UpdateWebhook(t.Context(), w.Tenant, w.ID, func(w *postrider.Webhook) { w.Active = false })
	if !errors.Is(err, errDisk) {
		t.Errorf("got %v, want the store's error", err)
	}
	if err := f.DeleteWebhook(t.Context(), w.Tenant, w.ID); !errors.Is(err, errDisk) {
		t.Errorf("got %v, want the store's error", err)
	}
	f.store.err = nil
	for _, r := range []*registry.Registry{f.Registry, f.reload()} {
		got, err := r.Webhook(w.Tenant, w.ID)
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, "the webhook", got, w)
	}
	if len(f.changed) > 0 {
		t.Errorf("got %v told as changed, want nothing", f.changed)
	}
}

// A rule that has become stricter does not stand in the way of other changes.
func TestUpdateWebhook_TheURLIsJudgedWhenItIsNew(t *testing.T) {
	denied := false
	f := newFixture(t, func(o *registry.Options) {
		o.CheckURL = func(field, url string) error {
			if denied {
				return &postrider.Error{Kind: postrider.Invalid, Field: field, Code: "invalid_url", Detail: "No."}
			}
			return nil
		}
	})
	w := f.webhook()
	denied = true
	w = f.update(w, func(w *postrider.Webhook) { w.Active = false })
	_, err := f.UpdateWebhook(t.Context(), w.Tenant, w.ID, func(w *postrider.Webhook) { w.URL += "x" })
	wantCode(t, err, postrider.Invalid, "invalid_url")
}

func TestDeleteWebhook_EndsItAndForgetsItsSecrets(t *testing.T) {
	f := newFixture(t)
	w := f.webhook(func(w *postrider.Webhook) { w.Secret, w.Headers = "12345678", map[string]string{"X-Key": "1"} })
	f.Match(w.Tenant, "a")
	if err := f.DeleteWebhook(t.Context(), w.Tenant, w.ID); err != nil {
		t.Fatal(err)
	}
	_, err := f.Webhook(w.Tenant, w.ID)
	wantCode(t, err, postrider.NotFound, "not_found")
	wantCode(t, f.DeleteWebhook(t.Context(), w.Tenant, w.ID), postrider.NotFound, "not_found")
	_, err = f.UpdateWebhook(t.Context(), w.Tenant, w.ID, func(w *postrider.Webhook) { w.DeletedAt = time.Time{} })
	wantCode(t, err, postrider.NotFound, "not_found")
	if got := f.Match(w.Tenant, "a"); len(got) > 0 {
		t.Errorf("got %+v matched, want nothing", got)
	}
	kept, found := f.WebhookByID(w.ID) // until its queue is empty
	if !found || kept.Sending() || kept.Secret != "" || len(kept.Headers) > 0 || len(kept.Previous) > 0 {
		t.Errorf("got %+v, want it there, without its secrets", kept)
	}
	if !slices.Contains(f.changed, w.ID) {
		t.Error("got the deletion not told")
	}
	f.Forget(w.ID)
	if _, found := f.WebhookByID(w.ID); found {
		t.Error("got it still there, want it forgotten")
	}
	other := f.webhook()
	f.Forget(other.ID)
	if _, found := f.WebhookByID(other.ID); !found {
		t.Error("got a webhook that exists forgotten")
	}
}

func TestDisableWebhook_IsForTheFirstReason(t *testing.T) {
	f := newFixture(t)
	w := f.webhook()
	first := postrider.Disabled{At: time.Now().UTC().Truncate(time.Microsecond), Code: "gone", Reason: "It said 410."}
	for i, reason := range []postrider.Disabled{first, {Code: "failing", Reason: "later"}} {
		disabled, err := f.DisableWebhook(t.Context(), w.ID, reason)
		if err != nil || disabled != (i == 0) {
			t.Errorf("got disabled %v, %v, want it the first time", disabled, err)
		}
	}
	got, err := f.reload().Webhook(w.Tenant, w.ID)
	if err != nil || got.Status() != postrider.WebhookDisabled || *got.Disabled != first {
		t.Errorf("got %+v, %v, want it disabled for the first reason", got.Disabled, err)
	}
	if disabled, err := f.DisableWebhook(t.Context(), postrider.NewID(), first); err != nil || disabled {
		t.Errorf("got disabled %v, %v for an unknown webhook, want nothing done", disabled, err)
	}
	other := f.webhook()
	f.store.err = errDisk
	if disabled, err := f.DisableWebhook(t.Context(), other.ID, first); !errors.Is(err, errDisk) || disabled {
		t.Errorf("got disabled %v, %v, want the store's error", disabled, err)
	}
}

func TestSetFailing_IsNoEditAndOnlyTheFirstToNoteItHas(t *testing.T) {
	f := newFixture(t)
	w := f.webhook()
	failing := postrider.Failing{Since: time.Now().UTC().Truncate(time.Microsecond), Warned: 50}
	for _, want := range []bool{true, false} {
		if changed, err := f.SetFailing(t.Context(), w.ID, postrider.Failing{}, failing); err != nil || changed != want {
			t.Errorf("got changed %v, %v, want %v", changed, err, want)
		}
	}
	got, err := f.reload().Webhook(w.Tenant, w.ID)
	if err != nil || got.Failing != failing || !got.UpdatedAt.Equal(w.UpdatedAt) || len(f.changed) > 0 {
		t.Errorf("got %+v, %v, told %v, want it failing and not edited", got, err, f.changed)
	}
	got = f.update(w, func(w *postrider.Webhook) { w.URL = "https://new.test/" })
	if got.Failing != (postrider.Failing{}) {
		t.Errorf("got %+v at a new URL, want a new beginning", got.Failing)
	}
}

func TestMatch_FollowsEveryChange(t *testing.T) {
	f := newFixture(t)
	want := func(when string, eventType string, want ...postrider.ID) {
		t.Helper()
		for range 2 { // the second answer is the remembered one
			var got []postrider.ID
			for _, w := range f.Match(postrider.DefaultTenant, eventType) {
				got = append(got, w.ID)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: got %v for %s, want %v", when, got, eventType, want)
			}
		}
	}
	want("at the start", "stay.ended")
	one := f.webhook(takes("stay.*"))
	want("created", "stay.ended", one.ID)
	want("created", "room_status.updated")
	two := f.webhook(takes("*"))
	want("another created", "stay.ended", one.ID, two.ID)
	want("another created", "room_status.updated", two.ID)
	f.update(one, func(w *postrider.Webhook) { w.Events = []string{"room_status.updated"} })
	want("events changed", "stay.ended", two.ID)
	want("events changed", "room_status.updated", one.ID, two.ID)
	f.update(two, func(w *postrider.Webhook) { w.Active = false })
	want("switched off, so that its deliveries are held", "stay.ended", two.ID)
	if got := f.Match(postrider.DefaultTenant, "stay.ended"); got[0].Active {
		t.Error("got the webhook as it was before it was switched off")
	}
	if err := f.DeleteWebhook(t.Context(), one.Tenant, one.ID); err != nil {
		t.Fatal(err)
	}
	want("deleted", "room_status.updated", two.ID)
}

func TestMatch_RemembersABoundedNumberOfTypes(t *testing.T) {
	f := newFixture(t)
	w := f.webhook(takes("type_7", "type_5000"))
	for i := range 5001 { // five times over the bound
		got := f.Match(postrider.DefaultTenant, fmt.Sprint("type_", i))
		if matches := i == 7 || i == 5000; (len(got) == 1) != matches {
			t.Fatalf("type_%d: got %d matches", i, len(got))
		}
	}
	if got := f.Match(postrider.DefaultTenant, "type_7"); len(got) != 1 || got[0].ID != w.ID {
		t.Errorf("got %v, want the webhook", got)
	}
}

func TestMatchAll_NamesTheTenantsThatHaveSome(t *testing.T) {
	f := newFixture(t)
	f.tenants("a", "b", "c")
	one, two, three := f.webhook(of("a")), f.webhook(of("a"), takes("stay.*")), f.webhook(of("b"), takes("stay.ended"))
	f.webhook(of("c"), takes("other"))
	got := map[string][]postrider.ID{}
	for tenant, webhooks := range f.MatchAll("stay.ended") {
		for _, w := range webhooks {
			got[tenant] = append(got[tenant], w.ID)
		}
	}
	wantSame(t, "matches", got, map[string][]postrider.ID{"a": {one.ID, two.ID}, "b": {three.ID}})
}

func TestActiveWebhooks_AreThoseThatSend(t *testing.T) {
	f := newFixture(t)
	on := f.webhook()
	f.webhook(func(w *postrider.Webhook) { w.Active = false })
	disabled := f.webhook()
	if _, err := f.DisableWebhook(t.Context(), disabled.ID, postrider.Disabled{Code: "gone"}); err != nil {
		t.Fatal(err)
	}
	if got := f.ActiveWebhooks(postrider.DefaultTenant); len(got) != 1 || got[0].ID != on.ID {
		t.Errorf("got %+v, want the active one", got)
	}
}

func TestRegistry_ChangesSideBySideAgreeWithTheStore(t *testing.T) {
	f := newFixture(t)
	f.tenants("a")
	shared := f.webhook(of("a"))
	const goroutines, rounds = 12, 12
	var all sync.WaitGroup
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, w := range f.Match("a", "stay.ended") {
					if w.Tenant != "a" || w.ID.IsZero() {
						t.Errorf("got %+v half changed", w)
						return
					}
				}
				f.MatchAll("room_status.updated")
				f.Webhooks("a", postrider.ID{}, 5)
			}
		})
	}
	for i := range goroutines {
		all.Go(func() {
			for n := range rounds {
				_, err := f.UpdateWebhook(t.Context(), "a", shared.ID, func(w *postrider.Webhook) { w.Description += "." })
				if err != nil {
					t.Error(err)
				}
				if i%3 > 0 {
					continue
				}
				w, err := f.CreateWebhook(t.Context(), postrider.Webhook{
					Tenant: "a", URL: "https://a.test/", ContentType: postrider.JSON, Events: []string{"stay.ended"}, Active: true,
				})
				if err != nil {
					t.Error(err)
				}
				if n%2 == 0 {
					if err := f.DeleteWebhook(t.Context(), "a", w.ID); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	close(stop)
	readers.Wait()

	got, err := f.Webhook("a", shared.ID)
	if err != nil || len(got.Description) != goroutines*rounds {
		t.Errorf("got %d changes, %v, want each of %d", len(got.Description), err, goroutines*rounds)
	}
	memory, _ := f.Webhooks("a", postrider.ID{}, 1000)
	stored, _ := f.reload().Webhooks("a", postrider.ID{}, 1000)
	wantSame(t, "memory and store", memory, stored)
	if len(memory) != 1+goroutines/3*rounds/2 {
		t.Errorf("got %d webhooks, want %d", len(memory), 1+goroutines/3*rounds/2)
	}
}

func TestWebhooks_ATenantHasAsManyAsItMayAndTakesNoneFromOthers(t *testing.T) {
	f := newFixture(t, func(o *registry.Options) { o.WebhooksPerTenant = 2 })
	f.tenants("acme")
	first := f.webhook()
	f.webhook()
	w := postrider.Webhook{
		Tenant: postrider.DefaultTenant, URL: "https://partner.test/", ContentType: postrider.JSON, Events: []string{"*"},
	}
	_, err := f.CreateWebhook(t.Context(), w)
	wantCode(t, err, postrider.Conflict, "too_many_webhooks")
	f.update(first, func(w *postrider.Webhook) { w.Description = "a change needs no room" })
	f.webhook(func(w *postrider.Webhook) { w.Tenant = "acme" })

	if err := f.DeleteWebhook(t.Context(), first.Tenant, first.ID); err != nil {
		t.Fatal(err)
	}
	f.webhook() // one that is deleted makes room
	if page, more := f.Webhooks(postrider.DefaultTenant, postrider.ID{}, 100); len(page) != 2 || more {
		t.Errorf("got %d webhooks, want 2", len(page))
	}
}
