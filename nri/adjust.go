package nri

import (
	"fmt"

	"github.com/containerd/nri/pkg/api"
	nrigen "github.com/containerd/nri/pkg/runtime-tools/generate"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-tools/generate"
)

// adjust changes the spec as the plugins ask. On an error the spec is not to be
// used.
func (o *Options) adjust(s *specs.Spec, a *api.ContainerAdjustment) error {
	if a == nil {
		return nil
	}
	generator := generate.NewFromSpec(s)
	err := nrigen.SpecGenerator(&generator, nrigen.WithCDIDeviceInjector(o.InjectCDI),
		nrigen.WithBlockIOResolver(o.BlockIO), nrigen.WithRdtResolver(o.RDT)).Adjust(a)
	if err != nil {
		return fmt.Errorf("cannot adjust the container as plugins ask: %w", err)
	}
	adjustRest(s, a.GetLinux())
	return nil
}

// adjustRest applies what the library leaves out: of memory it takes the limit
// alone, for memory and swap, and of a seccomp profile not the error number.
func adjustRest(s *specs.Spec, a *api.LinuxContainerAdjustment) {
	if n := a.GetSeccompPolicy().GetDefaultErrno(); n != nil && s.Linux.Seccomp != nil {
		number := uint(n.GetValue())
		s.Linux.Seccomp.DefaultErrnoRet = &number
	}
	if a.GetResources().GetMemory() == nil {
		return
	}
	if s.Linux.Resources == nil {
		s.Linux.Resources = &specs.LinuxResources{}
	}
	if s.Linux.Resources.Memory == nil {
		s.Linux.Resources.Memory = &specs.LinuxMemory{}
	}
	to, from := s.Linux.Resources.Memory, a.GetResources().ToOCI().Memory
	take(&to.Reservation, from.Reservation)
	take(&to.Swap, from.Swap)
	take(&to.Kernel, from.Kernel) //lint:ignore SA1019 plugins may ask for it where cgroups are of version 1
	take(&to.KernelTCP, from.KernelTCP)
	take(&to.Swappiness, from.Swappiness)
	take(&to.DisableOOMKiller, from.DisableOOMKiller)
	take(&to.UseHierarchy, from.UseHierarchy)
}

// take takes over what is given.
func take[T any](to **T, from *T) {
	if from != nil {
		*to = from
	}
}
