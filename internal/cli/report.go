package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"postrider"
	"postrider/internal/config"
)

// misused reports a command line that cannot be read.
func (p *process) misused(err error) int {
	text, guess, guessed := strings.Cut(err.Error(), ", did you mean ")
	hint := "did you mean " + guess
	if !guessed {
		hint = p.helpOn(err)
	}
	p.report(text, hint)
	return exitUsage
}

// helpOn names the help of the command that was misused.
func (p *process) helpOn(err error) string {
	command := "postrider"
	var wrong *kong.ParseError
	if errors.As(err, &wrong) && wrong.Context != nil && wrong.Context.Selected() != nil {
		command = wrong.Context.Selected().FullPath()
	}
	return "see " + command + " --help"
}

// failed reports how a command ended.
func (p *process) failed(err error) int {
	var faults config.Faults
	switch {
	case errors.Is(err, errReported):
		return exitFailed
	case errors.As(err, &faults):
		for _, fault := range faults {
			p.report(fault.Error(), fault.Hint)
		}
		return exitUsage
	case p.reportRemote(err):
		return exitFailed
	}
	p.report(err.Error(), hintFor(err))
	return exitFailed
}

// refused turns the error of a command that cannot work with its options into
// faults of the flags that gave them.
func refused(parsed *kong.Context, err error) error {
	invalid, ok := errors.AsType[*postrider.Error](err)
	if !ok || invalid.Kind != postrider.Invalid {
		return err
	}
	fields := invalid.Fields
	if len(fields) == 0 {
		fields = []postrider.FieldError{{Field: invalid.Field, Detail: invalid.Detail}}
	}
	var faults config.Faults
	for _, field := range fields {
		fault := config.Fault{Key: field.Field, Detail: field.Detail}
		name := strings.ReplaceAll(field.Field, "_", "-")
		if slices.ContainsFunc(parsed.Selected().Flags, func(f *kong.Flag) bool { return f.Name == name }) {
			fault.Source = "--" + name
		}
		faults = append(faults, fault)
	}
	return faults
}

// oneLine joins the lines of an error: alone they would look like words of
// somebody else. Those under a line with a colon are its parts.
var oneLine = strings.NewReplacer(":\n\t", ": ", "\n\t", "; ", "\n", "; ")

// report says what is wrong and, where it is known, the next step.
func (p *process) report(text, hint string) {
	fmt.Fprintf(p.stderr, "postrider: error: %s\n", oneLine.Replace(text))
	if hint != "" {
		fmt.Fprintf(p.stderr, "postrider: hint: %s\n", hint)
	}
}

// hintFor is the next step after an error of the system that the caller can do
// something about.
func hintFor(err error) string {
	var (
		socket *net.OpError
		file   *fs.PathError
	)
	if errors.As(err, &socket) && socket.Op == "listen" {
		return listenHint(socket)
	}
	switch {
	case errors.Is(err, postrider.ErrNoStore):
		return "name the data directory of a server (--data-dir; the source of an import: --from), or the URL of its database"
	case errors.Is(err, postrider.ErrUnreachable):
		return "see that the database runs, that its URL is right, and that it lets this machine in; then start again"
	case errors.Is(err, postrider.ErrNotEmpty):
		return "import into a new directory or database; what is in this one was not touched"
	case errors.Is(err, postrider.ErrInUse):
		return "stop every server on it first; one that was killed counts as running for 10 s more"
	case errors.Is(err, postrider.ErrOtherKey):
		return "give the key of the store that is moved, as POSTRIDER_ENCRYPTION_KEY or with --encryption-key; a server without such a setting has it in its data directory, in encryption.key"
	case errors.Is(err, postrider.ErrNoExport):
		return "give what postrider export wrote, as it was, and see that the export ends without an error"
	case errors.Is(err, postrider.ErrOtherVersion):
		return "import it with the version of postrider that wrote it"
	case errors.Is(err, postrider.ErrDamaged):
		return "export again, and see that the export ends without an error; nothing was imported"
	case errors.Is(err, syscall.EWOULDBLOCK): // the lock of the data directory
		return "stop that process, or give this one a directory of its own with --data-dir"
	case errors.Is(err, syscall.ENOSPC):
		return "the disk is full: free some of it"
	case errors.As(err, &file):
		return "it takes a directory that this user may write; choose one with --data-dir"
	}
	return ""
}

func listenHint(socket *net.OpError) string {
	switch {
	case errors.Is(socket, syscall.EADDRINUSE):
		return fmt.Sprintf("another process listens on %s: stop it, or choose another address with --listen", socket.Addr)
	case errors.Is(socket, syscall.EACCES):
		return "a port below 1024 takes CAP_NET_BIND_SERVICE; choose one from 1024 on with --listen"
	}
	return "--listen takes an address of this machine, such as 127.0.0.1:8080; :8080 is all of them"
}
