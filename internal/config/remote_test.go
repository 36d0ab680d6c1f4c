package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"postrider"
)

func TestResolve_RanksFlagProfileEnvironmentAndDefault(t *testing.T) {
	for _, test := range []struct {
		name                  string
		flags                 Remote
		server, key, selected string // of the environment
		saved                 Profiles
		wantServer            string
		wantKey               postrider.Secret
	}{
		{name: "nothing is said", wantServer: DefaultServer},
		{name: "environment", server: "http://e/", key: "ek", wantServer: "http://e", wantKey: "ek"},
		{name: "flags", flags: Remote{Server: "http://f", Key: "fk"}, server: "http://e", key: "ek", wantServer: "http://f", wantKey: "fk"},
		{name: "the default profile", saved: two, wantServer: "http://a", wantKey: "ak"},
		{name: "environment over the default profile", saved: two, server: "http://e", key: "ek", wantServer: "http://e", wantKey: "ek"},
		{name: "a profile of the environment", saved: two, selected: "b", wantServer: "http://b", wantKey: "bk"},
		{name: "a flag's profile over the environment", saved: two, flags: Remote{Profile: "b"}, server: "http://e", key: "ek", wantServer: "http://b", wantKey: "bk"},
		{name: "a profile's key stays with its server", saved: two, flags: Remote{Server: "http://f"}, wantServer: "http://f"},
		{name: "also beside --profile", saved: two, flags: Remote{Server: "http://f", Profile: "b"}, wantServer: "http://f"},
		{name: "also with the environment's server", saved: two, server: "http://e", wantServer: "http://e"},
		{name: "the same server in other words", saved: two, flags: Remote{Server: "http://a/"}, wantServer: "http://a", wantKey: "ak"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("XDG_CONFIG_HOME", t.TempDir())
			t.Setenv("HOME", t.TempDir())
			t.Setenv("POSTRIDER_SERVER", test.server)
			t.Setenv("POSTRIDER_KEY", test.key)
			t.Setenv("POSTRIDER_PROFILE", test.selected)
			if test.saved.Profiles != nil {
				if err := test.saved.Save(); err != nil {
					t.Fatal(err)
				}
			}
			got, err := test.flags.Resolve()
			if err != nil || got.Server != test.wantServer || got.Key != test.wantKey {
				t.Errorf("got %s with key %q and error %v, want %s with %q", got.Server, string(got.Key), err, test.wantServer, string(test.wantKey))
			}
		})
	}
}

var two = Profiles{Default: "a", Profiles: map[string]Profile{"a": {"http://a", "ak"}, "b": {"http://b", "bk"}}}

func TestLoadProfiles_RefusesWhatItCannotTrust(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"readable for others": {"profiles: {}", 0o644},
		"no YAML":             {"\tcanary", 0o600},
		"unknown key":         {"canary: canary", 0o600},
		"no server":           {"profiles: {a: {key: canary}}", 0o600},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("XDG_CONFIG_HOME", t.TempDir())
			t.Setenv("HOME", t.TempDir())
			path, err := ProfilesPath()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(test.text), test.mode); err != nil {
				t.Fatal(err)
			}
			_, err = LoadProfiles()
			if _, ok := errors.AsType[Faults](err); !ok {
				t.Errorf("got %v, want faults", err)
			}
		})
	}
}
