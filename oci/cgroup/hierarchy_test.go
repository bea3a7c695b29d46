package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const hybridMountinfo = `23 1 8:1 / / rw,relatime - ext4 /dev/vda rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset,clone_children
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
77 23 0:37 / /elsewhere rw,relatime - cgroup cgroup rw,xattr,memory
bad line
`

func TestParseHierarchy(t *testing.T) {
	h, err := parseHierarchy([]byte(hybridMountinfo))
	if err != nil {
		t.Fatal(err)
	}
	if h.isV2() || h.unified != "/sys/fs/cgroup/unified" {
		t.Errorf("hybrid: %+v", h)
	}
	for name, want := range map[string]string{
		"cpu": "/sys/fs/cgroup/cpu,cpuacct", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct", "memory": "/sys/fs/cgroup/memory",
		"name=systemd": "/sys/fs/cgroup/systemd", "xattr": "", "clone_children": "",
	} {
		if got := h.v1[name]; got != want {
			t.Errorf("%s is at %q, want %q", name, got, want)
		}
	}
	if names, err := h.controllers(); err != nil || !slices.Equal(names, []string{"cpu", "cpuacct", "cpuset", "memory"}) {
		t.Errorf("controllers: %q, %v", names, err)
	}

	h, err = parseHierarchy([]byte("30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"))
	if err != nil || !h.isV2() || h.unified != "/sys/fs/cgroup" || len(h.trees) != 1 {
		t.Errorf("unified: %+v, %v", h, err)
	}
	if _, err := parseHierarchy([]byte("23 1 8:1 / / rw - ext4 /dev/vda rw\n")); err == nil {
		t.Error("no mounts are no error")
	}
}

// TestOtherMountsOfAHierarchy: a mount of what is mounted already, such as Cilium's, is
// none of ours. It may go while we run, and leave a directory that is no cgroup.
func TestOtherMountsOfAHierarchy(t *testing.T) {
	h, err := parseHierarchy([]byte("30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n" +
		"99 25 0:26 / /run/cilium/cgroupv2 rw shared:9 - cgroup2 none rw,nsdelegate\n"))
	if err != nil || !slices.Equal(h.trees, []string{"/sys/fs/cgroup"}) {
		t.Errorf("unified: %+v, %v", h, err)
	}
	h, err = parseHierarchy([]byte(hybridMountinfo))
	if err != nil || len(h.trees) != 5 || slices.Contains(h.trees, "/elsewhere") {
		t.Errorf("hybrid: %+v, %v", h, err)
	}
}

func TestControllersV2(t *testing.T) {
	root := t.TempDir()
	write(t, root+"/cgroup.controllers", "memory cpu io\n")
	h := &hierarchy{unified: root, trees: []string{root}}
	if names, err := h.controllers(); err != nil || !slices.Equal(names, []string{"cpu", "io", "memory"}) {
		t.Errorf("%q, %v", names, err)
	}
}

func TestPathsThatAreNone(t *testing.T) {
	for _, path := range []string{"", "/", "a", "/a/", "/a/../b", "//a", "/.."} {
		if _, err := open(path); err == nil {
			t.Errorf("%q passes for the path of a cgroup", path)
		}
	}
}

func TestCreateInAllTrees(t *testing.T) {
	root := t.TempDir()
	h := &hierarchy{
		unified: root + "/unified",
		v1:      map[string]string{"cpuset": root + "/cpuset", "memory": root + "/memory"},
		trees:   []string{root + "/unified", root + "/cpuset", root + "/memory"},
	}
	for _, tree := range h.trees {
		if err := os.Mkdir(tree, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		// The kernel would provide the cpuset's files; without them it fails.
		if err := h.create("/a/b"); err == nil {
			t.Fatal("a cpuset without files was made")
		}
		for _, tree := range h.trees {
			if left, _ := os.ReadDir(tree); len(left) != 0 {
				t.Errorf("%s has %v after a failure", tree, left)
			}
		}
	}
	delete(h.v1, "cpuset")
	for range 2 {
		if err := h.create("/a/b"); err != nil {
			t.Fatal(err)
		}
	}
	for _, tree := range h.trees {
		if _, err := os.Stat(tree + "/a/b"); err != nil {
			t.Error(err)
		}
	}
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// writeTree writes the files of a text such as "name: content; name: content",
// one per line, where "\n" stands for a line's end.
func writeTree(t testing.TB, dir, files string) {
	t.Helper()
	for line := range strings.Lines(files) {
		if name, content, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			write(t, filepath.Join(dir, name), strings.ReplaceAll(content, `\n`, "\n")+"\n")
		}
	}
}

func TestProcsV1(t *testing.T) {
	h := &hierarchy{v1: map[string]string{"cpu": "/c/cpu", "cpuacct": "/c/cpu", "freezer": "/c/freezer"}, unified: "/c/unified"}
	for own, want := range map[string]string{
		"0::/\n":                       "",
		"":                             "",
		"nonsense\n5:pids:/x\n0::/a\n": "",
		"9:cpu,cpuacct:/a:b\n4:freezer:/\n0::/a\n": "/c/cpu/a:b/cgroup.procs",
		"5:pids:/\n4:freezer:/\n":                  "/c/freezer/cgroup.procs",
	} {
		if got := h.procsV1(own); got != want {
			t.Errorf("%q: %q, want %q", own, got, want)
		}
	}
}
