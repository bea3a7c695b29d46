package cri

import (
	"slices"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/oci/spec"
)

// mountOptions are those of KEP-5855.
var mountOptions = []string{"noexec", "nodev", "nosuid"}

func (c *checker) mounts(field string, mounts []*runtimeapi.Mount) []spec.Mount {
	var out []spec.Mount
	for i, m := range mounts {
		out = append(out, c.mount(at(field, i), m))
	}
	return out
}

func (c *checker) mount(field string, m *runtimeapi.Mount) spec.Mount {
	c.mountSource(field, m)
	if m.GetContainerPath() == "" {
		c.bad(join(field, "container_path"), "must be set")
	}
	c.absolute(join(field, "container_path"), m.GetContainerPath())
	if (len(m.GetUidMappings()) == 0) != (len(m.GetGidMappings()) == 0) {
		c.bad(join(field, "uidMappings"), "needs gidMappings, and these need uidMappings")
	}
	if m.GetRecursiveReadOnly() && (!m.GetReadonly() || m.GetPropagation() != runtimeapi.MountPropagation_PROPAGATION_PRIVATE) {
		c.bad(join(field, "recursive_read_only"), "needs readonly and the propagation PROPAGATION_PRIVATE")
	}
	for i, o := range m.GetMountOptions() {
		if !slices.Contains(mountOptions, o) {
			c.bad(at(join(field, "mount_options"), i), "%q is not one of %q", o, mountOptions)
		}
	}
	return spec.Mount{
		ContainerPath:     m.GetContainerPath(),
		HostPath:          m.GetHostPath(),
		Image:             m.GetImage().GetImage(),
		ImageUserRef:      m.GetImage().GetUserSpecifiedImage(),
		ImageSubPath:      m.GetImageSubPath(),
		ReadOnly:          m.GetReadonly(),
		RecursiveReadOnly: m.GetRecursiveReadOnly(),
		SELinuxRelabel:    m.GetSelinuxRelabel(),
		Propagation:       c.propagation(join(field, "propagation"), m.GetPropagation()),
		UIDs:              c.idMappings(join(field, "uidMappings"), m.GetUidMappings()),
		GIDs:              c.idMappings(join(field, "gidMappings"), m.GetGidMappings()),
		Options:           m.GetMountOptions(),
	}
}

// mountSource sees to it that a mount has one source. An image is always
// mounted read-only, and a client that asks for more is told so.
func (c *checker) mountSource(field string, m *runtimeapi.Mount) {
	c.absolute(join(field, "host_path"), m.GetHostPath())
	c.inside(join(field, "image_sub_path"), m.GetImageSubPath())
	switch {
	case m.GetImage() == nil && m.GetHostPath() == "":
		c.bad(join(field, "host_path"), "must be set, or image")
	case m.GetImage() == nil && m.GetImageSubPath() != "":
		c.bad(join(field, "image_sub_path"), "needs image")
	case m.GetImage() == nil:
	case m.GetHostPath() != "":
		c.bad(join(field, "host_path"), "excludes image")
	case m.GetImage().GetImage() == "":
		c.bad(join(field, "image.image"), "must be set")
	case !m.GetReadonly():
		c.bad(join(field, "readonly"), "must be true for an image")
	}
}

func (c *checker) propagation(field string, p runtimeapi.MountPropagation) spec.Propagation {
	switch p {
	case runtimeapi.MountPropagation_PROPAGATION_PRIVATE:
		return spec.PropagationPrivate
	case runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER:
		return spec.PropagationHostToContainer
	case runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL:
		return spec.PropagationBidirectional
	}
	c.bad(field, "%d is not a propagation", p)
	return ""
}

// mountMessage is the way back, for a container's status. Image must have been
// resolved to an id, which is what clients compare image_ref with.
func mountMessage(m *spec.Mount) *runtimeapi.Mount {
	out := &runtimeapi.Mount{
		ContainerPath:     m.ContainerPath,
		HostPath:          m.HostPath,
		ImageSubPath:      m.ImageSubPath,
		Readonly:          m.ReadOnly,
		RecursiveReadOnly: m.RecursiveReadOnly,
		SelinuxRelabel:    m.SELinuxRelabel,
		Propagation:       propagationMessage(m.Propagation),
		UidMappings:       idMappingMessages(m.UIDs),
		GidMappings:       idMappingMessages(m.GIDs),
		MountOptions:      m.Options,
	}
	if m.Image != "" {
		out.Image = &runtimeapi.ImageSpec{Image: m.Image, UserSpecifiedImage: m.ImageUserRef, ImageRef: m.Image}
	}
	return out
}

func propagationMessage(p spec.Propagation) runtimeapi.MountPropagation {
	switch p {
	case spec.PropagationHostToContainer:
		return runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER
	case spec.PropagationBidirectional:
		return runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL
	}
	return runtimeapi.MountPropagation_PROPAGATION_PRIVATE
}
