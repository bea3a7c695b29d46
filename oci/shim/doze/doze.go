// Package doze is a process that waits for something to do before its Go
// runtime starts: it is written in C and holds a few pages, where the least Go
// program holds a megabyte. A shim that rests dozes: whoever asks it for
// something, output of a container, or the end of one wakes it, which is to say
// lets its program start. It takes nothing away of what wakes it.
package doze

import (
	"fmt"
	"strings"
)

// #cgo CFLAGS: -Wall -Wextra -Os
// #include "doze.h"
import "C"

// Env is the entry of the environment with which a program that links this
// package dozes until one of the descriptors can be read from or accepted on, or
// a child has ended. There is none, "", for more descriptors than it can watch:
// such a program starts at once.
func Env(fds []int) string {
	if len(fds) > C.DOZE_MAX {
		return ""
	}
	return C.DOZE_ENV + "=" + strings.Trim(fmt.Sprint(fds), "[]")
}
