package sandbox

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Real-time signals are named from both ends of their range (signal(7)).
const (
	sigRTMin = 34
	sigRTMax = 64
)

// signalNumber reads a signal's name, with or without "SIG", or its number.
func signalNumber(name string) (int, error) {
	if n, err := strconv.Atoi(name); err == nil {
		if n < 1 || n > sigRTMax {
			return 0, fmt.Errorf("%q is not a signal", name)
		}
		return n, nil
	}
	full := strings.ToUpper(name)
	if !strings.HasPrefix(full, "SIG") {
		full = "SIG" + full
	}
	if n := int(unix.SignalNum(full)); n != 0 {
		return n, nil
	}
	for prefix, base := range map[string]int{"SIGRTMIN": sigRTMin, "SIGRTMAX": sigRTMax} {
		offset, ok := strings.CutPrefix(full, prefix)
		if !ok {
			continue
		}
		n := 0
		if offset != "" {
			var err error
			if n, err = strconv.Atoi(offset); err != nil {
				break
			}
		}
		if n += base; n >= sigRTMin && n <= sigRTMax {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%q is not a signal", name)
}

// stopSignal is the signal that stops a container: the one asked for, else the
// image's if that is one, else SIGTERM.
func stopSignal(asked, image string) (string, error) {
	if asked != "" {
		if _, err := signalNumber(asked); err != nil {
			return "", failure(ErrInvalid, "cannot stop a container with it: %w", err)
		}
		return canonicalSignal(asked), nil
	}
	if image != "" {
		if _, err := signalNumber(image); err == nil {
			return canonicalSignal(image), nil
		}
	}
	return "SIGTERM", nil
}

// canonicalSignal writes a signal as "SIGTERM"; real-time ones keep their form.
func canonicalSignal(name string) string {
	if n, err := signalNumber(name); err == nil {
		if s := unix.SignalName(unix.Signal(n)); s != "" {
			return s
		}
	}
	if _, err := strconv.Atoi(name); err == nil {
		n, _ := strconv.Atoi(name)
		return "SIGRTMIN+" + strconv.Itoa(n-sigRTMin)
	}
	full := strings.ToUpper(name)
	if !strings.HasPrefix(full, "SIG") {
		full = "SIG" + full
	}
	return full
}
