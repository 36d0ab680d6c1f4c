package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"postrider"
)

// A CatalogueStore keeps event types.
type CatalogueStore interface {
	PutEventType(context.Context, postrider.EventType) error
	DeleteEventType(ctx context.Context, name string) (existed bool, err error)
	EventTypes(context.Context) ([]postrider.EventType, error)
}

// The largest texts of a catalogue entry, in bytes.
const (
	maxDescription = 1000
	maxNotes       = 64 << 10
	maxSchema      = 256 << 10
)

// PutEventType writes an entry of the catalogue; created tells a new one from
// a changed one. Its times are filled in.
func (r *Registry) PutEventType(ctx context.Context, t postrider.EventType) (saved postrider.EventType, created bool, err error) {
	if err := checkEventType(&t); err != nil {
		return t, false, err
	}
	err = r.changing(ctx, func() (err error) {
		saved, created, err = r.putEventType(ctx, t)
		return err
	})
	return saved, created, err
}

func (r *Registry) putEventType(ctx context.Context, t postrider.EventType) (saved postrider.EventType, created bool, err error) {
	old, err := r.EventType(t.Name)
	created = err != nil
	t.UpdatedAt = now()
	t.CreatedAt = old.CreatedAt
	if created {
		t.CreatedAt = t.UpdatedAt
	}
	if err := r.o.Store.PutEventType(ctx, t); err != nil {
		return t, false, fmt.Errorf("write to the catalogue: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.types[t.Name] = t
	return t, created, nil
}

func checkEventType(t *postrider.EventType) error {
	var faults postrider.Faults
	fault := func(field, code, detail string) {
		faults.Add(&postrider.Error{Kind: postrider.Invalid, Field: field, Code: code, Detail: detail})
	}
	faults.Add(postrider.CheckPublished("event", t.Name))
	if len(t.Description) > maxDescription || !utf8.ValidString(t.Description) {
		fault("description", "invalid_description", "A description is at most 1,000 bytes of UTF-8 text.")
	}
	if len(t.Notes) > maxNotes || !utf8.ValidString(t.Notes) {
		fault("notes", "invalid_notes", "Notes are at most 64 KiB of UTF-8 text (Markdown).")
	}
	if len(t.Schema) > maxSchema || len(t.Schema) > 0 && !json.Valid(t.Schema) {
		fault("schema", "invalid_schema", "A schema is a JSON Schema of at most 256 KiB.")
	}
	if len(t.Example) > maxSchema || len(t.Example) > 0 && !json.Valid(t.Example) {
		fault("example", "invalid_example", "An example is a JSON value of at most 256 KiB.")
	}
	return faults.Err()
}

// DeleteEventType removes an entry of the catalogue. Events of that type and
// the webhooks that subscribe to it stay.
func (r *Registry) DeleteEventType(ctx context.Context, name string) error {
	if _, system := systemTypes[name]; system {
		return postrider.CheckPublished("event", name)
	}
	return r.changing(ctx, func() error {
		existed, err := r.o.Store.DeleteEventType(ctx, name)
		if err != nil {
			return fmt.Errorf("delete from the catalogue: %w", err)
		}
		if !existed {
			return postrider.Missing("event type")
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.types, name)
		return nil
	})
}

// EventType returns an entry of the catalogue.
func (r *Registry) EventType(name string) (postrider.EventType, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if t, found := r.types[name]; found {
		return t, nil
	}
	return postrider.EventType{}, postrider.Missing("event type")
}

// EventTypes returns a page of the catalogue by name, from above the name
// after.
func (r *Registry) EventTypes(after string, limit int) (page []postrider.EventType, more bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, t := range r.types {
		if t.Name > after {
			page = append(page, t)
		}
	}
	slices.SortFunc(page, func(a, b postrider.EventType) int { return cmp.Compare(a.Name, b.Name) })
	return cut(page, limit)
}

// CheckCatalogued refuses an event type, or a pattern, that nothing in the
// catalogue matches.
func (r *Registry) CheckCatalogued(field, pattern string) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if _, found := r.types[pattern]; found || pattern == "*" || pattern == postrider.PingEvent {
		return nil
	}
	if strings.HasSuffix(pattern, ".*") {
		for name := range r.types {
			if postrider.MatchEvent(pattern, name) {
				return nil
			}
		}
	}
	return &postrider.Error{
		Kind: postrider.Invalid, Code: "unknown_event", Field: field,
		Detail: "The catalogue has no such event type; GET /v0/api_webhooks/events lists what it has.",
	}
}
