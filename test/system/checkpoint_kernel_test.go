//go:build kernel

package system

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	metadata "github.com/checkpoint-restore/checkpointctl/lib"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

// checkpoints allows to restore, with the CRIU that was built for the tests.
func checkpoints(o *harness.NodeOptions) {
	o.Config += fmt.Sprintf("\n[checkpoint]\ncriu = %q\nrestore = true\n", harness.Tool("criu"))
}

func (w *world) checkpoint(id, location string, timeout int64) error {
	_, err := w.Runtime.CheckpointContainer(w.ctx, &cri.CheckpointContainerRequest{ContainerId: id, Location: location, Timeout: timeout})
	return err
}

// counting writes to its root filesystem what it has counted to.
func counting(name string) *cri.ContainerConfig {
	return harness.Shell(name, `rm /etc/passwd; rm -r /var; mkdir -p /var/new; echo written > /var/new/file; ln -s /var/new/file /link
		i=0; while :; do i=$((i+1)); echo $i; echo $i > /counter; sleep 0.05; done`)
}

// restoring makes pods of the default handler from now on, since no other one
// restores, whichever handler's containers the checkpoints are of.
func (w *world) restoring() { w.Client.Handler = "" }

// counted is the last number in a container's log, in which none is left out.
func (w *world) counted(podConfig *cri.PodSandboxConfig, config *cri.ContainerConfig) (first, last int) {
	w.t.Helper()
	for _, line := range strings.Fields(w.log(podConfig, config)) {
		n, err := strconv.Atoi(line)
		must(w.t, err)
		if last != 0 && n != last+1 {
			w.t.Fatalf("after %d comes %d", last, n)
		}
		if first == 0 {
			first = n
		}
		last = n
	}
	return first, last
}

func (w *world) countsBeyond(podConfig *cri.PodSandboxConfig, config *cri.ContainerConfig, n int) {
	w.t.Helper()
	w.eventually(func() error {
		if _, last := w.counted(podConfig, config); last <= n {
			return fmt.Errorf("it has counted to %d", last)
		}
		return nil
	})
}

// archived reads the files of an archive but the images of CRIU.
func archived(t *testing.T, location string) map[string][]byte {
	t.Helper()
	f, err := os.Open(location)
	must(t, err)
	defer f.Close()
	files := map[string][]byte{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		must(t, err)
		if strings.HasPrefix(h.Name, "checkpoint/pages-") {
			continue
		}
		files[h.Name], err = io.ReadAll(r)
		must(t, err)
	}
}

// TestCheckpointAndRestore writes a container that counts, lets it count on, and
// makes another in another pod of it, which counts on from the checkpoint.
func TestCheckpointAndRestore(t *testing.T) {
	w := pulled(t, checkpoints)
	pod, podConfig := w.pod("first")
	config := counting("counter")
	id := w.run(pod, podConfig, config)
	w.countsBeyond(podConfig, config, 5)
	location := filepath.Join(w.Dir, "checkpoint.tar")
	must(t, w.checkpoint(id, location, 60))
	_, at := w.counted(podConfig, config)
	w.countsBeyond(podConfig, config, at+3)
	if out := mustExec(w, id, "cat", "/var/new/file"); !strings.Contains(out, "written") {
		t.Errorf("the container that goes on: %q", out)
	}

	info, err := os.Stat(location)
	must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("the archive has mode %s", info.Mode())
	}
	files := archived(t, location)
	for _, name := range []string{
		metadata.ConfigDumpFile, metadata.SpecDumpFile, metadata.DeletedFilesFile, metadata.DumpLogFile, metadata.RootFsDiffTar,
		"stats-dump", "container.log", "checkpoint/inventory.img", "checkpoint/descriptors.json",
	} {
		if _, ok := files[name]; !ok {
			t.Errorf("the archive has no %s", name)
		}
	}
	var dump metadata.ContainerConfig
	must(t, json.Unmarshal(files[metadata.ConfigDumpFile], &dump))
	if dump.ID != id || !strings.HasPrefix(dump.Name, "k8s_counter_first_") || dump.CheckpointedAt.IsZero() ||
		!strings.Contains(dump.RootfsImageName, "busybox@sha256:") || !strings.HasPrefix(dump.RootfsImageRef, "sha256:") {
		t.Errorf("%s says %+v", metadata.ConfigDumpFile, dump)
	}
	var deleted []string
	must(t, json.Unmarshal(files[metadata.DeletedFilesFile], &deleted))
	if !slices.Contains(deleted, "/etc/passwd") {
		t.Errorf("deleted are %q", deleted)
	}

	w.restoring()
	other, otherConfig := w.pod("second")
	restored := harness.Shell("restored", "echo the command must not run")
	restored.Image.Image = location
	copied, err := w.Create(w.ctx, other, otherConfig, restored)
	must(t, err)
	must(t, w.Kill()) // before the start
	must(t, w.Restart(w.ctx))
	must(t, w.StartContainer(w.ctx, copied))
	w.countsBeyond(otherConfig, restored, at+3)
	if first, _ := w.counted(otherConfig, restored); first > at+1 || first < 5 {
		t.Errorf("it goes on with %d, and the checkpoint was made before %d", first, at)
	}
	has(t, mustExec(w, copied, "cat", "/link"), "written")
	if _, err := w.Exec(w.ctx, copied, "ls", "/etc/passwd"); err == nil {
		t.Error("a file that was deleted is there again")
	}
	status, err := w.Status(w.ctx, copied)
	must(t, err)
	if status.State != cri.ContainerState_CONTAINER_RUNNING || status.ImageId != dump.RootfsImageRef {
		t.Errorf("the restored container has status %v", status)
	}
	must(t, w.Kill())
	must(t, w.Restart(w.ctx))
	_, n := w.counted(otherConfig, restored)
	w.countsBeyond(otherConfig, restored, n)
	_, err = w.Runtime.StopContainer(w.ctx, &cri.StopContainerRequest{ContainerId: copied, Timeout: 0})
	must(t, err)
	if status, err = w.Status(w.ctx, copied); err != nil || status.ExitCode != 137 {
		t.Errorf("the restored container ended with %v, %v", status, err)
	}
	must(t, w.RemovePod(w.ctx, other))
	must(t, w.RemovePod(w.ctx, pod))
	must(t, os.Remove(location))
	w.clean()
}

// TestRestoreLeavesPod has a container restored beside another, which shares namespaces
// with it that CRIU takes for the restored one's own: the pod stays as it was.
func TestRestoreLeavesPod(t *testing.T) {
	w := pulled(t, checkpoints)
	pod, podConfig := w.pod("from", func(c *cri.PodSandboxConfig) {
		c.Linux.Sysctls = map[string]string{"kernel.msgmax": "4321"}
	})
	config := counting("counter")
	id := w.run(pod, podConfig, config)
	w.countsBeyond(podConfig, config, 3)
	location := filepath.Join(w.Dir, "checkpoint.tar")
	must(t, w.checkpoint(id, location, 0))

	other, otherConfig := w.pod("into", func(c *cri.PodSandboxConfig) {
		c.Linux.Sysctls = map[string]string{"kernel.msgmax": "1234", "fs.mqueue.msg_max": "7"}
	})
	beside := w.run(other, otherConfig, harness.Shell("beside", "exec sleep 1000"))
	restored := harness.Shell("restored", "exit 1")
	restored.Image.Image = location
	copied := w.run(other, otherConfig, restored)
	w.countsBeyond(otherConfig, restored, 6)
	for _, in := range []string{beside, copied} {
		out := mustExec(w, in, "sh", "-c", "hostname; cat /proc/sys/kernel/msgmax /proc/sys/fs/mqueue/msg_max")
		if fields := strings.Fields(out); !slices.Equal(fields, []string{"into", "1234", "7"}) {
			t.Errorf("the pod has become %q", fields)
		}
	}
	must(t, w.RemovePod(w.ctx, other))
	must(t, w.RemovePod(w.ctx, pod))
	must(t, os.Remove(location))
	w.clean()
}

// TestRestoreElsewhere restores on a node that does not have the image.
func TestRestoreElsewhere(t *testing.T) {
	w := pulled(t, checkpoints)
	pod, podConfig := w.pod("gone")
	config := counting("counter")
	id := w.run(pod, podConfig, config)
	w.countsBeyond(podConfig, config, 3)
	location := filepath.Join(w.Dir, "checkpoint.tar")
	must(t, w.checkpoint(id, location, 0))
	must(t, w.RemovePod(w.ctx, pod))
	_, err := w.Images.RemoveImage(w.ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: harness.Busybox}})
	must(t, err)
	w.restoring()
	other, otherConfig := w.pod("new")
	restored := harness.Shell("restored", "exit 1")
	restored.Image.Image = location
	status, err := w.Status(w.ctx, w.run(other, otherConfig, restored))
	must(t, err)
	w.countsBeyond(otherConfig, restored, 6)
	image, err := w.Images.ImageStatus(w.ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: status.ImageId}})
	must(t, err)
	if len(image.GetImage().GetRepoDigests()) != 1 {
		t.Errorf("the image of the checkpoint is %v", image.GetImage())
	}
}

// TestCheckpointRefused asks for what cannot be: nothing is made, and the
// container goes on.
func TestCheckpointRefused(t *testing.T) {
	w := pulled(t, checkpoints)
	pod, podConfig := w.pod("refused")
	config := counting("counter")
	id := w.run(pod, podConfig, config)
	there := filepath.Join(w.Dir, "there")
	must(t, os.WriteFile(there, []byte("mine"), 0o600))
	refused(t, w.checkpoint(id, there, 0), codes.AlreadyExists, there)
	refused(t, w.checkpoint(id, "relative.tar", 0), codes.InvalidArgument, "relative.tar")
	refused(t, w.checkpoint(id, w.Dir+"/../x", 0), codes.InvalidArgument, "..")
	refused(t, w.checkpoint(id, w.Dir+"/missing/x", 0), codes.InvalidArgument, "missing")
	refused(t, w.checkpoint("0123", w.Dir+"/x", 0), codes.NotFound, "0123")
	refused(t, w.checkpoint(id, w.Dir+"/x", -1), codes.InvalidArgument, "timeout")

	created, err := w.Create(w.ctx, pod, podConfig, harness.Shell("created", "sleep 1"))
	must(t, err)
	refused(t, w.checkpoint(created, w.Dir+"/x", 0), codes.FailedPrecondition, "created")
	ended := w.run(pod, podConfig, harness.Shell("ended", "true"))
	_, err = w.Exited(w.ctx, ended, patience)
	must(t, err)
	refused(t, w.checkpoint(ended, w.Dir+"/x", 0), codes.FailedPrecondition, "exited")
	mappedID, mappedConfig := w.mappedPod("mapped")
	inside := w.run(mappedID, mappedConfig, mapped(mappedConfig, "main", "exec sleep 100"))
	refused(t, w.checkpoint(inside, w.Dir+"/x", 0), codes.FailedPrecondition, "user namespace")

	_, at := w.counted(podConfig, config)
	w.countsBeyond(podConfig, config, at+3)
	if data, err := os.ReadFile(there); err != nil || string(data) != "mine" {
		t.Errorf("the file that was there: %q, %v", data, err)
	}
	if _, err := os.Lstat(w.Dir + "/x"); err == nil {
		t.Error("a refused checkpoint has left a file")
	}
	must(t, w.RemovePod(w.ctx, mappedID))
	must(t, w.RemovePod(w.ctx, pod))
	must(t, os.Remove(there))
	w.clean()
}

// TestCheckpointInterrupted ends the client's time, and the daemon, in the
// middle: the container goes on, and nothing is left.
func TestCheckpointInterrupted(t *testing.T) {
	w := pulled(t, checkpoints)
	pod, podConfig := w.pod("interrupted")
	config := counting("counter")
	id := w.run(pod, podConfig, config)
	w.countsBeyond(podConfig, config, 3)
	location := filepath.Join(w.Dir, "checkpoint.tar")
	ctx, cancel := context.WithTimeout(w.ctx, 40*time.Millisecond)
	_, err := w.Runtime.CheckpointContainer(ctx, &cri.CheckpointContainerRequest{ContainerId: id, Location: location})
	cancel()
	refused(t, err, codes.DeadlineExceeded)
	_, at := w.counted(podConfig, config)
	w.countsBeyond(podConfig, config, at+3)

	for i := range 4 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = w.checkpoint(id, location, 0) // it fails or not
		}()
		time.Sleep(time.Duration(30+60*i) * time.Millisecond)
		must(t, w.Kill())
		<-done
		must(t, w.Restart(w.ctx))
		_, at := w.counted(podConfig, config)
		w.countsBeyond(podConfig, config, at+3)
		if err := os.Remove(location); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	}
	must(t, w.checkpoint(id, location, 0))
	must(t, os.Remove(location))
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestCheckpointsOff has the switches off.
func TestCheckpointsOff(t *testing.T) {
	restores := func(t *testing.T, w *world, pod string, podConfig *cri.PodSandboxConfig, names ...string) {
		config := harness.Shell("restored", "true")
		config.Image.Image = w.Dir + "/x"
		_, err := w.Create(w.ctx, pod, podConfig, config)
		refused(t, err, codes.Unimplemented, names...)
	}
	// One node after the other: each looks at the host when it begins.
	for _, lines := range []string{"enable = false", `criu = "/nowhere/criu"`} {
		t.Run(lines, func(t *testing.T) {
			w := pulled(t, configured("[checkpoint]\n"+lines+"\n"))
			pod, podConfig := w.pod("off")
			id := w.run(pod, podConfig, harness.Shell("main", "exec sleep 1000"))
			refused(t, w.checkpoint(id, w.Dir+"/x", 0), codes.Unimplemented)
			restores(t, w, pod, podConfig)
		})
	}
	t.Run("no restore", func(t *testing.T) {
		w := pulled(t, configured(fmt.Sprintf("[checkpoint]\ncriu = %q\n", harness.Tool("criu"))))
		pod, podConfig := w.pod("off")
		restores(t, w, pod, podConfig, "checkpoint.restore")
	})
}

// TestHostileCheckpoints makes containers of archives that mean harm, or are
// none: all are refused, and nothing is left or reached.
func TestHostileCheckpoints(t *testing.T) {
	w := pulled(t, checkpoints)
	pod, podConfig := w.pod("victim")
	source := counting("counter")
	id := w.run(pod, podConfig, source)
	good := filepath.Join(w.Dir, "good.tar")
	must(t, w.checkpoint(id, good, 0))
	secret := filepath.Join(outside, "secret")

	diff := func(headers ...tar.Header) string { return string(pack(t, headers...)) }
	file := func(name, content string) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content)), PAXRecords: map[string]string{"test.content": content}}
	}
	config := string(archived(t, good)["config.dump"])
	for name, c := range map[string]struct {
		archive []byte
		code    codes.Code
		words   string
	}{
		"nothing":     {nil, codes.InvalidArgument, "tar"},
		"text":        {[]byte(strings.Repeat("no archive ", 200)), codes.InvalidArgument, "tar"},
		"no config":   {pack(t, file("spec.dump", "{}")), codes.InvalidArgument, "config.dump"},
		"bad config":  {pack(t, file("config.dump", "{")), codes.InvalidArgument, "config.dump"},
		"no image":    {pack(t, file("config.dump", "{}")), codes.InvalidArgument, "image"},
		"big config":  {pack(t, file("config.dump", strings.Repeat(" ", 5<<20))), codes.InvalidArgument, "larger"},
		"no base":     {pack(t, file("config.dump", `{"rootfsImageName":"registry.test/none:1"}`)), codes.NotFound, "registry.test/none:1"},
		"no memory":   {pack(t, file("config.dump", config)), codes.InvalidArgument, "inventory.img"},
		"linked":      {pack(t, file("config.dump", config), tar.Header{Typeflag: tar.TypeSymlink, Name: "checkpoint/inventory.img", Linkname: secret}), codes.InvalidArgument, "regular"},
		"dir as link": {pack(t, file("config.dump", config), tar.Header{Typeflag: tar.TypeSymlink, Name: "checkpoint", Linkname: outside}, file("checkpoint/x", "x")), codes.InvalidArgument, ""},
		"deep":        {pack(t, file("config.dump", config), file("checkpoint/a/../../b/c", "x"), file("checkpoint/a/b", "x")), codes.InvalidArgument, "checkpoint/a/b"},
		"climbing":    {pack(t, file("config.dump", config), file("checkpoint/../../../../"+outside+"/planted", "x")), codes.InvalidArgument, ""},
		"twice":       {pack(t, file("config.dump", config), file("./config.dump", config)), codes.InvalidArgument, "twice"},
		"diff climbs": {pack(t, file("config.dump", config), file("checkpoint/inventory.img", "x"),
			file("rootfs-diff.tar", diff(tar.Header{Typeflag: tar.TypeSymlink, Name: "out", Linkname: outside}, file("out/planted", "x"),
				file("../../../planted", "x"), tar.Header{Typeflag: tar.TypeLink, Name: "stolen", Linkname: "../../../../../../.." + secret}))), codes.InvalidArgument, ""},
		"deletes all": {pack(t, file("config.dump", config), file("checkpoint/inventory.img", "x"), file("deleted.files", `["/"]`)), codes.InvalidArgument, "deletes"},
		"deletes out": {pack(t, file("config.dump", config), file("checkpoint/inventory.img", "x"),
			file("rootfs-diff.tar", diff(tar.Header{Typeflag: tar.TypeSymlink, Name: "out", Linkname: outside})), file("deleted.files", `["/out/secret", "../../`+secret+`"]`)), codes.InvalidArgument, ""},
	} {
		location := filepath.Join(w.Dir, "bad.tar")
		must(t, os.WriteFile(location, c.archive, 0o600))
		bad := harness.Shell("bad", "true")
		bad.Image.Image = location
		_, err := w.Create(w.ctx, pod, podConfig, bad)
		t.Log(name, err)
		refused(t, err, c.code, c.words)
		entries, err := os.ReadDir(outside)
		must(t, err)
		if data, err := os.ReadFile(secret); err != nil || string(data) != "the host's own" || len(entries) != 1 {
			t.Fatalf("%s: outside is %v, %q, %v", name, entries, data, err)
		}
	}
	// A directory, a missing file, a pipe that nobody writes to, and images of
	// CRIU that are none.
	pipe := filepath.Join(w.Dir, "pipe")
	must(t, unix.Mkfifo(pipe, 0o600))
	for path, code := range map[string]codes.Code{w.Dir: codes.InvalidArgument, w.Dir + "/none": codes.NotFound, pipe: codes.InvalidArgument} {
		bad := harness.Shell("bad", "true")
		bad.Image.Image = path
		_, err := w.Create(w.ctx, pod, podConfig, bad)
		refused(t, err, code, path)
	}
	must(t, os.WriteFile(filepath.Join(w.Dir, "bad.tar"), pack(t, file("config.dump", config), file("checkpoint/inventory.img", "x"), file("checkpoint/descriptors.json", "[]")), 0o600))
	bad := harness.Shell("bad", "true")
	bad.Image.Image = filepath.Join(w.Dir, "bad.tar")
	made, err := w.Create(w.ctx, pod, podConfig, bad)
	must(t, err)
	refused(t, w.StartContainer(w.ctx, made), codes.FailedPrecondition, "criu")
	status, err := w.Status(w.ctx, made)
	must(t, err)
	if status.State != cri.ContainerState_CONTAINER_EXITED || status.Reason != "StartError" {
		t.Errorf("a container that cannot be restored has status %v", status)
	}
	must(t, w.RemovePod(w.ctx, pod))
	for _, name := range []string{"good.tar", "bad.tar", "pipe"} {
		must(t, os.Remove(filepath.Join(w.Dir, name)))
	}
	w.clean()
}

// pack makes an archive. A header's record "test.content" is the file's content.
func pack(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	out := tar.NewWriter(&b)
	for _, h := range headers {
		content := h.PAXRecords["test.content"]
		h.PAXRecords = nil
		must(t, out.WriteHeader(&h))
		_, err := io.WriteString(out, content)
		must(t, err)
	}
	must(t, out.Close())
	return b.Bytes()
}
