package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/criruntime/criruntime/conf"
)

// TestCheckNetworkOfRuntime: a handler without a network hinders its own pods alone.
func TestCheckNetworkOfRuntime(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"net.d/1.conf": `{"cniVersion":"1.0.0","name":"n","type":"one"}`, "net.d/other/1.conf": "{", "bin/one": "#!/bin/sh\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := conf.Default()
	c.Network.ConfDir, c.Network.BinDirs = filepath.Join(dir, "net.d"), []string{filepath.Join(dir, "bin")}
	c.Runtimes = map[string]conf.Handler{"plain": {}, "own": {CNIConfDir: filepath.Join(dir, "net.d/other")}}
	found := checkNetwork(c)
	if len(found) != 3 || found[0].level != ok || found[1].level != warn || found[2].level != warn ||
		found[2].what != "network of runtime own" || !strings.HasPrefix(found[2].state, "no valid CNI configuration in "+dir+"/net.d/other") {
		t.Errorf("found %v", found)
	}
}

// TestCheckRuntimes has one runtime of each kind: whole, dumb, and with a part
// missing.
func TestCheckRuntimes(t *testing.T) {
	dir := t.TempDir()
	program := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	c := &conf.Config{}
	if found := checkRuntimes(c); len(found) > 0 {
		t.Errorf("without runtimes: %v", found)
	}
	shim := program("shim", "")
	c.Runtimes = map[string]conf.Handler{"whole": {Shim: shim}}
	c.Runtime.Adapter = filepath.Join(dir, "adapter")
	if found := checkRuntimes(c); len(found) != 1 || found[0].level != fail {
		t.Errorf("without an adapter: %v", found)
	}
	program("adapter", `case "$2" in *dumb*) echo "it does not know -info" >&2; exit 1;; esac
echo '{"UserNamespaces":true,"RecursiveReadOnly":true}'`)
	c.Runtimes["dumb"] = conf.Handler{Shim: program("dumb", "")}
	c.Runtimes["gone"] = conf.Handler{Shim: filepath.Join(dir, "gone")}
	c.Runtimes["half"] = conf.Handler{Shim: shim, Binary: filepath.Join(dir, "runc")}
	want := []finding{
		{warn, "runtime dumb", "it does not know -info", "neither user namespaces nor"},
		{warn, "runtime gone", "not offered: ", "runtimes.gone.shim"},
		{warn, "runtime half", "runc", "runtimes.half.binary"},
		{ok, "runtime whole", shim + ", with user namespaces and recursive read-only mounts", ""},
	}
	found := checkRuntimes(c)
	if len(found) != len(want) {
		t.Fatalf("found %v", found)
	}
	for i, w := range want {
		if f := found[i]; f.level != w.level || f.what != w.what || !strings.Contains(f.state, w.state) || !strings.Contains(f.advice, w.advice) {
			t.Errorf("got %v, want %v", f, w)
		}
	}
}
