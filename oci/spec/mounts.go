package spec

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// buildMounts returns the container's mounts in the order in which they are to
// be made, parents before children, and the propagation its root needs.
func buildMounts(in *Input) (mounts []specs.Mount, propagation string, err error) {
	asked := in.Mounts
	if asked == nil {
		asked = in.Container.Mounts
	}
	var volumes, own []specs.Mount
	for i := range asked {
		v, err := volume(in, &asked[i])
		if err != nil {
			return nil, "", err
		}
		volumes = append(volumes, v)
		propagation = widerPropagation(propagation, asked[i].Propagation)
	}
	for _, m := range in.Policy.Mounts {
		if !covered(m.Destination, volumes) {
			mounts = append(mounts, m)
		}
	}
	mounts = append(mounts, volumes...)
	for _, m := range systemMounts(in) {
		if !covered(m.Destination, mounts) {
			own = append(own, m)
		}
	}
	for _, m := range podMounts(in) {
		if !taken(m.Destination, mounts) {
			own = append(own, m)
		}
	}
	mounts = append(own, mounts...)
	slices.SortStableFunc(mounts, func(a, b specs.Mount) int {
		return cmp.Compare(strings.Count(a.Destination, "/"), strings.Count(b.Destination, "/"))
	})
	return mounts, propagation, nil
}

// covered reports whether a volume takes a destination's place or would hide
// it: someone who mounts a whole /dev or /sys wants what is in there.
func covered(destination string, volumes []specs.Mount) bool {
	return slices.ContainsFunc(volumes, func(v specs.Mount) bool {
		return v.Destination == destination || strings.HasPrefix(destination, v.Destination+"/")
	})
}

// taken reports whether a volume takes a destination's place. One for the whole
// /etc does not: without the pod's files in it, names would not be resolved.
func taken(destination string, volumes []specs.Mount) bool {
	return slices.ContainsFunc(volumes, func(v specs.Mount) bool { return v.Destination == destination })
}

// systemMounts are the kernel's file systems.
func systemMounts(in *Input) []specs.Mount {
	access := "ro"
	if in.Container.Security.Privileged {
		access = "rw"
	}
	cgroup := access
	if in.Host.CgroupV2 && slices.Contains(in.Policy.CgroupWriters, in.Handler) {
		cgroup = "rw"
	}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs",
			Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts",
			Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", access}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup",
			Options: []string{"nosuid", "noexec", "nodev", "relatime", cgroup}},
	}
	if in.Pod.Namespaces.User != nil && in.Pod.Namespaces.Network == NamespaceNode {
		// sysfs shows a network namespace, and the host's is not the user
		// namespace's to mount.
		mounts[4] = specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys",
			Options: []string{"rbind", "nosuid", "noexec", "nodev", "r" + access}}
	}
	return append(mounts, shmMount(in))
}

// shmMount shares /dev/shm as far as the IPC namespace is shared.
func shmMount(in *Input) specs.Mount {
	bind := func(source string) specs.Mount {
		return specs.Mount{Destination: "/dev/shm", Type: "bind", Source: source,
			Options: []string{"rbind", "rprivate", "nosuid", "noexec", "nodev"}}
	}
	switch {
	case in.Pod.Namespaces.IPC == NamespaceNode:
		return bind("/dev/shm")
	case in.Paths.Shm != "" && in.Pod.Namespaces.IPC != NamespaceContainer:
		return bind(in.Paths.Shm)
	}
	return specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
		Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}}
}

// podMounts are the pod's files for name resolution, which belong to its root and
// follow the root file system in being writable or not, and the host's time zone.
func podMounts(in *Input) []specs.Mount {
	access := "rw"
	if in.Container.Security.ReadonlyRootfs {
		access = "ro"
	}
	var mounts []specs.Mount
	add := func(destination, source string) {
		if source == "" {
			return
		}
		mounts = append(mounts, specs.Mount{Destination: destination, Type: "bind", Source: source,
			Options: []string{"rbind", "rprivate", access}})
	}
	add("/etc/resolv.conf", in.Paths.ResolvConf)
	add("/etc/hostname", in.Paths.Hostname)
	add("/etc/hosts", in.Paths.Hosts)
	access = "ro" // it is the host's
	add("/etc/localtime", in.Policy.Localtime)
	return mounts
}

// volume translates a mount that the client asked for.
func volume(in *Input, m *Mount) (specs.Mount, error) {
	fail := func(format string, args ...any) (specs.Mount, error) {
		return specs.Mount{}, invalid("mounts, "+m.ContainerPath, format, args...)
	}
	destination := path.Join("/", m.ContainerPath)
	switch {
	case destination == "/" || strings.ContainsRune(destination, 0):
		return fail("%q is not a place for a mount", m.ContainerPath)
	case m.HostPath == "":
		return fail("it has no host_path")
	case !path.IsAbs(m.HostPath) || strings.ContainsRune(m.HostPath, 0):
		return fail("host_path %q is not absolute", m.HostPath)
	case (len(m.UIDs) == 0) != (len(m.GIDs) == 0):
		return fail("the mappings of user ids and of group ids are both needed")
	}
	options := []string{"rbind"}
	switch m.Propagation {
	case "", PropagationPrivate:
		options = append(options, "rprivate")
	case PropagationHostToContainer, PropagationBidirectional:
		options = append(options, string(m.Propagation))
	default:
		return fail("propagation %q is not known", m.Propagation)
	}
	switch {
	case m.RecursiveReadOnly && !m.ReadOnly:
		return fail("recursive_read_only needs readonly")
	case m.RecursiveReadOnly && m.Propagation != "" && m.Propagation != PropagationPrivate:
		return fail("recursive_read_only needs private propagation")
	case m.RecursiveReadOnly && !in.Host.RecursiveReadOnly.Yes():
		return fail("this machine's kernel has no recursive read-only mounts")
	case m.RecursiveReadOnly:
		options = append(options, "rro")
	case m.ReadOnly || m.Image != "":
		options = append(options, "ro")
	default:
		options = append(options, "rw")
	}
	for _, o := range m.Options {
		if o != "noexec" && o != "nodev" && o != "nosuid" {
			return fail("option %q is not one of noexec, nodev, nosuid", o)
		}
		options = append(options, o)
	}
	v := specs.Mount{Destination: destination, Type: "bind", Source: m.HostPath, Options: options}
	if m.Image == "" { // an image is mounted with its owners mapped already
		v.UIDMappings, v.GIDMappings = idMappings(m.UIDs), idMappings(m.GIDs)
	}
	return v, nil
}

// widerPropagation returns the propagation of a container's root that lets a
// volume's work: a mount event passes only if the root's own mount passes it.
// "" is the OCI runtime's default, private.
func widerPropagation(root string, volume Propagation) string {
	switch {
	case volume == PropagationBidirectional || root == "rshared":
		return "rshared"
	case volume == PropagationHostToContainer || root == "rslave":
		return "rslave"
	}
	return ""
}
