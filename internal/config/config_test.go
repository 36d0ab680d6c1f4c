package config

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"postrider"
)

var update = flag.Bool("update", false, "write the golden files anew")

// load reads settings as a command does: from its arguments, the environment
// and, when there is text for one, a file named postrider.yaml.
func load(t *testing.T, file string, args ...string) (Serve, error) {
	t.Helper()
	if file != "" {
		t.Chdir(t.TempDir())
		if err := os.WriteFile("postrider.yaml", []byte(file), 0o600); err != nil {
			t.Fatalf("write the file: %v", err)
		}
		args = append(args, "--config", "postrider.yaml")
	}
	var grammar struct {
		Serve Flags `cmd:""`
	}
	parser, err := kong.New(&grammar, kong.NoDefaultHelp(), Options())
	if err != nil {
		t.Fatalf("build the parser: %v", err)
	}
	parsed, err := parser.Parse(append([]string{"serve"}, args...))
	if err != nil {
		return Serve{}, err
	}
	return grammar.Serve.Load(parsed)
}

var compare = cmp.Options{
	cmp.Comparer(func(a, b postrider.Secret) bool { return a == b }),
	cmpopts.EquateComparable(netip.Prefix{}),
}

func TestDefault_PassesItsOwnCheck(t *testing.T) {
	settings := Default()
	if err := settings.Check(); err != nil {
		t.Errorf("got %v, want no fault", err)
	}
	loaded, err := load(t, "")
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	if diff := cmp.Diff(settings, loaded, compare); diff != "" {
		t.Errorf("a command that is told nothing differs from Default (-default +command):\n%s", diff)
	}
}

func TestServe_EverySettingIsNamedAlikeEverywhere(t *testing.T) {
	for _, flag := range flagsOf(new(Flags)) {
		if want := "POSTRIDER_" + strings.ToUpper(key(flag)); variable(flag) != want {
			t.Errorf("--%s: got variable %s, want %s", flag.Name, variable(flag), want)
		}
		if !strings.HasSuffix(flag.Help, ".") {
			t.Errorf("--%s: got help %q, want a sentence", flag.Name, flag.Help)
		}
	}
}

func TestLoad_FlagOutranksEnvironmentOutranksFileOutranksDefault(t *testing.T) {
	file := "listen: 127.0.0.1:1\nbrand: FromFile\ndata-dir: from-file\n"
	t.Setenv("POSTRIDER_LISTEN", "127.0.0.1:2")
	t.Setenv("POSTRIDER_BRAND", "FromEnvironment")
	settings, err := load(t, file, "--listen", "127.0.0.1:3")
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	got := []string{settings.Listen, settings.Brand, settings.DataDir, settings.LogLevel}
	if diff := cmp.Diff([]string{"127.0.0.1:3", "FromEnvironment", "from-file", "info"}, got); diff != "" {
		t.Errorf("the wrong place won (-want +got):\n%s", diff)
	}
}

func TestLoad_EmptyVariableIsNotSet(t *testing.T) {
	t.Setenv("POSTRIDER_MAX_IN_FLIGHT", "")
	settings, err := load(t, "max_in_flight: 3\n")
	if err != nil || settings.MaxInFlight != 3 {
		t.Errorf("got %d and error %v, want 3", settings.MaxInFlight, err)
	}
}

func TestLoad_FileIsNamedByTheEnvironmentToo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(path, []byte("brand: Acme"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("POSTRIDER_CONFIG", path)
	settings, err := load(t, "")
	if err != nil || settings.Brand != "Acme" {
		t.Errorf("got brand %q and error %v, want Acme", settings.Brand, err)
	}
}

func TestLoad_ReadsEveryFormOfAValue(t *testing.T) {
	prefixes := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	waits := []time.Duration{5 * time.Second, time.Hour + 30*time.Minute}
	for name, test := range map[string]struct {
		file     string
		args     []string
		settings func(*Serve)
	}{
		"empty file":            {"# nothing\n", nil, func(*Serve) {}},
		"null document":         {"---\n", nil, func(*Serve) {}},
		"list with commas":      {"allow_cidrs: 10.0.0.0/8, fd00::/8\n", nil, func(s *Serve) { s.AllowCIDRs = prefixes }},
		"ports":                 {"allow_ports: [25, 587]\n", nil, func(s *Serve) { s.AllowPorts = []uint16{25, 587} }},
		"YAML list":             {"allow_cidrs:\n  - 10.0.0.0/8\n  - fd00::/8\n", nil, func(s *Serve) { s.AllowCIDRs = prefixes }},
		"repeated flag":         {"", []string{"--allow-cidrs=10.0.0.0/8", "--allow-cidrs=fd00::/8"}, func(s *Serve) { s.AllowCIDRs = prefixes }},
		"durations":             {"retry_schedule: [5s, 1h30m]\n", nil, func(s *Serve) { s.RetrySchedule = waits }},
		"no retries, file":      {"retry_schedule: []\n", nil, func(s *Serve) { s.RetrySchedule = []time.Duration{} }},
		"no retries, flag":      {"", []string{"--retry-schedule="}, func(s *Serve) { s.RetrySchedule = []time.Duration{} }},
		"alias":                 {"listen: &a 127.0.0.1:1\npprof: *a\n", nil, func(s *Serve) { s.Listen, s.Pprof = "127.0.0.1:1", "127.0.0.1:1" }},
		"text that looks other": {"brand: 007\n", nil, func(s *Serve) { s.Brand = "007" }},
		"no limits":             {"retention: 0\nrequest_rate: 0\n", []string{"--webhooks-per-tenant=0"}, func(s *Serve) { s.Retention, s.RequestRate, s.WebhooksPerTenant = 0, 0, 0 }},
		"switch":                {"dev: yes\nhttps-only: true\n", nil, func(s *Serve) { s.Dev, s.HTTPSOnly = true, true }},
		"switch turned off":     {"dev: true\n", []string{"--dev=false"}, func(*Serve) {}},
		"key with a dash first": {"admin_key: -1234567890123456\n", nil, func(s *Serve) { s.AdminKey = "-1234567890123456" }},
		"all interfaces":        {"", []string{"--listen", ":0"}, func(s *Serve) { s.Listen = ":0" }},
		"hosts":                 {"allow_hosts: [a.internal, '*.b_c.internal', localhost]\n", nil, func(s *Serve) { s.AllowHosts = []string{"a.internal", "*.b_c.internal", "localhost"} }},
	} {
		t.Run(name, func(t *testing.T) {
			want := Default()
			test.settings(&want)
			got, err := load(t, test.file, test.args...)
			if err != nil {
				t.Fatalf("got error %v", err)
			}
			if diff := cmp.Diff(want, got, compare); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoad_SaysWhatIsWrongAndWhere(t *testing.T) {
	for name, test := range map[string]struct {
		file string
		want string // the faults, each followed by its hint in brackets
	}{
		"unknown key":       {"listen: 127.0.0.1:1\npayload_limt: 5\n", "postrider.yaml:2: payload_limt: there is no such key (the nearest key is payload_limit)"},
		"key of no kind":    {"port: 80\n", "postrider.yaml:1: port: there is no such key"},
		"the file itself":   {"config: other.yaml\n", "postrider.yaml:1: config: there is no such key"},
		"key twice":         {"data_dir: a\nbrand: X\ndata-dir: b\n", "postrider.yaml:3: data-dir: is set on line 1 already"},
		"no value":          {"listen:\n", "postrider.yaml:1: listen: has no value; leave the key out for the default"},
		"nested":            {"listen: {port: 1}\n", "postrider.yaml:1: listen: has keys of its own; settings are not nested"},
		"list for a value":  {"brand: [A, B]\n", "postrider.yaml:1: brand: is a list, and takes one value"},
		"list in a list":    {"allow_hosts: [[a]]\n", "postrider.yaml:1: allow_hosts: is a list with an element that is no plain value"},
		"no mapping":        {"- listen\n", "postrider.yaml: is no list of keys with their values, such as listen: 127.0.0.1:8080"},
		"two documents":     {"dev: true\n---\ndev: false\n", "postrider.yaml: has more than one document"},
		"no YAML":           {"listen: 127.0.0.1:1\n\tdev: true\n", "postrider.yaml: is no YAML: line 2: found a tab character that violates indentation"},
		"number":            {"max_in_flight: many\n", `postrider.yaml:1: max_in_flight: "many" is no whole number`},
		"duration":          {"timeout: 15\n", `postrider.yaml:1: timeout: "15" is no duration such as 5s, 5m or 24h`},
		"address range":     {"allow_cidrs: [10.0.0.0/8, 10.0.0.1]\n", `postrider.yaml:1: allow_cidrs: "10.0.0.1" is no address range such as 10.0.0.0/8`},
		"switch":            {"dev: perhaps\n", `postrider.yaml:1: dev: bool value must be true, 1, yes, false, 0 or no but got "perhaps"`},
		"listen":            {"listen: localhost\n", `postrider.yaml:1: listen: "localhost" is no address of the form host:port (127.0.0.1:8080 is this machine only, :8080 is all its addresses)`},
		"port out of range": {"listen: :65536\n", `postrider.yaml:1: listen: ":65536" is no address of the form host:port (127.0.0.1:8080 is this machine only, :8080 is all its addresses)`},
		"directory":         {"data_dir: ''\n", "postrider.yaml:1: data_dir: names no directory"},
		"short admin key":   {"admin_key: fifteen_letters\n", "postrider.yaml:1: admin_key: is not 16 to 256 visible ASCII characters (openssl rand -hex 32 makes one)"},
		"unsendable key":    {"admin_key: sixteen characters\n", "postrider.yaml:1: admin_key: is not 16 to 256 visible ASCII characters (openssl rand -hex 32 makes one)"},
		"encryption key":    {"encryption_key: c2hvcnQ=\n", "postrider.yaml:1: encryption_key: is not 32 bytes in base64 (openssl rand -base64 32 makes one)"},
		"database URL":      {"database_url: localhost/postrider\nencryption_key: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", "postrider.yaml:1: database_url: is no URL of a PostgreSQL database (write postgres://user:password@host:5432/database)"},
		"database, no key":  {"database_url: postgres://u:p@localhost/postrider\n", "encryption_key: is required with a database_url (openssl rand -base64 32 makes one; give every node the same)"},
		"port":              {"allow_ports: [25, 0]\n", `postrider.yaml:1: allow_ports: "0" is no port from 1 to 65535`},
		"NAT64 length":      {"nat64_prefixes: ['64:ff9b::/97']\n", `postrider.yaml:1: nat64_prefixes: "64:ff9b::/97" is no prefix of IPv6 that can hold an IPv4 address (RFC 6052 has prefixes of 32, 40, 48, 56, 64 and 96 bits)`},
		"NAT64 of IPv4":     {"nat64_prefixes: 10.0.0.0/32\n", `postrider.yaml:1: nat64_prefixes: "10.0.0.0/32" is no prefix of IPv6 that can hold an IPv4 address (RFC 6052 has prefixes of 32, 40, 48, 56, 64 and 96 bits)`},
		"host address":      {"allow_hosts: 10.0.0.1\n", `postrider.yaml:1: allow_hosts: "10.0.0.1" is an address (addresses are opened with allow_cidrs)`},
		"host form":         {"allow_hosts: 'a.*.internal'\n", `postrider.yaml:1: allow_hosts: "a.*.internal" is no host name (write hooks.example.internal, or *.example.internal for all below it)`},
		"every host":        {"allow_hosts: '*'\n", `postrider.yaml:1: allow_hosts: "*" is no host name (write hooks.example.internal, or *.example.internal for all below it)`},
		"host with port":    {"allow_hosts: 'a.internal:80'\n", `postrider.yaml:1: allow_hosts: "a.internal:80" is no host name (write hooks.example.internal, or *.example.internal for all below it)`},
		"brand":             {"brand: Club Med\n", `postrider.yaml:1: brand: "Club Med" is not 1 to 40 letters, digits and inner dashes`},
		"payload limit":     {"payload_limit: 1023\n", "postrider.yaml:1: payload_limit: 1023 is not between 1024 (1 KiB) and 67108864 (64 MiB)"},
		"timeout":           {"timeout: 31s\n", "postrider.yaml:1: timeout: 31s is not between 1s and 30s"},
		"retry schedule":    {"retry_schedule: [5s, 169h]\n", "postrider.yaml:1: retry_schedule: is not at most 30 waits of 0s to 168h each"},
		"in flight":         {"max_in_flight: 0\n", "postrider.yaml:1: max_in_flight: 0 is not between 1 and 1024"},
		"retention":         {"retention: 59m\n", "postrider.yaml:1: retention: 59m0s is less than 1h0m0s (0 keeps everything for ever)"},
		"request rate":      {"request_rate: 0.001\n", "postrider.yaml:1: request_rate: 0.001 is not between 0.01 and 1000000 (0 sets no limit)"},
		"no number":         {"operator_request_rate: nan\n", `postrider.yaml:1: operator_request_rate: "nan" is no number`},
		"webhooks":          {"webhooks_per_tenant: -1\n", "postrider.yaml:1: webhooks_per_tenant: -1 is negative (0 sets no limit)"},
		"relay hold":        {"relay_hold: 721h\n", "postrider.yaml:1: relay_hold: 721h0m0s is not between 1s and 720h"},
		"relay ping":        {"relay_ping: 99ms\n", "postrider.yaml:1: relay_ping: 99ms is not between 100ms and 1m0s"},
		"connections":       {"connections_per_client: -1\n", "postrider.yaml:1: connections_per_client: -1 is negative (0 sets no limit)"},
		"log level":         {"log_level: loud\n", `postrider.yaml:1: log_level: "loud" is none of debug, info, warn, error`},
		"log format":        {"log_format: xml\n", `postrider.yaml:1: log_format: "xml" is none of text, json`},
		"open profiles":     {"pprof: :6060\n", `postrider.yaml:1: pprof: ":6060" is no address of this machine's loopback, such as 127.0.0.1:6060`},
		"all at once": {
			"timout: 5s\ntimeout: 5\nbrand: ''\nlisten: x\n",
			"postrider.yaml:1: timout: there is no such key (the nearest key is timeout)\n" +
				"postrider.yaml:2: timeout: \"5\" is no duration such as 5s, 5m or 24h\n" +
				"postrider.yaml:4: listen: \"x\" is no address of the form host:port (127.0.0.1:8080 is this machine only, :8080 is all its addresses)\n" +
				"postrider.yaml:3: brand: \"\" is not 1 to 40 letters, digits and inner dashes",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, test.file)
			if diff := cmp.Diff(test.want, faultText(err)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// faultText writes out faults with their hints.
func faultText(err error) string {
	var faults Faults
	if !errors.As(err, &faults) {
		return fmt.Sprint("no faults but: ", err)
	}
	var lines []string
	for _, fault := range faults {
		line := fault.Error()
		if fault.Hint != "" {
			line += " (" + fault.Hint + ")"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestLoad_NamesTheVariableAndTheFlagAtFault(t *testing.T) {
	t.Setenv("POSTRIDER_TIMEOUT", "soon")
	t.Setenv("POSTRIDER_BRAND", "Ô")
	_, err := load(t, "", "--max-in-flight=0")
	want := `POSTRIDER_TIMEOUT: "soon" is no duration such as 5s, 5m or 24h
POSTRIDER_BRAND: "Ô" is not 1 to 40 letters, digits and inner dashes
--max-in-flight: 0 is not between 1 and 1024`
	if diff := cmp.Diff(want, faultText(err)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLoad_SaysWhyAFileCannotBeRead(t *testing.T) {
	for path, want := range map[string]string{
		"missing.yaml": "missing.yaml: cannot be read: no such file or directory",
		".":            ".: cannot be read: is a directory",
	} {
		_, err := load(t, "", "--config", path)
		if got := faultText(err); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// canary stands for a secret that was written in a wrong place or form.
const canary = "canary-5f1d"

func TestSecrets_AreInNoError(t *testing.T) {
	for _, file := range []string{
		"admin_key: " + canary, // too short
		"encryption_key: " + canary,
		"admin_key: [" + canary + "]",
		"admin_key: {" + canary + ": 1}",
		"admin_key: *" + canary,
		"admin_key: &" + canary,
		"admin_key: !" + canary,
		"admin_key: \"" + canary,
		"admin_key: '" + canary,
		"admin_key: @" + canary,
		"admin_key: `" + canary,
		"admin_key: %" + canary,
		"admin_key: [" + canary,
		"admin_key: " + canary + ": x",
		"admin_key:" + canary,
		"{admin_key:" + canary + "}",
		"admin_key: x\nadmin_key: " + canary,
		"admin_key: |\n " + canary + "\n\tx",
	} {
		_, err := load(t, file)
		if err == nil {
			t.Errorf("%s: got no error", file)
		}
		if text := fmt.Sprintf("%v %+v %s", err, err, faultText(err)); strings.Contains(text, canary) {
			t.Errorf("%s: got the secret in %q", file, text)
		}
	}
	for _, args := range [][]string{
		{"--admin-key", canary},
		{"--admin-key=" + canary},
		{"--admin-key", "-" + canary},
		{"--admin-key", "--" + canary},
		{"--encryption-key", canary},
		{"--database-url", "postgres://user:" + canary + "@%zz/x"},
		{"--database-url", "postgres://user:" + canary + "@localhost"},
		{"--admin-kye=" + canary},
	} {
		_, err := load(t, "", args...)
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%q: got error %v, want one without the secret", args, err)
		}
	}
	t.Setenv("POSTRIDER_ADMIN_KEY", canary)
	if _, err := load(t, ""); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("got error %v, want one without the secret", err)
	}
}

func TestSecrets_AreRedactedInPrints(t *testing.T) {
	settings := Default()
	settings.AdminKey, settings.EncryptionKey, settings.DatabaseURL = canary, canary, "postgres://user:"+canary+"@localhost/x"
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("settings", "settings", settings, "key", settings.AdminKey)
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s", settings, settings, settings, settings.AdminKey), log.String()} {
		if strings.Contains(text, canary) || !strings.Contains(text, postrider.Masked) {
			t.Errorf("got %s, want the secrets as %s", text, postrider.Masked)
		}
	}
}

func TestWriteFile_ChangesNothing(t *testing.T) {
	var file bytes.Buffer
	WriteFile(&file)
	got, err := load(t, file.String())
	if err != nil {
		t.Fatalf("load the file as it is: %v", err)
	}
	if diff := cmp.Diff(Default(), got, compare); diff != "" {
		t.Errorf("as it is, the file changes (-default +got):\n%s", diff)
	}
	// Without the #, it says what the defaults are. What has none shows a word
	// in capitals.
	word := regexp.MustCompile(`: [A-Z0-9]+\n$`)
	var shown strings.Builder
	for line := range strings.Lines(file.String()) {
		if setting, found := strings.CutPrefix(line, "#"); found && setting[0] != ' ' && !word.MatchString(setting) {
			shown.WriteString(setting)
		}
	}
	if got, err = load(t, shown.String()); err != nil {
		t.Fatalf("load what it shows: %v", err)
	}
	if diff := cmp.Diff(Default(), got, compare, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("what the file shows is not the default (-default +shown):\n%s", diff)
	}
	for _, flag := range documented() {
		if !strings.Contains(file.String(), "\n#"+key(flag)+": ") {
			t.Errorf("%s is not in the file", key(flag))
		}
	}
}

func TestWriteReference_IsThePageOfTheDocumentation(t *testing.T) {
	const path = "../../docs/operations/configuration.md"
	var page bytes.Buffer
	WriteReference(&page)
	if *update {
		if err := os.WriteFile(path, page.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), page.String()); diff != "" {
		t.Errorf("%s is not what config doc prints; write it with go test ./internal/config -update (-page +printed):\n%s", path, diff)
	}
}
