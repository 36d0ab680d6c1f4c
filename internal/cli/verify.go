package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"strings"
	"time"

	"postrider/signature"
)

type verify struct {
	secrets

	File      string        `arg:"" optional:"" help:"File with the body, byte by byte as it was received; - is the standard input, which is also read without a file."`
	Headers   string        `placeholder:"FILE" help:"File with the headers: a line for each, or a JSON object of them."`
	Header    []string      `sep:"none" placeholder:"NAME:VALUE" help:"A header of the request. Repeat it for several."`
	Signature string        `placeholder:"SHA256=…" help:"The hexadecimal signature alone, in place of headers."`
	PublicKey []string      `sep:"none" placeholder:"WHPK_…" help:"Public key of ed25519 signatures."`
	Tolerance time.Duration `default:"5m" placeholder:"DURATION" help:"How far the timestamp may be from now."`
	At        string        `placeholder:"TIME" help:"Verify as if at this time, written as for sign --timestamp. Without it: now."`
	AnyAge    bool          `help:"Leave the timestamp's age aside, for a request from the past."`
	Brand     string        `default:"Clubmed" placeholder:"NAME" help:"Brand of the server, as in X-Clubmed-Signature."`
	JSON      bool          `help:"Print the result as a JSON object."`
}

// Help are the examples of verify --help.
func (*verify) Help() string {
	return `It checks every signature that is there, of Standard Webhooks and the hexadecimal one, and where one does not fit
tries what usually goes wrong on the way: a line break more or less, JSON that was written anew, a form, a secret with a
space at its end. The exit code is 0 only when all fit.

Examples:

    postrider verify body.json --headers headers.txt --secret-file secret.txt
    postrider verify body.json --signature sha256=6f1e… --secret-file secret.txt
    postrider logs get ID --json > log.json
    jq -j .request.body log.json | postrider verify --headers <(jq .request.headers log.json) --any-age`
}

// A verdict is the judgement of one family of signatures.
type verdict struct {
	Family string `json:"family"` // standard or hex
	Valid  bool   `json:"valid"`
	Reason string `json:"reason,omitempty"` // stable, for programs
	Detail string `json:"detail,omitempty"`
	Hint   string `json:"hint,omitempty"`
}

// Run verifies.
func (v *verify) Run(p *process) error {
	texts, err := v.texts(p)
	if err != nil {
		return err
	}
	if err := checkSecrets(texts, v.PublicKey); err != nil {
		return err
	}
	if v.Tolerance <= 0 {
		return misuse("--tolerance", "is more than nothing", "")
	}
	now := time.Now()
	if v.At != "" {
		if now, err = stamp("--at", v.At, now); err != nil {
			return err
		}
	}
	header, err := v.headers(p)
	if err != nil {
		return err
	}
	body, err := p.readBody(v.File)
	if err != nil {
		return err
	}
	verdicts, err := v.judge(&evidence{
		secrets: texts, public: v.PublicKey, header: header, body: body, now: now,
		tolerance: v.Tolerance, anyAge: v.AnyAge, brand: v.Brand,
	})
	if err != nil {
		return err
	}
	valid := true
	for _, one := range verdicts {
		valid = valid && one.Valid
	}
	if v.JSON {
		p.stdout.Write(encoded(struct { //nolint:errcheck // nobody is left to tell
			Valid    bool      `json:"valid"`
			Verdicts []verdict `json:"verdicts"`
		}{valid, verdicts}))
	}
	for _, one := range verdicts {
		switch {
		case v.JSON:
		case one.Valid:
			fmt.Fprintf(p.stdout, "%s: %s\n", one.Family, p.screen().styled(good, "valid"))
		default:
			fmt.Fprintf(p.stdout, "%s: %s\n", one.Family, p.screen().styled(bad, "not valid"))
			p.report(one.Family+": "+one.Detail, one.Hint)
		}
	}
	if !valid {
		return errReported
	}
	return nil
}

// headers collects the request's headers from the flags.
func (v *verify) headers(p *process) (http.Header, error) {
	header := http.Header{}
	if v.Headers != "" {
		text, err := p.readFile("--headers", v.Headers)
		if err != nil {
			return nil, err
		}
		if err := readHeaders(text, header); err != nil {
			return nil, err
		}
	}
	for _, text := range v.Header {
		name, value, found := strings.Cut(text, ":")
		if !found {
			return nil, misuse("--header", "has no colon between a name and a value", "write --header 'webhook-id: …'")
		}
		header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	if v.Signature != "" {
		header.Set("X-"+v.Brand+"-Signature", v.Signature)
	}
	return header, nil
}

// readHeaders reads lines as they stand in a request or in what curl -v shows
// of one, or a JSON object as logs get --json and sign --json print it.
func readHeaders(text []byte, header http.Header) error {
	text = bytes.TrimSpace(text)
	if bytes.HasPrefix(text, []byte("{")) {
		var object map[string]string
		if err := json.Unmarshal(text, &object); err != nil {
			return misuse("--headers", "is no JSON object of names and texts", "")
		}
		for name, value := range object {
			header.Add(name, value)
		}
		return nil
	}
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(line), []byte("> ")))
		name, value, found := bytes.Cut(line, []byte(":"))
		// What has no colon is a request's first line or an empty one.
		if found && !bytes.ContainsAny(name, " \t") {
			header.Add(textproto.TrimString(string(name)), textproto.TrimString(string(value)))
		}
	}
	return nil
}

// judge gives a verdict on each family that the headers have a signature of.
func (v *verify) judge(e *evidence) (verdicts []verdict, err error) {
	hex := e.header.Get(e.hexHeader()) != ""
	standard := false
	for _, name := range []string{signature.HeaderID, signature.HeaderTimestamp, signature.HeaderSignature} {
		standard = standard || e.header.Get(name) != ""
	}
	if !hex && !standard {
		return nil, misuse("--headers", "hold no signature: neither "+signature.HeaderSignature+" nor "+e.hexHeader(),
			"is the webhook signed at all (has_secret), and is --brand the server's?")
	}
	var hexErr, standardErr error
	if hex && len(e.secrets) > 0 {
		hexErr = e.checkHex(e.secrets, e.body)
	}
	if standard {
		standardErr = e.checkStandard(e.secrets, e.body)
		verdicts = append(verdicts, e.verdict("standard", standardErr, hex && hexErr == nil))
	}
	if hex && len(e.secrets) > 0 {
		verdicts = append(verdicts, e.verdict("hex", hexErr, standard && (standardErr == nil || errors.Is(standardErr, signature.ErrTooOld))))
	}
	return verdicts, nil
}
