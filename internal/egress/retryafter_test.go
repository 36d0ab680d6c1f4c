package egress

import (
	"math"
	"net/http"
	"testing"
	"time"
)

func TestParseRetryAfter_TakesSecondsAndDatesAndNothingElse(t *testing.T) {
	now := time.Date(2026, 6, 2, 10, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                                   0,
		"0":                                  0,
		"1":                                  time.Second,
		"120":                                2 * time.Minute,
		" 120 ":                              2 * time.Minute,
		"00120":                              2 * time.Minute,
		"86400":                              24 * time.Hour,
		"99999999999":                        maxRetryAfter,
		"9223372036854775808":                maxRetryAfter,
		"999999999999999999999999999":        maxRetryAfter,
		"-1":                                 0,
		"+5":                                 0,
		"1.5":                                0,
		"1e3":                                0,
		"0x10":                               0,
		"soon":                               0,
		"120, 240":                           0,
		"１２０":                                0,
		"120\x00":                            0,
		"Tue, 02 Jun 2026 10:05:00 GMT":      5 * time.Minute,
		"Tuesday, 02-Jun-26 10:05:00 GMT":    5 * time.Minute,
		"Tue Jun  2 10:05:00 2026":           5 * time.Minute,
		"Tue, 02 Jun 2026 10:00:00 GMT":      0,
		"Tue, 02 Jun 2026 09:00:00 GMT":      0,
		"Thu, 01 Jan 1970 00:00:00 GMT":      0,
		"Fri, 31 Dec 9999 23:59:59 GMT":      maxRetryAfter,
		"Tue, 02 Jun 2026 25:00:00 GMT":      0,
		"2026-06-02T10:05:00Z":               0,
		"Tue, 02 Jun 2026 10:05:00 GMT, 120": 0,
	} {
		if got := parseRetryAfter(value, now); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "120", "-1", "1.5", "99999999999999999999", "Tue, 02 Jun 2026 10:05:00 GMT", "Tuesday, 02-Jun-26 10:05:00 GMT", "soon", "1e9"} {
		f.Add(seed)
	}
	now := time.Date(2026, 6, 2, 10, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, value string) {
		wait := parseRetryAfter(value, now)
		if wait < 0 || wait > maxRetryAfter {
			t.Fatalf("%q: got %v", value, wait)
		}
		if at, err := http.ParseTime(value); err == nil && at.After(now) && wait == 0 {
			t.Fatalf("%q: a later date gave no wait", value)
		}
	})
}

// What Node sends is "timeout=5"; a receiver that lies or stammers about it
// only costs itself connections.
func TestExpiry_EndsAConnectionBeforeItsReceiverDoes(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"timeout=5":          4 * time.Second,
		"timeout=5, max=100": 4 * time.Second,
		"max=100,Timeout=60": 59 * time.Second,
		"timeout=1":          500 * time.Millisecond,
		"timeout=0":          0,
	} {
		before := clock()
		got := expiry(header)
		if least, most := before+int64(want), clock()+int64(want); got < least || got > most {
			t.Errorf("%q: got %v from now, want %v", header, time.Duration(got-before), want)
		}
	}
	for _, header := range []string{"", "timeout", "timeout=", "timeout=x", "timeout=-1", "max=5", "timeout=99999999999999999999", "5"} {
		if got := expiry(header); got != 0 {
			t.Errorf("%q: got %d, want never", header, got)
		}
	}
	if expiry("timeout=65535") > math.MaxInt64-int64(time.Hour) {
		t.Error("the longest timeout overflows")
	}
}
