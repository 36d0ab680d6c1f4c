package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"postrider"
	"postrider/internal/config"
	"postrider/signature"
)

type doctor struct {
	config.Remote

	Config  string `env:"POSTRIDER_CONFIG" placeholder:"FILE" help:"The server's settings file."`
	DataDir string `placeholder:"DIR" help:"The server's data directory, when it is not that of the settings."`
	JSON    bool   `help:"Print a JSON object for each check."`
}

// Help are the examples of doctor --help.
func (*doctor) Help() string {
	return `It looks at the settings and the data directory or the database, at the server, its clock and the key, and at the
names that webhooks point to, and says what to do. It changes nothing. The exit code is 1 when something is wrong.

Examples:

    postrider doctor
    postrider doctor --config postrider.yaml --server https://hooks.example.com --json`
}

// A finding is the result of one check.
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"` // ok, warn, fail or skip
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

// An examination collects findings, and shows each as soon as it is there.
type examination struct {
	p      *process
	json   bool
	failed bool
}

func (x *examination) note(check, status, detail, hint string) {
	x.failed = x.failed || status == "fail"
	if x.json {
		x.p.stdout.Write(encoded(finding{check, status, detail, hint})) //nolint:errcheck // nobody is left to tell
		return
	}
	on := x.p.screen()
	style := map[string]string{"ok": good, "warn": warning, "fail": bad, "skip": faint}[status]
	on.row([]int{4, 8}, []cell{{status, style}, {check, bold}, {plain(detail), unstyled}})
	if hint != "" {
		on.row([]int{4, 8}, []cell{{}, {}, {plain(hint), faint}})
	}
}

// Run examines.
func (d *doctor) Run(ctx context.Context, p *process) error {
	target, err := d.Resolve()
	if err != nil {
		return err
	}
	x := &examination{p: p, json: d.JSON}
	switch dir, database := d.settings(x); {
	case database != "":
		p.commands.ExamineDatabase(ctx, database, x.note)
	case dir != "":
		examineData(x, dir)
	}
	c := newClient(target)
	c.http.Timeout = 10 * time.Second
	if examineServer(ctx, x, c) {
		examineWebhooks(ctx, x, c, c.examineKey(ctx, x))
	}
	if x.failed {
		return errReported
	}
	return nil
}

// settings checks what serve would start with here, and gives the data
// directory and the database's URL; empty where the settings do not say.
func (d *doctor) settings(x *examination) (dir string, database postrider.Secret) {
	var serve struct {
		Serve config.Flags `cmd:""`
	}
	parser := kong.Must(&serve, kong.NoDefaultHelp(), config.Options())
	args := []string{"serve"}
	if d.Config != "" {
		args = append(args, "--config="+d.Config)
	}
	if d.DataDir != "" {
		args = append(args, "--data-dir="+d.DataDir)
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		x.note("settings", "fail", err.Error(), "")
		return d.DataDir, ""
	}
	settings, err := serve.Serve.Load(parsed)
	var faults config.Faults
	switch {
	case err == nil:
		x.note("settings", "ok", "serve can start with them", "")
		return settings.DataDir, settings.DatabaseURL
	case !errors.As(err, &faults):
		x.note("settings", "fail", err.Error(), "")
	}
	for _, fault := range faults {
		x.note("settings", "fail", fault.Error(), fault.Hint)
	}
	return d.DataDir, ""
}

// examineData looks at the data directory and at who has it.
func examineData(x *examination, dir string) {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		x.note("data", "skip", dir+" is not there", "serve makes it at its first start; --data-dir names another")
		return
	case err != nil:
		x.note("data", "fail", err.Error(), "run it as the user that the server runs as")
		return
	case !info.IsDir():
		x.note("data", "fail", dir+" is no directory", "choose one with --data-dir")
		return
	case info.Mode().Perm()&0o007 != 0:
		x.note("data", "warn", "every user of this machine can look into "+dir, "chmod 700 "+dir)
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err == nil {
		if free := disk.Bavail * uint64(disk.Bsize); free < 1<<30 {
			x.note("disk", "warn", fmt.Sprintf("%d MiB are free for %s", free>>20, dir), "make room: a full disk takes no events")
		} else {
			x.note("disk", "ok", fmt.Sprintf("%d GiB are free", free>>30), "")
		}
	}
	lock, err := os.OpenFile(filepath.Join(dir, "postrider.lock"), os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		x.note("data", "ok", "no server has used "+dir+" yet", "")
		return
	case err != nil:
		x.note("data", "fail", err.Error(), "run it as the user that the server runs as")
		return
	}
	defer lock.Close() //nolint:errcheck // nothing was written
	// The lock is given back at once; only a server that starts in this very
	// moment could be turned away by it.
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); err == nil {
		x.note("data", "ok", "no server uses "+dir+" now", "")
		return
	}
	x.note("data", "ok", "a running server uses "+dir, "")
}

// examineServer reports whether the server answers as one.
func examineServer(ctx context.Context, x *examination, c *client) bool {
	if u, err := url.Parse(c.Server); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
		x.note("server", "warn", c.Server+" is spoken to without TLS: keys can be read on the way", "put it behind a proxy with TLS, and write https://")
	}
	started := time.Now()
	got, err := c.do(ctx, request{path: "/healthz"})
	took := time.Since(started)
	if silent, ok := errors.AsType[*unreachable](err); ok {
		x.note("server", "fail", silent.Error(), silent.hint())
		return false
	}
	if err != nil || got.status != http.StatusOK {
		x.note("server", "fail", c.Server+" does not answer like a Postrider server", "does --server or POSTRIDER_SERVER name the right one?")
		return false
	}
	x.note("server", "ok", fmt.Sprintf("%s answers in %v", c.Server, took.Round(time.Millisecond)), "")
	examineClock(x, got.header.Get("Date"), started, took)
	switch got, err = c.do(ctx, request{path: "/readyz"}); {
	case err != nil:
		x.note("ready", "fail", err.Error(), "")
		return false
	case got.status != http.StatusOK:
		x.note("ready", "fail", "it cannot accept events: "+strings.TrimSpace(string(got.body)), "the server's log says why")
		return false
	}
	x.note("ready", "ok", "it accepts events", "")
	return true
}

// examineClock compares the server's clock with this machine's. The Date
// header has whole seconds.
func examineClock(x *examination, date string, asked time.Time, took time.Duration) {
	server, err := http.ParseTime(date)
	if err != nil {
		x.note("clock", "skip", "the server's answer has no date", "")
		return
	}
	skew := server.Add(500 * time.Millisecond).Sub(asked.Add(took / 2)).Round(time.Second)
	detail := fmt.Sprintf("the server's clock and this machine's are %v apart", skew.Abs())
	switch {
	case skew.Abs() >= signature.DefaultTolerance:
		x.note("clock", "fail", detail, "set both by NTP: receivers refuse signatures that are 5 minutes off")
	case skew.Abs() > 5*time.Second:
		x.note("clock", "warn", detail, "set both by NTP: receivers refuse signatures that are 5 minutes off")
	default:
		x.note("clock", "ok", detail, "")
	}
}

// examineKey reports whether the server knows the key.
func (c *client) examineKey(ctx context.Context, x *examination) bool {
	if c.Key == "" {
		x.note("key", "warn", "no API key is given", "give one with --key, POSTRIDER_KEY or a profile (postrider profile set)")
		return false
	}
	_, err := c.call(ctx, request{path: "/v0/tenants", query: url.Values{"limit": {"1"}}})
	refusal, refused := errors.AsType[*problem](err)
	switch {
	case err == nil:
		x.note("key", "ok", "it is the operator's", "")
	case refused && refusal.Code == "operator_only":
		x.note("key", "ok", "it is a partner's", "")
	case refused:
		x.note("key", "fail", refusal.Error(), refusal.hint())
	default:
		x.note("key", "fail", err.Error(), "")
	}
	return err == nil || refused && refusal.Code == "operator_only"
}

// mostNames bounds how many names are looked up.
const mostNames = 10

// examineWebhooks looks up the names that webhooks point to, as sending would,
// and tells of webhooks that fail.
func examineWebhooks(ctx context.Context, x *examination, c *client, allowed bool) {
	if !allowed {
		x.note("webhooks", "skip", "listing them takes a key", "")
		return
	}
	hosts := map[string]bool{}
	failing := 0
	_, err := c.list(ctx, pages{Limit: largestPage}, "/v0/api_webhooks", url.Values{}, func(text json.RawMessage) error {
		var w webhook
		if json.Unmarshal(text, &w) != nil {
			return &stranger{c.Server, "an entry of its list cannot be read"}
		}
		if u, err := url.Parse(w.URL); err == nil {
			hosts[u.Hostname()] = true
		}
		if w.FailingSince != nil || w.Status == "disabled" {
			failing++
		}
		return nil
	})
	if err != nil {
		x.note("webhooks", "fail", err.Error(), "")
		return
	}
	if failing > 0 {
		x.note("webhooks", "warn", fmt.Sprintf("%d fail or are disabled", failing), "postrider logs list --status failure shows why")
	} else {
		x.note("webhooks", "ok", "none of the newest fails", "")
	}
	names := 0
	for host := range sorted(hosts) {
		if _, err := netip.ParseAddr(host); err == nil || names == mostNames {
			continue
		}
		names++
		lookup, cancel := context.WithTimeout(ctx, 5*time.Second)
		addresses, err := net.DefaultResolver.LookupNetIP(lookup, "ip", host)
		cancel()
		if err != nil {
			x.note("dns", "fail", host+" has no address here", "is the name right, and does this machine have a working resolver (/etc/resolv.conf)?")
			continue
		}
		x.note("dns", "ok", fmt.Sprintf("%s is %v", host, addresses[0].Unmap()), "")
	}
	if names == 0 {
		x.note("dns", "ok", "no webhook points to a name: there is nothing to look up", "")
	}
}

func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}
