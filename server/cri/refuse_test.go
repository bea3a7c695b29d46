package cri

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

type (
	podConfig       = runtimeapi.PodSandboxConfig
	containerConfig = runtimeapi.ContainerConfig
	resources       = runtimeapi.LinuxContainerResources
)

func goodPod() *podConfig {
	return &podConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: "web", Uid: "u", Namespace: "default"},
		Linux:    &runtimeapi.LinuxPodSandboxConfig{SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{}}},
	}
}

func goodContainer() *containerConfig {
	return &containerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "nginx"},
		Image:    &runtimeapi.ImageSpec{Image: "nginx"},
		Linux: &runtimeapi.LinuxContainerConfig{
			Resources:       &resources{},
			SecurityContext: &runtimeapi.LinuxContainerSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{}},
		},
	}
}

func id(v int64) *runtimeapi.Int64Value { return &runtimeapi.Int64Value{Value: v} }

// check expects success for want "", or else a refusal that contains it.
func check(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("refused: %v", err)
	case want != "" && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want)):
		t.Errorf("got %v, want a refusal with %q", err, want)
	}
}

func TestPodRefusals(t *testing.T) {
	const ns, sc = "config.linux.security_context.namespace_options", "config.linux.security_context"
	for i, row := range []struct {
		change func(p *podConfig)
		want   string
	}{
		{func(*podConfig) {}, ""},
		{func(p *podConfig) { p.Metadata = nil }, "config.metadata.name: must be set; config.metadata.uid: must be set; config.metadata.namespace: must be set"},
		{func(p *podConfig) { p.Linux = nil }, ""},
		{func(p *podConfig) { p.Metadata.Name = "a;IgnoreUnknown=0" }, `config.metadata.name: "a;IgnoreUnknown=0" is not a name`},
		{func(p *podConfig) { p.Metadata.Namespace = "../x" }, "config.metadata.namespace"},
		{func(p *podConfig) { p.Hostname = "a b" }, "config.hostname"},
		{func(p *podConfig) { p.LogDirectory = "logs" }, "config.log_directory"},
		{func(p *podConfig) { p.Linux.CgroupParent = "system.slice" }, ""},
		{func(p *podConfig) { p.Linux.CgroupParent = "/kubepods/../.." }, "config.linux.cgroup_parent"},
		{func(p *podConfig) { p.DnsConfig = &runtimeapi.DNSConfig{} }, ""},
		{func(p *podConfig) { p.DnsConfig = &runtimeapi.DNSConfig{Servers: []string{"1.1.1.1", "fe80::1%eth0"}} }, ""},
		{func(p *podConfig) { p.DnsConfig = &runtimeapi.DNSConfig{Servers: []string{"1.1.1.1", "dns"}} }, "config.dns_config.servers[1]"},
		{func(p *podConfig) { p.DnsConfig = &runtimeapi.DNSConfig{Searches: []string{"a\nnameserver 6.6.6.6"}} }, "config.dns_config.searches[0]"},
		{func(p *podConfig) { p.DnsConfig = &runtimeapi.DNSConfig{Options: []string{""}} }, "config.dns_config.options[0]"},
		{func(p *podConfig) { p.PortMappings = []*runtimeapi.PortMapping{{}} }, ""},
		{func(p *podConfig) { p.PortMappings = []*runtimeapi.PortMapping{{HostPort: 80}} }, "config.port_mappings[0].container_port"},
		{func(p *podConfig) { p.PortMappings = []*runtimeapi.PortMapping{{ContainerPort: 65536}} }, "config.port_mappings[0].container_port"},
		{func(p *podConfig) { p.PortMappings = []*runtimeapi.PortMapping{{HostIp: "localhost"}} }, "config.port_mappings[0].host_ip"},
		{func(p *podConfig) { p.Linux.SecurityContext.RunAsGroup = id(1) }, sc + ".run_as_group: needs run_as_user"},
		{func(p *podConfig) { p.Linux.SecurityContext.RunAsUser = id(maxID + 1) }, sc + ".run_as_user"},
		{func(p *podConfig) { p.Linux.SecurityContext.RunAsUser = id(maxID) }, ""},
		{func(p *podConfig) {
			p.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_CONTAINER
		}, ns + ".network"},
		{func(p *podConfig) { p.Linux.SecurityContext.NamespaceOptions.Ipc = runtimeapi.NamespaceMode_TARGET }, ns + ".ipc"},
		{func(p *podConfig) { p.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_TARGET }, ns + ".pid"},
		{func(p *podConfig) { p.Linux.SecurityContext.NamespaceOptions.TargetId = "x" }, ns + ".target_id"},
		{func(p *podConfig) { p.Linux.Overhead = &resources{CpuShares: -1} }, "config.linux.overhead.cpu_shares"},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			p := goodPod()
			row.change(p)
			_, err := Pod(p)
			check(t, err, row.want)
		})
	}
}

func TestSysctls(t *testing.T) {
	for _, row := range []struct {
		name     string
		net, ipc runtimeapi.NamespaceMode
		want     string
	}{
		{"net.ipv4.ip_forward", 0, 0, ""},
		{"net/ipv4/conf/eth0.100/arp_filter", 0, 0, ""},
		{"kernel.shmmax", 0, 0, ""},
		{"kernel.msgmax", 0, 0, ""},
		{"kernel.sem", 0, 0, ""},
		{"fs.mqueue.msg_max", 0, 0, ""},
		{"net.ipv4.ip_forward", 2, 0, "needs a namespace of the pod's own"},
		{"kernel.shmmax", 0, 2, "needs a namespace of the pod's own"},
		{"kernel.semaphore", 0, 0, "does not belong to a namespace"},
		{"kernel.core_pattern", 0, 0, "does not belong to a namespace"},
		{"vm.swappiness", 0, 0, "does not belong to a namespace"},
		{"net/../kernel/core_pattern", 0, 0, "is not a sysctl"},
		{"net..core_pattern", 0, 0, "is not a sysctl"},
		{"/net/x", 0, 0, "is not a sysctl"},
		{"", 0, 0, "is not a sysctl"},
	} {
		p := goodPod()
		p.Linux.Sysctls = map[string]string{row.name: "1"}
		p.Linux.SecurityContext.NamespaceOptions.Network = row.net
		p.Linux.SecurityContext.NamespaceOptions.Ipc = row.ipc
		_, err := Pod(p)
		check(t, err, row.want)
	}
}

func TestUserNamespaces(t *testing.T) {
	type m = runtimeapi.IDMapping
	whole := []*m{{Length: 65536, HostId: 65536}}
	for i, row := range []struct {
		mode       runtimeapi.NamespaceMode
		uids, gids []*m
		want       string
	}{
		{runtimeapi.NamespaceMode_POD, whole, whole, ""},
		{runtimeapi.NamespaceMode_POD, nil, nil, ""},
		{runtimeapi.NamespaceMode_NODE, nil, nil, ""},
		{runtimeapi.NamespaceMode_NODE, whole, whole, "NODE has no mappings"},
		{runtimeapi.NamespaceMode_CONTAINER, whole, whole, "userns_options.mode"},
		{runtimeapi.NamespaceMode_POD, whole, nil, "must both map the container id 0"},
		{runtimeapi.NamespaceMode_POD, whole, []*m{{ContainerId: 1, Length: 1}}, "must both map the container id 0"},
		{runtimeapi.NamespaceMode_POD, []*m{{}}, whole, "userns_options.uids[0].length: must be set"},
		{runtimeapi.NamespaceMode_POD, []*m{{HostId: 1, Length: maxID + 1}}, whole, "leads beyond the largest id"},
		{runtimeapi.NamespaceMode_POD, []*m{{Length: 10}, {ContainerId: 9, HostId: 100, Length: 1}}, whole, "ranges overlap"},
		{runtimeapi.NamespaceMode_POD, []*m{{Length: 10}, {ContainerId: 10, HostId: 9, Length: 1}}, whole, "ranges overlap"},
		{runtimeapi.NamespaceMode_POD, []*m{{Length: 10}, {ContainerId: 10, HostId: 10, Length: 1}}, whole, ""},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			p := goodPod()
			p.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &runtimeapi.UserNamespace{Mode: row.mode, Uids: row.uids, Gids: row.gids}
			got, err := Pod(p)
			check(t, err, row.want)
			if has := got.Namespaces.User != nil; err == nil && has != (len(row.uids) > 0) {
				t.Errorf("has a user namespace: %v", has)
			}
		})
	}
}

func TestContainerRefusals(t *testing.T) {
	const sc = "config.linux.security_context."
	security := func(f func(s *runtimeapi.LinuxContainerSecurityContext)) func(*containerConfig) {
		return func(c *containerConfig) { f(c.Linux.SecurityContext) }
	}
	type context = *runtimeapi.LinuxContainerSecurityContext
	device := func(d *runtimeapi.Device) func(*containerConfig) {
		return func(c *containerConfig) { c.Devices = []*runtimeapi.Device{d} }
	}
	for i, row := range []struct {
		change func(c *containerConfig)
		want   string
	}{
		{func(*containerConfig) {}, ""},
		{func(c *containerConfig) { c.Linux = nil }, ""},
		{func(c *containerConfig) { c.Metadata = nil }, "config.metadata.name: must be set"},
		{func(c *containerConfig) { c.Image = nil }, "config.image.image: must be set"},
		{func(c *containerConfig) { c.WorkingDir = "srv" }, "config.working_dir"},
		{func(c *containerConfig) { c.LogPath = "../../etc/passwd" }, "config.log_path"},
		{func(c *containerConfig) { c.LogPath = "/var/log/x" }, "config.log_path"},
		{func(c *containerConfig) { c.LogPath = "./" }, `config.log_path: "./" is not a file`},
		{func(c *containerConfig) { c.LogPath = "a..b/0.log" }, ""},
		{func(c *containerConfig) { c.Envs = []*runtimeapi.KeyValue{{Key: "A=B"}} }, "config.envs[0].key"},
		{func(c *containerConfig) { c.Envs = []*runtimeapi.KeyValue{{}} }, "config.envs[0].key"},
		{func(c *containerConfig) { c.Envs = []*runtimeapi.KeyValue{{Key: "A", Value: []byte("\xff=\n")}} }, ""},
		{func(c *containerConfig) { c.StopSignal = 66 }, "config.stop_signal: 66 is not a signal"},
		{device(&runtimeapi.Device{}), "config.devices[0].host_path: must be set"},
		{device(&runtimeapi.Device{HostPath: "/dev/x", ContainerPath: "/dev/x", Permissions: "rx"}), "config.devices[0].permissions"},
		{device(&runtimeapi.Device{HostPath: "/dev/x", ContainerPath: "dev/x", Permissions: "r"}), "config.devices[0].container_path"},
		{func(c *containerConfig) { c.CDIDevices = []*runtimeapi.CDIDevice{{Name: "gpu"}} }, "config.CDI_devices[0].name"},
		{security(func(s context) { s.RunAsGroup = id(1) }), sc + "run_as_group: needs run_as_user or run_as_username"},
		{security(func(s context) { s.RunAsGroup, s.RunAsUsername = id(1), "www" }), ""},
		{security(func(s context) { s.RunAsUser, s.RunAsUsername = id(1), "www" }), sc + "run_as_username: excludes run_as_user"},
		{security(func(s context) { s.RunAsUsername = "www:0" }), sc + "run_as_username"},
		{security(func(s context) { s.RunAsUser = id(-1) }), sc + "run_as_user"},
		{security(func(s context) { s.SupplementalGroups = []int64{1, 1 << 32} }), sc + "supplemental_groups[1]"},
		{security(func(s context) { s.SupplementalGroupsPolicy = 2 }), sc + "supplemental_groups_policy"},
		{security(func(s context) { s.Capabilities = &runtimeapi.Capability{AddCapabilities: []string{"CAP-X"}} }), sc + "capabilities.add_capabilities[0]"},
		{security(func(s context) { s.MaskedPaths = []string{""} }), sc + "masked_paths[0]"},
		{security(func(s context) { s.SelinuxOptions = &runtimeapi.SELinuxOption{Type: "a:b"} }), sc + "selinux_options.type"},
		{security(func(s context) { s.NamespaceOptions.Pid = runtimeapi.NamespaceMode_TARGET }), sc + "namespace_options.target_id"},
		{security(func(s context) { s.NamespaceOptions.TargetId = "x" }), sc + "namespace_options.target_id"},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			c := goodContainer()
			row.change(c)
			_, err := Container(c)
			check(t, err, row.want)
		})
	}
}

func TestMountRefusals(t *testing.T) {
	image := &runtimeapi.ImageSpec{Image: "model"}
	for i, row := range []struct {
		mount *runtimeapi.Mount
		want  string
	}{
		{&runtimeapi.Mount{ContainerPath: "/a", HostPath: "/b"}, ""},
		{&runtimeapi.Mount{ContainerPath: "/a", Image: image, Readonly: true, ImageSubPath: "x/y"}, ""},
		{&runtimeapi.Mount{ContainerPath: "a", HostPath: "/b"}, "config.mounts[0].container_path"},
		{&runtimeapi.Mount{ContainerPath: "/a/../b", HostPath: "/b"}, "config.mounts[0].container_path"},
		{&runtimeapi.Mount{HostPath: "/b"}, "config.mounts[0].container_path: must be set"},
		{&runtimeapi.Mount{ContainerPath: "/a"}, "config.mounts[0].host_path: must be set, or image"},
		{&runtimeapi.Mount{ContainerPath: "/a", HostPath: "b"}, "config.mounts[0].host_path"},
		{&runtimeapi.Mount{ContainerPath: "/a", HostPath: "/b", Image: image, Readonly: true}, "config.mounts[0].host_path: excludes image"},
		{&runtimeapi.Mount{ContainerPath: "/a", Image: image}, "config.mounts[0].readonly: must be true for an image"},
		{&runtimeapi.Mount{ContainerPath: "/a", Image: &runtimeapi.ImageSpec{}, Readonly: true}, "config.mounts[0].image.image: must be set"},
		{&runtimeapi.Mount{ContainerPath: "/a", Image: image, Readonly: true, ImageSubPath: "../x"}, "config.mounts[0].image_sub_path"},
		{&runtimeapi.Mount{ContainerPath: "/a", HostPath: "/b", ImageSubPath: "x"}, "config.mounts[0].image_sub_path: needs image"},
		{&runtimeapi.Mount{ContainerPath: "/a", HostPath: "/b", RecursiveReadOnly: true}, "config.mounts[0].recursive_read_only"},
		{&runtimeapi.Mount{ContainerPath: "/a", HostPath: "/b", RecursiveReadOnly: true, Readonly: true}, ""},
		{&runtimeapi.Mount{ContainerPath: "/a", HostPath: "/b", RecursiveReadOnly: true, Readonly: true, Propagation: 1}, "config.mounts[0].recursive_read_only"},
		{&runtimeapi.Mount{ContainerPath: "/a", HostPath: "/b", MountOptions: []string{"noexec", "remount"}}, "config.mounts[0].mount_options[1]"},
		{&runtimeapi.Mount{ContainerPath: "/a", HostPath: "/b", UidMappings: []*runtimeapi.IDMapping{{}}}, "config.mounts[0].uidMappings[0].length"},
		{&runtimeapi.Mount{ContainerPath: "/a", HostPath: "/b", UidMappings: []*runtimeapi.IDMapping{{Length: 1}}}, "config.mounts[0].uidMappings: needs gidMappings"},
		{&runtimeapi.Mount{ContainerPath: "/a", HostPath: "/b", Propagation: 3}, "config.mounts[0].propagation"},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			c := goodContainer()
			c.Mounts = []*runtimeapi.Mount{row.mount}
			_, err := Container(c)
			check(t, err, row.want)
		})
	}
}

func TestResourceRefusals(t *testing.T) {
	for i, row := range []struct {
		r    *resources
		want string
	}{
		{nil, "linux: must be set"},
		{&resources{}, ""},
		{&resources{CpuPeriod: 999}, "linux.cpu_period"},
		{&resources{CpuPeriod: 1_000_001}, "linux.cpu_period"},
		{&resources{CpuQuota: -1, MemorySwapLimitInBytes: -1, OomScoreAdj: -1000}, ""},
		{&resources{CpuQuota: -2}, "linux.cpu_quota"},
		{&resources{CpuQuota: 999}, "linux.cpu_quota"},
		{&resources{CpuShares: -1}, "linux.cpu_shares"},
		{&resources{MemoryLimitInBytes: -1}, "linux.memory_limit_in_bytes"},
		{&resources{MemorySwapLimitInBytes: -2}, "linux.memory_swap_limit_in_bytes"},
		{&resources{MemoryLimitInBytes: 2, MemorySwapLimitInBytes: 1}, "linux.memory_swap_limit_in_bytes"},
		{&resources{OomScoreAdj: 1001}, "linux.oom_score_adj"},
		{&resources{CpusetCpus: "0-3,8"}, ""},
		{&resources{CpusetCpus: "3-0"}, "linux.cpuset_cpus"},
		{&resources{CpusetCpus: "0-"}, "linux.cpuset_cpus"},
		{&resources{CpusetMems: "a"}, "linux.cpuset_mems"},
		{&resources{CpusetMems: "0,"}, "linux.cpuset_mems"},
		{&resources{HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB"}, {PageSize: "1GB"}, {PageSize: "64KB"}}}, ""},
		{&resources{HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2M"}}}, "linux.hugepage_limits[0].page_size"},
		{&resources{HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "../MB"}}}, "linux.hugepage_limits[0].page_size"},
		{&resources{HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB"}, {PageSize: "2MB"}}}, "linux.hugepage_limits[1].page_size"},
		{&resources{Unified: map[string]string{"memory.high": "max"}}, ""},
		{&resources{Unified: map[string]string{"../x.y": "1"}}, "linux.unified"},
		{&resources{Unified: map[string]string{"memory": "1"}}, "linux.unified"},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			_, err := Resources("linux", row.r)
			check(t, err, row.want)
		})
	}
}

func TestManyProblemsAreBounded(t *testing.T) {
	c := goodContainer()
	for range 1000 {
		c.Mounts = append(c.Mounts, &runtimeapi.Mount{})
	}
	_, err := Container(c)
	if len(err.Error()) > 1000 || !strings.HasSuffix(err.Error(), "and 1992 more") {
		t.Errorf("got %v", err)
	}
}

func TestCommandTimeoutPortsStreams(t *testing.T) {
	check(t, Command("cmd", []string{"ls", ""}), "")
	check(t, Command("cmd", nil), "cmd: must be set")
	for seconds, want := range map[int64]int64{0: 0, 30: 30, math.MaxInt64: 9_223_372_036} {
		got, err := Timeout("timeout", seconds)
		if err != nil || got != want {
			t.Errorf("%d seconds: got %d, %v", seconds, got, err)
		}
	}
	_, err := Timeout("timeout", -1)
	check(t, err, "timeout")
	check(t, Ports("port", nil), "")
	check(t, Ports("port", []int32{1, 65536}), "port[1]")
	check(t, Streams(&runtimeapi.ExecRequest{}), "one of stdin, stdout and stderr must be set")
	check(t, Streams(&runtimeapi.AttachRequest{Tty: true, Stderr: true}), "stderr: must not be set with tty")
	check(t, Streams(&runtimeapi.AttachRequest{Tty: true, Stdout: true}), "")
	check(t, CIDRs("cidr", "10.0.0.0/8,fd00::/64"), "")
	check(t, CIDRs("cidr", "10.0.0.0/8,"), "cidr")
	check(t, Required("id", ""), "id: must be set")
	check(t, Unknown("handler", "a\nb", "is not known"), `handler: "a\nb" is not known`)
}

func TestRedactedKeepsTheRest(t *testing.T) {
	req := &runtimeapi.PullImageRequest{
		Image: &runtimeapi.ImageSpec{Image: "nginx"},
		Auth:  &runtimeapi.AuthConfig{Username: "bob", Password: "s3", Auth: "s3", IdentityToken: "s3", RegistryToken: "s3", ServerAddress: "reg"},
	}
	before := proto.Clone(req)
	text := Redacted(req)
	if strings.Contains(text, "s3") || !strings.Contains(text, "bob") || !strings.Contains(text, "nginx") {
		t.Errorf("got %s", text)
	}
	if !proto.Equal(req, before) {
		t.Error("the request was changed")
	}
}
