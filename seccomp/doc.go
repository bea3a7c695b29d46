// Package seccomp turns the rules of a seccomp profile into a BPF program for
// the kernel. It has the part of libseccomp-golang's interface that libcontainer
// uses and stands in its place (see replace in the main module's go.mod), because
// libcontainer compiles the profile anew in the init of every container and every
// exec: libseccomp takes some 30 ms of CPU time for the default profile, this
// package less than one.
//
// What a rule means is libseccomp's definition, see seccomp_rule_add(3); its
// library is the oracle of the tests in test/seccomp. A system call's number is
// looked up in a table for each of the filter's architectures (syscalls.go,
// mux.go), and the rules of one number are merged (rules.go). The program
// dispatches on the architecture, searches the number in a binary tree of
// ranges (compile.go), and compares arguments where a rule asks for it
// (condition.go).
//
// Beside that interface there is List (list.go), which lets one rule stand for many.
//
// It never loads a filter: patchbpf of libcontainer does.
package seccomp

//go:generate go run mksyscalls.go
