package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/oci/host"
	"github.com/criruntime/criruntime/oci/namespace"
	"github.com/criruntime/criruntime/oci/procfs"
	"github.com/criruntime/criruntime/oci/rootfs"
	"github.com/criruntime/criruntime/oci/spec"
)

// kernel is what the package asks of the kernel without a shim. Tests replace
// its functions, which have the contracts of those in hostKernel.
type kernel struct {
	makeNamespaces  func(namespace.Options) error
	removeNamespace func(path string) error
	inNetwork       func(path string, fn func() error) error

	mountShm func(target string, uid, gid uint32, label string) error
	unmount  func(target string) error

	cgroupExists func(path string) (bool, error)
	cgroupRead   func(path string) (*cgroup.Stats, error)
	cgroupUsage  func(path string) (*cgroup.Stats, error)
	cgroupTasks  func(path string) uint64
	cgroupPids   func(path string) ([]int, error)
	cgroupKill   func(ctx context.Context, path string) error
	cgroupRemove func(ctx context.Context, path string) error
	cgroupSet    func(path string, l cgroup.Limits) error

	// Of metrics alone.
	held         func(pids []int) procfs.Held
	maxOpenFiles func(pid int) (uint64, bool)
	blockDevice  func(major, minor uint64) string
	disk         func(path string) (host.Disk, error)
	interfaces   func(pid int, netns string) ([]procfs.Interface, error)

	killHung func(ctx context.Context, dir string) error
	// Of pods whose directories somebody has removed.
	runningPods func(podsDir string) ([]string, error)
	endStrays   func(ctx context.Context, dir string) (cgroups []string, err error)

	user    func(root string, s *spec.Security, imageUser string) (spec.User, error)
	devices func(c *spec.Container) ([]spec.ResolvedDevice, error)

	// Of SELinux alone.
	labels      func(o *spec.SELinux) (spec.Labels, error)
	checkLabels func(l spec.Labels) error
	relabel     func(path, label string) error
	labelFile   func(path, label string) error
}

func hostKernel() *kernel {
	return &kernel{
		makeNamespaces:  namespace.Create,
		removeNamespace: namespace.Remove,
		inNetwork:       namespace.Do,
		mountShm:        mountShm,
		unmount:         unmount,
		cgroupExists:    cgroup.Exists,
		cgroupRead:      cgroup.Read,
		cgroupUsage:     cgroup.ReadUsage,
		cgroupTasks:     cgroup.CountTasks,
		cgroupPids:      cgroup.Pids,
		cgroupKill:      cgroup.KillAll,
		cgroupRemove:    cgroup.Remove,
		cgroupSet:       cgroup.Set,
		held:            procfs.Count,
		maxOpenFiles:    procfs.MaxOpenFiles,
		blockDevice:     host.BlockDevice,
		disk:            host.ReadDisk,
		interfaces:      procfs.Interfaces,
		killHung:        killHung,
		runningPods:     oci.RunningPods,
		endStrays:       oci.EndStrays,
		user:            rootfs.ResolveUser,
		devices:         host.Devices,
		labels:          host.AllocateLabels,
		checkLabels:     host.CheckLabels,
		relabel:         host.Relabel,
		labelFile:       host.LabelFile,
	}
}

// mountShm mounts a pod's /dev/shm, of the size that container runtimes give it.
func mountShm(target string, uid, gid uint32, label string) error {
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	options := fmt.Sprintf("mode=1777,size=65536k,uid=%d,gid=%d", uid, gid)
	if label != "" {
		options += fmt.Sprintf(",context=%q", label)
	}
	if err := unix.Mount("shm", target, "tmpfs", flags, options); err != nil {
		return fmt.Errorf("cannot mount the pod's /dev/shm on %s: %w", target, err)
	}
	return nil
}

// unmount takes away whatever is mounted on target. It is idempotent.
func unmount(target string) error {
	for {
		err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		switch {
		case err == nil:
		case errors.Is(err, unix.EINVAL), errors.Is(err, fs.ErrNotExist):
			return nil
		default:
			return fmt.Errorf("cannot unmount %s: %w", target, err)
		}
	}
}
