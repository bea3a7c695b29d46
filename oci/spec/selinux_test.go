package spec

import (
	"slices"
	"testing"
)

func TestContainerLabels(t *testing.T) {
	pod := Labels{Process: "system_u:system_r:container_t:s0:c1,c2", Mount: "system_u:object_r:container_file_t:s0:c1,c2"}
	for name, test := range map[string]struct {
		pod  Labels
		own  *SELinux
		want Labels
	}{
		"the pod's":      {pod, nil, pod},
		"nothing":        {pod, &SELinux{}, pod},
		"a type":         {pod, &SELinux{Type: "spc_t"}, Labels{"system_u:system_r:spc_t:s0:c1,c2", pod.Mount}},
		"a level":        {pod, &SELinux{Level: "s0:c8,c9"}, Labels{"system_u:system_r:container_t:s0:c8,c9", "system_u:object_r:container_file_t:s0:c8,c9"}},
		"user and role":  {pod, &SELinux{User: "u", Role: "r"}, Labels{"u:r:container_t:s0:c1,c2", "u:object_r:container_file_t:s0:c1,c2"}},
		"without levels": {Labels{"u:r:t", "u:o:f"}, &SELinux{Level: "s0"}, Labels{"u:r:t:s0", "u:o:f:s0"}},
		"no SELinux":     {Labels{}, &SELinux{Type: "t"}, Labels{}},
	} {
		if got := ContainerLabels(test.pod, test.own); got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
}

func TestSELinuxOptions(t *testing.T) {
	got := (&SELinux{User: "u", Type: "t", Level: "s0:c1"}).Options()
	if !slices.Equal(got, []string{"user:u", "type:t", "level:s0:c1"}) || (*SELinux)(nil).Options() != nil {
		t.Errorf("got %q", got)
	}
}

// TestLabelsInSpec: a process label unless privileged, a mount label always,
// and neither on a machine without SELinux.
func TestLabelsInSpec(t *testing.T) {
	for _, test := range []struct {
		enabled, privileged bool
		process, mount      string
	}{
		{true, false, "p", "m"}, {true, true, "", "m"}, {false, false, "", ""},
	} {
		in := busybox()
		in.Host.SELinux, in.Labels = test.enabled, Labels{"p", "m"}
		in.Pod.Security.Privileged, in.Container.Security.Privileged = test.privileged, test.privileged
		s, err := Build(in)
		if err != nil || s.Process.SelinuxLabel != test.process || s.Linux.MountLabel != test.mount {
			t.Errorf("%+v: %q, %q, %v", test, s.Process.SelinuxLabel, s.Linux.MountLabel, err)
		}
	}
}
