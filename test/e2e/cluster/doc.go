// Package cluster runs a whole Kubernetes on this machine, control plane and
// one node, with nothing in it replaced: etcd, kube-apiserver, scheduler,
// controller-manager and a kubelet whose runtime is the one under test. All of
// it listens on loopback and keeps its files in one directory. The package owns
// every process, mount, cgroup, link and rule that comes of it and takes them
// away again; it knows nothing of what is checked.
package cluster
