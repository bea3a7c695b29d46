package adapter

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
)

// Clear ends and removes what a pod has of shims whose adapter is dead: their
// processes, and by the hand of their program the containers, the sandbox
// container last. It works in the pod's directory and is idempotent.
func Clear(ctx context.Context, o Options) error {
	bundles, err := filepath.Glob("containers/*/" + endpointFile)
	if err != nil {
		return err
	}
	for i := range bundles {
		if bundles[i], err = filepath.Abs(filepath.Dir(bundles[i])); err != nil {
			return err
		}
	}
	slices.SortFunc(bundles, func(a, b string) int {
		return rank(a, o.PodID) - rank(b, o.PodID)
	})
	var errs []error
	endpoints := map[string]*endpoint{}
	for _, bundle := range bundles {
		e, err := loadEndpoint(bundle)
		if err == nil {
			err = killProcess(e.Pid, bundles)
		}
		errs = append(errs, err)
		endpoints[bundle] = e
	}
	for _, bundle := range bundles {
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

// rank puts the sandbox container after all others.
func rank(bundle, pod string) int {
	if filepath.Base(bundle) == pod {
		return 1
	}
	return 0
}
