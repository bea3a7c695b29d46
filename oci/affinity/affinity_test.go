package affinity

import (
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	for list, want := range map[string][]int{
		"0": {0}, "1-3,8": {1, 2, 3, 8}, "2,2": {2}, "1023": {1023},
		"": nil, "a": nil, "1-": nil, "-1": nil, "3-1": nil, "1,": nil, "1 ": nil, "1024": nil, "0-65535": nil, "0-99999999": nil,
	} {
		got, err := Parse(list)
		if (err == nil) != (want != nil) {
			t.Errorf("%q: %v", list, err)
		}
		if err != nil {
			continue
		}
		if got.Count() != len(want) {
			t.Errorf("%q gives %d processors", list, got.Count())
		}
		for _, n := range want {
			if !got.IsSet(n) {
				t.Errorf("%q lacks %d", list, n)
			}
		}
	}
}

// allowed is what a child that is started by run says of its processors.
func allowed(t *testing.T, run func(func() error) error) string {
	t.Helper()
	var out strings.Builder
	cmd := exec.Command("sed", "-n", `s/Cpus_allowed_list:\t//p`, "/proc/self/status")
	cmd.Stdout = &out
	if err := run(cmd.Start); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}

func TestOn(t *testing.T) {
	var mine unix.CPUSet
	if err := unix.SchedGetaffinity(0, &mine); err != nil {
		t.Fatal(err)
	}
	if mine.Count() < 2 {
		t.Skip("needs two processors")
	}
	plain := func(start func() error) error { return start() }
	before := allowed(t, plain)
	for _, list := range []string{"0", "1"} {
		cpus, err := Parse(list)
		if err != nil {
			t.Fatal(err)
		}
		if got := allowed(t, func(start func() error) error { return On(cpus, start) }); got != list {
			t.Errorf("a process for %s runs on %s", list, got)
		}
		// From a process with few processors to all of them again.
		got := allowed(t, func(start func() error) error {
			return On(cpus, func() error { return On(All(), start) })
		})
		if got != before {
			t.Errorf("a process for all runs on %s, not %s", got, before)
		}
	}
	if got := allowed(t, plain); got != before {
		t.Errorf("processes run on %s now, not %s", got, before)
	}
	none, err := Parse("1023")
	if err != nil {
		t.Fatal(err)
	}
	if err := On(none, func() error { t.Error("it is called without a processor"); return nil }); err == nil {
		t.Error("a processor is there that is not")
	}
}
