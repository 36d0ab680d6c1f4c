package browsertest

import (
	"net/http"
	"strings"
	"testing"

	"postrider/internal/e2e"
)

// What the documentation tells partners, done by clicking.
func TestPortal_TheWholeStoryByClicking(t *testing.T) { e2e.WithEachEngine(t, testStory) }

func testStory(t *testing.T, flags ...string) {
	w := newWorld(t, append(flags, "--retry-schedule", "1h")...)
	w.catalogue()
	tab := NewTab(t, w.operator.URL)
	tab.Theme("light")
	tab.SignIn(w.partner.Key)
	tab.WaitText("Create your first webhook")

	// Create, with what is wrong told while it is typed.
	tab.Press("New webhook")
	tab.Wait("#url")
	tab.Fill("#url", "ftp://partner.example/")
	tab.Fill("#description", "Front desk")
	tab.WaitFor(`document.querySelector("#url").getAttribute("aria-invalid") === "true" && document.querySelector("#error-url").innerText !== ""`)
	tab.Fill("#url", w.receiver.URL+"/api/callback")
	tab.Click("#description")
	tab.WaitFor(`document.querySelector("#error-url").innerText === "" && document.querySelector("#url").getAttribute("aria-invalid") === null`)
	tab.Click(`input[name=events][value="room_status.updated"]`)
	tab.Press("Create webhook")
	tab.WaitText("Signing secret")
	secret := Script[string](tab, `document.querySelector("#secret").textContent`)
	if !strings.HasPrefix(secret, "whsec_") {
		t.Fatalf("got the secret %q", secret)
	}
	page := tab.At()
	tab.WaitFor(`[...document.querySelectorAll("table.log tbody tr")].some((row) => row.innerText.includes("ping") && row.innerText.includes("200"))`)
	tab.Open(page)
	if strings.Contains(tab.Text(), secret) || strings.Contains(Script[string](tab, `document.documentElement.outerHTML`), secret) {
		t.Error("the secret is shown a second time")
	}

	// Ping with a payload of one's own, byte by byte, and see it live.
	tab.WaitFor(`!document.querySelector("[data-live]").hidden`)
	tab.Fill("#payload", "{\"hello\":  [1, 2")
	tab.Press("Send ping")
	tab.WaitText("This is no JSON")
	tab.Fill("#payload", "{\"hello\":  [1,\n 2]}")
	tab.Press("Send ping")
	tab.WaitText("Ping sent")
	got := w.receiver.Wait(t, func(r e2e.Received) bool { return strings.Contains(string(r.Body), "hello") })
	if string(got.Body) != "{\"hello\":  [1,\n 2]}" {
		t.Errorf("got the payload %q", got.Body)
	}

	// An event appears without a reload; its attempt is opened.
	tab.WaitFor(`!document.querySelector("[data-live]").hidden`)
	event := w.publish("room_status.updated", `{"room": "204", "status": "clean"}`)
	tab.WaitFor(`[...document.querySelectorAll("tr.fresh")].some((row) => row.innerText.includes("room_status.updated"))`)
	tab.Click("tr.fresh a.row-link")
	tab.WaitText("Response 200")
	for _, want := range []string{"X-Clubmed-Signature", "\"room\": \"204\"", "\"received\": true", "First byte"} {
		if !strings.Contains(tab.Text(), want) {
			t.Errorf("the attempt does not show %q:\n%s", want, tab.Text())
		}
	}

	// The receiver breaks: the failure is explained.
	w.receiver.Answer(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusUnauthorized) })
	broken := w.publish("room_status.updated", `{"room": "205", "status": "dirty"}`)
	failed := w.attempts(1, "status=failure&event_id="+broken)["id"].(string)
	tab.Open("/portal/t/lagoon-travel/")
	tab.WaitText("Needs attention")
	tab.Press("Why")
	tab.WaitText("401")
	if at := tab.At(); !strings.HasSuffix(at, failed) {
		t.Errorf("why leads to %s, want attempt %s", at, failed)
	}
	if !strings.Contains(tab.Text(), "Your server refused the request") {
		t.Errorf("the attempt does not say what to do:\n%s", tab.Text())
	}

	// It is mended, and the delivery sent again.
	w.receiver.Answer(answerByPath)
	tab.Press("Send again")
	tab.WaitText("is being sent again")
	tab.WaitText("Succeeded")
	w.attempts(1, "status=success&event_id="+broken)

	// Edit: another URL and a new secret, while the old one signs along.
	tab.Open(strings.TrimSuffix(page, "?live=1"))
	tab.Press("Edit")
	tab.Wait("#url")
	tab.Fill("#url", w.receiver.URL+"/moved")
	tab.Press("Generate a new one")
	tab.Press("Save")
	tab.WaitText("Signing secret")
	renewed := Script[string](tab, `document.querySelector("#secret").textContent`)
	if renewed == secret || !strings.HasPrefix(renewed, "whsec_") {
		t.Errorf("got the new secret %q after %q", renewed, secret)
	}
	moved := w.publish("room_status.updated", `{"room": "206"}`)
	delivered := w.receiver.Wait(t, func(r e2e.Received) bool { return r.Header.Get("X-Clubmed-Delivery") == moved })
	if delivered.Path != "/moved" || strings.Count(delivered.Header.Get("webhook-signature"), "v1,") != 2 {
		t.Errorf("got path %s and signatures %q", delivered.Path, delivered.Header.Get("webhook-signature"))
	}

	// Pause holds, switching on sends.
	tab.Press("Pause")
	tab.WaitText("Events are held")
	held := w.publish("room_status.updated", `{"room": "207"}`)
	tab.Open("/portal/t/lagoon-travel/events/" + held)
	tab.WaitText("Held")
	tab.Open(strings.TrimSuffix(page, "?live=1"))
	tab.Press("Switch on")
	w.receiver.Wait(t, func(r e2e.Received) bool { return r.Header.Get("X-Clubmed-Delivery") == held })

	// Delete, after being asked. The logs stay.
	tab.WaitText("Switched on")
	tab.Press("Delete")
	tab.WaitText("Delete this webhook?")
	tab.Press("Delete webhook")
	tab.WaitText("its logs stay")
	tab.Open("/portal/t/lagoon-travel/logs?event_id=" + event)
	tab.WaitText("room_status.updated")

	tab.Press("Sign out")
	tab.Wait("#key")
	tab.Open("/portal/t/lagoon-travel/logs")
	if at := tab.At(); !strings.HasPrefix(at, "/portal/sign_in?next=") {
		t.Errorf("after signing out, the logs are at %s", at)
	}
}

// "Send me this" sends the example to the partner's own webhooks alone.
func TestPortal_SendsTheExampleOfAnEvent(t *testing.T) {
	w := newWorld(t)
	w.catalogue()
	w.webhook("/mine", "Mine", "booking.*")
	tab := NewTab(t, w.operator.URL)
	tab.SignIn(w.partner.Key)
	tab.Open("/portal/t/lagoon-travel/catalogue/booking.created")
	tab.Press("Send me this")
	tab.WaitText("on its way to 1 webhook")
	got := w.receiver.Wait(t, func(r e2e.Received) bool { return r.Header.Get("X-Clubmed-Event") == "booking.created" })
	if !strings.Contains(string(got.Body), "B-10482") {
		t.Errorf("got %s", got.Body)
	}
}

// A tenant sees nothing of another one, whatever it asks for.
func TestPortal_ATenantSeesNothingOfAnother(t *testing.T) { e2e.WithEachEngine(t, testTenants) }

func testTenants(t *testing.T, flags ...string) {
	w := newWorld(t, flags...)
	w.catalogue()
	id := w.webhook("/secret-path", "A name that nobody else may read", "*")
	event := w.publish("booking.created", `{"guest": "Zoë Delacroix"}`)
	attempt := w.attempts(1, "event_id="+event)["id"].(string)
	w.operator.Call(http.MethodPost, "/v0/tenants", []byte(`{"name": "rival"}`)).Must(http.StatusCreated)
	rival := w.as("rival")

	tab := NewTab(t, w.operator.URL)
	tab.SignIn(rival.Key)
	nowhere := "/portal/t/rival/webhooks/0195b3f4-9a07-7c11-8e2d-1b7f60a9c3e4"
	tab.Open(nowhere)
	missing := tab.Text()
	foreign := []string{"Zoë", "secret-path", "A name that nobody", event, attempt}
	for _, path := range []string{
		"/portal/t/rival/webhooks/" + id, "/portal/t/rival/webhooks/" + id + "/edit", "/portal/t/rival/webhooks/" + id + "/delete",
		"/portal/t/rival/logs/" + attempt, "/portal/t/rival/logs/" + attempt + "/request", "/portal/t/rival/events/" + event,
		"/portal/t/rival/debugger?attempt=" + attempt,
		"/portal/t/lagoon-travel/", "/portal/t/lagoon-travel/webhooks", "/portal/t/lagoon-travel/logs", "/portal/t/nobody/",
		"/portal/operator/", "/portal/operator/webhooks", "/portal/operator/tenants", "/portal/operator/keys", "/portal/operator/nodes",
	} {
		tab.Open(path)
		text := tab.Text()
		if !strings.Contains(text, "Not found") {
			t.Errorf("%s shows:\n%s", path, text)
		}
		for _, theirs := range foreign {
			if strings.Contains(text, theirs) {
				t.Errorf("%s shows %q", path, theirs)
			}
		}
	}
	// What is not theirs and what does not exist are the same page.
	tab.Open("/portal/t/rival/webhooks/" + id)
	if text := tab.Text(); text != missing {
		t.Errorf("got %q for another tenant's webhook, %q for none", text, missing)
	}
	for _, path := range []string{"/portal/t/rival/", "/portal/t/rival/webhooks", "/portal/t/rival/logs", "/portal/t/rival/logs?webhook=" + id + "&event_id=" + event} {
		tab.Open(path)
		for _, theirs := range foreign {
			if text := Script[string](tab, `document.querySelector("main").innerText`); strings.Contains(text, theirs) {
				t.Errorf("%s shows %q", path, theirs)
			}
		}
	}
	// Forms, too: each is sent as the rival's own page would.
	for _, path := range []string{
		"/webhooks/" + id, "/webhooks/" + id + "/ping", "/webhooks/" + id + "/active", "/webhooks/" + id + "/delete", "/logs/" + attempt + "/redeliver",
	} {
		for _, tenant := range []string{"rival", "lagoon-travel"} {
			status := Script[int](tab, `fetch("/portal/t/`+tenant+path+`", {method: "POST", body: new URLSearchParams("active=false&url=https://a.example/&all=true&content_type=application/json")}).then((r) => r.status)`)
			if status != http.StatusNotFound {
				t.Errorf("POST %s as %s: got %d, want 404", path, tenant, status)
			}
		}
	}
	if w.partner.Call(http.MethodGet, "/v0/api_webhooks/"+id, nil).Must(http.StatusOK).Text("active") != "true" {
		t.Error("the webhook was changed by another tenant")
	}
	if rows := w.partner.Pages("/v0/api_webhooks/logs", 100); len(rows) != 2 {
		t.Errorf("got %d attempts, want the ping and the event", len(rows))
	}
}

// A link opens the portal once, and its token stays nowhere.
func TestPortal_ALinkWorksOnceAndEndsWithItsKey(t *testing.T) {
	w := newWorld(t)
	made := w.operator.Call(http.MethodPost, "/v0/api_keys", []byte(`{"operator": true, "name": "backend"}`)).Must(http.StatusCreated)
	backend := w.operator.As(made.Text("key"))
	link := func() string {
		url := backend.Call(http.MethodPost, "/v0/portal_links", []byte(`{"tenant": "lagoon-travel"}`)).Must(http.StatusCreated).Text("url")
		return strings.TrimPrefix(url, w.operator.URL)
	}
	tab := NewTab(t, w.operator.URL)
	once := link()
	tab.Open(once)
	tab.Wait("nav.menu")
	if at := tab.At(); at != "/portal/t/lagoon-travel/" {
		t.Errorf("the link leads to %s", at)
	}
	if history := Script[string](tab, `document.referrer + document.cookie + location.href`); strings.Contains(history, "token") || strings.Contains(history, "session") {
		t.Errorf("the token or the session is left in %q", history)
	}
	other := NewTab(t, w.operator.URL)
	other.Open(once)
	other.WaitText("This link was used before")

	w.operator.Call(http.MethodDelete, "/v0/api_keys/"+made.Text("id"), nil).Must(http.StatusNoContent)
	tab.Open("/portal/t/lagoon-travel/webhooks")
	if at := tab.At(); !strings.HasPrefix(at, "/portal/sign_in") {
		t.Errorf("the session outlives its key: %s", at)
	}
}

// The operator makes a tenant and a key by clicking, and the key signs in.
func TestPortal_TheOperatorLetsAPartnerIn(t *testing.T) {
	w := newWorld(t)
	tab := NewTab(t, w.operator.URL)
	tab.SignIn(e2e.AdminKey)
	tab.Open("/portal/operator/tenants")
	tab.Fill("#name", "not a name")
	tab.Press("Create tenant")
	tab.WaitText("A tenant's name is")
	tab.Fill("#name", "harbour")
	tab.Press("Create tenant")
	tab.WaitText("Make an API key for it next")
	tab.Fill("#name", "production")
	tab.Press("Create key")
	tab.WaitText("shown this once")
	key := Script[string](tab, `document.querySelector("#secret").textContent`)
	partner := NewTab(t, w.operator.URL)
	partner.SignIn(key)
	if at := partner.At(); at != "/portal/t/harbour/" {
		t.Errorf("the key leads to %s", at)
	}
	tab.Open("/portal/operator/keys")
	tab.Click("td details summary") // the newest key
	tab.Press("Yes, revoke")
	tab.WaitText("The key is revoked")
	partner.Open("/portal/t/harbour/")
	if at := partner.At(); !strings.HasPrefix(at, "/portal/sign_in") {
		t.Errorf("who signed in with a revoked key is still at %s", at)
	}
}
