package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"postrider/internal/ingress"
)

// newServer has the limits of every server of ours: a client that is slow or
// large on purpose holds little, and not for long.
func newServer(handler http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}

// serveHTTP serves until the context ends. Plain requests to the paths are read
// and answered without net/http.
func (a *app) serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler, paths ...string) error {
	server := ingress.New(newServer(handler, a.logger), paths...)
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownWait)
		defer cancel()
		stopped <- server.Shutdown(wait)
	})
	err := server.Serve(limitConnections(listener, a.config.ConnectionsPerClient, a.logger))
	if stop() {
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	}
	return errors.Join(<-stopped, server.Close())
}

// routed sends what is for the API there at once: that is nearly every request,
// and the way through the patterns of everything else is longer.
type routed struct{ api, rest http.Handler }

// ServeHTTP answers one request.
func (h routed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/v0/") {
		h.api.ServeHTTP(w, r)
	} else {
		h.rest.ServeHTTP(w, r)
	}
}

// withHealth adds the routes for load balancers and supervisors: /healthz says
// that the process lives, /readyz that it can accept events.
func (a *app) withHealth(next http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", next)
	answer := func(w http.ResponseWriter, code int, text string) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(code)
		fmt.Fprintln(w, text)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := a.store.Ping(r.Context()); err != nil {
			a.logger.Warn("not ready", "error", err)
			answer(w, http.StatusServiceUnavailable, "the store is not available")
			return
		}
		answer(w, http.StatusOK, "ready")
	})
	return mux
}

func (a *app) serveProfiles(ctx context.Context, address string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for profiles: %w", err)
	}
	a.client.AddOwnListener(listener.Addr().(*net.TCPAddr).AddrPort()) //nolint:forcetypeassert // it is a TCP listener
	return a.serveHTTP(ctx, listener, mux)
}
