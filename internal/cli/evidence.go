package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"postrider/signature"
)

// Evidence is a request with what it is judged by.
type evidence struct {
	secrets, public []string
	header          http.Header
	body            []byte
	now             time.Time
	tolerance       time.Duration
	anyAge          bool
	brand           string
}

func (e *evidence) hexHeader() string { return "X-" + e.brand + "-Signature" }

// checkHex takes the signature of the secret before, too: a request during a
// rotation has both.
func (e *evidence) checkHex(secrets []string, body []byte) error {
	v, err := signature.NewVerifier(signature.Options{Secrets: secrets})
	if err != nil {
		return err
	}
	err = v.VerifyHex(e.header.Get(e.hexHeader()), body)
	if before := e.header.Get(e.hexHeader() + "-Previous"); before != "" && errors.Is(err, signature.ErrNoMatch) {
		return v.VerifyHex(before, body)
	}
	return err
}

// checkStandard tells a wrong signature before a wrong time: the time of what
// is not signed says nothing.
func (e *evidence) checkStandard(secrets []string, body []byte) error {
	v, err := signature.NewVerifier(signature.Options{Secrets: secrets, PublicKeys: e.public, Tolerance: math.MaxInt64})
	if err != nil {
		return err
	}
	if err := v.VerifyStandard(e.header, body, e.now); err != nil || e.anyAge {
		return err
	}
	switch age := e.now.Sub(e.signedAt()); {
	case age > e.tolerance:
		return signature.ErrTooOld
	case -age > e.tolerance:
		return signature.ErrTooNew
	}
	return nil
}

func (e *evidence) signedAt() time.Time {
	seconds, _ := strconv.ParseInt(e.header.Get(signature.HeaderTimestamp), 10, 64)
	return time.Unix(seconds, 0)
}

// verdict says how a family fared and, where it failed, why. otherFits reports
// that the other family's signature is right.
func (e *evidence) verdict(family string, err error, otherFits bool) verdict {
	v := verdict{Family: family, Valid: err == nil}
	said := ""
	if err != nil {
		said = plain(strings.TrimPrefix(err.Error(), "signature: "))
	}
	switch {
	case err == nil:
	case errors.Is(err, signature.ErrMissing):
		v.Reason, v.Detail = "missing", said
		v.Hint = "some proxies and frameworks drop or rename headers: compare with the attempt in postrider logs get"
	case errors.Is(err, signature.ErrMalformed):
		v.Reason, v.Detail = "malformed", said
		v.Hint = "give the whole value as it was received, its prefix included"
	case errors.Is(err, signature.ErrTimestamp):
		v.Reason, v.Detail, v.Hint = "malformed", said, "the server writes seconds: 10 digits, no milliseconds"
	case errors.Is(err, signature.ErrTooOld):
		v.Reason = "too_old"
		v.Detail = fmt.Sprintf("the signature fits, but it was made %v ago and %v is tolerated", e.now.Sub(e.signedAt()).Round(time.Second), e.tolerance)
		v.Hint = "a request from the past, maybe sent again by somebody else; for one of your own: --any-age. If it just came, set this machine's clock"
	case errors.Is(err, signature.ErrTooNew):
		v.Reason = "too_new"
		v.Detail = fmt.Sprintf("the signature fits, but it is dated %v in the future and %v is tolerated", e.signedAt().Sub(e.now).Round(time.Second), e.tolerance)
		v.Hint = "this machine's clock is behind, or the server's is ahead: postrider doctor compares them"
	default:
		v.Reason, v.Detail, v.Hint = e.explain(family, otherFits)
	}
	return v
}

// explain finds out why no signature matches, by trying what usually happens to
// a body or a secret between the server and whoever verifies.
func (e *evidence) explain(family string, otherFits bool) (reason, detail, hint string) {
	check := e.checkStandard
	if family == "hex" {
		check = e.checkHex
	}
	fits := func(secrets []string, body []byte) bool {
		if len(secrets) == 0 && len(e.public) == 0 {
			return false
		}
		err := check(secrets, body)
		return err == nil || errors.Is(err, signature.ErrTooOld) || errors.Is(err, signature.ErrTooNew)
	}
	if otherFits {
		if family == "hex" {
			return "header_changed", "the standard signature fits this body and secret, the hexadecimal one does not",
				"the value of " + e.hexHeader() + " was changed, or is another request's"
		}
		return "header_changed", "the hexadecimal signature fits this body and secret, the standard one does not",
			"webhook-id, webhook-timestamp or webhook-signature was changed, or is another request's: take all three from one request"
	}
	for _, change := range bodyChanges(e.body) {
		if fits(e.secrets, change.body) {
			return "body_changed", "the body was changed: " + change.what, change.hint
		}
	}
	for _, text := range e.secrets {
		for _, change := range secretChanges(text) {
			if fits([]string{change.text}, e.body) {
				return "wrong_secret", "the secret is not as the webhook has it: " + change.what,
					"give the secret exactly as it was shown when the webhook was made"
			}
		}
	}
	sum := sha256.Sum256(e.body)
	return "no_match", fmt.Sprintf("the secret is another one, or the body was changed (here it is %d bytes, SHA-256 %x)", len(e.body), sum[:8]),
		"compare the body with the one in postrider logs get ID --json, and the secret with the webhook's; " +
			"a secret that was rotated out no longer signs. Verify the raw bytes, before anything parses them"
}

// A bodyChange is a body as it may have been when it was signed.
type bodyChange struct {
	body       []byte
	what, hint string
}

// bodyChanges are the bodies that a received one may come from.
func bodyChanges(body []byte) []bodyChange {
	var changes []bodyChange
	add := func(was []byte, what, hint string) {
		if !bytes.Equal(was, body) {
			changes = append(changes, bodyChange{was, what, hint})
		}
	}
	const (
		atTheEnd = "editors and echo add a line break: write the body with printf '%s', or save it with curl --output"
		raw      = "verify the bytes as they come, before a JSON parser or a template has them"
		binary   = "something treats the body as text of another system: pass it on as bytes"
	)
	trimmed := bytes.TrimRight(body, "\r\n")
	add(trimmed, "it has a line break at its end that was not signed", atTheEnd)
	add(append(bytes.Clone(body), '\n'), "the line break at its end is missing", "keep it: shells drop it in $(…)")
	add(append(bytes.Clone(body), "\r\n"...), "the line break at its end is missing", "keep it: shells drop it in $(…)")
	unix := bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))
	add(unix, "its line breaks became CR LF", binary)
	add(bytes.ReplaceAll(unix, []byte("\n"), []byte("\r\n")), "its line breaks were CR LF and became LF", binary)
	add(bytes.TrimPrefix(body, []byte("\ufeff")), "a byte order mark stands before it", "save the file as UTF-8 without a byte order mark")
	add(bytes.TrimSpace(body), "white space stands around it", raw)

	if json.Valid(body) {
		for _, form := range jsonForms(trimmed) {
			add(form.body, "it is JSON that was written anew: "+form.what, raw)
			add(append(bytes.Clone(form.body), '\n'), "it is JSON that was written anew: "+form.what, raw)
		}
		add([]byte("payload="+url.QueryEscape(string(body))), "the webhook sends a form, and this is the payload out of it",
			"sign and verify cover the whole form, payload=… with its escapes, before it is decoded")
		add([]byte("payload="+url.QueryEscape(string(trimmed))), "the webhook sends a form, and this is the payload out of it",
			"sign and verify cover the whole form, payload=… with its escapes, before it is decoded")
	}
	if form, err := url.ParseQuery(string(trimmed)); err == nil && form.Has("payload") {
		add([]byte(form.Get("payload")), "the webhook sends JSON, and this is a form around it", "verify the JSON as it comes")
		encodings := url.Values{"payload": {form.Get("payload")}}.Encode()
		add([]byte(encodings), "the form was decoded and encoded anew", raw)
		add([]byte(strings.ReplaceAll(encodings, "+", "%20")), "the form was decoded and encoded anew", raw)
	}
	return changes
}

// jsonForms are the usual ways to write a JSON text.
func jsonForms(text []byte) []bodyChange {
	var forms []bodyChange
	var compact bytes.Buffer
	if json.Compact(&compact, text) != nil {
		return nil
	}
	forms = append(forms, bodyChange{body: compact.Bytes(), what: "what was signed has no spaces in it"})
	for _, indent := range []string{"  ", "    ", "\t"} {
		var out bytes.Buffer
		if json.Indent(&out, text, "", indent) == nil {
			forms = append(forms, bodyChange{body: out.Bytes(), what: "what was signed is indented"})
		}
	}
	forms = append(forms, bodyChange{body: spaced(compact.Bytes()), what: "what was signed has spaces after commas and colons"})
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) == nil {
		again := bytes.TrimSpace(encoded(value))
		forms = append(forms,
			bodyChange{body: again, what: "what was signed has its names in alphabetical order, or characters without escapes"},
			bodyChange{body: spaced(again), what: "what was signed has its names in alphabetical order, and spaces"},
		)
		for _, form := range [][]byte{compact.Bytes(), again, spaced(compact.Bytes())} {
			forms = append(forms, bodyChange{body: escaped(form), what: "what was signed has escapes such as \\u00e9 for other letters than ASCII"})
		}
	}
	return forms
}

// spaced puts a space after every comma and colon outside of strings, as
// Python's json.dumps does.
func spaced(compact []byte) []byte {
	var out []byte
	quoted := false
	for i := 0; i < len(compact); i++ {
		c := compact[i]
		out = append(out, c)
		switch {
		case quoted && c == '\\' && i+1 < len(compact):
			i++
			out = append(out, compact[i])
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ',' || c == ':'):
			out = append(out, ' ')
		}
	}
	return out
}

// escaped writes everything beyond ASCII as \u and four digits.
func escaped(text []byte) []byte {
	var out []byte
	for _, r := range string(text) {
		switch {
		case r < 0x80:
			out = append(out, byte(r))
		case r < 0x10000:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		}
	}
	return out
}

// secretChanges are the secrets that a given one may have been meant to be.
func secretChanges(text string) (changes []struct{ text, what string }) {
	add := func(meant, what string) {
		if meant != text && meant != "" {
			changes = append(changes, struct{ text, what string }{meant, what})
		}
	}
	add(strings.TrimSpace(text), "white space stands around it")
	add(strings.Trim(strings.TrimSpace(text), `"'`), "quotes stand around it")
	add("whsec_"+text, "whsec_ is missing before it")
	add(strings.TrimPrefix(text, "whsec_"), "whsec_ stands before it")
	if decoded, err := url.QueryUnescape(text); err == nil {
		add(decoded, "it is escaped as in a URL")
	}
	return changes
}
