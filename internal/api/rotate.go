package api

import (
	"context"
	"time"

	"postrider"
)

// defaultGrace is how long an old secret signs along when the rotation does not
// say.
const defaultGrace = 24 * time.Hour

type rotation struct {
	GraceSeconds optional[float64] `json:"grace_seconds" required:"false" minimum:"0" maximum:"604800" doc:"How long the old secret signs along. Default 86400, a day; 0 revokes it at once." example:"86400"`
	Secret       optional[string]  `json:"secret" required:"false" minLength:"8" maxLength:"256" doc:"The new secret. Absent or null: one is made."`
}

// check gives the new secret and the grace.
func (r *rotation) check() (secret postrider.Secret, grace time.Duration, err error) {
	var faults postrider.Faults
	grace = defaultGrace
	if r.GraceSeconds.given() {
		if grace = seconds(r.GraceSeconds.Value); grace < 0 || grace > postrider.MaxGrace {
			faults.Add(invalid("grace_seconds", "invalid_grace", "The grace is 0 to 604,800 seconds (7 days)."))
		}
	}
	if secret, err = secretOf(r.Secret); secret == "" {
		secret = postrider.NewSecret()
	}
	faults.Add(err)
	return secret, grace, faults.Err()
}

type rotated struct {
	ID            postrider.ID `json:"id" format:"uuid" doc:"The webhook's id."`
	Secret        string       `json:"secret" doc:"The new secret. It is shown this once." example:"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"`
	PreviousUntil *instant     `json:"previous_secret_expires_at" nullable:"true" doc:"Until when the old secret signs along; null when none does."`
}

type (
	rotateSecretInput struct {
		WebhookRef
		WithBody[rotation]
	}
	rotateSecretOutput struct{ Body rotated }
)

func (a *API) rotateSecret(ctx context.Context, c *call, in *rotateSecretInput) (*rotateSecretOutput, error) {
	tenant, id, err := a.target(c, &in.WebhookRef)
	if err != nil {
		return nil, err
	}
	secret, grace, err := in.Body.Value.check()
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC().Truncate(time.Microsecond) // as it is kept
	w, err := a.Webhooks.UpdateWebhook(ctx, tenant, id, func(w *postrider.Webhook) { w.Rotate(secret, grace, now) })
	if err != nil {
		return nil, err
	}
	return &rotateSecretOutput{rotated{ID: id, Secret: string(secret), PreviousUntil: instantOrNull(w.PreviousUntil(now))}}, nil
}
