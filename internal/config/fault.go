package config

import (
	"cmp"
	"strings"
)

// A Fault is one thing that is wrong with the settings. It never holds a
// secret's text.
type Fault struct {
	Key string // of the setting, as in the file; empty when it is none's
	// Source is where the value came from: --listen, POSTRIDER_LISTEN or
	// postrider.yaml:3: listen. It is empty when nobody is known to have set it.
	Source string
	Detail string
	Hint   string // the next step, when Detail does not say it
}

func (f Fault) Error() string { return cmp.Or(f.Source, f.Key) + ": " + f.Detail }

// Faults are all that is wrong with the settings.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

// err is nil without faults: an empty Faults in an error is not.
func (f Faults) err() error {
	if len(f) == 0 {
		return nil
	}
	return f
}
