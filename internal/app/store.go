package app

import (
	"context"
	"net"
	"net/netip"

	"postrider"
	"postrider/internal/api"
	"postrider/internal/dispatch"
	"postrider/internal/portal"
	"postrider/internal/postgres"
	"postrider/internal/publish"
	"postrider/internal/registry"
	"postrider/internal/sealing"
	"postrider/internal/sqlite"
	"postrider/internal/transfer"
)

// A store is all that the rooms ask of one. The app alone sees it whole.
type store interface {
	registry.Store
	publish.Store
	publish.ReplayStore
	dispatch.Store
	api.History
	api.Recorded
	api.Links
	portal.History
	portal.Counters
	portal.Sessions
	transfer.Source
	transfer.Target

	// Reseal encrypts all that is encrypted with another key.
	Reseal(ctx context.Context, next postgres.Sealer) (webhooks int, err error)
	// Ping reports whether the store can be read and accepts writes.
	Ping(context.Context) error
	// Failed is closed when the store can no longer be trusted.
	Failed() <-chan struct{}
	Close() error
}

// A shared store is one that other nodes work on, too.
type shared interface {
	dispatch.Shared
	registry.Shared

	// Run keeps this process alive in the eyes of the others, to whom it says
	// what it is called, and does what one of them does for all.
	Run(ctx context.Context, self postrider.Node) error
	// Alive are the nodes that are.
	Alive(context.Context) ([]postrider.Node, error)
}

// openStore opens the store that the settings name.
func (a *app) openStore(ctx context.Context, sealer *sealing.Sealer) error {
	if a.config.DatabaseURL == "" {
		store, err := sqlite.Open(ctx, a.config.DataDir, sealer)
		if err != nil {
			return err
		}
		a.store = store
		return nil
	}
	store, err := postgres.Open(ctx, postgres.Options{
		URL: string(a.config.DatabaseURL), Sealer: sealer, Logger: a.logger, Retention: a.config.Retention,
	})
	if err != nil {
		return err
	}
	a.store, a.shared = store, store
	if a.database, err = store.Address(ctx); err != nil {
		return err
	}
	return store.CheckKey(ctx)
}

// ownAddresses are what no webhook reaches, whatever is opened: the API, the
// database, and the profiles once they are served.
func (a *app) ownAddresses() []netip.AddrPort {
	own := []netip.AddrPort{a.listener.Addr().(*net.TCPAddr).AddrPort()} //nolint:forcetypeassert // it is a TCP listener
	if a.database.IsValid() {
		own = append(own, a.database)
	}
	return own
}

// lanesShared is the shared store as the lanes use it, and nil without one.
func (a *app) lanesShared() dispatch.Shared {
	if a.shared == nil {
		return nil
	}
	return a.shared
}

// registryShared is the shared store as the registry uses it, and nil without
// one.
func (a *app) registryShared() registry.Shared {
	if a.shared == nil {
		return nil
	}
	return a.shared
}
