package sandbox

import (
	"errors"
	"testing"
)

func TestSignalNumber(t *testing.T) {
	for name, want := range map[string]int{
		"SIGTERM": 15, "TERM": 15, "sigterm": 15, "15": 15, "SIGUSR1": 10, "9": 9, "64": 64,
		"SIGRTMIN": 34, "RTMIN+3": 37, "SIGRTMAX": 64, "SIGRTMAX-14": 50, "SIGRTMIN+30": 64,
	} {
		if got, err := signalNumber(name); err != nil || got != want {
			t.Errorf("%s: %d %v, want %d", name, got, err, want)
		}
	}
	for _, name := range []string{"", "0", "65", "-1", "SIGNONE", "SIGRTMIN+31", "SIGRTMIN-1", "SIGRTMAX+1", "SIGRTMINx"} {
		if got, err := signalNumber(name); err == nil {
			t.Errorf("%q is taken for %d", name, got)
		}
	}
}

func TestStopSignal(t *testing.T) {
	for _, test := range []struct{ asked, image, want string }{
		{"", "", "SIGTERM"},
		{"", "SIGQUIT", "SIGQUIT"},
		{"", "3", "SIGQUIT"},
		{"", "nonsense", "SIGTERM"},
		{"usr1", "SIGQUIT", "SIGUSR1"},
		{"SIGRTMIN+3", "", "SIGRTMIN+3"},
		{"", "37", "SIGRTMIN+3"},
	} {
		if got, err := stopSignal(test.asked, test.image); err != nil || got != test.want {
			t.Errorf("%q, %q: %q %v, want %q", test.asked, test.image, got, err, test.want)
		}
	}
	if _, err := stopSignal("nonsense", ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("error %v", err)
	}
}
