package cri

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func long(n int) string { return strings.Repeat("x", n) }

func TestCheck(t *testing.T) {
	for _, row := range []struct {
		request proto.Message
		want    string
	}{
		{&runtimeapi.ListContainersRequest{}, ""},
		{(*runtimeapi.ListContainersRequest)(nil), ""},
		{&runtimeapi.RunPodSandboxRequest{Config: &podConfig{Annotations: map[string]string{"a": "\x00"}}}, ""},
		{&runtimeapi.RunPodSandboxRequest{Config: &podConfig{Labels: map[string]string{"\x00": "a"}}}, ""},
		{&runtimeapi.CreateContainerRequest{Config: &containerConfig{Args: []string{"a", "b\x00c"}}}, "config.args[1]: must not contain a NUL byte"},
		{&runtimeapi.UpdateContainerResourcesRequest{Linux: &resources{Unified: map[string]string{"memory.high": "1\x00"}}}, "linux.unified"},
		{&runtimeapi.UpdateContainerResourcesRequest{Linux: &resources{Unified: map[string]string{"memory.\x00": "1"}}}, "linux.unified"},
		{&runtimeapi.ExecSyncRequest{Cmd: []string{"ls", "\x00"}}, "cmd[1]"},
		{&runtimeapi.StopPodSandboxRequest{PodSandboxId: "a\x00"}, "pod_sandbox_id"},
		{&runtimeapi.RunPodSandboxRequest{Config: &podConfig{Hostname: long(64)}}, ""},
		{&runtimeapi.RunPodSandboxRequest{Config: &podConfig{Hostname: long(65)}}, "config.hostname: is longer than 64 bytes"},
		{&runtimeapi.RunPodSandboxRequest{Config: &podConfig{Metadata: &runtimeapi.PodSandboxMetadata{Uid: long(254)}}}, "config.metadata.uid: is longer than 253 bytes"},
		{&runtimeapi.RunPodSandboxRequest{Config: &podConfig{LogDirectory: long(4095)}}, ""},
		{&runtimeapi.RunPodSandboxRequest{Config: &podConfig{LogDirectory: long(4096)}}, "config.log_directory: is longer than 4095 bytes"},
		{&runtimeapi.RunPodSandboxRequest{Config: &podConfig{Annotations: map[string]string{long(1 << 20): long(1 << 20)}}}, ""},
		{&runtimeapi.CreateContainerRequest{Config: &containerConfig{Args: []string{long(1 << 20)}}}, ""},
		{&runtimeapi.CreateContainerRequest{Config: &containerConfig{Devices: []*runtimeapi.Device{{}, {HostPath: long(4096)}}}}, "config.devices[1].host_path: is longer"},
		{&runtimeapi.UpdateContainerResourcesRequest{Linux: &resources{Unified: map[string]string{long(4096): "1"}}}, "linux.unified: is longer"},
		{&runtimeapi.UpdateContainerResourcesRequest{Linux: &resources{CpusetCpus: long(40_000)}}, ""},
		{&runtimeapi.StopPodSandboxRequest{PodSandboxId: long(256)}, "pod_sandbox_id: is longer than 255 bytes"},
	} {
		check(t, Check(row.request), row.want)
	}
}
