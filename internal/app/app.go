// Package app builds Postrider from its parts and runs it. It is the only
// package that names implementations; everything else speaks to interfaces.
package app

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"

	"postrider"
	"postrider/internal/api"
	"postrider/internal/config"
	"postrider/internal/dispatch"
	"postrider/internal/egress"
	"postrider/internal/publish"
	"postrider/internal/registry"
	"postrider/internal/relay"
)

// An app is a built Postrider.
type app struct {
	config config.Serve
	logger *slog.Logger

	self      postrider.Node // this process
	listener  net.Listener
	database  netip.AddrPort // where the shared store was reached; not valid without one
	store     store
	shared    shared // the store once more, where other nodes work on it, too
	client    *egress.Client
	registry  *registry.Registry
	relay     *relay.Relay
	lanes     *dispatch.Dispatcher
	publisher *publish.Publisher
	replayer  *publish.Replayer
	tail      *tail
	handler   http.Handler
}

// Serve runs a server until the context ends, then stops it in order: no new
// requests, attempts in flight finish, everything else goes back to the store.
// Results for the operator go to stdout, the log to stderr.
func Serve(ctx context.Context, c config.Serve, version string, stdout, stderr io.Writer) (err error) {
	defer tuneRuntime(&c)()
	a, err := build(ctx, c, version, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	defer takeStandardLog(a.logger)()
	greeting, err := a.firstKeys(ctx)
	if err != nil {
		return err
	}
	if c.AddressFile != "" {
		if err := os.WriteFile(c.AddressFile, []byte(a.listener.Addr().String()+"\n"), 0o600); err != nil {
			return fmt.Errorf("write the address file: %w", err)
		}
	}
	run, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, a.tail.stop)()
	if c.Dev {
		if greeting, err = a.develop(ctx, run, stdout); err != nil {
			return err
		}
	}
	// The address accepts connections already. Said before the lanes start, it
	// stands above the first line of the built-in receiver.
	fmt.Fprintf(stdout, "Postrider is ready on %s\n%s", a.url(), greeting)
	lanesCtx, stopLanes := context.WithCancel(context.WithoutCancel(ctx))
	aliveCtx, leave := context.WithCancel(context.WithoutCancel(ctx))
	run.Go(func() error {
		defer leave()         // until then the claims are this node's
		defer a.relay.Close() // attempts in flight were answered by then
		return a.lanes.Run(lanesCtx)
	})
	if a.shared != nil {
		run.Go(func() error { return a.shared.Run(aliveCtx, a.self) })
		run.Go(func() error { return a.registry.Run(ctx) })
		run.Go(func() error { return a.tail.listen(ctx) })
	}
	run.Go(func() error { return a.relay.Run(ctx) })
	run.Go(func() error { return a.publisher.Run(ctx) })
	run.Go(func() error { return a.replayer.Run(ctx) })
	run.Go(func() error {
		defer stopLanes() // after the last request, so that what it accepted is known to the lanes
		return a.serveHTTP(ctx, a.listener, a.handler, api.PublishPath)
	})
	run.Go(func() error { return a.watchStore(ctx) })
	run.Go(func() error { return a.dropHistory(ctx) })
	if c.Pprof != "" {
		run.Go(func() error { return a.serveProfiles(ctx, c.Pprof) })
	}
	return run.Wait()
}

// gcPercent lets the heap grow further between collections than Go does by
// itself: what lives long here is small, and most of what is allocated dies with
// its request.
const gcPercent = 300

// tuneRuntime sets what the operator has not set by GOGC and GOMAXPROCS, and
// returns what sets it back. With the embedded store one processor more than
// there are runs Go code, since one is often in a system call that waits for the
// disk: until the runtime notices, which takes it about as long as the disk, a
// core would stand still. A limit of processor time is left to the runtime, which
// follows it.
func tuneRuntime(c *config.Serve) (undo func()) {
	percent := debug.SetGCPercent(gcPercent)
	if percent != 100 {
		debug.SetGCPercent(percent)
	}
	moreProcs := c.DatabaseURL == "" && runtime.GOMAXPROCS(0) == runtime.NumCPU()
	if moreProcs {
		runtime.GOMAXPROCS(runtime.NumCPU() + 1)
	}
	return func() {
		debug.SetGCPercent(percent)
		if moreProcs {
			runtime.SetDefaultGOMAXPROCS()
		}
	}
}

// takeStandardLog has what the standard library says by itself written to the
// server's own log, for who asks for details: net/http quotes there what
// receivers send unasked, which anyone can fill a log with. It returns what
// sets it back.
func takeStandardLog(logger *slog.Logger) (undo func()) {
	before, flags := log.Writer(), log.Flags()
	log.SetFlags(0)                                                              //nolint:forbidigo // it is taken, not used
	log.SetOutput(slog.NewLogLogger(logger.Handler(), slog.LevelDebug).Writer()) //nolint:forbidigo // as above
	return func() {
		log.SetFlags(flags)   //nolint:forbidigo // as above
		log.SetOutput(before) //nolint:forbidigo // as above
	}
}

// build opens and connects the parts. It starts nothing but the store's
// writer.
func build(ctx context.Context, c config.Serve, version string, stderr io.Writer) (_ *app, err error) {
	a := &app{config: c, logger: newLogger(c, stderr), tail: newTail()}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	key, err := a.unlock(ctx)
	if err != nil {
		return nil, err
	}
	if a.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", c.Listen); err != nil {
		return nil, fmt.Errorf("listen for the API: %w", err)
	}
	a.self = thisNode(version, a.listener.Addr().String())
	a.client = egress.New(egress.Options{
		Policy: egress.Policy{
			AllowCIDRs: a.allowedCIDRs(), AllowHosts: c.AllowHosts, AllowPorts: c.AllowPorts, NAT64Prefixes: c.NAT64Prefixes,
			HTTPSOnly: c.HTTPSOnly,
		},
		OwnListeners: a.ownAddresses(),
	})
	a.registry, err = registry.New(ctx, registry.Options{
		Store: a.store, Shared: a.registryShared(), Logger: a.logger, AdminKey: string(c.AdminKey), CheckURL: a.client.CheckURL,
		StrictCatalogue: c.StrictCatalogue, WebhooksPerTenant: c.WebhooksPerTenant, Created: a.greet,
		Changed: func(id postrider.ID) { a.lanes.Wake(id) }, //nolint:contextcheck // attempts outlive the start
	})
	if err != nil {
		return nil, err
	}
	a.relay = a.newRelay() //nolint:contextcheck // as above
	a.lanes = dispatch.New(dispatch.Options{
		Store: heard{a.store, a.tail}, Shared: a.lanesShared(), Webhooks: attended{a.registry, a.relay},
		Sender: outlet{a.client, a.relay}, Logger: a.logger, Brand: c.Brand, Version: version,
		Timeout: c.Timeout, RetrySchedule: c.RetrySchedule, MaxInFlight: c.MaxInFlight, Announce: a.announce,
	})
	a.publisher = publish.New(publish.Options{
		Webhooks: a.registry, Store: a.store, Lanes: a.lanes, Shared: a.shared != nil, PayloadLimit: c.PayloadLimit, StrictCatalogue: c.StrictCatalogue,
		Logger: a.logger,
	})
	a.replayer = publish.NewReplayer(publish.ReplayOptions{
		Store: a.store, Webhook: a.registry.Webhook, Wake: a.lanes.Wake, Shared: a.shared != nil, Logger: a.logger,
	})
	cursorKey, err := hkdf.Key(sha256.New, key, nil, "postrider cursors", 32)
	if err != nil {
		return nil, fmt.Errorf("derive the key of cursors: %w", err)
	}
	apiRoutes := api.New(api.Options{
		Keys: a.registry, Tenants: a.registry, Webhooks: a.registry, Catalogue: a.registry,
		Publisher: a.publisher, Replays: a.replayer, History: a.store, Recorded: a.store, Tail: a.tail, Links: a.store, Relay: a.relay,
		PublicURL: a.publicURL(), Logger: a.logger, Brand: c.Brand, Version: version,
		PayloadLimit: c.PayloadLimit, RequestRate: c.RequestRate, OperatorRate: c.OperatorRequestRate, CursorKey: [32]byte(cursorKey),
	})
	pages, err := a.withPortal(apiRoutes, key)
	if err != nil {
		return nil, err
	}
	a.handler = routed{api: apiRoutes, rest: a.withHealth(pages)}
	return a, nil
}

// close closes what is not closed by running, in the reverse order.
func (a *app) close() error {
	var errs []error
	if a.client != nil {
		a.client.Close()
	}
	if a.listener != nil {
		if err := a.listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	return errors.Join(errs...)
}

// greet pings a new webhook. A ping that cannot be stored is not worth failing
// the creation for.
func (a *app) greet(ctx context.Context, w *postrider.Webhook) {
	if !w.Sending() {
		return
	}
	if _, err := a.publisher.PingWebhook(ctx, w.Tenant, w.ID, nil); err != nil {
		a.logger.Error("a new webhook was not pinged", "webhook", w.ID, "error", err)
	}
}

// announce publishes what happened to a webhook to the others of its tenant.
func (a *app) announce(ctx context.Context, about *postrider.Webhook, eventType string, payload []byte) {
	if err := a.publisher.Announce(ctx, about, eventType, payload); err != nil {
		a.logger.Error("a system event was not published", "webhook", about.ID, "type", eventType, "error", err)
	}
}

// watchStore ends the server when the store can no longer be trusted: what is
// acknowledged after that might not be there after a restart. A database that
// is away is waited for.
func (a *app) watchStore(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-a.store.Failed():
		return fmt.Errorf("the store failed: %w", a.store.Ping(ctx))
	}
}

func (a *app) allowedCIDRs() []netip.Prefix {
	allowed := a.config.AllowCIDRs
	if a.config.Dev {
		allowed = append(allowed, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
	}
	return allowed
}

// url is where this machine reaches the API.
func (a *app) url() string {
	addr := a.listener.Addr().(*net.TCPAddr).AddrPort() //nolint:forcetypeassert // it is a TCP listener
	if addr.Addr().IsUnspecified() {
		addr = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), addr.Port())
	}
	return "http://" + addr.String()
}

// firstKeys makes an operator's key when there is none, and returns what to
// say about it.
func (a *app) firstKeys(ctx context.Context) (greeting string, err error) {
	if a.config.Dev {
		return "", nil
	}
	text, err := a.registry.CreateFirstKey(ctx, "first")
	if err != nil {
		return "", fmt.Errorf("make the first operator's key: %w", err)
	}
	if text == "" {
		return "", nil
	}
	return "The operator's API key, shown this once: " + text + "\n", nil
}

func newLogger(c config.Serve, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// shutdownWait is how long requests under way may take to end at a stop.
const shutdownWait = 10 * time.Second
