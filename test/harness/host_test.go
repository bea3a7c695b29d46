package harness

import (
	"slices"
	"testing"
)

func TestDiff(t *testing.T) {
	before := &Host{things: map[string]bool{
		"cgroup /sys/fs/cgroup/memory/manager": true,
		"cgroup /sys/fs/cgroup/memory/crt1":    true,
		"cgroup /sys/fs/cgroup/memory/crt2":    true,
		"mount /mnt of tmpfs none":             true,
		"link lo":                              true,
	}, unheld: map[string]bool{"cgroup /sys/fs/cgroup/memory/crt2": true}}
	after := &Host{things: map[string]bool{
		"cgroup /sys/fs/cgroup/memory/another": true,
		"link lo":                              true,
	}}
	want := []string{
		"+ cgroup /sys/fs/cgroup/memory/another",
		"- cgroup /sys/fs/cgroup/memory/crt1",
		"- mount /mnt of tmpfs none",
	}
	if got := before.Diff(after); !slices.Equal(got, want) {
		t.Errorf("the difference is %q, want %q", got, want)
	}
}
