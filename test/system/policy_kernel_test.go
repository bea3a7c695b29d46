//go:build kernel

package system

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

// configured adds lines to the daemon's configuration.
func configured(lines string) func(*harness.NodeOptions) {
	return func(o *harness.NodeOptions) { o.Config += lines }
}

// TestContainerDefaults: what the configuration says of all containers is what a
// container that says nothing has, and an exec in it.
func TestContainerDefaults(t *testing.T) {
	w := pulled(t, configured(`[containers]
capabilities = ["CAP_KILL", "chown"]
env = ["TZ=Europe/Nowhere", "PATH=/never"]
ulimits = ["core=0", "nofile=123:456"]
pids_limit = 40
`))
	pod, podConfig := w.pod("defaults")
	id := w.run(pod, podConfig, harness.Shell("main", "sleep 3600"))
	const show = `grep CapBnd /proc/self/status; echo "$TZ"; echo "$PATH"; ulimit -Sn; ulimit -Hn; ulimit -c`
	out, err := w.Exec(w.ctx, id, "sh", "-c", show)
	must(t, err)
	// CAP_CHOWN is bit 0, CAP_KILL bit 5.
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 6 || strings.Fields(lines[0])[1] != "0000000000000021" ||
		lines[1] != "Europe/Nowhere" || lines[2] == "/never" || strings.Join(lines[3:], " ") != "123 456 0" {
		t.Errorf("an exec has %q", lines)
	}
	has(t, w.output(pod, podConfig, harness.Shell("init", show)), "0000000000000021", "Europe/Nowhere", "123\n456\n0")
	if got := control(t, w.groupOf(id), "pids/pids.max", "pids.max"); got != "40" {
		t.Errorf("the limit of processes is %s", got)
	}
	asks := harness.Shell("asks", "grep CapBnd /proc/self/status; echo $TZ")
	asks.Envs = []*cri.KeyValue{{Key: "TZ", Value: []byte("own")}}
	asks.Linux.SecurityContext = &cri.LinuxContainerSecurityContext{Capabilities: &cri.Capability{DropCapabilities: []string{"KILL"}}}
	has(t, w.output(pod, podConfig, asks), "0000000000000001", "own")
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestPodDefaults: kernel parameters of all pods that have them for themselves, the
// time zone, and the profile of system calls.
func TestPodDefaults(t *testing.T) {
	profiles := t.TempDir()
	for name, call := range map[string]string{"default": "mkdir", "privileged": "chmod"} {
		text := fmt.Sprintf(`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [%q, %q], "action": "SCMP_ACT_ERRNO"}]}`, call, call+"at")
		must(t, os.WriteFile(filepath.Join(profiles, name), []byte(text), 0o644))
	}
	w := pulled(t, configured(fmt.Sprintf(`[containers]
sysctls = ["net.ipv4.ip_unprivileged_port_start=700", "net.ipv4.tcp_syncookies=0", "kernel.msgmax=4000"]
timezone = "UTC"
seccomp_profile = %q
privileged_seccomp_profile = %q
`, filepath.Join(profiles, "default"), filepath.Join(profiles, "privileged"))))
	const show = `cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/tcp_syncookies /proc/sys/kernel/msgmax
head -c 4 /etc/localtime; echo; touch /etc/localtime; mkdir /made; touch /file; chmod 700 /file; echo end`
	pod, podConfig := w.pod("defaults", func(c *cri.PodSandboxConfig) {
		c.Linux.Sysctls = map[string]string{"net.ipv4.tcp_syncookies": "2"}
		c.Linux.SecurityContext.Privileged = true
	})
	c := harness.Shell("main", show)
	c.Linux.SecurityContext = &cri.LinuxContainerSecurityContext{Seccomp: &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}}
	out := w.output(pod, podConfig, c)
	has(t, out, "700\n2\n4000\nTZif\n", "/etc/localtime: Read-only", "can't create directory '/made': Operation not permitted", "end")
	c = harness.Shell("privileged", show)
	c.Linux.SecurityContext = &cri.LinuxContainerSecurityContext{Privileged: true}
	has(t, w.output(pod, podConfig, c), "/file: Operation not permitted", "end")
	must(t, w.RemovePod(w.ctx, pod))

	onHost, podConfig := w.pod("host", func(c *cri.PodSandboxConfig) {
		c.Linux.SecurityContext.NamespaceOptions = &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Ipc: cri.NamespaceMode_NODE}
	})
	before, err := os.ReadFile("/proc/sys/kernel/msgmax")
	must(t, err)
	has(t, w.output(onHost, podConfig, harness.Shell("main", "cat /proc/sys/kernel/msgmax")), string(before[:len(before)-1]))
	must(t, w.RemovePod(w.ctx, onHost))
	w.clean()
}

// TestMountsOfAll: what the configuration mounts is in every container, in the place of
// the pod's own files too, and may be written to only where it says so.
func TestMountsOfAll(t *testing.T) {
	given, writable, volume := t.TempDir(), t.TempDir(), t.TempDir()
	for dir, text := range map[string]string{given: "the node's", volume: "the pod's"} {
		must(t, os.WriteFile(filepath.Join(dir, "file"), []byte(text), 0o644))
	}
	w := pulled(t, configured(fmt.Sprintf(`[containers]
mounts = ["%[1]s:/given/by/node", "%[1]s/file:/etc/hosts", "%[2]s:/writable:rw,noexec"]
`, given, writable)))
	pod, podConfig := w.pod("mounts")
	const show = `cat /given/by/node/file /etc/hosts; echo; touch /given/by/node/x; touch /etc/hosts
echo 'echo runs' >/writable/x && chmod 755 /writable/x; /writable/x; echo end`
	has(t, w.output(pod, podConfig, harness.Shell("main", show)), "the node'sthe node's\n",
		"/given/by/node/x: Read-only", "/etc/hosts: Read-only", "/writable/x: Permission denied", "end")
	if _, err := os.Stat(filepath.Join(writable, "x")); err != nil {
		t.Error(err)
	}
	c := harness.Shell("volume", "cat /given/by/node/file; echo; touch /given/by/node/y && echo end")
	c.Mounts = []*cri.Mount{{HostPath: volume, ContainerPath: "/given/by/node"}}
	has(t, w.output(pod, podConfig, c), "the pod's\nend")
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestPidsLimitHolds: a container cannot fork beyond its limit.
func TestPidsLimitHolds(t *testing.T) {
	w := pulled(t, configured("[containers]\npids_limit = 10\n"))
	pod, podConfig := w.pod("forks")
	out := w.output(pod, podConfig, harness.Shell("main", "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep 60 & done; echo unlimited"))
	if strings.Contains(out, "unlimited") || !strings.Contains(out, "fork") {
		t.Errorf("fifteen processes under a limit of ten: %q", out)
	}
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestExecAffinity: a command runs on the first of its container's processors,
// also after these have changed.
func TestExecAffinity(t *testing.T) {
	for choice, of := range map[string]func(cpus string) string{
		"first": func(cpus string) string { return cpus[:1] },
		"":      func(cpus string) string { return cpus },
	} {
		w := pulled(t, configured(fmt.Sprintf("[containers]\nexec_cpu_affinity = %q\n", choice)))
		pod, podConfig := w.pod("pinned")
		config := harness.Shell("main", "grep Cpus_allowed_list /proc/self/status; sleep 3600")
		config.Linux.Resources = &cri.LinuxContainerResources{CpusetCpus: "0-1"}
		id := w.run(pod, podConfig, config)
		for _, cpus := range []string{"0-1", "1"} {
			_, err := w.Runtime.UpdateContainerResources(w.ctx, &cri.UpdateContainerResourcesRequest{
				ContainerId: id, Linux: &cri.LinuxContainerResources{CpusetCpus: cpus},
			})
			must(t, err)
			out, err := w.Exec(w.ctx, id, "grep", "Cpus_allowed_list", "/proc/self/status")
			must(t, err)
			if got := strings.Fields(out)[1]; got != of(cpus) {
				t.Errorf("with %q a command in a container on %s runs on %s", choice, cpus, got)
			}
		}
		has(t, w.log(podConfig, config), "0-1")
		must(t, w.RemovePod(w.ctx, pod))
		w.clean()
	}
}

// TestDeviceOwnership gives a device to the user that a container is run as.
func TestDeviceOwnership(t *testing.T) {
	for own, want := range map[bool]string{false: "0:0", true: "1000:2000"} {
		w := pulled(t, configured(fmt.Sprintf("[containers]\ndevice_ownership_from_security_context = %v\n", own)))
		pod, podConfig := w.pod("devices")
		config := harness.Shell("main", "stat -c %u:%g /dev/given; stat -c %u:%g /dev/null")
		config.Devices = []*cri.Device{{HostPath: "/dev/zero", ContainerPath: "/dev/given", Permissions: "rw"}}
		config.Linux.SecurityContext = &cri.LinuxContainerSecurityContext{
			RunAsUser: &cri.Int64Value{Value: 1000}, RunAsGroup: &cri.Int64Value{Value: 2000},
		}
		has(t, w.output(pod, podConfig, config), want+"\n0:0")
		must(t, w.RemovePod(w.ctx, pod))
		w.clean()
	}
}

// TestPrivilegedWithoutHostDevices: all but devices that it did not ask for.
func TestPrivilegedWithoutHostDevices(t *testing.T) {
	for bare, want := range map[bool]string{false: "host's", true: "none"} {
		handlers := ""
		if bare {
			handlers = `"default"`
		}
		w := pulled(t, configured("[containers]\nprivileged_without_host_devices = ["+handlers+"]\n"))
		pod, podConfig := w.pod("privileged", func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.Privileged = true })
		config := harness.Shell("main", `mknod /dev/probe c 10 237; (: </dev/probe) 2>/dev/null && echo may open; [ -e /dev/loop-control ] && echo "host's" || echo none
			grep CapEff /proc/self/status; head -c 1 /dev/given | wc -c`)
		config.Devices = []*cri.Device{{HostPath: "/dev/zero", ContainerPath: "/dev/given", Permissions: "rw"}}
		config.Linux.SecurityContext = &cri.LinuxContainerSecurityContext{Privileged: true}
		out := w.output(pod, podConfig, config)
		has(t, out, want, "\n1")
		if bare == strings.Contains(out, "may open") {
			t.Errorf("without host devices %v, and the container says %q", bare, out)
		}
		must(t, w.RemovePod(w.ctx, pod))
		w.clean()
	}
}

// TestNames: the runtime's name and the containers' groups are as configured,
// over a restart that changes them too.
func TestNames(t *testing.T) {
	w := pulled(t, func(o *harness.NodeOptions) {
		o.Runtime = "name = \"cri-o\"\ncgroup_prefix = \"crio\"\n"
	})
	v, err := w.Runtime.Version(w.ctx, &cri.VersionRequest{})
	must(t, err)
	if v.RuntimeName != "cri-o" {
		t.Errorf("the runtime calls itself %q", v.RuntimeName)
	}
	pod, podConfig := w.pod("named")
	id := w.run(pod, podConfig, harness.Shell("main", "sleep 3600"))
	group := w.groupOf(id)
	if len(id) != 64 || len(pod) != 64 || !strings.HasPrefix(filepath.Base(group), "crio-"+id) {
		t.Errorf("container %s of pod %s has the cgroup %s", id, pod, group)
	}
	must(t, w.Kill())
	conf := filepath.Join(w.Dir, "criruntime.toml")
	text, err := os.ReadFile(conf)
	must(t, err)
	must(t, os.WriteFile(conf, []byte(strings.Replace(string(text), `cgroup_prefix = "crio"`, `cgroup_prefix = ""`, 1)), 0o600))
	must(t, w.Restart(w.ctx))
	second := w.run(pod, podConfig, harness.Shell("second", "sleep 3600"))
	if base := filepath.Base(w.groupOf(second)); base != second {
		t.Errorf("without a prefix the cgroup is %s", base)
	}
	stats, err := w.Runtime.ContainerStats(w.ctx, &cri.ContainerStatsRequest{ContainerId: id})
	must(t, err)
	if stats.GetStats().GetMemory().GetUsageBytes().GetValue() == 0 {
		data, _ := json.Marshal(stats)
		t.Errorf("the container of before has no statistics: %s", data)
	}
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}
