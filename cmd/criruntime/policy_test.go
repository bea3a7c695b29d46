package main

import (
	"strings"
	"testing"

	"github.com/criruntime/criruntime/conf"
)

func TestPolicyOfDefaults(t *testing.T) {
	p, err := policy(&conf.Default().Containers)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Capabilities) != 14 || len(p.Env) > 0 || p.Rlimits != nil || p.PidsLimit != 0 || p.ExecAffinity != "" || len(p.Sysctls) != 2 || p.Localtime != "" {
		t.Errorf("got %+v", p)
	}
}

func TestPolicyNamesTheKey(t *testing.T) {
	for _, test := range []struct {
		set  func(*conf.Containers)
		want string
	}{
		{func(c *conf.Containers) { c.Capabilities = []string{"CAP_FLY"} }, "containers.capabilities: "},
		{func(c *conf.Containers) { c.Capabilities = []string{"ALL"} }, "containers.capabilities: "},
		{func(c *conf.Containers) { c.Ulimits = []string{"nofile=10:5"} }, "containers.ulimits: "},
		{func(c *conf.Containers) { c.Ulimits = []string{"nofile"} }, "containers.ulimits: "},
		{func(c *conf.Containers) { c.Ulimits = []string{"nofile=99999999999:99999999999"} }, "containers.ulimits: "},
		{func(c *conf.Containers) { c.Sysctls = []string{"vm.swappiness=1"} }, "containers.sysctls: "},
		{func(c *conf.Containers) { c.Timezone = "../../../etc/passwd" }, "containers.timezone: "},
		{func(c *conf.Containers) { c.Timezone = "Nowhere/None" }, "containers.timezone: "},
		{func(c *conf.Containers) { c.Mounts = []string{"/nowhere:/x"} }, "containers.mounts: "},
		{func(c *conf.Containers) { c.Mounts = []string{"/etc"} }, "containers.mounts: "},
		{func(c *conf.Containers) { c.Mounts = []string{"/etc:/x", "/usr:/x/"} }, "containers.mounts: "},
		{func(c *conf.Containers) { c.Mounts = []string{"/etc:/x", "/usr:/x/y:rw"} }, ""},
		{func(c *conf.Containers) { c.SeccompProfile = "/none" }, "containers.seccomp_profile: "},
		{func(c *conf.Containers) { c.SeccompProfile = "/proc/self/exe" }, "containers.seccomp_profile: "},
		{func(c *conf.Containers) { c.PrivilegedSeccompProfile = "/etc/passwd" }, "containers.privileged_seccomp_profile: "},
		{func(c *conf.Containers) { c.Capabilities, c.Ulimits = []string{"kill"}, []string{"core=0"} }, ""},
	} {
		c := conf.Default().Containers
		test.set(&c)
		_, err := policy(&c)
		if (err == nil) != (test.want == "") || err != nil && !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("got %v, want %q", err, test.want)
		}
	}
}

// TestCheckPolicy: the diagnosis says what the daemon would not start with.
func TestCheckPolicy(t *testing.T) {
	c := conf.Default()
	if got := checkPolicy(c); got != nil {
		t.Errorf("got %+v of the defaults", got)
	}
	c.Containers.Timezone = "Nowhere/None"
	if got := checkPolicy(c); len(got) != 1 || got[0].level != fail || !strings.HasPrefix(got[0].state, "containers.timezone: ") {
		t.Errorf("got %+v", got)
	}
}
