package server

import (
	"runtime"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox"
)

// What changes of a container is in the next list, and what is the same is not made
// again.
func TestListsFollowChanges(t *testing.T) {
	c := newCrowd(2)
	c.settled = false
	s := &runtimeService{Options: Options{Pods: c}}
	list := func() []*runtimeapi.Container {
		t.Helper()
		r, err := s.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Containers
	}
	first := list()
	if again := list(); again[0] != first[0] || again[1] != first[1] {
		t.Error("containers that are the same were made again")
	}
	was := received(first[0]).(*runtimeapi.Container)
	c.containers[0].State = sandbox.ContainerRunning
	second := list()
	if got := received(second[0]).(*runtimeapi.Container); got.State != runtimeapi.ContainerState_CONTAINER_RUNNING || got.Id != was.Id || was.State == got.State {
		t.Errorf("%v became %v", was, got)
	}
	if second[1] != first[1] {
		t.Error("the other container was made again")
	}
	if got, other := received(second[0]).(*runtimeapi.Container), received(second[1]).(*runtimeapi.Container); got.Id == other.Id {
		t.Errorf("both are %s", got.Id)
	}
}

// An item is gone when its Config is.
func TestItemsAreForgotten(t *testing.T) {
	var e encoded[spec.Container, *runtimeapi.Container]
	build := func() *runtimeapi.Container {
		return &runtimeapi.Container{Id: "a", Labels: map[string]string{"a": "b"}}
	}
	config := &spec.Container{Name: "a"}
	if got := received(e.item(config, 1, build)); !proto.Equal(got, build()) {
		t.Errorf("%v", got)
	}
	kept := func() (n int) {
		e.forms.Range(func(any, any) bool { n++; return true })
		return n
	}
	if kept() != 1 {
		t.Fatalf("%d items", kept())
	}
	runtime.KeepAlive(config)
	for end := time.Now().Add(10 * time.Second); kept() > 0; time.Sleep(time.Millisecond) {
		if runtime.GC(); time.Now().After(end) {
			t.Fatal("it is kept without its Config")
		}
	}
}
