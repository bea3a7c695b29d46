//go:build kernel

package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/test/harness"
)

// TestBlockIOClass: a pod's annotation sets the limits of a class in its
// container's cgroup, on the machine's own devices; a class that is not
// configured is refused before anything is made.
func TestBlockIOClass(t *testing.T) {
	const key = "blockio.resources.beta.kubernetes.io/"
	classes := filepath.Join(t.TempDir(), "classes.yaml")
	must(t, os.WriteFile(classes, []byte("Classes:\n  slow:\n  - Devices: [/dev/loop0]\n    ThrottleReadBps: 1M\n"), 0o644))
	w := pulled(t, configured("[containers]\nblockio_config = \""+classes+"\"\n"))
	pod, podConfig := w.pod("slow", func(c *cri.PodSandboxConfig) {
		c.Annotations = map[string]string{key + "container.main": "slow", key + "container.wrong": "none"}
	})
	id := w.run(pod, podConfig, harness.Shell("main", "sleep 3600"))
	other := w.run(pod, podConfig, harness.Shell("other", "sleep 3600"))
	v2, err := cgroup.IsV2()
	must(t, err)
	want := "7:0 1000000"
	if v2 {
		want = "7:0 rbps=1000000"
	}
	if got := control(t, w.groupOf(id), "blkio/blkio.throttle.read_bps_device", "io.max"); !strings.HasPrefix(got, want) {
		t.Errorf("the limits of the class are %q, want %q", got, want)
	}
	if got := control(t, w.groupOf(other), "blkio/blkio.throttle.read_bps_device", "io.max"); got != "" {
		t.Errorf("a container without a class has the limits %q", got)
	}
	_, err = w.Create(w.ctx, pod, podConfig, harness.Shell("wrong", "true"))
	refused(t, err, codes.InvalidArgument, `"none"`, "block I/O")
	list, err := w.Containers(w.ctx)
	must(t, err)
	if len(list) != 2 {
		t.Errorf("a refused container is among the %d", len(list))
	}
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}
