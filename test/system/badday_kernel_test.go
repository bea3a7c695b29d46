//go:build kernel

package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/fixtures"
	"github.com/criruntime/criruntime/test/harness"
)

// imageless starts a settled node without images.
func imageless(t *testing.T, options ...func(*harness.NodeOptions)) *world {
	t.Helper()
	w := start(t, options...)
	w.settle()
	return w
}

func TestUnknownImage(t *testing.T) {
	w := imageless(t)
	for _, ref := range []string{"registry.test/no/such/image:1", "registry.k8s.io/pause:no-such-tag"} {
		_, err := w.Pull(w.ctx, ref)
		refused(t, err, codes.NotFound, ref)
	}
	_, err := w.Pull(w.ctx, "registry.test/NOT A NAME")
	refused(t, err, codes.InvalidArgument, "NOT A NAME")
	r, err := w.Images.ImageStatus(w.ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: "registry.test/no/such:1"}})
	must(t, err)
	if r.Image != nil {
		t.Errorf("an unknown image has the status %v", r.Image)
	}
	pod, podConfig := w.pod("imageless")
	_, err = w.Create(w.ctx, pod, podConfig, harness.Shell("main", "true"))
	refused(t, err, codes.NotFound, harness.Busybox)
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

func TestVanishedTag(t *testing.T) {
	w := imageless(t)
	ref := "registry.test/vanishing:1"
	d, err := registry.Push(w.ctx, "vanishing", "1", images.Pause)
	must(t, err)
	_, err = w.Pull(w.ctx, ref)
	must(t, err)
	must(t, registry.DeleteManifest(w.ctx, "vanishing", d))
	_, err = w.Pull(w.ctx, ref)
	refused(t, err, codes.NotFound, ref)
	// What was pulled before is still usable.
	r, err := w.Images.ImageStatus(w.ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: ref}})
	must(t, err)
	if r.Image == nil {
		t.Error("the image that was pulled before its tag vanished is gone")
	}
	_, err = w.Images.RemoveImage(w.ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: ref}})
	must(t, err)
	w.clean()
}

func TestWrongDigest(t *testing.T) {
	w := imageless(t)
	ref := "registry.test/pause@" + digest.FromString("another image").String()
	_, err := w.Pull(w.ctx, ref)
	refused(t, err, codes.NotFound, ref)
	w.clean()
}

// TestBadLayers pulls images whose layers are not what they say, or that try to
// write outside of their root.
func TestBadLayers(t *testing.T) {
	w := imageless(t)
	for name := range fixtures.Bad(outside) {
		t.Run(name, func(t *testing.T) {
			ref := "registry.test/bad/" + name + ":1"
			_, err := w.Pull(w.ctx, ref)
			refused(t, err, codes.InvalidArgument, ref)
			entries, err := os.ReadDir(outside)
			must(t, err)
			if len(entries) != 1 || entries[0].Name() != "secret" {
				t.Errorf("the archive reached the host: %v", entries)
			}
			w.clean()
		})
	}
}

// TestCorruptedRegistry changes a layer in the registry's storage: the bytes no
// longer have the digest by which they are asked for.
func TestCorruptedRegistry(t *testing.T) {
	w := imageless(t)
	for name, corrupt := range map[string]func([]byte) []byte{
		"flipped":   func(b []byte) []byte { b[len(b)/2] ^= 0xff; return b },
		"truncated": func(b []byte) []byte { return b[:len(b)/2] },
	} {
		t.Run(name, func(t *testing.T) {
			var tree fixtures.Tree
			tree.File("/"+name, 0o644, strings.Repeat(name, 100000))
			layer := tree.Layer(fixtures.None)
			_, err := registry.Push(w.ctx, "corrupted", name, fixtures.Image{Layers: []fixtures.Layer{layer}})
			must(t, err)
			hex := digest.FromBytes(layer.Blob).Encoded()
			blob := filepath.Join(registry.Dir, "docker/registry/v2/blobs/sha256", hex[:2], hex, "data")
			data, err := os.ReadFile(blob)
			must(t, err)
			must(t, os.WriteFile(blob, corrupt(data), 0o600))
			ref := "registry.test/corrupted:" + name
			_, err = w.Pull(w.ctx, ref)
			if code := status.Code(err); code != codes.InvalidArgument && code != codes.Unknown {
				t.Errorf("a corrupted layer gives code %s: %v", code, err)
			} else {
				refused(t, err, code, ref)
			}
			w.clean()
		})
	}
}

func TestUnreachableRegistry(t *testing.T) {
	w := imageless(t)
	ref := "127.0.0.1:1/some/image:1"
	_, err := w.Pull(w.ctx, ref)
	refused(t, err, codes.Unknown, ref)
	if !strings.HasPrefix(status.Convert(err).Message(), "RegistryUnavailable: ") {
		t.Errorf("the kubelet's word for it is missing: %v", err)
	}
	w.clean()
}

func TestWrongCredentials(t *testing.T) {
	private, err := harness.StartRegistry(context.Background(), filepath.Join(t.TempDir(), "r"),
		harness.RegistryOptions{Username: "user", Password: "The-Word"})
	must(t, err)
	defer func() { must(t, private.Close()) }()
	w := imageless(t, func(o *harness.NodeOptions) {
		o.Registries = fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", private.Host)
	})
	_, err = private.Push(w.ctx, "image", "1", images.Pause)
	must(t, err)
	ref := private.Host + "/image:1"
	pull := func(auth *cri.AuthConfig) error {
		_, err := w.Images.PullImage(w.ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: ref}, Auth: auth})
		return err
	}
	for _, auth := range []*cri.AuthConfig{nil, {Username: "user", Password: "Not-The-Word"}} {
		err := pull(auth)
		refused(t, err, codes.PermissionDenied, ref)
		if err != nil && strings.Contains(err.Error(), "Not-The-Word") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
	w.clean()
	must(t, pull(&cri.AuthConfig{Username: "user", Password: "The-Word"}))
	log, err := os.ReadFile(w.LogFile())
	must(t, err)
	if strings.Contains(string(log), "The-Word") {
		t.Error("the daemon's log tells a password")
	}
	_, err = w.Images.RemoveImage(w.ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: ref}})
	must(t, err)
	w.clean()
}

// badContainer tries to run a container that cannot be; then it checks that a
// good one of the same name can, and that nothing is left.
func badContainer(t *testing.T, code codes.Code, change func(*cri.ContainerConfig), names ...string) {
	t.Helper()
	w := pulled(t)
	pod, podConfig := w.pod("bad")
	config := harness.Shell("main", "sleep 1000")
	change(config)
	id, err := w.Create(w.ctx, pod, podConfig, config)
	if err == nil {
		err = w.StartContainer(w.ctx, id)
		_, _ = w.Runtime.RemoveContainer(w.ctx, &cri.RemoveContainerRequest{ContainerId: id})
	}
	refused(t, err, code, names...)
	left, err := w.Containers(w.ctx)
	must(t, err)
	if len(left) != 0 {
		t.Errorf("the container that failed is listed: %v", left)
	}
	w.run(pod, podConfig, harness.Shell("main", "sleep 1000"))
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

func TestMissingCommand(t *testing.T) {
	badContainer(t, codes.InvalidArgument, func(c *cri.ContainerConfig) { c.Command = []string{"/no/such/command"} }, "/no/such/command")
}

func TestCommandThatCannotRun(t *testing.T) {
	badContainer(t, codes.InvalidArgument, func(c *cri.ContainerConfig) { c.Command = []string{"/etc/passwd"} }, "/etc/passwd")
}

func TestMissingMountSource(t *testing.T) {
	badContainer(t, codes.InvalidArgument, func(c *cri.ContainerConfig) {
		c.Mounts = []*cri.Mount{{ContainerPath: "/data", HostPath: "/no/such/directory"}}
	}, "/no/such/directory")
}

func TestMissingSeccompProfile(t *testing.T) {
	badContainer(t, codes.InvalidArgument, func(c *cri.ContainerConfig) {
		c.Linux.SecurityContext = &cri.LinuxContainerSecurityContext{Seccomp: &cri.SecurityProfile{
			ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "/no/such/profile.json"}}
	}, "/no/such/profile.json")
}

func TestBadSeccompProfile(t *testing.T) {
	profile := filepath.Join(t.TempDir(), "profile.json")
	must(t, os.WriteFile(profile, []byte(`{"defaultAction": "SCMP_ACT_NONSENSE"`), 0o600))
	badContainer(t, codes.InvalidArgument, func(c *cri.ContainerConfig) {
		c.Linux.SecurityContext = &cri.LinuxContainerSecurityContext{Seccomp: &cri.SecurityProfile{
			ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: profile}}
	}, profile)
}

func TestUnknownUser(t *testing.T) {
	badContainer(t, codes.InvalidArgument, func(c *cri.ContainerConfig) {
		c.Linux.SecurityContext = &cri.LinuxContainerSecurityContext{RunAsUsername: "nobody-knows"}
	}, "nobody-knows")
}

func TestNameUsedTwice(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("taken")
	other := w.PodConfig("taken")
	other.Hostname = "another"
	_, err := w.RunPod(w.ctx, other)
	refused(t, err, codes.AlreadyExists, "taken")
	config := harness.Shell("main", "sleep 1000")
	w.run(pod, podConfig, config)
	_, err = w.Create(w.ctx, pod, podConfig, harness.Shell("main", "sleep 1001"))
	refused(t, err, codes.AlreadyExists, "main")
	// The name is free again once it is removed.
	must(t, w.RemovePod(w.ctx, pod))
	again, err := w.RunPod(w.ctx, other)
	must(t, err)
	must(t, w.RemovePod(w.ctx, again))
	w.clean()
}

// badNetwork runs a pod on a node whose first CNI plugin is the script given, with
// further lines of its configuration of the network.
func badNetwork(t *testing.T, network, script string, names ...string) {
	t.Helper()
	dir := t.TempDir()
	if script != "" {
		must(t, os.WriteFile(filepath.Join(dir, "broken"), []byte("#!/bin/sh\n"+script), 0o755))
	}
	w := imageless(t, func(o *harness.NodeOptions) {
		o.PluginDirs, o.Network = []string{dir}, network
		o.Plugins = `{"type": "broken"}, `
	})
	_, err := w.RunPod(w.ctx, w.PodConfig("unlucky"))
	refused(t, err, codes.Unavailable, names...)
	// What could not be undone stays visible until it can.
	must(t, os.WriteFile(filepath.Join(dir, "broken"), []byte("#!/bin/sh\n"+goodPlugin), 0o755))
	must(t, w.RemovePods(w.ctx))
	w.clean()
	id, err := w.RunPod(w.ctx, w.PodConfig("unlucky"))
	must(t, err)
	must(t, w.RemovePod(w.ctx, id))
}

// goodPlugin is a CNI plugin that does nothing.
const goodPlugin = `case $CNI_COMMAND in
ADD) echo '{"cniVersion": "1.1.0"}' ;;
VERSION) echo '{"cniVersion": "1.1.0", "supportedVersions": ["0.4.0", "1.0.0", "1.1.0"]}' ;;
esac
`

func TestNetworkPluginFails(t *testing.T) {
	badNetwork(t, "", `echo '{"cniVersion": "1.1.0", "code": 100, "msg": "no luck today"}'; exit 1`, "no luck today", "unlucky")
}

func TestNetworkPluginHangs(t *testing.T) {
	badNetwork(t, `plugin_timeout = "10s"`, "exec sleep 1000", "unlucky", "broken")
}

func TestNetworkPluginMissing(t *testing.T) { badNetwork(t, "", "", "broken") }

// small mounts a file system with little room on a directory of the node.
func small(t *testing.T, dir string, megabytes int) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0755", megabytes)))
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			t.Errorf("cannot unmount %s: %v", dir, err)
		}
	})
}

// TestFullDiskWhilePulling pulls onto a file system that is too small, makes it
// larger, and pulls again.
func TestFullDiskWhilePulling(t *testing.T) {
	var root string
	w := imageless(t, func(o *harness.NodeOptions) {
		root = filepath.Join(o.Dir, "root")
		small(t, root, 2)
	})
	_, err := w.Pull(w.ctx, harness.Nginx)
	refused(t, err, codes.ResourceExhausted, harness.Nginx)
	w.clean()
	must(t, unix.Mount("", root, "", unix.MS_REMOUNT, "size=200m"))
	_, err = w.Pull(w.ctx, harness.Nginx)
	must(t, err)
	must(t, w.RemoveAll(w.ctx))
	must(t, w.Stop())
	must(t, unix.Unmount(root, 0))
}

// TestFullDiskWhileStarting fills the file system of the pods' records.
func TestFullDiskWhileStarting(t *testing.T) {
	var state string
	w := pulled(t, func(o *harness.NodeOptions) {
		state = filepath.Join(o.Dir, "state")
		small(t, state, 4)
	})
	hog := filepath.Join(state, "hog")
	must(t, fill(hog))
	_, err := w.RunPod(w.ctx, w.PodConfig("full"))
	refused(t, err, codes.ResourceExhausted, "full")
	must(t, os.Remove(hog))
	must(t, w.RemovePods(w.ctx))
	w.clean()
	id, err := w.RunPod(w.ctx, w.PodConfig("full"))
	must(t, err)
	must(t, w.RemovePod(w.ctx, id))
	must(t, w.RemoveAll(w.ctx))
	must(t, w.Stop())
	must(t, unix.Unmount(state, 0))
}

// fill writes a file until the disk is full.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 64 << 10; size > 0; size /= 2 {
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, unix.ENOSPC) {
			return err
		}
		err = nil
	}
	return nil
}

// TestCancelledPodStart gives up on a pod while its network is being made.
func TestCancelledPodStart(t *testing.T) {
	dir := t.TempDir()
	started, free := filepath.Join(dir, "started"), filepath.Join(dir, "free")
	must(t, os.WriteFile(filepath.Join(dir, "slow"), []byte("#!/bin/sh\n[ $CNI_COMMAND = ADD ] && { : >"+started+"; until [ -e "+free+" ]; do sleep 0.1; done; }\n"+goodPlugin), 0o755))
	w := imageless(t, func(o *harness.NodeOptions) {
		o.PluginDirs = []string{dir}
		o.Plugins = `{"type": "slow"}, `
	})
	ctx, cancel := context.WithCancel(w.ctx)
	go func() {
		_ = harness.Until(w.ctx, patience, func() error { _, err := os.Stat(started); return err })
		cancel()
	}()
	_, err := w.RunPod(ctx, w.PodConfig("cancelled"))
	refused(t, err, codes.Canceled)
	w.clean()
	must(t, os.WriteFile(free, nil, 0o600))
	id, err := w.RunPod(w.ctx, w.PodConfig("cancelled"))
	must(t, err)
	must(t, w.RemovePod(w.ctx, id))
	w.clean()
}

// TestCancelledPull gives up on a pull at once, and after the first bytes.
func TestCancelledPull(t *testing.T) {
	w := imageless(t)
	for _, after := range []time.Duration{time.Millisecond, 20 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(w.ctx, after)
		_, err := w.Pull(ctx, harness.Nginx)
		cancel()
		if err == nil {
			must(t, w.RemoveAll(w.ctx)) // it was faster
		} else {
			refused(t, err, codes.DeadlineExceeded)
		}
		w.clean()
	}
	_, err := w.Pull(w.ctx, harness.Nginx)
	must(t, err)
	must(t, w.RemoveAll(w.ctx))
	w.clean()
}

// TestGone asks for what does not exist.
func TestGone(t *testing.T) {
	w := imageless(t)
	id := strings.Repeat("a1", 32)
	_, err := w.PodStatus(w.ctx, id)
	refused(t, err, codes.NotFound, id)
	_, err = w.Status(w.ctx, id)
	refused(t, err, codes.NotFound, id)
	refused(t, w.StartContainer(w.ctx, id), codes.NotFound, id)
	_, err = w.Exec(w.ctx, id, "true")
	refused(t, err, codes.NotFound, id)
	_, err = w.Runtime.ContainerStats(w.ctx, &cri.ContainerStatsRequest{ContainerId: id})
	refused(t, err, codes.NotFound, id)
	_, err = w.Runtime.PodSandboxStats(w.ctx, &cri.PodSandboxStatsRequest{PodSandboxId: id})
	refused(t, err, codes.NotFound, id)
	_, err = w.Create(w.ctx, id, w.PodConfig("gone"), harness.Shell("main", "true"))
	refused(t, err, codes.NotFound, id)
	_, err = w.Runtime.StopContainer(w.ctx, &cri.StopContainerRequest{ContainerId: id})
	must(t, err)
	_, err = w.Runtime.RemoveContainer(w.ctx, &cri.RemoveContainerRequest{ContainerId: id})
	must(t, err)
	must(t, w.RemovePod(w.ctx, id))
	_, err = w.Images.RemoveImage(w.ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: "registry.test/gone:1"}})
	must(t, err)
	w.clean()
}
