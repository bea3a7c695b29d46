//lint:file-ignore SA1019 Clients may still send the deprecated fields.

package cri

import (
	"encoding/base64"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/image"
	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox"
)

func TestImageUser(t *testing.T) {
	for _, row := range []struct {
		user string
		uid  *runtimeapi.Int64Value
		name string
	}{
		{"", nil, ""},
		{"1002", id(1002), ""},
		{"1002:7", id(1002), ""},
		{"0", id(0), ""},
		{"www-data", nil, "www-data"},
		{"www-data:7", nil, "www-data"},
	} {
		got := Image(&image.Image{Config: v1.Image{Config: v1.ImageConfig{User: row.user}}})
		if (got.GetUid() == nil) != (row.uid == nil) || got.GetUid().GetValue() != row.uid.GetValue() || got.GetUsername() != row.name {
			t.Errorf("%q: got %v and %q", row.user, got.GetUid(), got.GetUsername())
		}
	}
}

const digest = "@sha256:0000000000000000000000000000000000000000000000000000000000000000"

func TestImageNames(t *testing.T) {
	both := &image.Image{
		ID:      "sha256:1",
		Tags:    []string{"registry.example:5000/a:1", "docker.io/library/busybox:latest"},
		Digests: []string{"registry.example:5000/a" + digest, "docker.io/library/busybox" + digest},
	}
	bare := &image.Image{ID: "sha256:2"}
	digests := &image.Image{ID: "sha256:3", Digests: []string{"docker.io/library/busybox" + digest}}
	for _, row := range []struct {
		img          *image.Image
		wanted       string
		name, digest string
	}{
		{both, "busybox", both.Tags[1], both.Digests[1]},
		{both, "busybox:latest", both.Tags[1], both.Digests[1]},
		{both, "busybox" + digest, both.Digests[1], both.Digests[1]},
		{both, "busybox:1.0", both.Tags[0], both.Digests[0]},
		{both, "sha256:1", both.Tags[0], both.Digests[0]},
		{both, "", both.Tags[0], both.Digests[0]},
		{digests, "", digests.Digests[0], digests.Digests[0]},
		{bare, "busybox", "sha256:2", "sha256:2"},
	} {
		status := ContainerStatus(&sandbox.ContainerStatus{
			ImageID: row.img.ID.String(), Config: &spec.Container{Image: "sha256:9", UserImage: row.wanted},
		}, row.img)
		if status.GetImage().GetImage() != row.name || status.GetImageRef() != row.digest || status.GetImageId() != row.img.ID.String() {
			t.Errorf("%q: got %v", row.wanted, status)
		}
	}
}

// A container outlives its image's names.
func TestContainerOfRemovedImage(t *testing.T) {
	status := ContainerStatus(&sandbox.ContainerStatus{ImageID: "sha256:1", Config: &spec.Container{Image: "busybox"}}, nil)
	if status.GetImage().GetImage() != "busybox" || status.GetImageRef() != "sha256:1" || status.GetImageId() != "sha256:1" {
		t.Errorf("got %v", status)
	}
}

func TestImageMatches(t *testing.T) {
	img := &image.Image{Tags: []string{"registry.example:5000/a/b:1"}, Digests: []string{"docker.io/library/busybox" + digest}}
	for filter, want := range map[string]bool{
		"registry.example:5000/a/b":   true,
		"registry.example:5000/a/b:1": false, // Lookup's task
		"registry.example:5000/a":     false,
		"busybox":                     true,
		"docker.io/library/busybox":   true,
		"busy":                        false,
		"":                            false,
		"UPPER":                       false,
	} {
		if got := ImageMatches(img, filter); got != want {
			t.Errorf("%q: got %v", filter, got)
		}
	}
}

func TestAuth(t *testing.T) {
	encoded := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for i, row := range []struct {
		auth *runtimeapi.AuthConfig
		want *image.Auth
		err  string
	}{
		{nil, nil, ""},
		{&runtimeapi.AuthConfig{ServerAddress: "reg"}, nil, ""},
		{&runtimeapi.AuthConfig{Username: "u", Password: "p", Auth: "broken"}, nil, "auth.auth: is not user:password in base64"},
		{&runtimeapi.AuthConfig{Username: "u", Password: "p", Auth: encoded("u:p")}, &image.Auth{Username: "u", Password: "p"}, ""},
		{&runtimeapi.AuthConfig{Username: "u", Password: "p", Auth: encoded("u:q")}, nil, "auth.auth: contradicts username and password"},
		{&runtimeapi.AuthConfig{Username: "u", Auth: encoded("u:p")}, nil, "auth.auth: contradicts username and password"},
		{&runtimeapi.AuthConfig{Auth: encoded("u:p:q\x00\x00")}, &image.Auth{Username: "u", Password: "p:q"}, ""},
		{&runtimeapi.AuthConfig{Auth: encoded("nocolon")}, nil, "auth.auth: is not user:password in base64"},
		{&runtimeapi.AuthConfig{Auth: "!"}, nil, "auth.auth"},
		{&runtimeapi.AuthConfig{IdentityToken: "i"}, &image.Auth{IdentityToken: "i"}, ""},
	} {
		got, err := PullOptions(&runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: "a"}, Auth: row.auth})
		check(t, err, row.err)
		if err == nil && ((got.Auth == nil) != (row.want == nil) || got.Auth != nil && *got.Auth != *row.want) {
			t.Errorf("row %d: got %+v", i, got.Auth)
		}
	}
	_, err := PullOptions(&runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: "a b"}})
	check(t, err, "image.image")
	_, err = PullOptions(nil)
	check(t, err, "image.image: must be set")
}

// Every signal of the API comes back from its name.
func TestSignals(t *testing.T) {
	for number, name := range runtimeapi.Signal_name {
		c := goodContainer()
		c.StopSignal = runtimeapi.Signal(number)
		got, err := Container(c)
		check(t, err, "")
		if back := signalMessage(got.StopSignal); got.StopSignal != "" && back != c.StopSignal {
			t.Errorf("%s became %s and then %s", name, got.StopSignal, back)
		}
	}
	for name, want := range map[string]runtimeapi.Signal{
		"SIGTERM": runtimeapi.Signal_SIGNAL_SIGTERM, "SIGRTMIN+3": runtimeapi.Signal_SIGNAL_SIGRTMINPLUS3,
		"SIGRTMAX-1": runtimeapi.Signal_SIGNAL_SIGRTMAXMINUS1, "": 0, "SIGFOO": 0,
	} {
		if got := signalMessage(name); got != want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestProfiles(t *testing.T) {
	type sc = runtimeapi.LinuxContainerSecurityContext
	localhost := func(ref string) *runtimeapi.SecurityProfile {
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: ref}
	}
	for i, row := range []struct {
		s                 *sc
		seccomp, apparmor *spec.Profile
		err               string
	}{
		{&sc{}, nil, nil, ""},
		{&sc{Seccomp: &runtimeapi.SecurityProfile{}}, &spec.Profile{Kind: spec.ProfileRuntimeDefault}, nil, ""},
		{&sc{Seccomp: localhost("/p.json"), SeccompProfilePath: "localhost//p.json"}, &spec.Profile{Kind: spec.ProfileLocalhost, Localhost: "/p.json"}, nil, ""},
		{&sc{Seccomp: localhost("/p.json"), SeccompProfilePath: "unconfined"}, nil, nil, "seccomp_profile_path: contradicts seccomp"},
		{&sc{Seccomp: localhost("p.json")}, nil, nil, "seccomp.localhost_ref"},
		{&sc{Seccomp: localhost("")}, nil, nil, "seccomp.localhost_ref"},
		{&sc{Seccomp: &runtimeapi.SecurityProfile{LocalhostRef: "/p"}}, nil, nil, "seccomp.localhost_ref"},
		{&sc{Seccomp: &runtimeapi.SecurityProfile{ProfileType: 3}}, nil, nil, "seccomp.profile_type"},
		{&sc{SeccompProfilePath: "runtime/default"}, &spec.Profile{Kind: spec.ProfileRuntimeDefault}, nil, ""},
		{&sc{SeccompProfilePath: "docker/default"}, &spec.Profile{Kind: spec.ProfileRuntimeDefault}, nil, ""},
		{&sc{SeccompProfilePath: "unconfined"}, &spec.Profile{Kind: spec.ProfileUnconfined}, nil, ""},
		{&sc{SeccompProfilePath: "localhost//p.json"}, &spec.Profile{Kind: spec.ProfileLocalhost, Localhost: "/p.json"}, nil, ""},
		{&sc{SeccompProfilePath: "localhost/p.json"}, nil, nil, "seccomp_profile_path"},
		{&sc{SeccompProfilePath: "localhost/"}, nil, nil, "seccomp_profile_path"},
		{&sc{SeccompProfilePath: "strict"}, nil, nil, "seccomp_profile_path"},
		{&sc{Apparmor: localhost("k8s"), ApparmorProfile: "localhost/k8s"}, nil, &spec.Profile{Kind: spec.ProfileLocalhost, Localhost: "k8s"}, ""},
		{&sc{Apparmor: localhost("k8s"), ApparmorProfile: "unconfined"}, nil, nil, "apparmor_profile: contradicts apparmor"},
		{&sc{Apparmor: localhost("localhost/k8s"), ApparmorProfile: "localhost/other"}, nil, nil, "apparmor_profile: contradicts apparmor"},
		{&sc{Apparmor: localhost("localhost/k8s")}, nil, &spec.Profile{Kind: spec.ProfileLocalhost, Localhost: "k8s"}, ""},
		{&sc{ApparmorProfile: "localhost/k8s"}, nil, &spec.Profile{Kind: spec.ProfileLocalhost, Localhost: "k8s"}, ""},
		{&sc{ApparmorProfile: "unconfined"}, nil, &spec.Profile{Kind: spec.ProfileUnconfined}, ""},
		{&sc{ApparmorProfile: "k8s"}, nil, nil, "apparmor_profile"},
	} {
		c := goodContainer()
		c.Linux.SecurityContext = row.s
		got, err := Container(c)
		check(t, err, row.err)
		if err == nil && (!sameProfile(got.Security.Seccomp, row.seccomp) || !sameProfile(got.Security.AppArmor, row.apparmor)) {
			t.Errorf("row %d: got %+v and %+v", i, got.Security.Seccomp, got.Security.AppArmor)
		}
	}
}

func sameProfile(a, b *spec.Profile) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

func TestFilters(t *testing.T) {
	for state, want := range map[runtimeapi.ContainerState]sandbox.ContainerState{
		0: sandbox.ContainerCreated, 1: sandbox.ContainerRunning, 2: sandbox.ContainerExited, 3: sandbox.ContainerUnknown,
	} {
		got, err := ContainerFilter(&runtimeapi.ContainerFilter{State: &runtimeapi.ContainerStateValue{State: state}})
		if err != nil || got.State != want || containerState(want) != state {
			t.Errorf("%v: got %v, %v", state, got.State, err)
		}
	}
	for state, want := range map[runtimeapi.PodSandboxState]sandbox.PodState{0: sandbox.PodReady, 1: sandbox.PodNotReady} {
		got, err := PodFilter(&runtimeapi.PodSandboxFilter{State: &runtimeapi.PodSandboxStateValue{State: state}})
		if err != nil || got.State != want || podState(want) != state {
			t.Errorf("%v: got %v, %v", state, got.State, err)
		}
	}
	_, err := PodFilter(&runtimeapi.PodSandboxFilter{State: &runtimeapi.PodSandboxStateValue{State: 2}})
	check(t, err, "filter.state")
	_, err = ContainerFilter(&runtimeapi.ContainerFilter{State: &runtimeapi.ContainerStateValue{State: 4}})
	check(t, err, "filter.state")
	all, err := ContainerFilter(nil)
	if err != nil || all.State != "" || all.ID != "" {
		t.Errorf("got %+v, %v", all, err)
	}
}
