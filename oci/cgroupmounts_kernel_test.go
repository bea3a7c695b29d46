//go:build kernel

package oci_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// sysMounts shows the container its control groups, on a file system of the given type.
func sysMounts(sys, access string) option {
	return func(k *kit) {
		k.spec.Mounts = append(k.spec.Mounts,
			specs.Mount{Destination: "/sys", Type: sys, Source: sys, Options: []string{"nosuid", "noexec", "nodev"}},
			specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup",
				Options: []string{"nosuid", "noexec", "nodev", "relatime", access}})
	}
}

// TestCgroupMounts compares what the shim mounts of cgroup v1 with what libcontainer
// does, to which the shim leaves it where /sys is no sysfs.
func TestCgroupMounts(t *testing.T) {
	if isV2() {
		t.Skip("with cgroup v2 alone there is one mount, which is libcontainer's")
	}
	for _, access := range []string{"ro", "rw"} {
		p := newPod(t)
		ours := p.cgroupView(sysMounts("sysfs", access))
		libcontainers := p.cgroupView(sysMounts("tmpfs", access))
		if ours != libcontainers || !strings.Contains(ours, "67108864") {
			t.Errorf("%s: a container sees\n%s\nlibcontainer would have it see\n%s", access, ours, libcontainers)
		}
		if log := readLog(t, filepath.Join(p.options.Dir, "shim.log")); log != "" {
			t.Errorf("the shim's log is not empty: %s", log)
		}
	}
}

// cgroupView is what a container sees of its groups, without its name and the numbers
// of mounts and files. libcontainer's state has the mount in the end, for checkpoints.
func (p *pod) cgroupView(o option) string {
	p.Helper()
	k := p.run(o, script(`cd /sys/fs/cgroup && grep ' /sys/fs/cgroup' /proc/self/mountinfo | sed 's/^[0-9]* [0-9]* //' | sort
ls -l | sed 's/ [A-Z][a-z][a-z] .*:[0-9][0-9]//'
for f in */memory.limit_in_bytes */pids.max */cpu.shares; do echo "$f: $(cat $f)"; done
for d in . *; do echo "$d: $(head -n 1 $d/cgroup.procs)" && mkdir $d/x && echo made && rmdir $d/x; done 2>&1
echo end; exec sleep 1000`))
	eventually(p, "the view", func() bool { return strings.Contains(k.log(p), "F end\n") })
	view := strings.ReplaceAll(k.log(p), k.create.ID, "ID")
	state, err := os.ReadFile(filepath.Join(k.create.Bundle, "libcontainer", k.create.ID, "state.json"))
	if err != nil || !strings.Contains(string(state), `"device":"cgroup"`) {
		p.Errorf("libcontainer's state lacks the mount: %v, %s", err, state)
	}
	p.remove(k.create.ID)
	return regexp.MustCompile(`stdout F |0:\d+ `).ReplaceAllString(view, "")
}
