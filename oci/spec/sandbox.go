package spec

import (
	"maps"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// SharedVersion is the version of the OCI runtime specification that specs for
// other runtimes name: older ones refuse what is newer than they are, and nothing
// in these specs is.
const SharedVersion = "1.0.2"

// SandboxInput is all that BuildSandbox needs to know. It is only read.
type SandboxInput struct {
	Pod   *Pod
	PodID string
	// Hostname is the name in the pod's UTS namespace.
	Hostname string
	Host     *Host
	Paths    Paths
	// CgroupPath is the sandbox container's, relative to the cgroup mount.
	CgroupPath string
	// Rootfs is absolute, Command a path in it.
	Rootfs, Command string
}

// BuildSandbox returns the OCI runtime spec of the container that other runtimes
// hang a pod's containers on. It is pure. The annotations by which those know
// what it is are containerd's.
func BuildSandbox(in *SandboxInput) (*specs.Spec, error) {
	shaped := &Input{
		Pod: in.Pod, PodID: in.PodID, Hostname: in.Hostname, Host: in.Host, Paths: in.Paths,
		// The namespaces are the pod's, and the first of a PID namespace that
		// the pod shares makes it.
		Container: &Container{Namespaces: Namespaces{PID: in.Pod.Namespaces.PID}},
	}
	shaped.Paths.PIDNS = ""
	if in.Pod.Namespaces.PID != NamespaceNode {
		shaped.Container.Namespaces.PID = NamespaceContainer
	}
	namespaces, err := buildNamespaces(shaped)
	if err != nil {
		return nil, err
	}
	shares := uint64(2)
	linux := &specs.Linux{
		Namespaces:    namespaces,
		CgroupsPath:   in.CgroupPath,
		Resources:     &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &shares}},
		MaskedPaths:   []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug"},
		ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
	}
	score, err := oomScoreAdj(nil, in.Host)
	if err != nil {
		return nil, err
	}
	return &specs.Spec{
		Version: SharedVersion,
		Process: &specs.Process{
			Args: []string{in.Command}, Env: []string{"PATH=" + defaultPath}, Cwd: "/",
			Capabilities: &specs.LinuxCapabilities{}, NoNewPrivileges: true, OOMScoreAdj: &score,
		},
		Root: &specs.Root{Path: in.Rootfs, Readonly: true},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		},
		Annotations: sandboxAnnotations(in),
		Linux:       linux,
	}, nil
}

// sandboxAnnotations say whose sandbox it is and, to runtimes that size a
// machine by that, what its containers may use together.
func sandboxAnnotations(in *SandboxInput) map[string]string {
	const prefix = "io.kubernetes.cri."
	all := map[string]string{
		prefix + "container-type":        "sandbox",
		prefix + "sandbox-id":            in.PodID,
		prefix + "sandbox-name":          in.Pod.Name,
		prefix + "sandbox-namespace":     in.Pod.Namespace,
		prefix + "sandbox-uid":           in.Pod.UID,
		prefix + "sandbox-log-directory": in.Pod.LogDir,
	}
	if r := in.Pod.Resources; r != nil {
		maps.Copy(all, map[string]string{
			prefix + "sandbox-cpu-period": strconv.FormatInt(r.CPUPeriod, 10),
			prefix + "sandbox-cpu-quota":  strconv.FormatInt(r.CPUQuota, 10),
			prefix + "sandbox-cpu-shares": strconv.FormatInt(r.CPUShares, 10),
			prefix + "sandbox-memory":     strconv.FormatInt(r.Memory, 10),
		})
	}
	return all
}
