package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"postrider/internal/config"
)

// A problem is why a server refused: its RFC 9457 document.
type problem struct {
	Type   string `json:"type"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
	Errors []struct {
		Field   string `json:"field"`
		Message string `json:"message"`
	} `json:"errors"`

	server string
	wait   string // the server's Retry-After
	keyed  bool   // a key was sent
}

func (p *problem) Error() string { return plain(p.Detail) }

// hints are the next step after a refusal, by its code.
var hints = map[string]string{
	"operator_only":          "this takes the operator's key; the one given is a partner's",
	"other_tenant":           "leave --tenant out: this key is one partner's",
	"unknown_tenant":         "postrider tenants list shows those that there are",
	"unknown_event":          "postrider events list shows those that there are",
	"webhook_inactive":       "postrider webhooks get shows why; postrider webhooks update ID --active switches it on",
	"no_listener":            "postrider listen --forward URL, in another terminal",
	"webhook_deleted":        "publish the event again: postrider events publish",
	"conflicting_fields":     "give one of the two",
	"event_id_taken":         "leave --id out, and one is made",
	"tenant_exists":          "postrider tenants get shows it",
	"blocked_address":        "a server started with --dev or --allow-cidrs 127.0.0.0/8 sends to this machine",
	"payload_too_large":      "the server's setting payload_limit says how large a payload may be",
	"body_too_large":         "the server's setting payload_limit says how large a payload may be; send a batch in parts",
	"internal":               "the server's log says more",
	"store_unavailable":      "postrider doctor looks at the server's state",
	"no_such_route":          "the server may be older than this program: compare postrider version on both",
	"unknown_parameter":      "the server may be older than this program: compare postrider version on both",
	"unknown_field":          "the server may be older than this program: compare postrider version on both",
	"too_many_events":        "send them in parts of 1000",
	"idempotency_key_reused": "take a new key for other events",
}

// hint is the next step, or where the code is explained.
func (p *problem) hint() string {
	switch {
	case p.Code == "unauthenticated" && p.keyed:
		return fmt.Sprintf("%s does not know this key: is it another server's, or revoked?", p.server)
	case p.Code == "unauthenticated":
		return "give one with --key, POSTRIDER_KEY or a profile (postrider profile set)"
	case p.wait != "":
		return "try again in " + p.wait + " s"
	case hints[p.Code] != "":
		return hints[p.Code]
	case strings.HasPrefix(p.Type, "/"):
		return "see " + p.server + p.Type
	}
	return ""
}

// reportProblem tells each fault by the flag or argument that it came from.
func (p *process) reportProblem(refusal *problem) {
	if len(refusal.Errors) < 2 {
		text := refusal.Error()
		if len(refusal.Errors) == 1 {
			text = p.place(refusal.Errors[0].Field) + ": " + text
		}
		p.report(text, refusal.hint())
		return
	}
	for i, fault := range refusal.Errors {
		hint := ""
		if i == len(refusal.Errors)-1 {
			hint = refusal.hint()
		}
		p.report(p.place(fault.Field)+": "+plain(fault.Message), hint)
	}
}

// place names a field of the API as the command line does, where it has a flag
// or an argument for it.
func (p *process) place(field string) string {
	end := strings.IndexAny(field, ".[")
	if end < 0 {
		end = len(field)
	}
	base, rest := strings.ReplaceAll(field[:end], "_", "-"), plain(field[end:])
	if p.selected == nil {
		return plain(field)
	}
	for _, name := range []string{base, strings.TrimSuffix(base, "-seconds"), strings.TrimSuffix(base, "s")} {
		for _, flag := range p.selected.Flags {
			if flag.Name == name {
				return "--" + name + rest
			}
		}
		for _, argument := range p.selected.Positional {
			if argument.Name == name {
				return "<" + name + ">" + rest
			}
		}
	}
	return plain(field)
}

// An unreachable server did not answer.
type unreachable struct {
	server string
	cause  error
}

func (u *unreachable) Error() string { return u.server + " does not answer: " + u.cause.Error() }
func (u *unreachable) Unwrap() error { return u.cause }

func (u *unreachable) hint() string {
	var (
		name      *net.DNSError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
	)
	switch {
	case errors.Is(u.cause, syscall.ECONNREFUSED):
		return "is it running? postrider serve starts a server; --server or POSTRIDER_SERVER names another"
	case errors.As(u.cause, &name):
		return "the name has no address here: is --server or POSTRIDER_SERVER written right?"
	case errors.As(u.cause, &authority):
		return "this machine does not trust its certificate; SSL_CERT_FILE names a file with another authority's"
	case errors.As(u.cause, &hostname):
		return "its certificate is for another name"
	case strings.Contains(u.cause.Error(), "HTTP response to HTTPS client"):
		return "it speaks http: write --server with http://"
	case errors.Is(u.cause, context.DeadlineExceeded):
		return "it took longer than a minute; postrider doctor looks at its state"
	}
	return "postrider doctor looks at the server and the way to it"
}

// A stranger answers, but not as a Postrider server does.
type stranger struct{ server, said string }

func (s *stranger) Error() string {
	return s.server + " does not answer like a Postrider server: " + s.said
}

// An advised error brings its own next step.
type advised struct {
	text, hint string
}

func (a *advised) Error() string { return a.text }

// misuse is the error of a flag or argument: a usage error.
func misuse(source, detail, hint string) error {
	return config.Faults{{Source: source, Detail: detail, Hint: hint}}
}

// reportRemote tells the errors of the commands that speak to a server, and
// whether the error was one.
func (p *process) reportRemote(err error) bool {
	var (
		refusal *problem
		silent  *unreachable
		other   *stranger
		told    *advised
	)
	switch {
	case errors.As(err, &refusal):
		p.reportProblem(refusal)
	case errors.As(err, &silent):
		p.report(silent.Error(), silent.hint())
	case errors.As(err, &other):
		p.report(other.Error(), "does --server or POSTRIDER_SERVER name the right one?")
	case errors.As(err, &told):
		p.report(told.text, told.hint)
	default:
		return false
	}
	return true
}
