package nri

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox"
)

func examplePod() *sandbox.PodStatus {
	return &sandbox.PodStatus{
		ID: "p1", Handler: "fast", Pid: 7, Cgroup: "/kubepods/pod1", NetNS: "/run/netns/p1",
		IPs: []netip.Addr{netip.MustParseAddr("10.0.0.2")},
		Config: &spec.Pod{
			Name: "web", Namespace: "shop", UID: "u1", CgroupParent: "/kubepods/pod1",
			Labels: map[string]string{"app": "web"},
		},
		Overhead: &spec.Resources{Memory: 1 << 20},
	}
}

func exampleContainer() *sandbox.ContainerStatus {
	return &sandbox.ContainerStatus{
		ID: "c1", PodID: "p1", ImageID: "sha256:abc", State: sandbox.ContainerRunning, Pid: 9, Cgroup: "/kubepods/pod1/c1",
		CreatedAt: time.Unix(1, 0), StartedAt: time.Unix(2, 0), User: sandbox.User{UID: 1, GID: 2, Groups: []int64{2, 3}},
		Config:    &spec.Container{Name: "nginx", UserImage: "nginx:1", CDIDevices: []string{"vendor.com/gpu=0"}},
		Resources: &spec.Resources{CPUShares: 100, CPUQuota: 5, CPUPeriod: 10, CPUSetCPUs: "0", Memory: 1 << 30, Hugepages: []spec.Hugepage{{PageSize: "2MB", Limit: 4}}},
	}
}

// exampleSpec is as package oci/spec makes them, golden file and all.
func exampleSpec(t *testing.T) *specs.Spec {
	t.Helper()
	files, err := filepath.Glob("../oci/spec/testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden specs: %v", err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	s := &specs.Spec{}
	if err := json.Unmarshal(data, s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPodAndContainer(t *testing.T) {
	pod := podOf(examplePod())
	if pod.GetName() != "web" || pod.GetIps()[0] != "10.0.0.2" || pod.GetLinux().GetPodOverhead().GetMemory().GetLimit().GetValue() != 1<<20 ||
		pod.GetLinux().GetNamespaces()[0].GetPath() != "/run/netns/p1" {
		t.Errorf("got %s", protojson.Format(pod))
	}
	c := containerOf(exampleContainer(), exampleSpec(t))
	if c.GetName() != "nginx" || c.GetState() != api.ContainerState_CONTAINER_RUNNING || c.GetImage().GetName() != "nginx:1" ||
		len(c.GetArgs()) == 0 || len(c.GetMounts()) == 0 || c.GetLinux().GetResources().GetCpu().GetShares().GetValue() != 100 ||
		c.GetUser().GetAdditionalGids()[1] != 3 || c.GetStartedAt() != 2e9 || c.GetFinishedAt() != 0 {
		t.Errorf("got %s", protojson.Format(c))
	}
	// One whose spec is gone, and which was never given limits.
	bare := exampleContainer()
	bare.Resources = nil
	if got := containerOf(bare, nil); got.GetLinux().GetResources() != nil {
		t.Errorf("got %s", protojson.Format(got))
	}
}

func TestAdjust(t *testing.T) {
	s := exampleSpec(t)
	a := &api.ContainerAdjustment{}
	a.AddEnv("ADDED", "1")
	a.AddAnnotation("note", "2")
	a.AddMount(&api.Mount{Source: "/src", Destination: "/dst", Type: "bind", Options: []string{"bind", "ro"}})
	a.SetLinuxMemoryLimit(1 << 20)
	if err := (&Options{}).adjust(s, a); err != nil {
		t.Fatal(err)
	}
	mounted := false
	for _, m := range s.Mounts {
		mounted = mounted || m.Destination == "/dst" && m.Source == "/src"
	}
	env := s.Process.Env[len(s.Process.Env)-1]
	if env != "ADDED=1" || s.Annotations["note"] != "2" || !mounted || *s.Linux.Resources.Memory.Limit != 1<<20 {
		t.Errorf("env %q, annotations %v, mounts %v", env, s.Annotations, s.Mounts)
	}
	if err := (&Options{}).adjust(s, nil); err != nil {
		t.Errorf("no adjustment is no error, got %v", err)
	}
}

func TestAdjustCDI(t *testing.T) {
	a := &api.ContainerAdjustment{}
	a.AddCDIDevice(&api.CDIDevice{Name: "vendor.com/gpu=0"})
	var asked []string
	inject := func(_ *specs.Spec, names []string) error {
		asked = names
		return errors.New("no such device")
	}
	if err := (&Options{InjectCDI: inject}).adjust(exampleSpec(t), a); err == nil || len(asked) != 1 || asked[0] != "vendor.com/gpu=0" {
		t.Errorf("asked for %v, got %v", asked, err)
	}
}

func TestUpdates(t *testing.T) {
	u := &api.ContainerUpdate{}
	u.SetContainerId("c1")
	u.SetLinuxMemoryLimit(5)
	u.SetIgnoreFailure()
	got := updatesOf([]*api.ContainerUpdate{u})
	if len(got) != 1 || got[0].ContainerID != "c1" || !got[0].Optional || *got[0].Resources.Memory.Limit != 5 {
		t.Errorf("got %+v", got)
	}
	if updatesOf([]*api.ContainerUpdate{{ContainerId: "c2"}})[0].Resources != nil {
		t.Error("an update without limits has limits")
	}
}
