package stdio

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Rights returns the descriptors in a control message.
func Rights(oob []byte) ([]int, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var all []int
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			return all, err
		}
		all = append(all, fds...)
	}
	return all, nil
}

// CloseAll closes descriptors.
func CloseAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// Pollable makes a file that blocks goroutines, not threads, out of a
// descriptor, which it owns even on an error.
func Pollable(fd int, name string) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot use descriptor %s: %v", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
