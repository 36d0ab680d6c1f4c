package config

import (
	"cmp"
	"errors"
	"os"
	"reflect"
	"slices"

	"github.com/alecthomas/kong"
)

// Load completes what the command line says from the environment, then from
// the file, and checks the whole. Its error is Faults: everything that is
// wrong, each with the place where it was written.
//
// A variable that is set to nothing counts as not set: that is what a shell or
// a compose file makes of a variable that it does not have itself.
func (f *Flags) Load(parsed *kong.Context) (Serve, error) {
	given := map[*kong.Flag]bool{}
	for _, step := range parsed.Path {
		if step.Flag != nil {
			given[step.Flag] = true
		}
	}
	var flags []*kong.Flag
	for _, flag := range parsed.Selected().Flags {
		if flag.Name == "config" {
			f.Config = cmp.Or(f.Config, os.Getenv(variable(flag)))
			continue
		}
		flags = append(flags, flag)
	}
	entries, faults := readFile(f.Config, flags)

	sources := map[string]string{} // by key
	for _, flag := range flags {
		found, inFile := entries[key(flag)]
		switch text := os.Getenv(variable(flag)); {
		case given[flag]:
			found = entry{source: "--" + flag.Name}
		case text != "":
			found = entry{source: variable(flag), texts: []string{text}}
			faults = found.fill(flag, faults)
		case inFile:
			faults = found.fill(flag, faults)
		}
		sources[key(flag)] = found.source
	}
	unread := map[string]bool{}
	for _, fault := range faults {
		unread[fault.Key] = true
	}
	for _, fault := range f.Serve.faults() {
		// What could not be read still has its default, which says nothing.
		if !unread[fault.Key] {
			fault.Source = sources[fault.Key]
			faults = append(faults, fault)
		}
	}
	return f.Serve, faults.err()
}

// LoadWithoutKey is Load for who needs no encryption key of a database.
func (f *Flags) LoadWithoutKey(parsed *kong.Context) (Serve, error) {
	settings, err := f.Load(parsed)
	if faults, ok := errors.AsType[Faults](err); ok && settings.EncryptionKey == "" {
		err = slices.DeleteFunc(faults, func(fault Fault) bool { return fault.Key == "encryption_key" }).err()
	}
	return settings, err
}

// An entry is the text that a setting was given somewhere.
type entry struct {
	source string
	texts  []string // one, or the elements of a list
}

// fill gives the flag's field its value, or adds the fault.
func (e entry) fill(flag *kong.Flag, faults Faults) Faults {
	value := reflect.New(flag.Target.Type()).Elem()
	if flag.IsSlice() {
		value.Set(reflect.MakeSlice(value.Type(), 0, len(e.texts))) // an empty list is not "no list"
	}
	for _, text := range e.texts {
		scan := kong.ScanFromTokens(kong.Token{Value: text, Type: kong.FlagValueToken})
		if err := flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: scan}, value); err != nil {
			return append(faults, Fault{Key: key(flag), Source: e.source, Detail: err.Error()})
		}
	}
	flag.Target.Set(value)
	return faults
}
