package cri

import (
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/image"
	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox"
)

// ContainerItem is a container in a list. The image is named as the client
// named it, so that no image need be looked up.
func ContainerItem(s *sandbox.ContainerStatus) *runtimeapi.Container {
	return &runtimeapi.Container{
		Id:           s.ID,
		PodSandboxId: s.PodID,
		Metadata:     containerMetadata(s.Config),
		Image:        containerImage(s.Config),
		ImageRef:     s.ImageID,
		State:        containerState(s.State),
		CreatedAt:    nanos(s.CreatedAt),
		Labels:       s.Config.Labels,
		Annotations:  s.Config.Annotations,
		ImageId:      s.ImageID,
	}
}

// ContainerStatus is a container in full. The image may be nil, when it has
// been removed under the container. image.image becomes the name in a pod's
// status and image_ref the digest there; image_id is the id that every other
// answer uses for the same image.
func ContainerStatus(s *sandbox.ContainerStatus, img *image.Image) *runtimeapi.ContainerStatus {
	out := &runtimeapi.ContainerStatus{
		Id:          s.ID,
		Metadata:    containerMetadata(s.Config),
		State:       containerState(s.State),
		CreatedAt:   nanos(s.CreatedAt),
		StartedAt:   nanos(s.StartedAt),
		FinishedAt:  nanos(s.FinishedAt),
		ExitCode:    s.ExitCode,
		Image:       containerImage(s.Config),
		ImageRef:    s.ImageID,
		Reason:      s.Reason,
		Message:     s.Message,
		Labels:      s.Config.Labels,
		Annotations: s.Config.Annotations,
		LogPath:     s.LogPath,
		Resources:   resourcesMessage(s.Resources),
		ImageId:     s.ImageID,
		User: &runtimeapi.ContainerUser{Linux: &runtimeapi.LinuxContainerUser{
			Uid: s.User.UID, Gid: s.User.GID, SupplementalGroups: s.User.Groups,
		}},
		StopSignal: signalMessage(s.StopSignal),
	}
	for i := range s.Mounts {
		out.Mounts = append(out.Mounts, mountMessage(&s.Mounts[i]))
	}
	if img != nil {
		name := imageName(img, s.Config.UserImage)
		out.Image.Image = name
		out.ImageRef = imageDigest(img, name)
	}
	return out
}

func containerMetadata(c *spec.Container) *runtimeapi.ContainerMetadata {
	return &runtimeapi.ContainerMetadata{Name: c.Name, Attempt: c.Attempt}
}

func containerImage(c *spec.Container) *runtimeapi.ImageSpec {
	return &runtimeapi.ImageSpec{Image: c.Image, UserSpecifiedImage: c.UserImage, Annotations: c.ImageAnnotations}
}

func containerState(s sandbox.ContainerState) runtimeapi.ContainerState {
	switch s {
	case sandbox.ContainerCreated:
		return runtimeapi.ContainerState_CONTAINER_CREATED
	case sandbox.ContainerRunning:
		return runtimeapi.ContainerState_CONTAINER_RUNNING
	case sandbox.ContainerExited:
		return runtimeapi.ContainerState_CONTAINER_EXITED
	}
	return runtimeapi.ContainerState_CONTAINER_UNKNOWN
}

// nanos is 0 for a moment that has not come.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// EventMessage is one item of the stream of GetContainerEvents; statuses are
// the event's containers, translated.
func EventMessage(e sandbox.Event, statuses []*runtimeapi.ContainerStatus) *runtimeapi.ContainerEventResponse {
	out := &runtimeapi.ContainerEventResponse{
		ContainerId:        e.ContainerID,
		ContainerEventType: eventType(e.Kind),
		CreatedAt:          nanos(e.At),
		ContainersStatuses: statuses,
	}
	if e.Pod != nil {
		out.PodSandboxStatus = PodSandboxStatus(e.Pod)
	}
	return out
}

func eventType(k sandbox.EventKind) runtimeapi.ContainerEventType {
	switch k {
	case sandbox.EventStarted:
		return runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT
	case sandbox.EventStopped:
		return runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT
	case sandbox.EventDeleted:
		return runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT
	}
	return runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT
}
