// Package seccomp compares our compiler of seccomp profiles, which stands in
// libseccomp's place, with libseccomp: the programs of both are run for the same
// system calls and have to return the same.
package seccomp
