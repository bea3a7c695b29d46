//go:build kernel

package system

import (
	"archive/tar"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/fixtures"
	"github.com/criruntime/criruntime/test/harness"
)

// declaring pulls an image that declares volumes. What is in them belongs to
// the user 7 and the group 8.
func (w *world) declaring(name string, volumes ...string) string {
	w.t.Helper()
	var files fixtures.Tree
	files.Raw(tar.Header{Typeflag: tar.TypeDir, Name: "data", Mode: 0o750, Uid: 7, Gid: 8}, "")
	files.Raw(tar.Header{Typeflag: tar.TypeReg, Name: "data/file", Mode: 0o640, Uid: 7, Gid: 8}, "of the image")
	files.Raw(tar.Header{Typeflag: tar.TypeLink, Name: "data/second", Linkname: "data/file", Mode: 0o640, Uid: 7, Gid: 8}, "")
	files.Symlink("data/link", "/etc/hosts")
	files.Symlink("out", "../../../../../../target")
	files.File("target/file", 0o644, "of the target")
	files.File("plain", 0o644, "")
	image := images.Busybox.With(files.Layer(fixtures.Gzip))
	image.Config.Volumes = map[string]struct{}{}
	for _, v := range volumes {
		image.Config.Volumes[v] = struct{}{}
	}
	_, err := registry.Push(w.ctx, name, "1", image)
	must(w.t, err)
	ref := "registry.test/" + name + ":1"
	_, err = w.Pull(w.ctx, ref)
	must(w.t, err)
	return ref
}

// volumes are the containers that have volumes of their images on disk.
func (w *world) volumes() []os.DirEntry {
	entries, err := os.ReadDir(filepath.Join(w.Root(), "volumes"))
	must(w.t, err)
	return entries
}

// TestDeclaredVolumes has an image's volumes filled with what it has there, in
// pods with and without a user namespace, and gone with the container.
func TestDeclaredVolumes(t *testing.T) {
	w := start(t)
	ref := w.declaring("volumes", "/data", "/empty/deep", "/mounted", "/out/", "/proc", "/")
	w.settle()
	mounted := filepath.Join(w.Dir, "mounted")
	must(t, os.Mkdir(mounted, 0o755))
	must(t, os.WriteFile(filepath.Join(mounted, "x"), []byte("of the pod"), 0o644))
	for _, make := range []func(string, ...func(*cri.PodSandboxConfig)) (string, *cri.PodSandboxConfig){w.pod, w.mappedPod} {
		pod, podConfig := make("volumes")
		config := mapped(podConfig, "main", `cd /data && ls -la && stat -c '%n %a %u:%g %h' . file /empty/deep && cat file /mounted/x && readlink link &&
			echo changed > file && cat second /out/file; id -u 2>/dev/null; grep -c ' /data ' /proc/mounts; echo x > /empty/deep/x; exec sleep 4242`)
		config.Image.Image = ref
		config.Mounts = []*cri.Mount{{HostPath: mounted, ContainerPath: "/mounted/", Readonly: true}}
		config.Command = []string{"sh", "-c", config.Command[len(config.Command)-1]}
		id := w.run(pod, podConfig, config)
		w.eventually(func() error {
			_, err := w.Exec(w.ctx, id, "grep", "x", "/empty/deep/x")
			return err
		})
		w.logs("of the target0\n1", podConfig, config)
		has(t, w.log(podConfig, config), ". 750 7:8 2", "file 640 7:8 2", "/empty/deep 755 0:0 2", "of the image", "of the target", "of the pod", "/etc/hosts", "changed")
		status, err := w.Status(w.ctx, id)
		must(t, err)
		if len(status.Mounts) != 1 {
			t.Errorf("the status has mounts that nobody asked for: %v", status.Mounts)
		}
		must(t, w.Kill())
		must(t, w.Restart(w.ctx))
		has(t, mustExec(w, id, "cat", "/data/file"), "changed")
		if got := w.volumes(); len(got) != 1 || got[0].Name() != id {
			t.Errorf("on disk are the volumes of %v", got)
		}
		must(t, w.RemovePod(w.ctx, pod))
		if got := w.volumes(); len(got) != 0 {
			t.Errorf("on disk stay the volumes of %v", got)
		}
	}
	must(t, os.RemoveAll(mounted))
	w.clean()
}

func mustExec(w *world, id string, command ...string) string {
	w.t.Helper()
	out, err := w.Exec(w.ctx, id, command...)
	must(w.t, err)
	return out
}

// TestBadDeclaredVolume is an image whose volume is a file.
func TestBadDeclaredVolume(t *testing.T) {
	w := start(t)
	ref := w.declaring("bad-volume", "/data", "/plain")
	w.settle()
	pod, podConfig := w.pod("volumes")
	config := harness.Shell("main", "true")
	config.Image.Image = ref
	_, err := w.Create(w.ctx, pod, podConfig, config)
	refused(t, err, codes.InvalidArgument, "/plain")
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}
