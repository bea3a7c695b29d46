//go:build kernel

package system

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/fixtures"
	"github.com/criruntime/criruntime/test/harness"
)

// The annotations of CRI-O and of checkpointctl.
const (
	crioCheckpoint = "io.kubernetes.cri-o.annotations.checkpoint.name"
	criuCheckpoint = "org.criu.checkpoint.container.name"
)

// pushCheckpoint serves an image that holds a checkpoint as "registry.test/NAME:1",
// as buildah makes it of an archive: its files, and an annotation. It returns the
// manifest's digest.
func (w *world) pushCheckpoint(name, annotation string, archives ...[]byte) string {
	w.t.Helper()
	img := fixtures.Image{Annotations: map[string]string{annotation: "counter"}}
	for i, archive := range archives {
		img.Layers = append(img.Layers, fixtures.Archive(archive, fixtures.Compression(i)))
	}
	digest, err := registry.Push(w.ctx, name, "1", img)
	must(w.t, err)
	return digest.String()
}

// parted is an archive as two of which the second holds the memory.
func parted(t *testing.T, archive []byte) (state, memory []byte) {
	t.Helper()
	var out [2]bytes.Buffer
	parts := [2]*tar.Writer{tar.NewWriter(&out[0]), tar.NewWriter(&out[1])}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			must(t, errors.Join(parts[0].Close(), parts[1].Close()))
			return out[0].Bytes(), out[1].Bytes()
		}
		must(t, err)
		into := parts[0]
		if strings.HasPrefix(h.Name, "checkpoint/pages-") {
			into = parts[1]
		}
		must(t, into.WriteHeader(h))
		_, err = io.Copy(into, r)
		must(t, err)
	}
}

// checkpointed is the archive of a container that counts, and takes it away with its pod.
func (w *world) checkpointed() (archive []byte, at int) {
	w.t.Helper()
	pod, podConfig := w.pod("source")
	config := counting("counter")
	id := w.run(pod, podConfig, config)
	w.countsBeyond(podConfig, config, 5)
	location := filepath.Join(w.Dir, "checkpoint.tar")
	must(w.t, w.checkpoint(id, location, 0))
	_, at = w.counted(podConfig, config)
	must(w.t, w.RemovePod(w.ctx, pod))
	archive, err := os.ReadFile(location)
	must(w.t, err)
	must(w.t, os.Remove(location))
	return archive, at
}

// goesOn starts a container that was made from a checkpoint that had counted to at.
func (w *world) goesOn(id string, podConfig *cri.PodSandboxConfig, config *cri.ContainerConfig, at int) {
	w.t.Helper()
	must(w.t, w.StartContainer(w.ctx, id))
	w.countsBeyond(podConfig, config, at+3)
	if first, _ := w.counted(podConfig, config); first > at+1 || first < 5 {
		w.t.Errorf("it goes on with %d, and the checkpoint was made before %d", first, at)
	}
	has(w.t, mustExec(w, id, "cat", "/link"), "written")
}

// TestRestoreFromImage pulls images that hold a checkpoint and restores from them,
// by each annotation and by each name that a kubelet may use, in one layer and in
// two, over a restart of the daemon and the removal of the image.
func TestRestoreFromImage(t *testing.T) {
	w := pulled(t, checkpoints)
	archive, at := w.checkpointed()
	state, memory := parted(t, archive)
	for i, c := range []struct {
		annotation string
		layers     [][]byte
		byID       bool
	}{
		{crioCheckpoint, [][]byte{archive}, true},
		{criuCheckpoint, [][]byte{state, memory}, false},
	} {
		name := fmt.Sprintf("registry.test/counter%d:1", i)
		digest := w.pushCheckpoint(fmt.Sprintf("counter%d", i), c.annotation, c.layers...)
		ref, err := w.Pull(w.ctx, name)
		must(t, err)
		if ref != digest {
			t.Errorf("the image %s is called %s", digest, ref)
		}
		pod, podConfig := w.pod(fmt.Sprintf("restored%d", i))
		config := harness.Shell("restored", "echo the command must not run")
		config.Image = &cri.ImageSpec{Image: name, UserSpecifiedImage: name}
		if c.byID {
			config.Image.Image = ref
		}
		id, err := w.Create(w.ctx, pod, podConfig, config)
		must(t, err)
		w.removeImage(name)
		must(t, w.Kill()) // before the start
		must(t, w.Restart(w.ctx))
		w.goesOn(id, podConfig, config, at)
		status, err := w.Status(w.ctx, id)
		must(t, err)
		busybox, err := w.Images.ImageStatus(w.ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: harness.Busybox}})
		must(t, err)
		if status.ImageId != busybox.Image.Id {
			t.Errorf("the restored container has the image %s", status.ImageId)
		}
		if i == 0 {
			w.checkpointAgain(id)
		}
		must(t, w.RemovePod(w.ctx, pod))
	}
	w.clean()
}

// checkpointAgain looks at what a checkpoint of a restored container says: the image
// that it was made from, and not the one that held the checkpoint.
func (w *world) checkpointAgain(id string) {
	w.t.Helper()
	location := filepath.Join(w.Dir, "again.tar")
	must(w.t, w.checkpoint(id, location, 0))
	if config := string(archived(w.t, location)["config.dump"]); !strings.Contains(config, "busybox@sha256:") || strings.Contains(config, "counter0") {
		w.t.Errorf("it says %s", config)
	}
	must(w.t, os.Remove(location))
}

// TestRestoreFromImageElsewhere restores on a node that lacks the image that the
// container was made from.
func TestRestoreFromImageElsewhere(t *testing.T) {
	w := pulled(t, checkpoints)
	archive, at := w.checkpointed()
	w.pushCheckpoint("elsewhere", crioCheckpoint, archive)
	ref, err := w.Pull(w.ctx, "registry.test/elsewhere:1")
	must(t, err)
	w.removeImage(harness.Busybox)
	pod, podConfig := w.pod("restored")
	config := harness.Shell("restored", "exit 1")
	config.Image.Image = ref
	id, err := w.Create(w.ctx, pod, podConfig, config)
	must(t, err)
	w.goesOn(id, podConfig, config, at)
	must(t, w.RemovePod(w.ctx, pod))
	w.removeImage(ref)
}

// TestRestoreFromImageInterrupted ends the daemon while it reads the image: nothing of
// that stays, and the container can be made afterwards.
func TestRestoreFromImageInterrupted(t *testing.T) {
	w := pulled(t, checkpoints)
	archive, at := w.checkpointed()
	w.pushCheckpoint("interrupted", crioCheckpoint, archive)
	ref, err := w.Pull(w.ctx, "registry.test/interrupted:1")
	must(t, err)
	pod, podConfig := w.pod("restored")
	config := harness.Shell("restored", "exit 1")
	config.Image.Image = ref
	for i := range 6 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = w.Create(w.ctx, pod, podConfig, config) // it fails or not
		}()
		time.Sleep(time.Duration(1+3*i) * time.Millisecond)
		must(t, w.Kill())
		<-done
		must(t, w.Restart(w.ctx))
	}
	id, err := w.Create(w.ctx, pod, podConfig, config)
	must(t, err)
	w.goesOn(id, podConfig, config, at)
	must(t, w.RemovePod(w.ctx, pod))
	w.removeImage(ref)
	w.clean()
}

// TestRestoreCompressed restores from archives in the forms that Podman exports.
func TestRestoreCompressed(t *testing.T) {
	w := pulled(t, checkpoints)
	archive, at := w.checkpointed()
	location := filepath.Join(w.Dir, "packed.tar")
	for name, open := range map[string]func(io.Writer) io.WriteCloser{
		"gzip": func(to io.Writer) io.WriteCloser { return gzip.NewWriter(to) },
		"zstd": func(to io.Writer) io.WriteCloser {
			z, err := zstd.NewWriter(to)
			must(t, err)
			return z
		},
	} {
		var b bytes.Buffer
		to := open(&b)
		_, err := to.Write(archive)
		must(t, errors.Join(err, to.Close()))
		must(t, os.WriteFile(location, b.Bytes(), 0o600))
		pod, podConfig := w.pod(name)
		config := harness.Shell("restored", "exit 1")
		config.Image.Image = location
		id, err := w.Create(w.ctx, pod, podConfig, config)
		must(t, err)
		w.goesOn(id, podConfig, config, at)
		must(t, w.RemovePod(w.ctx, pod))

		must(t, os.WriteFile(location, b.Bytes()[:b.Len()-2], 0o600))
		pod, podConfig = w.pod(name + "-cut")
		_, err = w.Create(w.ctx, pod, podConfig, config)
		refused(t, err, codes.InvalidArgument, "cut short")
		must(t, w.RemovePod(w.ctx, pod))
	}
	must(t, os.Remove(location))
	w.clean()
}

// TestCheckpointImageRefused: where restoring is off, where the policy refuses by
// now what it allowed, and as an image to run, an image that holds a checkpoint is
// refused for what it is.
func TestCheckpointImageRefused(t *testing.T) {
	w := pulled(t, checkpoints)
	archive, _ := w.checkpointed()
	digest := w.pushCheckpoint("refused", crioCheckpoint, archive)
	_, err := w.Pull(w.ctx, "registry.test/refused:1")
	must(t, err)
	pod, podConfig := w.pod("refused")
	config := harness.Shell("restored", "true")
	config.Image.Image = digest
	policy := filepath.Join(w.Dir, "policy.json")
	open, err := os.ReadFile(policy)
	must(t, err)
	must(t, os.WriteFile(policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker":{"registry.test/refused":[{"type":"reject"}]}}}`), 0o600))
	_, err = w.Create(w.ctx, pod, podConfig, config)
	refused(t, err, codes.Unknown, "SignatureValidationFailed", digest, "pull it again")
	must(t, os.WriteFile(policy, open, 0o600))

	mappedID, mappedConfig := w.mappedPod("mapped")
	inside := mapped(mappedConfig, "restored", "true")
	inside.Image.Image = digest
	_, err = w.Create(w.ctx, mappedID, mappedConfig, inside)
	refused(t, err, codes.FailedPrecondition, "user namespace")
	must(t, w.RemovePod(w.ctx, mappedID))
	must(t, w.RemovePod(w.ctx, pod))
	w.removeImage(digest)
	w.clean()

	off := pulled(t, func(o *harness.NodeOptions) {
		o.Config += fmt.Sprintf("\n[checkpoint]\ncriu = %q\n", harness.Tool("criu"))
	})
	_, err = off.Pull(off.ctx, "registry.test/refused:1")
	must(t, err)
	pod, podConfig = off.pod("off")
	_, err = off.Create(off.ctx, pod, podConfig, config)
	refused(t, err, codes.Unimplemented, "checkpoint.restore")
}

// TestHostileCheckpointImages makes containers of images that mean harm: all are
// refused, and nothing is left or reached.
func TestHostileCheckpointImages(t *testing.T) {
	w := pulled(t, checkpoints)
	secret := filepath.Join(outside, "secret")
	const config = `{"rootfsImageName":"` + harness.Busybox + `"}`
	file := func(name, content string) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content)), PAXRecords: map[string]string{"test.content": content}}
	}
	link := func(name, to string) tar.Header {
		return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}
	}
	said, memory := file("config.dump", config), file("checkpoint/inventory.img", "x")
	for name, c := range map[string]struct {
		layer []byte
		code  codes.Code
		words string
	}{
		"nothing":        {pack(t, file("readme", "x")), codes.InvalidArgument, "config.dump"},
		"config-linked":  {pack(t, link("config.dump", secret), memory), codes.InvalidArgument, "config.dump"},
		"config-near":    {pack(t, file("other", config), link("config.dump", "other"), memory), codes.InvalidArgument, "config.dump"},
		"bad-config":     {pack(t, file("config.dump", "{"), memory), codes.InvalidArgument, "config.dump"},
		"big-config":     {pack(t, file("config.dump", strings.Repeat(" ", 5<<20)), memory), codes.InvalidArgument, "larger"},
		"no-memory":      {pack(t, said), codes.InvalidArgument, "inventory.img"},
		"memory-linked":  {pack(t, said, memory, link("checkpoint/pages-1.img", secret)), codes.InvalidArgument, "pages-1.img"},
		"images-linked":  {pack(t, said, link("checkpoint", outside)), codes.InvalidArgument, "directory"},
		"memory-a-pipe":  {pack(t, said, memory, tar.Header{Typeflag: tar.TypeFifo, Name: "checkpoint/pages-1.img", Mode: 0o600}), codes.InvalidArgument, "pages-1.img"},
		"memory-a-disk":  {pack(t, said, memory, tar.Header{Typeflag: tar.TypeBlock, Name: "checkpoint/pages-1.img", Mode: 0o600, Devmajor: 1}), codes.InvalidArgument, "pages-1.img"},
		"deep":           {pack(t, said, memory, file("checkpoint/a/b", "x")), codes.InvalidArgument, "checkpoint/a"},
		"changes-linked": {pack(t, said, memory, link("rootfs-diff.tar", secret)), codes.InvalidArgument, "rootfs-diff.tar"},
		"diff-climbs":    {pack(t, said, memory, file("rootfs-diff.tar", string(pack(t, link("out", outside), file("out/planted", "x"))))), codes.InvalidArgument, ""},
		"deletes-all":    {pack(t, said, memory, file("deleted.files", `["/"]`)), codes.InvalidArgument, "deletes"},
		"no-base":        {pack(t, file("config.dump", `{"rootfsImageName":"registry.test/none:1"}`), memory), codes.NotFound, "registry.test/none:1"},
		"of-itself":      {pack(t, file("config.dump", `{"rootfsImageName":"registry.test/bad/of-itself:1"}`), memory), codes.InvalidArgument, "another checkpoint"},
	} {
		w.pushCheckpoint("bad/"+name, criuCheckpoint, c.layer)
		ref, err := w.Pull(w.ctx, "registry.test/bad/"+name+":1")
		must(t, err)
		pod, podConfig := w.pod(name)
		bad := harness.Shell("bad", "true")
		bad.Image.Image = ref
		_, err = w.Create(w.ctx, pod, podConfig, bad)
		t.Log(name, err)
		refused(t, err, c.code, c.words)
		entries, err := os.ReadDir(outside)
		must(t, err)
		if data, err := os.ReadFile(secret); err != nil || string(data) != "the host's own" || len(entries) != 1 {
			t.Fatalf("%s: outside is %v, %q, %v", name, entries, data, err)
		}
		must(t, w.RemovePod(w.ctx, pod))
		w.removeImage(ref)
	}
	w.clean()
}
