//go:build kernel

package system

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

// victim is a running pod with a running container.
type victim struct {
	*world
	pod, container string
	config         *cri.PodSandboxConfig
}

func (v *victim) dir(name string) string { return filepath.Join(v.State(), "pods", v.pod, name) }

// unmountBelow unmounts everything that is mounted below a directory.
func (v *victim) unmountBelow(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	for i := len(mounts) - 1; i >= 0; i-- {
		err = errors.Join(err, unix.Unmount(mounts[i].Mountpoint, unix.MNT_DETACH))
	}
	return err
}

func (v *victim) record(content string) error {
	return os.WriteFile(v.dir("record.json"), []byte(content), 0o600)
}

// netns is the pod's network namespace file.
func (v *victim) netns() string { return filepath.Join("/run/netns", "cri-"+v.pod[:16]) }

// sabotages are what operators, scripts and broken disks do behind the
// daemon's back.
var sabotages = map[string]func(*victim) error{
	"network namespace": func(v *victim) error {
		return errors.Join(unix.Unmount(v.netns(), unix.MNT_DETACH), os.Remove(v.netns()))
	},
	"namespace unmounted": func(v *victim) error { return unix.Unmount(v.netns(), unix.MNT_DETACH) },
	"pod directory": func(v *victim) error {
		return errors.Join(v.unmountBelow(v.dir("")), os.RemoveAll(v.dir("")))
	},
	// As rm -rf leaves it: what something is mounted on stays, with its parents.
	"pod directory's files": func(v *victim) error {
		_ = os.RemoveAll(v.dir(""))
		if _, err := os.Stat(v.dir("record.json")); err == nil {
			return errors.New("the record is still there")
		}
		return nil
	},
	"container directory": func(v *victim) error {
		dir := v.dir("containers/" + v.container)
		return errors.Join(v.unmountBelow(dir), os.RemoveAll(dir))
	},
	"root unmounted": func(v *victim) error { return v.unmountBelow(v.dir("containers/" + v.container)) },
	"shm unmounted":  func(v *victim) error { return v.unmountBelow(v.dir("shm")) },
	"sockets":        func(v *victim) error { return errors.Join(os.Remove(v.dir("shim.sock")), os.Remove(v.dir("io.sock"))) },
	"shim.pid":       func(v *victim) error { return os.Remove(v.dir("shim.pid")) },
	"wrong shim.pid": func(v *victim) error { return os.WriteFile(v.dir("shim.pid"), []byte("1"), 0o600) },
	"no shim.pid":    func(v *victim) error { return os.WriteFile(v.dir("shim.pid"), []byte("garbage"), 0o600) },
	"logs":           func(v *victim) error { return os.RemoveAll(v.config.LogDirectory) },
	"log a pipe": func(v *victim) error {
		log := filepath.Join(v.config.LogDirectory, "main.log")
		return errors.Join(os.Remove(log), unix.Mkfifo(log, 0o600))
	},
	"record gone":      func(v *victim) error { return os.Remove(v.dir("record.json")) },
	"record empty":     func(v *victim) error { return v.record("") },
	"record null":      func(v *victim) error { return v.record("null") },
	"record without":   func(v *victim) error { return v.record(`{"version":1,"id":"` + v.pod + `"}`) },
	"record truncated": func(v *victim) error { return os.Truncate(v.dir("record.json"), 100) },
	"record of nulls": func(v *victim) error {
		data, err := os.ReadFile(v.dir("record.json"))
		return errors.Join(err, v.record(strings.Repeat("\x00", len(data))))
	},
	"record of another": func(v *victim) error {
		data, err := os.ReadFile(v.dir("record.json"))
		return errors.Join(err, v.record(strings.Replace(string(data), v.pod, strings.Repeat("ab", 32), 1)))
	},
	"record without container's config": func(v *victim) error {
		data, err := os.ReadFile(v.dir("record.json"))
		return errors.Join(err, v.record(strings.Replace(string(data), `"config"`, `"gifnoc"`, 3)))
	},
	"config.json":  func(v *victim) error { return os.Remove(v.dir("containers/" + v.container + "/config.json")) },
	"libcontainer": func(v *victim) error { return os.RemoveAll(v.dir("containers/" + v.container + "/libcontainer")) },
	// With what says which addresses are taken, the addresses are lost.
	"network records": func(v *victim) error {
		return errors.Join(os.RemoveAll(filepath.Join(v.Root(), "cni")), os.RemoveAll(v.Leases()))
	},
	"lease": func(v *victim) error { return os.RemoveAll(v.Leases()) },
	"writable layer": func(v *victim) error {
		return os.RemoveAll(filepath.Join(v.Root(), "images/containers", v.container))
	},
	"init killed": func(v *victim) error {
		r, err := v.Runtime.ContainerStatus(v.ctx, &cri.ContainerStatusRequest{ContainerId: v.container, Verbose: true})
		if err != nil {
			return err
		}
		_, rest, _ := strings.Cut(r.Info["info"], `"pid":`)
		pid := 0
		for _, digit := range strings.TrimSpace(rest) {
			if digit < '0' || digit > '9' {
				break
			}
			pid = 10*pid + int(digit-'0')
		}
		if pid < 2 {
			return errors.New("the container has no pid: " + r.Info["info"])
		}
		return unix.Kill(pid, unix.SIGKILL)
	},
}

// TestSabotage takes things away that belong to a running pod. The daemon does
// not fall, other pods do not notice, and the pod can be stopped and removed, at
// once or by the next daemon, with nothing left.
func TestSabotage(t *testing.T) {
	w := pulled(t)
	// The bridge plugin does not find its masquerading rules again where the
	// network namespace is gone.
	conf, err := os.ReadFile(w.CNIConfig())
	must(t, err)
	must(t, os.WriteFile(w.CNIConfig(), []byte(strings.Replace(string(conf), `"ipMasq": true, `, "", 1)), 0o600))
	for name, sabotage := range sabotages {
		for _, restarted := range []bool{false, true} {
			suffix := map[bool]string{true: ", restart"}[restarted]
			t.Run(name+suffix, func(t *testing.T) {
				here := *w
				here.t = t
				var cancel context.CancelFunc
				here.ctx, cancel = context.WithTimeout(context.Background(), 10*time.Minute)
				defer cancel()
				here.sabotaged(sabotage, restarted)
			})
		}
	}
}

func (w *world) sabotaged(sabotage func(*victim) error, restarted bool) {
	w.t.Helper()
	pod, config := w.pod("victim")
	v := &victim{world: w, pod: pod, config: config}
	v.container = w.run(pod, config, harness.Shell("main", "echo hello; exec sleep 100000"))
	must(w.t, sabotage(v))
	if restarted {
		must(w.t, w.Kill())
		w.back()
	}
	// Whatever these answer, they answer.
	_, _ = w.Exec(w.ctx, v.container, "true")
	_, _ = w.Runtime.ReopenContainerLog(w.ctx, &cri.ReopenContainerLogRequest{ContainerId: v.container})
	_, _ = w.Runtime.ContainerStats(w.ctx, &cri.ContainerStatsRequest{ContainerId: v.container})
	_, _ = w.Runtime.PodSandboxStatus(w.ctx, &cri.PodSandboxStatusRequest{PodSandboxId: pod, Verbose: true})
	if err := w.RemovePod(w.ctx, pod); err != nil {
		w.t.Errorf("the pod cannot be removed: %v", err)
	}
	if !w.Running() {
		w.t.Error("the daemon fell")
		w.back()
	}
	must(w.t, os.RemoveAll(config.LogDirectory))
	// Directories that the next pod makes again.
	for _, dir := range []string{"cni/results", "cni/attachments"} {
		must(w.t, os.MkdirAll(filepath.Join(w.Root(), dir), 0o700))
	}
	w.clean()
	again, _ := w.pod("victim")
	must(w.t, w.RemovePod(w.ctx, again))
}
