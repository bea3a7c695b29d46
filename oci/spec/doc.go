// Package spec holds what a client asks of a pod and a container (config.go)
// and turns it, with the image's configuration and facts about the machine,
// into an OCI runtime specification. It is pure: the same input gives the same
// bytes on every machine of an architecture. It reads no file and asks no
// kernel; what it needs to know comes in an Input, and package oci/host
// gathers it. One exception lies in the default seccomp profile, a few rules
// of which depend on the kernel's version.
//
// Semantics follow the comments in k8s.io/cri-api's api.proto; where these are
// silent, what Kubernetes users are accustomed to.
package spec
