package cli

import (
	"cmp"
	"fmt"
	"strings"

	"postrider"
	"postrider/internal/config"
)

type profileCommands struct {
	List   listProfiles  `cmd:"" help:"List the saved profiles."`
	Set    setProfile    `cmd:"" help:"Save a server and the key to it under a name."`
	Delete deleteProfile `cmd:"" help:"Forget a profile."`
}

type listProfiles struct {
	JSON bool `help:"Print a JSON object for each profile."`
}

// Help are the examples of profile list --help.
func (*listProfiles) Help() string {
	return `Keys are not shown, only whether there is one.

Example:

    postrider profile list`
}

// Run lists.
func (l *listProfiles) Run(p *process) error {
	saved, err := config.LoadProfiles()
	if err != nil {
		return err
	}
	var rows [][]cell
	for _, name := range saved.Names() {
		profile := saved.Profiles[name]
		if l.JSON {
			p.stdout.Write(encoded(struct { //nolint:errcheck // nobody is left to tell
				Name    string `json:"name"`
				Server  string `json:"server"`
				HasKey  bool   `json:"has_key"`
				Default bool   `json:"default"`
			}{name, profile.Server, profile.Key != "", name == saved.Default}))
		}
		rows = append(rows, []cell{{text: name}, {text: profile.Server}, {text: yes(profile.Key != "")}, {text: yes(name == saved.Default)}})
	}
	if !l.JSON {
		p.screen().table([]string{"NAME", "SERVER", "KEY", "DEFAULT"}, rows)
	}
	if len(rows) == 0 {
		p.say("no profiles")
		p.say("hint: postrider profile set NAME --server URL --key-file FILE saves one")
	}
	return nil
}

type setProfile struct {
	Name    string           `arg:"" help:"The profile's name."`
	Server  string           `placeholder:"URL" help:"The server; without it, that of the profile as it is, else http://127.0.0.1:8080."`
	Key     postrider.Secret `placeholder:"KEY" help:"The API key. In a file it stays out of the shell's history."`
	KeyFile string           `placeholder:"FILE" help:"File with the API key; - is the standard input."`
	Default bool             `help:"Use it when no other is asked for. The first profile is the default anyway."`
}

// Help are the examples of profile set --help.
func (*setProfile) Help() string {
	return `Examples:

    postrider profile set production --server https://hooks.example.com --key-file key.txt --default
    echo "$KEY" | postrider profile set local --key-file -
    postrider webhooks list --profile production

The file is readable for this user only.`
}

// Run saves it.
func (s *setProfile) Run(p *process) error {
	if s.Key != "" && s.KeyFile != "" {
		return misuse("--key-file", "is given beside --key", "give one of the two")
	}
	saved, err := config.LoadProfiles()
	if err != nil {
		return err
	}
	before := saved.Profiles[s.Name]
	server, err := config.ParseServer("--server", cmp.Or(s.Server, before.Server, config.DefaultServer))
	if err != nil {
		return err
	}
	profile := config.Profile{Server: server, Key: string(s.Key)}
	if s.KeyFile != "" {
		text, err := p.readFile("--key-file", s.KeyFile)
		if err != nil {
			return err
		}
		if profile.Key = strings.TrimSpace(string(text)); profile.Key == "" {
			return misuse("--key-file", "holds no key", "")
		}
	}
	if server == before.Server {
		profile.Key = cmp.Or(profile.Key, before.Key)
	}
	if strings.ContainsFunc(profile.Key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return misuse("--key", "is no API key: one is visible ASCII characters", "")
	}
	if err := saved.Set(s.Name, profile); err != nil {
		return err
	}
	if s.Default {
		saved.Default = s.Name
	}
	if err := saved.Save(); err != nil {
		return err
	}
	path, err := config.ProfilesPath()
	if err != nil {
		return err
	}
	p.say("profile %s is saved in %s", s.Name, path)
	return nil
}

type deleteProfile struct {
	Name string `arg:"" help:"The profile's name."`
}

// Help are the examples of profile delete --help.
func (*deleteProfile) Help() string {
	return `Example:

    postrider profile delete production`
}

// Run forgets it.
func (d *deleteProfile) Run(p *process) error {
	saved, err := config.LoadProfiles()
	if err != nil {
		return err
	}
	if _, found := saved.Profiles[d.Name]; !found {
		return &advised{fmt.Sprintf("there is no profile %q", d.Name), "postrider profile list shows those that there are"}
	}
	delete(saved.Profiles, d.Name)
	if saved.Default == d.Name {
		saved.Default = ""
	}
	if err := saved.Save(); err != nil {
		return err
	}
	p.say("profile %s is deleted", d.Name)
	return nil
}
