package sandbox

import (
	"errors"

	"github.com/criruntime/criruntime/oci/host"
	"github.com/criruntime/criruntime/oci/spec"
)

// podLabels are a new pod's SELinux labels, empty where they are not in use.
func (m *Manager) podLabels(config *spec.Pod) (spec.Labels, error) {
	if !m.o.Host.SELinux {
		return spec.Labels{}, nil
	}
	return m.kernel.labels(config.Security.SELinux)
}

// checkLabels refuses labels of the container's own that the policy does not know.
func (b *building) checkLabels() error {
	if b.config.Security.SELinux == nil {
		return nil
	}
	return b.p.m.kernel.checkLabels(b.input.Labels)
}

// dropPod forgets a pod whose record is gone, and gives its level back.
func (m *Manager) dropPod(p *pod) {
	m.index.removePod(p)
	host.ReleaseLabels(p.Load().Labels)
}

// relabel gives the volumes that the client says so of to the container, and
// those that the image declares, which have their files copied.
func (b *building) relabel() error {
	label := b.input.Labels.Mount
	if label == "" {
		return nil
	}
	var errs []error
	for i, m := range b.made.Mounts {
		if m.Image == "" && b.config.Mounts[i].SELinuxRelabel {
			errs = append(errs, b.p.m.kernel.relabel(m.HostPath, label))
		}
	}
	for i := range b.declared {
		errs = append(errs, b.p.m.kernel.relabel(b.c.declaredDir(i), label))
	}
	return errors.Join(errs...)
}
