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
	"slices"
	"time"

	"postrider"
	"postrider/internal/config"
	"postrider/internal/portal"
)

// maxLogo bounds what every page load carries.
const maxLogo = 256 << 10

// withPortal adds the web application and the documentation beside the API.
func (a *app) withPortal(next http.Handler, key []byte) (http.Handler, error) {
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
		Nodes: a.nodes, Lanes: lanes{a.lanes}, Logger: a.logger, Brand: c.Brand, Accent: c.PortalAccent,
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

// thisNode is this process as other nodes see it.
func thisNode(version, address string) postrider.Node {
	name, err := os.Hostname()
	if err != nil {
		name = "no name" // nothing hangs on it
	}
	return postrider.Node{Name: name, Version: version, Address: address, StartedAt: time.Now(), Self: true}
}

// nodes tells of the nodes that are alive; of this one alone where the store
// has no others, or does not answer.
func (a *app) nodes(ctx context.Context) portal.Nodes {
	if a.shared == nil {
		return portal.Nodes{Store: "SQLite", Available: a.store.Ping(ctx) == nil, List: []postrider.Node{a.self}}
	}
	told := portal.Nodes{Store: "PostgreSQL"}
	list, err := a.shared.Alive(ctx)
	if err == nil {
		err = a.store.Ping(ctx)
	}
	told.Available = err == nil
	if err != nil {
		a.logger.Warn("the nodes are not known", "error", err)
	}
	if !slices.ContainsFunc(list, func(n postrider.Node) bool { return n.Self }) {
		list = append(list, a.self) // it serves the page, so it is alive
	}
	told.List = list
	return told
}
