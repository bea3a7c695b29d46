package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// succession is how long a new daemon waits for one that is just ending.
const succession = 5 * time.Second

// claim makes a directory and locks it for this process, so that no second
// daemon works on the same state. The lock goes with the process, however it
// ends; a killed one may take a moment, which claim waits for until the
// deadline. Close the file to give the directory up.
func claim(dir string, deadline time.Time) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("cannot make the directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", dir, err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			f.Close()
			return nil, fmt.Errorf("cannot lock %s: %w", dir, err)
		case time.Now().After(deadline):
			f.Close()
			return nil, fmt.Errorf("another criruntime works in %s", dir)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// inherited is the socket that systemd listens on for the daemon (socket
// activation), or nil.
func inherited() (net.Listener, error) {
	listeners, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("cannot take over the sockets of systemd: %w", err)
	}
	switch len(listeners) {
	case 0:
		return nil, nil
	case 1:
		if listeners[0] == nil {
			return nil, errors.New("the socket unit must listen on a stream")
		}
		return listeners[0], nil
	}
	return nil, fmt.Errorf("the socket unit has %d sockets; one is expected", len(listeners))
}
