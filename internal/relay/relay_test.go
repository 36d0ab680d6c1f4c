package relay_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"postrider"
	"postrider/internal/registry"
	"postrider/internal/relay"
	"postrider/internal/sealing"
	"postrider/internal/sqlite"
)

// A desk is a relay behind a server, with webhooks that are really kept.
type desk struct {
	*relay.Relay
	registry *registry.Registry
	url      string
	key      [32]byte

	mu    sync.Mutex
	woken map[postrider.ID]int
}

func newDesk(t *testing.T, change ...func(*relay.Options)) *desk {
	t.Helper()
	sealer, err := sealing.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.Context(), t.TempDir(), sealer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() }) //nolint:errcheck // the test is over
	d := &desk{woken: map[postrider.ID]int{}}
	if d.registry, err = registry.New(t.Context(), registry.Options{Store: store}); err != nil {
		t.Fatal(err)
	}
	key, _, err := d.registry.CreateAPIKey(t.Context(), postrider.DefaultTenant, "test")
	if err != nil {
		t.Fatal(err)
	}
	d.key = key.Hash
	o := relay.Options{
		Webhooks: d.registry, HasKey: d.registry.HasKey, Ping: 100 * time.Millisecond, Margin: 300 * time.Millisecond,
		Wake: func(id postrider.ID) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.woken[id]++
		},
	}
	for _, change := range change {
		change(&o)
	}
	d.Relay = relay.New(o)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := postrider.Listener{
			Tenant: postrider.DefaultTenant, Key: d.key, Token: r.FormValue("session"), Forward: r.FormValue("forward"),
		}
		if text := r.FormValue("webhook_id"); text != "" {
			asked.WebhookID, _ = postrider.ParseID(text)
		}
		if text := r.FormValue("events"); text != "" {
			asked.Events = strings.Split(text, ",")
		}
		serve, err := d.Admit(r.Context(), asked)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		serve(w, r)
	}))
	t.Cleanup(func() {
		d.Close()
		server.Close()
	})
	d.url = server.URL
	return d
}

// A raw listener speaks the protocol by hand.
type raw struct {
	t    *testing.T
	conn *websocket.Conn
	id   postrider.ID
}

func (d *desk) dial(t *testing.T, token, webhook string) *raw {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	conn, _, err := websocket.Dial(ctx, d.url+"/?forward=http://localhost&session="+token+"&webhook_id="+webhook, nil) //nolint:bodyclose // the library does it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() }) //nolint:errcheck // the test is over
	conn.SetReadLimit(-1)
	r := &raw{t: t, conn: conn}
	ready := r.next("ready")["ready"].(map[string]any)
	if r.id, err = postrider.ParseID(fmt.Sprint(ready["webhook_id"])); err != nil {
		t.Fatal(err)
	}
	d.until(t, "the session", func() bool {
		return !d.Holds(&postrider.Webhook{ID: r.id, URL: "relay:x"})
	})
	return r
}

// next is the head of the next message of a type.
func (r *raw) next(kind string) map[string]any {
	r.t.Helper()
	for {
		ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
		_, text, err := r.conn.Read(ctx)
		cancel()
		if err != nil {
			r.t.Fatalf("waiting for %s: %v", kind, err)
		}
		var head map[string]any
		line, _, _ := strings.Cut(string(text), "\n")
		if err := json.Unmarshal([]byte(line), &head); err != nil {
			r.t.Fatal(err)
		}
		if head["type"] == kind {
			return head
		}
	}
}

func (r *raw) say(text string) {
	r.t.Helper()
	if err := r.conn.Write(r.t.Context(), websocket.MessageBinary, []byte(text)); err != nil {
		r.t.Fatal(err)
	}
}

func answerTo(id any, fields string) string {
	return fmt.Sprintf("{\"type\":\"answer\",\"id\":%q,\"answer\":{%s}}\nbody", fmt.Sprint(id), fields)
}

func (d *desk) until(t *testing.T, what string, yes func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(10 * time.Second); !yes(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s did not come true", what)
		}
	}
}

func requestTo(id postrider.ID) *postrider.Request {
	return &postrider.Request{
		WebhookID: id, URL: "relay:http://localhost", Timeout: 200 * time.Millisecond, Body: []byte("{\n\"a\": \xff}"),
		Header: postrider.Header{{Name: "X-Clubmed-Event", Value: "a.b"}, {Name: "webhook-id", Value: "1"}},
	}
}

// send sends in the background.
func (d *desk) send(t *testing.T, request *postrider.Request) <-chan postrider.Outcome {
	outcome := make(chan postrider.Outcome, 1)
	go func() { outcome <- d.Send(t.Context(), request) }()
	return outcome
}

func TestSession_CannotAnswerForWhatItWasNotGiven(t *testing.T) {
	d := newDesk(t)
	mine, other := d.dial(t, "mine-mine-mine-mine", ""), d.dial(t, "other-other-other-other", "")
	standby := d.dial(t, "second-second-second", mine.id.String())
	mine.next("standby")
	outcome := d.send(t, requestTo(mine.id))
	id := standby.next("delivery")["id"]
	const lie, truth = `"status_code":200`, `"status_code":500,"failure":"http_5xx","detail":"It broke."`
	other.say(answerTo(id, lie)) // of another webhook
	mine.say(answerTo(id, lie))  // of the same webhook, and not its own
	standby.say(answerTo("01a20a6a-67d2-7dc3-b1a1-02b361f5f096", lie))
	standby.say(answerTo(id, truth))
	standby.say(answerTo(id, lie)) // too late
	if got := <-outcome; got.StatusCode != http.StatusInternalServerError || got.Failure != postrider.FailHTTP5xx || string(got.Response.Body) != "body" {
		t.Errorf("got %+v, want the answer of the session that was given it", got)
	}
}

func TestSession_AnImpossibleAnswerEndsIt(t *testing.T) {
	d := newDesk(t)
	for i, fields := range []string{
		`"status_code":200,"failure":"http_5xx"`, `"status_code":500`, `"failure":"gone mad"`, `"failure":"relay_lost"`,
		`"status_code":1000,"failure":"http_5xx"`, ``,
	} {
		r := d.dial(t, fmt.Sprintf("a-listener-that-lies-%d", i), "")
		outcome := d.send(t, requestTo(r.id))
		r.say(answerTo(r.next("delivery")["id"], fields))
		if got := <-outcome; got.Failure != postrider.FailRelayLost {
			t.Errorf("%s: got %+v, want no answer", fields, got)
		}
		if _, _, err := r.conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
			t.Errorf("%s: got %v, want the end of the session", fields, err)
		}
	}
}

func TestSend_AListenerThatComesBackAnswersWhatItWasGiven(t *testing.T) {
	d := newDesk(t)
	r := d.dial(t, "comes-back-comes-back", "")
	request := requestTo(r.id)
	request.Timeout = 5 * time.Second
	outcome := d.send(t, request)
	id := r.next("delivery")["id"]
	r.conn.CloseNow() //nolint:errcheck // it is what is tested
	again := d.dial(t, "comes-back-comes-back", r.id.String())
	if got := again.next("delivery")["id"]; got != id {
		t.Errorf("got request %v, want %v again", got, id)
	}
	again.say(answerTo(id, `"status_code":204`))
	if got := <-outcome; got.StatusCode != http.StatusNoContent || !got.OK() {
		t.Errorf("got %+v, want 204", got)
	}
}

func TestSend_AListenerThatGoesAwayUsesUpNothing(t *testing.T) {
	d := newDesk(t)
	r := d.dial(t, "goes-away-goes-away", "")
	outcome := d.send(t, requestTo(r.id))
	r.next("delivery")
	r.conn.CloseNow() //nolint:errcheck // it is what is tested
	if got := <-outcome; got.Failure != postrider.FailRelayLost {
		t.Errorf("got %+v, want relay_lost", got)
	}
	w, _ := d.registry.WebhookByID(r.id)
	d.until(t, "the wait for a listener", func() bool { return d.Holds(w) })

	// One that says good-bye is not waited for.
	r = d.dial(t, "says-good-bye-says-good-bye", "")
	request := requestTo(r.id)
	request.Timeout = time.Minute
	outcome = d.send(t, request)
	r.next("delivery")
	r.say("{\"type\":\"bye\"}\n")
	if got := <-outcome; got.Failure != postrider.FailRelayLost {
		t.Errorf("got %+v, want relay_lost", got)
	}
	d.until(t, "the end of the webhook", func() bool {
		_, err := d.registry.Webhook(postrider.DefaultTenant, r.id)
		return err != nil
	})
}

func TestSend_AListenerThatSaysNothingTimesOut(t *testing.T) {
	d := newDesk(t)
	r := d.dial(t, "says-nothing-says-nothing", "")
	outcome := d.send(t, requestTo(r.id))
	r.next("delivery")
	go r.conn.Read(t.Context()) //nolint:errcheck // it answers the pings
	if got := <-outcome; got.Failure != postrider.FailTimeout {
		t.Errorf("got %+v, want timeout", got)
	}
}

func TestSession_OneThatGivesNoSignOfLifeIsCutOff(t *testing.T) {
	d := newDesk(t)
	r := d.dial(t, "dead-dead-dead-dead", "")
	w, _ := d.registry.WebhookByID(r.id)
	d.until(t, "the end of a session that reads nothing", func() bool { return d.Holds(w) })
}

func TestAdmit_RefusesWhatIsWrong(t *testing.T) {
	d := newDesk(t)
	foreign := postrider.NewID()
	for name, test := range map[string]struct {
		asked postrider.Listener
		code  string
	}{
		"no token":         {postrider.Listener{Forward: "x"}, "invalid_session"},
		"a short token":    {postrider.Listener{Token: "short", Forward: "x"}, "invalid_session"},
		"an odd token":     {postrider.Listener{Token: "0123456789abcdef/", Forward: "x"}, "invalid_session"},
		"no forward":       {postrider.Listener{Token: "0123456789abcdef"}, "invalid_forward"},
		"an odd forward":   {postrider.Listener{Token: "0123456789abcdef", Forward: "a b"}, "invalid_forward"},
		"both":             {postrider.Listener{}, "invalid"},
		"a wrong event":    {postrider.Listener{Token: "0123456789abcdef", Forward: "x", Events: []string{"A"}}, "invalid_event"},
		"no webhook of it": {postrider.Listener{Token: "0123456789abcdef", Forward: "x", WebhookID: foreign}, "not_found"},
	} {
		test.asked.Tenant = postrider.DefaultTenant
		_, err := d.Admit(t.Context(), test.asked)
		if refused, ok := errors.AsType[*postrider.Error](err); !ok || refused.Code != test.code {
			t.Errorf("%s: got %v, want %s", name, err, test.code)
		}
	}
	r := d.dial(t, "has-events-has-events", "")
	_, err := d.Admit(t.Context(), postrider.Listener{
		Tenant: postrider.DefaultTenant, Token: "0123456789abcdef", Forward: "x", WebhookID: r.id, Events: []string{"*"},
	})
	if refused, ok := errors.AsType[*postrider.Error](err); !ok || refused.Code != "conflicting_fields" {
		t.Errorf("got %v for events of a webhook that has some, want conflicting_fields", err)
	}
}

func TestAdmit_BoundsTheTemporaryWebhooksOfATenant(t *testing.T) {
	d := newDesk(t)
	for i := range 51 {
		w := httptest.NewRecorder()
		serve, err := d.Admit(t.Context(), postrider.Listener{
			Tenant: postrider.DefaultTenant, Key: d.key, Token: fmt.Sprintf("0123456789abcdef%d", i), Forward: "x", WebhookID: postrider.ID{},
		})
		if refused, ok := errors.AsType[*postrider.Error](err); (i == 50) != (ok && refused.Code == "too_many_temporary_webhooks") {
			t.Fatalf("got %v for the %dth webhook", err, i+1)
		}
		if err == nil && i < 49 {
			defer serve(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)) // no upgrade: it goes again
		} else if err == nil {
			serve(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody))
			if w.Code != http.StatusUpgradeRequired || len(d.registry.Temporary("")) != 49 {
				t.Errorf("got %d and %d webhooks, want 426 and that it has gone", w.Code, len(d.registry.Temporary("")))
			}
			if _, err := d.registry.CreateTemporary(t.Context(), postrider.Webhook{
				Tenant: postrider.DefaultTenant, URL: "relay:x", ContentType: postrider.JSON, Events: []string{"*"},
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestNewest_IsTheOneWithASession(t *testing.T) {
	d := newDesk(t)
	if _, err := d.Newest(postrider.DefaultTenant); err == nil {
		t.Error("got a webhook where nobody listens")
	}
	old := d.dial(t, "the-old-one-the-old-one", "")
	newer := d.dial(t, "the-newer-the-newer", "")
	if got, err := d.Newest(postrider.DefaultTenant); err != nil || got != newer.id {
		t.Errorf("got %s and %v, want %s", got, err, newer.id)
	}
	newer.conn.CloseNow()         //nolint:errcheck // it is what is tested
	go old.conn.Read(t.Context()) //nolint:errcheck // it answers the pings
	d.until(t, "the one that is left", func() bool {
		got, err := d.Newest(postrider.DefaultTenant)
		return err == nil && got == old.id
	})
	if _, err := d.Newest("somebody else"); err == nil {
		t.Error("got a webhook of another tenant")
	}
}

func TestRun_RemovesWhatNobodyCameBackTo(t *testing.T) {
	d := newDesk(t, func(o *relay.Options) { o.Hold = 300 * time.Millisecond })
	left, stays := d.dial(t, "left-left-left-left", ""), d.dial(t, "stays-stays-stays-stays", "")
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := d.Run(ctx); err != nil {
			t.Errorf("got %v, want none", err)
		}
	})
	defer running.Wait()
	defer stop()
	go stays.conn.Read(t.Context()) //nolint:errcheck // it answers the pings
	left.conn.CloseNow()            //nolint:errcheck // it is what is tested
	d.until(t, "the removal", func() bool {
		_, err := d.registry.Webhook(postrider.DefaultTenant, left.id)
		return err != nil
	})
	if _, err := d.registry.Webhook(postrider.DefaultTenant, stays.id); err != nil {
		t.Errorf("got %v for the webhook with a session, want it", err)
	}
}
