package postrider

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"regexp"
	"strings"
	"time"
)

const (
	// DefaultTenant always exists. What names no tenant belongs to it.
	DefaultTenant = "default"
	// EveryTenant in an event's tenant field means all of them. It is never a
	// tenant's name.
	EveryTenant = "*"
)

// A Tenant is a partner's account. Its name is its identity: it stands in
// every key of the store and never changes.
type Tenant struct {
	Name      string
	Paused    bool // the operator's switch; while on, its deliveries are held
	CreatedAt time.Time
}

var tenantName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// CheckTenantName refuses what cannot name a tenant.
func CheckTenantName(field, name string) error {
	if !tenantName.MatchString(name) {
		return invalid(field, "invalid_tenant",
			"A tenant's name is 1 to 64 letters, digits, dots, dashes or underscores and starts with a letter or digit.")
	}
	return nil
}

// An APIKey lets its holder act for one tenant, or, with an empty Tenant, as
// the operator. Only the hash of the key's text is kept.
type APIKey struct {
	ID        ID
	Tenant    string // empty: the operator's
	Name      string
	Prefix    string // the first characters of the key's text, to recognise it by
	Hash      [sha256.Size]byte
	CreatedAt time.Time
}

// Operator reports whether the key is the operator's.
func (k APIKey) Operator() bool { return k.Tenant == "" }

const keyPrefix = "prk_"

// NewAPIKey makes a key with 192 random bits. The text is shown to its holder
// once and is not part of the APIKey.
func NewAPIKey(tenant, name string, now time.Time) (key APIKey, text string) {
	var random [24]byte
	rand.Read(random[:]) // never returns an error since Go 1.24
	text = keyPrefix + base64.RawURLEncoding.EncodeToString(random[:])
	return APIKey{
		ID: NewID(), Tenant: tenant, Name: name, Prefix: text[:len(keyPrefix)+6],
		Hash: HashAPIKey(text), CreatedAt: now,
	}, text
}

// HashAPIKey is what the store keeps of a key. A plain SHA-256 is enough: the
// text has too many random bits for a search.
func HashAPIKey(text string) [sha256.Size]byte { return sha256.Sum256([]byte(text)) }

// CheckName refuses an empty, overlong or unprintable name of an API key.
func CheckName(field, name string) error {
	if strings.TrimSpace(name) == "" || len(name) > 100 || hasControl(name) {
		return invalid(field, "invalid_name", "A name is 1 to 100 printable characters.")
	}
	return nil
}
