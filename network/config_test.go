package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types/create"
)

func TestWhichConfigurationWins(t *testing.T) {
	good := list("1.0.0", "good", "bridge")
	for _, tt := range []struct {
		name    string
		files   map[string]string
		file    string
		network string
		skipped string // "file: part of the reason"
	}{
		{"lexically first", map[string]string{"20-b.conflist": list("1.0.0", "b", "x"), "10-a.conflist": good}, "10-a.conflist", "good", ""},
		{"a single plugin's file", map[string]string{"10-a.conf": `{"cniVersion":"0.4.0","name":"single","type":"bridge"}`}, "10-a.conf", "single", ""},
		{"json", map[string]string{"10-a.json": `{"cniVersion":"0.4.0","name":"single","type":"bridge"}`}, "10-a.json", "single", ""},
		{"a list in a .conf file", map[string]string{"10-a.conf": good}, "10-a.conf", "good", ""},
		{"other files do not count", map[string]string{"05-x.bak": good, "06.conflist.swp": good, ".07.conflist": good, "README": "x", "10.conflist": good}, "10.conflist", "good", ""},
		{"broken first file is passed over", map[string]string{"05-x.conflist": `{"name":`, "10.conflist": good}, "10.conflist", "good", "05-x.conflist: unexpected end of JSON input"},
		{"empty file", map[string]string{"05-x.conflist": "", "10.conflist": good}, "10.conflist", "good", "05-x.conflist: unexpected end"},
		{"no name", map[string]string{"05.conflist": `{"plugins":[{"type":"a"}]}`}, "", "", "05.conflist: error parsing configuration list: no name"},
		{"no name in a single one", map[string]string{"05.conf": `{"type":"a"}`}, "", "", "05.conf: missing network name"},
		{"bad name", map[string]string{"05.conflist": list("1.0.0", "../x", "a")}, "", "", "05.conflist: invalid characters found in network name"},
		{"too new", map[string]string{"05.conflist": list("2.0.0", "n", "a")}, "", "", "05.conflist: cniVersion 2.0.0 is newer than 1.1.0"},
		{"newest of several", map[string]string{"05.conflist": `{"cniVersions":["0.4.0","1.1.0","7.0.0"],"name":"n","plugins":[{"type":"a"}]}`}, "05.conflist", "n", ""},
		{"odd version", map[string]string{"05.conflist": list("one", "n", "a")}, "", "", "05.conflist: invalid cniVersion"},
		{"no plugins", map[string]string{"05.conflist": `{"name":"n","cniVersion":"1.0.0","plugins":[]}`}, "", "", "05.conflist: error parsing configuration list: no plugins"},
		{"plugin without a type", map[string]string{"05.conflist": `{"name":"n","cniVersion":"1.0.0","plugins":[{}]}`}, "", "", "05.conflist: failed to parse plugin config 0"},
		{"plugins nowhere", map[string]string{"05.conflist": `{"name":"n","cniVersion":"1.0.0"}`}, "", "", "05.conflist: it lists no plugins"},
		{"plugins in the network's directory", map[string]string{"05.conflist": `{"name":"n","cniVersion":"1.1.0"}`, "n/1.conf": `{"type":"a"}`, "n/2.conf": `{"type":"b"}`}, "05.conflist", "n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range tt.files {
				path := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			s := readDir(dir)
			network := ""
			if s.list != nil {
				network = s.list.Name
			}
			if s.file != tt.file || network != tt.network {
				t.Errorf("network %q from %q, want %q from %q", network, s.file, tt.network, tt.file)
			}
			skipped := ""
			for _, f := range s.skipped {
				skipped += f.File + ": " + f.Reason
			}
			if tt.skipped == "" && skipped != "" || !strings.HasPrefix(skipped, tt.skipped) {
				t.Errorf("skipped %q, want %q", skipped, tt.skipped)
			}
		})
	}
}

// The bytes that are recorded for DEL must be whole even where plugins come
// from files of their own.
func TestRecordedListIsComplete(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/n", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/n/5.conf", []byte(`{"type":"b","x":1}`), 0o644); err != nil {
		t.Fatal(err)
	}
	first, err := parseConfig([]byte(list("1.1.0", "n", "a")), dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parseConfig(first.Bytes, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(pluginNames(again), " "); got != "a b" {
		t.Errorf("plugins %q", got)
	}
}

func TestPluginNamesIncludeIPAM(t *testing.T) {
	l, err := parseConfig([]byte(`{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"bridge","ipam":{"type":"host-local"}},{"type":"portmap"},{"type":"bridge"}]}`), "")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(pluginNames(l), " "); got != "bridge host-local portmap" {
		t.Errorf("got %q", got)
	}
}

func TestQuantity(t *testing.T) {
	for text, want := range map[string]uint64{
		"0": 0, "1": 1, "10M": 10e6, "1k": 1000, "1.5k": 1500, "1Ki": 1024, "1.5Gi": 3 << 29, "1e6": 1e6, "2E3": 2000,
		"+5": 5, ".5k": 500, "5.": 5, "1.0001k": 1001, "0.1": 1, "1P": 1e15, "1E": 1e18,
	} {
		if got, err := parseQuantity(text); err != nil || got != want {
			t.Errorf("%s = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "-1", "1 M", "10m", "1MB", "M", ".", "1e", "1e999", "100E", "99999999999999999999999", "1.5.5"} {
		if got, err := parseQuantity(text); err == nil {
			t.Errorf("%q = %d, want an error", text, got)
		}
	}
}

func TestBandwidthLimits(t *testing.T) {
	for _, text := range []string{"999", "2P"} {
		if _, err := bandwidth(map[string]string{ingressAnnotation: text}); err == nil {
			t.Errorf("%s was accepted", text)
		}
	}
}

func TestDualStackOrder(t *testing.T) {
	result := `{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/x"}],"ips":[
		{"address":"fd00::5/64","interface":0},{"address":"10.0.0.5/24","interface":0},{"address":"192.168.0.1/24"}]}`
	r, err := create.CreateFromBytes([]byte(result))
	if err != nil {
		t.Fatal(err)
	}
	a, err := attachment("n", r, &libcni.RuntimeConf{IfName: "eth0", NetNS: "/x"})
	if err != nil || fmt.Sprint(a.IPs) != "[fd00::5 10.0.0.5 192.168.0.1]" {
		t.Errorf("%v, %v", a.IPs, err)
	}
}

// An address is the pod's if its interface has the pod's name for it, unless that is
// the host's one of that name.
func TestAddressesOfThePod(t *testing.T) {
	for interfaces, want := range map[string]string{
		`{"name":"eth0","sandbox":"/x"},{"name":"br0"}`:  "[10.0.0.5]",
		`{"name":"eth0"},{"name":"br0"}`:                 "[10.0.0.5]",
		`{"name":"eth0"},{"name":"eth0","sandbox":"/x"}`: "[10.0.0.6]",
	} {
		r, err := create.CreateFromBytes([]byte(`{"cniVersion":"1.0.0","interfaces":[` + interfaces + `],"ips":[
			{"address":"10.0.0.5/24","interface":0},{"address":"10.0.0.6/24","interface":1}]}`))
		if err != nil {
			t.Fatal(err)
		}
		a, err := attachment("n", r, &libcni.RuntimeConf{IfName: "eth0", NetNS: "/x"})
		if err != nil || fmt.Sprint(a.IPs) != want {
			t.Errorf("with %s: %v, %v; want %s", interfaces, a.IPs, err, want)
		}
	}
}

func TestChangesTakeEffectAtOnce(t *testing.T) {
	r := newRig(t, nil)
	r.plugin("one", gives)
	attach := func(id, want string) {
		t.Helper()
		a, err := r.Attach(t.Context(), pod(id))
		if err != nil || a.Network != want {
			t.Fatalf("network %q, %v; want %q", a.Network, err, want)
		}
	}
	r.config("20-b.conflist", list("1.0.0", "b", "one"))
	attach("p1", "b")
	r.config("10-a.conflist", list("1.0.0", "a", "one"))
	attach("p2", "a")
	if err := os.Rename(r.conf, r.conf+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(r.conf, 0o755); err != nil {
		t.Fatal(err)
	}
	r.config("10-a.conflist", list("1.0.0", "c", "one"))
	attach("p3", "c")

	// Rewritten in place and half done: the old one holds for a moment, and
	// not the next file's.
	r.config("90-z.conflist", list("1.0.0", "z", "one"))
	path := filepath.Join(r.conf, "10-a.conflist")
	written := func(at time.Time) {
		t.Helper()
		err := os.WriteFile(path+".new", []byte(`{"name": "c`), 0o644)
		if err = errors.Join(err, os.Chtimes(path+".new", at, at), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	written(time.Now().Add(time.Hour)) // a moment that lasts as long as the test
	attach("p4", "c")
	written(time.Now().Add(-time.Minute))
	attach("p5", "z")
}

// The watcher alone tells of a change, without anyone asking, also when the
// directory is made later.
func TestWatcherTells(t *testing.T) {
	r := newRig(t, nil)
	heard := func(want string) {
		t.Helper()
		for range 3000 {
			for _, e := range r.logs.AllEntries() {
				if strings.Contains(e.Message, want) {
					return
				}
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatalf("nothing logged about %q", want)
	}
	r.config("10-a.conflist", list("1.0.0", "first", "one"))
	heard("CNI network first from " + r.conf + "/10-a.conflist")
	r.config("05.conflist", "{")
	heard("05.conflist is broken and not used")
	if err := os.RemoveAll(r.conf); err != nil {
		t.Fatal(err)
	}
	heard("does not exist")
	if err := os.Mkdir(r.conf, 0o755); err != nil {
		t.Fatal(err)
	}
	_ = r.Status(t.Context()) // the kubelet asks every few seconds
	for range 3000 {
		// Again and again: when the new directory is watched is not known.
		r.config("10-a.conflist", list("1.0.0", "second", "one"))
		time.Sleep(20 * time.Millisecond)
		for _, e := range r.logs.AllEntries() {
			if strings.Contains(e.Message, "CNI network second") {
				return
			}
		}
	}
	t.Error("the new directory is not watched")
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(list("1.1.0", "n", "bridge", "portmap")))
	f.Add([]byte(`{"cniVersion":"0.4.0","name":"single","type":"bridge"}`))
	f.Add([]byte(`{"cniVersions":["1.0.0"],"name":"n","disableCheck":"true","plugins":[{"type":"a","ipam":{"type":"b"}}]}`))
	f.Add([]byte(`{"name":1,"plugins":{}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := parseConfig(b, "")
		if err != nil {
			return
		}
		// What was accepted must be accepted again when it is read back.
		again, err := parseConfig(l.Bytes, "")
		if err != nil || again.Name != l.Name || len(again.Plugins) != len(l.Plugins) {
			t.Errorf("%q does not survive: %v", b, err)
		}
	})
}

func FuzzResult(f *testing.F) {
	f.Add([]byte(`{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/x"}],"ips":[{"address":"10.0.0.5/24","interface":0}]}`))
	f.Add([]byte(`{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.5/24"}}`))
	f.Add([]byte(`{"cniVersion":"0.4.0","ips":[{"version":"6","address":"fd00::1/64"}],"interfaces":[null]}`))
	f.Add([]byte(`{"cniVersion":"1.1.0","ips":[null,{"address":"1.2.3.4/32","interface":-1}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if checkOutput(b) != nil {
			return
		}
		r, err := create.CreateFromBytes(b)
		if err != nil {
			return
		}
		a, err := attachment("n", r, &libcni.RuntimeConf{IfName: "eth0"})
		if err == nil && (len(a.IPs) == 0 || !a.IPs[0].IsValid()) {
			t.Errorf("%q gave %v", b, a.IPs)
		}
	})
}

func FuzzLedger(f *testing.F) {
	f.Add([]byte(`{"podID":"p","config":"e30=","args":[["a","b"]]}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "p")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		l := &ledger{f: file, path: path}
		defer l.close()
		if e, err := l.read(); err == nil {
			if e.PodID != "p" {
				t.Errorf("accepted another pod's record: %q", b)
			}
			_, _ = parseConfig(e.Config, "")
		}
	})
}
