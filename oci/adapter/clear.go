package adapter

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Clear ends and removes what a pod has of shims whose adapter is dead: their
// processes, and by the hand of their program the containers, the sandbox
// container last. It works in the pod's directory and is idempotent.
func Clear(ctx context.Context, o Options) error {
	all, err := bundles()
	if err != nil {
		return err
	}
	errs := []error{o.Runtime.killUnnoted(all)}
	noted := slices.DeleteFunc(all, func(bundle string) bool {
		_, err := os.Lstat(filepath.Join(bundle, endpointFile))
		return errors.Is(err, os.ErrNotExist)
	})
	slices.SortFunc(noted, func(a, b string) int {
		return rank(a, o.PodID) - rank(b, o.PodID)
	})
	endpoints := map[string]*endpoint{}
	for _, bundle := range noted {
		e, err := loadEndpoint(bundle)
		if err == nil {
			err = killProcess(e.Pid, noted)
		}
		errs = append(errs, err)
		endpoints[bundle] = e
	}
	for _, bundle := range noted {
		_, _, err := o.Runtime.collect(ctx, filepath.Base(bundle), bundle)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		endpoints[bundle].drop(bundle)
	}
	_ = os.RemoveAll(socketDir)
	_ = os.Remove(eventsSocket)
	return errors.Join(append(errs, unpin())...)
}

// bundles are the absolute paths of the pod's bundles.
func bundles() ([]string, error) {
	found, err := filepath.Glob("containers/*")
	for i := range found {
		var e error
		found[i], e = filepath.Abs(found[i])
		err = errors.Join(err, e)
	}
	return found, err
}

// killUnnoted ends shims whose process id nobody noted, as of those that were just
// being started when the adapter died: processes of the shim's program that work
// in a bundle.
func (r *Runtime) killUnnoted(bundles []string) error {
	program, err := os.Stat(r.Shim)
	if len(bundles) == 0 || errors.Is(err, os.ErrNotExist) { // none, or none that can be told
		return nil
	}
	if err != nil {
		return err
	}
	processes, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return err
	}
	var errs []error
	for _, exe := range processes {
		running, err := os.Stat(exe)
		if err != nil || !os.SameFile(running, program) {
			continue // ended, or another's
		}
		pid, err := strconv.Atoi(strings.Split(exe, "/")[2])
		errs = append(errs, err, killProcess(pid, bundles))
	}
	return errors.Join(errs...)
}

// rank puts the sandbox container after all others.
func rank(bundle, pod string) int {
	if filepath.Base(bundle) == pod {
		return 1
	}
	return 0
}
