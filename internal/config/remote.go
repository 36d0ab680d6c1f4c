package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"postrider"
)

// DefaultServer is where the commands of the API look when they are told
// nothing: the server that serve starts when it is told nothing.
const DefaultServer = "http://127.0.0.1:8080"

// Remote are the flags that say which server a command speaks to, and as whom.
type Remote struct {
	Server  string           `env:"POSTRIDER_SERVER" placeholder:"URL" help:"Server to speak to; without one the profile's, else http://127.0.0.1:8080."`
	Key     postrider.Secret `env:"POSTRIDER_KEY" placeholder:"KEY" help:"API key; without one the profile's."`
	Profile string           `env:"POSTRIDER_PROFILE" placeholder:"NAME" help:"Profile with the server and the key; see postrider profile."`
}

// A Target is a server and the key to it; the key may be empty.
type Target struct {
	Server string // without a slash at its end
	Key    postrider.Secret
}

// Resolve finds the server and the key: a flag outranks a profile that a flag
// names, which outranks the environment, which outranks any other profile. Its
// error is Faults.
//
// A profile's key goes to that profile's server alone: --server beside a
// profile must not hand the key of one server to another.
func (r Remote) Resolve() (Target, error) {
	saved, err := LoadProfiles()
	if err != nil {
		return Target{}, err
	}
	source, name := "--profile", r.Profile
	if name == "" {
		source, name = "POSTRIDER_PROFILE", os.Getenv("POSTRIDER_PROFILE")
	}
	profile, found := saved.Profiles[name]
	if name == "" {
		profile = saved.Profiles[saved.Default]
	} else if !found {
		return Target{}, Faults{{
			Source: source, Detail: fmt.Sprintf("there is no profile %q", name), Hint: "postrider profile list shows those that there are",
		}}
	}
	source, text := "--server", r.Server
	if text == "" && r.Profile == "" {
		source, text = "POSTRIDER_SERVER", os.Getenv("POSTRIDER_SERVER")
	}
	server, err := ParseServer(source, cmp.Or(text, profile.Server, DefaultServer))
	if err != nil {
		return Target{}, err
	}
	var theirs string
	if server == profile.Server {
		theirs = profile.Key
	}
	key, ours := string(r.Key), os.Getenv("POSTRIDER_KEY")
	if r.Profile != "" {
		key = cmp.Or(key, theirs, ours)
	} else {
		key = cmp.Or(key, ours, theirs)
	}
	return Target{server, postrider.Secret(key)}, nil
}

// ParseServer reads a server's URL, which came from source.
func ParseServer(source, text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		// The text is not repeated: a password may stand in it.
		return "", Faults{{Source: source, Detail: "is no URL of a server", Hint: "write it as " + DefaultServer + " or https://hooks.example.com"}}
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// SigningSecret is the secret that the environment gives to sign and verify.
func SigningSecret() postrider.Secret { return postrider.Secret(os.Getenv("POSTRIDER_SECRET")) }

// A Profile is a server with the key to it, under a name.
type Profile struct {
	Server string `yaml:"server"`
	Key    string `yaml:"key,omitempty"`
}

// Profiles are the saved profiles. The one named by Default is used when none
// is asked for.
type Profiles struct {
	Default  string             `yaml:"default,omitempty"`
	Profiles map[string]Profile `yaml:"profiles"`
}

// Names are the profiles' names, sorted.
func (p Profiles) Names() []string { return slices.Sorted(maps.Keys(p.Profiles)) }

var profileForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Set adds or replaces a profile. The first one becomes the default.
func (p *Profiles) Set(name string, profile Profile) error {
	if !profileForm.MatchString(name) {
		return Faults{{Source: "<name>", Detail: "a profile's name is 1 to 64 letters, digits, dots, dashes or underscores"}}
	}
	if p.Profiles == nil {
		p.Profiles = map[string]Profile{}
	}
	p.Profiles[name] = profile
	p.Default = cmp.Or(p.Default, name)
	return nil
}

// ProfilesPath is the file that profiles are kept in.
func ProfilesPath() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the directory of the user's settings: %w", err)
	}
	return filepath.Join(dir, "postrider", "config.yaml"), nil
}

// LoadProfiles reads the saved profiles; without the file there are none. It
// refuses a file that other users can read, since keys stand in it. Its error
// holds nothing of the file's text.
func LoadProfiles() (saved Profiles, err error) {
	path, err := ProfilesPath()
	if err != nil {
		return saved, nil //nolint:nilerr // a user without a home has no profiles
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return saved, nil
	}
	if err != nil {
		return saved, Faults{{Source: path, Detail: "cannot be read", Hint: "it is this user's own file: chmod 600 " + path}}
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		return saved, Faults{{Source: path, Detail: "holds keys, and other users can read it", Hint: "chmod 600 " + path}}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&saved); err != nil && !errors.Is(err, io.EOF) {
		return Profiles{}, Faults{{
			Source: path, Detail: "is no file of profiles", Hint: "postrider profile set writes one; move this one out of its way",
		}}
	}
	for name, profile := range saved.Profiles {
		if profile.Server, err = ParseServer(path+": profiles."+name+".server", profile.Server); err != nil {
			return Profiles{}, err
		}
		saved.Profiles[name] = profile
	}
	return saved, nil
}

// Save writes the profiles, readable for this user only. A write that breaks
// off leaves the file before it.
func (p Profiles) Save() error {
	path, err := ProfilesPath()
	if err != nil {
		return err
	}
	text, err := yaml.Marshal(p)
	if err != nil {
		return fmt.Errorf("write the profiles: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write the profiles: %w", err)
	}
	file, err := os.CreateTemp(filepath.Dir(path), "config-*.yaml") // with mode 0600
	if err != nil {
		return fmt.Errorf("write the profiles: %w", err)
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		os.Remove(file.Name()) //nolint:errcheck // the write's error is the one to tell
		return fmt.Errorf("write the profiles: %w", err)
	}
	return nil
}
