package server

import (
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The list of everything is made once for each revision, and what is asked for with
// a filter each time.
func TestListIsMadeOnceForARevision(t *testing.T) {
	domain := &fakeDomain{settled: true}
	s := &runtimeService{Options: Options{Pods: domain}}
	ask := func(what string, pods *runtimeapi.PodSandboxFilter, containers *runtimeapi.ContainerFilter, want int) {
		t.Helper()
		domain.calls = nil
		p, err := s.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{Filter: pods})
		if err != nil || len(p.Items) != 1 {
			t.Errorf("%s: %v, err %v", what, p, err)
		}
		c, err := s.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{Filter: containers})
		if err != nil || len(c.Containers) != 1 {
			t.Errorf("%s: %v, err %v", what, c, err)
		}
		if len(domain.calls) != want {
			t.Errorf("%s: the domain was asked for %q", what, domain.calls)
		}
	}
	ask("the first time", nil, nil, 2)
	ask("again", nil, nil, 0)
	ask("with an empty filter", &runtimeapi.PodSandboxFilter{}, &runtimeapi.ContainerFilter{}, 0)
	ask("with a filter", &runtimeapi.PodSandboxFilter{Id: "a"}, &runtimeapi.ContainerFilter{PodSandboxId: "a"}, 2)
	ask("and without it", nil, nil, 0)
	domain.revision.Add(1)
	ask("after a change", nil, nil, 2)
}
