package api_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"postrider/internal/api"
)

// payloads are JSON texts that an encoder would not give back as they are.
var payloads = []string{
	`null`, `true`, `0`, `-0`, `""`, `"text"`, `[]`, `{}`,
	`{"a":1,"a":2,"b":{"c":1,"c":[{"d":1,"d":2}]}}`,
	`12345678901234567890`, `1.0`, `1e400`, `-1E-400`, `0.10000000000000000000000001`,
	`"\u0041\/\b\u00fC\u2028"`, "\"\u2028\u2029\"", `"<script>&amp;</script>"`,
	`"\u0000"`, `"\ud83d\ude00 \ud800 \udc00\ud800"`, `"😀 é é"`, `{"\u0061":1,"a":2}`,
	"{ \"a\" :\t[ 1 , 2 ]\r\n}",
	"  \n{\"spaces\": \"around\"}\t ",
	"\"\x7f\"",
	strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000),
	`{"` + strings.Repeat("k", 70_000) + `":"` + strings.Repeat("ü", 100_000) + `"}`,
}

func TestPublish_KeepsThePayloadByteByByte(t *testing.T) {
	for _, payload := range payloads {
		// Spaces around a value belong to the envelope, not to the value.
		want := strings.TrimSpace(payload)
		c := newClient(t)
		one := `{"id": "evt_1", "payload":` + payload + `, "event": "a.b"}`
		c.do("operator", "POST", "/v0/events", one).want(202)
		c.do("operator", "POST", "/v0/events/batch", "["+one+","+one+"]").want(202)
		line := strings.NewReplacer("\r\n", " ", "\n", " ").Replace(one)
		c.do("operator", "POST", "/v0/events/batch", line+"\r\n\n"+line, "Content-Type", "application/x-ndjson").want(202)
		for i, batch := range c.published {
			for _, p := range batch {
				got, want := string(p.Payload), want
				if i == 2 {
					want = strings.NewReplacer("\r\n", " ", "\n", " ").Replace(want)
				}
				if got != want {
					t.Errorf("request %d: got %.80q, want %.80q", i, got, want)
				}
				if cap(p.Payload) != len(p.Payload) {
					t.Errorf("an append to the payload would write into the next member")
				}
			}
		}
		a := c.do("operator", "GET", "/v0/events/evt_1", "").want(200)
		if !bytes.HasSuffix(bytes.TrimSpace(a.Body.Bytes()), []byte(`,"payload":`+want+`}`)) {
			t.Errorf("got %.200s, want the payload %.80q as it was", a.Body, want)
		}
	}
}

func TestPublish_Members(t *testing.T) {
	c := newClient(t)
	a := c.do("operator", "POST", "/v0/events",
		`{"event": "a.b", "payload": {}, "tenant": "*", "id": "evt_1", "occurred_at": "2026-03-14T16:09:26.5+01:00"}`).want(202)
	if got, want := a.Body.String(), "{\"id\":\"evt_1\",\"deliveries\":3}\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	p := c.published[0][0]
	if p.Event != "a.b" || p.Tenant != "*" || p.ID != "evt_1" || !p.OccurredAt.Equal(time.Date(2026, 3, 14, 15, 9, 26, 5e8, time.UTC)) {
		t.Errorf("got %+v", p)
	}
	c.do("operator", "POST", "/v0/events", `{"event": "a.b", "payload": {}, "tenant": null, "id": null, "occurred_at": null}`).want(202)
	if p := c.published[1][0]; p.Tenant != "" || p.ID != "" || !p.OccurredAt.IsZero() {
		t.Errorf("got %+v, want null to be as absent", p)
	}
	c.do("operator", "POST", "/v0/events", `{"\u0065vent": "a\u002eb", "payload": {}}`).want(202)
	if p := c.published[2][0]; p.Event != "a.b" {
		t.Errorf("got the event %q, want escapes to be read", p.Event)
	}
}

func TestBatch_AnswersInOrder(t *testing.T) {
	c := newClient(t)
	var list []string
	for i := range 1000 {
		list = append(list, fmt.Sprintf(`{"event": "a.b", "payload": %d, "id": "evt_%d"}`, i, i))
	}
	for _, request := range [][2]string{
		{"application/json", "[" + strings.Join(list, ",") + "]"},
		{"application/x-ndjson", strings.Join(list, "\n")},
	} {
		var got struct{ Data []struct{ ID string } }
		c.do("operator", "POST", "/v0/events/batch", request[1], "Content-Type", request[0]).want(202).decode(&got)
		if len(got.Data) != 1000 {
			t.Fatalf("%s: got %d receipts, want 1000", request[0], len(got.Data))
		}
		for i, r := range got.Data {
			if want := fmt.Sprintf("evt_%d", i); r.ID != want {
				t.Fatalf("%s: got %s at %d, want %s", request[0], r.ID, i, want)
			}
		}
	}
	if len(c.published) != 2 || len(c.published[0]) != 1000 {
		t.Errorf("got %d publishes, want one for each batch", len(c.published))
	}
	// A batch of one is told of its event by index too.
	c.do("operator", "POST", "/v0/events/batch", `[{"event": "Nope", "payload": 1}]`).wantCode(422, "invalid_event", "[0].event")
}

func TestIdempotencyKey(t *testing.T) {
	for _, path := range []string{"/v0/events", "/v0/events/batch"} {
		body := `{"event": "a.b", "payload": 1}`
		if path == "/v0/events/batch" {
			body = "[" + body + "]"
		}
		c := newClient(t)
		c.do("operator", "POST", path, body).want(202)
		if c.idemKeys[0] != nil {
			t.Errorf("%s: got a key without a header", path)
		}
		for _, key := range []string{"k", "order:17/!~", strings.Repeat("k", 255)} {
			c.do("operator", "POST", path, body, "Idempotency-Key", key).want(202)
			got := c.idemKeys[len(c.idemKeys)-1]
			if got == nil || got.Key != key || got.Scope != "" || got.BodyHash != sha256.Sum256([]byte(body)) {
				t.Errorf("%s: got %+v", path, got)
			}
		}
		for _, key := range []string{"", " ", "two words", "é", "a\tb", strings.Repeat("k", 256)} {
			c.do("operator", "POST", path, body, "Idempotency-Key", key).wantCode(422, "invalid_idempotency_key", "Idempotency-Key")
		}
	}
}

func FuzzPublish(f *testing.F) {
	for _, payload := range payloads {
		if len(payload) < 1000 {
			f.Add([]byte(`{"event": "a.b", "payload":` + payload + `}`))
		}
	}
	f.Add([]byte(`{"event": "a.b", "event": "b", "payload": [1, 2`))
	c := newClient(f, func(o *api.Options) { o.PayloadLimit = 10_000 })
	f.Fuzz(func(t *testing.T, body []byte) {
		c.published = nil
		c.tb = t
		a := c.do("operator", "POST", "/v0/events", string(body))
		switch {
		case a.Code >= 500:
			t.Fatalf("got %d %s", a.Code, a.Body)
		case a.Code == 202:
			payload := c.published[0][0].Payload
			if !json.Valid(payload) || !bytes.Contains(body, payload) {
				t.Errorf("accepted the payload %q of %q", payload, body)
			}
		}
	})
}
