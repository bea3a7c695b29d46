//go:build kernel

package oci_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/criruntime/criruntime/oci"
)

// A shim whose directory is gone is found and ended with what its containers
// run, and no other is: neither its neighbours nor those of another directory.
func TestStrays(t *testing.T) {
	stray, neighbour := newPod(t), newPod(t)
	pods := filepath.Dir(stray.options.Dir)
	running := func(dir string) []string {
		t.Helper()
		ids, err := oci.RunningPods(dir)
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	id := stray.options.PodID
	k := stray.run(script("sleep 1000 & sleep 1000"))
	info, err := stray.Info(stray.context())
	if err != nil {
		t.Fatal(err)
	}
	if ids := running(pods); !slices.Equal(ids, []string{id}) {
		t.Errorf("%v run, not %s", ids, id)
	}
	if err := os.RemoveAll(stray.options.Dir); err != nil {
		t.Fatal(err)
	}
	if ids := running(pods); !slices.Equal(ids, []string{id}) {
		t.Errorf("without its directory %v run, not %s", ids, id)
	}
	if ids := running(pods + "x"); len(ids) > 0 {
		t.Errorf("%v run in a directory that is not there", ids)
	}
	if ids := running(filepath.Dir(neighbour.options.Dir)); !slices.Equal(ids, []string{neighbour.options.PodID}) {
		t.Errorf("%v run in the other directory", ids)
	}
	// The same pod's id in another runtime's state.
	if groups, err := oci.EndStrays(t.Context(), filepath.Join(filepath.Dir(neighbour.options.Dir), id)); len(groups) > 0 || err != nil {
		t.Errorf("cgroups %v, %v", groups, err)
	}
	groups, err := oci.EndStrays(stray.context(), stray.options.Dir)
	if err != nil || !slices.Equal(groups, []string{k.spec.Linux.CgroupsPath}) {
		t.Errorf("cgroups %v, %v", groups, err)
	}
	<-stray.Done()
	// The machine's init may take its time to reap it.
	if _, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", info.Containers[0].Pid)); err == nil {
		t.Error("the container runs")
	}
	for _, group := range groups {
		removeCgroups(group)
	}
	if _, err := neighbour.Info(neighbour.context()); err != nil {
		t.Errorf("the other shim: %v", err)
	}
	if groups, err := oci.EndStrays(t.Context(), stray.options.Dir); len(groups) > 0 || err != nil {
		t.Errorf("again: cgroups %v, %v", groups, err)
	}
}
