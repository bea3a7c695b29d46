//go:build kernel

package system

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

// hostRoot is what the root of mapped pods is on the host.
const hostRoot = 200000

func mapping() []*cri.IDMapping {
	return []*cri.IDMapping{{HostId: hostRoot, ContainerId: 0, Length: 65536}}
}

func userNamespace() *cri.UserNamespace {
	return &cri.UserNamespace{Mode: cri.NamespaceMode_POD, Uids: mapping(), Gids: mapping()}
}

// mappedPod runs a pod in a user namespace of its own.
func (w *world) mappedPod(name string, changes ...func(*cri.PodSandboxConfig)) (string, *cri.PodSandboxConfig) {
	w.t.Helper()
	return w.pod(name, append([]func(*cri.PodSandboxConfig){func(p *cri.PodSandboxConfig) {
		p.Linux.SecurityContext.NamespaceOptions.UsernsOptions = userNamespace()
	}}, changes...)...)
}

// mapped is a container of such a pod.
func mapped(p *cri.PodSandboxConfig, name, script string) *cri.ContainerConfig {
	c := harness.Shell(name, script)
	c.Linux.SecurityContext = &cri.LinuxContainerSecurityContext{NamespaceOptions: p.Linux.SecurityContext.NamespaceOptions}
	return c
}

func owner(t *testing.T, path string) uint32 {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	return info.Sys().(*syscall.Stat_t).Uid
}

// TestUserNamespace looks at the container's own view of everything that has an
// owner.
func TestUserNamespace(t *testing.T) {
	w := pulled(t)
	volume, plain := filepath.Join(w.Dir, "volume"), filepath.Join(w.Dir, "plain")
	for _, dir := range []string{volume, plain} {
		must(t, os.Mkdir(dir, 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "root"), []byte("of the host"), 0o600))
	}
	pod, podConfig := w.mappedPod("mapped", func(p *cri.PodSandboxConfig) {
		p.Hostname = "mapped"
		p.Linux.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "81", "kernel.shm_rmid_forced": "1"}
	})
	config := mapped(podConfig, "main", strings.Join([]string{
		`echo map $(cat /proc/self/uid_map)`, `id -u`, `hostname`,
		`stat -c '%n %u:%g' /bin/sh / /etc /etc/hosts /etc/resolv.conf /etc/hostname /dev/shm /volume/root /plain/root /image/bin/sh`,
		`cat /volume/root; cat /plain/root`,
		`echo new > /volume/new && echo "# mine" >> /etc/hosts && echo y > /dev/shm/y && echo x > /x && chown 7:8 /x && stat -c '%n %u:%g' /x`,
		`cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced`,
		`hostname other`, `ls /dev/pts /dev/mqueue /sys/class/net /sys/fs/cgroup >/dev/null && echo listed`,
		`echo through > /dev/stdout`, `mknod /dev/bad c 1 1`, `echo x > /dev/null && head -c1 /dev/zero | wc -c`,
	}, "\n"))
	config.Mounts = []*cri.Mount{
		{HostPath: volume, ContainerPath: "/volume", UidMappings: mapping(), GidMappings: mapping()},
		{HostPath: plain, ContainerPath: "/plain"},
		{ContainerPath: "/image", Image: &cri.ImageSpec{Image: harness.Busybox}, Readonly: true},
	}
	out := w.output(pod, podConfig, config)
	has(t, out, fmt.Sprintf("map 0 %d 65536", hostRoot), "mapped\n", "/bin/sh 0:0", "/ 0:0", "/etc/hosts 0:0", "/etc/resolv.conf 0:0",
		"/etc/hostname 0:0", "/dev/shm 0:0", "/volume/root 0:0", "/plain/root 65534:65534", "/image/bin/sh 0:0",
		"of the host", "/plain/root': Permission denied", "/x 7:8", "\n81\n1\n", "listed", "through", "mknod: /dev/bad: Operation not permitted")
	if got := owner(t, filepath.Join(volume, "new")); got != 0 {
		t.Errorf("what is written to a mapped volume belongs to %d on the host", got)
	}
	must(t, w.RemovePod(w.ctx, pod))
	must(t, errors.Join(os.RemoveAll(volume), os.RemoveAll(plain)))
	w.clean()
}

// TestUserNamespaceSharesPIDs has containers that see each other, execs in
// them, and a crash of the daemon in between.
func TestUserNamespaceSharesPIDs(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.mappedPod("shared", func(p *cri.PodSandboxConfig) {
		p.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD
	})
	first := w.run(pod, podConfig, mapped(podConfig, "first", "exec sleep 4242"))
	must(t, w.Kill())
	must(t, w.Node.Start(w.ctx))
	second := w.run(pod, podConfig, mapped(podConfig, "second", "exec sleep 4243"))
	init := "pod-init"
	if handler != "" {
		init = "/pause"
	}
	for _, id := range []string{first, second} {
		var out string
		w.eventually(func() (err error) { // each is listed once it is executed
			out, err = w.Exec(w.ctx, id, "sh", "-c", "ps -o args; cat /proc/self/uid_map; echo hi > /dev/stderr")
			if err == nil && !(strings.Contains(out, "sleep 4242") && strings.Contains(out, "sleep 4243")) {
				err = fmt.Errorf("the containers' processes are not seen: %s", out)
			}
			return err
		})
		has(t, out, init, fmt.Sprint(hostRoot))
	}
	target := mapped(podConfig, "debugger", "ps -o args | grep -c 'sleep 424[2]'")
	target.Linux.SecurityContext.NamespaceOptions = &cri.NamespaceOption{
		Pid: cri.NamespaceMode_TARGET, TargetId: first, UsernsOptions: userNamespace(),
	}
	has(t, w.output(pod, podConfig, target), "1")
	status, err := w.PodStatus(w.ctx, pod)
	must(t, err)
	if got := status.GetLinux().GetNamespaces().GetOptions().GetUsernsOptions(); len(got.GetUids()) != 1 || got.Uids[0].HostId != hostRoot {
		t.Errorf("the pod's status tells of the user namespace %v", got)
	}
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestUserNamespaceOnHostNetwork has the host's devices and not its rights.
func TestUserNamespaceOnHostNetwork(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.mappedPod("host", func(p *cri.PodSandboxConfig) {
		p.Linux.SecurityContext.NamespaceOptions.Network = cri.NamespaceMode_NODE
	})
	out := w.output(pod, podConfig, mapped(podConfig, "main",
		"cat /proc/self/uid_map; readlink /proc/self/ns/net; ls /sys/class/net; ip link set lo down; echo 1 > /sys/kernel/profiling; ls /sys/fs/cgroup > /dev/null && echo listed"))
	network, err := os.Readlink("/proc/self/ns/net")
	must(t, err)
	has(t, out, fmt.Sprint(hostRoot), network, "\nlo\n", "listed")
	if strings.Count(out, "Read-only")+strings.Count(out, "denied")+strings.Count(out, "not permitted") < 2 {
		t.Errorf("the container may change the host: %s", out)
	}
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestUserNamespaceRefusals are pods and containers that contradict themselves.
func TestUserNamespaceRefusals(t *testing.T) {
	w := pulled(t)
	for name, change := range map[string]func(*cri.NamespaceOption){
		"userns_options":        func(o *cri.NamespaceOption) { o.UsernsOptions.Gids = nil },
		"namespace_options.pid": func(o *cri.NamespaceOption) { o.Pid = cri.NamespaceMode_NODE },
		"namespace_options.ipc": func(o *cri.NamespaceOption) { o.Ipc = cri.NamespaceMode_NODE },
	} {
		config := w.PodConfig("refused")
		config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = userNamespace()
		change(config.Linux.SecurityContext.NamespaceOptions)
		_, err := w.RunPod(w.ctx, config)
		refused(t, err, codes.InvalidArgument, name)
	}
	pod, podConfig := w.mappedPod("mapped")
	c := harness.Shell("main", "true")
	other := userNamespace()
	other.Uids[0].HostId++
	c.Linux.SecurityContext = &cri.LinuxContainerSecurityContext{NamespaceOptions: &cri.NamespaceOption{UsernsOptions: other}}
	_, err := w.Create(w.ctx, pod, podConfig, c)
	refused(t, err, codes.InvalidArgument, "userns_options", "differ from the pod's")
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestUserNamespaceCrashes kills the daemon while it makes and takes away such
// a pod, and repeats the operation.
func TestUserNamespaceCrashes(t *testing.T) {
	w := pulled(t)
	config := w.PodConfig("mapped")
	config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = userNamespace()
	config.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD
	create := func(w *world) error {
		id, err := w.RunPod(w.ctx, config)
		if err == nil {
			_, err = w.Run(w.ctx, id, config, mapped(config, "main", "exec sleep 4242"))
		}
		return err
	}
	nothing := func(*world) error { return nil }
	for _, point := range []string{
		"RunPod/namespaces/intent", "RunPod/namespaces/done", "RunPod/shm/done", "RunPod/shim/done",
		"CreateContainer/rootfs/intent", "CreateContainer/rootfs/done", "CreateContainer/process/done",
	} {
		w.walk(point, nothing, create)
	}
	for _, point := range []string{"StopPod/shim/intent", "StopPod/namespaces/intent", "StopPod/namespaces/done"} {
		w.walk(point, create, func(w *world) error { return w.RemovePods(w.ctx) })
	}
}
