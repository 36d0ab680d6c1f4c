package publish_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"postrider"
	"postrider/internal/storetest"
	"postrider/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inHouse runs a test on a whole house, in simulated time.
func inHouse(t *testing.T, o testkit.HouseOptions, test func(t *testing.T, h *testkit.House)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.Dispatch.SweepEvery = time.Hour
		test(t, testkit.NewHouse(t, t.TempDir(), o))
	})
}

func accept(t *testing.T, h *testkit.House, list ...postrider.Publication) ([]postrider.Receipt, error) {
	t.Helper()
	return h.Publisher.Publish(t.Context(), list, nil)
}

func mustAccept(t *testing.T, h *testkit.House, list ...postrider.Publication) []postrider.Receipt {
	t.Helper()
	receipts, err := accept(t, h, list...)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Advance(time.Second)
	return receipts
}

func stay(change ...func(*postrider.Publication)) postrider.Publication {
	p := postrider.Publication{Event: "stay.ended", Payload: []byte(`{"room": 7}`)}
	for _, c := range change {
		c(&p)
	}
	return p
}

func tenant(t *testing.T, h *testkit.House, name string) func(*postrider.Webhook) {
	t.Helper()
	if _, err := h.Registry.Tenant(name); err != nil {
		if _, err := h.Registry.CreateTenant(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	return func(w *postrider.Webhook) { w.Tenant = name }
}

func TestPublish_RefusesEachFaultWithItsCodeAndField(t *testing.T) {
	inHouse(t, testkit.HouseOptions{PayloadLimit: 100}, func(t *testing.T, h *testkit.House) {
		for _, test := range []struct {
			name   string
			change func(*postrider.Publication)
			want   string // field: code
		}{
			{"nothing wrong", func(*postrider.Publication) {}, ""},
			{"every tenant", func(p *postrider.Publication) { p.Tenant = "*" }, ""},
			{"the default tenant by name", func(p *postrider.Publication) { p.Tenant = "default" }, ""},
			{"an id", func(p *postrider.Publication) { p.ID = "stay-1" }, ""},
			{"a time", func(p *postrider.Publication) { p.OccurredAt = time.Now() }, ""},
			{"no event", func(p *postrider.Publication) { p.Event = "" }, "event: invalid_event"},
			{"a wrong event", func(p *postrider.Publication) { p.Event = "Stay.Ended" }, "event: invalid_event"},
			{"a pattern", func(p *postrider.Publication) { p.Event = "stay.*" }, "event: invalid_event"},
			{"a ping", func(p *postrider.Publication) { p.Event = "ping" }, "event: reserved_event"},
			{"a system event", func(p *postrider.Publication) { p.Event = "webhook.disabled" }, "event: reserved_event"},
			{"an unknown tenant", func(p *postrider.Publication) { p.Tenant = "nobody" }, "tenant: unknown_tenant"},
			{"a wrong tenant", func(p *postrider.Publication) { p.Tenant = "**" }, "tenant: unknown_tenant"},
			{"a wrong id", func(p *postrider.Publication) { p.ID = "a.b" }, "id: invalid_id"},
			{"no payload", func(p *postrider.Publication) { p.Payload = nil }, "payload: invalid_payload"},
			{"white space alone", func(p *postrider.Publication) { p.Payload = []byte(" ") }, "payload: invalid_payload"},
			{"no JSON", func(p *postrider.Publication) { p.Payload = []byte(`{a:1}`) }, "payload: invalid_payload"},
			{"two values", func(p *postrider.Publication) { p.Payload = []byte(`1 2`) }, "payload: invalid_payload"},
			{"no UTF-8", func(p *postrider.Publication) { p.Payload = []byte("\"\xff\"") }, "payload: invalid_payload"},
			{"a byte order mark", func(p *postrider.Publication) { p.Payload = []byte("\ufeff{}") }, "payload: invalid_payload"},
			{"a control sign in a text", func(p *postrider.Publication) { p.Payload = []byte("\"\n\"") }, "payload: invalid_payload"},
			{"NaN", func(p *postrider.Publication) { p.Payload = []byte("NaN") }, "payload: invalid_payload"},
			{"the largest payload", func(p *postrider.Publication) { p.Payload = []byte(`"` + strings.Repeat("x", 98) + `"`) }, ""},
			{"a large payload", func(p *postrider.Publication) { p.Payload = []byte(`"` + strings.Repeat("x", 99) + `"`) }, "payload: payload_too_large"},
		} {
			_, err := accept(t, h, stay(test.change))
			got := ""
			if e, ok := errors.AsType[*postrider.Error](err); ok {
				got = e.Field + ": " + e.Code
				if want := map[bool]postrider.Kind{true: postrider.TooLarge, false: postrider.Invalid}[e.Code == "payload_too_large"]; e.Kind != want {
					t.Errorf("%s: got kind %d, want %d", test.name, e.Kind, want)
				}
			} else if err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("%s: got %q, want %q", test.name, got, test.want)
			}
		}
	})
}

func TestPublish_ABatchTellsEachFaultByItsPlace(t *testing.T) {
	inHouse(t, testkit.HouseOptions{}, func(t *testing.T, h *testkit.House) {
		h.Webhook("http://one.test/")
		id := func(id string) func(*postrider.Publication) { return func(p *postrider.Publication) { p.ID = id } }
		_, err := accept(t, h, stay(id("a")),
			stay(func(p *postrider.Publication) { p.Event, p.Payload = "X", nil }),
			stay(id("a")), stay(id("a"), func(p *postrider.Publication) { p.Tenant = "*" }), stay(id("b")), stay())
		e, ok := errors.AsType[*postrider.Error](err)
		if !ok {
			t.Fatalf("got %v, want the faults", err)
		}
		var got []string
		for _, f := range e.Fields {
			got = append(got, f.Field+": "+f.Code)
		}
		want := []string{"[1].event: invalid_event", "[1].payload: invalid_payload", "[2].id: duplicate_id"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		testkit.Advance(time.Minute)
		if got := h.To("http://one.test/"); len(got) > 0 {
			t.Errorf("got %d events sent of a batch that was refused", len(got))
		}
	})
}

func TestPublish_GoesToTheTenantThatItNames(t *testing.T) {
	inHouse(t, testkit.HouseOptions{}, func(t *testing.T, h *testkit.House) {
		h.Webhook("http://default.test/")
		h.Webhook("http://a.test/", tenant(t, h, "a"))
		h.Webhook("http://a2.test/", tenant(t, h, "a"), func(w *postrider.Webhook) { w.Events = []string{"room_status.*"} })
		h.Webhook("http://b.test/", tenant(t, h, "b"))
		tenant(t, h, "c")
		testkit.Advance(time.Second) // the pings of new webhooks are gone
		to := func(name string) func(*postrider.Publication) {
			return func(p *postrider.Publication) { p.Tenant = name }
		}
		for _, test := range []struct {
			publication postrider.Publication
			deliveries  int
			want        []string
		}{
			{stay(), 1, []string{"default"}},
			{stay(to("default")), 1, []string{"default"}},
			{stay(to("a")), 1, []string{"a"}},
			{stay(to("c")), 0, nil},
			{stay(to("*")), 3, []string{"a", "b", "default"}},
			{stay(to("*"), func(p *postrider.Publication) { p.Event = "room_status.updated" }), 4, []string{"a", "a2", "b", "default"}},
		} {
			before := len(h.All())
			receipts := mustAccept(t, h, test.publication)
			var got []string
			for _, r := range h.All()[before:] {
				got = append(got, strings.TrimSuffix(strings.TrimPrefix(r.URL, "http://"), ".test/"))
				if r.EventID() != receipts[0].ID {
					t.Errorf("got event %s, want %s as the receipt says", r.EventID(), receipts[0].ID)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, test.want) || receipts[0].Deliveries != test.deliveries {
				t.Errorf("to %q: got %q and %d deliveries, want %q and %d", test.publication.Tenant, got, receipts[0].Deliveries, test.want, test.deliveries)
			}
		}
	})
}

func TestPublish_ABroadcastThatNobodyTakesIsKeptToBeSeen(t *testing.T) {
	inHouse(t, testkit.HouseOptions{}, func(t *testing.T, h *testkit.House) {
		receipt := mustAccept(t, h, stay(func(p *postrider.Publication) { p.Tenant = postrider.EveryTenant }))[0]
		e, deliveries, err := h.Store.Event(t.Context(), postrider.DefaultTenant, receipt.ID)
		if err != nil || len(deliveries) != 0 || string(e.Payload) != `{"room": 7}` {
			t.Errorf("got %+v, %v, %v, want the event without deliveries", e, deliveries, err)
		}
	})
}

func TestPublish_AHeldWebhookHasItsDeliveryCounted(t *testing.T) {
	inHouse(t, testkit.HouseOptions{}, func(t *testing.T, h *testkit.House) {
		h.Webhook("http://one.test/", func(w *postrider.Webhook) { w.Active = false })
		if receipt := mustAccept(t, h, stay())[0]; receipt.Deliveries != 1 {
			t.Errorf("got %d deliveries, want 1: it is held, not lost", receipt.Deliveries)
		}
	})
}

func TestPublish_ARepeatedKeyOrIDSendsNothingAgain(t *testing.T) {
	inHouse(t, testkit.HouseOptions{}, func(t *testing.T, h *testkit.House) {
		h.Webhook("http://one.test/")
		key := &postrider.IdempotencyKey{Scope: "", Key: "k", BodyHash: [32]byte{1}}
		chosen := stay(func(p *postrider.Publication) { p.ID = "stay-1" })
		for _, repeat := range []func() ([]postrider.Receipt, error){
			func() ([]postrider.Receipt, error) {
				return h.Publisher.Publish(t.Context(), []postrider.Publication{stay(), stay()}, key)
			},
			func() ([]postrider.Receipt, error) {
				return h.Publisher.Publish(t.Context(), []postrider.Publication{chosen}, nil)
			},
		} {
			var first []postrider.Receipt
			before := 0
			for n := range 4 {
				receipts, err := repeat()
				if err != nil {
					t.Fatal(err)
				}
				testkit.Advance(time.Second)
				if n == 0 {
					first, before = receipts, len(h.To("http://one.test/"))
					h.Webhook(fmt.Sprintf("http://later.test/%d", len(h.All()))) // the answer stays, whoever subscribes by now
					testkit.Advance(time.Second)
				}
				if !slices.Equal(receipts, first) {
					t.Errorf("got %+v, want the first answer %+v", receipts, first)
				}
			}
			if got := len(h.To("http://one.test/")); got != before {
				t.Errorf("got %d attempts, want no more than the %d of the first time", got, before)
			}
		}
		if s := h.Lanes.Stats(); s.Bytes != 0 || s.Ready != 0 {
			t.Errorf("got %+v, want no room kept for what was not committed", s)
		}
		_, err := h.Publisher.Publish(t.Context(), []postrider.Publication{stay()}, &postrider.IdempotencyKey{Key: "k", BodyHash: [32]byte{2}})
		wantCode(t, err, postrider.Conflict, "idempotency_key_reused")
		_, err = accept(t, h, stay(func(p *postrider.Publication) { p.ID, p.Payload = "stay-1", []byte(`{"room":7}`) }))
		wantCode(t, err, postrider.Conflict, "event_id_taken")
	})
}

func wantCode(t *testing.T, err error, kind postrider.Kind, code string) {
	t.Helper()
	if e, ok := errors.AsType[*postrider.Error](err); !ok || e.Kind != kind || e.Code != code {
		t.Errorf("got error %v, want code %q", err, code)
	}
}

func TestPublish_AStrictCatalogueRefusesWhatItLacks(t *testing.T) {
	inHouse(t, testkit.HouseOptions{StrictCatalogue: true}, func(t *testing.T, h *testkit.House) {
		_, err := accept(t, h, stay())
		wantCode(t, err, postrider.Invalid, "unknown_event")
		if _, _, err := h.Registry.PutEventType(t.Context(), postrider.EventType{Name: "stay.ended"}); err != nil {
			t.Fatal(err)
		}
		if _, err := accept(t, h, stay()); err != nil {
			t.Errorf("got %v for a type in the catalogue, want none", err)
		}
	})
}

func TestPublish_PartnersGetThePayloadByteForByte(t *testing.T) {
	inHouse(t, testkit.HouseOptions{}, func(t *testing.T, h *testkit.House) {
		stays := func(w *postrider.Webhook) { w.Events = []string{"stay.ended"} }
		h.Webhook("http://json.test/", stays)
		h.Webhook("http://form.test/", stays, func(w *postrider.Webhook) { w.ContentType = postrider.Form })
		testkit.Advance(time.Second)
		h.Script(testkit.Status(500)) // so that a retry is read from the store
		names := map[string]string{}
		for name, payload := range storetest.Payloads() {
			receipts, err := accept(t, h, stay(func(p *postrider.Publication) { p.Payload = payload }))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			names[receipts[0].ID] = name
		}
		testkit.Advance(100 * time.Hour)
		count := map[string]int{}
		for _, r := range append(h.To("http://json.test/"), h.To("http://form.test/")...) {
			name := names[r.EventID()]
			count[name]++
			want := storetest.Payloads()[name]
			if r.URL == "http://form.test/" {
				want = postrider.Form.Wrap(want)
			}
			if string(r.Body) != string(want) {
				t.Errorf("%s: got %d other bytes at %s, want the %d that were published", name, len(r.Body), r.URL, len(want))
			}
		}
		for _, name := range names {
			if count[name] < 4 {
				t.Errorf("%s: got %d attempts, want retries at both webhooks", name, count[name])
			}
		}
	})
}

func TestPing_TellsEachWebhookOfItself(t *testing.T) {
	inHouse(t, testkit.HouseOptions{}, func(t *testing.T, h *testkit.House) {
		w := h.Webhook("http://one.test/", func(w *postrider.Webhook) {
			w.Secret, w.Headers = "a secret of it", map[string]string{"X-Token": "a token of it"}
			w.Events, w.Description = []string{"stay.ended"}, "Front desk"
		})
		h.Webhook("http://other-tenant.test/", tenant(t, h, "b"))
		h.Webhook("http://inactive.test/", func(w *postrider.Webhook) { w.Active = false })
		two := h.Webhook("http://two.test/")
		testkit.Advance(time.Second)
		before := len(h.All())
		pinged, err := h.Publisher.Ping(t.Context(), postrider.DefaultTenant, nil)
		if err != nil {
			t.Fatal(err)
		}
		testkit.Advance(time.Second)
		requests := h.All()[before:]
		if len(requests) != 2 || len(pinged) != 2 || pinged[0].EventID == pinged[1].EventID {
			t.Fatalf("got %d pings sent and %+v, want one of its own for each active webhook", len(requests), pinged)
		}
		for _, p := range pinged {
			if p.WebhookID != w.ID && p.WebhookID != two.ID {
				t.Errorf("got webhook %s pinged", p.WebhookID)
			}
		}
		at := slices.IndexFunc(requests, func(r testkit.Received) bool { return r.URL == w.URL })
		var got struct {
			Zen    string         `json:"zen"`
			HookID string         `json:"hook_id"`
			Hook   map[string]any `json:"hook"`
		}
		if err := json.Unmarshal(requests[at].Body, &got); err != nil {
			t.Fatal(err)
		}
		if got.Zen == "" || got.HookID != w.ID.String() || got.Hook["url"] != w.URL || got.Hook["has_secret"] != true ||
			got.Hook["description"] != "Front desk" {
			t.Errorf("got %+v, want what is registered", got)
		}
		if body := string(requests[at].Body); strings.Contains(body, "a secret of it") || strings.Contains(body, "a token of it") {
			t.Errorf("got a credential in %s", body)
		}
		if got := requests[at].Header.Get("X-Clubmed-Event"); got != "ping" {
			t.Errorf("got X-Clubmed-Event %q, want ping", got)
		}
	})
}

func TestPing_WithAPayloadIsOneEventForAll(t *testing.T) {
	inHouse(t, testkit.HouseOptions{PayloadLimit: 50}, func(t *testing.T, h *testkit.House) {
		h.Webhook("http://one.test/")
		h.Webhook("http://two.test/", func(w *postrider.Webhook) { w.Events = []string{"stay.ended"} })
		testkit.Advance(time.Second)
		before := len(h.All())
		pinged, err := h.Publisher.Ping(t.Context(), postrider.DefaultTenant, []byte(`{ "mine":1 }`))
		if err != nil || len(pinged) != 2 || pinged[0].EventID != pinged[1].EventID {
			t.Fatalf("got %+v, %v, want one event for both", pinged, err)
		}
		testkit.Advance(time.Second)
		for _, r := range h.All()[before:] {
			if string(r.Body) != `{ "mine":1 }` {
				t.Errorf("got %s, want the payload as it was given", r.Body)
			}
		}
		for payload, want := range map[string]string{"{": "invalid_payload", `"` + strings.Repeat("x", 50) + `"`: "payload_too_large", "": "invalid_payload"} {
			_, err := h.Publisher.Ping(t.Context(), postrider.DefaultTenant, []byte(payload))
			if e, ok := errors.AsType[*postrider.Error](err); !ok || e.Code != want || e.Field != "" {
				t.Errorf("%q: got %v, want %s of no field", payload, err, want)
			}
		}
	})
}

func TestPing_NobodyToPingIsNoError(t *testing.T) {
	inHouse(t, testkit.HouseOptions{}, func(t *testing.T, h *testkit.House) {
		if pinged, err := h.Publisher.Ping(t.Context(), postrider.DefaultTenant, nil); err != nil || len(pinged) != 0 {
			t.Errorf("got %v, %v, want nothing", pinged, err)
		}
	})
}

func TestPingWebhook_OnlyOnesOwnThatSends(t *testing.T) {
	inHouse(t, testkit.HouseOptions{}, func(t *testing.T, h *testkit.House) {
		off := h.Webhook("http://off.test/", func(w *postrider.Webhook) { w.Active = false })
		foreign := h.Webhook("http://foreign.test/", tenant(t, h, "b"))
		testkit.Advance(time.Second)
		before := len(h.All())
		_, err := h.Publisher.PingWebhook(t.Context(), postrider.DefaultTenant, off.ID, nil)
		wantCode(t, err, postrider.Conflict, "webhook_inactive")
		for _, id := range []postrider.ID{foreign.ID, postrider.NewID()} {
			_, err = h.Publisher.PingWebhook(t.Context(), postrider.DefaultTenant, id, nil)
			wantCode(t, err, postrider.NotFound, "not_found")
		}
		testkit.Advance(time.Minute)
		if got := len(h.All()); got != before {
			t.Errorf("got %d pings sent, want none", got-before)
		}
	})
}

func TestRedeliver_AnotherTenantsAttemptIsMissing(t *testing.T) {
	inHouse(t, testkit.HouseOptions{}, func(t *testing.T, h *testkit.House) {
		h.Webhook("http://one.test/")
		receipt := mustAccept(t, h, stay())[0]
		attempt := h.Attempts(postrider.AttemptFilter{EventID: receipt.ID})[0]
		_, err := h.Publisher.Redeliver(t.Context(), "b", attempt.ID, postrider.ID{})
		wantCode(t, err, postrider.NotFound, "not_found")
		again, err := h.Publisher.Redeliver(t.Context(), postrider.DefaultTenant, attempt.ID, postrider.ID{})
		if diff := cmp.Diff(postrider.Redelivery{EventID: receipt.ID, WebhookID: attempt.WebhookID}, again); err != nil || diff != "" {
			t.Errorf("got %v and (-want +got)\n%s", err, diff)
		}
		testkit.Advance(time.Second)
		if got := len(h.To("http://one.test/")); got != 2 {
			t.Errorf("got %d attempts, want 2", got)
		}
	})
}

func TestAnnounce_GoesToTheOthersOfTheTenantThatSubscribe(t *testing.T) {
	inHouse(t, testkit.HouseOptions{}, func(t *testing.T, h *testkit.House) {
		about := h.Webhook("http://about.test/")
		h.Webhook("http://subscribed.test/", func(w *postrider.Webhook) { w.Events = []string{"webhook.*"} })
		h.Webhook("http://other.test/", func(w *postrider.Webhook) { w.Events = []string{"stay.ended"} })
		h.Webhook("http://foreign.test/", tenant(t, h, "b"))
		testkit.Advance(time.Second)
		before := len(h.All())
		if err := h.Publisher.Announce(t.Context(), &about, postrider.WebhookFailingEvent, []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
		testkit.Advance(time.Second)
		if got := h.All()[before:]; len(got) != 1 || got[0].URL != "http://subscribed.test/" {
			t.Errorf("got %+v, want it at the one that subscribes", got)
		}
	})
}
