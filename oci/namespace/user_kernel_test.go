//go:build kernel

package namespace

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/oci/thread"
)

func userOptions(t *testing.T) Options {
	o := options(t)
	o.User = strings.TrimSuffix(o.Net, "net") + "user"
	o.UIDs = []spec.IDMapping{{Container: 0, Host: 100000, Length: 65536}}
	o.GIDs = []spec.IDMapping{{Container: 0, Host: 300000, Length: 65536}}
	return o
}

// owner is the inode of the user namespace that a pinned namespace belongs to.
func owner(t *testing.T, path string) uint64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Ino
}

func TestUserNamespaceOwnsTheOthers(t *testing.T) {
	o := userOptions(t)
	o.Hostname = "mapped"
	o.Sysctls = map[string]string{
		"net.ipv4.ip_unprivileged_port_start": "80",
		"kernel.shm_rmid_forced":              "1",
		"kernel.msgmax":                       "4096",
	}
	if err := Create(o); err != nil {
		t.Fatal(err)
	}
	removeAll := func() {
		for _, k := range kinds {
			if err := Remove(k.path(&o)); err != nil {
				t.Error(err)
			}
		}
	}
	defer removeAll()
	var user unix.Stat_t
	if err := unix.Stat(o.User, &user); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{o.Net, o.IPC, o.UTS} {
		if got := owner(t, path); got != user.Ino {
			t.Errorf("%s belongs to user namespace %d, want %d", path, got, user.Ino)
		}
	}
	joinable := o
	joinable.User = "" // a thread cannot join
	in(t, joinable, func() error {
		name, err := os.Hostname()
		if err != nil || name != "mapped" {
			t.Errorf("host name %q, error %v", name, err)
		}
		for file, want := range map[string]string{
			"net/ipv4/ip_unprivileged_port_start": "80", "kernel/shm_rmid_forced": "1", "kernel/msgmax": "4096",
		} {
			if got, err := os.ReadFile("/proc/sys/" + file); err != nil || strings.TrimSpace(string(got)) != want {
				t.Errorf("%s is %q, error %v", file, got, err)
			}
		}
		return nil
	})
	removeAll()
	for _, k := range kinds {
		if _, err := os.Lstat(k.path(&o)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", k.path(&o), err)
		}
	}
}

// TestUserNamespaceMapsAndAllowsGroups looks at the namespace from its process.
func TestUserNamespaceMapsAndAllowsGroups(t *testing.T) {
	o := userOptions(t)
	err := thread.Run(func() error {
		return WithUser(o.UIDs, o.GIDs, 0, func(proc string) error {
			for file, want := range map[string]string{
				"uid_map": "0 100000 65536", "gid_map": "0 300000 65536", "setgroups": "allow",
			} {
				got, err := os.ReadFile(proc + "/" + file)
				if err != nil {
					return err
				}
				if fields := strings.Join(strings.Fields(string(got)), " "); fields != want {
					t.Errorf("%s is %q, want %q", file, fields, want)
				}
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestUserNamespaceFailsWhole(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"a mapping that the kernel refuses": func(o *Options) { o.UIDs[0].Length = 0 },
		"a sysctl that the kernel refuses":  func(o *Options) { o.Sysctls = map[string]string{"kernel.msgmax": "x"} },
		"a path that is taken": func(o *Options) {
			dir := strings.TrimSuffix(o.UTS, "/uts")
			if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(o.UTS, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		o := userOptions(t)
		change(&o)
		if err := Create(o); err == nil {
			t.Errorf("%s: no error", name)
		}
		for _, path := range []string{o.Net, o.IPC, o.User} {
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: %s: %v", name, path, err)
			}
		}
	}
}
