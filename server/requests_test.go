//lint:file-ignore SA1019 Clients may still send the deprecated fields.

package server

import (
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The requests below set every field that there is, so that tests can take
// fields away one by one. Where two fields exclude each other there is a
// second request.

func fullResources() *runtimeapi.LinuxContainerResources {
	return &runtimeapi.LinuxContainerResources{
		CpuPeriod: 100_000, CpuQuota: 50_000, CpuShares: 512, MemoryLimitInBytes: 1 << 30, OomScoreAdj: 500,
		CpusetCpus: "0-1,3", CpusetMems: "0", MemorySwapLimitInBytes: 2 << 30,
		HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB", Limit: 4 << 20}},
		Unified:        map[string]string{"memory.high": "123"},
	}
}

func fullUserNamespace() *runtimeapi.UserNamespace {
	return &runtimeapi.UserNamespace{
		Mode: runtimeapi.NamespaceMode_POD,
		Uids: []*runtimeapi.IDMapping{{HostId: 65536, ContainerId: 0, Length: 10}, {HostId: 75536, ContainerId: 10, Length: 10}},
		Gids: []*runtimeapi.IDMapping{{HostId: 65536, ContainerId: 0, Length: 10}, {HostId: 75536, ContainerId: 10, Length: 10}},
	}
}

func fullSELinux() *runtimeapi.SELinuxOption {
	return &runtimeapi.SELinuxOption{User: "system_u", Role: "system_r", Type: "container_t", Level: "s0:c1,c2"}
}

func fullImageSpec() *runtimeapi.ImageSpec {
	return &runtimeapi.ImageSpec{
		Image: "nginx:1.25", Annotations: map[string]string{"a": "b"}, UserSpecifiedImage: "nginx",
		RuntimeHandler: "kata", ImageRef: imageID,
	}
}

func localhostProfile(ref string) *runtimeapi.SecurityProfile {
	return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: ref}
}

func fullPodConfig() *runtimeapi.PodSandboxConfig {
	return &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: "web", Uid: "uid-1", Namespace: "default", Attempt: 1},
		Hostname:     "web-0",
		LogDirectory: "/var/log/pods/default_web_uid-1",
		DnsConfig:    &runtimeapi.DNSConfig{Servers: []string{"10.0.0.10"}, Searches: []string{"svc.cluster.local"}, Options: []string{"ndots:5"}},
		PortMappings: []*runtimeapi.PortMapping{{Protocol: runtimeapi.Protocol_SCTP, ContainerPort: 80, HostPort: 8080, HostIp: "127.0.0.1"}},
		Labels:       map[string]string{"app": "web"},
		Annotations:  map[string]string{"note": "n"},
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent: "/kubepods/pod1",
			Sysctls:      map[string]string{"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"},
			Overhead:     fullResources(),
			Resources:    fullResources(),
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
				NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER, UsernsOptions: fullUserNamespace()},
				SelinuxOptions:   fullSELinux(),
				RunAsUser:        &runtimeapi.Int64Value{Value: 1000}, RunAsGroup: &runtimeapi.Int64Value{Value: 1001},
				ReadonlyRootfs: true, SupplementalGroups: []int64{5}, Privileged: true,
				SupplementalGroupsPolicy: runtimeapi.SupplementalGroupsPolicy_Strict,
				Seccomp:                  localhostProfile("/profiles/pod.json"),
				Apparmor:                 localhostProfile("k8s-pod"),
			},
		},
	}
}

// hostPodConfig is for what excludes fields of fullPodConfig.
func hostPodConfig() *runtimeapi.PodSandboxConfig {
	p := fullPodConfig()
	p.Linux.Sysctls = nil
	s := p.Linux.SecurityContext
	s.NamespaceOptions = &runtimeapi.NamespaceOption{
		Network: runtimeapi.NamespaceMode_NODE, Ipc: runtimeapi.NamespaceMode_NODE, Pid: runtimeapi.NamespaceMode_NODE,
	}
	s.Seccomp, s.SeccompProfilePath = nil, "localhost//profiles/old.json"
	return p
}

func fullContainerConfig() *runtimeapi.ContainerConfig {
	return &runtimeapi.ContainerConfig{
		Metadata:   &runtimeapi.ContainerMetadata{Name: "nginx", Attempt: 1},
		Image:      fullImageSpec(),
		Command:    []string{"nginx"},
		Args:       []string{"-g", "daemon off;"},
		WorkingDir: "/srv",
		Envs:       []*runtimeapi.KeyValue{{Key: "PATH", Value: []byte("/bin")}},
		Mounts: []*runtimeapi.Mount{
			{
				ContainerPath: "/data", HostPath: "/mnt/data", Readonly: true, SelinuxRelabel: true, RecursiveReadOnly: true,
				UidMappings: fullUserNamespace().Uids, GidMappings: fullUserNamespace().Gids, MountOptions: []string{"noexec", "nodev"},
			},
			{ContainerPath: "/shared", HostPath: "/mnt/shared", Propagation: runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL},
			{ContainerPath: "/model", Image: fullImageSpec(), ImageSubPath: "weights/v1", Readonly: true},
		},
		Devices:     []*runtimeapi.Device{{ContainerPath: "/dev/fuse", HostPath: "/dev/fuse", Permissions: "rw"}},
		Labels:      map[string]string{"tier": "front"},
		Annotations: map[string]string{"hash": "1"},
		LogPath:     "nginx/0.log",
		Stdin:       true, StdinOnce: true, Tty: true,
		CDIDevices: []*runtimeapi.CDIDevice{{Name: "vendor.com/gpu=0"}},
		StopSignal: runtimeapi.Signal_SIGNAL_SIGRTMINPLUS3,
		Linux: &runtimeapi.LinuxContainerConfig{
			Resources: fullResources(),
			SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
				Capabilities: &runtimeapi.Capability{
					AddCapabilities: []string{"NET_ADMIN"}, DropCapabilities: []string{"ALL"}, AddAmbientCapabilities: []string{"CAP_CHOWN"},
				},
				Privileged: true,
				NamespaceOptions: &runtimeapi.NamespaceOption{
					Pid: runtimeapi.NamespaceMode_TARGET, TargetId: containerID, UsernsOptions: fullUserNamespace(),
				},
				SelinuxOptions: fullSELinux(),
				RunAsUser:      &runtimeapi.Int64Value{Value: 1000}, RunAsGroup: &runtimeapi.Int64Value{Value: 1001},
				ReadonlyRootfs: true, SupplementalGroups: []int64{5, 6}, NoNewPrivs: true,
				SupplementalGroupsPolicy: runtimeapi.SupplementalGroupsPolicy_Strict,
				MaskedPaths:              []string{"/proc/kcore"}, ReadonlyPaths: []string{"/proc/sys"},
				Seccomp:  localhostProfile("/profiles/ctr.json"),
				Apparmor: localhostProfile("localhost/k8s-ctr"),
			},
		},
	}
}

// otherContainerConfig is for what excludes fields of fullContainerConfig.
func otherContainerConfig() *runtimeapi.ContainerConfig {
	c := fullContainerConfig()
	s := c.Linux.SecurityContext
	s.RunAsUser, s.RunAsUsername = nil, "www-data"
	s.Seccomp, s.SeccompProfilePath = nil, "localhost//profiles/old.json"
	s.Apparmor, s.ApparmorProfile = nil, "localhost/old"
	s.NamespaceOptions = &runtimeapi.NamespaceOption{Network: runtimeapi.NamespaceMode_NODE, Ipc: runtimeapi.NamespaceMode_NODE}
	return c
}

// fullRequests are by method name, without those that are not served.
func fullRequests() map[string][]proto.Message {
	labels := map[string]string{"app": "web"}
	podFilter := &runtimeapi.PodSandboxFilter{
		Id: podID, State: &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_NOTREADY}, LabelSelector: labels,
	}
	containerFilter := &runtimeapi.ContainerFilter{
		Id: containerID, PodSandboxId: podID, LabelSelector: labels,
		State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_EXITED},
	}
	podStats := &runtimeapi.PodSandboxStatsFilter{Id: podID, LabelSelector: labels}
	containerStats := &runtimeapi.ContainerStatsFilter{Id: containerID, PodSandboxId: podID, LabelSelector: labels}
	imageFilter := &runtimeapi.ImageFilter{Image: fullImageSpec()}
	one := func(m proto.Message) []proto.Message { return []proto.Message{m} }
	return map[string][]proto.Message{
		"Version":       one(&runtimeapi.VersionRequest{Version: "0.1.0"}),
		"Status":        one(&runtimeapi.StatusRequest{Verbose: true}),
		"RuntimeConfig": one(&runtimeapi.RuntimeConfigRequest{}),
		"UpdateRuntimeConfig": one(&runtimeapi.UpdateRuntimeConfigRequest{RuntimeConfig: &runtimeapi.RuntimeConfig{
			NetworkConfig: &runtimeapi.NetworkConfig{PodCidr: "10.2.0.0/24,fd00::/64"},
		}}),
		"RunPodSandbox": {
			&runtimeapi.RunPodSandboxRequest{Config: fullPodConfig(), RuntimeHandler: "kata"},
			&runtimeapi.RunPodSandboxRequest{Config: hostPodConfig()},
		},
		"StopPodSandbox":     one(&runtimeapi.StopPodSandboxRequest{PodSandboxId: podID}),
		"RemovePodSandbox":   one(&runtimeapi.RemovePodSandboxRequest{PodSandboxId: podID}),
		"PodSandboxStatus":   one(&runtimeapi.PodSandboxStatusRequest{PodSandboxId: podID, Verbose: true}),
		"ListPodSandbox":     one(&runtimeapi.ListPodSandboxRequest{Filter: podFilter}),
		"StreamPodSandboxes": one(&runtimeapi.StreamPodSandboxesRequest{Filter: podFilter}),
		"CreateContainer": {
			&runtimeapi.CreateContainerRequest{PodSandboxId: podID, Config: fullContainerConfig(), SandboxConfig: fullPodConfig()},
			&runtimeapi.CreateContainerRequest{PodSandboxId: podID, Config: otherContainerConfig()},
		},
		"StartContainer":          one(&runtimeapi.StartContainerRequest{ContainerId: containerID}),
		"StopContainer":           one(&runtimeapi.StopContainerRequest{ContainerId: containerID, Timeout: 30}),
		"RemoveContainer":         one(&runtimeapi.RemoveContainerRequest{ContainerId: containerID}),
		"ListContainers":          one(&runtimeapi.ListContainersRequest{Filter: containerFilter}),
		"StreamContainers":        one(&runtimeapi.StreamContainersRequest{Filter: containerFilter}),
		"ContainerStatus":         one(&runtimeapi.ContainerStatusRequest{ContainerId: containerID, Verbose: true}),
		"ListMetricDescriptors":   one(&runtimeapi.ListMetricDescriptorsRequest{}),
		"ListPodSandboxMetrics":   one(&runtimeapi.ListPodSandboxMetricsRequest{}),
		"StreamPodSandboxMetrics": one(&runtimeapi.StreamPodSandboxMetricsRequest{}),
		"UpdatePodSandboxResources": one(&runtimeapi.UpdatePodSandboxResourcesRequest{
			PodSandboxId: podID, Overhead: fullResources(), Resources: fullResources(),
		}),
		"UpdateContainerResources": one(&runtimeapi.UpdateContainerResourcesRequest{
			ContainerId: containerID, Linux: fullResources(), Annotations: labels,
		}),
		"ReopenContainerLog":   one(&runtimeapi.ReopenContainerLogRequest{ContainerId: containerID}),
		"CheckpointContainer":  one(&runtimeapi.CheckpointContainerRequest{ContainerId: containerID, Location: "/checkpoints/c.tar", Timeout: 9}),
		"ExecSync":             one(&runtimeapi.ExecSyncRequest{ContainerId: containerID, Cmd: []string{"ls", "-l"}, Timeout: 5}),
		"Exec":                 one(&runtimeapi.ExecRequest{ContainerId: containerID, Cmd: []string{"sh"}, Tty: true, Stdin: true, Stdout: true}),
		"Attach":               one(&runtimeapi.AttachRequest{ContainerId: containerID, Stdin: true, Stdout: true, Stderr: true}),
		"PortForward":          one(&runtimeapi.PortForwardRequest{PodSandboxId: podID, Port: []int32{80}}),
		"ContainerStats":       one(&runtimeapi.ContainerStatsRequest{ContainerId: containerID}),
		"ListContainerStats":   one(&runtimeapi.ListContainerStatsRequest{Filter: containerStats}),
		"StreamContainerStats": one(&runtimeapi.StreamContainerStatsRequest{Filter: containerStats}),
		"PodSandboxStats":      one(&runtimeapi.PodSandboxStatsRequest{PodSandboxId: podID}),
		"ListPodSandboxStats":  one(&runtimeapi.ListPodSandboxStatsRequest{Filter: podStats}),
		"StreamPodSandboxStats": one(&runtimeapi.StreamPodSandboxStatsRequest{
			Filter: podStats,
		}),
		"GetContainerEvents": one(&runtimeapi.GetEventsRequest{}),
		"ListImages":         one(&runtimeapi.ListImagesRequest{Filter: imageFilter}),
		"StreamImages":       one(&runtimeapi.StreamImagesRequest{Filter: imageFilter}),
		"ImageStatus":        one(&runtimeapi.ImageStatusRequest{Image: fullImageSpec(), Verbose: true}),
		"PullImage": {
			&runtimeapi.PullImageRequest{
				Image: fullImageSpec(), SandboxConfig: fullPodConfig(),
				Auth: &runtimeapi.AuthConfig{
					Username: "u", Password: "p", ServerAddress: "registry.example", IdentityToken: "i", RegistryToken: "r",
				},
			},
			&runtimeapi.PullImageRequest{Image: fullImageSpec(), Auth: &runtimeapi.AuthConfig{Auth: "dTpw"}},
		},
		"RemoveImage": one(&runtimeapi.RemoveImageRequest{Image: fullImageSpec()}),
		"ImageFsInfo": one(&runtimeapi.ImageFsInfoRequest{}),
	}
}
