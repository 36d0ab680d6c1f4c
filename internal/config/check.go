package config

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"postrider"
)

// Limits of what can be set.
const (
	minAdminKey     = 16
	maxAdminKey     = 256
	minPayloadLimit = 1 << 10
	maxPayloadLimit = 64 << 20
	maxMaxInFlight  = 1024
	minRelayHold    = time.Second
	maxRelayHold    = 30 * 24 * time.Hour
	minRelayPing    = 100 * time.Millisecond
	maxRelayPing    = time.Minute
	minRetention    = time.Hour
	minRequestRate  = 0.01
	maxRequestRate  = 1_000_000
)

// nat64Bits are the lengths of the prefixes of RFC 6052.
var nat64Bits = []int{32, 40, 48, 56, 64, 96}

var (
	logLevels  = []string{"debug", "info", "warn", "error"}
	logFormats = []string{"text", "json"}
)

// Check reports everything that is wrong with the settings, as Faults.
func (s *Serve) Check() error { return s.faults().err() }

func (s *Serve) faults() (faults Faults) {
	wrong := func(key, hint, format string, args ...any) {
		faults = append(faults, Fault{Key: key, Hint: hint, Detail: fmt.Sprintf(format, args...)})
	}
	if !isAddress(s.Listen) {
		wrong("listen", "127.0.0.1:8080 is this machine only, :8080 is all its addresses", "%q is no address of the form host:port", s.Listen)
	}
	if s.DataDir == "" {
		wrong("data_dir", "", "names no directory")
	}
	if s.AdminKey != "" && !isAPIKey(string(s.AdminKey)) {
		wrong("admin_key", "openssl rand -hex 32 makes one", "is not %d to %d visible ASCII characters", minAdminKey, maxAdminKey)
	}
	if key, err := base64.StdEncoding.DecodeString(string(s.EncryptionKey)); s.EncryptionKey != "" && (err != nil || len(key) != 32) {
		wrong("encryption_key", "openssl rand -base64 32 makes one", "is not 32 bytes in base64")
	}
	if s.DatabaseURL != "" && !isDatabaseURL(string(s.DatabaseURL)) {
		wrong("database_url", "write postgres://user:password@host:5432/database", "is no URL of a PostgreSQL database")
	}
	if s.DatabaseURL != "" && s.EncryptionKey == "" && !s.Dev {
		wrong("encryption_key", "openssl rand -base64 32 makes one; give every node the same", "is required with a database_url")
	}
	for _, host := range s.AllowHosts {
		switch _, err := netip.ParseAddr(host); {
		case err == nil:
			wrong("allow_hosts", "addresses are opened with allow_cidrs", "%q is an address", host)
		case !isHostPattern(host):
			wrong("allow_hosts", "write hooks.example.internal, or *.example.internal for all below it", "%q is no host name", host)
		}
	}
	for _, prefix := range s.NAT64Prefixes {
		if !prefix.Addr().Is6() || prefix.Addr().Is4In6() || !slices.Contains(nat64Bits, prefix.Bits()) {
			wrong("nat64_prefixes", "RFC 6052 has prefixes of 32, 40, 48, 56, 64 and 96 bits", "%q is no prefix of IPv6 that can hold an IPv4 address", prefix)
		}
	}
	if !brandForm.MatchString(s.Brand) {
		wrong("brand", "", "%q is not 1 to 40 letters, digits and inner dashes", s.Brand)
	}
	if s.PayloadLimit < minPayloadLimit || s.PayloadLimit > maxPayloadLimit {
		wrong("payload_limit", "", "%d is not between %d (1 KiB) and %d (64 MiB)", s.PayloadLimit, minPayloadLimit, maxPayloadLimit)
	}
	if s.Timeout < postrider.MinTimeout || s.Timeout > postrider.MaxTimeout {
		wrong("timeout", "", "%v is not between %v and %v", s.Timeout, postrider.MinTimeout, postrider.MaxTimeout)
	}
	if postrider.CheckRetrySchedule("retry_schedule", s.RetrySchedule) != nil {
		wrong("retry_schedule", "", "is not at most %d waits of 0s to %.0fh each", postrider.MaxRetries, postrider.MaxRetryWait.Hours())
	}
	if s.MaxInFlight < 1 || s.MaxInFlight > maxMaxInFlight {
		wrong("max_in_flight", "", "%d is not between 1 and %d", s.MaxInFlight, maxMaxInFlight)
	}
	if s.Retention != 0 && s.Retention < minRetention {
		wrong("retention", "0 keeps everything for ever", "%v is less than %v", s.Retention, minRetention)
	}
	if !isRequestRate(s.RequestRate) {
		wrong("request_rate", "0 sets no limit", "%v is not between %v and %d", s.RequestRate, minRequestRate, maxRequestRate)
	}
	if !isRequestRate(s.OperatorRequestRate) {
		wrong("operator_request_rate", "0 sets no limit", "%v is not between %v and %d", s.OperatorRequestRate, minRequestRate, maxRequestRate)
	}
	if s.WebhooksPerTenant < 0 {
		wrong("webhooks_per_tenant", "0 sets no limit", "%d is negative", s.WebhooksPerTenant)
	}
	if s.ConnectionsPerClient < 0 {
		wrong("connections_per_client", "0 sets no limit", "%d is negative", s.ConnectionsPerClient)
	}
	if s.RelayHold < minRelayHold || s.RelayHold > maxRelayHold {
		wrong("relay_hold", "", "%v is not between %v and %.0fh", s.RelayHold, minRelayHold, maxRelayHold.Hours())
	}
	if s.RelayPing < minRelayPing || s.RelayPing > maxRelayPing {
		wrong("relay_ping", "", "%v is not between %v and %v", s.RelayPing, minRelayPing, maxRelayPing)
	}
	if s.PublicURL != "" && !isOrigin(s.PublicURL) {
		wrong("public_url", "write https://hooks.example.com, without a path", "%q is no http or https origin", s.PublicURL)
	}
	if s.PortalAccent != "" && !colourForm.MatchString(s.PortalAccent) {
		wrong("portal_accent", "write it as #4f46e5", "%q is no colour of the form #rrggbb", s.PortalAccent)
	}
	if s.PortalLogo != "" && LogoType(s.PortalLogo) == "" {
		wrong("portal_logo", "", "%q ends in none of .svg, .png and .webp", s.PortalLogo)
	}
	for _, ancestor := range s.PortalFrameAncestors {
		if !isOrigin(ancestor) {
			wrong("portal_frame_ancestors", "write https://partners.example.com, without a path", "%q is no http or https origin", ancestor)
		}
	}
	if !slices.Contains(logLevels, s.LogLevel) {
		wrong("log_level", "", "%q is none of %s", s.LogLevel, strings.Join(logLevels, ", "))
	}
	if !slices.Contains(logFormats, s.LogFormat) {
		wrong("log_format", "", "%q is none of %s", s.LogFormat, strings.Join(logFormats, ", "))
	}
	if s.Pprof != "" && !isLoopback(s.Pprof) {
		// Profiles show memory, and memory holds secrets.
		wrong("pprof", "", "%q is no address of this machine's loopback, such as 127.0.0.1:6060", s.Pprof)
	}
	return faults
}

// isRequestRate takes 0, which sets no limit.
func isRequestRate(n float64) bool { return n == 0 || n >= minRequestRate && n <= maxRequestRate }

// isAddress takes what can be listened on. Whether the host is this machine's
// only the attempt can tell.
func isAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || strings.ContainsAny(host, " /\t") {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// isDatabaseURL takes what names a database. What else stands in it, the
// database's driver judges.
func isDatabaseURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql") && len(u.Path) > 1
}

func isLoopback(s string) bool {
	host, _, err := net.SplitHostPort(s)
	if err != nil || !isAddress(s) {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// isOrigin takes a scheme and a host with or without a port. Such text can
// stand in a header: it has neither spaces nor separators.
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Scheme+"://"+u.Host != s {
		return false
	}
	if port := u.Port(); port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false
		}
	}
	_, err = netip.ParseAddr(u.Hostname())
	return err == nil || isHostPattern(u.Hostname())
}

var colourForm = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)

// LogoType is the media type of a logo by its file's name; empty for what is
// none.
func LogoType(name string) string {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".svg":
		return "image/svg+xml"
	case ".png":
		return "image/png"
	case ".webp":
		return "image/webp"
	}
	return ""
}

// isAPIKey takes what can travel in a header's value.
func isAPIKey(s string) bool {
	return len(s) >= minAdminKey && len(s) <= maxAdminKey &&
		!strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// brandForm can stand inside a header's name and at the start of a User-Agent.
var brandForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,38}[A-Za-z0-9])?$`)

var hostForm = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?)*$`)

// isHostPattern takes a host name, or *. before one.
func isHostPattern(s string) bool { return len(s) <= 253 && hostForm.MatchString(s) }
