//go:build kernel

package host

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/criruntime/criruntime/oci/spec"
)

func TestProbe(t *testing.T) {
	score := readFile(t, "/proc/self/oom_score_adj")
	mounts := readFile(t, "/proc/self/mountinfo")
	h, err := Probe()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", *h)
	if got := readFile(t, "/proc/self/oom_score_adj"); got != score {
		t.Errorf("oom_score_adj is now %s, was %s", got, score)
	}
	if got := readFile(t, "/proc/self/mountinfo"); got != mounts {
		t.Errorf("the mounts have changed:\n%s", got)
	}
	if got := strings.TrimSpace(readFile(t, "/proc/sys/kernel/osrelease")); h.KernelRelease != got {
		t.Errorf("KernelRelease = %q, want %q", h.KernelRelease, got)
	}
	for _, name := range []string{"cpu", "memory", "pids"} {
		if !h.HasController(name) {
			t.Errorf("controller %s is missing in %q", name, h.Controllers)
		}
	}
	if !slices.Contains(h.Capabilities, "CAP_CHOWN") {
		t.Errorf("CAP_CHOWN is missing in %q", h.Capabilities)
	}
	if h.MinOOMScoreAdj < -1000 || h.MinOOMScoreAdj > 1000 {
		t.Errorf("MinOOMScoreAdj = %d", h.MinOOMScoreAdj)
	}
	if h.RecursiveReadOnly != spec.SupportYes {
		t.Errorf("RecursiveReadOnly = %v on kernel %s", h.RecursiveReadOnly, h.KernelRelease)
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	body, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
