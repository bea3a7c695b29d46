package host

import (
	"errors"
	"fmt"

	"github.com/opencontainers/selinux/go-selinux"
	"github.com/opencontainers/selinux/go-selinux/label"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/spec"
)

// AllocateLabels returns the labels of a new pod: those of the machine's policy
// for containers, with what the pod asks for, and unless that is a level, with
// one that no other pod has. ReleaseLabels lets go of the level. Without SELinux
// they are empty. An error that is the pod's fault wraps spec.ErrInvalid.
func AllocateLabels(o *spec.SELinux) (spec.Labels, error) {
	process, mount, err := label.InitLabels(o.Options())
	if err != nil {
		return spec.Labels{}, fmt.Errorf("%w selinux_options: %v", spec.ErrInvalid, err)
	}
	l := spec.Labels{Process: process, Mount: mount}
	if err := CheckLabels(l); err != nil {
		ReleaseLabels(l)
		return spec.Labels{}, err
	}
	return l, nil
}

// CheckLabels asks the kernel whether its policy knows the labels. An error wraps
// spec.ErrInvalid if it does not. Without SELinux nobody knows, and all are right.
func CheckLabels(l spec.Labels) error {
	if !selinux.GetEnabled() {
		return nil
	}
	for _, label := range []string{l.Process, l.Mount} {
		if label == "" {
			continue
		}
		err := selinux.SecurityCheckContext(label)
		if errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("%w selinux_options: this machine's policy does not know the label %s", spec.ErrInvalid, label)
		}
		if err != nil {
			return fmt.Errorf("cannot check the label %s: %w", label, err)
		}
	}
	return nil
}

// ReserveLabels keeps the level of a pod of an earlier daemon from others. That
// pods may share one by their own choice is no error.
func ReserveLabels(l spec.Labels) { _ = selinux.ReserveLabelV2(l.Process) }

// ReleaseLabels gives back a pod's level.
func ReleaseLabels(l spec.Labels) { selinux.ReleaseLabel(l.Process) }

// Relabel labels a volume with all that is in it. Directories of the system's
// own, such as /etc, are refused with an error that wraps spec.ErrInvalid.
func Relabel(path, to string) error {
	if err := selinux.Chcon(path, to, true); err != nil {
		return fmt.Errorf("%w mounts: cannot label %s: %v", spec.ErrInvalid, path, err)
	}
	return nil
}

// LabelFile labels one file.
func LabelFile(path, to string) error {
	if to == "" {
		return nil
	}
	return selinux.SetFileLabel(path, to)
}
