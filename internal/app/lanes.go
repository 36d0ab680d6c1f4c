package app

import (
	"fmt"
	"time"

	"postrider"
	"postrider/internal/dispatch"
	"postrider/internal/portal"
)

// lanes shows the portal what the dispatcher's lanes do.
type lanes struct{ d *dispatch.Dispatcher }

func (l lanes) Lane(webhook postrider.ID) (portal.LaneState, bool) {
	state, found := l.d.Lane(webhook)
	shown := portal.LaneState{
		Queued: state.Queued, InFlight: state.InFlight, Budget: state.Budget, Breaker: "closed", RetryAt: state.Until,
	}
	if state.Open {
		shown.Breaker = "half_open"
		if state.Until.After(time.Now()) {
			shown.Breaker = "open"
		}
		shown.Reason = fmt.Sprintf("The last %d attempts failed; one delivery at a time is tried until one succeeds", state.Failures)
	}
	return shown, found
}
