package postrider_test

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postrider"
)

func TestHeader_ComesBackInItsSpelling(t *testing.T) {
	h := postrider.SortedHeader(http.Header{"x-lower": {"1", ""}, "Content-Type": {"a: b"}, "X-Bytes": {"\xff\xfe"}})
	text := h.String()
	if want := "Content-Type: a: b\nX-Bytes: \xff\xfe\nx-lower: 1\nx-lower: \n"; text != want {
		t.Errorf("got %q, want %q", text, want)
	}
	if diff := cmp.Diff(h, postrider.ParseHeader(text)); diff != "" {
		t.Error(diff)
	}
	if got := postrider.ParseHeader(postrider.Header(nil).String()); len(got) != 0 {
		t.Errorf("got %v of no headers, want none", got)
	}
}

func TestHeader_IsLookedUpWhateverTheSpelling(t *testing.T) {
	h := postrider.Header{{Name: "X-Two", Value: "a"}, {Name: "X-Two", Value: "b"}, {Name: "webhook-id", Value: "1"}}
	for name, want := range map[string]string{"x-two": "a", "Webhook-ID": "1", "X-None": ""} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if diff := cmp.Diff(http.Header{"X-Two": {"a", "b"}, "webhook-id": {"1"}}, h.Map()); diff != "" {
		t.Error(diff)
	}
}
