//go:build kernel

package system

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/image/registry/registrytest"
	"github.com/criruntime/criruntime/test/fixtures"
	"github.com/criruntime/criruntime/test/harness"
)

// pushArtifact serves an artifact as name and returns its digest.
func (w *world) pushArtifact(name string, files map[string]string) string {
	w.t.Helper()
	manifest, blobs := fixtures.Artifact("application/vnd.test.model", files)
	must(w.t, registry.PushBlobs(w.ctx, name, blobs))
	must(w.t, registry.PushManifest(w.ctx, name, "1", manifest))
	return manifest.Digest().String()
}

func (w *world) removeImage(ref string) {
	w.t.Helper()
	_, err := w.Images.RemoveImage(w.ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: ref}})
	must(w.t, err)
}

// artifactVolume mounts an artifact as /model.
func artifactVolume(ref, sub string) []*cri.Mount {
	return []*cri.Mount{{
		ContainerPath: "/model", Image: &cri.ImageSpec{Image: ref, UserSpecifiedImage: ref}, ImageSubPath: sub, Readonly: true,
	}}
}

// TestArtifactVolume mounts the files of an artifact in pods with and without a
// user namespace, over a restart of the daemon and a removal of the artifact.
func TestArtifactVolume(t *testing.T) {
	w := pulled(t)
	digest := w.pushArtifact("model", map[string]string{"config.json": "{}", "weights/v1/a.bin": "of a", "weights/v1/b.bin": "of b"})
	const ref = "registry.test/model:1"
	id, err := w.Pull(w.ctx, ref)
	must(t, err)
	if id != digest {
		t.Errorf("the artifact %s is called %s", digest, id)
	}
	list, err := w.Images.ListImages(w.ctx, &cri.ListImagesRequest{Filter: &cri.ImageFilter{Image: &cri.ImageSpec{Image: ref}}})
	must(t, err)
	if len(list.Images) != 1 || list.Images[0].GetSpec().GetAnnotations()["criruntime.artifact-type"] != "application/vnd.test.model" {
		t.Errorf("it is listed as %v", list.Images)
	}
	for _, make := range []func(string, ...func(*cri.PodSandboxConfig)) (string, *cri.PodSandboxConfig){w.pod, w.mappedPod} {
		_, err := w.Pull(w.ctx, ref)
		must(t, err)
		pod, podConfig := make("model")
		config := mapped(podConfig, "main", "exec sleep 4242")
		config.Image.Image = harness.Busybox
		config.Command = []string{"sh", "-c", "cat /model/config.json /model/weights/v1/*; stat -c '%n %a %u:%g' /model /model/weights/v1/a.bin; echo x > /model/x; exec sleep 4242"}
		config.Mounts = artifactVolume(ref, "")
		main := w.run(pod, podConfig, config)
		w.logs("Read-only file system", podConfig, config)
		has(t, w.log(podConfig, config), "{}of aof b", "/model 755 0:0", "/model/weights/v1/a.bin 644 0:0")
		part := mapped(podConfig, "part", "exec sleep 4242")
		part.Image.Image = harness.Busybox
		part.Command = []string{"sleep", "4242"}
		part.Mounts = artifactVolume(id, "weights/v1")
		second := w.run(pod, podConfig, part)
		has(t, mustExec(w, second, "ls", "/model"), "a.bin\nb.bin")
		s, err := w.Status(w.ctx, main)
		must(t, err)
		if len(s.Mounts) != 1 || s.Mounts[0].GetImage().GetImage() != id || s.Mounts[0].GetImage().GetImageRef() != id ||
			s.Mounts[0].GetImage().GetUserSpecifiedImage() != ref {
			t.Errorf("the status tells of the artifact: %v", s.Mounts)
		}
		must(t, w.Kill())
		must(t, w.Restart(w.ctx))
		has(t, mustExec(w, main, "cat", "/model/weights/v1/a.bin"), "of a")
		w.removeImage(ref)
		has(t, mustExec(w, main, "cat", "/model/weights/v1/a.bin"), "of a")
		must(t, w.RemovePod(w.ctx, pod))
	}
	w.clean()
}

// TestArtifactMisused runs an artifact, and mounts what it does not have.
func TestArtifactMisused(t *testing.T) {
	w := pulled(t)
	w.pushArtifact("misused", map[string]string{"a": "x"})
	const ref = "registry.test/misused:1"
	_, err := w.Pull(w.ctx, ref)
	must(t, err)
	pod, podConfig := w.pod("misused")
	config := harness.Shell("main", "true")
	config.Image.Image = ref
	_, err = w.Create(w.ctx, pod, podConfig, config)
	refused(t, err, codes.InvalidArgument, ref, "artifact")
	config = harness.Shell("main", "true")
	config.Mounts = artifactVolume(ref, "missing")
	_, err = w.Create(w.ctx, pod, podConfig, config)
	refused(t, err, codes.InvalidArgument, "missing")
	has(t, status.Convert(err).Message(), "ImageVolumeMountFailed: cannot create")
	w.pushArtifact("hostile", map[string]string{"../../../../../../" + outside + "/x": "x"})
	_, err = w.Pull(w.ctx, "registry.test/hostile:1")
	refused(t, err, codes.InvalidArgument, "registry.test/hostile:1", "title")
	must(t, w.RemovePod(w.ctx, pod))
	w.removeImage(ref)
	w.clean()
}

// TestSignaturePolicy pulls and runs under a policy that comes to demand a
// signature: the kubelet's word is where it looks for it.
func TestSignaturePolicy(t *testing.T) {
	key := registrytest.NewSigstore(t)
	w := start(t, func(o *harness.NodeOptions) {
		d := filepath.Join(o.Dir, "registries.d")
		for name, text := range map[string]string{
			filepath.Join(d, "test.yaml"):                            "default-docker:\n  use-sigstore-attachments: true\n",
			filepath.Join(o.Dir, "criruntime.toml.d", "signed.toml"): fmt.Sprintf("[image]\nregistries_dir = %q\n", d),
			filepath.Join(o.Dir, "cosign.pub"):                       string(key.Public()),
		} {
			must(t, os.MkdirAll(filepath.Dir(name), 0o755))
			must(t, os.WriteFile(name, []byte(text), 0o644))
		}
	})
	w.settle()
	const ref = "registry.test/signed:1"
	digest, err := registry.Push(w.ctx, "signed", "1", images.Busybox.As("0"))
	must(t, err)
	_, err = w.Pull(w.ctx, ref)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(w.Dir, "policy.json"), fmt.Appendf(nil, `{"default":[{"type":"insecureAcceptAnything"}],
		"transports":{"docker":{"registry.test/signed":[{"type":"sigstoreSigned","keyPath":%q}]}}}`, filepath.Join(w.Dir, "cosign.pub")), 0o600))
	pod, podConfig := w.pod("signed")
	config := harness.Shell("main", "echo it runs")
	config.Image.Image = ref
	_, err = w.Create(w.ctx, pod, podConfig, config)
	refused(t, err, codes.Unknown, "pull it again")
	has(t, status.Convert(err).Message(), "SignatureValidationFailed: cannot create")
	_, err = w.Pull(w.ctx, ref)
	refused(t, err, codes.Unknown, ref, "no signature")
	has(t, status.Convert(err).Message(), "SignatureValidationFailed: cannot pull")

	text, layer := key.Sign(ref, digest)
	manifest, empty := fixtures.Attachment(layer)
	must(t, registry.PushBlobs(w.ctx, "signed", []fixtures.Blob{empty, {MediaType: layer.MediaType, Data: text}}))
	must(t, registry.PushManifest(w.ctx, "signed", registrytest.AttachmentTag(digest), manifest))
	_, err = w.Pull(w.ctx, ref)
	must(t, err)
	has(t, w.output(pod, podConfig, config), "it runs")
	must(t, w.RemovePod(w.ctx, pod))
	w.removeImage(ref)
	w.clean()
}
