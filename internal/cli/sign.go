package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"postrider"
	"postrider/internal/config"
	"postrider/signature"
)

// secrets are the flags that say what to sign or verify with.
type secrets struct {
	Secret     []postrider.Secret `sep:"none" placeholder:"SECRET" help:"Secret as the webhook has it ($POSTRIDER_SECRET). Repeat it for several, as during a rotation."`
	SecretFile []string           `sep:"none" placeholder:"FILE" help:"File with a secret; - is the standard input."`
}

// texts are the secrets, from the environment when no flag gives any.
func (s *secrets) texts(p *process) ([]string, error) {
	var texts []string
	for _, secret := range s.Secret {
		texts = append(texts, string(secret))
	}
	for _, path := range s.SecretFile {
		secret, err := p.readSecretFile(path)
		if err != nil {
			return nil, err
		}
		texts = append(texts, string(secret))
	}
	if secret := config.SigningSecret(); len(texts) == 0 && secret != "" {
		texts = append(texts, string(secret))
	}
	return texts, nil
}

type sign struct {
	secrets

	File      string `arg:"" optional:"" help:"File with the body; - is the standard input, which is also read without a file."`
	ID        string `name:"id" placeholder:"ID" help:"Delivery id to sign with the body; one is made without it."`
	Timestamp string `placeholder:"TIME" help:"Time to sign with the body: 2026-03-14T15:00:00Z, 2h for two hours ago, or Unix seconds as @1773500400. Without it: now."`
	Brand     string `default:"Clubmed" placeholder:"NAME" help:"Brand of the server, as in X-Clubmed-Signature."`
	JSON      bool   `help:"Print the headers as a JSON object."`
}

// Help are the examples of sign --help.
func (*sign) Help() string {
	return `It prints the headers that the server would sign this body with: of Standard Webhooks, and the hexadecimal one. The
body is signed byte by byte, its last line break included.

Examples:

    postrider sign body.json --secret-file secret.txt
    postrider sign body.json > headers.txt
    curl http://127.0.0.1:4567/ -H @headers.txt -H 'Content-Type: application/json' --data-binary @body.json`
}

// Run signs.
func (s *sign) Run(p *process) error {
	texts, err := s.texts(p)
	if err != nil {
		return err
	}
	if err := checkSecrets(texts, nil); err != nil {
		return err
	}
	at := time.Now()
	if s.Timestamp != "" {
		if at, err = stamp("--timestamp", s.Timestamp, at); err != nil {
			return err
		}
	}
	if s.ID == "" {
		s.ID = postrider.NewID().String()
	}
	if len(s.ID) > signature.MaxID || strings.ContainsFunc(s.ID, func(r rune) bool { return r <= ' ' || r > '~' || r == '.' }) {
		return misuse("--id", fmt.Sprintf("is not 1 to %d visible ASCII characters without a dot", signature.MaxID), "")
	}
	body, err := p.readBody(s.File)
	if err != nil {
		return err
	}
	var list []byte
	for i, text := range texts {
		if i > 0 {
			list = append(list, ' ')
		}
		list = signature.NewSigner(text).AppendStandard(list, s.ID, at, body)
	}
	headers := [][2]string{
		{signature.HeaderID, s.ID},
		{signature.HeaderTimestamp, strconv.FormatInt(at.Unix(), 10)},
		{signature.HeaderSignature, string(list)},
		{"X-" + s.Brand + "-Signature", string(signature.NewSigner(texts[0]).AppendHex(nil, body))},
	}
	if len(texts) > 1 {
		headers = append(headers, [2]string{"X-" + s.Brand + "-Signature-Previous", string(signature.NewSigner(texts[1]).AppendHex(nil, body))})
	}
	if s.JSON {
		object := map[string]string{}
		for _, header := range headers {
			object[header[0]] = header[1]
		}
		_, err := p.stdout.Write(encoded(object))
		return err
	}
	for _, header := range headers {
		fmt.Fprintf(p.stdout, "%s: %s\n", header[0], header[1])
	}
	return nil
}

// stamp reads a time, how long ago, or Unix seconds after an @.
func stamp(source, text string, now time.Time) (time.Time, error) {
	if digits, found := strings.CutPrefix(text, "@"); found {
		seconds, err := strconv.ParseUint(digits, 10, 40)
		if err != nil {
			return now, misuse(source, fmt.Sprintf("%q is no @ and Unix seconds", text), "")
		}
		return time.Unix(int64(seconds), 0), nil
	}
	return moment(source, text, now)
}

// checkSecrets refuses secrets and keys that are none, by the flags that they
// came from.
func checkSecrets(texts, public []string) error {
	if len(texts)+len(public) == 0 {
		return misuse("--secret", "is needed", "give --secret-file FILE, --secret or POSTRIDER_SECRET")
	}
	if _, err := signature.NewVerifier(signature.Options{Secrets: texts, PublicKeys: public}); err != nil {
		return misuse("--secret", strings.TrimPrefix(err.Error(), "signature: "), "")
	}
	return nil
}
