//go:build kernel

package system

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/fixtures"
	"github.com/criruntime/criruntime/test/harness"
)

// TestFeaturesAreReported reads what the kubelet decides upon.
func TestFeaturesAreReported(t *testing.T) {
	w := start(t)
	s, err := w.Runtime.Status(w.ctx, &cri.StatusRequest{})
	must(t, err)
	if f := s.GetFeatures(); !f.GetSupplementalGroupsPolicy() || !f.GetUserNamespacesHostNetwork() || !f.GetMountOptions() {
		t.Errorf("the runtime's features are %v", f)
	}
	if len(s.RuntimeHandlers) == 0 {
		t.Error("no runtime handler is reported")
	}
	for _, h := range s.RuntimeHandlers {
		if !h.GetFeatures().GetUserNamespaces() || !h.GetFeatures().GetRecursiveReadOnlyMounts() {
			t.Errorf("handler %q has the features %v", h.GetName(), h.GetFeatures())
		}
	}
}

// TestSupplementalGroupsPolicy runs a user whom the image puts into a group.
func TestSupplementalGroupsPolicy(t *testing.T) {
	w := start(t)
	var files fixtures.Tree
	files.File("etc/passwd", 0o644, "root:x:0:0::/:/bin/sh\nworker:x:1000:1000::/:/bin/sh\n")
	files.File("etc/group", 0o644, "root:x:0:\nworker:x:1000:\nimage:x:50000:worker\n")
	_, err := registry.Push(w.ctx, "groups", "1", images.Busybox.With(files.Layer(fixtures.Gzip)))
	must(t, err)
	_, err = w.Pull(w.ctx, "registry.test/groups:1")
	must(t, err)
	w.settle()
	pod, podConfig := w.pod("groups")
	for policy, want := range map[cri.SupplementalGroupsPolicy]string{
		cri.SupplementalGroupsPolicy_Merge: "1000 50000 60000", cri.SupplementalGroupsPolicy_Strict: "1000 60000",
	} {
		c := harness.Shell(policy.String(), "echo groups $(id -G | tr ' ' '\\n' | sort -n | tr '\\n' ' ') end")
		c.Image.Image = "registry.test/groups:1"
		c.Linux.SecurityContext = &cri.LinuxContainerSecurityContext{
			RunAsUser: &cri.Int64Value{Value: 1000}, SupplementalGroups: []int64{60000}, SupplementalGroupsPolicy: policy,
		}
		has(t, w.output(pod, podConfig, c), "groups "+want+" end")
	}
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestProcMount masks paths of /proc, and none where the client lists none.
func TestProcMount(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.mappedPod("proc")
	for name, masked := range map[string][]string{"default": {"/proc/keys", "/proc/scsi"}, "unmasked": nil} {
		c := mapped(podConfig, name, "grep -cE ' /proc/(keys|scsi) ' /proc/mounts; echo end")
		c.Linux.SecurityContext.MaskedPaths = masked
		want := "0\nend"
		if masked != nil {
			want = "\nend"
		}
		out := w.output(pod, podConfig, c)
		has(t, out, want)
		if masked != nil && out == "0\nend" {
			t.Error("nothing is masked")
		}
	}
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestMountFeatures writes to and executes from what is mounted in all ways.
func TestMountFeatures(t *testing.T) {
	w := pulled(t)
	volume := filepath.Join(w.Dir, "volume")
	must(t, os.MkdirAll(filepath.Join(volume, "below"), 0o755))
	must(t, unix.Mount("tmpfs", filepath.Join(volume, "below"), "tmpfs", 0, "size=64k"))
	defer func() { _ = unix.Unmount(filepath.Join(volume, "below"), unix.MNT_DETACH) }()
	must(t, os.WriteFile(filepath.Join(volume, "run"), []byte("#!/bin/sh\necho it runs\n"), 0o755))
	pod, podConfig := w.pod("mounts")
	c := harness.Shell("main", `echo x > /ro/x; echo x > /ro/below/ro && echo below ro is writable; echo x > /rro/below/rro && echo below rro is writable
		/ro/run; /noexec/run; ls /image/sh; echo x > /image/x; echo x > /bin-of-image || true; ls -d /image/bin; echo end`)
	c.Mounts = []*cri.Mount{
		{HostPath: volume, ContainerPath: "/ro", Readonly: true},
		{HostPath: volume, ContainerPath: "/rro", Readonly: true, RecursiveReadOnly: true},
		{HostPath: volume, ContainerPath: "/noexec", MountOptions: []string{"noexec", "nosuid", "nodev"}},
		{ContainerPath: "/image", Image: &cri.ImageSpec{Image: harness.Busybox}, ImageSubPath: "bin", Readonly: true},
	}
	out := w.output(pod, podConfig, c)
	has(t, out, "/ro/x: Read-only file system", "below ro is writable", "/rro/below/rro: Read-only file system", "it runs",
		"/noexec/run: Permission denied", "\n/image/sh", "/image/x: Read-only file system", "ls: /image/bin: No such file", "end")
	list, err := w.Containers(w.ctx)
	must(t, err)
	status, err := w.Status(w.ctx, list[0].Id)
	must(t, err)
	for _, m := range status.Mounts {
		if m.ContainerPath == "/image" && (m.ImageSubPath != "bin" || m.GetImage().GetImage() == "") {
			t.Errorf("the status tells of the image volume: %v", m)
		}
		if m.ContainerPath == "/rro" && !m.RecursiveReadOnly || m.ContainerPath == "/noexec" && len(m.MountOptions) != 3 {
			t.Errorf("the status tells of the mount: %v", m)
		}
	}
	must(t, w.RemovePod(w.ctx, pod))
	must(t, unix.Unmount(filepath.Join(volume, "below"), 0))
	w.clean()
}
