// Package config knows every setting of the server once: the command line's
// flag, the environment's variable, the file's key, the default, the check and
// the sentence of the reference page come from one struct.
//
// It also knows which server the commands of the API speak to, and the profiles
// that a user keeps for them.
//
// It must not know what a setting does. The command line fills the struct, and
// the app is built from it.
package config

import (
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"postrider"
)

// Serve are the settings of `postrider serve`.
type Serve struct {
	Listen               string           `default:"127.0.0.1:8080" env:"POSTRIDER_LISTEN" placeholder:"ADDRESS" help:"Address of the API, host:port. Without a host it is every address of the machine, with port 0 any free port."`
	DataDir              string           `default:"./postrider-data" env:"POSTRIDER_DATA_DIR" placeholder:"DIR" help:"Where the embedded store keeps its files. With a database URL it is used by --dev alone."`
	DatabaseURL          postrider.Secret `name:"database-url" env:"POSTRIDER_DATABASE_URL" placeholder:"URL" help:"PostgreSQL database, 14 or later, that any number of nodes work on, such as postgres://user:password@host:5432/postrider. Without one, the embedded store is used."`
	AdminKey             postrider.Secret `env:"POSTRIDER_ADMIN_KEY" placeholder:"KEY" help:"The operator's API key, at least 16 characters. Without one, a key is made at the first start and printed once."`
	EncryptionKey        postrider.Secret `env:"POSTRIDER_ENCRYPTION_KEY" placeholder:"BASE64" help:"Key that signing secrets are encrypted with, 32 bytes in base64. Without one, a key is made in the data directory. With a database URL it is required: all nodes need the same."`
	AllowCIDRs           []netip.Prefix   `name:"allow-cidrs" env:"POSTRIDER_ALLOW_CIDRS" placeholder:"CIDR" help:"Address ranges that webhooks may point to although they are not public."`
	AllowHosts           []string         `env:"POSTRIDER_ALLOW_HOSTS" placeholder:"HOST" help:"Host names that webhooks may point to although their addresses are not public; *.example.internal takes all below it."`
	AllowPorts           []uint16         `env:"POSTRIDER_ALLOW_PORTS" placeholder:"PORT" help:"Ports below 1024 that webhooks may point to besides 80 and 443."`
	NAT64Prefixes        []netip.Prefix   `name:"nat64-prefixes" env:"POSTRIDER_NAT64_PREFIXES" placeholder:"CIDR" help:"Networks that translate IPv6 to IPv4, such as 64:ff9b::/96: an address in one is judged by the IPv4 address inside it. Without them such addresses are refused."`
	HTTPSOnly            bool             `name:"https-only" env:"POSTRIDER_HTTPS_ONLY" help:"Refuse webhooks with an http URL."`
	Brand                string           `default:"Clubmed" env:"POSTRIDER_BRAND" placeholder:"NAME" help:"Name in the headers of deliveries, such as X-Clubmed-Signature, and in the User-Agent: letters, digits and dashes."`
	StrictCatalogue      bool             `env:"POSTRIDER_STRICT_CATALOGUE" help:"Refuse event types that the catalogue lacks."`
	PayloadLimit         int64            `default:"1048576" env:"POSTRIDER_PAYLOAD_LIMIT" placeholder:"BYTES" help:"Largest payload of an event in bytes, 1024 to 67108864."`
	Timeout              time.Duration    `default:"15s" env:"POSTRIDER_TIMEOUT" placeholder:"DURATION" help:"Total time of one attempt, 1s to 30s, for webhooks without a timeout of their own."`
	RetrySchedule        []time.Duration  `default:"5s,5m,30m,2h,5h,10h,14h,20h,24h" env:"POSTRIDER_RETRY_SCHEDULE" placeholder:"DURATION" help:"Wait before each retry, at most 30 of up to 168h, for webhooks without a schedule of their own."`
	MaxInFlight          int              `default:"16" env:"POSTRIDER_MAX_IN_FLIGHT" placeholder:"N" help:"Attempts at once of one webhook, 1 to 1024."`
	Retention            time.Duration    `default:"720h" env:"POSTRIDER_RETENTION" placeholder:"DURATION" help:"How long attempts, and the events that they were made for, are kept, at least 1h; 0 keeps them for ever. What is not delivered yet is kept in any case."`
	RequestRate          float64          `default:"100" env:"POSTRIDER_REQUEST_RATE" placeholder:"N" help:"Requests a second that each API key of a partner may make, on average; 0: any number."`
	OperatorRequestRate  float64          `default:"0" env:"POSTRIDER_OPERATOR_REQUEST_RATE" placeholder:"N" help:"Requests a second that each API key of an operator may make, on average, publishing included; 0: any number."`
	WebhooksPerTenant    int              `default:"100" env:"POSTRIDER_WEBHOOKS_PER_TENANT" placeholder:"N" help:"How many webhooks a tenant may have; 0: any number."`
	ConnectionsPerClient int              `default:"1024" env:"POSTRIDER_CONNECTIONS_PER_CLIENT" placeholder:"N" help:"How many connections one address may have open to the server; 0: any number. Behind a proxy that hides its clients' addresses it bounds the proxy."`
	RelayHold            time.Duration    `default:"24h" env:"POSTRIDER_RELAY_HOLD" placeholder:"DURATION" help:"How long deliveries to a listener (postrider listen) that went away wait for it to come back, 1s to 720h. Then its temporary webhook is removed."`
	RelayPing            time.Duration    `default:"10s" env:"POSTRIDER_RELAY_PING" placeholder:"DURATION" help:"Between two signs of life of a listener, 100ms to 1m. One that gives none for as long again is cut off."`
	LogLevel             string           `default:"info" env:"POSTRIDER_LOG_LEVEL" placeholder:"LEVEL" help:"What to log: debug, info, warn or error. Debug shows every delivery, info the failed attempts."`
	LogFormat            string           `default:"text" env:"POSTRIDER_LOG_FORMAT" placeholder:"FORMAT" help:"How to log: text or json."`
	PublicURL            string           `name:"public-url" env:"POSTRIDER_PUBLIC_URL" placeholder:"URL" help:"Where browsers and partners reach this server, such as https://hooks.example.com: for links, examples and cookies. With https, the portal's cookies are sent over TLS only."`
	PortalAccent         string           `env:"POSTRIDER_PORTAL_ACCENT" placeholder:"COLOUR" help:"The brand's colour in the portal, as #rrggbb, in the file in quotes. Shades in which text can be read are made from it."`
	PortalLogo           string           `env:"POSTRIDER_PORTAL_LOGO" placeholder:"FILE" help:"The brand's logo in the portal, a square SVG, PNG or WebP of at most 256 KiB. Without one it is the brand's initial."`
	PortalFrameAncestors []string         `env:"POSTRIDER_PORTAL_FRAME_ANCESTORS" placeholder:"ORIGIN" help:"Sites that may show the portal inside a frame, such as https://partners.example.com. Without any, none may."`
	Dev                  bool             `env:"POSTRIDER_DEV" help:"For development: allows loopback targets, fills an empty store with an example, and runs a receiver on 127.0.0.1:4567."`

	AddressFile string `hidden:"" env:"POSTRIDER_ADDRESS_FILE" placeholder:"FILE" help:"Write the bound address here once ready."`
	Pprof       string `hidden:"" env:"POSTRIDER_PPROF" placeholder:"ADDRESS" help:"Serve Go profiles on this loopback address."`
}

// Flags are the flags of a command that takes the server's settings.
type Flags struct {
	Config string `env:"POSTRIDER_CONFIG" placeholder:"FILE" help:"YAML file to read settings from."`
	Serve
}

// NoColor reports that the user wants no colours in a terminal (no-color.org).
func NoColor() bool { return os.Getenv("NO_COLOR") != "" }

// flagsOf builds the flags that fill the fields of a struct.
func flagsOf(settings any) []*kong.Flag {
	return kong.Must(settings, kong.NoDefaultHelp(), Options()).Model.Flags
}

// key is a flag's name in the file and in the faults of Check.
func key(flag *kong.Flag) string { return strings.ReplaceAll(flag.Name, "-", "_") }

// variable is a flag's name in the environment; empty: it has none.
func variable(flag *kong.Flag) string { return flag.Tag.Get("env") }
