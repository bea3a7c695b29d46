package main

import (
	"os"
	"path/filepath"

	"github.com/criruntime/criruntime/test/harness"
)

// kinds are the runtimes: each writes its configuration and says how the daemon
// is run. All keep their defaults except for paths and for what the machine does
// not permit.
var kinds = map[string]func(*node) error{
	ours:         criruntime,
	"containerd": containerd,
	"crio":       crio,
}

// plainHTTP is a registries.conf(5) for a registry that speaks plain HTTP.
const plainHTTP = "[[registry]]\nlocation = %q\ninsecure = true\n"

func criruntime(n *node) error {
	registries, err := n.write("registries.conf", plainHTTP, n.registry)
	if err != nil {
		return err
	}
	policy, err := n.write("policy.json", `{"default": [{"type": "insecureAcceptAnything"}]}`)
	if err != nil {
		return err
	}
	conf, err := n.write("criruntime.toml", `
root = %q
state = "/run/criruntime"
[log]
level = "info"
[runtime]
cgroup_driver = "cgroupfs"
shim = %q
[image]
registries_conf = %q
policy = %q
[network]
conf_dir = %q
bin_dirs = [%q]
[metrics]
listen = %q
`, n.path("root"), filepath.Join(n.bin, "criruntime-shim"), registries, policy,
		n.path("cni"), filepath.Join(harness.Cache(), "cni"), n.metrics)
	n.socket = "/run/criruntime/criruntime.sock"
	n.argv = []string{filepath.Join(n.bin, "criruntime"), "--config", conf}
	return err
}

// containerd cannot lower a process's oom_score_adj without CAP_SYS_RESOURCE.
func containerd(n *node) error {
	conf, err := n.write("containerd.toml", `
version = 3
root = %q
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins.'io.containerd.internal.v1.opt']
path = %q
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "%s/pause:1"
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = %q
SystemdCgroup = false
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = [%q]
conf_dir = %q
`, n.path("root"), n.path("opt"), n.registry, program("runc"), filepath.Join(harness.Cache(), "cni"), n.path("cni"))
	n.socket = "/run/containerd/containerd.sock"
	n.env = []string{"PATH=" + filepath.Dir(program("containerd")) + ":" + os.Getenv("PATH")}
	n.argv = []string{program("containerd"), "--config", conf}
	return err
}

// crio drops its infra container where it can, as by default, and so starts no
// process with a negative oom_score_adj.
func crio(n *node) error {
	debian := filepath.Join(harness.Cache(), "peers", "debian")
	libraries := filepath.Join(debian, "usr/lib/x86_64-linux-gnu") + ":" + filepath.Join(debian, "lib/x86_64-linux-gnu")
	policy, err := n.write("policy.json", `{"default": [{"type": "insecureAcceptAnything"}]}`)
	if err != nil {
		return err
	}
	conf, err := n.write("crio.conf", `
[crio]
root = %q
runroot = "/run/containers/storage"
log_dir = %q
storage_driver = "overlay"
clean_shutdown_file = %q
[crio.api]
listen = "/run/crio/crio.sock"
[crio.runtime]
default_runtime = "runc"
cgroup_manager = "cgroupfs"
pinns_path = %q
hooks_dir = []
[crio.runtime.runtimes.runc]
runtime_path = %q
runtime_type = "oci"
runtime_root = "/run/runc"
monitor_path = %q
monitor_cgroup = "pod"
monitor_env = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LD_LIBRARY_PATH=%s"]
[crio.image]
pause_image = "%s/pause:1"
signature_policy = %q
[crio.network]
network_dir = %q
plugin_dirs = [%q]
`, n.path("root"), n.path("podlogs"), n.path("clean.shutdown"), program("pinns"), program("runc"),
		filepath.Join(debian, "usr/bin/conmon"), libraries, n.registry, policy,
		n.path("cni"), filepath.Join(harness.Cache(), "cni"))
	n.socket = "/run/crio/crio.sock"
	n.argv = []string{program("crio"), "--config", conf, "--config-dir", n.path("none")}
	if err != nil {
		return err
	}
	// It reads registries.conf from the user's home, or else from /etc.
	if err := os.MkdirAll(n.path("home/.config/containers"), 0o755); err != nil {
		return err
	}
	_, err = n.write("home/.config/containers/registries.conf", plainHTTP, n.registry)
	// Where crun is installed it wants to find a conmon for that one, too.
	n.env = []string{"PATH=" + os.Getenv("PATH") + ":" + filepath.Join(debian, "usr/bin"), "CONTAINERS_CONF=" + os.DevNull, "HOME=" + n.path("home"), "XDG_CONFIG_HOME=" + n.path("home/.config")}
	return err
}
