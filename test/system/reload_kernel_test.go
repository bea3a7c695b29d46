//go:build kernel

package system

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

// TestReload: a signal puts a changed configuration into force, for containers to
// come and for images; a container that runs keeps what it has.
func TestReload(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("reload")
	const show = `echo "[$FROM]"; ulimit -n; grep CapBnd /proc/self/status; sleep 3600`
	first := w.run(pod, podConfig, harness.Shell("first", show))
	pinned := func() bool {
		list, err := w.Images.ListImages(w.ctx, &cri.ListImagesRequest{})
		must(t, err)
		return len(list.Images) == 1 && list.Images[0].Pinned
	}
	if pinned() {
		t.Error("an image is pinned before anybody has said so")
	}
	conf := filepath.Join(w.Dir, "criruntime.toml")
	text, err := os.ReadFile(conf)
	must(t, err)
	changed := strings.Replace(string(text), "[image]\n", "[image]\npinned = [\"*busybox*\"]\n", 1) +
		"[containers]\nenv = [\"FROM=the new file\"]\nulimits = [\"nofile=77\"]\ncapabilities = [\"CAP_KILL\"]\n"
	must(t, os.WriteFile(conf, []byte(changed), 0o600))
	must(t, syscall.Kill(w.Pid(), syscall.SIGHUP))
	w.eventually(func() error {
		if !pinned() {
			return os.ErrDeadlineExceeded
		}
		return nil
	})
	second := harness.Shell("second", show)
	w.run(pod, podConfig, second)
	w.logs("CapBnd", podConfig, second)
	has(t, w.log(podConfig, second), "[the new file]\n77\n", "0000000000000020")
	out, err := w.Exec(w.ctx, first, "sh", "-c", `echo "[$FROM]"`)
	must(t, err)
	has(t, out, "[]")
	info, err := w.Runtime.Status(w.ctx, &cri.StatusRequest{Verbose: true})
	must(t, err)
	has(t, info.Info["config"], `FROM=the new file`)
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}
