package spec

import (
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// ParseMount reads a mount of all containers as administrators write it:
// "source:destination" or "source:destination:options", where the options are
// some of ro, which is the default, rw, noexec, nodev and nosuid, with commas.
// The error wraps ErrInvalid.
func ParseMount(text string) (specs.Mount, error) {
	fail := func(format string, args ...any) (specs.Mount, error) {
		return specs.Mount{}, invalid("mounts", format, args...)
	}
	parts := strings.Split(text, ":")
	if len(parts) < 2 || len(parts) > 3 || strings.ContainsRune(text, 0) {
		return fail("%q is not of the form source:destination:options", text)
	}
	source, destination := path.Clean(parts[0]), path.Clean(parts[1])
	switch {
	case !path.IsAbs(source) || !path.IsAbs(destination):
		return fail("%q does not have two absolute paths", text)
	case slices.Contains([]string{"/", "/proc", "/sys", "/dev"}, destination) || strings.HasPrefix(destination, "/proc/"):
		return fail("%s is not a place for a mount of all containers", destination)
	}
	m := specs.Mount{Destination: destination, Type: "bind", Source: source, Options: []string{"rbind", "rprivate"}}
	access := "ro"
	if len(parts) == 3 {
		for o := range strings.SplitSeq(parts[2], ",") {
			switch o {
			case "ro", "rw":
				access = o
			case "noexec", "nodev", "nosuid":
				m.Options = append(m.Options, o)
			default:
				return fail("option %q of %q is not one of ro, rw, noexec, nodev, nosuid", o, text)
			}
		}
	}
	m.Options = append(m.Options, access)
	return m, nil
}
