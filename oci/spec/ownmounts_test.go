package spec

import (
	"errors"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestParseMount(t *testing.T) {
	for text, want := range map[string]specs.Mount{
		"/a:/b":               {Source: "/a", Destination: "/b", Options: []string{"rbind", "rprivate", "ro"}},
		"/a/:/b/../c:ro":      {Source: "/a", Destination: "/c", Options: []string{"rbind", "rprivate", "ro"}},
		"/a:/dev/x:nodev,rw":  {Source: "/a", Destination: "/dev/x", Options: []string{"rbind", "rprivate", "nodev", "rw"}},
		"/a:/process:noexec":  {Source: "/a", Destination: "/process", Options: []string{"rbind", "rprivate", "noexec", "ro"}},
		"/proc/cpuinfo:/info": {Source: "/proc/cpuinfo", Destination: "/info", Options: []string{"rbind", "rprivate", "ro"}},
	} {
		got, err := ParseMount(text)
		if err != nil || got.Source != want.Source || got.Destination != want.Destination || got.Type != "bind" || !slices.Equal(got.Options, want.Options) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "/a", "/a:b", "a:/b", ":/b", "/a:", "/a:/", "/a:/proc", "/a:/x/../proc/y", "/a:/dev", "/a:/b:", "/a:/b:rshared", "/a:/b:ro:x", "/a:/\x00"} {
		if _, err := ParseMount(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestMountsOfAll: a volume comes before the administrator's mounts, and these
// before the pod's files.
func TestMountsOfAll(t *testing.T) {
	in := busybox()
	in.Paths.Hosts = "/pod/hosts"
	for _, text := range []string{"/own/a:/data/a", "/own/b:/b", "/own/hosts:/etc/hosts"} {
		m, err := ParseMount(text)
		if err != nil {
			t.Fatal(err)
		}
		in.Policy.Mounts = append(in.Policy.Mounts, m)
	}
	in.Mounts = []Mount{{ContainerPath: "/data", HostPath: "/volume"}}
	s, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	for destination, want := range map[string][]string{
		"/data": {"/volume"}, "/data/a": nil, "/b": {"/own/b"}, "/etc/hosts": {"/own/hosts"}, "/proc": {"proc"},
	} {
		var got []string
		for _, m := range s.Mounts {
			if m.Destination == destination {
				got = append(got, m.Source)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("on %s is mounted %q, want %q", destination, got, want)
		}
	}
}
