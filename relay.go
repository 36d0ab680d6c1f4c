package postrider

import (
	"crypto/sha256"
	"strings"
	"time"
)

// RelayScheme begins the URL of a temporary webhook. What follows is where the
// listener forwards to, for people: the server never sends there.
const RelayScheme = "relay:"

// Temporary reports whether the webhook's deliveries go to a listener that is
// attached, and wait while none is. It is made for listeners, and removed some
// time after the last one has gone.
func (w *Webhook) Temporary() bool { return strings.HasPrefix(w.URL, RelayScheme) }

// A Listener wants the deliveries of a webhook on its own machine.
type Listener struct {
	Tenant string
	// Key is the hash of the API key that it came with. It is sent away when
	// that key is revoked.
	Key [sha256.Size]byte
	// Token is of the listener's own choice. With the same one it comes back
	// to what it was given and has not answered.
	Token string
	// WebhookID is a temporary webhook to attach to, or another one that a
	// temporary copy is made of; zero: a new temporary webhook.
	WebhookID ID
	Events    []string // of the new webhook; none: all, or those of the webhook that is copied
	Forward   string   // where the listener sends what it gets, for people
}

// DefaultRelayHold is how long deliveries wait for a listener to come back.
const DefaultRelayHold = 24 * time.Hour
