package criu

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/thread"
)

// shared are the namespaces of the pod that CRIU takes for the container's own: a
// checkpoint holds their settings, and a restore, which joins those of another pod,
// writes them there.
var shared = []struct {
	kind     configs.NamespaceType
	flag     int
	settings []string
}{
	{configs.NEWUTS, unix.CLONE_NEWUTS, []string{"kernel/hostname", "kernel/domainname"}},
	{configs.NEWIPC, unix.CLONE_NEWIPC, []string{
		"kernel/auto_msgmni", "kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem",
		"kernel/shmall", "kernel/shmmax", "kernel/shmmni", "kernel/shm_rmid_forced",
		"fs/mqueue/msg_default", "fs/mqueue/msg_max", "fs/mqueue/msgsize_default", "fs/mqueue/msgsize_max", "fs/mqueue/queues_max",
	}},
}

// keepSettings notes the settings of the pod's namespaces, which its other containers
// see, and returns what puts back those that have changed.
func keepSettings(all configs.Namespaces) (putBack func() error, err error) {
	kept := map[string][]byte{}
	err = inShared(all, func(path string) error {
		value, err := os.ReadFile(path)
		if err == nil {
			kept[path] = value
		}
		return err
	})
	return func() error {
		return inShared(all, func(path string) error {
			value, err := os.ReadFile(path)
			if err != nil || bytes.Equal(value, kept[path]) {
				return err
			}
			return os.WriteFile(path, kept[path], 0)
		})
	}, err
}

// inShared calls fn for every setting that this kernel has, in the pod's namespaces.
func inShared(all configs.Namespaces, fn func(path string) error) error {
	for _, ns := range shared {
		pinned := all.PathOf(ns.kind)
		if pinned == "" {
			continue
		}
		err := within(pinned, ns.flag, func() error {
			for _, name := range ns.settings {
				if err := fn("/proc/sys/" + name); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("cannot keep the settings of the pod: %w", err)
		}
	}
	return nil
}

func within(pinned string, flag int, fn func() error) error {
	f, err := os.Open(pinned)
	if err != nil {
		return err
	}
	defer f.Close()
	return thread.Run(func() error {
		if err := unix.Setns(int(f.Fd()), flag); err != nil {
			return fmt.Errorf("cannot enter the namespace %s: %v", pinned, err)
		}
		return fn()
	})
}
