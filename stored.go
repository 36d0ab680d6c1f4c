package postrider

import (
	"encoding/json"
	"fmt"
	"time"
)

// Forms in which every store keeps a value, so that it can move from one store
// to another as it is.

// hidden is what of a webhook nobody may read on a disk.
type hidden struct {
	Secret   string         `json:"secret,omitempty"`
	Previous []hiddenSecret `json:"previous,omitempty"`

	Headers map[string]string `json:"headers,omitempty"`
}

type hiddenSecret struct {
	Secret string `json:"secret"`
	Until  int64  `json:"until"` // microseconds since 1970
}

// Hidden is what of a webhook is stored encrypted only, nil when there is
// nothing: its secrets and its headers.
func (w *Webhook) Hidden() ([]byte, error) {
	if w.Secret == "" && len(w.Previous) == 0 && len(w.Headers) == 0 {
		return nil, nil
	}
	h := hidden{Secret: string(w.Secret), Headers: w.Headers}
	for _, old := range w.Previous {
		h.Previous = append(h.Previous, hiddenSecret{string(old.Secret), old.Until.UnixMicro()})
	}
	text, err := json.Marshal(h) //nolint:gosec // the store encrypts it
	if err != nil {
		return nil, fmt.Errorf("encode the webhook's secrets: %w", err)
	}
	return text, nil
}

// Reveal gives a webhook what Hidden has returned of it.
func (w *Webhook) Reveal(text []byte) error {
	var h hidden
	if err := json.Unmarshal(text, &h); err != nil {
		return fmt.Errorf("decode the webhook's secrets: %w", err)
	}
	w.Secret, w.Headers, w.Previous = Secret(h.Secret), h.Headers, nil
	for _, old := range h.Previous {
		w.Previous = append(w.Previous, PreviousSecret{Secret: Secret(old.Secret), Until: time.UnixMicro(old.Until).UTC()})
	}
	return nil
}
