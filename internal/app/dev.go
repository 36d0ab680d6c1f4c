package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"postrider"
	"postrider/internal/sink"
)

const (
	devKeysFile = "dev-keys.json"
	sinkAddress = "127.0.0.1:4567"
	sinkURL     = "http://" + sinkAddress + "/api/callback"
)

// devKeys are kept readable, so that the lines pasted yesterday work today.
// They exist in development only.
type devKeys struct {
	Admin   string `json:"admin"`
	Partner string `json:"partner"`
}

// develop makes a server to try things on: keys that are printed, a small
// catalogue, and a receiver with a webhook that points at it.
func (a *app) develop(ctx context.Context, run *errgroup.Group, stdout io.Writer) (greeting string, err error) {
	keys, err := a.devKeys(ctx)
	if err != nil {
		return "", err
	}
	webhooks, _ := a.registry.Webhooks(postrider.DefaultTenant, postrider.ID{}, 1)
	if _, err := a.registry.EventType(exampleCatalogue[0].Name); err != nil && len(webhooks) == 0 {
		for _, t := range exampleCatalogue {
			if _, _, err := a.registry.PutEventType(ctx, t); err != nil {
				return "", fmt.Errorf("fill the catalogue: %w", err)
			}
		}
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", sinkAddress)
	if err != nil {
		return a.devGreeting(keys, "none, since "+sinkAddress+" is in use"), nil //nolint:nilerr // there is a server all the same
	}
	receiver := sink.New(sink.Options{Secrets: a.sinkSecrets, Out: stdout, Brand: a.config.Brand})
	run.Go(func() error { return sink.Serve(ctx, listener, receiver) })
	if len(webhooks) == 0 {
		_, err := a.registry.CreateWebhook(ctx, postrider.Webhook{
			Tenant: postrider.DefaultTenant, URL: sinkURL, ContentType: postrider.JSON, Secret: postrider.NewSecret(),
			Events: []string{"*"}, Active: true, Description: "The built-in receiver of postrider serve --dev",
		})
		if err != nil {
			return "", fmt.Errorf("register the built-in receiver: %w", err)
		}
	}
	return a.devGreeting(keys, sinkURL+", checks signatures, prints below"), nil
}

// sinkSecrets are the secrets of the webhooks that point at the built-in
// receiver, as they are now.
func (a *app) sinkSecrets() (secrets []string) {
	for _, w := range a.registry.ActiveWebhooks(postrider.DefaultTenant) {
		if w.URL == sinkURL && w.Secret != "" {
			secrets = append(secrets, string(w.Secret))
		}
	}
	return secrets
}

func (a *app) devKeys(ctx context.Context) (keys devKeys, err error) {
	path := filepath.Join(a.config.DataDir, devKeysFile)
	text, err := os.ReadFile(path)
	switch {
	case err == nil:
		err = json.Unmarshal(text, &keys)
	case errors.Is(err, fs.ErrNotExist):
		if _, keys.Admin, err = a.registry.CreateAPIKey(ctx, "", "development"); err != nil {
			break
		}
		if _, keys.Partner, err = a.registry.CreateAPIKey(ctx, postrider.DefaultTenant, "development"); err != nil {
			break
		}
		if text, err = json.Marshal(keys); err == nil {
			err = errors.Join(os.MkdirAll(a.config.DataDir, 0o700), os.WriteFile(path, append(text, '\n'), 0o600))
		}
	}
	if err != nil {
		return keys, fmt.Errorf("the keys of development: %w", err)
	}
	if a.config.AdminKey != "" {
		keys.Admin = string(a.config.AdminKey)
	}
	return keys, nil
}

func (a *app) devGreeting(keys devKeys, receiver string) string {
	return fmt.Sprintf(`
  admin key    %[2]s
  partner key  %[3]s
  receiver     %[4]s
  reference    %[1]s/docs/api

Create a webhook:
  curl -s %[1]s/v0/api_webhooks -H 'x-api-key: %[3]s' -H 'Content-Type: application/json' -d '{"url": "%[5]s", "content_type": "application/json", "secret": "a secret to sign with", "events": ["room_status.*"]}'

Publish an event:
  curl -s %[1]s/v0/events -H 'x-api-key: %[2]s' -H 'Content-Type: application/json' -d '{"event": "room_status.updated", "payload": {"room": "204", "status": "clean"}}'

Read the logs:
  curl -s %[1]s/v0/api_webhooks/logs -H 'x-api-key: %[3]s'

`, a.url(), keys.Admin, keys.Partner, receiver, sinkURL)
}

// exampleCatalogue is what a hotel company might publish.
var exampleCatalogue = []postrider.EventType{
	{
		Name: "room_status.updated", Description: "A room's housekeeping status changed.",
		Notes: "Sent each time a room is reported `clean`, `dirty` or `out_of_order`.\n\nThe newest `reported_at` wins: " +
			"deliveries may arrive out of order.",
		Schema: []byte(`{"type":"object","required":["room","status","reported_at"],"properties":{"resort":{"type":"string"},` +
			`"room":{"type":"string"},"status":{"enum":["clean","dirty","out_of_order"]},"reported_at":{"type":"string","format":"date-time"}}}`),
		Example: []byte(`{"resort":"ALBC","room":"204","status":"clean","reported_at":"2026-01-15T09:30:00Z"}`),
	},
	{
		Name: "booking.created", Description: "A booking was confirmed.",
		Notes: "Amounts are in the currency's smallest unit.",
		Schema: []byte(`{"type":"object","required":["booking_id"],"properties":{"booking_id":{"type":"string"},"resort":{"type":"string"},` +
			`"arrival":{"type":"string","format":"date"},"nights":{"type":"integer"},"amount":{"type":"integer"},"currency":{"type":"string"}}}`),
		Example: []byte(`{"booking_id":"B-10482","resort":"ALBC","arrival":"2026-02-07","nights":7,"amount":289000,"currency":"EUR"}`),
	},
	{
		Name: "booking.cancelled", Description: "A booking was cancelled, by the guest or by the resort.",
		Example: []byte(`{"booking_id":"B-10482","reason":"guest","cancelled_at":"2026-01-20T16:02:11Z"}`),
	},
}
