package postrider_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"postrider"
)

// code is the code of an error for users, "" for none.
func code(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*postrider.Error](err)
	if !ok {
		t.Fatalf("got %v, which is not for users", err)
	}
	if e.Detail == "" {
		t.Errorf("got code %q without a detail", e.Code)
	}
	return e.Code
}

func TestCheckEventType_TakesDottedLowerCaseIdentifiers(t *testing.T) {
	for name, want := range map[string]string{
		"a": "", "room_status.updated": "", "a.b.c.d.e": "", "0.1_2": "", "_": "", strings.Repeat("a", 128): "",
		"pings": "", "ping.a": "", "webhook.failing": "",

		"ping": "reserved_event",

		"": "invalid_event", ".": "invalid_event", "a.": "invalid_event", ".a": "invalid_event", "a..b": "invalid_event",
		"A": "invalid_event", "room-status": "invalid_event", "a b": "invalid_event", "a\n": "invalid_event", "\na": "invalid_event",
		"é": "invalid_event", "a*": "invalid_event", "*": "invalid_event", "a.*": "invalid_event", "a/b": "invalid_event",
		"a\x00": "invalid_event", "a\r\nX-Evil: 1": "invalid_event", strings.Repeat("a", 129): "invalid_event",
	} {
		if got := code(t, postrider.CheckEventType("event", name)); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestCheckPublished_KeepsTheSystemsOwnTypesForTheSystem(t *testing.T) {
	for name, want := range map[string]string{
		"room_status.updated": "", "webhooks.failing": "", "webhook": "", "my.webhook.failing": "",
		postrider.WebhookFailingEvent: "reserved_event", postrider.WebhookDisabledEvent: "reserved_event",
		"webhook.anything": "reserved_event", "ping": "reserved_event", "webhook..": "reserved_event", "A": "invalid_event",
	} {
		if got := code(t, postrider.CheckPublished("event", name)); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestCheckEventPattern_TakesTypesAndStarsAtTheEnd(t *testing.T) {
	for pattern, want := range map[string]string{
		"*": "", "a": "", "a.*": "", "room_status.*": "", "a.b.*": "", strings.Repeat("a", 126) + ".*": "", "webhook.*": "",

		"ping": "reserved_event",

		"": "invalid_event", "**": "invalid_event", "*.a": "invalid_event", "a*": "invalid_event", "a.*.b": "invalid_event",
		".*": "invalid_event", "a..*": "invalid_event", "A.*": "invalid_event", "a.*\n": "invalid_event", " *": "invalid_event",
		"a.b*": "invalid_event", strings.Repeat("a", 127) + ".*": "invalid_event",
	} {
		err := postrider.CheckEventPattern("events[2]", pattern)
		if got := code(t, err); got != want {
			t.Errorf("%q: got %q, want %q", pattern, got, want)
		}
		if e, ok := errors.AsType[*postrider.Error](err); ok && e.Field != "events[2]" {
			t.Errorf("%q: got field %q, want the one that was named", pattern, e.Field)
		}
	}
}

func TestMatchEvent_AStarTakesEverythingBelowAndNotItsStem(t *testing.T) {
	for _, test := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "a", true},
		{"*", "room_status.updated", true},
		{"a", "a", true},
		{"a", "a.b", false},
		{"a", "ab", false},
		{"a.b", "a", false},
		{"a.*", "a.b", true},
		{"a.*", "a.b.c", true},
		{"a.*", "a", false},
		{"a.*", "a.", false},
		{"a.*", "ab.c", false},
		{"a.*", "b.a.c", false},
		{"room_status.*", "room_status.updated", true},
		{"room_status.*", "room_statuses.updated", false},
		{"room.*", "room_status.updated", false},
	} {
		if got := postrider.MatchEvent(test.pattern, test.name); got != test.want {
			t.Errorf("%q takes %q: got %v, want %v", test.pattern, test.name, got, test.want)
		}
	}
}

// FuzzEventPattern compares matching with a regular expression that says the
// same in another way.
func FuzzEventPattern(f *testing.F) {
	for _, pattern := range []string{"*", "a.*", "a.b", "ping", "a.*.b", "A", "é.*"} {
		for _, name := range []string{"a", "a.b", "a.b.c", "ab", "ping"} {
			f.Add(pattern, name)
		}
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if postrider.CheckEventPattern("", pattern) != nil || postrider.CheckEventType("", name) != nil {
			return
		}
		expression := "^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `.+`) + "$"
		if got, want := postrider.MatchEvent(pattern, name), regexp.MustCompile(expression).MatchString(name); got != want {
			t.Errorf("%q takes %q: got %v, want %v", pattern, name, got, want)
		}
		w := postrider.Webhook{Events: []string{"other.type", pattern}}
		if got, want := w.Subscribes(name), postrider.MatchEvent(pattern, name) || name == "other.type"; got != want {
			t.Errorf("a webhook for %q takes %q: got %v, want %v", pattern, name, got, want)
		}
	})
}

func TestCheckEventID_TakesWhatCanBeSignedAndPutIntoAHeader(t *testing.T) {
	for id, want := range map[string]string{
		"a": "", "stay-4711_B": "", strings.Repeat("a", 64): "", "-": "", postrider.NewID().String(): "",

		"": "invalid_id", strings.Repeat("a", 65): "invalid_id", "a.b": "invalid_id", "a b": "invalid_id", "a\n": "invalid_id",
		"é": "invalid_id", "a/b": "invalid_id", "a\x00": "invalid_id", "a\r\nX: 1": "invalid_id", "..": "invalid_id",
	} {
		if got := code(t, postrider.CheckEventID("id", id)); got != want {
			t.Errorf("%q: got %q, want %q", id, got, want)
		}
	}
}

func FuzzCheckEventID(f *testing.F) {
	f.Add("stay-4711")
	f.Add("a.b")
	f.Fuzz(func(t *testing.T, id string) {
		if postrider.CheckEventID("", id) == nil && (strings.ContainsAny(id, ". \r\n\x00") || len(id) > 64 || id == "") {
			t.Errorf("got %q accepted", id)
		}
	})
}

func TestWrap_AFormHoldsThePayloadInOneField(t *testing.T) {
	payload := []byte(`{"a": "é&=+%"}` + "\n")
	if got := postrider.JSON.Wrap(payload); string(got) != string(payload) {
		t.Errorf("got %q as JSON, want the payload itself", got)
	}
	if got, want := string(postrider.Form.Wrap(payload)), "payload=%7B%22a%22%3A+%22%C3%A9%26%3D%2B%25%22%7D%0A"; got != want {
		t.Errorf("got %q as a form, want %q", got, want)
	}
}

func TestCheckTenantName_TakesWhatIsSafeInAPath(t *testing.T) {
	for name, want := range map[string]string{
		"default": "", "A": "", "a.b-c_d": "", "0": "", strings.Repeat("a", 64): "",

		"": "invalid_tenant", "*": "invalid_tenant", ".": "invalid_tenant", "..": "invalid_tenant", ".a": "invalid_tenant",
		"-a": "invalid_tenant", "a/b": "invalid_tenant", "a b": "invalid_tenant", "é": "invalid_tenant", "a\n": "invalid_tenant",
		"a%2f": "invalid_tenant", strings.Repeat("a", 65): "invalid_tenant",
	} {
		if got := code(t, postrider.CheckTenantName("name", name)); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}
