package storetest

import (
	"bytes"
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"postrider"
)

var registeredTests = []test{
	{"TenantsComeBack", func(s *stage) {
		want := []postrider.Tenant{{Name: "Accor-1.2_x"}, {Name: "b", CreatedAt: now().Add(-time.Hour)}}
		fill(reflect.ValueOf(&want[0]).Elem())
		for _, t := range want {
			s.must(s.CreateTenant(s.ctx(), t))
		}
		s.reopen()
		got, err := s.Tenants(s.ctx())
		s.must(err)
		slices.SortFunc(got, func(a, b postrider.Tenant) int { return cmp.Compare(a.Name, b.Name) })
		s.wantSame(got, want)
	}},
	{"ATenantsNameIsTakenOnce", func(s *stage) {
		first := postrider.Tenant{Name: "partner", CreatedAt: now()}
		s.must(s.CreateTenant(s.ctx(), first))
		s.wantError(s.CreateTenant(s.ctx(), postrider.Tenant{Name: "partner", CreatedAt: now().Add(time.Hour)}),
			postrider.Conflict, "tenant_exists")
		s.must(s.CreateTenant(s.ctx(), postrider.Tenant{Name: "Partner", CreatedAt: now()}))
		got, err := s.Tenants(s.ctx())
		s.must(err)
		if !slices.Contains(got, first) || len(got) != 2 {
			s.t.Errorf("got %+v, want the first of its name and the one in another case", got)
		}
	}},
	{"ATenantIsPausedAndResumed", func(s *stage) {
		want := postrider.Tenant{Name: "partner", CreatedAt: now()}
		s.must(s.CreateTenant(s.ctx(), want))
		s.must(s.CreateTenant(s.ctx(), postrider.Tenant{Name: "other", CreatedAt: now()}))
		for _, want.Paused = range []bool{true, true, false} {
			s.must(s.PauseTenant(s.ctx(), "partner", want.Paused))
			s.reopen()
			got, err := s.Tenants(s.ctx())
			s.must(err)
			if !slices.Contains(got, want) || slices.ContainsFunc(got, func(t postrider.Tenant) bool { return t.Name == "other" && t.Paused }) {
				s.t.Errorf("got %+v, want paused %v of the one alone", got, want.Paused)
			}
		}
	}},
	{"APIKeysComeBackAndGo", func(s *stage) {
		operators, _ := postrider.NewAPIKey("", "deploy", now())
		tenants, _ := postrider.NewAPIKey("partner", "Büro 7", now())
		for _, key := range []postrider.APIKey{operators, tenants} {
			s.must(s.CreateAPIKey(s.ctx(), key))
		}
		s.reopen()
		got, err := s.APIKeys(s.ctx())
		s.must(err)
		slices.SortFunc(got, func(a, b postrider.APIKey) int { return bytes.Compare(a.ID[:], b.ID[:]) })
		s.wantSame(got, []postrider.APIKey{operators, tenants})

		for _, want := range []bool{true, false} {
			if existed, err := s.DeleteAPIKey(s.ctx(), operators.ID); err != nil || existed != want {
				s.t.Errorf("got existed %v, %v, want %v", existed, err, want)
			}
		}
		got, err = s.APIKeys(s.ctx())
		s.must(err)
		s.wantSame(got, []postrider.APIKey{tenants})
	}},
	{"EveryFieldOfAWebhookComesBack", func(s *stage) {
		full := fullWebhook()
		plain := postrider.Webhook{
			ID: postrider.NewID(), Tenant: "partner", URL: "https://b.test/", ContentType: postrider.Form,
			Events: []string{"*"}, CreatedAt: now(), UpdatedAt: now(),
		}
		never := plain
		never.ID, never.RetrySchedule = postrider.NewID(), []time.Duration{} // no retries, which is not the default
		s.wantWebhooks(full, plain, never)
	}},
	{"AWebhookIsReplacedAsAWhole", func(s *stage) {
		w := fullWebhook()
		s.must(s.PutWebhook(s.ctx(), w))
		w = postrider.Webhook{
			ID: w.ID, Tenant: w.Tenant, URL: "https://new.test/", ContentType: postrider.JSON, Events: []string{"a", "b.*"},
			CreatedAt: w.CreatedAt, UpdatedAt: now().Add(time.Minute),
		}
		s.wantWebhooks(w)
	}},
	{"SecretsAndHeadersAreSealed", func(s *stage) {
		canaries := []string{"whsec_Y2FuYXJ5Y2FuYXJ5", "canary-header-value", "X-Canary-Name", "second-canary-secret"}
		w := fullWebhook()
		w.Secret, w.Headers = postrider.Secret(canaries[0]), map[string]string{canaries[2]: canaries[1]}
		w.Description = "this is to be found"
		s.must(s.PutWebhook(s.ctx(), w))
		w.Rotate(postrider.Secret(canaries[3]), time.Hour, now())
		s.must(s.PutWebhook(s.ctx(), w))
		for _, opened := range []bool{true, false} {
			if !opened {
				s.reopen()
			}
			disk := s.engine.Disk(s.t, s.dir)
			if !bytes.Contains(disk, []byte(w.Description)) {
				s.t.Error("got a disk without what is not secret, want the place where secrets would be")
			}
			for _, canary := range canaries {
				if bytes.Contains(disk, []byte(canary)) {
					s.t.Errorf("got %q on disk as it is, want it sealed", canary)
				}
			}
		}
	}},
	{"ADeletedWebhookIsKeptWhileItHasDeliveries", func(s *stage) {
		gone := func(w *postrider.Webhook) { w.DeletedAt = now() }
		empty, queued := s.webhook(gone), s.webhook(gone)
		s.accept(event(home, "1", queued))
		got, err := s.Webhooks(s.ctx())
		s.must(err)
		if len(got) != 1 || got[0].ID != queued || !got[0].DeletedAt.Equal(now()) {
			s.t.Errorf("got %+v, want %s alone and not %s", got, queued, empty)
		}
		d := s.claimOne(queued)
		s.settle(failed(&d))
		if got, err := s.Webhooks(s.ctx()); err != nil || len(got) != 0 {
			s.t.Errorf("got %+v, %v, want none", got, err)
		}
	}},
	{"TheCatalogueComesBackAndGoes", func(s *stage) {
		full := postrider.EventType{
			Name: "room_status.updated", Description: "A room's status <changed>", Notes: "# Notes\n\n日本", Schema: []byte(`{ "a":1 }`),
			Example: []byte("{\"b\" : \"\u2028\"}"), Deprecated: true, CreatedAt: now(), UpdatedAt: now().Add(time.Second),
		}
		plain := postrider.EventType{Name: "a", CreatedAt: now(), UpdatedAt: now()}
		for _, t := range []postrider.EventType{full, plain} {
			s.must(s.PutEventType(s.ctx(), t))
		}
		s.reopen()
		s.wantCatalogue(plain, full)

		changed := postrider.EventType{Name: full.Name, Description: "new", CreatedAt: full.CreatedAt, UpdatedAt: now().Add(time.Hour)}
		s.must(s.PutEventType(s.ctx(), changed))
		s.wantCatalogue(plain, changed)
		for _, want := range []bool{true, false} {
			if existed, err := s.DeleteEventType(s.ctx(), "a"); err != nil || existed != want {
				s.t.Errorf("got existed %v, %v, want %v", existed, err, want)
			}
		}
		s.wantCatalogue(changed)
	}},
	{"AnOpenStoreAnswersAPing", func(s *stage) { s.must(s.Ping(s.ctx())) }},
}

func (s *stage) wantSame(got, want any) {
	s.t.Helper()
	if diff := gocmp.Diff(want, got); diff != "" {
		s.t.Errorf("got what was not stored (-want +got):\n%s", diff)
	}
}

// wantWebhooks stores webhooks and wants them back, alone.
func (s *stage) wantWebhooks(want ...postrider.Webhook) {
	s.t.Helper()
	for _, w := range want {
		s.must(s.PutWebhook(s.ctx(), w))
	}
	s.reopen()
	got, err := s.Webhooks(s.ctx())
	s.must(err)
	byID := func(a, b postrider.Webhook) int { return bytes.Compare(a.ID[:], b.ID[:]) }
	slices.SortFunc(got, byID)
	slices.SortFunc(want, byID)
	s.wantSame(got, want)
}

func (s *stage) wantCatalogue(want ...postrider.EventType) {
	s.t.Helper()
	got, err := s.EventTypes(s.ctx())
	s.must(err)
	slices.SortFunc(got, func(a, b postrider.EventType) int { return cmp.Compare(a.Name, b.Name) })
	s.wantSame(got, want)
}

// fullWebhook has a value in every field that is stored of a webhook that
// exists.
func fullWebhook() postrider.Webhook {
	w := postrider.Webhook{
		ID: postrider.NewID(), Tenant: "partner", URL: "https://a.test:8443/hook?x=1&y=é", ContentType: postrider.JSON,
		Secret: `8 to 256 "printable" characters, <é>`, Events: []string{"room_status.*", "stay.ended"}, Active: true,
		Previous:    []postrider.PreviousSecret{{Secret: "before", Until: now().Add(time.Hour)}, {Secret: "long before", Until: now()}},
		Description: "Für Zimmer 7: 'quoted', 日本", Headers: map[string]string{"X-lower-CASE": "a\tb", "authorization": "Bearer x"},
		InsecureSSL: true, Timeout: 1500 * time.Millisecond, RetrySchedule: []time.Duration{0, time.Second, 168 * time.Hour},
		Disabled:  &postrider.Disabled{At: now().Add(-time.Minute), Code: "gone", Reason: "It said \"410\"."},
		CreatedAt: now().Add(-time.Hour), UpdatedAt: now(),
	}
	fill(reflect.ValueOf(&w).Elem(), "DeletedAt", "TenantPaused") // that is its tenant's
	return w
}

// fill gives every field that has none a value, so that a field which a store
// forgets is noticed. It panics on a kind of field that nobody has thought of.
func fill(v reflect.Value, except ...string) {
	for i := range v.NumField() {
		field := v.Field(i)
		if !field.IsZero() || slices.Contains(except, v.Type().Field(i).Name) {
			continue
		}
		if _, ok := reflect.TypeAssert[time.Time](field); ok {
			field.Set(reflect.ValueOf(now()))
			continue
		}
		switch field.Kind() {
		case reflect.Bool:
			field.SetBool(true)
		case reflect.Int:
			field.SetInt(50)
		case reflect.Float64:
			field.SetFloat(0.1)
		case reflect.String:
			field.SetString("x")
		case reflect.Struct:
			fill(field)
		default:
			panic(fmt.Sprintf("storetest: fill in the field %s", v.Type().Field(i).Name))
		}
	}
}
