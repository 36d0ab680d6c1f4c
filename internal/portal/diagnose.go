package portal

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"postrider"
	"postrider/signature"
)

// A verdict is one thing found out about a request whose signature was refused.
type verdict struct {
	Tone  string // ok, bad, warn or off
	Title string
	Text  string
}

// A suspect is a received request, as it was pasted.
type suspect struct {
	brand  string
	header http.Header
	body   []byte
	secret string
	now    time.Time
	// What the log knows of the request, when its id was found there.
	event   *postrider.Event
	webhook *postrider.Webhook
}

// parseHeaders reads lines as tools print them: "Name: value", with what curl
// and browsers put before and after.
func parseHeaders(text string) http.Header {
	h := http.Header{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(strings.TrimLeft(strings.TrimSpace(line), "<>*-H '\""))
		name, value, found := strings.Cut(line, ":")
		if found && !strings.ContainsAny(name, " \t") {
			value = strings.Trim(value, "'\",\\ \t")
			h.Add(strings.Trim(name, `'"`), strings.TrimSpace(value))
		}
	}
	return h
}

func (s *suspect) hex() string { return s.header.Get("X-" + s.brand + "-Signature") }

func (s *suspect) standard() string { return s.header.Get(signature.HeaderSignature) }

// signed reports whether one of the signatures fits. Time is judged apart.
func (s *suspect) signed(secret string, body []byte) bool {
	if secret == "" {
		return false
	}
	if value := s.hex(); value != "" &&
		strings.EqualFold(string(signature.NewSigner(secret).AppendHex(nil, body)), withPrefix(value)) {
		return true
	}
	if s.standard() == "" {
		return false
	}
	v, err := signature.NewVerifier(signature.Options{Secrets: []string{secret}})
	if err != nil {
		return false
	}
	at := s.timestamp()
	return !at.IsZero() && v.VerifyStandard(s.header, body, at) == nil
}

func withPrefix(value string) string {
	if strings.HasPrefix(strings.ToLower(value), "sha256=") {
		return value
	}
	return "sha256=" + value
}

func (s *suspect) timestamp() time.Time {
	var seconds int64
	if _, err := fmt.Sscan(s.header.Get(signature.HeaderTimestamp), &seconds); err != nil || seconds <= 0 || seconds > 1<<40 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

// diagnose says what is wrong, the most likely first.
func (s *suspect) diagnose() []verdict {
	if s.hex() == "" && s.standard() == "" {
		return []verdict{{"bad", "There is no signature among the headers", "Look for X-" + s.brand + "-Signature or webhook-signature. " +
			"They are only sent when the webhook has a secret. If it has one, a proxy before your server may drop headers that it does not know."}}
	}
	secret := s.secret
	if secret == "" && s.webhook != nil {
		secret = string(s.webhook.Secret)
	}
	if secret == "" {
		return []verdict{{"warn", "No secret to check with", "Paste the secret of the webhook. The headers name no webhook of yours whose secret could be used instead."}}
	}
	list := []verdict{s.judge(secret)}
	if v, found := s.form(); found {
		list = append(list, v)
	}
	if v, found := s.age(); found {
		list = append(list, v)
	}
	return list
}

func (s *suspect) judge(secret string) verdict {
	for _, body := range variants(s.body, asPasted) {
		if s.signed(secret, body) {
			return verdict{"ok", "The signature is right", "Secret, body and headers belong together. If your server refuses this request, " +
				"it checks something else than these bytes: print what it has just before it compares."}
		}
	}
	if s.event != nil {
		if v, found := s.compare(secret); found {
			return v
		}
	}
	// Each guess costs a signature or two over the whole body.
	guesses := bodyGuesses
	if len(s.body) > maxGuessed {
		guesses = nil
	}
	for _, guess := range guesses {
		for _, body := range variants(s.body, guess.change) {
			if s.signed(secret, body) {
				return guess.verdict
			}
		}
	}
	for _, guess := range secretGuesses {
		for _, changed := range guess.change(secret) {
			for _, body := range variants(s.body, asPasted) {
				if s.signed(changed, body) {
					return guess.verdict
				}
			}
		}
	}
	return verdict{"bad", "Wrong secret, or another body", "Neither this body nor any usual change of it has this signature with this secret. " +
		"Most often the secret belongs to another webhook or was rotated. If the secret is right, the body was changed beyond repair: " +
		"verify the raw bytes, before anything parses them."}
}

// maxGuessed bounds the bodies for which changes are guessed.
const maxGuessed = 256 << 10

// compare holds the pasted body against what was really sent.
func (s *suspect) compare(secret string) (verdict, bool) {
	for _, kind := range []postrider.ContentType{postrider.JSON, postrider.Form} {
		sent := kind.Wrap(s.event.Payload)
		if !s.signed(secret, sent) {
			if s.webhook != nil && s.webhook.Secret != "" && s.signed(string(s.webhook.Secret), sent) {
				return verdict{"bad", "Wrong secret", "This request was signed with the present secret of its webhook, and the secret that you " +
					"pasted is another one. Copy it again from where you keep it, whole and without spaces, or set a new one."}, true
			}
			continue
		}
		return difference(s.body, sent, s.event.Payload, kind), true
	}
	return verdict{}, false
}

// difference says how a body differs from the one that was sent.
func difference(got, sent, payload []byte, kind postrider.ContentType) verdict {
	lines := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")) }
	switch {
	case bytes.Equal(bytes.TrimSpace(lines(got)), bytes.TrimSpace(lines(sent))):
		return lineEndings
	case kind == postrider.Form && (bytes.Equal(got, payload) || sameJSON(got, payload)):
		return decodedForm
	case bytes.Equal(fromLatin1(got), sent) || bytes.Equal(toLatin1(got), sent) || bytes.ContainsRune(got, utf8.RuneError):
		return wrongCharset
	case bytes.HasPrefix(sent, bytes.TrimSpace(got)) && len(got) > 0:
		return verdict{"bad", "The body is cut short", fmt.Sprintf("You have the first %s of %s. A limit of your server, or of a proxy before it, cut it.",
			size(len(bytes.TrimSpace(got))), size(len(sent)))}
	case sameJSON(got, payload):
		return reserialised
	}
	at := 0
	for at < len(got) && at < len(sent) && got[at] == sent[at] {
		at++
	}
	return verdict{"bad", "Another body", fmt.Sprintf("The secret is right, but this is not the body that was sent. The first difference is at byte %d: "+
		"it was sent as %q, and you have %q.", at, excerpt(sent, at), excerpt(got, at))}
}

func excerpt(b []byte, at int) string {
	return strings.ToValidUTF8(string(b[min(len(b), at):min(len(b), at+16)]), "�")
}

func sameJSON(a, b []byte) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	left, err := json.Marshal(x)
	right, err2 := json.Marshal(y)
	return errors.Join(err, err2) == nil && bytes.Equal(left, right)
}

// The verdicts that more than one way leads to.
var (
	reserialised = verdict{"bad", "The body was parsed and written again", "It holds the same values as the one that was signed, but not the same bytes: " +
		"spaces, order or escapes differ. Verify the raw bytes of the request, before your framework parses them."}
	lineEndings = verdict{"bad", "Line endings were changed", "The body differs from the signed one by line breaks or spaces at its end alone. " +
		"Read it as bytes, not as lines of text, and do not trim it."}
	decodedForm = verdict{"bad", "A form was taken for JSON", "The webhook's content type is application/x-www-form-urlencoded: the signature covers the whole " +
		"encoded body, which begins with payload=. You have what the field payload holds. Verify the raw body first, then decode it, or set the webhook to application/json."}
	wrongCharset = verdict{"bad", "The wrong character set", "The bytes were decoded with another character set than UTF-8 before they were checked. " +
		"Verify the bytes as they came, and decode them as UTF-8 afterwards."}
)

// A bodyGuess is a usual change of a body: undone, the signature fits.
type bodyGuess struct {
	change  func([]byte) [][]byte
	verdict verdict
}

var bodyGuesses = []bodyGuess{
	{func(b []byte) [][]byte {
		trimmed := bytes.TrimSpace(b)
		return [][]byte{trimmed, append(bytes.Clone(trimmed), '\n'), append(bytes.Clone(trimmed), "\r\n"...), append([]byte("\ufeff"), b...)}
	}, lineEndings},
	{func(b []byte) [][]byte {
		return [][]byte{postrider.Form.Wrap(b), postrider.Form.Wrap(bytes.TrimSpace(b))}
	}, decodedForm},
	{func(b []byte) [][]byte { return [][]byte{fromLatin1(b), toLatin1(b)} }, wrongCharset},
	{rewrites, reserialised},
	{func(b []byte) (list [][]byte) {
		for _, other := range rewrites(b) {
			list = append(list, postrider.Form.Wrap(other))
		}
		return list
	}, decodedForm},
}

// A secretGuess is a usual misuse of a secret.
type secretGuess struct {
	change  func(string) []string
	verdict verdict
}

var secretGuesses = []secretGuess{
	{
		func(s string) []string {
			return []string{strings.TrimSpace(s), strings.Trim(strings.TrimSpace(s), `"'`)}
		},
		verdict{"bad", "Spaces or quotes around the secret", "Without them the signature is right. Look at how your settings are read."},
	},
	{
		func(s string) []string { return []string{"whsec_" + s, strings.TrimPrefix(s, "whsec_")} },
		verdict{"bad", "The secret's beginning is wrong", "A secret that begins with whsec_ is used with it for the hex signature: the whole text is the key. " +
			"A Standard Webhooks library takes the same text and decodes it by itself."},
	},
	{func(s string) []string {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s, "whsec_"))
		if err != nil || len(key) == 0 {
			return nil
		}
		return []string{string(key)}
	}, verdict{"bad", "The secret was decoded", "The hex signature uses the text of the secret as you see it, whsec_ included, and not the bytes that its base64 stands for."}},
}

func asPasted(b []byte) [][]byte { return [][]byte{b} }

// variants undoes what the browser did first: it sends each line break of a
// text area as CR LF, whatever was pasted.
func variants(pasted []byte, change func([]byte) [][]byte) (list [][]byte) {
	unix := bytes.ReplaceAll(pasted, []byte("\r\n"), []byte("\n"))
	list = change(unix)
	if bytes.ContainsRune(unix, '\n') {
		list = append(list, change(bytes.ReplaceAll(unix, []byte("\n"), []byte("\r\n")))...)
	}
	return list
}

// rewrites are the ways in which JSON libraries would have written the same
// values in the same order.
func rewrites(b []byte) (list [][]byte) {
	var compact bytes.Buffer
	if json.Compact(&compact, b) != nil {
		return nil
	}
	var two, four, escaped bytes.Buffer
	if json.Indent(&two, b, "", "  ") != nil || json.Indent(&four, b, "", "    ") != nil {
		return nil
	}
	json.HTMLEscape(&escaped, compact.Bytes())
	list = [][]byte{escaped.Bytes()}
	for _, form := range [][]byte{compact.Bytes(), spaced(compact.Bytes()), two.Bytes(), four.Bytes()} {
		for _, letters := range [][]byte{form, asciiOnly(form), literal(form)} {
			plain := bytes.ReplaceAll(letters, []byte(`\/`), []byte("/"))
			list = append(list, letters, plain, bytes.ReplaceAll(plain, []byte("/"), []byte(`\/`)))
		}
	}
	return list
}

// spaced puts a space after each comma and colon outside texts, as Python does.
func spaced(compact []byte) []byte {
	out, inText := make([]byte, 0, len(compact)*5/4), false
	for i := 0; i < len(compact); i++ {
		c := compact[i]
		out = append(out, c)
		switch {
		case inText && c == '\\' && i+1 < len(compact):
			i++
			out = append(out, compact[i])
		case c == '"':
			inText = !inText
		case !inText && (c == ',' || c == ':'):
			out = append(out, ' ')
		}
	}
	return out
}

// asciiOnly writes what is not ASCII as escapes.
func asciiOnly(b []byte) []byte {
	var out bytes.Buffer
	for _, r := range string(b) {
		switch {
		case r < utf8.RuneSelf:
			out.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&out, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.Bytes()
}

// literal writes escapes of letters as the letters.
func literal(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		var text string
		if b[i] == '\\' && i+6 <= len(b) && b[i+1] == 'u' &&
			json.Unmarshal([]byte(`"`+string(b[i:i+6])+`"`), &text) == nil && text != "\ufffd" && text >= " " && text != `"` && text != `\` {
			out = append(out, text...)
			i += 5
			continue
		}
		if b[i] == '\\' && i+1 < len(b) {
			out = append(out, b[i])
			i++
		}
		out = append(out, b[i])
	}
	return out
}

// fromLatin1 undoes the reading of UTF-8 as Latin-1.
func fromLatin1(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for _, r := range string(b) {
		if r > 0xff {
			return b
		}
		out = append(out, byte(r))
	}
	return out
}

// toLatin1 does it once more.
func toLatin1(b []byte) []byte {
	var out bytes.Buffer
	for _, c := range b {
		out.WriteRune(rune(c))
	}
	return out.Bytes()
}

// form judges how the header of the hex family is written.
func (s *suspect) form() (verdict, bool) {
	value := s.hex()
	switch {
	case value == "":
	case !strings.HasPrefix(value, "sha256="):
		return verdict{"warn", "The header lacks sha256=", "The value is sent as sha256= and 64 hex digits. Something on the way took the beginning off, or it was not copied."}, true
	case len(value) != signature.HexSize:
		return verdict{"warn", "The header is not whole", fmt.Sprintf("It is %d characters long, and %d are sent.", len(value), signature.HexSize)}, true
	case value != strings.ToLower(value):
		return verdict{"warn", "The header was changed to capitals", "The hex digits are sent in lower case. Compare them as they come."}, true
	}
	return verdict{}, false
}

// age judges the time that was signed.
func (s *suspect) age() (verdict, bool) {
	at := s.timestamp()
	switch age := s.now.Sub(at); {
	case at.IsZero():
		return verdict{}, false
	case age > signature.DefaultTolerance:
		return verdict{"warn", "The timestamp is old", fmt.Sprintf("It was signed %s. Libraries refuse what is older than 5 minutes. For a request that you saved a while ago "+
			"that is right; for one that just came, the clock of your server is ahead.", relative(age))}, true
	case age < -signature.DefaultTolerance:
		return verdict{"warn", "The timestamp is in the future", "The clock of the server that has this problem is behind by more than 5 minutes, and libraries refuse such requests."}, true
	}
	return verdict{}, false
}
