package cli

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
)

// A build is what a program was made from.
type build struct {
	version string
	commit  string // empty when the toolchain noted none
	changed bool   // the commit's files had been changed
}

// thisBuild is this program's. The version is that of the linker, else that of
// the module, else devel.
func thisBuild(version string) build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	return newBuild(version, info)
}

func newBuild(version string, info *debug.BuildInfo) build {
	b := build{version: version}
	if module := info.Main.Version; module != "(devel)" {
		b.version = cmp.Or(b.version, module)
	}
	b.version = cmp.Or(b.version, "devel")
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.commit = setting.Value
		case "vcs.modified":
			b.changed = setting.Value == "true"
		}
	}
	return b
}

func (b build) String() string {
	commit := cmp.Or(b.commit, "unknown")
	if b.changed {
		commit += ", with changes"
	}
	return fmt.Sprintf("postrider %s\ncommit %s\n%s %s/%s", b.version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
