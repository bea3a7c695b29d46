package host

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/profiles/apparmor"

	"github.com/criruntime/criruntime/oci/spec"
)

func fakeAppArmor(t *testing.T, loaded string, install func(string) error) *appArmorModule {
	t.Helper()
	m := &appArmorModule{enabled: filepath.Join(t.TempDir(), "enabled"), profiles: filepath.Join(t.TempDir(), "profiles"), install: install}
	for file, text := range map[string]string{m.enabled: "Y\n", m.profiles: loaded} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestLoadAppArmor(t *testing.T) {
	broken := errors.New("no apparmor_parser")
	for name, test := range map[string]struct {
		enabled         bool
		loaded, profile string
		install         error
		installs        bool
		want            string
		fails           bool
	}{
		"disabled":             {false, "", DefaultAppArmor, nil, false, "", false},
		"loads its own":        {true, "docker-default (enforce)\n", DefaultAppArmor, nil, true, DefaultAppArmor, false},
		"has its own":          {true, DefaultAppArmor + " (enforce)\n", DefaultAppArmor, broken, false, DefaultAppArmor, false},
		"cannot load its own":  {true, "", DefaultAppArmor, broken, true, "", true},
		"another":              {true, "a b (complain)\n", "a b", broken, false, "a b", false},
		"another is missing":   {true, "a (enforce)\n", "a b", nil, false, "", true},
		"a name is not a part": {true, DefaultAppArmor + "-x (enforce)\n", DefaultAppArmor, nil, true, DefaultAppArmor, false},
	} {
		installed := false
		m := fakeAppArmor(t, test.loaded, func(string) error { installed = true; return test.install })
		h := &spec.Host{AppArmor: test.enabled}
		err := m.load(h, test.profile)
		if h.AppArmorDefault != test.want || (err != nil) != test.fails || installed != test.installs {
			t.Errorf("%s: default %q, installed %v, %v", name, h.AppArmorDefault, installed, err)
		}
	}
}

func TestCheckAppArmor(t *testing.T) {
	m := fakeAppArmor(t, "mine (enforce)\n", nil)
	for _, test := range []struct {
		enabled bool
		p       *spec.Profile
		refused bool
	}{
		{true, nil, false},
		{true, &spec.Profile{Kind: spec.ProfileRuntimeDefault}, false},
		{true, &spec.Profile{Kind: spec.ProfileLocalhost, Localhost: "mine"}, false},
		{true, &spec.Profile{Kind: spec.ProfileLocalhost, Localhost: "localhost/mine"}, false},
		{true, &spec.Profile{Kind: spec.ProfileLocalhost, Localhost: "min"}, true},
		{false, &spec.Profile{Kind: spec.ProfileLocalhost, Localhost: "min"}, false},
	} {
		err := m.check(test.p, &spec.Host{AppArmor: test.enabled})
		if errors.Is(err, spec.ErrInvalid) != test.refused {
			t.Errorf("%+v: %v", test.p, err)
		}
	}
}

// TestAppArmorProfile reads what apparmor_parser is given to load.
func TestAppArmorProfile(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "profile")
	parser := "#!/bin/sh\n[ \"$1\" = -Kr ] && cat \"$2\" >" + out + "\n"
	if err := os.WriteFile(filepath.Join(dir, "apparmor_parser"), []byte(parser), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	m := fakeAppArmor(t, "", apparmor.InstallDefault)
	h := &spec.Host{AppArmor: m.isEnabled()}
	if err := m.load(h, DefaultAppArmor); err != nil || h.AppArmorDefault != DefaultAppArmor {
		t.Fatalf("%q, %v", h.AppArmorDefault, err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range []string{
		"profile " + DefaultAppArmor + " flags=(attach_disconnected,mediate_deleted)", "deny mount,", "deny @{PROC}/sysrq-trigger rwklx",
		"deny /sys/firmware/** rwklx", "signal (receive) peer=unconfined", "signal (send,receive) peer=" + DefaultAppArmor,
		"ptrace (trace,read,tracedby,readby) peer=" + DefaultAppArmor,
	} {
		if !strings.Contains(string(text), rule) {
			t.Errorf("the profile lacks %q", rule)
		}
	}
}
