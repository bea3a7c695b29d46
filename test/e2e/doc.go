// Package e2e checks what a user of Kubernetes gets from a node that runs on
// this runtime, from "kubectl apply" to the status and back. The cluster is
// real (package cluster); the checks see it as users, operators and Kubernetes'
// components do, through the API, kubectl, the kubelet's ports, the CRI and the
// kernel. "make e2e" builds what is needed and runs them.
package e2e
