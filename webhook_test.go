package postrider_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"postrider"
)

var now = time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)

// signing lists the secrets that sign at a time, the newest first.
func signing(w *postrider.Webhook, at time.Time) (list []string) {
	for _, old := range w.Previous {
		if old.Until.After(at) {
			list = append(list, string(old.Secret))
		}
	}
	return append([]string{string(w.Secret)}, list...)
}

func TestRotate_NoSecretOutlivesTheOneAfterIt(t *testing.T) {
	w := &postrider.Webhook{}
	w.Rotate("a", time.Hour, now)
	if len(w.Previous) != 0 || !w.PreviousUntil(now).IsZero() {
		t.Errorf("got %d secrets before the first one", len(w.Previous))
	}
	w.Rotate("b", 72*time.Hour, now)
	w.Rotate("c", time.Hour, now)
	if got := w.PreviousUntil(now); !got.Equal(now.Add(time.Hour)) {
		t.Errorf("got the old secrets until %v, want the last grace to end them all", got)
	}
	for at, want := range map[time.Duration][]string{0: {"c", "b", "a"}, time.Hour - 1: {"c", "b", "a"}, time.Hour: {"c"}} {
		if got := signing(w, now.Add(at)); !slices.Equal(got, want) {
			t.Errorf("after %v: got %q, want %q", at, got, want)
		}
	}
	w.Rotate("d", 2*time.Hour, now.Add(30*time.Minute))
	for at, want := range map[time.Duration][]string{59 * time.Minute: {"d", "c", "b", "a"}, time.Hour: {"d", "c"}, 150 * time.Minute: {"d"}} {
		if got := signing(w, now.Add(at)); !slices.Equal(got, want) {
			t.Errorf("after %v and another: got %q, want %q", at, got, want)
		}
	}
	w.Rotate("e", time.Hour, now.Add(90*time.Minute))
	if got := len(w.Previous); got != 2 {
		t.Errorf("got %d old secrets kept, want those that have expired forgotten", got)
	}
	w.Rotate("f", 0, now.Add(90*time.Minute))
	if len(w.Previous) != 0 {
		t.Errorf("got %d old secrets kept without a grace, want none", len(w.Previous))
	}
}

// The answer to a rotation can be lost, and the caller asks again.
func TestRotate_TheSameAgainChangesNothingAndBackIsARotation(t *testing.T) {
	w := &postrider.Webhook{Secret: "a"}
	w.Rotate("b", time.Hour, now)
	w.Rotate("b", time.Hour, now.Add(time.Minute))
	if got, want := signing(w, now), []string{"b", "a"}; !slices.Equal(got, want) || !w.PreviousUntil(now).Equal(now.Add(time.Hour)) {
		t.Errorf("got %q until %v, want %q for an hour", got, w.PreviousUntil(now), want)
	}
	w.Rotate("a", time.Hour, now)
	if got, want := signing(w, now), []string{"a", "b"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRotate_KeepsABoundedNumberOfSecrets(t *testing.T) {
	w := &postrider.Webhook{}
	for i := range 50 {
		w.Rotate(postrider.Secret(fmt.Sprint(i)), time.Hour, now)
	}
	if got := signing(w, now); len(got) != 1+postrider.MaxPreviousSecrets || got[0] != "49" || got[10] != "39" {
		t.Errorf("got %q, want the newest and the ten before it", got)
	}
}

// A webhook that the registry hands out is shared.
func TestRotate_LeavesACopyOfTheWebhookAlone(t *testing.T) {
	before := postrider.Webhook{Secret: "b", Previous: make([]postrider.PreviousSecret, 1, 8)}
	before.Previous[0] = postrider.PreviousSecret{Secret: "a", Until: now.Add(time.Hour)}
	after := before
	after.Rotate("c", time.Minute, now)
	if got, want := signing(&before, now), []string{"b", "a"}; !slices.Equal(got, want) || !before.PreviousUntil(now).Equal(now.Add(time.Hour)) {
		t.Errorf("got %q until %v in the webhook before, want %q unchanged", got, before.PreviousUntil(now), want)
	}
}
