//go:build kernel

package oci_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/test/harness"
)

// shimProgram is the shim, built as it is released.
var shimProgram string

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "criruntime-oci-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if shimProgram = os.Getenv("CRIRUNTIME_TEST_SHIM"); shimProgram == "" {
		shimProgram = filepath.Join(dir, "criruntime-shim")
		if err := buildShim(shimProgram); err != nil {
			return 0, err
		}
	}
	if err := makeRootfs(filepath.Join(dir, "rootfs")); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

var rootfs string

// makeRootfs makes a root file system from Debian's busybox, whose shell runs
// applets as programs, and the libraries that it names.
func makeRootfs(dir string) error {
	rootfs = dir
	busybox := filepath.Join(harness.Cache(), "debian/bin/busybox")
	if _, err := os.Stat(busybox); err != nil {
		return fmt.Errorf("these tests need Debian's busybox, which make deps unpacks: %v", err)
	}
	for _, d := range []string{"bin", "dev", "etc", "proc", "sys", "tmp", "work"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	ldd, _ := exec.Command("ldd", busybox).Output() // fails for a static one
	files := append(regexp.MustCompile(`/\S+`).FindAllString(string(ldd), -1), busybox)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		target := filepath.Join(dir, f)
		if f == busybox {
			target = filepath.Join(dir, "bin/busybox")
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(target, b, 0o755); err != nil {
			return err
		}
	}
	for _, applet := range []string{"sh", "cat", "sleep", "echo", "true", "false", "id", "stty", "ps", "kill",
		"setsid", "dd", "tail", "seq", "env", "pwd", "head", "wc", "date", "rm", "ls", "tty", "yes", "nohup", "mkfifo", "sort", "grep", "sed", "mkdir", "rmdir"} {
		if err := os.Link(filepath.Join(dir, "bin/busybox"), filepath.Join(dir, "bin", applet)); err != nil {
			return err
		}
	}
	return nil
}

// pod is a shim with what a test needs around it.
type pod struct {
	testing.TB
	oci.Shim
	launcher *oci.Launcher
	options  oci.ShimOptions
	cgroup   string
	n        int
}

var podNumber struct {
	sync.Mutex
	n int
}

// newPod starts a shim, and at the test's end ends it and checks that nothing
// is left.
func newPod(t testing.TB, change ...func(*oci.ShimOptions)) *pod {
	t.Helper()
	return newRestingPod(t, 0, change...)
}

// newRestingPod makes a pod whose shim rests after so short a time.
func newRestingPod(t testing.TB, after time.Duration, change ...func(*oci.ShimOptions)) *pod {
	t.Helper()
	podNumber.Lock()
	podNumber.n++
	id := fmt.Sprintf("%016x%048x", os.Getpid(), podNumber.n)
	podNumber.Unlock()
	launcher, err := oci.NewLauncher(oci.LauncherOptions{ShimPath: shimProgram, RestAfter: after})
	if err != nil {
		t.Fatal(err)
	}
	p := &pod{
		TB: t, launcher: launcher,
		options: oci.ShimOptions{PodID: id, Dir: filepath.Join(t.TempDir(), "pods", id)},
		cgroup:  fmt.Sprintf("/criruntime-test-%d/%s", os.Getpid(), id),
	}
	for _, c := range change {
		c(&p.options)
	}
	p.Shim, err = launcher.Start(context.Background(), p.options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.end)
	return p
}

func (p *pod) end() {
	ctx := p.context()
	info, err := p.Info(ctx)
	if err == nil {
		for _, c := range info.Containers {
			p.remove(c.ID)
		}
		if err := p.Shutdown(ctx); err != nil {
			p.Error(err)
		}
	}
	p.Kill()
	p.Close()
	p.launcher.Close()
	if p.Failed() {
		b, _ := os.ReadFile(filepath.Join(p.options.Dir, "shim.log"))
		p.Logf("shim.log:\n%s", b)
	}
	p.checkNothingLeft()
	removeCgroups(filepath.Dir(p.cgroup))
}

// context ends when a test may be taken to hang.
func (p *pod) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	p.Cleanup(cancel)
	return ctx
}

func (p *pod) checkNothingLeft() {
	p.Helper()
	for _, dir := range cgroupDirs(p.cgroup) {
		left, _ := filepath.Glob(dir + "/*/cgroup.procs")
		if len(left) > 0 {
			p.Errorf("cgroups are left: %v", left)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		p.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, p.options.Dir) {
			p.Errorf("a mount is left: %s", line)
		}
	}
}

// cgroupDirs are the directories of a group in all hierarchies.
func cgroupDirs(path string) []string {
	if isV2() {
		return []string{filepath.Join("/sys/fs/cgroup", path)}
	}
	dirs, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", path))
	return dirs
}

func isV2() bool {
	var st unix.Statfs_t
	return unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// removeCgroups removes a group with all below it, as far as they are empty.
func removeCgroups(path string) {
	for _, root := range cgroupDirs(path) {
		var dirs []string
		_ = filepath.WalkDir(root, func(dir string, e os.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				dirs = append(dirs, dir)
			}
			return nil
		})
		for _, dir := range slices.Backward(dirs) {
			os.Remove(dir)
		}
	}
}

// kit is a container to create.
type kit struct {
	spec   specs.Spec
	create oci.CreateOptions
}

type option func(*kit)

// command runs a shell script as the container's command.
func script(s string) option { return args("/bin/sh", "-c", s) }

func args(a ...string) option { return func(k *kit) { k.spec.Process.Args = a } }

func terminal(k *kit) {
	k.create.Terminal, k.spec.Process.Terminal = true, true
	k.spec.Process.ConsoleSize = &specs.Box{Width: 100, Height: 30}
}

func hostPID(k *kit) {
	namespaces := k.spec.Linux.Namespaces[:0]
	for _, ns := range k.spec.Linux.Namespaces {
		if ns.Type != specs.PIDNamespace {
			namespaces = append(namespaces, ns)
		}
	}
	k.spec.Linux.Namespaces = namespaces
}

// prepare writes a bundle and returns the container's options.
func (p *pod) prepare(options ...option) *kit {
	p.Helper()
	p.n++
	id := fmt.Sprintf("%064x", p.n)
	k := &kit{spec: baseSpec(filepath.Join(p.cgroup, id))}
	k.create = oci.CreateOptions{ID: id, Bundle: filepath.Join(p.options.Dir, "containers", id)}
	k.create.LogPath = filepath.Join(k.create.Bundle, "log")
	for _, o := range options {
		o(k)
	}
	if err := os.MkdirAll(k.create.Bundle, 0o700); err != nil {
		p.Fatal(err)
	}
	b, err := json.Marshal(&k.spec)
	if err != nil {
		p.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(k.create.Bundle, "config.json"), b, 0o600); err != nil {
		p.Fatal(err)
	}
	return k
}

func baseSpec(cgroup string) specs.Spec {
	caps := []string{"CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"}
	return specs.Spec{
		Version:  specs.Version,
		Root:     &specs.Root{Path: rootfs, Readonly: true},
		Hostname: "test",
		Process: &specs.Process{
			Args: []string{"/bin/sleep", "1000"}, Cwd: "/", Env: []string{"PATH=/bin"},
			Capabilities:    &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
			NoNewPrivileges: true,
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755", "size=64k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666", "mode=0620"}},
			{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"},
		},
		Linux: &specs.Linux{
			CgroupsPath: cgroup,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace},
			},
			Resources: &specs.LinuxResources{
				Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
				Memory:  &specs.LinuxMemory{Limit: pointer(int64(64 << 20))},
			},
		},
	}
}

func pointer[T any](v T) *T { return &v }

// create creates a container.
func (p *pod) create(options ...option) *kit {
	p.Helper()
	k := p.prepare(options...)
	if _, err := p.Create(p.context(), k.create); err != nil {
		p.Fatal(err)
	}
	return k
}

// run creates and starts a container.
func (p *pod) run(options ...option) *kit {
	p.Helper()
	k := p.create(options...)
	if err := p.Start(p.context(), k.create.ID); err != nil {
		p.Fatal(err)
	}
	return k
}

// remove ends and deletes a container.
func (p *pod) remove(id string) {
	p.Helper()
	ctx := p.context()
	if err := p.Signal(ctx, id, int(unix.SIGKILL), false); err != nil {
		p.Error(err)
	}
	p.exit(id)
	if err := p.Delete(ctx, id); err != nil {
		p.Error(err)
	}
}

// exit waits for a container's end.
func (p *pod) exit(id string) oci.Exit {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.context(), time.Minute)
	defer cancel()
	exits, err := p.Events(ctx)
	if err != nil {
		p.Fatal(err)
	}
	for e := range exits {
		if e.ID == id {
			return e
		}
	}
	p.Fatalf("container %s does not end", id)
	return oci.Exit{}
}

// log returns a container's log without its timestamps.
func (k *kit) log(t testing.TB) string {
	t.Helper()
	return readLog(t, k.create.LogPath)
}

var timestamp = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z `)

func readLog(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return timestamp.ReplaceAllString(string(b), "")
}

// eventually waits for something that takes a moment.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if condition() {
			return
		}
	}
	t.Fatalf("in vain: %s", what)
}
