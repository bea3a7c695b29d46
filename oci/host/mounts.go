package host

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/criruntime/criruntime/oci/spec"
)

// ResolveMount follows the symbolic links in a volume's source and checks that
// the mount it lies on passes mount events as far as the propagation asks. It
// returns the real path. An error wraps spec.ErrInvalid if the source does not
// exist or is not shared, and names it.
func ResolveMount(m *spec.Mount) (source string, err error) {
	fail := func(format string, args ...any) (string, error) {
		return "", fmt.Errorf("%w mounts, %s: %s", spec.ErrInvalid, m.ContainerPath, fmt.Sprintf(format, args...))
	}
	if !filepath.IsAbs(m.HostPath) {
		return fail("host_path %q is not absolute", m.HostPath)
	}
	source, err = filepath.EvalSymlinks(m.HostPath)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail("host_path %q does not exist", m.HostPath)
	case err != nil:
		return fail("host_path %q cannot be resolved: %v", m.HostPath, err)
	case m.Propagation == "" || m.Propagation == spec.PropagationPrivate:
		return source, nil
	}
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(source))
	if err != nil {
		return "", fmt.Errorf("cannot find the mount of %s: %w", source, err)
	}
	mount := innermost(mounts)
	if mount == nil {
		return "", fmt.Errorf("cannot find the mount of %s", source)
	}
	if !passes(mount.Optional, m.Propagation) {
		return fail("propagation %s is not possible: %s is on %s, which is not a shared mount",
			m.Propagation, source, mount.Mountpoint)
	}
	return source, nil
}

// innermost returns the mount with the longest path, the last one of several
// on the same.
func innermost(mounts []*mountinfo.Info) *mountinfo.Info {
	var deepest *mountinfo.Info
	for _, m := range mounts {
		if deepest == nil || len(m.Mountpoint) >= len(deepest.Mountpoint) {
			deepest = m
		}
	}
	return deepest
}

// passes reads mountinfo's optional fields: events of a shared mount go both
// ways, those of a slave come in.
func passes(optional string, p spec.Propagation) bool {
	for field := range strings.FieldsSeq(optional) {
		if strings.HasPrefix(field, "shared:") ||
			p == spec.PropagationHostToContainer && strings.HasPrefix(field, "master:") {
			return true
		}
	}
	return false
}
