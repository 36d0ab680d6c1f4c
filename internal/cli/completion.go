package cli

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

type completion struct {
	Shell string `arg:"" complete:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help are the examples of completion --help.
func (*completion) Help() string {
	return `Examples:

    source <(postrider completion bash)      # in .bashrc
    source <(postrider completion zsh)       # in .zshrc, after compinit
    postrider completion fish | source       # in config.fish`
}

// Run prints the script, made from the same model that commands are parsed
// with. The libraries that do this for kong have had no release for years, and
// start the program at every press of the tab key.
func (c *completion) Run(parsed *kong.Context, p *process) error {
	words := completions(parsed.Model.Node, "")
	switch c.Shell {
	case "bash":
		fmt.Fprint(p.stdout, bashCompletion(words))
	case "zsh":
		fmt.Fprint(p.stdout, zshCompletion(words))
	case "fish":
		fmt.Fprint(p.stdout, fishCompletion(words))
	default:
		return misuse("<shell>", "is none of bash, zsh and fish", "")
	}
	return nil
}

// A suggestion is a word with what it means.
type suggestion struct{ word, help string }

// A place is where a word is completed: behind a command.
type place struct {
	path     string // such as "webhooks list"; empty behind postrider itself
	commands []suggestion
	flags    []suggestion
	words    []string            // that the argument can be
	values   map[string][]string // that a flag can have, by --flag
	valued   []string            // flags that a value follows
}

// completions are all places at and below a command.
func completions(node *kong.Node, path string) []place {
	here := place{path: path, values: map[string][]string{}}
	var below []place
	for _, child := range node.Children {
		if child.Hidden {
			continue
		}
		here.commands = append(here.commands, suggestion{child.Name, child.Help})
		below = append(below, completions(child, strings.TrimSpace(path+" "+child.Name))...)
	}
	for _, flag := range node.Flags {
		if flag.Hidden {
			continue
		}
		name := "--" + flag.Name
		here.flags = append(here.flags, suggestion{name, flag.Help})
		if flag.Tag.Negatable != "" {
			here.flags = append(here.flags, suggestion{"--no-" + flag.Name, flag.Help})
		}
		if !flag.IsBool() {
			here.valued = append(here.valued, name)
		}
		if known := flag.Tag.Get("complete"); known != "" {
			here.values[name] = strings.Split(known, ",")
		}
	}
	if path != "" {
		here.flags = append(here.flags, suggestion{"--help", "Show what the command does."})
	}
	for _, argument := range node.Positional {
		if known := argument.Tag.Get("complete"); known != "" {
			here.words = append(here.words, strings.Split(known, ",")...)
		}
	}
	return append([]place{here}, below...)
}

// suggestions are all words that fit at a place.
func (p *place) suggestions() []suggestion {
	all := append([]suggestion{}, p.commands...)
	for _, word := range p.words {
		all = append(all, suggestion{word: word})
	}
	return append(all, p.flags...)
}

// steps are the patterns of a shell's case that follow the words already typed:
// one for each command, as "path word".
func steps(places []place) string {
	var patterns []string
	for _, p := range places {
		for _, command := range p.commands {
			patterns = append(patterns, shellQuoted(strings.TrimPrefix(p.path+" "+command.word, " ")))
		}
	}
	return strings.Join(patterns, "|")
}

// valueCases are the cases that complete a flag's value. Without known values
// it is left to the shell, which offers files.
func valueCases(places []place, known func(values []string) string, files string) string {
	var out strings.Builder
	for _, p := range places {
		for _, flag := range p.valued {
			do := files
			if values := p.values[flag]; values != nil {
				do = known(values)
			}
			fmt.Fprintf(&out, "    %s) %s; return ;;\n", shellQuoted(p.path+" "+flag), do)
		}
	}
	return out.String()
}

// shellQuoted is a text in single quotes, for bash, zsh and fish.
func shellQuoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

const walk = `  local at="" before="" word
  for word in "${typed[@]}"; do
    case "${at:+$at }$word" in
      %s) at="${at:+$at }$word" ;;
    esac
    before=$word
  done
`

func bashCompletion(places []place) string {
	var out strings.Builder
	out.WriteString("# Completion of postrider for bash.\n_postrider() {\n")
	out.WriteString("  local typed=(\"${COMP_WORDS[@]:1:COMP_CWORD-1}\") current=${COMP_WORDS[COMP_CWORD]}\n")
	fmt.Fprintf(&out, walk, steps(places))
	out.WriteString("  COMPREPLY=()\n  case \"$at $before\" in\n")
	reply := func(values []string) string {
		return fmt.Sprintf(`COMPREPLY=($(compgen -W %s -- "$current"))`, shellQuoted(strings.Join(values, " ")))
	}
	out.WriteString(valueCases(places, reply, ":"))
	out.WriteString("  esac\n  case \"$at\" in\n")
	for _, p := range places {
		var words []string
		for _, s := range p.suggestions() {
			words = append(words, s.word)
		}
		fmt.Fprintf(&out, "    %s) %s ;;\n", shellQuoted(p.path), reply(words))
	}
	out.WriteString("  esac\n}\ncomplete -o default -F _postrider postrider\n")
	return out.String()
}

func zshCompletion(places []place) string {
	var out strings.Builder
	out.WriteString("#compdef postrider\n# Completion of postrider for zsh.\n_postrider() {\n")
	out.WriteString("  local -a typed known\n  typed=(\"${(@)words[2,CURRENT-1]}\")\n")
	fmt.Fprintf(&out, walk, steps(places))
	out.WriteString("  case \"$at $before\" in\n")
	out.WriteString(valueCases(places, func(values []string) string {
		quoted := make([]string, len(values))
		for i, value := range values {
			quoted[i] = shellQuoted(value)
		}
		return "compadd -- " + strings.Join(quoted, " ")
	}, "_files"))
	out.WriteString("  esac\n  case \"$at\" in\n")
	for _, p := range places {
		fmt.Fprintf(&out, "    %s) known=(\n", shellQuoted(p.path))
		for _, s := range p.suggestions() {
			fmt.Fprintf(&out, "      %s\n", shellQuoted(strings.ReplaceAll(s.word, ":", `\:`)+":"+s.help))
		}
		out.WriteString("    ) ;;\n")
	}
	out.WriteString("  esac\n  _describe postrider known\n  _files\n}\ncompdef _postrider postrider\n")
	return out.String()
}

func fishCompletion(places []place) string {
	var out strings.Builder
	out.WriteString("# Completion of postrider for fish.\nfunction __postrider_at\n  set -l at\n")
	out.WriteString("  for word in (commandline -opc)[2..-1]\n    switch \"$at $word\"\n")
	var patterns []string
	for _, p := range places {
		for _, command := range p.commands {
			patterns = append(patterns, fishQuoted(p.path+" "+command.word))
		}
	}
	fmt.Fprintf(&out, "      case %s\n        set at (string trim -- \"$at $word\")\n    end\n  end\n", strings.Join(patterns, " "))
	out.WriteString("  test \"$at\" = \"$argv[1]\"\nend\n")
	for _, p := range places {
		at := "complete -c postrider -n " + fishQuoted("__postrider_at "+fishQuoted(p.path))
		for _, command := range p.commands {
			fmt.Fprintf(&out, "%s -f -a %s -d %s\n", at, fishQuoted(command.word), fishQuoted(command.help))
		}
		for _, word := range p.words {
			fmt.Fprintf(&out, "%s -f -a %s\n", at, fishQuoted(word))
		}
		for _, flag := range p.flags {
			fmt.Fprintf(&out, "%s -l %s -d %s", at, strings.TrimPrefix(flag.word, "--"), fishQuoted(flag.help))
			for _, valued := range p.valued {
				if valued == flag.word {
					out.WriteString(" -r")
				}
			}
			if values := p.values[flag.word]; values != nil {
				fmt.Fprintf(&out, " -f -a %s", fishQuoted(strings.Join(values, " ")))
			}
			out.WriteString("\n")
		}
	}
	return out.String()
}

// fishQuoted is a text in single quotes for fish, which escapes inside them.
func fishQuoted(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}
