package network

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

// rig is a Network on scratch directories with plugins that are shell scripts.
type rig struct {
	*Network
	t                   *testing.T
	conf, bin, cache, d string
	logs                *logtest.Hook
	seen                chan string // "plugin COMMAND"
}

func newRig(t *testing.T, change func(*Options)) *rig {
	t.Helper()
	d := t.TempDir()
	r := &rig{t: t, d: d, conf: d + "/net.d", bin: d + "/bin", cache: d + "/cache", seen: make(chan string, 1000)}
	for _, dir := range []string{r.conf, r.bin} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	logger, hook := logtest.NewNullLogger()
	logger.SetLevel(logrus.DebugLevel)
	r.logs = hook
	o := Options{
		ConfDir: r.conf, BinDirs: []string{r.bin}, CacheDir: r.cache, PluginTimeout: time.Minute, Log: logrus.NewEntry(logger),
		Observe: func(plugin, command string, _ time.Duration, _ error) { r.seen <- plugin + " " + command },
	}
	if change != nil {
		change(&o)
	}
	n, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Network = n
	t.Cleanup(func() { n.Close() })
	return r
}

// plugin writes a plugin. Each run appends its command to the file <name>.calls
// and leaves its input in <name>.<COMMAND>.in and its environment beside it.
func (r *rig) plugin(name, script string) {
	r.t.Helper()
	text := fmt.Sprintf(`#!/bin/sh
d=%s
echo "$CNI_COMMAND $CNI_CONTAINERID" >>$d/%s.calls
cat >$d/%s.$CNI_COMMAND.in
env >$d/%s.$CNI_COMMAND.env
%s
`, r.d, name, name, name, script)
	path := filepath.Join(r.bin, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) config(file, text string) {
	r.t.Helper()
	path := filepath.Join(r.conf, file)
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) read(name string) string {
	b, err := os.ReadFile(filepath.Join(r.d, name))
	if err != nil && !os.IsNotExist(err) {
		r.t.Fatal(err)
	}
	return string(b)
}

func (r *rig) calls(plugin string) string {
	return strings.ReplaceAll(strings.TrimSpace(r.read(plugin+".calls")), "\n", ",")
}

// records counts what the cache still knows.
func (r *rig) records() int {
	r.t.Helper()
	n := 0
	for _, dir := range []string{"attachments", "results"} {
		entries, err := os.ReadDir(filepath.Join(r.cache, dir))
		if err != nil && !os.IsNotExist(err) {
			r.t.Fatal(err)
		}
		n += len(entries)
	}
	return n
}

// list is a configuration with the given plugins.
func list(version, name string, plugins ...string) string {
	var b strings.Builder
	for i, p := range plugins {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, `{"type":%q,"capabilities":{"portMappings":true,"dns":true,"bandwidth":true,"cgroupPath":true}}`, p)
	}
	return fmt.Sprintf(`{"cniVersion":%q,"name":%q,"plugins":[%s]}`, version, name, b.String())
}

// gives is a plugin that succeeds with an address on the pod's interface.
const gives = `[ $CNI_COMMAND = ADD ] || exit 0
cat <<E
{"cniVersion":"1.0.0","interfaces":[{"name":"veth1"},{"name":"$CNI_IFNAME","sandbox":"$CNI_NETNS"}],
 "ips":[{"address":"10.9.8.7/24","interface":1}]}
E`

func pod(id string) Pod {
	return Pod{ID: id, Name: "web", Namespace: "shop", UID: "u-1", NetNS: "/run/netns/none"}
}
