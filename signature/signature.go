// Package signature signs webhook deliveries and verifies them, in two
// families:
//
//   - hex: one header, in Postrider named after its brand (X-Clubmed-Signature),
//     with sha256= and the HMAC-SHA256 of the exact body in lower-case hex;
//   - Standard Webhooks 1.0: the headers webhook-id, webhook-timestamp and
//     webhook-signature, with v1 (HMAC-SHA256) and v1a (ed25519) signatures over
//     id, time and exact body.
//
// A server that takes webhooks needs one thing of it, the Middleware of a
// Receiver; a Signer and a Verifier are the parts below.
//
// It knows keys, bytes and header values. It must not know webhooks, events,
// stores or sockets, and imports the standard library only. Postrider's dispatch
// calls it for every attempt; receivers written in Go call its Receiver. What it
// says of a request is what @postrider/receiver says in JavaScript: the vectors
// in testdata judge both.
package signature

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The headers of Standard Webhooks, as they stand in its specification. A
// server made with net/http finds them under their canonical names.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
)

const (
	hexPrefix     = "sha256="
	v1Prefix      = "v1,"
	v1aPrefix     = "v1a,"
	secretPrefix  = "whsec_"
	privatePrefix = "whsk_"
	publicPrefix  = "whpk_"
)

// ErrKey is wrapped by the errors of functions that take a key or a secret
// which cannot be one. Their texts never contain the key.
var ErrKey = errors.New("signature: not a usable key")

// standardKey is the key of v1: what follows whsec_ is base64 of it, and any
// other secret is the key as it stands.
func standardKey(secret string) ([]byte, error) {
	encoded, found := strings.CutPrefix(secret, secretPrefix)
	if !found {
		return []byte(secret), nil
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(key) == 0 {
		return nil, fmt.Errorf("%w: what follows whsec_ must be base64, standard alphabet, padded", ErrKey)
	}
	return key, nil
}

// ParsePrivateKey reads a v1a private key: whsk_ and the base64 of seed and
// public key, 64 bytes.
func ParsePrivateKey(text string) (ed25519.PrivateKey, error) {
	key, err := parseKey(text, privatePrefix, ed25519.PrivateKeySize)
	if err != nil {
		return nil, err
	}
	// Signing one message under two public keys gives the seed away, so a key
	// whose halves do not belong together is never used.
	if whole := ed25519.NewKeyFromSeed(key[:ed25519.SeedSize]); !whole.Equal(ed25519.PrivateKey(key)) {
		return nil, fmt.Errorf("%w: the public half is not that of the seed", ErrKey)
	}
	return key, nil
}

// ParsePublicKey reads a v1a public key: whpk_ and the base64 of 32 bytes.
func ParsePublicKey(text string) (ed25519.PublicKey, error) {
	return parseKey(text, publicPrefix, ed25519.PublicKeySize)
}

func parseKey(text, prefix string, size int) ([]byte, error) {
	encoded, found := strings.CutPrefix(text, prefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !found || err != nil || len(key) != size {
		return nil, fmt.Errorf("%w: want %s and the base64 of %d bytes", ErrKey, prefix, size)
	}
	return key, nil
}

// FormatPrivateKey is the text that ParsePrivateKey reads.
func FormatPrivateKey(key ed25519.PrivateKey) string {
	return privatePrefix + base64.StdEncoding.EncodeToString(key)
}

// FormatPublicKey is the text that ParsePublicKey reads. It is what a partner
// gets to verify v1a with.
func FormatPublicKey(key ed25519.PublicKey) string {
	return publicPrefix + base64.StdEncoding.EncodeToString(key)
}

// appendHead appends what Standard Webhooks signs before the body.
func appendHead(dst []byte, id string, timestamp time.Time) []byte {
	dst = append(dst, id...)
	dst = append(dst, '.')
	dst = strconv.AppendInt(dst, timestamp.Unix(), 10)
	return append(dst, '.')
}
