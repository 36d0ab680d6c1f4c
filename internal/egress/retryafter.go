package egress

import (
	"net/http"
	"strings"
	"time"
)

// maxRetryAfter keeps what a receiver asks for in the range of date
// arithmetic. Dispatch has a far lower bound of its own.
const maxRetryAfter = 366 * 24 * time.Hour

// parseRetryAfter is RFC 9110, section 10.2.3: whole seconds, or a date. A
// moment in the past and everything else is no wish: 0.
func parseRetryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0
	}
	if seconds, ok := digits(value); ok {
		return seconds
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

// digits reads whole seconds of any size.
func digits(value string) (wait time.Duration, ok bool) {
	for i := range len(value) {
		if !isDigit(rune(value[i])) {
			return 0, false
		}
		wait = min(wait*10+time.Duration(value[i]-'0')*time.Second, maxRetryAfter)
	}
	return wait, true
}
