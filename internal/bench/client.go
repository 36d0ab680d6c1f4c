package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// client speaks to the server's API where speed does not matter.
var client = &http.Client{
	Timeout:   time.Minute,
	Transport: &http.Transport{MaxIdleConnsPerHost: subscribers, DisableCompression: true},
}

// subscribers is how many webhooks are created at once.
const subscribers = 16

// A webhook is what the API is told of one.
type webhook struct {
	URL           string    `json:"url"`
	Events        []string  `json:"events"`
	Secret        string    `json:"secret,omitempty"`
	InsecureSSL   bool      `json:"insecure_ssl,omitempty"`
	Tenant        string    `json:"tenant,omitempty"`
	Description   string    `json:"description"`
	Timeout       int       `json:"timeout_seconds,omitempty"`
	MaxInFlight   int       `json:"max_in_flight,omitempty"`
	RetrySchedule []float64 `json:"retry_schedule,omitempty"`
}

// subscribe creates webhooks and returns their ids.
func (s *server) subscribe(ctx context.Context, hooks []webhook) (ids []string, err error) {
	ids = make([]string, len(hooks))
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(subscribers, len(hooks)) {
		group.Go(func() error {
			for i := int(next.Add(1)) - 1; i < len(hooks); i = int(next.Add(1)) - 1 {
				hook := hooks[i]
				hook.Tenant, hook.Description = s.tenant, "postrider bench"
				var created struct{ ID string }
				if err := s.call(ctx, http.MethodPost, "/v0/api_webhooks", hook, &created); err != nil {
					return fmt.Errorf("create a webhook: %w", err)
				}
				ids[i] = created.ID
			}
			return nil
		})
	}
	return ids, group.Wait()
}

// unsubscribe deletes webhooks.
func (s *server) unsubscribe(ctx context.Context, ids []string) error {
	var errs []error
	for _, id := range ids {
		if id != "" {
			path := "/v0/api_webhooks/" + id
			if s.tenant != "" {
				path += "?tenant=" + s.tenant
			}
			errs = append(errs, s.call(ctx, http.MethodDelete, path, nil, nil))
		}
	}
	return errors.Join(errs...)
}

// makeTenant makes the tenant that the load belongs to.
func (s *server) makeTenant(ctx context.Context) error {
	if s.tenant == "" {
		return nil
	}
	err := s.call(ctx, http.MethodPost, "/v0/tenants", map[string]string{"name": s.tenant}, nil)
	var refused *refusal
	if errors.As(err, &refused) && refused.status == http.StatusConflict {
		return nil // it was there before
	}
	return err
}

// A refusal is an answer of the API that is no success.
type refusal struct {
	status int
	body   string
}

func (r *refusal) Error() string { return fmt.Sprintf("the server answered %d: %s", r.status, r.body) }

func (s *server) call(ctx context.Context, method, path string, request, answer any) error {
	var body io.Reader
	if request != nil {
		text, err := json.Marshal(request)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+s.address+path, body)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Api-Key", s.key)
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return err
	case resp.StatusCode >= http.StatusMultipleChoices:
		return &refusal{resp.StatusCode, string(text[:min(len(text), 500)])}
	case answer == nil:
		return nil
	}
	return json.Unmarshal(text, answer)
}
