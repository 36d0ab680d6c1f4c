package registry_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postrider"
	"postrider/internal/registry"
	"postrider/internal/testkit"
)

// A database is what several nodes share, in memory.
type database struct {
	mu       sync.Mutex
	changes  []postrider.Change
	tenants  map[string]postrider.Tenant
	keys     map[postrider.ID]postrider.APIKey
	webhooks map[postrider.ID]postrider.Webhook
	types    map[string]postrider.EventType
}

func newDatabase() *database {
	return &database{
		tenants: map[string]postrider.Tenant{}, keys: map[postrider.ID]postrider.APIKey{},
		webhooks: map[postrider.ID]postrider.Webhook{}, types: map[string]postrider.EventType{},
	}
}

// A node is a database as one process sees it: it knows of changes up to heard.
type node struct {
	*database

	heard   int64
	changed chan struct{} // nothing is ever told: changes are asked for
	failing bool          // rows cannot be read
}

var errAway = errors.New("the store is away")

func (n *node) change(c postrider.Change, write func()) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.heard != int64(len(n.changes)) {
		return postrider.ErrStale
	}
	write()
	n.heard++
	c.Revision = n.heard
	n.changes = append(n.changes, c)
	return nil
}

func (n *node) Changes(_ context.Context, after int64) ([]postrider.Change, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heard = int64(len(n.changes))
	return slices.Clone(n.changes[after:]), nil
}

func (n *node) Changed() <-chan struct{} { return n.changed }

func (n *node) Revision() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.heard
}

func row[K comparable, V any](n *node, rows map[K]V, key K) (V, bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.failing {
		var none V
		return none, false, errAway
	}
	value, found := rows[key]
	return value, found, nil
}

func (n *node) Tenant(_ context.Context, name string) (postrider.Tenant, bool, error) {
	return row(n, n.tenants, name)
}

func (n *node) APIKey(_ context.Context, id postrider.ID) (postrider.APIKey, bool, error) {
	return row(n, n.keys, id)
}

func (n *node) Webhook(_ context.Context, _ string, id postrider.ID) (postrider.Webhook, bool, error) {
	return row(n, n.webhooks, id)
}

func (n *node) EventType(_ context.Context, name string) (postrider.EventType, bool, error) {
	return row(n, n.types, name)
}

func (n *node) CreateTenant(_ context.Context, t postrider.Tenant) error {
	return n.change(postrider.Change{Noun: postrider.NounTenant, Key: t.Name}, func() { n.tenants[t.Name] = t })
}

func (n *node) PauseTenant(_ context.Context, name string, paused bool) error {
	return n.change(postrider.Change{Noun: postrider.NounTenant, Key: name}, func() {
		t := n.tenants[name]
		t.Paused = paused
		n.tenants[name] = t
	})
}

func (n *node) CreateAPIKey(_ context.Context, key postrider.APIKey) error {
	return n.change(postrider.Change{Noun: postrider.NounAPIKey, Key: key.ID.String()}, func() { n.keys[key.ID] = key })
}

func (n *node) DeleteAPIKey(_ context.Context, id postrider.ID) (existed bool, err error) {
	err = n.change(postrider.Change{Noun: postrider.NounAPIKey, Key: id.String()}, func() {
		_, existed = n.keys[id]
		delete(n.keys, id)
	})
	return existed, err
}

func (n *node) PutWebhook(_ context.Context, w postrider.Webhook) error {
	c := postrider.Change{Noun: postrider.NounWebhook, Tenant: w.Tenant, Key: w.ID.String()}
	return n.change(c, func() { n.webhooks[w.ID] = w })
}

func (n *node) PutEventType(_ context.Context, t postrider.EventType) error {
	return n.change(postrider.Change{Noun: postrider.NounEventType, Key: t.Name}, func() { n.types[t.Name] = t })
}

func (n *node) DeleteEventType(_ context.Context, name string) (existed bool, err error) {
	err = n.change(postrider.Change{Noun: postrider.NounEventType, Key: name}, func() {
		_, existed = n.types[name]
		delete(n.types, name)
	})
	return existed, err
}

func all[K comparable, V any](n *node, rows map[K]V) ([]V, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Values(rows)), nil
}

func (n *node) Tenants(context.Context) ([]postrider.Tenant, error)       { return all(n, n.tenants) }
func (n *node) APIKeys(context.Context) ([]postrider.APIKey, error)       { return all(n, n.keys) }
func (n *node) Webhooks(context.Context) ([]postrider.Webhook, error)     { return all(n, n.webhooks) }
func (n *node) EventTypes(context.Context) ([]postrider.EventType, error) { return all(n, n.types) }

// open starts a registry on a database, as a node of its own.
func open(t *testing.T, db *database, change ...func(*registry.Options)) (*registry.Registry, *node) {
	t.Helper()
	n := &node{database: db, heard: int64(len(db.changes))}
	o := registry.Options{Store: n, Shared: n}
	for _, c := range change {
		c(&o)
	}
	r, err := registry.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r, n
}

func hook() postrider.Webhook {
	return postrider.Webhook{
		Tenant: postrider.DefaultTenant, URL: "http://one.test/", ContentType: postrider.JSON, Events: []string{"*"}, Active: true,
	}
}

func TestShared_EveryChangeActsOnTheOtherNodeWithinTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newDatabase()
		var woken []postrider.ID
		one, _ := open(t, db)
		two, _ := open(t, db, func(o *registry.Options) { o.Changed = func(id postrider.ID) { woken = append(woken, id) } })
		w, err := one.CreateWebhook(t.Context(), hook())
		if err != nil {
			t.Fatal(err)
		}
		if _, found := two.WebhookByID(w.ID); found {
			t.Fatal("got the webhook before anybody asked for changes")
		}
		testkit.Advance(2 * time.Second)
		if got := two.Match(postrider.DefaultTenant, "a.b"); len(got) != 1 || got[0].ID != w.ID || !slices.Contains(woken, w.ID) {
			t.Errorf("got %v and %v woken, want the new webhook", got, woken)
		}
		_, text, err := one.CreateAPIKey(t.Context(), postrider.DefaultTenant, "k")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := one.PauseTenant(t.Context(), postrider.DefaultTenant, true); err != nil {
			t.Fatal(err)
		}
		if _, _, err := one.PutEventType(t.Context(), postrider.EventType{Name: "a.b"}); err != nil {
			t.Fatal(err)
		}
		testkit.Advance(2 * time.Second)
		key, err := two.Authenticate(text)
		if err != nil {
			t.Errorf("got %v, want the key of the other node to be valid", err)
		}
		if got, _ := two.WebhookByID(w.ID); got.Sending() {
			t.Error("got the webhook of a paused tenant sending")
		}
		if _, err := two.EventType("a.b"); err != nil {
			t.Errorf("got %v, want the other node's event type", err)
		}
		for _, err := range []error{
			one.DeleteAPIKey(t.Context(), key.ID), one.DeleteWebhook(t.Context(), w.Tenant, w.ID), one.DeleteEventType(t.Context(), "a.b"),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		testkit.Advance(2 * time.Second)
		if _, err := two.Authenticate(text); err == nil {
			t.Error("got a revoked key accepted")
		}
		if got := two.Match(postrider.DefaultTenant, "a.b"); len(got) != 0 {
			t.Errorf("got %v, want the deleted webhook gone", got)
		}
		if _, err := two.EventType("a.b"); err == nil {
			t.Error("got a deleted event type")
		}
	})
}

func TestShared_AChangeIsDecidedAgainWhenAnotherNodesCameFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newDatabase()
		one, _ := open(t, db)
		two, _ := open(t, db)
		w, err := one.CreateWebhook(t.Context(), hook())
		if err != nil {
			t.Fatal(err)
		}
		testkit.Advance(2 * time.Second)
		var wait sync.WaitGroup
		for i := range 20 {
			for _, r := range []*registry.Registry{one, two} {
				wait.Go(func() {
					_, err := r.UpdateWebhook(t.Context(), w.Tenant, w.ID, func(w *postrider.Webhook) {
						w.Description += "x"
						w.MaxInFlight = 1 + i
					})
					if err != nil {
						t.Error(err)
					}
				})
			}
		}
		wait.Wait()
		testkit.Advance(2 * time.Second)
		for _, r := range []*registry.Registry{one, two} {
			if got, err := r.Webhook(w.Tenant, w.ID); err != nil || len(got.Description) != 40 {
				t.Errorf("got %d of 40 changes, %v: one was decided without knowing of another", len(got.Description), err)
			}
		}
	})
}

func TestShared_TwoNodesThatStartAtOnceMakeOneTenantAndOneKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newDatabase()
		one, _ := open(t, db)
		two, _ := open(t, db)
		texts := make([]string, 2)
		var wait sync.WaitGroup
		for i, r := range []*registry.Registry{one, two} {
			wait.Go(func() {
				var err error
				if texts[i], err = r.CreateFirstKey(t.Context(), "first"); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		if (texts[0] == "") == (texts[1] == "") || len(db.keys) != 1 || len(db.tenants) != 1 {
			t.Errorf("got keys %q, %d and %d tenants, want one key told once", texts, len(db.keys), len(db.tenants))
		}
	})
}

func TestShared_OneNodeDisablesAWebhookAndOneNotesThatItFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newDatabase()
		one, _ := open(t, db)
		two, _ := open(t, db)
		w, err := one.CreateWebhook(t.Context(), hook())
		if err != nil {
			t.Fatal(err)
		}
		testkit.Advance(2 * time.Second)
		told := map[string]int{}
		for _, r := range []*registry.Registry{one, two} {
			changed, err := r.SetFailing(t.Context(), w.ID, postrider.Failing{}, postrider.Failing{Since: time.Now()})
			if err != nil {
				t.Error(err)
			}
			disabled, err := r.DisableWebhook(t.Context(), w.ID, postrider.Disabled{Code: "gone"})
			if err != nil {
				t.Error(err)
			}
			told[fmt.Sprint("failing ", changed)]++
			told[fmt.Sprint("disabled ", disabled)]++
		}
		if told["failing true"] != 1 || told["disabled true"] != 1 {
			t.Errorf("got %v, want each told by one node", told)
		}
	})
}

func TestShared_AChangeThatCouldNotBeReadIsReadBeforeTheNextIsDecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newDatabase()
		one, _ := open(t, db)
		two, n := open(t, db)
		w, err := one.CreateWebhook(t.Context(), hook())
		if err != nil {
			t.Fatal(err)
		}
		n.mu.Lock()
		n.failing = true
		n.mu.Unlock()
		testkit.Advance(time.Minute)
		if _, err := two.CreateTenant(t.Context(), "other"); !errors.Is(err, errAway) {
			t.Errorf("got %v, want no change by a node that does not know the one before", err)
		}
		n.mu.Lock()
		n.failing = false
		n.mu.Unlock()
		testkit.Advance(2 * time.Second)
		if _, found := two.WebhookByID(w.ID); !found {
			t.Error("got the change lost that could not be read at first")
		}
		if _, err := two.CreateTenant(t.Context(), "other"); err != nil {
			t.Error(err)
		}
	})
}
