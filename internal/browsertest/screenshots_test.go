package browsertest

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"postrider"
	"postrider/internal/e2e"
	"postrider/internal/sealing"
	"postrider/internal/sqlite"
	"postrider/signature"
)

var screenshots = flag.String("screenshots", "", "a directory to write the documentation's pictures to")

// The pictures of the documentation: make screenshots. Without the flag they
// are taken and thrown away, so that the command cannot break unseen.
func TestScreenshots_ShowThePortalAtWork(t *testing.T) {
	dir := *screenshots
	if dir == "" {
		dir = t.TempDir()
	}
	w, hooks, failed := workedForADay(t)
	base := "/portal/t/lagoon-travel"
	tab := NewTab(t, w.operator.URL)
	tab.SignIn(w.partner.Key)
	operator := NewTab(t, w.operator.URL)
	operator.SignIn(e2e.AdminKey)
	for _, shot := range []struct {
		name, path, theme string
		width, height     int64
		tab               *Tab
	}{
		{"overview", base + "/", "light", 1280, 900, tab},
		{"overview-dark", base + "/", "dark", 1280, 900, tab},
		{"webhooks", base + "/webhooks", "light", 1280, 620, tab},
		{"webhook", base + "/webhooks/" + hooks[0], "light", 1280, 900, tab},
		{"webhook-dark", base + "/webhooks/" + hooks[1], "dark", 1280, 900, tab},
		{"webhook-new", base + "/webhooks/new", "light", 1280, 900, tab},
		{"logs", base + "/logs", "light", 1280, 900, tab},
		{"attempt", base + "/logs/" + failed, "light", 1280, 1000, tab},
		{"attempt-dark", base + "/logs/" + failed, "dark", 1280, 1000, tab},
		{"debugger", base + "/debugger?attempt=" + failed, "light", 1280, 760, tab},
		{"event-type", base + "/catalogue/room_status.updated", "light", 1280, 760, tab},
		{"operator", "/portal/operator/", "light", 1280, 820, operator},
		{"docs", "/docs", "light", 1280, 900, tab},
		{"phone-overview", base + "/", "light", 390, 844, tab},
		{"phone-logs", base + "/logs", "dark", 390, 844, tab},
	} {
		shot.tab.Theme(shot.theme)
		shot.tab.Size(shot.width, shot.height)
		shot.tab.Open(shot.path)
		shot.tab.settle()
		if shot.name == "debugger" {
			shot.tab.Fill("#d-secret", "last year's secret")
			shot.tab.Press("Check")
			shot.tab.WaitText("Wrong secret")
		}
		shot.tab.view(filepath.Join(dir, shot.name+".png"))
	}
}

// view is a picture of what the window shows.
func (tab *Tab) view(path string) {
	tab.t.Helper()
	if err := os.WriteFile(path, tab.Window(), 0o644); err != nil {
		tab.t.Fatal(err)
	}
}

// workedForADay makes a partner with a day behind it. No request leaves the
// machine: the attempts are written into the store while the server is down.
func workedForADay(t *testing.T) (w *world, hooks []string, failed string) {
	t.Helper()
	dir := t.TempDir()
	flags := []string{"--public-url", "https://hooks.clubmed.example"}
	w = &world{t: t, operator: e2e.Start(t, dir, flags...)}
	w.operator.Call(http.MethodPost, "/v0/tenants", []byte(`{"name": "lagoon-travel"}`)).Must(http.StatusCreated)
	w.partner = w.as("lagoon-travel")
	w.catalogue()
	for _, hook := range []map[string]any{
		{"url": "https://api.lagoon-travel.example/hooks/rooms", "description": "Housekeeping board", "events": []string{"room_status.*"}},
		{"url": "https://crm.lagoon-travel.example/clubmed/bookings", "description": "CRM import", "events": []string{"booking.*"}},
		{"url": "https://hooks.partner-apps.example/4f1c", "description": "Mobile app", "events": []string{"*"}},
	} {
		hook["content_type"], hook["secret"], hook["active"] = "application/json", "a secret to sign with", false
		made := w.partner.Call(http.MethodPost, "/v0/api_webhooks", encode(t, hook)).Must(http.StatusCreated)
		hooks = append(hooks, made.Text("id"))
	}
	if err := w.operator.Stop(); err != nil {
		t.Fatal(err)
	}
	failed = writeHistory(t, dir, hooks)
	key := w.partner.Key
	w.operator = e2e.Start(t, dir, flags...)
	w.partner = w.operator.As(key)
	for _, id := range hooks {
		w.partner.Call(http.MethodPatch, "/v0/api_webhooks/"+id, []byte(`{"active": true}`)).Must(http.StatusOK)
	}
	return w, hooks, failed
}

// writeHistory writes a day's attempts: busy at noon, with an hour in which
// one receiver was down. The newest of that receiver fails, and is returned.
func writeHistory(t *testing.T, dir string, hooks []string) (failed string) {
	t.Helper()
	key, err := sealing.KeyInDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := sealing.New(key)
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.Context(), dir, sealer)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	random := rand.New(rand.NewPCG(2026, 1))
	now := time.Now().UTC()
	var settled []postrider.Settlement
	for at := now.Add(-24 * time.Hour); at.Before(now); at = at.Add(time.Duration(20+random.IntN(50)) * time.Second) {
		busy := 0.35 + 0.65*math.Exp(-math.Pow(at.Sub(now.Add(-10*time.Hour)).Hours()/5, 2))
		if random.Float64() < busy {
			outage := at.After(now.Add(-7*time.Hour)) && at.Before(now.Add(-6*time.Hour))
			settled = append(settled, pastAttempt(t, random, hooks, random.IntN(7), at, outage))
		}
	}
	for i, hook := range []int{2, 0, 5, 0, 1, 2, 0, 6, 0, 0} { // the newest, one after the other
		s := pastAttempt(t, random, hooks, hook, now.Add(time.Duration(i-10)*4*time.Second), hook == 5)
		settled = append(settled, s)
		if hook == 5 {
			failed = s.Attempt.ID.String()
		}
	}
	var events []postrider.Accepted
	for i := range settled[max(0, len(settled)-40):] {
		a := &settled[max(0, len(settled)-40)+i].Attempt
		events = append(events, postrider.Accepted{Publication: i, Event: postrider.Event{
			ID: a.EventID, Tenant: a.Tenant, Type: a.EventType, Payload: examples[a.EventType], CreatedAt: a.At, Deliveries: 1,
		}})
	}
	if _, err := store.Accept(t.Context(), events, nil); err != nil {
		t.Fatal(err)
	}
	if err := store.Settle(t.Context(), settled); err != nil {
		t.Fatal(err)
	}
	return failed
}

var examples = map[string][]byte{
	"room_status.updated": []byte(`{"resort":"ALBC","room":"204","status":"clean","reported_at":"2026-01-15T09:30:00Z"}`),
	"booking.created":     []byte(`{"booking_id":"B-10482","resort":"ALBC","nights":7,"amount":289000,"currency":"EUR","guest":"Zoë Delacroix"}`),
}

// pastAttempt is one of a day: of seven, four go to the first webhook, two to
// the last and one to the second, which fails while it is down.
func pastAttempt(t *testing.T, random *rand.Rand, hooks []string, draw int, at time.Time, down bool) postrider.Settlement {
	t.Helper()
	hook, url, event := 0, "https://api.lagoon-travel.example/hooks/rooms", "room_status.updated"
	switch draw {
	case 1, 2:
		hook, url, event = 2, "https://hooks.partner-apps.example/4f1c", []string{"room_status.updated", "booking.created"}[draw-1]
	case 5:
		hook, url, event = 1, "https://crm.lagoon-travel.example/clubmed/bookings", "booking.created"
	}
	id, err := postrider.ParseID(hooks[hook])
	if err != nil {
		t.Fatal(err)
	}
	eventID := postrider.NewID().String()
	first := time.Duration(18+random.ExpFloat64()*22) * time.Millisecond
	a := postrider.Attempt{
		ID: postrider.NewID(), Tenant: "lagoon-travel", WebhookID: id, EventID: eventID, EventType: event, Number: 1,
		Trigger: postrider.TriggerEvent, At: at, URL: url, Status: postrider.AttemptSuccess,
		Outcome: postrider.Outcome{
			StatusCode: http.StatusNoContent, RemoteIP: "203.0.113.24", TLSVersion: "TLS 1.3",
			Timings:  postrider.Timings{FirstByte: first, Total: first + 900*time.Microsecond},
			Response: postrider.Response{Header: postrider.Header{{Name: "Date", Value: at.Format(http.TimeFormat)}, {Name: "Server", Value: "nginx"}}},
		},
		RequestHeader: pastHeader(hooks[hook], event, eventID, at),
	}
	if hook == 1 && (down || random.IntN(40) == 0) {
		a.Status, a.NextAttemptAt = postrider.AttemptFailure, at.Add(5*time.Minute)
		o := &a.Outcome
		o.StatusCode, o.Failure = http.StatusServiceUnavailable, postrider.FailHTTP5xx
		o.Detail = "The receiver answered 503 Service Unavailable. Look for the reason in the receiver's log."
		o.Timings = postrider.Timings{DNS: 12 * time.Millisecond, Connect: 21 * time.Millisecond, TLS: 34 * time.Millisecond, FirstByte: 640 * time.Millisecond, Total: 709 * time.Millisecond}
		o.Response = postrider.Response{
			Header: postrider.Header{{Name: "Content-Type", Value: "application/json"}, {Name: "Date", Value: at.Format(http.TimeFormat)}, {Name: "Retry-After", Value: "120"}, {Name: "Server", Value: "nginx"}, {Name: "X-Request-Id", Value: "b7c1f0a2"}},
			Body:   []byte(`{"error":"maintenance","message":"The CRM is being upgraded.","until":"2026-01-15T10:00:00Z"}`),
		}
	}
	return postrider.Settlement{
		Key: postrider.DeliveryKey{Tenant: a.Tenant, EventID: eventID, WebhookID: id}, Done: true, Attempt: a,
	}
}

func pastHeader(hook, event, eventID string, at time.Time) (h postrider.Header) {
	signer := signature.NewSigner("a secret to sign with")
	for _, line := range [][2]string{
		{"Content-Type", "application/json"},
		{"User-Agent", "Clubmed-Hookshot/1.0.0"},
		{"X-Clubmed-Event", event},
		{"X-Clubmed-Delivery", eventID},
		{"X-Clubmed-Hook-ID", hook},
		{"X-Clubmed-Attempt", "1"},
		{"X-Clubmed-Signature", string(signer.AppendHex(nil, examples[event]))},
		{"webhook-id", eventID},
		{"webhook-timestamp", fmt.Sprint(at.Unix())},
		{"webhook-signature", string(signer.AppendStandard(nil, eventID, at, examples[event]))},
	} {
		h = append(h, postrider.HeaderField{Name: line[0], Value: line[1]})
	}
	return h
}
