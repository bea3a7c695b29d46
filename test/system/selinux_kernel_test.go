//go:build kernel

package system

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

// TestSELinux looks at labels and at what the kernel makes of them, on a machine
// that enforces a policy. That of test/vm has one, and fails if this is skipped.
func TestSELinux(t *testing.T) {
	if enforced, err := os.ReadFile("/sys/fs/selinux/enforce"); err != nil || string(enforced) != "1" {
		t.Skip("this kernel enforces no SELinux policy")
	}
	w := pulled(t, func(o *harness.NodeOptions) { o.Config = "[containers]\nselinux = true\n" })
	for name, test := range map[string]func(*world){
		"labels": labelsAreGiven, "own": labelsAreOwn, "privileged": privilegedIsNotConfined,
		"files": filesAreLabelled, "volumes": volumesAreRelabelled, "levels": levelsSeparate,
		"restart": levelsOutliveTheDaemon, "terminal": terminalsAreLabelled, "refused": labelsAreRefused,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
			defer cancel()
			sub := &world{Node: w.Node, Client: w.Client, t: t, ctx: ctx, quiet: w.quiet}
			test(sub)
			must(t, sub.RemovePods(ctx))
			sub.clean()
		})
	}
}

const (
	userLabel = "system_u:system_r:container_t:"
	fileLabel = "system_u:object_r:container_file_t:"
)

// labelled runs a pod that asks for labels, nil for none. It has the machine's
// network, which says nothing of labels and takes its time.
func (w *world) labelled(name string, o *cri.SELinuxOption) (string, *cri.PodSandboxConfig) {
	w.t.Helper()
	return w.pod(name, func(p *cri.PodSandboxConfig) {
		p.Hostname = ""
		p.Linux.SecurityContext.SelinuxOptions = o
		p.Linux.SecurityContext.NamespaceOptions.Network = cri.NamespaceMode_NODE
		p.Linux.SecurityContext.Privileged = name == "privileged"
	})
}

// of asks for a container's labels.
func of(c *cri.ContainerConfig, o *cri.SELinuxOption) *cri.ContainerConfig {
	c.Linux.SecurityContext = &cri.LinuxContainerSecurityContext{SelinuxOptions: o}
	return c
}

// idle is a container that waits.
func idle(name string) *cri.ContainerConfig { return harness.Shell(name, "exec sleep 3600") }

// proc is a container's directory in /proc.
func (w *world) proc(id string) string {
	w.t.Helper()
	r, err := w.Runtime.ContainerStatus(w.ctx, &cri.ContainerStatusRequest{ContainerId: id, Verbose: true})
	must(w.t, err)
	var info struct {
		Pid int `json:"pid"`
	}
	must(w.t, json.Unmarshal([]byte(r.Info["info"]), &info))
	if info.Pid < 2 {
		w.t.Fatalf("the container has no pid: %s", r.Info["info"])
	}
	return fmt.Sprintf("/proc/%d", info.Pid)
}

// domain is the label of a container's process. It has that of the runtime until
// it has become the container's program.
func (w *world) domain(id string) (label string) {
	w.t.Helper()
	own := processLabel(w.t, "/proc/self")
	w.eventually(func() error {
		if label = processLabel(w.t, w.proc(id)); label == own {
			return fmt.Errorf("the process of container %s is still libcontainer's", id)
		}
		return nil
	})
	return label
}

func processLabel(t *testing.T, proc string) string {
	t.Helper()
	b, err := os.ReadFile(proc + "/attr/current")
	must(t, err)
	return strings.Trim(string(b), "\x00\n")
}

// confined checks the label of a container's process and of one that an exec starts.
func (w *world) confined(id, want string) {
	w.t.Helper()
	if got := w.domain(id); got != want {
		w.t.Errorf("the container runs as %s, want %s", got, want)
	}
	out, err := w.Exec(w.ctx, id, "cat", "/proc/self/attr/current")
	must(w.t, err)
	if got := strings.Trim(out, "\x00\n"); got != want {
		w.t.Errorf("an exec runs as %s, want %s", got, want)
	}
}

// level is the level of a label.
func level(label string) string { return strings.SplitN(label, ":", 4)[3] }

func labelOf(t *testing.T, path string) string {
	t.Helper()
	var value [256]byte
	n, err := unix.Lgetxattr(path, "security.selinux", value[:])
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return ""
	}
	return strings.TrimRight(string(value[:n]), "\x00")
}

// may runs a script in a container and says whether it succeeds; if not, the kernel
// must have denied a thing.
func (w *world) may(id, script string) bool {
	w.t.Helper()
	out, err := w.Exec(w.ctx, id, "sh", "-c", script+" 2>&1")
	if err != nil && !strings.Contains(out+err.Error(), "Permission denied") {
		w.t.Errorf("%s: %v: %s", script, err, out)
	}
	return err == nil
}

// must runs a script that may do what it does.
func (w *world) must(id, script string) {
	w.t.Helper()
	if !w.may(id, script) {
		w.t.Fatalf("the container may not: %s", script)
	}
}

// What a pod asks for, its containers and their execs run as; a part that it does
// not name is the policy's.
func labelsAreGiven(w *world) {
	for name, o := range map[string]*cri.SELinuxOption{
		"all":   {User: "system_u", Role: "system_r", Type: "web_t", Level: "s0:c1,c2"},
		"level": {Level: "s0:c3"},
	} {
		pod, config := w.labelled(name, o)
		want := "system_u:system_r:web_t:s0:c1,c2"
		if name == "level" {
			want = userLabel + "s0:c3"
		}
		w.confined(w.run(pod, config, idle("main")), want)
		// The kubelet repeats the pod's options for each container.
		w.confined(w.run(pod, config, of(idle("same"), o)), want)
		other := w.run(pod, config, of(idle("other"), &cri.SELinuxOption{Type: "container_t", Level: "s0:c9"}))
		w.confined(other, userLabel+"s0:c9")
		if got := labelOf(w.t, w.proc(other)+"/root/bin"); got != fileLabel+"s0:c9" {
			w.t.Errorf("a container with a level has a root of %s", got)
		}
	}
}

// Pods that ask for nothing have two categories that no other has, which their
// containers share.
func labelsAreOwn(w *world) {
	seen := map[string]bool{}
	for _, name := range []string{"a", "b", "c"} {
		pod, config := w.labelled(name, nil)
		first, second := w.run(pod, config, idle("first")), w.run(pod, config, idle("second"))
		l := w.domain(first)
		if !strings.HasPrefix(l, userLabel+"s0:c") || strings.Count(l, ",") != 1 || seen[l] {
			w.t.Errorf("pod %s has the label %s, others %v", name, l, seen)
		}
		seen[l] = true
		w.confined(second, l)
		w.must(first, "echo shared >/dev/shm/shared")
		if !w.may(second, "cat /dev/shm/shared") {
			w.t.Error("a container may not read what another of its pod has put into /dev/shm")
		}
	}
}

// A privileged container is what the policy makes of the runtime's children, and
// may read the machine's files.
func privilegedIsNotConfined(w *world) {
	pod, config := w.labelled("privileged", nil)
	c := idle("main")
	c.Linux.SecurityContext = &cri.LinuxContainerSecurityContext{Privileged: true}
	volume := w.volume("machine")
	c.Mounts = []*cri.Mount{{HostPath: volume, ContainerPath: "/machine"}}
	id := w.run(pod, config, c)
	if got := w.domain(id); got != "system_u:system_r:spc_t:s0" {
		w.t.Errorf("a privileged container runs as %s", got)
	}
	if !w.may(id, "cat /machine/below/file") {
		w.t.Error("a privileged container may not read the machine's files")
	}
	must(w.t, os.RemoveAll(volume))
}

// volume makes a directory on the host with a file in another.
func (w *world) volume(name string) string {
	w.t.Helper()
	dir := filepath.Join(w.Dir, name)
	must(w.t, os.MkdirAll(filepath.Join(dir, "below"), 0o755))
	must(w.t, os.WriteFile(filepath.Join(dir, "below/file"), []byte(name), 0o644))
	return dir
}

// Everything in a container that the runtime makes for it has its label, and it may
// use it.
func filesAreLabelled(w *world) {
	pod, config := w.labelled("files", &cri.SELinuxOption{Level: "s0:c1,c2"})
	c := idle("main")
	c.Mounts = []*cri.Mount{{ContainerPath: "/image", Image: &cri.ImageSpec{Image: harness.Busybox}, Readonly: true}}
	id := w.run(pod, config, c)
	root := w.proc(id) + "/root"
	for _, path := range []string{
		"/", "/bin/sh", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/image", "/image/bin/sh",
		"/dev", "/dev/null", "/dev/shm", "/dev/mqueue", "/dev/pts",
	} {
		if got := labelOf(w.t, root+path); got != fileLabel+"s0:c1,c2" {
			w.t.Errorf("%s has the label %s", path, got)
		}
	}
	for _, script := range []string{
		"cat /etc/hosts /etc/hostname /etc/resolv.conf", "ls / /dev /dev/pts /dev/mqueue /sys /sys/fs/cgroup /proc",
		"echo x >/written && echo x >>/etc/hosts && echo x >/dev/shm/x && echo x >/dev/null", "/image/bin/sh -c true",
		"echo out >/dev/stdout",
	} {
		if !w.may(id, script) {
			w.t.Errorf("the container may not: %s", script)
		}
	}
	w.keyringIsLabelled(id)
}

// keyringIsLabelled checks the session keyring that libcontainer makes, by the name
// that it has among all keys.
func (w *world) keyringIsLabelled(id string) {
	w.t.Helper()
	keys, err := os.ReadFile("/proc/keys")
	must(w.t, err)
	for line := range strings.Lines(string(keys)) {
		if !strings.Contains(line, "_ses."+id) {
			continue
		}
		var serial int
		_, err := fmt.Sscanf(line, "%x", &serial)
		must(w.t, err)
		label, err := unix.KeyctlString(unix.KEYCTL_GET_SECURITY, serial)
		must(w.t, err)
		if label != userLabel+"s0:c1,c2" {
			w.t.Errorf("the session keyring has the label %s", label)
		}
		return
	}
	w.t.Errorf("the container has no session keyring of its own: %s", keys)
}

// A volume is labelled where the client says so, with all that is in it, and only
// then may the container use it.
func volumesAreRelabelled(w *world) {
	given, kept := w.volume("given"), w.volume("kept")
	before := labelOf(w.t, kept)
	pod, config := w.labelled("volumes", nil)
	c := idle("main")
	c.Mounts = []*cri.Mount{
		{HostPath: given, ContainerPath: "/given", SelinuxRelabel: true}, {HostPath: kept, ContainerPath: "/kept"},
	}
	id := w.run(pod, config, c)
	want := fileLabel + level(w.domain(id))
	for path, want := range map[string]string{
		given: want, given + "/below": want, given + "/below/file": want, kept: before, kept + "/below/file": before,
	} {
		if got := labelOf(w.t, path); got != want {
			w.t.Errorf("%s has the label %s, want %s", path, got, want)
		}
	}
	for script, want := range map[string]bool{
		"cat /given/below/file": true, "echo new >/given/new": true, "ls /given/below": true,
		"cat /kept/below/file": false, "echo new >/kept/new": false, "ls /kept": false,
	} {
		if got := w.may(id, script); got != want {
			w.t.Errorf("%s: may %v, want %v", script, got, want)
		}
	}
	if got := labelOf(w.t, given+"/new"); got != want {
		w.t.Errorf("a file that the container has made has the label %s, want %s", got, want)
	}
	must(w.t, errors.Join(os.RemoveAll(given), os.RemoveAll(kept)))
}

// A container reads the files of its level, which those of other pods may not,
// unless they were given the same one.
func levelsSeparate(w *world) {
	volume := w.volume("separate")
	run := func(name, level string, relabel bool) string {
		pod, config := w.labelled(name, &cri.SELinuxOption{Level: level})
		c := idle("main")
		c.Mounts = []*cri.Mount{{HostPath: volume, ContainerPath: "/volume", SelinuxRelabel: relabel}}
		return w.run(pod, config, c)
	}
	owner, same, foreign := run("owner", "s0:c1,c2", true), run("same", "s0:c1,c2", false), run("foreign", "s0:c3,c4", false)
	w.must(owner, "echo secret >/volume/secret; echo secret >/tmp/secret")
	for _, test := range []struct {
		id   string
		want bool
	}{{owner, true}, {same, true}, {foreign, false}} {
		for _, script := range []string{"cat /volume/secret", "echo more >>/volume/secret", "cat /volume/below/file"} {
			if got := w.may(test.id, script); got != test.want {
				w.t.Errorf("%s in %s: may %v, want %v", script, w.domain(test.id), got, test.want)
			}
		}
	}
	must(w.t, os.RemoveAll(volume))
}

// A daemon that starts again gives a pod's containers its labels.
func levelsOutliveTheDaemon(w *world) {
	pod, config := w.labelled("survivor", nil)
	want := w.domain(w.run(pod, config, idle("before")))
	must(w.t, w.Kill())
	must(w.t, w.Node.Start(w.ctx))
	w.confined(w.run(pod, config, idle("after")), want)
}

// A terminal is the container's to use.
func terminalsAreLabelled(w *world) {
	pod, config := w.labelled("terminal", nil)
	c := harness.Shell("main", "tty; echo through >/dev/tty; echo console >/dev/console; sleep 3600")
	c.Tty = true
	id := w.run(pod, config, c)
	w.eventually(func() error {
		if out := w.log(config, c); !strings.Contains(out, "console") {
			return fmt.Errorf("the terminal has %q", out)
		}
		return nil
	})
	has(w.t, w.log(config, c), "/dev/pts/0", "through", "console")
	if got, want := labelOf(w.t, w.proc(id)+"/root/dev/console"), fileLabel+level(w.domain(id)); got != want {
		w.t.Errorf("the console has the label %s, want %s", got, want)
	}
}

// A label that the policy does not know is refused, and leaves nothing.
func labelsAreRefused(w *world) {
	pod, config := w.labelled("refused", nil)
	unknown := &cri.SELinuxOption{Type: "nosuch_t"}
	_, err := w.Run(w.ctx, pod, config, of(idle("main"), unknown))
	refused(w.t, err, codes.InvalidArgument, "selinux_options", "nosuch_t")
	other := w.PodConfig("other")
	other.Linux.SecurityContext.SelinuxOptions = unknown
	_, err = w.RunPod(w.ctx, other)
	refused(w.t, err, codes.InvalidArgument, "selinux_options", "nosuch_t")
}
