package spec

import (
	"path"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// User is who a container's first process is. Package oci/rootfs finds it out.
type User struct {
	UID, GID uint32
	// Groups are the supplementary groups. GID is among them, so that a
	// process cannot shed its group and with it a denial (CVE-2022-36109).
	Groups []uint32
}

// Paths are files and directories of the pod on the host. "" means absent.
type Paths struct {
	// NetNS, IPCNS, UTSNS and UserNS are the pod's pinned namespaces.
	NetNS, IPCNS, UTSNS, UserNS string
	// PIDNS is the pod's shared PID namespace or, for NamespaceTarget, the
	// target container's.
	PIDNS string
	// ResolvConf, Hostname and Hosts are mounted over the files in /etc,
	// unless a volume is mounted there.
	ResolvConf, Hostname, Hosts string
	// Shm is the pod's /dev/shm.
	Shm string
}

// ResolvedDevice is a device node that exists on the host.
type ResolvedDevice struct {
	specs.LinuxDevice
	// Permissions is a subset of "rwm".
	Permissions string
	// Requested says that the container asks for it by name.
	Requested bool
}

// Labels are SELinux contexts. "" sets none.
type Labels struct {
	Process string `json:"process,omitempty"`
	Mount   string `json:"mount,omitempty"`
}

// Input is all that Build needs to know. It is only read.
type Input struct {
	Pod       *Pod
	Container *Container
	PodID     string
	// Handler is the pod's runtime handler, never "".
	Handler string
	// ContainerID becomes the spec's annotation; the cgroup and the root
	// filesystem come with their own fields.
	ContainerID string
	// Hostname is the name in the pod's UTS namespace; "" takes the pod's or,
	// if that is "" as well, the host's.
	Hostname string
	// Image is the configuration of the container's image.
	Image v1.ImageConfig
	User  User
	// Rootfs is absolute, or relative to the bundle.
	Rootfs string
	Host   *Host
	Policy Policy
	Paths  Paths
	// CgroupPath is the container's, relative to the cgroup mount.
	CgroupPath string
	// Mounts are the container's mounts with HostPath resolved: symbolic
	// links followed, images mounted. Nil takes Container.Mounts as they are.
	Mounts []Mount
	// Devices are the container's, looked up on the host, and for a
	// privileged container all of the host's (see oci/host, Devices).
	Devices []ResolvedDevice
	// SeccompProfile is the content of the file that the container's seccomp
	// profile names, if its kind is ProfileLocalhost.
	SeccompProfile []byte
	// Labels are used where Host.SELinux is set.
	Labels Labels
}

// Build returns the OCI runtime spec of a container. It is pure. An error
// wraps ErrInvalid.
func Build(in *Input) (*specs.Spec, error) {
	if err := checkContainer(in); err != nil {
		return nil, err
	}
	process, err := buildProcess(in)
	if err != nil {
		return nil, err
	}
	linux, err := buildLinux(in, process.Capabilities)
	if err != nil {
		return nil, err
	}
	mounts, propagation, err := buildMounts(in)
	if err != nil {
		return nil, err
	}
	linux.RootfsPropagation = propagation
	return &specs.Spec{
		Version:     specs.Version,
		Process:     process,
		Root:        &specs.Root{Path: in.Rootfs, Readonly: in.Container.Security.ReadonlyRootfs},
		Mounts:      mounts,
		Annotations: annotations(in),
		Linux:       linux,
	}, nil
}

func buildLinux(in *Input, caps *specs.LinuxCapabilities) (*specs.Linux, error) {
	sec := &in.Container.Security
	namespaces, err := buildNamespaces(in)
	if err != nil {
		return nil, err
	}
	resources, err := LinuxResources(in.Container.Resources, in.Host)
	if err != nil {
		return nil, err
	}
	devices, rules, err := buildDevices(in)
	if err != nil {
		return nil, err
	}
	resources.Devices = rules
	if n := in.Policy.PidsLimit; n != 0 {
		resources.Pids = &specs.LinuxPids{Limit: &n}
	}
	seccomp, err := buildSeccomp(in, caps)
	if err != nil {
		return nil, err
	}
	l := &specs.Linux{
		Namespaces:  namespaces,
		Resources:   resources,
		CgroupsPath: in.CgroupPath,
		Devices:     devices,
		Seccomp:     seccomp,
	}
	if in.Host.SELinux {
		l.MountLabel = in.Labels.Mount
	}
	if !sec.Privileged {
		l.MaskedPaths = sec.MaskedPaths
		l.ReadonlyPaths = sec.ReadonlyPaths
	}
	if u := in.Pod.Namespaces.User; u != nil && in.Paths.UserNS == "" {
		l.UIDMappings = idMappings(u.UIDs)
		l.GIDMappings = idMappings(u.GIDs)
	}
	if in.Pod.Namespaces.IPC == NamespaceContainer {
		l.Sysctl, err = ipcSysctls(in.Pod, in.Policy.Sysctls)
	}
	return l, err
}

func idMappings(from []IDMapping) []specs.LinuxIDMapping {
	var to []specs.LinuxIDMapping
	for _, m := range from {
		to = append(to, specs.LinuxIDMapping{ContainerID: m.Container, HostID: m.Host, Size: m.Length})
	}
	return to
}

// annotations returns the keys by which other OCI runtimes and tools know what
// a container is. Clients' own annotations stay out: some runtimes obey them.
func annotations(in *Input) map[string]string {
	const prefix = "io.kubernetes.cri."
	image := in.Container.UserImage
	if image == "" {
		image = in.Container.Image
	}
	return map[string]string{
		prefix + "container-type":    "container",
		prefix + "container-name":    in.Container.Name,
		prefix + "image-name":        image,
		prefix + "sandbox-id":        in.PodID,
		prefix + "sandbox-name":      in.Pod.Name,
		prefix + "sandbox-namespace": in.Pod.Namespace,
		prefix + "sandbox-uid":       in.Pod.UID,
	}
}

// checkContainer refuses what contradicts itself and no other function of this
// package comes upon.
func checkContainer(in *Input) error {
	sec := &in.Container.Security
	if err := CheckUser(sec); err != nil {
		return err
	}
	if err := checkSameUser(&in.Pod.Namespaces, &in.Container.Namespaces); err != nil {
		return err
	}
	if sec.Privileged && !in.Pod.Security.Privileged {
		return invalid("privileged", "the container is privileged and its pod is not")
	}
	for _, p := range sec.MaskedPaths {
		if !path.IsAbs(p) {
			return invalid("masked_paths", "%q is not absolute", p)
		}
	}
	for _, p := range sec.ReadonlyPaths {
		if !path.IsAbs(p) {
			return invalid("readonly_paths", "%q is not absolute", p)
		}
	}
	if strings.ContainsRune(in.Rootfs, 0) || in.Rootfs == "" {
		return invalid("rootfs", "%q is not a path", in.Rootfs)
	}
	return nil
}

// CheckUser refuses a security context whose fields on users and groups
// contradict each other. The error wraps ErrInvalid.
func CheckUser(s *Security) error {
	if s.RunAsUser != nil && s.RunAsUsername != "" {
		return invalid("run_as_username", "run_as_user is set as well")
	}
	if s.RunAsGroup != nil && s.RunAsUser == nil && s.RunAsUsername == "" {
		return invalid("run_as_group", "neither run_as_user nor run_as_username is set")
	}
	if s.RunAsUser != nil && !validID(*s.RunAsUser) {
		return invalid("run_as_user", "%d is not a user id", *s.RunAsUser)
	}
	if s.RunAsGroup != nil && !validID(*s.RunAsGroup) {
		return invalid("run_as_group", "%d is not a group id", *s.RunAsGroup)
	}
	for _, g := range s.Groups {
		if !validID(g) {
			return invalid("supplemental_groups", "%d is not a group id", g)
		}
	}
	switch s.GroupsPolicy {
	case "", GroupsMerge, GroupsStrict:
		return nil
	}
	return invalid("supplemental_groups_policy", "%q is not known", s.GroupsPolicy)
}

// validID reports whether the kernel takes id for a user or group: the highest
// 32-bit number means "none".
func validID(id int64) bool { return id >= 0 && id < 1<<32-1 }
