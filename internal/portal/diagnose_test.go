package portal

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"postrider"
	"postrider/signature"
)

const (
	testSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	testBody   = `{"room":"204","note":"Côte d'Azur","tags":["a/b","<c>"],"n":1.50}`
)

var testNow = time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)

// request are the headers of a request with a body, as the sender makes them.
func request(secret string, body []byte) http.Header {
	s := signature.NewSigner(secret)
	h := http.Header{}
	h.Set("X-Acme-Signature", string(s.AppendHex(nil, body)))
	h.Set(signature.HeaderID, "evt_1")
	h.Set(signature.HeaderTimestamp, "1773500966")
	h.Set(signature.HeaderSignature, string(s.AppendStandard(nil, "evt_1", testNow, body)))
	return h
}

func TestDiagnose_NamesWhatIsWrong(t *testing.T) {
	form := "payload=" + url.QueryEscape(testBody)
	for name, test := range map[string]struct {
		signed string // the body that was sent
		got    string // what was pasted
		secret string
		change func(http.Header)
		want   string
	}{
		"nothing":               {testBody, testBody, testSecret, nil, "The signature is right"},
		"nothing, with a break": {"{\n\"a\": 1\n}", "{\r\n\"a\": 1\r\n}", testSecret, nil, "The signature is right"},
		"another secret":        {testBody, testBody, "whsec_" + strings.Repeat("AAAA", 8), nil, "Wrong secret, or another body"},
		"spaces around it":      {testBody, testBody, " " + testSecret + "\n", nil, "Spaces or quotes around the secret"},
		"prefix left out":       {testBody, testBody, strings.TrimPrefix(testSecret, "whsec_"), nil, "The secret's beginning is wrong"},
		"indented":              {testBody, "{\n  \"room\": \"204\",\n  \"note\": \"Côte d'Azur\",\n  \"tags\": [\n    \"a/b\",\n    \"<c>\"\n  ],\n  \"n\": 1.50\n}", testSecret, nil, "The body was parsed and written again"},
		"by Python":             {testBody, `{"room": "204", "note": "C\u00f4te d'Azur", "tags": ["a/b", "<c>"], "n": 1.50}`, testSecret, nil, "The body was parsed and written again"},
		"from Python":           {`{"room": "204", "note": "C\u00f4te"}`, `{"room":"204","note":"Côte"}`, testSecret, nil, "The body was parsed and written again"},
		"by PHP":                {testBody, `{"room":"204","note":"C\u00f4te d'Azur","tags":["a\/b","<c>"],"n":1.50}`, testSecret, nil, "The body was parsed and written again"},
		"a break at the end":    {testBody, testBody + "\n", testSecret, nil, "Line endings were changed"},
		"a break taken off":     {testBody + "\n", testBody, testSecret, nil, "Line endings were changed"},
		"a form":                {form, testBody, testSecret, nil, "A form was taken for JSON"},
		"a character set":       {testBody, strings.ReplaceAll(testBody, "ô", "Ã´"), testSecret, nil, "The wrong character set"},
		"no headers":            {testBody, testBody, testSecret, func(h http.Header) { clear(h) }, "There is no signature among the headers"},
		"no secret":             {testBody, testBody, "", nil, "No secret to check with"},
	} {
		t.Run(name, func(t *testing.T) {
			s := suspect{brand: "Acme", header: request(testSecret, []byte(test.signed)), body: []byte(test.got), secret: test.secret, now: testNow}
			if test.change != nil {
				test.change(s.header)
			}
			if got := s.diagnose(); got[0].Title != test.want || len(got) != 1 {
				t.Errorf("got %+v, want %q", got, test.want)
			}
		})
	}
}

// With the log at hand, the answer is certain.
func TestDiagnose_ComparesWithWhatWasSent(t *testing.T) {
	event := &postrider.Event{ID: "evt_1", Payload: []byte(testBody)}
	hook := &postrider.Webhook{Secret: testSecret}
	for name, test := range map[string]struct {
		body, secret, title, text string
	}{
		"another secret":     {testBody, "some other secret", "Wrong secret", "present secret"},
		"none, so its own":   {testBody, "", "The signature is right", ""},
		"values in an order": {`{"n":1.5,"note":"Côte d'Azur","room":"204","tags":["a/b","<c>"]}`, testSecret, "The body was parsed and written again", ""},
		"cut":                {testBody[:20], testSecret, "The body is cut short", "20 bytes of"},
		"changed":            {strings.Replace(testBody, "204", "205", 1), testSecret, "Another body", "byte 11"},
		"lost characters":    {strings.Replace(testBody, "ô", "\ufffd", 1), testSecret, "The wrong character set", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := suspect{
				brand: "Acme", header: request(testSecret, []byte(testBody)), body: []byte(test.body), secret: test.secret, now: testNow,
				event: event, webhook: hook,
			}
			if got := s.diagnose(); got[0].Title != test.title || !strings.Contains(got[0].Text, test.text) {
				t.Errorf("got %+v, want %q with %q", got, test.title, test.text)
			}
		})
	}
}

func TestDiagnose_JudgesTimeAndForm(t *testing.T) {
	for name, test := range map[string]struct {
		now   time.Time
		value func(string) string
		want  string
	}{
		"old":      {testNow.Add(6 * time.Minute), nil, "The timestamp is old"},
		"early":    {testNow.Add(-6 * time.Minute), nil, "The timestamp is in the future"},
		"capitals": {testNow, strings.ToUpper, "The header lacks sha256="},
		"bare":     {testNow, func(v string) string { return strings.TrimPrefix(v, "sha256=") }, "The header lacks sha256="},
		"cut":      {testNow, func(v string) string { return v[:40] }, "The header is not whole"},
	} {
		t.Run(name, func(t *testing.T) {
			s := suspect{brand: "Acme", header: request(testSecret, []byte(testBody)), body: []byte(testBody), secret: testSecret, now: test.now}
			if test.value != nil {
				s.header.Set("X-Acme-Signature", test.value(s.header.Get("X-Acme-Signature")))
			}
			got := s.diagnose()
			if len(got) != 2 || got[1].Title != test.want || got[0].Tone != "ok" {
				t.Errorf("got %+v, want a right signature and %q", got, test.want)
			}
		})
	}
}

func TestParseHeaders_TakesWhatToolsPrint(t *testing.T) {
	h := parseHeaders("POST /api/callback HTTP/1.1\r\n> X-Acme-Signature: sha256=ab\r\n  -H 'webhook-id: evt_1' \\\n\"webhook-timestamp\": \"1773500966\",\nnonsense\n")
	for name, want := range map[string]string{"X-Acme-Signature": "sha256=ab", "Webhook-Id": "evt_1", "Webhook-Timestamp": "1773500966"} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func FuzzDiagnose(f *testing.F) {
	f.Add("X-Acme-Signature: sha256=00", testBody, testSecret)
	f.Add("webhook-id: a\nwebhook-timestamp: 9e9\nwebhook-signature: v1,", "{\r\n}", " ")
	f.Fuzz(func(t *testing.T, headers, body, secret string) {
		s := suspect{
			brand: "Acme", header: parseHeaders(headers), body: []byte(body), secret: secret, now: testNow,
			event: &postrider.Event{Payload: []byte(testBody)}, webhook: &postrider.Webhook{Secret: testSecret},
		}
		if len(s.diagnose()) == 0 {
			t.Error("got no verdict")
		}
	})
}
