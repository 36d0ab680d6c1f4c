package app

import (
	"cmp"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"postrider/internal/config"
	"postrider/internal/portal"
)

// maxLogo bounds what every page load carries.
const maxLogo = 256 << 10

// withPortal adds the web application and the documentation beside the API.
func (a *app) withPortal(next http.Handler, key []byte, version string) (http.Handler, error) {
	c := &a.config
	flashKey, err := hkdf.Key(sha256.New, key, nil, "postrider portal", 32)
	if err != nil {
		return nil, fmt.Errorf("derive the key of the portal: %w", err)
	}
	logo, err := readLogo(c.PortalLogo)
	if err != nil {
		return nil, err
	}
	o := portal.Options{
		Keys: a.registry, Tenants: a.registry, Webhooks: a.registry, Catalogue: a.registry, Publisher: a.publisher,
		History: a.store, Counters: a.store, Sessions: a.store, Tail: a.tail, CheckURL: a.client.CheckURL,
		Nodes: a.nodes(version), Lanes: lanes{a.lanes}, Logger: a.logger, Brand: c.Brand, Accent: c.PortalAccent,
		Logo: logo, LogoType: config.LogoType(c.PortalLogo), FrameAncestors: c.PortalFrameAncestors,
		PublicURL: a.publicURL(), Key: [32]byte(flashKey), RetrySchedule: c.RetrySchedule, Timeout: c.Timeout,
	}
	pages := portal.New(o)
	mux := http.NewServeMux()
	mux.Handle("/", next)
	for _, pattern := range []string{"/portal", "/portal/", "/docs", "/docs/"} {
		mux.Handle(pattern, pages)
	}
	for _, pattern := range []string{"/docs/api", "/docs/api.css"} {
		mux.Handle(pattern, next)
	}
	mux.Handle("GET /{$}", http.RedirectHandler("/portal/", http.StatusSeeOther))
	return mux, nil
}

// publicURL is where browsers reach the server, as far as is known.
func (a *app) publicURL() string { return cmp.Or(a.config.PublicURL, a.url()) }

func readLogo(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	logo, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the portal's logo: %w", err)
	}
	if len(logo) > maxLogo {
		return nil, errors.New("the portal's logo is larger than 256 KiB")
	}
	return logo, nil
}

// nodes tells of this process.
func (a *app) nodes(version string) func(context.Context) []portal.Node {
	started := time.Now()
	name, err := os.Hostname()
	if err != nil {
		name = "this node"
	}
	return func(ctx context.Context) []portal.Node {
		kind := "SQLite"
		if a.shared != nil {
			kind = fmt.Sprintf("PostgreSQL, shared by %d", a.shared.Nodes())
		}
		err := a.store.Ping(ctx)
		node := portal.Node{
			Name: name, Version: version, Address: strings.TrimPrefix(a.url(), "http://"), StartedAt: started,
			Store: kind, Healthy: err == nil,
		}
		if err != nil {
			node.Store = kind + ", not available"
		}
		return []portal.Node{node}
	}
}
