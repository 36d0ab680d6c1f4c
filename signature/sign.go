package signature

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"sync"
	"time"
)

// A Signer signs with one secret, in both families. Make it once for a secret
// and keep it: it may be used by many goroutines, and it allocates nothing per
// signature when dst has room.
type Signer struct {
	hex      *macs
	standard *macs
}

// NewSigner makes the signer of a secret, in its text as the partner sees it.
// The hex family is keyed with that text; Standard Webhooks with the decoded
// bytes of a whsec_ secret, and with the text of any other, to which a whsec_
// secret belongs that is not base64.
//
// It panics on an empty secret, since a signature that anyone can make is
// worse than none.
func NewSigner(secret string) *Signer {
	if secret == "" {
		panic("signature: an empty secret protects nothing")
	}
	text := newMACs([]byte(secret))
	key, err := standardKey(secret)
	if err != nil || string(key) == secret {
		return &Signer{hex: text, standard: text}
	}
	return &Signer{hex: text, standard: newMACs(key)}
}

// HexSize is the length of what AppendHex appends.
const HexSize = len(hexPrefix) + 2*sha256.Size

// AppendHex appends the value of the hex family's header: sha256= and the
// HMAC-SHA256 of body in lower-case hex.
func (s *Signer) AppendHex(dst, body []byte) []byte {
	m := s.hex.get()
	defer s.hex.put(m)
	m.Write(body)
	dst = append(dst, hexPrefix...)
	return hex.AppendEncode(dst, m.sum())
}

// StandardSize is the length of what AppendStandard appends.
const StandardSize = len(v1Prefix) + (sha256.Size+2)/3*4

// AppendStandard appends one v1 entry of webhook-signature: v1, and the base64
// of the HMAC-SHA256 of id, timestamp and body. The header is a list with
// spaces between, so that several secrets can sign during a rotation.
//
// The id is the webhook-id header's value and must hold no dot. The timestamp is
// that of this attempt; webhook-timestamp is its Unix seconds.
func (s *Signer) AppendStandard(dst []byte, id string, timestamp time.Time, body []byte) []byte {
	m := s.standard.get()
	defer s.standard.put(m)
	m.scratch = appendHead(m.scratch[:0], id, timestamp)
	m.Write(m.scratch)
	m.Write(body)
	dst = append(dst, v1Prefix...)
	return base64.StdEncoding.AppendEncode(dst, m.sum())
}

// AppendAsymmetric appends one v1a entry of webhook-signature: v1a, and the
// base64 of the ed25519 signature of id, timestamp and body, which are as in
// AppendStandard. The key must be whole, as ParsePrivateKey returns it.
func AppendAsymmetric(dst []byte, key ed25519.PrivateKey, id string, timestamp time.Time, body []byte) []byte {
	dst = append(dst, v1aPrefix...)
	return base64.StdEncoding.AppendEncode(dst, ed25519.Sign(key, content(id, timestamp, body)))
}

// content is what Standard Webhooks signs, in one piece: ed25519 reads it twice.
func content(id string, timestamp time.Time, body []byte) []byte {
	const room = len("..") + len("-9223372036854775808")
	head := appendHead(make([]byte, 0, len(id)+room+len(body)), id, timestamp)
	return append(head, body...)
}

// macs lends out the HMAC-SHA256 states of one key. Hashing the padded key is
// half the cost of a signature over a small body; a state that is reset has
// done that before.
type macs struct{ pool sync.Pool }

type mac struct {
	hash.Hash
	scratch []byte // holds a head or a sum, so that neither is allocated
}

func newMACs(key []byte) *macs {
	return &macs{sync.Pool{New: func() any {
		return &mac{Hash: hmac.New(sha256.New, key), scratch: make([]byte, 0, 128)}
	}}}
}

func (p *macs) get() *mac { return p.pool.Get().(*mac) }

func (p *macs) put(m *mac) {
	m.Reset()
	p.pool.Put(m)
}

// sum is valid until the state is put back.
func (m *mac) sum() []byte {
	m.scratch = m.Sum(m.scratch[:0])
	return m.scratch
}
