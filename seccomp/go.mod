// What libcontainer calls of libseccomp, in Go. The main module's go.mod puts it
// in libseccomp-golang's place, hence the name.
module github.com/seccomp/libseccomp-golang

go 1.26.0

require golang.org/x/sys v0.49.0
