package portal

import "html/template"

// icons are drawn with strokes in a square of 24 by 24, in the colour of the
// text around them.
var icons = map[string]string{
	"overview":  `<path d="M4 13h6V4H4zM14 20h6v-9h-6zM4 20h6v-3H4zM14 7h6V4h-6z"/>`,
	"webhooks":  `<path d="M10 13a5 5 0 0 0 7.5.5l3-3a5 5 0 0 0-7-7l-1.7 1.7"/><path d="M14 11a5 5 0 0 0-7.5-.5l-3 3a5 5 0 0 0 7 7l1.7-1.7"/>`,
	"logs":      `<path d="M8 6h13M8 12h13M8 18h13M3.5 6h.01M3.5 12h.01M3.5 18h.01"/>`,
	"catalogue": `<path d="M4 5a2 2 0 0 1 2-2h14v18H6a2 2 0 0 1-2-2z"/><path d="M4 19a2 2 0 0 1 2-2h14M9 7h7"/>`,
	"debugger":  `<path d="M12 3 4 6v6c0 5 3.4 7.7 8 9 4.6-1.3 8-4 8-9V6z"/><path d="m9 12 2 2 4-4"/>`,
	"docs":      `<path d="M14 3H6a2 2 0 0 0-2 2v14a2 2 0 0 0 2 2h12a2 2 0 0 0 2-2V9z"/><path d="M14 3v6h6M8 13h8M8 17h5"/>`,
	"tenants":   `<path d="M16 21v-2a4 4 0 0 0-4-4H6a4 4 0 0 0-4 4v2"/><circle cx="9" cy="7" r="4"/><path d="M22 21v-2a4 4 0 0 0-3-3.9M16 3.1a4 4 0 0 1 0 7.8"/>`,
	"keys":      `<circle cx="7.5" cy="15.5" r="4.5"/><path d="m21 2-10.2 10.2M15.5 7.5l3 3L22 7l-3-3"/>`,
	"nodes":     `<rect x="3" y="3" width="18" height="7" rx="2"/><rect x="3" y="14" width="18" height="7" rx="2"/><path d="M7 6.5h.01M7 17.5h.01"/>`,
	"theme":     `<circle cx="12" cy="12" r="9"/><path d="M12 3v18a9 9 0 0 0 0-18z" fill="currentColor"/>`,
	"out":       `<path d="M9 21H5a2 2 0 0 1-2-2V5a2 2 0 0 1 2-2h4M16 17l5-5-5-5M21 12H9"/>`,
	"copy":      `<rect x="9" y="9" width="12" height="12" rx="2"/><path d="M5 15H4a2 2 0 0 1-2-2V4a2 2 0 0 1 2-2h9a2 2 0 0 1 2 2v1"/>`,
	"plus":      `<path d="M12 5v14M5 12h14"/>`,
	"send":      `<path d="m22 2-7 20-4-9-9-4z"/><path d="M22 2 11 13"/>`,
	"again":     `<path d="M3 12a9 9 0 1 0 3-6.7L3 8"/><path d="M3 3v5h5"/>`,
	"edit":      `<path d="M12 20h9M16.5 3.5a2.1 2.1 0 0 1 3 3L7 19l-4 1 1-4z"/>`,
	"pause":     `<path d="M7 4h3v16H7zM14 4h3v16h-3z"/>`,
	"play":      `<path d="m6 4 14 8-14 8z"/>`,
	"trash":     `<path d="M3 6h18M8 6V4a1 1 0 0 1 1-1h6a1 1 0 0 1 1 1v2M19 6l-1 14a1 1 0 0 1-1 1H7a1 1 0 0 1-1-1L5 6M10 11v6M14 11v6"/>`,
	"ok":        `<circle cx="12" cy="12" r="9"/><path d="m8.5 12.2 2.4 2.4 4.6-5"/>`,
	"bad":       `<circle cx="12" cy="12" r="9"/><path d="m15 9-6 6M9 9l6 6"/>`,
	"warn":      `<path d="M12 3 2.5 20h19z"/><path d="M12 10v4M12 17.2h.01"/>`,
	"info":      `<circle cx="12" cy="12" r="9"/><path d="M12 11v5M12 8h.01"/>`,
	"menu":      `<path d="M4 6h16M4 12h16M4 18h16"/>`,
	"next":      `<path d="m9 6 6 6-6 6"/>`,
	"back":      `<path d="m15 6-6 6 6 6"/>`,
	"lock":      `<rect x="4" y="11" width="16" height="10" rx="2"/><path d="M8 11V7a4 4 0 0 1 8 0v4"/>`,
	"clock":     `<circle cx="12" cy="12" r="9"/><path d="M12 7v5l3 2"/>`,
	"download":  `<path d="M12 3v12M7 11l5 5 5-5M4 21h16"/>`,
}

// icon is decoration: what it stands beside says the same in words.
func icon(name string) template.HTML {
	return template.HTML(`<svg class="icon" viewBox="0 0 24 24" width="16" height="16" fill="none" stroke="currentColor" ` + //nolint:gosec // our own text
		`stroke-width="2" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">` + icons[name] + `</svg>`)
}
