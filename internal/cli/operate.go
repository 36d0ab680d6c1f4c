package cli

import (
	"context"
	"net/url"
	"time"

	"postrider"
)

type rotateSecret struct {
	remote
	scoped

	ID         string           `arg:"" help:"The webhook's id."`
	Grace      *time.Duration   `placeholder:"DURATION" help:"How long the old secret signs along, 0s to 168h; 24h without it. 0s revokes it at once."`
	Secret     postrider.Secret `placeholder:"SECRET" help:"The new secret; without one the server makes one. In a file it stays out of the shell's history."`
	SecretFile string           `placeholder:"FILE" help:"File with the new secret; - is the standard input."`
}

// Help are the examples of webhooks rotate --help.
func (*rotateSecret) Help() string {
	return `Examples:

    postrider webhooks rotate 0195b3f4-8c1e-7a52-9d3b-6f2a41c0e7d8
    postrider webhooks rotate 0195b3f4-8c1e-7a52-9d3b-6f2a41c0e7d8 --grace 0s --secret-file secret.txt`
}

// Run rotates.
func (r *rotateSecret) Run(ctx context.Context, p *process) error {
	body := map[string]any{}
	secret := r.Secret
	if r.SecretFile != "" {
		if secret != "" {
			return misuse("--secret-file", "is given beside --secret", "give one of the two")
		}
		var err error
		if secret, err = p.readSecretFile(r.SecretFile); err != nil {
			return err
		}
	}
	if secret != "" {
		body["secret"] = string(secret)
	}
	if r.Grace != nil {
		body["grace_seconds"] = r.Grace.Seconds()
	}
	c, err := r.connect()
	if err != nil {
		return err
	}
	var rotated struct {
		ID            string     `json:"id"`
		Secret        string     `json:"secret"`
		PreviousUntil *time.Time `json:"previous_secret_expires_at"`
	}
	text, err := c.ask(ctx, &rotated, request{
		method: "POST", path: webhookPath(r.ID) + "/rotate_secret", query: r.add(url.Values{}), body: encoded(body),
	})
	if err != nil {
		return err
	}
	s := new(sheet)
	s.add("webhook", rotated.ID)
	s.add("secret", rotated.Secret)
	s.add("old secret until", when(rotated.PreviousUntil))
	p.show(&r.remote, text, s)
	p.say("the secret is shown this once: keep it where the receiver finds it")
	return nil
}

type pauseWebhook struct {
	remote
	scoped

	ID string `arg:"" help:"The webhook's id."`
}

// Help are the examples of webhooks pause --help.
func (*pauseWebhook) Help() string {
	return `It takes the operator's key. A partner switches a webhook off with postrider webhooks update ID --no-active.

Example:

    postrider webhooks pause 0195b3f4-8c1e-7a52-9d3b-6f2a41c0e7d8 --tenant acme`
}

// Run pauses it.
func (c *pauseWebhook) Run(ctx context.Context, p *process) error {
	return c.showWebhook(ctx, p, request{method: "POST", path: webhookPath(c.ID) + "/pause", query: c.add(url.Values{})})
}

type resumeWebhook struct {
	remote
	scoped

	ID string `arg:"" help:"The webhook's id."`
}

// Help are the examples of webhooks resume --help.
func (*resumeWebhook) Help() string {
	return `It takes the operator's key.

Example:

    postrider webhooks resume 0195b3f4-8c1e-7a52-9d3b-6f2a41c0e7d8 --tenant acme`
}

// Run resumes it.
func (c *resumeWebhook) Run(ctx context.Context, p *process) error {
	return c.showWebhook(ctx, p, request{method: "POST", path: webhookPath(c.ID) + "/resume", query: c.add(url.Values{})})
}
