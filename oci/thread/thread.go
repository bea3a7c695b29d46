// Package thread runs functions that change the thread that they run on, as by entering
// a namespace. It never changes a thread of anybody else's.
package thread

import (
	"errors"
	"runtime"

	"golang.org/x/sys/unix"
)

// errExited is what a function on a thread of its own left behind when it
// called runtime.Goexit.
var errExited = errors.New("the function ended its goroutine")

// Run runs fn on a thread that dies afterwards, so that whatever fn did to
// the thread harms nobody, and waits for it. That thread is never the process's
// first one: the Go runtime cannot end it, and /proc/self shows its namespaces.
func Run(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			done <- Run(fn) // while this goroutine holds the first thread
			return
		}
		err := errExited
		defer func() { done <- err }()
		err = fn()
	}()
	return <-done
}
