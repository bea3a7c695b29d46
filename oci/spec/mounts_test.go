package spec

import (
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestVolumeOverEtc: a pod keeps its name resolution in a volume at /etc, and what
// it mounts in a file's place stays there.
func TestVolumeOverEtc(t *testing.T) {
	in := busybox()
	in.Mounts = []Mount{{ContainerPath: "/etc/hosts", HostPath: "/srv/hosts"}, {ContainerPath: "/etc", HostPath: "/srv/etc"}}
	s, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	at := func(destination string) int {
		return slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == destination })
	}
	for destination, source := range map[string]string{
		"/etc/resolv.conf": in.Paths.ResolvConf, "/etc/hostname": in.Paths.Hostname, "/etc/hosts": "/srv/hosts",
	} {
		i := at(destination)
		if i < at("/etc") || s.Mounts[i].Source != source {
			t.Errorf("%s is not %s in the volume: %+v", destination, source, s.Mounts)
		}
	}
	count := 0
	for _, m := range s.Mounts {
		if m.Destination == "/etc/hosts" {
			count++
		}
	}
	if count != 1 {
		t.Errorf("%d mounts of /etc/hosts", count)
	}
}
