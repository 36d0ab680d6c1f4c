package postrider

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"time"
)

// MaxSession is how long a browser stays signed in to the portal at most.
const MaxSession = 24 * time.Hour

// A Session is a browser that is signed in to the portal, or a one-time link
// that can become one. Only the hash of its token is kept.
type Session struct {
	Hash   [sha256.Size]byte // of the token
	Tenant string            // empty: the operator's
	// Key is the hash of the API key that the session was made with. The
	// session ends with that key.
	Key       [sha256.Size]byte
	ExpiresAt time.Time
}

// Operator reports whether the session is the operator's.
func (s *Session) Operator() bool { return s.Tenant == "" }

// NewToken makes the text that a session or a link is known by, with 256
// random bits.
func NewToken() string {
	var random [32]byte
	rand.Read(random[:]) // never returns an error since Go 1.24
	return base64.RawURLEncoding.EncodeToString(random[:])
}

// HashToken is what the store keeps of a token. A plain SHA-256 is enough: the
// text has too many random bits for a search.
func HashToken(text string) [sha256.Size]byte { return sha256.Sum256([]byte(text)) }
