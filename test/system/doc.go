// Package system tests the whole runtime as its clients see it: the real daemon
// and shim, a real registry, the real CNI plugins and the real kernel, over gRPC
// and with crictl. Every test has a node of its own and fails if anything of it
// is left on the host.
package system
