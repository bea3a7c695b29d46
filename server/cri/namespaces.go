package cri

import (
	"cmp"
	"math"
	"slices"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/oci/spec"
)

// podNamespaces translates the namespaces of a sandbox. The protobuf default,
// and so that of a message that is absent, is POD.
func (c *checker) podNamespaces(field string, o *runtimeapi.NamespaceOption) spec.Namespaces {
	if o.GetPid() == runtimeapi.NamespaceMode_TARGET {
		c.bad(join(field, "pid"), "TARGET is for containers only")
	}
	if o.GetTargetId() != "" {
		c.bad(join(field, "target_id"), "is for containers only")
	}
	return c.namespaces(field, o)
}

// containerNamespaces translates the namespaces of a container.
func (c *checker) containerNamespaces(field string, o *runtimeapi.NamespaceOption) spec.Namespaces {
	if (o.GetPid() == runtimeapi.NamespaceMode_TARGET) != (o.GetTargetId() != "") {
		c.bad(join(field, "target_id"), "must be set for the PID mode TARGET, and only then")
	}
	ns := c.namespaces(field, o)
	ns.TargetID = o.GetTargetId()
	return ns
}

func (c *checker) namespaces(field string, o *runtimeapi.NamespaceOption) spec.Namespaces {
	return spec.Namespaces{
		Network: c.sharedMode(join(field, "network"), o.GetNetwork()),
		PID:     c.mode(join(field, "pid"), o.GetPid()),
		IPC:     c.sharedMode(join(field, "ipc"), o.GetIpc()),
		User:    c.userNamespace(join(field, "userns_options"), o.GetUsernsOptions()),
	}
}

func (c *checker) mode(field string, m runtimeapi.NamespaceMode) spec.NamespaceMode {
	switch m {
	case runtimeapi.NamespaceMode_POD:
		return spec.NamespacePod
	case runtimeapi.NamespaceMode_CONTAINER:
		return spec.NamespaceContainer
	case runtimeapi.NamespaceMode_NODE:
		return spec.NamespaceNode
	case runtimeapi.NamespaceMode_TARGET:
		return spec.NamespaceTarget
	}
	c.bad(field, "%d is not a namespace mode", m)
	return ""
}

// sharedMode translates a mode that must be POD or NODE.
func (c *checker) sharedMode(field string, m runtimeapi.NamespaceMode) spec.NamespaceMode {
	mode := c.mode(field, m)
	if mode == spec.NamespaceContainer || mode == spec.NamespaceTarget {
		c.bad(field, "%s is not supported, only POD and NODE", m)
	}
	return mode
}

// userNamespace returns nil for the node's user namespace, which is also what
// the mode POD without mappings means: the kubelet picks the ids, not the
// runtime.
func (c *checker) userNamespace(field string, u *runtimeapi.UserNamespace) *spec.UserNamespace {
	uids := c.idMappings(join(field, "uids"), u.GetUids())
	gids := c.idMappings(join(field, "gids"), u.GetGids())
	switch mode := c.sharedMode(join(field, "mode"), u.GetMode()); {
	case mode == spec.NamespaceNode && len(uids)+len(gids) > 0:
		c.bad(join(field, "mode"), "NODE has no mappings")
	case len(uids) == 0 && len(gids) == 0:
	case !mapsRoot(uids) || !mapsRoot(gids):
		c.bad(field, "uids and gids must both map the container id 0")
	default:
		return &spec.UserNamespace{UIDs: uids, GIDs: gids}
	}
	return nil
}

func mapsRoot(mappings []spec.IDMapping) bool {
	return slices.ContainsFunc(mappings, func(m spec.IDMapping) bool { return m.Container == 0 })
}

// idMappings translates ranges, which must be non-empty, end at the largest id
// and not overlap on either side.
func (c *checker) idMappings(field string, mappings []*runtimeapi.IDMapping) []spec.IDMapping {
	var out []spec.IDMapping
	for i, m := range mappings {
		field := at(field, i)
		if m.GetLength() == 0 {
			c.bad(join(field, "length"), "must be set")
		}
		if m.GetLength() > math.MaxUint32-max(m.GetHostId(), m.GetContainerId()) {
			c.bad(join(field, "length"), "%d leads beyond the largest id", m.GetLength())
		}
		out = append(out, spec.IDMapping{Container: m.GetContainerId(), Host: m.GetHostId(), Length: m.GetLength()})
	}
	container := func(m spec.IDMapping) uint32 { return m.Container }
	host := func(m spec.IDMapping) uint32 { return m.Host }
	if overlaps(out, container) || overlaps(out, host) {
		c.bad(field, "ranges overlap")
	}
	return out
}

func overlaps(mappings []spec.IDMapping, start func(spec.IDMapping) uint32) bool {
	sorted := slices.SortedFunc(slices.Values(mappings), func(a, b spec.IDMapping) int {
		return cmp.Compare(start(a), start(b))
	})
	for i := 1; i < len(sorted); i++ {
		if uint64(start(sorted[i-1]))+uint64(sorted[i-1].Length) > uint64(start(sorted[i])) {
			return true
		}
	}
	return false
}

// namespaceOption is the way back, for a pod's status.
func namespaceOption(ns spec.Namespaces) *runtimeapi.NamespaceOption {
	o := &runtimeapi.NamespaceOption{
		Network:  modeMessage(ns.Network),
		Pid:      modeMessage(ns.PID),
		Ipc:      modeMessage(ns.IPC),
		TargetId: ns.TargetID,
	}
	if ns.User != nil {
		o.UsernsOptions = &runtimeapi.UserNamespace{
			Mode: runtimeapi.NamespaceMode_POD,
			Uids: idMappingMessages(ns.User.UIDs),
			Gids: idMappingMessages(ns.User.GIDs),
		}
	}
	return o
}

func modeMessage(m spec.NamespaceMode) runtimeapi.NamespaceMode {
	switch m {
	case spec.NamespaceContainer:
		return runtimeapi.NamespaceMode_CONTAINER
	case spec.NamespaceNode:
		return runtimeapi.NamespaceMode_NODE
	case spec.NamespaceTarget:
		return runtimeapi.NamespaceMode_TARGET
	}
	return runtimeapi.NamespaceMode_POD
}

func idMappingMessages(mappings []spec.IDMapping) []*runtimeapi.IDMapping {
	var out []*runtimeapi.IDMapping
	for _, m := range mappings {
		out = append(out, &runtimeapi.IDMapping{ContainerId: m.Container, HostId: m.Host, Length: m.Length})
	}
	return out
}
