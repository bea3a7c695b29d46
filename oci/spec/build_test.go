package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
)

var update = flag.Bool("update", false, "write the golden files in testdata anew")

// hostV1 and hostV2 are machines with everything, hybrid and unified.
func hostV1() *Host {
	return &Host{
		Controllers:    []string{"blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids"},
		SwapLimit:      true,
		HugepageSizes:  []string{"2MB", "1GB"},
		Capabilities:   slices.DeleteFunc(slices.Clone(knownCapabilities), func(n string) bool { return n == "CAP_SYS_RESOURCE" }),
		MinOOMScoreAdj: 0, Seccomp: true,
		RecursiveReadOnly: SupportYes, UserNamespaces: SupportYes, IDMappedOverlay: SupportYes,
		KernelRelease: "6.18.0", Hostname: "node-1",
	}
}

func hostV2() *Host {
	h := hostV1()
	h.CgroupV2 = true
	h.Controllers = []string{"cpu", "cpuset", "hugetlb", "io", "memory", "pids"}
	h.Capabilities = knownCapabilities
	h.MinOOMScoreAdj = -1000
	h.AppArmor, h.AppArmorDefault, h.SELinux = true, "criruntime-default", true
	return h
}

var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW",
	"CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE",
	"CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// busybox is a container as a kubelet asks for it when the pod says no more
// than image and command.
func busybox() *Input {
	return &Input{
		Pod: &Pod{
			Name: "web", Namespace: "default", UID: "1b4e28ba-2fa1-11d2-883f-0016d3cca427", Hostname: "web",
			CgroupParent: "/kubepods/besteffort/pod1b4e28ba",
			Namespaces:   Namespaces{Network: NamespacePod, PID: NamespaceContainer, IPC: NamespacePod},
		},
		Container: &Container{
			Name: "main", Image: "sha256:0123", UserImage: "docker.io/library/busybox:1.37",
			Args:       []string{"sleep", "1h"},
			Namespaces: Namespaces{Network: NamespacePod, PID: NamespaceContainer, IPC: NamespacePod},
			Security: Security{
				MaskedPaths:   []string{"/proc/kcore", "/proc/keys", "/sys/firmware"},
				ReadonlyPaths: []string{"/proc/bus", "/proc/sys"},
			},
			Resources: &Resources{CPUShares: 2, OOMScoreAdj: 1000, Hugepages: []Hugepage{{PageSize: "2MB"}, {PageSize: "1GB"}}},
			Mounts: []Mount{
				{ContainerPath: "/var/run/secrets/kubernetes.io/serviceaccount", HostPath: "/var/lib/kubelet/pods/1/volumes/token", ReadOnly: true},
				{ContainerPath: "/etc/hosts", HostPath: "/var/lib/kubelet/pods/1/etc-hosts"},
				{ContainerPath: "/dev/termination-log", HostPath: "/var/lib/kubelet/pods/1/containers/main/2"},
			},
		},
		PodID: strings.Repeat("a", 64), ContainerID: strings.Repeat("b", 64),
		Image: v1.ImageConfig{
			Env: []string{"PATH=/bin", "LANG=C"}, Entrypoint: []string{"/entry"}, Cmd: []string{"sh"}, WorkingDir: "/srv",
		},
		User: User{Groups: []uint32{0}}, Rootfs: "/run/criruntime/rootfs", Host: hostV1(),
		Handler: "default", Policy: Policy{Capabilities: defaultCapabilities},
		Paths: Paths{
			NetNS: "/run/netns/cri-aaaa", IPCNS: "/run/criruntime/ns/ipc", UTSNS: "/run/criruntime/ns/uts",
			ResolvConf: "/run/criruntime/resolv.conf", Hostname: "/run/criruntime/hostname",
			Hosts: "/run/criruntime/hosts", Shm: "/run/criruntime/shm",
		},
		CgroupPath: "/kubepods/besteffort/pod1b4e28ba/" + strings.Repeat("b", 64),
	}
}

func device(path string, major, minor int64, permissions string) ResolvedDevice {
	mode, uid, gid := os.FileMode(0o660), uint32(0), uint32(6)
	return ResolvedDevice{Permissions: permissions, LinuxDevice: specs.LinuxDevice{
		Path: path, Type: "c", Major: major, Minor: minor, FileMode: &mode, UID: &uid, GID: &gid,
	}}
}

// golden are the inputs whose specs are in testdata.
var golden = map[string]func(in *Input){
	"default": func(*Input) {},
	"v2":      func(in *Input) { in.Host = hostV2() },
	"privileged": func(in *Input) {
		in.Pod.Security.Privileged = true
		in.Container.Security = Security{
			Privileged: true, Seccomp: &Profile{Kind: ProfileRuntimeDefault},
			MaskedPaths: []string{"/proc/kcore"}, Capabilities: &Capabilities{Drop: []string{"ALL"}},
		}
		in.Devices = []ResolvedDevice{device("/dev/kvm", 10, 232, "rwm"), device("/dev/fuse", 10, 229, "rwm")}
		in.Labels = Labels{Process: "p", Mount: "m"}
		in.Host = hostV2()
	},
	"host-everything": func(in *Input) {
		all := Namespaces{Network: NamespaceNode, PID: NamespaceNode, IPC: NamespaceNode}
		in.Pod.Namespaces, in.Container.Namespaces = all, all
		in.Pod.Hostname = ""
		in.Paths.NetNS, in.Paths.IPCNS, in.Paths.UTSNS, in.Paths.Shm = "", "", "", ""
	},
	"all-resources": func(in *Input) {
		in.Host = hostV2()
		in.Container.Resources = &Resources{
			CPUPeriod: 100000, CPUQuota: 50000, CPUShares: 512, CPUSetCPUs: "0-1", CPUSetMems: "0",
			Memory: 64 << 20, OOMScoreAdj: -997,
			Hugepages: []Hugepage{{PageSize: "2MB", Limit: 4 << 20}, {PageSize: "1GB"}},
			Unified:   map[string]string{"memory.high": "60000000"},
		}
	},
	"all-resources-v1": func(in *Input) {
		in.Container.Resources = &Resources{
			CPUPeriod: 100000, CPUQuota: -1, CPUShares: 512, CPUSetCPUs: "0-1",
			Memory: 64 << 20, MemorySwap: 128 << 20, OOMScoreAdj: -997, Hugepages: []Hugepage{{PageSize: "2MB"}},
		}
	},
	"tty": func(in *Input) {
		in.Container.TTY = true
		in.Container.Command = []string{"sh"}
		in.Container.Args = nil
		in.Container.WorkingDir = "/tmp/../work"
		in.Container.Env = []Env{{Name: "LANG", Value: "de_DE"}, {Name: "BYTES", Value: "\x01=2"}, {Name: "LANG", Value: "fr_FR"}}
	},
	"confined": func(in *Input) {
		in.Host = hostV2()
		in.User = User{UID: 1000, GID: 2000, Groups: []uint32{2000, 3000}}
		in.Labels = Labels{Process: "system_u:system_r:container_t:s0:c1,c2", Mount: "system_u:object_r:container_file_t:s0:c1,c2"}
		in.Container.Security.ReadonlyRootfs = true
		in.Container.Security.NoNewPrivs = true
		in.Container.Security.Seccomp = &Profile{Kind: ProfileRuntimeDefault}
		in.Container.Security.AppArmor = &Profile{Kind: ProfileLocalhost, Localhost: "localhost/strict"}
		in.Container.Security.Capabilities = &Capabilities{
			Drop: []string{"ALL"}, Add: []string{"NET_BIND_SERVICE"}, AddAmbient: []string{"cap_net_raw"},
		}
	},
	"volumes": func(in *Input) {
		in.Devices = []ResolvedDevice{device("/dev/fuse", 10, 229, "rw")}
		in.Mounts = []Mount{
			{ContainerPath: "/data/a/b", HostPath: "/srv/b", Propagation: PropagationHostToContainer},
			{ContainerPath: "/data", HostPath: "/srv/data", Propagation: PropagationBidirectional},
			{ContainerPath: "data/ro/", HostPath: "/srv/ro", ReadOnly: true, RecursiveReadOnly: true},
			{ContainerPath: "/image", HostPath: "/run/image", Image: "sha256:4567"},
			{ContainerPath: "/dev/shm", HostPath: "/srv/shm", Options: []string{"noexec", "nodev", "nosuid"}},
			{ContainerPath: "/etc/resolv.conf", HostPath: "/srv/resolv.conf"},
			{ContainerPath: "/sys", HostPath: "/sys", Propagation: PropagationHostToContainer},
		}
	},
	"userns": func(in *Input) {
		in.Host = hostV2()
		ids := []IDMapping{{Container: 0, Host: 65536, Length: 65536}}
		in.Pod.Namespaces.User = &UserNamespace{UIDs: ids, GIDs: ids}
		in.Container.Namespaces.User = &UserNamespace{UIDs: ids, GIDs: ids}
		in.Mounts = []Mount{
			{ContainerPath: "/data", HostPath: "/srv/data", UIDs: ids, GIDs: ids},
			{ContainerPath: "/image", HostPath: "/run/image", Image: "sha256:4567", UIDs: ids, GIDs: ids},
		}
	},
	"userns-host-network": func(in *Input) {
		in.Host = hostV2()
		ids := []IDMapping{{Container: 0, Host: 65536, Length: 65536}}
		in.Pod.Namespaces.User = &UserNamespace{UIDs: ids, GIDs: ids}
		in.Pod.Namespaces.Network = NamespaceNode
		in.Paths.UserNS = "/run/criruntime/ns/user"
	},
	"target-pid": func(in *Input) {
		in.Container.Namespaces.PID = NamespaceTarget
		in.Container.Namespaces.TargetID = "c"
		in.Paths.PIDNS = "/proc/42/ns/pid"
	},
	"shared-pid": func(in *Input) {
		in.Pod.Namespaces.PID, in.Container.Namespaces.PID = NamespacePod, NamespacePod
		in.Paths.PIDNS = "/run/criruntime/ns/pid"
	},
	"own-ipc": func(in *Input) {
		in.Pod.Namespaces.IPC = NamespaceContainer
		in.Pod.Sysctls = map[string]string{"kernel/shmmax": "65536", "net.core.somaxconn": "1024"}
	},
}

func TestBuildGolden(t *testing.T) {
	for name, change := range golden {
		t.Run(name, func(t *testing.T) {
			in := busybox()
			change(in)
			before := marshal(t, in)
			s, err := Build(in)
			if err != nil {
				t.Fatal(err)
			}
			if got := marshal(t, in); !bytes.Equal(got, before) {
				t.Errorf("Build changed its input to %s", got)
			}
			if s.Linux.Seccomp != nil { // its rules are the library's business
				s.Linux.Seccomp.Syscalls = nil
			}
			compareGolden(t, name, marshal(t, s))
		})
	}
}

func compareGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the spec is not the one in %s; run go test -update and look at the difference\n%s", file, got)
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(body, '\n')
}

func ptr[T any](v T) *T { return &v }

func TestBuildRefuses(t *testing.T) {
	for _, test := range []struct {
		field  string // the error names it
		change func(in *Input)
	}{
		{"run_as_group", func(in *Input) { in.Container.Security.RunAsGroup = ptr(int64(1)) }},
		{"run_as_username", func(in *Input) {
			in.Container.Security.RunAsUser, in.Container.Security.RunAsUsername = ptr(int64(1)), "a"
		}},
		{"run_as_user", func(in *Input) { in.Container.Security.RunAsUser = ptr(int64(-1)) }},
		{"run_as_user", func(in *Input) { in.Container.Security.RunAsUser = ptr(int64(1<<32 - 1)) }},
		{"supplemental_groups", func(in *Input) { in.Container.Security.Groups = []int64{-1} }},
		{"supplemental_groups_policy", func(in *Input) { in.Container.Security.GroupsPolicy = "x" }},
		{"privileged", func(in *Input) { in.Container.Security.Privileged = true }},
		{"masked_paths", func(in *Input) { in.Container.Security.MaskedPaths = []string{"proc"} }},
		{"readonly_paths", func(in *Input) { in.Container.Security.ReadonlyPaths = []string{"proc"} }},
		{"rootfs", func(in *Input) { in.Rootfs = "" }},
		{"command", func(in *Input) { in.Container.Args, in.Image.Entrypoint, in.Image.Cmd = nil, nil, nil }},
		{"command", func(in *Input) { in.Container.Args, in.Image.Entrypoint, in.Image.Cmd = nil, []string{""}, nil }},
		{"command", func(in *Input) { in.Container.Args = []string{"a\x00"} }},
		{"envs", func(in *Input) { in.Container.Env = []Env{{Name: ""}} }},
		{"envs", func(in *Input) { in.Container.Env = []Env{{Name: "A=B"}} }},
		{"envs", func(in *Input) { in.Container.Env = []Env{{Name: "A", Value: "\x00"}} }},
		{"working_dir", func(in *Input) { in.Container.WorkingDir = "srv" }},
		{"add_capabilities", func(in *Input) { in.Container.Security.Capabilities = &Capabilities{Add: []string{"FLY"}} }},
		{"drop_capabilities", func(in *Input) { in.Container.Security.Capabilities = &Capabilities{Drop: []string{"FLY"}} }},
		{"add_ambient_capabilities", func(in *Input) { in.Container.Security.Capabilities = &Capabilities{AddAmbient: []string{"FLY"}} }},
		{"apparmor", func(in *Input) { in.Container.Security.AppArmor = &Profile{Kind: ProfileLocalhost, Localhost: "x"} }},
		{"apparmor", func(in *Input) { in.Container.Security.AppArmor = &Profile{Kind: "x"} }},
		{"apparmor", func(in *Input) {
			in.Host = hostV2()
			in.Container.Security.AppArmor = &Profile{Kind: ProfileLocalhost, Localhost: "localhost/"}
		}},
		{"seccomp", func(in *Input) { in.Container.Security.Seccomp = &Profile{Kind: "x"} }},
		{"seccomp", func(in *Input) {
			in.Host.Seccomp = false
			in.Container.Security.Seccomp = &Profile{Kind: ProfileLocalhost, Localhost: "/x"}
			in.SeccompProfile = []byte(`{"defaultAction":"SCMP_ACT_ALLOW"}`)
		}},
		{"namespace_options.network", func(in *Input) { in.Paths.NetNS = "" }},
		{"namespace_options.ipc", func(in *Input) { in.Paths.IPCNS = "" }},
		{"namespace_options.pid", func(in *Input) { in.Container.Namespaces.PID = "x" }},
		{"namespace_options.target_id", func(in *Input) { in.Container.Namespaces.PID = NamespaceTarget }},
		{"sysctls", func(in *Input) {
			in.Pod.Namespaces.IPC, in.Pod.Sysctls = NamespaceContainer, map[string]string{"kernel.panic": "1"}
		}},
		{"devices", func(in *Input) { in.Devices = []ResolvedDevice{device("/dev/a", 1, 1, "x")} }},
		{"devices", func(in *Input) { in.Devices = []ResolvedDevice{device("/dev/a", 1, 1, "")} }},
		{"mounts", func(in *Input) { in.Mounts = []Mount{{ContainerPath: "/", HostPath: "/a"}} }},
		{"mounts", func(in *Input) { in.Mounts = []Mount{{ContainerPath: "/a/..", HostPath: "/a"}} }},
		{"mounts", func(in *Input) { in.Mounts = []Mount{{ContainerPath: "/a"}} }},
		{"mounts", func(in *Input) { in.Mounts = []Mount{{ContainerPath: "/a", HostPath: "a"}} }},
		{"mounts", func(in *Input) { in.Mounts = []Mount{{ContainerPath: "/a\x00", HostPath: "/a"}} }},
		{"mounts", func(in *Input) { in.Mounts = []Mount{{ContainerPath: "/a", HostPath: "/a", Propagation: "x"}} }},
		{"mounts", func(in *Input) { in.Mounts = []Mount{{ContainerPath: "/a", HostPath: "/a", RecursiveReadOnly: true}} }},
		{"mounts", func(in *Input) {
			in.Mounts = []Mount{{ContainerPath: "/a", HostPath: "/a", ReadOnly: true, RecursiveReadOnly: true, Propagation: PropagationBidirectional}}
		}},
		{"mounts", func(in *Input) {
			in.Host.RecursiveReadOnly = SupportUnknown
			in.Mounts = []Mount{{ContainerPath: "/a", HostPath: "/a", ReadOnly: true, RecursiveReadOnly: true}}
		}},
		{"mounts", func(in *Input) { in.Mounts = []Mount{{ContainerPath: "/a", HostPath: "/a", Options: []string{"suid"}}} }},
		{"mounts", func(in *Input) {
			in.Mounts = []Mount{{ContainerPath: "/a", HostPath: "/a", UIDs: []IDMapping{{Length: 1}}}}
		}},
		{"userns_options", func(in *Input) {
			in.Container.Namespaces.User = &UserNamespace{UIDs: []IDMapping{{Length: 1}}, GIDs: []IDMapping{{Length: 1}}}
		}},
		{"userns_options", func(in *Input) {
			in.Pod.Namespaces.User = &UserNamespace{UIDs: []IDMapping{{Length: 1}}, GIDs: []IDMapping{{Length: 1}}}
			in.Container.Namespaces.User = &UserNamespace{UIDs: []IDMapping{{Length: 2}}, GIDs: []IDMapping{{Length: 1}}}
		}},
		{"pid", func(in *Input) {
			in.Pod.Namespaces.User = &UserNamespace{UIDs: []IDMapping{{Length: 1}}, GIDs: []IDMapping{{Length: 1}}}
			in.Container.Namespaces.PID = NamespaceNode
		}},
		{"oom_score_adj", func(in *Input) { in.Container.Resources.OOMScoreAdj = 1001 }},
		{"unified", func(in *Input) { in.Container.Resources.Unified = map[string]string{"memory.high": "1"} }},
	} {
		in := busybox()
		test.change(in)
		s, err := Build(in)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), test.field) || s != nil {
			t.Errorf("%s: Build = %v, error %v, want one that names the field and wraps ErrInvalid", test.field, s, err)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	in := busybox()
	in.Container.Security.Seccomp = &Profile{Kind: ProfileRuntimeDefault}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Build(in); err != nil {
			b.Fatal(err)
		}
	}
}
