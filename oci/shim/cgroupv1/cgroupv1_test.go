package cgroupv1

import (
	"errors"
	"reflect"
	"testing"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func podConfig() *configs.Config {
	return &configs.Config{
		Rootfs:     "/nowhere",
		Namespaces: configs.Namespaces{{Type: configs.NEWNS}, {Type: configs.NEWPID}},
		Cgroups:    &cgroups.Cgroup{Path: "/kubepods/pod/container"},
		Mounts: []*configs.Mount{
			{Device: "proc", Destination: "/proc"},
			{Device: "sysfs", Destination: "/sys"},
			{Device: "cgroup", Destination: "/sys/fs/cgroup"},
			{Device: "bind", Destination: "/system"},
		},
	}
}

// TestOurs changes one thing at a time of what pods ask for.
func TestOurs(t *testing.T) {
	for name, change := range map[string]func(*configs.Config){
		"a label":                    func(c *configs.Config) { c.MountLabel = "system_u:object_r:container_file_t:s0" },
		"a user namespace":           func(c *configs.Config) { c.Namespaces.Add(configs.NEWUSER, "") },
		"a cgroup namespace":         func(c *configs.Config) { c.Namespaces.Add(configs.NEWCGROUP, "") },
		"the host's mounts":          func(c *configs.Config) { c.Namespaces.Remove(configs.NEWNS) },
		"a relative group":           func(c *configs.Config) { c.Cgroups.Path = "container" },
		"no group":                   func(c *configs.Config) { c.Cgroups.Path = "" },
		"systemd's group":            func(c *configs.Config) { c.Cgroups.Systemd = true },
		"the host's /sys":            func(c *configs.Config) { c.Mounts[1].Device = "bind" },
		"/sys elsewhere":             func(c *configs.Config) { c.Mounts[1].Destination = "/sysfs" },
		"groups elsewhere":           func(c *configs.Config) { c.Mounts[2].Destination = "/groups" },
		"/sys later":                 func(c *configs.Config) { c.Mounts[1], c.Mounts[2] = c.Mounts[2], c.Mounts[1] },
		"propagation":                func(c *configs.Config) { c.Mounts[2].PropagationFlags = []int{0} },
		"a volume on the groups":     func(c *configs.Config) { c.Mounts[3].Destination = "/sys/fs/cgroup" },
		"a volume in the groups":     func(c *configs.Config) { c.Mounts[3].Destination = "/sys/fs/cgroup/memory" },
		"a volume above the groups":  func(c *configs.Config) { c.Mounts[3].Destination = "/sys/fs" },
		"a volume on the whole /sys": func(c *configs.Config) { c.Mounts[3].Destination = "/sys" },
	} {
		c := podConfig()
		if !ours(c, 2) {
			t.Fatal("what pods ask for is left to libcontainer")
		}
		change(c)
		if ours(c, 2) {
			t.Errorf("%s is not left to libcontainer", name)
		}
	}
}

// TestTakeOver looks at what libcontainer gets, and at what is left when the hook has
// been called, even in vain.
func TestTakeOver(t *testing.T) {
	if cgroups.IsCgroup2UnifiedMode() {
		t.Skip("this machine has no cgroup v1")
	}
	theirs := configs.NewFunctionHook(func(*specs.State) error { return errors.New("theirs") })
	c := podConfig()
	c.Hooks = configs.Hooks{configs.Prestart: {theirs}, configs.Poststop: {theirs}}
	TakeOver(c)
	if len(c.Mounts) != 3 || c.Mounts[2].Device != "bind" {
		t.Errorf("the mounts are %v", c.Mounts)
	}
	if len(c.Hooks[configs.Prestart]) != 2 || len(c.Hooks[configs.Poststop]) != 1 {
		t.Errorf("the hooks are %v", c.Hooks)
	}
	if err := c.Hooks[configs.Prestart][0].Run(&specs.State{Pid: -1}); err == nil || err.Error() == "theirs" {
		t.Errorf("the first hook's error is %v", err)
	}
	if !reflect.DeepEqual(c.Mounts, podConfig().Mounts) || len(c.Hooks[configs.Prestart]) != 1 {
		t.Errorf("the configuration is not as it was: %v, %v", c.Mounts, c.Hooks)
	}
	c = podConfig()
	c.Mounts = c.Mounts[:2]
	if TakeOver(c); len(c.Hooks) != 0 {
		t.Errorf("there is a hook without a mount of groups")
	}
}
