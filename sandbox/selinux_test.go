package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/criruntime/criruntime/oci/spec"
)

// TestSELinux: the containers of a pod share its level, over a restart of the
// daemon too, one may have a type of its own, and the volumes that the client
// says so of are labelled with the container's.
func TestSELinux(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	m.o.Host.SELinux = true
	pod := must(m.RunPod(bg, podConfig("web"), ""))(t)
	check(t, m.Close())
	m = w.manager()
	m.o.Host.SELinux = true

	given, kept := filepath.Join(t.TempDir(), "given"), filepath.Join(t.TempDir(), "kept")
	for _, dir := range []string{given, kept} {
		check(t, os.Mkdir(dir, 0o755))
	}
	config := containerConfig("nginx")
	config.Security.SELinux = &spec.SELinux{Type: "web_t"}
	config.Mounts = []spec.Mount{
		{ContainerPath: "/given", HostPath: given, SELinuxRelabel: true}, {ContainerPath: "/kept", HostPath: kept},
	}
	for name, want := range map[string]string{"nginx": "u:r:web_t:s0:c1,c2", "plain": "u:r:container_t:s0:c1,c2"} {
		config := config
		if config.Name = name; name == "plain" {
			config.Security.SELinux, config.Mounts = nil, nil
		}
		ctr := must(m.CreateContainer(bg, pod, config))(t)
		s := must(readSpec(must(m.index.container(ctr))(t).bundle()))(t)
		if s.Process.SelinuxLabel != want || s.Linux.MountLabel != "u:o:file_t:s0:c1,c2" {
			t.Errorf("%s has the labels %q and %q", name, s.Process.SelinuxLabel, s.Linux.MountLabel)
		}
	}
	config.Name, config.Security.SELinux = "unknown", &spec.SELinux{Type: "nosuch_t"}
	if _, err := m.CreateContainer(bg, pod, config); !errors.Is(err, ErrInvalid) {
		t.Errorf("a label that the policy does not know: %v", err)
	}
	if w.labels[given] != "u:o:file_t:s0:c1,c2" || len(w.labels) != 1 {
		t.Errorf("labelled are %v", w.labels)
	}
}
