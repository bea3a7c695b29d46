package sandbox

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/criruntime/criruntime/oci/spec"
)

// index finds pods and containers by id, id prefix and name. It is derived from
// the records and holds every pod that has one.
type index struct {
	mu         sync.RWMutex
	pods       map[string]*pod
	names      map[string]*pod
	containers map[string]*container

	revision atomic.Uint64
}

// changed says that a pod, or a record, is another now.
func (x *index) changed() { x.revision.Add(1) }

// podName is what makes a pod the same pod in a retry.
func podName(p *spec.Pod) string {
	return fmt.Sprintf("%s/%s/%s/%d", p.Namespace, p.Name, p.UID, p.Attempt)
}

func (x *index) addPod(p *pod) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.pods == nil {
		x.pods, x.names, x.containers = map[string]*pod{}, map[string]*pod{}, map[string]*container{}
	}
	x.pods[p.id] = p
	x.names[podName(p.Load().Config)] = p
	x.changed()
}

func (x *index) removePod(p *pod) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.pods, p.id)
	if name := podName(p.Load().Config); x.names[name] == p {
		delete(x.names, name)
	}
	x.changed()
}

func (x *index) addContainer(c *container) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.containers[c.id] = c
}

func (x *index) removeContainer(id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.containers, id)
}

// podNamed finds a pod by the name of podName, or returns nil.
func (x *index) podNamed(name string) *pod {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.names[name]
}

// pod finds by id or unique prefix.
func (x *index) pod(id string) (*pod, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return find(x.pods, "pod", id)
}

// container finds by id or unique prefix.
func (x *index) container(id string) (*container, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return find(x.containers, "container", id)
}

// all are the pods, newest first.
func (x *index) all() []*pod {
	x.mu.RLock()
	pods := make([]*pod, 0, len(x.pods))
	for _, p := range x.pods {
		pods = append(pods, p)
	}
	x.mu.RUnlock()
	slices.SortFunc(pods, func(a, b *pod) int {
		if d := b.Load().CreatedAt.Compare(a.Load().CreatedAt); d != 0 {
			return d
		}
		return strings.Compare(a.id, b.id)
	})
	return pods
}

// indexed is a pod or a container; hidden ones are those no client knows yet.
type indexed interface{ hidden() bool }

func find[T indexed](table map[string]T, what, id string) (T, error) {
	var none, found T
	if id == "" {
		return none, failure(ErrInvalid, "the %s id is empty", what)
	}
	if x, ok := table[id]; ok {
		if x.hidden() {
			return none, failure(ErrNotFound, "%s %s not found", what, id)
		}
		return x, nil
	}
	n := 0
	for full, x := range table {
		if strings.HasPrefix(full, id) && !x.hidden() {
			found = x
			n++
		}
	}
	switch n {
	case 0:
		return none, failure(ErrNotFound, "%s %s not found", what, id)
	case 1:
		return found, nil
	}
	return none, failure(ErrAmbiguous, "%s id %s fits %d of them", what, id, n)
}
