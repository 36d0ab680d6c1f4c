package postrider_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"text/template"

	"postrider"
)

const canary = "canary-of-a-secret"

func TestSecret_IsNeverPrinted(t *testing.T) {
	secret := postrider.Secret(canary)
	w := postrider.Webhook{Secret: secret, Previous: []postrider.PreviousSecret{{Secret: secret}}}
	holders := map[string]any{
		"itself": secret, "a pointer": &secret, "a webhook": w, "a pointer to one": &w, "a slice": []postrider.Secret{secret},
		"a map": map[string]postrider.Secret{"x": secret}, "an interface": []any{secret, w},
		"a settings struct": struct {
			Name string
			Key  postrider.Secret
		}{"x", secret},
	}
	for name, value := range holders {
		for _, verb := range []string{
			"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%10s", "%.30s", "%-30v", "%d", "%c", "%U", "%t", "%e", "%08b", "%z",
		} {
			wantHidden(t, name+" by "+verb, fmt.Sprintf(verb, value))
		}
		wantHidden(t, name+" by Sprint", fmt.Sprint(value))
		wantHidden(t, name+" in an error", fmt.Errorf("no: %w", fmt.Errorf("%v", value)).Error())
		if encoded, err := json.Marshal(value); err == nil {
			wantHidden(t, name+" as JSON", string(encoded))
		} else {
			t.Errorf("%s: %v", name, err)
		}
		for _, handler := range []func(*bytes.Buffer) slog.Handler{
			func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
			func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		} {
			var b bytes.Buffer
			slog.New(handler(&b)).With("first", value).Info("a line", "secret", value, slog.Group("g", "secret", value))
			wantHidden(t, name+" in a log", b.String())
		}
	}
}

func TestSecret_IsNeverEncodedOtherwise(t *testing.T) {
	secret := postrider.Secret(canary)
	var b bytes.Buffer
	type settings struct{ Key postrider.Secret }
	if err := xml.NewEncoder(&b).Encode(settings{secret}); err != nil {
		t.Error(err)
	}
	wantHidden(t, "as XML", b.String())
	b.Reset()
	if err := template.Must(template.New("").Parse("{{.}} {{printf \"%s\" .}}")).Execute(&b, secret); err != nil {
		t.Error(err)
	}
	wantHidden(t, "in a template", b.String())
}

func wantHidden(t *testing.T, where, text string) {
	t.Helper()
	for _, seen := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprintf("% x", canary), fmt.Sprintf("%d", []byte(canary))} {
		if strings.Contains(text, seen) {
			t.Errorf("%s: got the secret in %q", where, text)
		}
	}
}

func TestSecret_AnEmptyOneShowsThatThereIsNone(t *testing.T) {
	if got := fmt.Sprintf("%v|%s|%#v", postrider.Secret(""), postrider.Secret(""), postrider.Secret("")); got != `||""` {
		t.Errorf("got %q, want nothing", got)
	}
	if got := postrider.Secret(canary).String(); got != postrider.Masked {
		t.Errorf("got %q, want %q", got, postrider.Masked)
	}
}

func TestNewSecret_IsRandomAndChecks(t *testing.T) {
	seen := map[postrider.Secret]bool{}
	for range 1000 {
		secret := postrider.NewSecret()
		if seen[secret] || !strings.HasPrefix(string(secret), "whsec_") || len(secret) != len("whsec_")+32 {
			t.Fatalf("got %q, want whsec_ and 24 random bytes", string(secret))
		}
		seen[secret] = true
		if err := checked(func(w *postrider.Webhook) { w.Secret = secret }).Check(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNewAPIKey_ItsTextIsRandomAndInNoPartOfTheKey(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		key, text := postrider.NewAPIKey("partner", "name", now)
		if seen[text] || len(text) != len("prk_")+32 {
			t.Fatalf("got text %q, want prk_ and 24 random bytes", text)
		}
		seen[text] = true
		if key.Hash != postrider.HashAPIKey(text) || !strings.HasPrefix(text, key.Prefix) || len(key.Prefix) > 10 {
			t.Fatalf("got %+v, want the hash and a short prefix of %q", key, text)
		}
		if strings.Contains(fmt.Sprintf("%+v", key), text) {
			t.Fatalf("got the text in %+v", key)
		}
	}
	if operator, _ := postrider.NewAPIKey("", "name", now); !operator.Operator() {
		t.Error("got a key without a tenant that is not the operator's")
	}
}

func TestSensitiveHeader_KnowsThoseThatCarryCredentials(t *testing.T) {
	for name, want := range map[string]bool{
		"Authorization": true, "authorization": true, "X-Api-Key": true, "X-Auth-Token": true, "Cookie": true, "X-Client-Secret": true,
		"X-PASSWORD": true, "X-Session-Id": true, "Proxy-Authorization": true, "X-Credentials": true,
		"X-Reference": false, "Accept": false, "Date": false,
	} {
		if got := postrider.SensitiveHeader(name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

func TestCheckName_IsPrintableAndBounded(t *testing.T) {
	for name, want := range map[string]string{
		"a": "", "Büro 7": "", strings.Repeat("a", 100): "",
		"": "invalid_name", "  ": "invalid_name", "a\n": "invalid_name", "a\x00": "invalid_name", "\xff": "invalid_name",
		"a\u202eb": "invalid_name", strings.Repeat("a", 101): "invalid_name",
	} {
		if got := code(t, postrider.CheckName("name", name)); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}
