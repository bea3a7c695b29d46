//go:build kernel

package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// The diagnosis of a scratch configuration: what is there, and then each thing
// that is missing.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("c.toml", fmt.Sprintf(`root = "%[1]s/root"
state = "%[1]s/state"
api.listen = "%[1]s/sock"
runtime.cgroup_driver = "cgroupfs"
runtime.shim = "%[1]s/shim"
image.auth_file = "%[1]s/auth.json"
image.policy = "%[1]s/policy.json"
[network]
conf_dir = "%[1]s/net.d"
bin_dirs = ["%[1]s/bin"]
`, dir), 0o644)
	examine := func(wantErr bool, want ...string) {
		t.Helper()
		var out bytes.Buffer
		if err := check(filepath.Join(dir, "c.toml"), &out); (err != nil) != wantErr {
			t.Errorf("error %v\n%s", err, &out)
		}
		for _, w := range want {
			if !regexp.MustCompile(`(?m)^` + w).MatchString(out.String()) {
				t.Errorf("no line %q in\n%s", w, &out)
			}
		}
	}
	examine(true, `FAIL  shim: shim .*/shim is not an executable`, `FAIL  network: no CNI configuration: .*/net.d does not exist`,
		`OK    overlay: works`, `OK    user: root`, `OK    kernel: \d`, `(OK|WARN) +cgroups: version`, `OK    disk of root: `, `OK    daemon: does not run`,
		`FAIL  image.policy: .*/policy.json: no such file`, `WARN  image.auth_file: .*/auth.json: no such file`, `This machine cannot run pods yet`)
	write("shim", "", 0o755)
	write("policy.json", "{}", 0o644)
	write("net.d/05.conf", "{", 0o644)
	write("net.d/10.conflist", `{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"portmap"}]}`, 0o644)
	examine(true, `OK    shim: `, `WARN  network: .*/05.conf is broken`, `FAIL  network: plugin portmap of network n not found in .*/bin`)
	write("bin/portmap", "#!/bin/sh\n", 0o755)
	l, err := net.Listen("unix", filepath.Join(dir, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	examine(false, `OK    network: n from .*/net.d/10.conflist with the plugins portmap`, `(OK|WARN) +host ports: `, `OK    daemon: serves on`)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	examine(false, `OK    daemon: does not run; the socket that an earlier one left`)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 6 {
		t.Errorf("the diagnosis left something: %v, %v", entries, err)
	}
}
