package spec

import "slices"

// HostID is the host's id for a container's, if it is mapped.
func HostID(mappings []IDMapping, container uint32) (id uint32, ok bool) {
	for _, m := range mappings {
		if container >= m.Container && container-m.Container < m.Length {
			return m.Host + (container - m.Container), true
		}
	}
	return 0, false
}

// checkUserNamespace refuses what KEP-127 rules out: a user namespace has one
// range for users and one for groups, with root in them, and it owns the pod's
// other namespaces but for the network.
func checkUserNamespace(ns *Namespaces, h *Host) error {
	u := ns.User
	if u == nil {
		return nil
	}
	switch {
	case !h.UserNamespaces.Yes():
		return invalid("userns_options", "this machine has no user namespaces")
	case !h.IDMappedOverlay.Yes():
		return invalid("userns_options", "the kernel cannot map the owners of files where images are kept")
	case len(u.UIDs) != 1 || len(u.GIDs) != 1:
		return invalid("userns_options", "one range of user ids and one of group ids are needed, not %d and %d", len(u.UIDs), len(u.GIDs))
	case u.UIDs[0].Container != 0 || u.GIDs[0].Container != 0:
		return invalid("userns_options", "the container id 0 is not mapped")
	case u.UIDs[0].Length == 0 || u.GIDs[0].Length == 0:
		return invalid("userns_options", "a range is empty")
	case ns.PID == NamespaceNode:
		return invalid("namespace_options.pid", "a pod with a user namespace cannot be in the host's PID namespace")
	case ns.IPC == NamespaceNode:
		return invalid("namespace_options.ipc", "a pod with a user namespace cannot be in the host's IPC namespace")
	}
	return nil
}

// checkSameUser refuses a container that asks for another user namespace than
// its pod's.
func checkSameUser(pod, container *Namespaces) error {
	c, p := container.User, pod.User
	switch {
	case container.PID == NamespaceNode && p != nil:
		return invalid("namespace_options.pid", "a container with a user namespace cannot be in the host's PID namespace")
	case c == nil:
		return nil
	case p == nil, !slices.Equal(c.UIDs, p.UIDs), !slices.Equal(c.GIDs, p.GIDs):
		return invalid("userns_options", "they differ from the pod's")
	}
	return nil
}
