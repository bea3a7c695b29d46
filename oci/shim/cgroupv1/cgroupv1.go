// Package cgroupv1 shows a container its control groups of version 1. With version 2
// that is one mount; with version 1 it is one per hierarchy, for each of which
// libcontainer's init makes some forty calls, after it has read the machine's whole
// mount table: a sixth of the time that a container's creation takes, and more the
// more pods there are. This package has the container's parent mount the same with
// five calls each, where the OCI runtime specification has hooks change the mounts of
// a container that is being made. It does what pods ask for and leaves the rest to
// libcontainer. Nothing of it is ever outside of the container's mount namespace.
package cgroupv1

import (
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mountpoint is where the groups are, on the machine and in containers.
const mountpoint = "/sys/fs/cgroup"

// TakeOver has this process mount the groups of the container that is made of config,
// once, in the place of the container's init, if that is what the package can do.
// Until then config lacks the mount and has a function as a hook; afterwards, when
// libcontainer writes it down for checkpoints to read, it is as it was.
func TakeOver(config *configs.Config) {
	mounts, hooks := config.Mounts, config.Hooks
	i := slices.IndexFunc(mounts, func(m *configs.Mount) bool { return m.Device == "cgroup" })
	if i < 0 || cgroups.IsCgroup2UnifiedMode() || !ours(config, i) {
		return
	}
	show := configs.NewFunctionHook(func(s *specs.State) error {
		config.Mounts, config.Hooks = mounts, hooks
		v := &view{s.Pid, config.Rootfs, config.Cgroups.Path, mounts[i].Flags&unix.MS_RDONLY != 0}
		return v.show()
	})
	config.Mounts = slices.Concat(mounts[:i], mounts[i+1:])
	config.Hooks = configs.Hooks{}
	maps.Copy(config.Hooks, hooks)
	// The first one of all: other hooks find the mounts as libcontainer leaves them.
	config.Hooks[configs.Prestart] = slices.Concat(configs.HookList{show}, hooks[configs.Prestart])
}

// ours says whether the groups, the mount with the index i, are on a sysfs of the
// container's own that has nothing else mounted on it, and need no label, owner or
// namespace.
func ours(config *configs.Config, i int) bool {
	m := config.Mounts[i]
	sysfs := func(m *configs.Mount) bool { return m.Device == "sysfs" && m.Destination == "/sys" }
	inSys := func(m *configs.Mount) bool { return strings.HasPrefix(m.Destination+"/", "/sys/") }
	return m.Destination == mountpoint && len(m.PropagationFlags) == 0 &&
		slices.ContainsFunc(config.Mounts[:i], sysfs) &&
		!slices.ContainsFunc(config.Mounts[i+1:], inSys) &&
		config.MountLabel == "" &&
		config.Namespaces.Contains(configs.NEWNS) &&
		!config.Namespaces.Contains(configs.NEWUSER) &&
		!config.Namespaces.Contains(configs.NEWCGROUP) &&
		strings.HasPrefix(config.Cgroups.Path, "/") && !config.Cgroups.Systemd
}
