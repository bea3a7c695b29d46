//go:build kernel

package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/fixtures"
	"github.com/criruntime/criruntime/test/harness"
)

// hostile pushes busybox with more on top and runs a script in it. Whatever
// becomes of that, the host's files stay as they are. The container's log is
// returned, or how its creation or start was refused.
func (w *world) hostile(name string, change func(*fixtures.Tree, *v1.ImageConfig), config *cri.ContainerConfig) (string, error) {
	w.t.Helper()
	var tree fixtures.Tree
	tree.File("/marker", 0o644, name)
	i := images.Busybox
	change(&tree, &i.Config)
	name = strings.ReplaceAll(name, " ", "-")
	_, err := registry.Push(w.ctx, "hostile/"+name, "1", i.With(tree.Layer(fixtures.Gzip)))
	must(w.t, err)
	config.Image.Image = "registry.test/hostile/" + name + ":1"
	if _, err := w.Pull(w.ctx, config.Image.Image); err != nil {
		return "", err
	}
	defer func() {
		_, err := w.Images.RemoveImage(w.ctx, &cri.RemoveImageRequest{Image: config.Image})
		must(w.t, err)
	}()
	pod, podConfig := w.pod(name)
	defer func() {
		must(w.t, w.RemovePod(w.ctx, pod))
		w.untouched()
	}()
	id, err := w.Run(w.ctx, pod, podConfig, config)
	if err != nil {
		return "", err
	}
	_, err = w.Exited(w.ctx, id, patience)
	must(w.t, err)
	return w.log(podConfig, config), nil
}

// untouched checks that nothing was written to the directory of the host that
// hostile images know of.
func (w *world) untouched() {
	w.t.Helper()
	entries, err := os.ReadDir(outside)
	must(w.t, err)
	if len(entries) != 1 || entries[0].Name() != "secret" {
		w.t.Errorf("the image reached the host: %v", entries)
	}
	data, err := os.ReadFile(filepath.Join(outside, "secret"))
	must(w.t, err)
	if string(data) != "the host's own" {
		w.t.Errorf("the image changed a file of the host: %q", data)
	}
}

// answered checks that a request ended well or with one of the codes that blame
// the client's input: never with Internal or Unknown.
func answered(t *testing.T, err error, codesAllowed ...codes.Code) {
	t.Helper()
	if err == nil {
		return
	}
	for _, c := range codesAllowed {
		if status.Code(err) == c {
			return
		}
	}
	t.Errorf("the request ended with code %s: %v", status.Code(err), err)
}

// TestImagesWithLinksInPlaceOfDirectories runs images that lead what the runtime
// mounts and writes to somewhere else.
func TestImagesWithLinksInPlaceOfDirectories(t *testing.T) {
	w := pulled(t)
	up := strings.Repeat("../", 24) + outside[1:]
	for name, link := range map[string][2]string{
		"dev absolute":    {"/dev", outside},
		"dev relative":    {"/dev", up},
		"proc":            {"/proc", outside},
		"sys":             {"/sys", outside},
		"etc is root":     {"/etc", "/"},
		"etc is outside":  {"/etc", outside},
		"resolv.conf":     {"/etc/resolv.conf", outside + "/secret"},
		"hosts":           {"/etc/hosts", up + "/new"},
		"hostname":        {"/etc/hostname", "/proc/self/root/etc/hostname"},
		"passwd":          {"/etc/passwd", "/proc/1/root/etc/passwd"},
		"workdir":         {"/work", outside},
		"workdir by proc": {"/work", "/proc/self/cwd"},
		"data":            {"/data", outside},
		"dev shm":         {"/dev/shm", outside},
		"cgroup":          {"/sys/fs/cgroup", outside},
	} {
		t.Run(name, func(t *testing.T) {
			here := *w
			here.t = t
			config := harness.Shell("main", "echo ran; ls -la "+outside+"; cat /proc/self/mountinfo")
			config.WorkingDir = "/work/deep/er"
			dir := filepath.Join(w.Dir, "data")
			must(t, os.MkdirAll(dir, 0o755))
			config.Mounts = []*cri.Mount{{ContainerPath: "/data/new", HostPath: dir}}
			out, err := here.hostile(name, func(tree *fixtures.Tree, _ *v1.ImageConfig) {
				tree.Symlink(link[0], link[1])
			}, config)
			answered(t, err, codes.InvalidArgument)
			if err == nil {
				has(t, out, "ran")
			}
			w.clean()
		})
	}
}

// TestImageConfigs runs images whose configuration is nonsense.
func TestImageConfigs(t *testing.T) {
	w := pulled(t)
	for name, change := range map[string]func(c *v1.ImageConfig){
		"user newline":     func(c *v1.ImageConfig) { c.User = "root\nroot" },
		"user nul":         func(c *v1.ImageConfig) { c.User = "root\x00" },
		"user colons":      func(c *v1.ImageConfig) { c.User = ":::" },
		"user negative":    func(c *v1.ImageConfig) { c.User = "-1" },
		"user huge":        func(c *v1.ImageConfig) { c.User = "99999999999999999999" },
		"user path":        func(c *v1.ImageConfig) { c.User = "../../etc/passwd" },
		"env no equals":    func(c *v1.ImageConfig) { c.Env = append(c.Env, "NOEQUALS") },
		"env empty":        func(c *v1.ImageConfig) { c.Env = append(c.Env, "") },
		"env no name":      func(c *v1.ImageConfig) { c.Env = append(c.Env, "=x") },
		"env nul":          func(c *v1.ImageConfig) { c.Env = append(c.Env, "A=b\x00C=d") },
		"env huge":         func(c *v1.ImageConfig) { c.Env = append(c.Env, "A="+strings.Repeat("x", 1<<20)) },
		"env home":         func(c *v1.ImageConfig) { c.Env = append(c.Env, "HOME=", "_LIBCONTAINER_INITPIPE=3") },
		"no env":           func(c *v1.ImageConfig) { c.Env = nil },
		"path nowhere":     func(c *v1.ImageConfig) { c.Env = []string{"PATH=:::/nowhere:"} },
		"workdir relative": func(c *v1.ImageConfig) { c.WorkingDir = "../../.." },
		"workdir nul":      func(c *v1.ImageConfig) { c.WorkingDir = "/a\x00b" },
		"workdir file":     func(c *v1.ImageConfig) { c.WorkingDir = "/etc/passwd" },
		"workdir in file":  func(c *v1.ImageConfig) { c.WorkingDir = "/etc/passwd/x" },
		"workdir fd":       func(c *v1.ImageConfig) { c.WorkingDir = "/proc/self/fd/7" },
		"workdir fds":      func(c *v1.ImageConfig) { c.WorkingDir = "/proc/self/fd/8/../../.." },
		"workdir long":     func(c *v1.ImageConfig) { c.WorkingDir = "/" + strings.Repeat("x/", 5000) },
		"entrypoint empty": func(c *v1.ImageConfig) { c.Entrypoint = []string{""} },
		"entrypoint nul":   func(c *v1.ImageConfig) { c.Entrypoint = []string{"sh\x00"} },
		"entrypoint dir":   func(c *v1.ImageConfig) { c.Entrypoint = []string{"/etc"} },
		"entrypoint self":  func(c *v1.ImageConfig) { c.Entrypoint = []string{"/proc/self/exe"} },
		"entrypoint huge":  func(c *v1.ImageConfig) { c.Entrypoint = []string{"true", strings.Repeat("x", 3<<20)} },
		"nothing to run":   func(c *v1.ImageConfig) { c.Entrypoint, c.Cmd = nil, nil },
		"stop signal":      func(c *v1.ImageConfig) { c.StopSignal = "SIGNONSENSE" },
		"stop signal 4000": func(c *v1.ImageConfig) { c.StopSignal = "4000" },
		"stop signal -9":   func(c *v1.ImageConfig) { c.StopSignal = "-9" },
		"stop signal chld": func(c *v1.ImageConfig) { c.StopSignal = "SIGCHLD" },
		"volumes": func(c *v1.ImageConfig) {
			c.Volumes = map[string]struct{}{"../../..": {}, "": {}, "/proc": {}, outside: {}}
		},
		"labels": func(c *v1.ImageConfig) { c.Labels = map[string]string{"": "", "\x00": strings.Repeat("x", 1<<20)} },
		"ports":  func(c *v1.ImageConfig) { c.ExposedPorts = map[string]struct{}{"x/y/z": {}, "99999999": {}} },
	} {
		t.Run(name, func(t *testing.T) {
			here := *w
			here.t = t
			config := harness.ContainerConfig("main")
			if !strings.HasPrefix(name, "entrypoint") && name != "nothing to run" {
				config.Command = []string{"/bin/sh", "-c", "echo ran; ls -la /proc/self/fd; pwd; env"}
			}
			_, err := here.hostile("config-"+name, func(_ *fixtures.Tree, c *v1.ImageConfig) { change(c) }, config)
			answered(t, err, codes.InvalidArgument)
			w.clean()
		})
	}
}

// TestHostileMountPaths mounts to places that a container must not reach, and
// where it may, below its own root alone.
func TestHostileMountPaths(t *testing.T) {
	w := pulled(t)
	dir := filepath.Join(w.Dir, "data")
	must(t, os.MkdirAll(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "given"), nil, 0o644))
	for i, m := range []*cri.Mount{
		{ContainerPath: "../../../../../../.." + outside + "/new", HostPath: dir},
		{ContainerPath: "/a/../../../../.." + outside + "/new", HostPath: dir},
		{ContainerPath: "/door/new", HostPath: dir},
		{ContainerPath: "/updoor/new", HostPath: dir},
		{ContainerPath: "/fddoor/new", HostPath: dir},
		{ContainerPath: "/proc", HostPath: dir},
		{ContainerPath: "/proc/self", HostPath: dir},
		{ContainerPath: "/proc/1/root/new", HostPath: dir},
		{ContainerPath: "/proc/sys/kernel", HostPath: dir},
		{ContainerPath: "/sys", HostPath: dir},
		{ContainerPath: "/sys/fs/cgroup", HostPath: dir},
		{ContainerPath: "/sys/kernel", HostPath: dir},
		{ContainerPath: "/dev", HostPath: dir},
		{ContainerPath: "/dev/null", HostPath: filepath.Join(dir, "given")},
		{ContainerPath: "/dev/pts", HostPath: dir},
		{ContainerPath: "/", HostPath: dir},
		{ContainerPath: ".", HostPath: dir},
		{ContainerPath: "", HostPath: dir},
		{ContainerPath: "relative", HostPath: dir},
		{ContainerPath: "/etc/passwd", HostPath: dir},
		{ContainerPath: "/etc/passwd/below", HostPath: dir},
		{ContainerPath: "/bin", HostPath: filepath.Join(dir, "given")},
		{ContainerPath: "/n\x00ul", HostPath: dir},
		{ContainerPath: "/data", HostPath: dir + "\x00"},
		{ContainerPath: "/data", HostPath: "data"},
		{ContainerPath: "/data", HostPath: ""},
		{ContainerPath: "/data", HostPath: dir + "/given/below"},
		{ContainerPath: "/" + strings.Repeat("long", 2000), HostPath: dir},
		{ContainerPath: "/data", HostPath: dir, Propagation: 77},
		{ContainerPath: "/data\nnewline", HostPath: dir},
	} {
		t.Run(fmt.Sprintf("%d %.40q", i, m.ContainerPath), func(t *testing.T) {
			here := *w
			here.t = t
			config := harness.ContainerConfig("main", "/bin/sh", "-c", "echo ran")
			config.Mounts = []*cri.Mount{m}
			_, err := here.hostile(fmt.Sprintf("mount-%d", i), func(tree *fixtures.Tree, _ *v1.ImageConfig) {
				tree.Symlink("/door", outside)
				tree.Symlink("/updoor", strings.Repeat("../", 24)+outside[1:])
				tree.Symlink("/fddoor", "/proc/self/fd/5")
			}, config)
			answered(t, err, codes.InvalidArgument)
			w.clean()
		})
	}
}
