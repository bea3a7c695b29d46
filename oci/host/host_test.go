package host

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"

	"github.com/criruntime/criruntime/oci/spec"
)

func TestHugepageSizes(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"hugepages-1048576kB", "hugepages-2048kB", "hugepages-64kB", "something-else"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got := hugepageSizes(dir); !slices.Equal(got, []string{"64KB", "2MB", "1GB"}) {
		t.Errorf("%q", got)
	}
	if got := hugepageSizes(dir + "/none"); got != nil {
		t.Errorf("%q where there are none", got)
	}
}

func TestReadSeccomp(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "p.json")
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	giant := filepath.Join(dir, "giant")
	if err := errors.Join(os.WriteFile(giant, nil, 0o600), os.Truncate(giant, spec.MaxSeccompProfile+1)); err != nil {
		t.Fatal(err)
	}
	localhost := func(path string) *spec.Profile { return &spec.Profile{Kind: spec.ProfileLocalhost, Localhost: path} }
	if body, err := ReadSeccomp(localhost(file)); err != nil || string(body) != "{}" {
		t.Errorf("%q, %v", body, err)
	}
	for _, p := range []*spec.Profile{nil, {Kind: spec.ProfileRuntimeDefault}, {Kind: spec.ProfileUnconfined}} {
		if body, err := ReadSeccomp(p); body != nil || err != nil {
			t.Errorf("%v: %q, %v", p, body, err)
		}
	}
	for _, path := range []string{"", "p.json", dir, file + "x", giant, "/dev/zero"} {
		if _, err := ReadSeccomp(localhost(path)); !errors.Is(err, spec.ErrInvalid) || !strings.Contains(err.Error(), `"`+path+`"`) {
			t.Errorf("%q: error %v, want one that names it", path, err)
		}
	}
}

func TestResolveMount(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	if err := errors.Join(os.Mkdir(real, 0o755), os.Symlink("real", link), os.Symlink("nowhere", link+"2"), os.Symlink("loop", filepath.Join(dir, "loop"))); err != nil {
		t.Fatal(err)
	}
	if got, err := ResolveMount(&spec.Mount{HostPath: link}); err != nil || got != real {
		t.Errorf("%q, %v, want %q", got, err, real)
	}
	for _, path := range []string{"", "real", link + "2", filepath.Join(dir, "loop"), filepath.Join(dir, "none")} {
		_, err := ResolveMount(&spec.Mount{ContainerPath: "/data", HostPath: path})
		if !errors.Is(err, spec.ErrInvalid) || !strings.Contains(err.Error(), "/data") || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: error %v, want one that names it", path, err)
		}
	}
}

func TestPropagation(t *testing.T) {
	for _, test := range []struct {
		optional    string
		in, through bool
	}{
		{"", false, false}, {"shared:3", true, true}, {"master:3", true, false}, {"shared:3 master:4", true, true}, {"unbindable", false, false},
	} {
		if got := passes(test.optional, spec.PropagationHostToContainer); got != test.in {
			t.Errorf("%q lets events in: %v", test.optional, got)
		}
		if got := passes(test.optional, spec.PropagationBidirectional); got != test.through {
			t.Errorf("%q lets events through: %v", test.optional, got)
		}
	}
	mounts := []*mountinfo.Info{{Mountpoint: "/"}, {Mountpoint: "/a/b", ID: 1}, {Mountpoint: "/a"}, {Mountpoint: "/a/b", ID: 2}}
	if m := innermost(mounts); m.ID != 2 {
		t.Errorf("%+v is not the mount on top", m)
	}
	if innermost(nil) != nil {
		t.Error("a mount out of nothing")
	}
}

func TestDevices(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "null")
	if err := os.Symlink("/dev/null", link); err != nil {
		t.Fatal(err)
	}
	got, err := Devices(&spec.Container{Devices: []spec.Device{
		{HostPath: link, ContainerPath: "/dev/nothing", Permissions: "r"}, {HostPath: "/dev/zero"},
	}})
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	if d := got[0]; d.Path != "/dev/nothing" || d.Type != "c" || d.Major != 1 || d.Minor != 3 || d.Permissions != "r" || d.FileMode.Perm() != 0o666 {
		t.Errorf("%+v is not null", d)
	}
	if d := got[1]; d.Path != "/dev/zero" || d.Minor != 5 || d.Permissions != "rwm" {
		t.Errorf("%+v is not zero", d)
	}
	for _, path := range []string{"", "dev/null", "/dev/no-such-device", "/etc/passwd", dir} {
		_, err := Devices(&spec.Container{Devices: []spec.Device{{HostPath: path, ContainerPath: "/dev/x"}}})
		if !errors.Is(err, spec.ErrInvalid) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: error %v, want one that names it", path, err)
		}
	}
}

func TestDevicesOfPrivileged(t *testing.T) {
	got, err := Devices(&spec.Container{Security: spec.Security{Privileged: true}})
	if err != nil {
		t.Fatal(err)
	}
	paths := make(map[string]bool)
	for _, d := range got {
		if paths[d.Path] {
			t.Errorf("%s twice", d.Path)
		}
		paths[d.Path] = true
		if d.Permissions != "rwm" || d.Path == "/dev/console" || strings.HasPrefix(d.Path, "/dev/pts/") || strings.HasPrefix(d.Path, "/dev/shm/") {
			t.Errorf("%+v is not for containers", d)
		}
	}
	if !paths["/dev/null"] || !paths["/dev/tty"] {
		t.Errorf("devices are missing: %v", paths)
	}
}
