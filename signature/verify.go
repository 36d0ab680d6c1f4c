package signature

import (
	"crypto/ed25519"
	"crypto/hmac"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Why a request is not to be trusted. Match them with errors.Is: the errors
// returned may say more. All of them are answered alike, with a 401.
var (
	// ErrMissing says that a header which carries the signature is not there,
	// or empty.
	ErrMissing = errors.New("signature: header missing")
	// ErrMalformed says that a header cannot be what a sender writes.
	ErrMalformed = errors.New("signature: header malformed")
	// ErrTimestamp says that webhook-timestamp is not a number of Unix seconds.
	ErrTimestamp = errors.New("signature: webhook-timestamp is not Unix seconds")
	// ErrTooOld says that the request was signed too long ago: it may be an old
	// one sent again by somebody else.
	ErrTooOld = errors.New("signature: timestamp too old")
	// ErrTooNew says that the request claims to be signed in the future.
	ErrTooNew = errors.New("signature: timestamp too new")
	// ErrNoMatch says that no signature fits the body and a trusted key.
	ErrNoMatch = errors.New("signature: no signature matches")
)

// DefaultTolerance is how far a timestamp may be from the receiver's clock,
// either way. Every Standard Webhooks library uses the same.
const DefaultTolerance = 5 * time.Minute

// Limits on what a stranger may make a verifier read.
const (
	// MaxSignatures is how many entries a webhook-signature header may have.
	MaxSignatures = 20
	// MaxID is how many bytes a webhook-id header may have.
	MaxID = 256
)

// Options say whom a Verifier trusts. At least one secret or public key must be
// given.
type Options struct {
	// Secrets in their text as the partner sees it. During a rotation there are
	// two.
	Secrets []string
	// PublicKeys for v1a, each whpk_ and base64.
	PublicKeys []string
	// Tolerance of timestamps; 0 means DefaultTolerance.
	Tolerance time.Duration
}

// A Verifier checks what a receiver was sent. It may be used by many
// goroutines.
type Verifier struct {
	signers   []*Signer
	public    []ed25519.PublicKey
	tolerance time.Duration
}

// NewVerifier makes a verifier. Its errors wrap ErrKey: a secret that is empty,
// ends in a line break or begins with whsec_ and is not base64 is a mistake in
// the receiver's settings, and would otherwise refuse every delivery.
func NewVerifier(options Options) (*Verifier, error) {
	v := &Verifier{tolerance: options.Tolerance}
	if v.tolerance == 0 {
		v.tolerance = DefaultTolerance
	}
	if v.tolerance < 0 {
		return nil, fmt.Errorf("signature: a tolerance of %v accepts nothing", v.tolerance)
	}
	for _, secret := range options.Secrets {
		if secret == "" || strings.ContainsAny(secret, "\r\n") {
			return nil, fmt.Errorf("%w: a secret is one line and not empty", ErrKey)
		}
		if _, err := standardKey(secret); err != nil {
			return nil, err
		}
		v.signers = append(v.signers, NewSigner(secret))
	}
	for _, text := range options.PublicKeys {
		key, err := ParsePublicKey(text)
		if err != nil {
			return nil, err
		}
		v.public = append(v.public, key)
	}
	if len(v.signers)+len(v.public) == 0 {
		return nil, fmt.Errorf("%w: neither a secret nor a public key is given", ErrKey)
	}
	return v, nil
}

// VerifyHex checks the value of the hex family's header (X-Clubmed-Signature)
// against the body, which must be the exact bytes that were received. It is nil
// when one of the secrets made the signature.
//
// This family signs the body only: neither the time nor the delivery's id.
func (v *Verifier) VerifyHex(value string, body []byte) error {
	if value == "" {
		return ErrMissing
	}
	if !isHexValue(value) {
		return fmt.Errorf("%w: want sha256= and 64 lower-case hex digits", ErrMalformed)
	}
	var buffer [HexSize]byte
	for _, signer := range v.signers {
		if hmac.Equal(signer.AppendHex(buffer[:0], body), []byte(value)) {
			return nil
		}
	}
	return ErrNoMatch
}

func isHexValue(value string) bool {
	digits, found := strings.CutPrefix(value, hexPrefix)
	return found && len(value) == HexSize && strings.Trim(digits, "0123456789abcdef") == ""
}

// VerifyStandard checks the three headers of Standard Webhooks against the
// body, which must be the exact bytes that were received, and against now. The
// header's names must be in canonical form, as a server made with net/http gives
// them. It is nil when one of the keys made one of the signatures, at a time
// that is within the tolerance.
//
// A request that is accepted can be sent again within the tolerance: remember
// webhook-id for that long at least.
func (v *Verifier) VerifyStandard(header http.Header, body []byte, now time.Time) error {
	id, err := oneID(header, HeaderID)
	if err != nil {
		return err
	}
	timestamp, err := parseTimestamp(header)
	if err != nil {
		return err
	}
	if now.Sub(timestamp) > v.tolerance {
		return ErrTooOld
	}
	if timestamp.Sub(now) > v.tolerance {
		return ErrTooNew
	}
	list, err := one(header, HeaderSignature)
	if err != nil {
		return err
	}
	v1, v1a, err := parseSignatures(list)
	if err != nil {
		return err
	}
	if v.matchV1(v1, id, timestamp, body) || v.matchV1a(v1a, id, timestamp, body) {
		return nil
	}
	return ErrNoMatch
}

// one is the value of a header that must stand once.
func one(header http.Header, name string) (string, error) {
	values := header.Values(name)
	if len(values) > 1 {
		return "", fmt.Errorf("%w: %s stands more than once", ErrMalformed, name)
	}
	if len(values) == 0 || values[0] == "" {
		return "", fmt.Errorf("%w: %s", ErrMissing, name)
	}
	return values[0], nil
}

// oneID is the value of a header that names a delivery. With a dot in it, the
// signed text of one message could be cut in other places and read as another
// message.
func oneID(header http.Header, name string) (string, error) {
	id, err := one(header, name)
	if err == nil && (len(id) > MaxID || strings.ContainsRune(id, '.')) {
		err = fmt.Errorf("%w: %s is longer than %d bytes or holds a dot", ErrMalformed, name, MaxID)
	}
	return id, err
}

// parseTimestamp takes only the spelling that signers write, since that is what
// was signed. 40 bits of seconds reach beyond the year 36000, and stay clear of
// where time.Unix overflows.
func parseTimestamp(header http.Header) (time.Time, error) {
	text, err := one(header, HeaderTimestamp)
	if err != nil {
		return time.Time{}, err
	}
	seconds, err := strconv.ParseUint(text, 10, 40)
	if err != nil || text[0] == '0' && text != "0" {
		return time.Time{}, ErrTimestamp
	}
	return time.Unix(int64(seconds), 0), nil
}

// parseSignatures sorts the entries of a webhook-signature header by version.
// Versions that are not known are passed over: they may come to exist.
func parseSignatures(list string) (v1, v1a []string, err error) {
	if strings.Count(list, " ") >= MaxSignatures {
		return nil, nil, fmt.Errorf("%w: %s has more than %d entries", ErrMalformed, HeaderSignature, MaxSignatures)
	}
	versioned := false
	for entry := range strings.SplitSeq(list, " ") {
		version, value, found := strings.Cut(entry, ",")
		versioned = versioned || found && version != "" && value != ""
		switch {
		case !found:
		case version == "v1":
			v1 = append(v1, value)
		case version == "v1a":
			v1a = append(v1a, value)
		}
	}
	if !versioned {
		return nil, nil, fmt.Errorf("%w: %s has no entry of a version and a signature", ErrMalformed, HeaderSignature)
	}
	return v1, v1a, nil
}

// matchV1 compares texts, not decoded bytes: base64 has several spellings of
// the same bytes, and signers write one.
func (v *Verifier) matchV1(values []string, id string, timestamp time.Time, body []byte) bool {
	if len(values) == 0 {
		return false
	}
	var buffer [StandardSize]byte
	for _, signer := range v.signers {
		want := signer.AppendStandard(buffer[:0], id, timestamp, body)[len(v1Prefix):]
		for _, value := range values {
			if hmac.Equal(want, []byte(value)) {
				return true
			}
		}
	}
	return false
}

func (v *Verifier) matchV1a(values []string, id string, timestamp time.Time, body []byte) bool {
	if len(values) == 0 || len(v.public) == 0 {
		return false
	}
	signed := content(id, timestamp, body)
	for _, value := range values {
		sig, err := base64.StdEncoding.Strict().DecodeString(value)
		if err != nil || len(sig) != ed25519.SignatureSize {
			continue
		}
		for _, key := range v.public {
			if ed25519.Verify(key, signed, sig) {
				return true
			}
		}
	}
	return false
}
