package spec

import "github.com/opencontainers/runtime-spec/specs-go"

// buildNamespaces lists the container's namespaces. Network, IPC and user
// namespace are the pod's choice, as the containers of a pod share them; the
// PID namespace is the container's own choice. A type left out is the host's.
func buildNamespaces(in *Input) ([]specs.LinuxNamespace, error) {
	ns := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	join := func(t specs.LinuxNamespaceType, path string) {
		ns = append(ns, specs.LinuxNamespace{Type: t, Path: path})
	}
	pod := &in.Pod.Namespaces
	if pod.Network != NamespaceNode {
		if in.Paths.NetNS == "" {
			return nil, invalid("namespace_options.network", "the pod has no network namespace")
		}
		join(specs.NetworkNamespace, in.Paths.NetNS)
	}
	if in.Paths.UTSNS != "" {
		join(specs.UTSNamespace, in.Paths.UTSNS)
	}
	switch {
	case pod.IPC == NamespaceNode:
	case pod.IPC == NamespaceContainer:
		join(specs.IPCNamespace, "")
	case in.Paths.IPCNS == "":
		return nil, invalid("namespace_options.ipc", "the pod has no IPC namespace")
	default:
		join(specs.IPCNamespace, in.Paths.IPCNS)
	}
	path, private, err := pidNamespace(in)
	if err != nil {
		return nil, err
	}
	if private {
		join(specs.PIDNamespace, path)
	}
	if in.Host.CgroupV2 && !in.Container.Security.Privileged {
		// On version 1 the container sees its own groups by bind mounts.
		join(specs.CgroupNamespace, "")
	}
	if pod.User != nil {
		join(specs.UserNamespace, in.Paths.UserNS)
	}
	return ns, nil
}

// pidNamespace says which PID namespace to join, private being false for the
// host's.
func pidNamespace(in *Input) (path string, private bool, err error) {
	switch mode := in.Container.Namespaces.PID; mode {
	case NamespaceNode:
		return "", false, nil
	case NamespaceContainer:
		return "", true, nil
	case NamespaceTarget:
		if in.Paths.PIDNS == "" {
			return "", false, invalid("namespace_options.target_id",
				"container %q has no PID namespace to share", in.Container.Namespaces.TargetID)
		}
		return in.Paths.PIDNS, true, nil
	case NamespacePod, "":
		// The pod's namespace is the host's if the pod says so. A pod that
		// shares none leaves each container with its own.
		return in.Paths.PIDNS, in.Pod.Namespaces.PID != NamespaceNode, nil
	default:
		return "", false, invalid("namespace_options.pid", "%q is not a mode", mode)
	}
}

// CheckPod refuses a pod that contradicts itself or that this machine cannot
// run. The error wraps ErrInvalid.
func CheckPod(p *Pod, h *Host) error {
	ns := &p.Namespaces
	switch ns.Network {
	case NamespacePod, NamespaceNode, "":
	default:
		return invalid("namespace_options.network", "mode %q is not possible for a pod", ns.Network)
	}
	switch ns.IPC {
	case NamespacePod, NamespaceNode, NamespaceContainer, "":
	default:
		return invalid("namespace_options.ipc", "mode %q is not possible for a pod", ns.IPC)
	}
	switch ns.PID {
	case NamespacePod, NamespaceNode, NamespaceContainer, "":
	default:
		return invalid("namespace_options.pid", "mode %q is not possible for a pod", ns.PID)
	}
	if err := checkUserNamespace(ns, h); err != nil {
		return err
	}
	if err := CheckUser(&p.Security); err != nil {
		return err
	}
	_, err := PodSysctls(p, nil)
	return err
}
