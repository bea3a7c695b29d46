package sandbox

import (
	"encoding/json"
	"sync"
	"testing"

	"github.com/criruntime/criruntime/oci/spec"
)

// Who keeps the lists for as long as the revision is the same, and asks at every step
// of what changes them, is never left with an old one.
func TestRevisionFollowsTheLists(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	lists := func() string {
		text, err := json.Marshal([]any{m.Pods(PodFilter{}), m.Containers(ContainerFilter{})})
		check(t, err)
		return string(text)
	}
	var mu sync.Mutex
	revision, kept := m.Revision(), lists()
	keep := func() string {
		mu.Lock()
		defer mu.Unlock()
		if now := m.Revision(); now != revision {
			revision, kept = now, lists()
		}
		return kept
	}
	w.mu.Lock()
	w.hook = func(string) { keep() }
	w.mu.Unlock()
	before := kept
	changed := func(what string) {
		t.Helper()
		if keep() != lists() {
			t.Errorf("%s: the lists that are kept are old", what)
		}
		if lists() == before {
			t.Errorf("%s: the lists are the same", what)
		}
		before = lists()
	}

	pod := must(m.RunPod(bg, podConfig("p"), ""))(t)
	changed("a pod")
	ctr := must(m.CreateContainer(bg, pod, containerConfig("c")))(t)
	changed("a container")
	check(t, m.StartContainer(bg, ctr))
	changed("its start")
	check(t, m.UpdateContainer(bg, ctr, spec.Resources{CPUShares: 100}))
	changed("its limits")
	w.end(ctr, 0)
	eventually(t, "the exit is recorded", func() bool { return must(m.Container(ctr))(t).State == ContainerExited })
	changed("its end")
	check(t, m.RemoveContainer(bg, ctr))
	changed("its removal")
	check(t, m.StopPod(bg, pod))
	changed("the pod's stop")
	check(t, m.RemovePod(bg, pod))
	changed("the pod's removal")
}
