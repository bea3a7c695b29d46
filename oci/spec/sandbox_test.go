package spec

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBuildSandbox(t *testing.T) {
	b := busybox()
	in := func(change func(*SandboxInput)) *SandboxInput {
		pod := *b.Pod
		s := &SandboxInput{
			Pod: &pod, PodID: b.PodID, Hostname: "web", Host: hostV1(), Paths: b.Paths,
			CgroupPath: "/kubepods/besteffort/pod1b4e28ba/" + b.PodID, Rootfs: "/var/lib/criruntime/sandbox", Command: "/pause",
		}
		change(s)
		return s
	}
	for name, input := range map[string]*SandboxInput{
		"sandbox": in(func(*SandboxInput) {}),
		"sandbox-sized-v2": in(func(s *SandboxInput) {
			s.Host, s.Pod.LogDir = hostV2(), "/var/log/pods/web"
			s.Pod.Namespaces.PID = NamespacePod
			s.Pod.Resources = &Resources{CPUPeriod: 100000, CPUQuota: 150000, CPUShares: 1024, Memory: 1 << 30}
		}),
		"sandbox-on-host": in(func(s *SandboxInput) {
			s.Pod.Namespaces = Namespaces{Network: NamespaceNode, PID: NamespaceNode, IPC: NamespaceNode}
			s.Paths = Paths{}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			built, err := BuildSandbox(input)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(built, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(file, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil || !bytes.Equal(bytes.TrimSpace(want), got) {
				t.Errorf("%s differs (%v): run go test -update and read the difference", file, err)
			}
		})
	}
	_, err := BuildSandbox(in(func(s *SandboxInput) { s.Paths.NetNS = "" }))
	if err == nil || !strings.Contains(err.Error(), "network") {
		t.Errorf("a pod without its network namespace: %v", err)
	}
}
