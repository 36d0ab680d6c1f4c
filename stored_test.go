package postrider_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postrider"
)

func TestHidden_ComesBackAndHasNothingElse(t *testing.T) {
	for name, w := range map[string]postrider.Webhook{
		"a secret": {Secret: "a secret to sign with"},
		"headers":  {Headers: map[string]string{"Authorization": "Bearer x"}},
		"all": {
			Secret: "a", Headers: map[string]string{"X-A": "b"},
			Previous: []postrider.PreviousSecret{{Secret: "b", Until: time.UnixMicro(1_600_000_000_000_001).UTC()}},
		},
	} {
		whole := w
		whole.URL, whole.Description = "https://partner.test/", "for everybody"
		text, err := whole.Hidden()
		if err != nil {
			t.Fatal(err)
		}
		got := postrider.Webhook{Previous: []postrider.PreviousSecret{{Secret: "of before"}}}
		if err := got.Reveal(text); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(w, got, cmp.Comparer(func(a, b postrider.Secret) bool { return string(a) == string(b) })); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if text, err := new(postrider.Webhook).Hidden(); text != nil || err != nil {
		t.Errorf("got %q, %v of a webhook that has nothing to hide, want nothing", text, err)
	}
	if err := new(postrider.Webhook).Reveal([]byte("{")); err == nil {
		t.Error("got a webhook revealed by what is no JSON")
	}
}

// What stores hold is read by every later version.
func TestHidden_KeepsItsForm(t *testing.T) {
	w := postrider.Webhook{
		Secret: "a", Headers: map[string]string{"X-A": "b"}, Previous: []postrider.PreviousSecret{{Secret: "c", Until: time.UnixMicro(7)}},
	}
	const want = `{"secret":"a","previous":[{"secret":"c","until":7}],"headers":{"X-A":"b"}}`
	if got, err := w.Hidden(); err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}
