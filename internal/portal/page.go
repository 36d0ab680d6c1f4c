package portal

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"postrider"
)

//go:embed templates/*.html
var templateFiles embed.FS

// A page is what every template gets.
type page struct {
	Title    string
	Section  string // which entry of the menu is lit
	Brand    string
	HasLogo  bool
	Signed   bool
	Operator bool   // the visitor is the operator
	Tenant   string // whose pages these are; empty: the operator's own, or the documentation
	Base     string
	Path     string
	Docs     bool
	Flash    *flash
	Now      time.Time
	Data     any
}

// pages are the parsed templates: for each file its own set, since each
// defines "content".
type pages map[string]*template.Template

func loadPages(p *Portal) pages {
	funcs := p.funcs()
	shared := template.New("").Funcs(funcs)
	template.Must(shared.ParseFS(templateFiles, "templates/layout.html", "templates/parts.html"))
	files, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		panic("portal: " + err.Error())
	}
	list := pages{}
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name != "layout" && name != "parts" {
			list[name] = template.Must(template.Must(shared.Clone()).ParseFS(templateFiles, file))
		}
	}
	return list
}

// render answers with a page, or with a part of it when one is named.
func (p *Portal) render(v *visit, status int, name, part, title string, data any) {
	header := v.w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Add("Vary", "HX-Request")
	text, err := p.execute(v, name, part, title, data)
	if err != nil {
		p.o.Logger.ErrorContext(v.r.Context(), "page not rendered", "page", name, "error", err)
		http.Error(v.w, "Something broke on this side. It is logged; try again later.", http.StatusInternalServerError)
		return
	}
	v.w.WriteHeader(status)
	v.w.Write(text) //nolint:errcheck // the visitor is gone: there is nobody to tell
}

// execute renders into memory, so that an error never leaves half a page.
func (p *Portal) execute(v *visit, name, part, title string, data any) ([]byte, error) {
	set, found := p.pages[name]
	if !found {
		return nil, fmt.Errorf("no template %q", name)
	}
	at := v.r.URL.Path
	all := page{
		Title: title, Brand: p.o.Brand, HasLogo: p.o.Logo != nil, Signed: v.signed, Operator: v.signed && v.session.Operator(),
		Tenant: v.tenant, Base: v.base, Path: at, Docs: strings.HasPrefix(at, "/docs"), Now: time.Now(), Data: data,
		Section: sectionOf(at, v.base),
	}
	if part == "" {
		part = "layout"
		if !all.Docs {
			all.Flash = p.said(v)
		}
	}
	var text bytes.Buffer
	if err := set.ExecuteTemplate(&text, part, all); err != nil {
		return nil, fmt.Errorf("execute a template: %w", err)
	}
	return text.Bytes(), nil
}

// show is render for a whole page without a fault.
func (p *Portal) show(v *visit, name, title string, data any) error {
	p.render(v, http.StatusOK, name, "", title, data)
	return nil
}

// sectionOf is the first part of a path below its base.
func sectionOf(at, base string) string {
	rest, found := strings.CutPrefix(at, base)
	if base == "" {
		rest, found = strings.CutPrefix(at, "/docs")
	}
	if !found {
		return ""
	}
	section, _, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
	return section
}

func (p *Portal) funcs() template.FuncMap {
	return template.FuncMap{
		"icon": icon, "ago": ago, "when": when, "clock": clock, "duration": duration, "size": size, "visible": visible,
		"percent": percent, "number": number, "header": p.headerName, "shortID": shortID, "host": hostOf,
		"webhookBase": func(base string, id postrider.ID) string { return base + "/webhooks/" + id.String() },
		"list":        func(items ...any) []any { return items },
		"lower":       strings.ToLower, "join": strings.Join, "plural": plural, "initial": initial, "default": defaultText,
	}
}

// headerName is a header of ours, under the running brand.
func (p *Portal) headerName(name string) string { return "X-" + p.o.Brand + "-" + name }

func initial(s string) string {
	for _, r := range s {
		return strings.ToUpper(string(r))
	}
	return ""
}

func defaultText(fallback, s string) string {
	if s == "" {
		return fallback
	}
	return s
}
