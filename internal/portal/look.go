package portal

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"strconv"
	"strings"
)

//go:embed assets
var assetFiles embed.FS

// look is what a brand changes: a stylesheet of a few colours.
type look struct {
	css  []byte
	etag string
}

// defaultAccent is used when the brand has no colour of its own.
const defaultAccent = "#4f46e5"

// The backgrounds that the accent stands on, of assets/portal.css.
var (
	lightSurface = rgb{0xff, 0xff, 0xff}
	darkSurface  = rgb{0x17, 0x18, 0x1c}
)

// newLook derives from the brand's colour those that text can be read in,
// whatever the brand chose: 4.5:1 at least (WCAG 2.2, 1.4.3) on both themes.
func newLook(o Options) look {
	accent, ok := parseColour(o.Accent)
	if !ok {
		accent, _ = parseColour(defaultAccent)
	}
	onAccent, fill := rgb{0xff, 0xff, 0xff}, accent
	if contrast(accent, onAccent) < 4.5 {
		if dark := (rgb{0x11, 0x12, 0x15}); contrast(accent, dark) >= 4.5 {
			onAccent = dark
		} else {
			fill = readable(accent, onAccent)
		}
	}
	css := fmt.Sprintf(":root {\n  --accent: %s;\n  --on-accent: %s;\n  --accent-text: light-dark(%s, %s);\n}\n",
		fill, onAccent, readable(accent, lightSurface), readable(accent, darkSurface))
	return look{css: []byte(css), etag: etagOf([]byte(css))}
}

type rgb [3]uint8

func (c rgb) String() string { return fmt.Sprintf("#%02x%02x%02x", c[0], c[1], c[2]) }

func parseColour(text string) (c rgb, ok bool) {
	digits, found := strings.CutPrefix(text, "#")
	if !found || len(digits) != 6 {
		return c, false
	}
	n, err := strconv.ParseUint(digits, 16, 32)
	return rgb{uint8(n >> 16), uint8(n >> 8), uint8(n)}, err == nil
}

// luminance is WCAG's relative luminance.
func (c rgb) luminance() float64 {
	linear := func(v uint8) float64 {
		s := float64(v) / 255
		if s <= 0.04045 {
			return s / 12.92
		}
		return math.Pow((s+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(c[0]) + 0.7152*linear(c[1]) + 0.0722*linear(c[2])
}

func contrast(a, b rgb) float64 {
	x, y := a.luminance(), b.luminance()
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// readable moves a colour away from its background until text in it can be
// read, with some room for the tinted surfaces near by.
func readable(c, on rgb) rgb {
	target := rgb{}
	if on.luminance() < 0.2 {
		target = rgb{0xff, 0xff, 0xff}
	}
	for step := range 101 {
		mixed := rgb{}
		for i := range mixed {
			mixed[i] = uint8(math.Round(float64(c[i]) + (float64(target[i])-float64(c[i]))*float64(step)/100))
		}
		if contrast(mixed, on) >= 5.5 {
			return mixed
		}
	}
	return target
}

func etagOf(content []byte) string {
	sum := sha256.Sum256(content)
	return `"` + hex.EncodeToString(sum[:8]) + `"`
}

func (p *Portal) serveLook(w http.ResponseWriter, r *http.Request) {
	p.serveStatic(w, r, "text/css; charset=utf-8", p.look.css, p.look.etag)
}

func (p *Portal) serveLogo(w http.ResponseWriter, r *http.Request) {
	if p.o.Logo == nil {
		http.NotFound(w, r)
		return
	}
	// An SVG that is opened by itself is a document: it may do nothing.
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
	p.serveStatic(w, r, p.o.LogoType, p.o.Logo, etagOf(p.o.Logo))
}

var assetTypes = map[string]string{
	"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "woff2": "font/woff2", "svg": "image/svg+xml",
}

// serveAsset serves what is compiled in, and nothing else.
func (p *Portal) serveAsset(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/portal/")
	content, err := fs.ReadFile(assetFiles, name)
	kind := assetTypes[name[strings.LastIndexByte(name, '.')+1:]]
	if err != nil || kind == "" {
		http.NotFound(w, r)
		return
	}
	p.serveStatic(w, r, kind, content, etagOf(content))
}

func (p *Portal) serveStatic(w http.ResponseWriter, r *http.Request, kind string, content []byte, etag string) {
	h := w.Header()
	h.Set("Cache-Control", "public, max-age=300, stale-while-revalidate=86400")
	h.Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(len(content)))
	w.Write(content) //nolint:errcheck,gosec // the program's own file; a visitor who is gone need not be told
}
