package sandbox

import (
	"slices"
	"testing"

	"github.com/criruntime/criruntime/oci/spec"
)

func TestDeclaredVolumes(t *testing.T) {
	declared := map[string]struct{}{}
	for _, d := range []string{"/data", "/data/", "relative", "/covered/", "/", "", "..", "/proc", "/proc/x", "/sys/fs/cgroup", "/dev/shm", "/devices"} {
		declared[d] = struct{}{}
	}
	mounts := []spec.Mount{{ContainerPath: "covered"}, {ContainerPath: "/other"}}
	got := declaredVolumes(declared, mounts)
	if want := []string{"/data", "/devices", "/relative"}; !slices.Equal(slices.Sorted(slices.Values(got)), want) {
		t.Errorf("volumes %q, want %q", got, want)
	}
	if got := declaredVolumes(nil, mounts); got != nil {
		t.Errorf("volumes %q of an image that declares none", got)
	}
}
