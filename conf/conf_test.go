package conf

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
)

// The reference is the one owner of defaults and documentation: it must know
// every key and no other, and say something about each.
func TestReferenceIsComplete(t *testing.T) {
	var c Config
	md, err := toml.Decode(Reference(), &c)
	if err != nil {
		t.Fatal(err)
	}
	if u := md.Undecoded(); len(u) > 0 {
		t.Errorf("keys without a field: %v", u)
	}
	lines := strings.Split(Reference(), "\n")
	for key := range keys() {
		if table, name, ok := strings.Cut(key, ".*"); ok {
			if name != "" && !strings.Contains(Reference(), "\n# "+name[1:]+": ") {
				t.Errorf("key %s of tables in %s is not documented", name[1:], table)
			}
			continue
		}
		k := toml.Key(strings.Split(key, "."))
		if !md.IsDefined(k...) {
			t.Errorf("key %s is not documented", key)
			continue
		}
		n := line(Reference(), k)
		if n < 2 {
			t.Errorf("no line found for %s", key)
		} else if md.Type(k...) != "Hash" && !strings.HasPrefix(lines[n-2], "# ") {
			t.Errorf("no comment above %s", key)
		}
	}
}

func TestDefaultIsValid(t *testing.T) {
	if f := Default().validate(); len(f) > 0 {
		t.Fatalf("faults in the defaults: %v", f)
	}
	if a, b := Default(), Default(); !reflect.DeepEqual(a, b) || &a.Network.BinDirs[0] == &b.Network.BinDirs[0] {
		t.Error("two defaults differ or share memory")
	}
}

// These names are a promise to users.
func TestFixedDefaults(t *testing.T) {
	c := Default()
	for _, tt := range []struct{ name, got, want string }{
		{"root", c.Root, "/var/lib/criruntime"},
		{"state", c.State, "/run/criruntime"},
		{"api.listen", c.API.Listen, "/run/criruntime/criruntime.sock"},
		{"log.level", c.Log.Level, "info"},
		{"log.format", c.Log.Format, "text"},
		{"runtime.cgroup_driver", c.Runtime.CgroupDriver, "auto"},
		{"runtime.shim", c.Runtime.Shim, "criruntime-shim"},
		{"runtime.default_handler", c.Runtime.DefaultHandler, "default"},
		{"image.registries_conf", c.Image.RegistriesConf, ""},
		{"image.policy", c.Image.Policy, ""},
		{"network.conf_dir", c.Network.ConfDir, "/etc/cni/net.d"},
		{"network.bin_dirs", strings.Join(c.Network.BinDirs, ":"), "/opt/cni/bin"},
		{"metrics.listen", c.Metrics.Listen, ""},
		{"nri.socket", c.NRI.Socket, "/var/run/nri/nri.sock"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s = %q, want %q", tt.name, tt.got, tt.want)
		}
	}
	if !c.NRI.Enable {
		t.Error("nri.enable is off")
	}
}

func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "c.toml")
}

func TestDropInsOverrideInLexicalOrder(t *testing.T) {
	path := write(t, map[string]string{
		"c.toml":             "root = \"/a\"\n[log]\nlevel = \"debug\"\n[network]\nbin_dirs = [\"/one\", \"/two\"]\nplugin_timeout = \"90s\"\n",
		"c.toml.d/20-b.toml": "[log]\nlevel = \"warning\"\n",
		"c.toml.d/10-a.toml": "[log]\nlevel = \"error\"\nformat = \"json\"\n[network]\nbin_dirs = [\"/three\"]\n",
		"c.toml.d/.x.toml":   "nonsense",
		"c.toml.d/x.bak":     "nonsense",
	})
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if c.Root != "/a" || c.Log.Level != "warning" || c.Log.Format != "json" ||
		!slices.Equal(c.Network.BinDirs, []string{"/three"}) || c.Network.PluginTimeout != 90*time.Second ||
		c.State != "/run/criruntime" {
		t.Errorf("got %+v", c)
	}
}

// Tables that users name are overridden key by key as well.
func TestHandlersOverride(t *testing.T) {
	path := write(t, map[string]string{
		"c.toml":             "[runtimes.crun]\nshim = \"/a\"\nbinary = \"crun\"\n[runtimes.gvisor]\nshim = \"io.containerd.runsc.v1\"\n",
		"c.toml.d/10-a.toml": "[runtimes.crun]\nbinary = \"/b\"\n[runtimes.kata-fc]\nshim = \"/c\"\n",
	})
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Handler{
		"crun": {Shim: "/a", Binary: "/b"}, "gvisor": {Shim: "io.containerd.runsc.v1"}, "kata-fc": {Shim: "/c"},
	}
	if !reflect.DeepEqual(c.Runtimes, want) {
		t.Errorf("got %+v", c.Runtimes)
	}
}

func TestHandlerFaults(t *testing.T) {
	for text, want := range map[string]string{
		"[runtimes.a]\nbinary = \"crun\"\n":                                                "runtimes.a.shim: must be",
		"[runtimes.a]\nshim = \"x/y\"\n":                                                   "runtimes.a.shim: must be",
		"[runtimes.a]\nshim = \"x\"\ntype = \"oci\"\n":                                     ":3: runtimes.a.type: must be one of shim-v2",
		"[runtimes.a]\nshim = \"x\"\nconfig = \"/y\"\n":                                    "runtimes.a.config_type: must be set",
		"[runtimes.a]\nshim = \"x\"\nconfig = \"/y\"\nconfig_type = \"z\"\nroot = \"/\"\n": "runtimes.a.config: cannot be set",
		"[runtimes.a]\nshim = \"x\"\ncni_conf_dir = \"net.d\"\n":                           ":3: runtimes.a.cni_conf_dir: must be an absolute path",
		"[runtimes.a]\nshin = \"x\"\n":                                                     ":2: runtimes.a.shin: unknown key; is runtimes.*.shim meant?",
		"[runtimes]\na = 3\n":                                                              "runtimes.a: must be a table",
		"[runtimes.default]\nshim = \"x\"\n":                                               "runtimes.default: must have another name",
		"[runtimes.\"a.b\"]\nshim = \"x\"\n":                                               "runtimes.a.b: must be named",
	} {
		_, err := Load(write(t, map[string]string{"c.toml": text}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

func TestFaultsNameFileLineAndKey(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  []string // "DIR" stands for the directory
	}{
		{"unknown key", map[string]string{"c.toml": "root = \"/a\"\n\n[network]\n# x\nconfdir = \"/x\"\n"},
			[]string{"DIR/c.toml:5: network.confdir: unknown key; is network.conf_dir meant?"}},
		{"wrong table", map[string]string{"c.toml": "[image]\nconf_dir = \"/x\"\n"},
			[]string{"DIR/c.toml:2: image.conf_dir: unknown key; is network.conf_dir meant?"}},
		{"unknown table", map[string]string{"c.toml": "[netwrok]\nconf_dir = \"/x\"\n"},
			[]string{"DIR/c.toml:1: netwrok: unknown key; is network meant?"}},
		{"nothing near", map[string]string{"c.toml": "[log]\ncolourful_output = true\n"},
			[]string{"DIR/c.toml:2: log.colourful_output: unknown key"}},
		{"dotted", map[string]string{"c.toml": "log . levle = \"info\"\n"},
			[]string{"DIR/c.toml:1: log.levle: unknown key; is log.level meant?"}},
		{"wrong type", map[string]string{"c.toml": "[log]\nlevel = 3\n"},
			[]string{"DIR/c.toml:2: log.level: must be a string in quotes"}},
		{"several wrong types", map[string]string{"c.toml": "nri = 1\n[network]\nbin_dirs = [1]\nplugin_timeout = 3\n[metrics]\nlisten = false\n"},
			[]string{
				"DIR/c.toml:1: nri: must be a table",
				"DIR/c.toml:3: network.bin_dirs: must be an array of strings such as [\"a\", \"b\"]",
				"DIR/c.toml:4: network.plugin_timeout: must be a duration such as \"90s\" or \"5m\"",
				"DIR/c.toml:6: metrics.listen: must be a string in quotes",
			}},
		{"syntax", map[string]string{"c.toml": "[log]\nlevel = \"info\n"},
			[]string{"DIR/c.toml:2: log.level: strings cannot contain newlines"}},
		{"duration", map[string]string{"c.toml": "[network]\nplugin_timeout = \"soon\"\n"},
			[]string{"DIR/c.toml:2: network.plugin_timeout: invalid duration: \"soon\""}},
		{"values", map[string]string{"c.toml": "state = \"run\"\n[log]\nlevel = \"loud\"\n", "c.toml.d/1.toml": "[api]\nlisten = \"unix:///a\"\n"},
			[]string{
				"DIR/c.toml:1: state: must be an absolute path, not \"run\"",
				"DIR/c.toml.d/1.toml:2: api.listen: must be a path without \"unix://\"",
				"DIR/c.toml:3: log.level: must be one of trace, debug, info, warning, error, not \"loud\"",
			}},
		{"the last that set it is to blame", map[string]string{"c.toml": "[log]\nformat = \"text\"\n", "c.toml.d/1.toml": "\n[log]\nformat = \"xml\"\n"},
			[]string{"DIR/c.toml.d/1.toml:3: log.format: must be one of text, json, not \"xml\""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, tt.files)
			_, err := Load(path)
			if err == nil {
				t.Fatal("no error")
			}
			want := strings.ReplaceAll(strings.Join(tt.want, "\n"), "DIR", filepath.Dir(path))
			if err.Error() != want {
				t.Errorf("got\n%v\nwant\n%s", err, want)
			}
			var e *Error
			if !errors.As(err, &e) {
				t.Error("it is no *Error")
			}
		})
	}
}

func TestEveryRuleOfValidation(t *testing.T) {
	long := "/" + strings.Repeat("x", 120)
	for _, tt := range []struct {
		set  func(*Config)
		want string
	}{
		{func(c *Config) { c.Root = "/" }, "root: must not be the file system's root"},
		{func(c *Config) { c.State = c.Root }, "state: must not be the same directory as root"},
		{func(c *Config) { c.API.Listen = long }, "api.listen: is 121 bytes long, and a socket's path can have 107"},
		{func(c *Config) { c.API.Listen = "" }, `api.listen: must be an absolute path, not ""`},
		{func(c *Config) { c.API.Streaming = "localhost" }, `api.streaming: must be "host:port", not "localhost"`},
		{func(c *Config) { c.API.Streaming = "a:70000" }, `api.streaming: "70000" is not a port from 0 to 65535`},
		{func(c *Config) { c.API.StreamingIdleTimeout = 0 }, "api.streaming_idle_timeout: must be at least 1s, not 0s"},
		{func(c *Config) { c.Runtime.CgroupDriver = "x" }, `runtime.cgroup_driver: must be one of auto, cgroupfs, systemd, not "x"`},
		{func(c *Config) { c.Runtime.Shim = "bin/shim" }, `runtime.shim: must be an absolute path or a program's name, not "bin/shim"`},
		{func(c *Config) { c.Runtime.DefaultHandler = "" }, "runtime.default_handler: must not be empty"},
		{func(c *Config) { c.Image.Policy = "p" }, `image.policy: must be an absolute path or empty, not "p"`},
		{func(c *Config) { c.Image.PreloadDir = "p" }, `image.preload_dir: must be an absolute path or empty, not "p"`},
		{func(c *Config) { c.Image.Pinned = []string{"a", ""} }, "image.pinned: must not contain an empty name"},
		{func(c *Config) { c.Network.BinDirs = nil }, "network.bin_dirs: must name at least one directory"},
		{func(c *Config) { c.Network.BinDirs = []string{"x"} }, `network.bin_dirs: must be an absolute path, not "x"`},
		{func(c *Config) { c.Metrics.Listen = "9090" }, `metrics.listen: must be "host:port", not "9090"`},
		{func(c *Config) { c.NRI.Socket = "" }, `nri.socket: must be an absolute path, not ""`},
		{func(c *Config) { c.API.StreamingCert = "/c" }, "api.streaming_key: must be set together with api.streaming_cert"},
		{func(c *Config) { c.API.StreamingClientCA = "/c" }, "api.streaming_client_ca: needs api.streaming_cert"},
		{func(c *Config) { c.API.StreamingCert, c.API.StreamingKey, c.API.StreamingClientCA = "/c", "/k", "/a" }, ""},
		{func(c *Config) { c.Metrics.Key, c.Metrics.ClientCA = "/k", "a" }, "metrics.client_ca: must be an absolute path or empty, not \"a\"\n" +
			"metrics.key: must be set together with metrics.cert\nmetrics.client_ca: needs metrics.cert"},
		{func(c *Config) { c.TLS.MinVersion = "1.2" }, `tls.min_version: must be one of VersionTLS12, VersionTLS13, not "1.2"`},
		{func(c *Config) { c.TLS.MinVersion = "VersionTLS13" }, ""},
		{func(c *Config) { c.TLS.CipherSuites = []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"} }, ""},
		{func(c *Config) {
			c.TLS.MinVersion, c.TLS.CipherSuites = "VersionTLS13", []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}
		}, "tls.cipher_suites: cannot be set together with VersionTLS13, whose suites are not to choose"},
		{func(c *Config) { c.TLS.CipherSuites = []string{"TLS_RSA_WITH_RC4_128_SHA", "TLS_AES_128_GCM_SHA256"} },
			`tls.cipher_suites: "TLS_RSA_WITH_RC4_128_SHA" is not a secure cipher suite of TLS 1.2` + "\n" +
				`tls.cipher_suites: "TLS_AES_128_GCM_SHA256" is not a secure cipher suite of TLS 1.2`},
		{func(c *Config) { c.Image.ParallelLayers = 0 }, "image.parallel_layers: must be from 1 to 64, not 0"},
		{func(c *Config) { c.Image.StallTimeout = 0 }, "image.stall_timeout: must be at least 1s, not 0s"},
		{func(c *Config) { c.NRI.Enable, c.NRI.Socket = false, "" }, ""},
		{func(c *Config) { c.Runtime.Name = "a/b" }, `runtime.name: must be made of letters, digits, '-', '_' and '.', not "a/b"`},
		{func(c *Config) { c.Runtime.CgroupPrefix = ".." }, `runtime.cgroup_prefix: must be made of letters, digits, '-', '_' and '.', not ".."`},
		{func(c *Config) { c.Tracing.Endpoint = "127.0.0.1:4317" }, `tracing.endpoint: must be like "http://127.0.0.1:4317", not "127.0.0.1:4317"`},
		{func(c *Config) { c.Tracing.SamplingPerMillion = 1000001 }, `tracing.sampling_per_million: must be from 0 to 1000000, not 1000001`},
		{func(c *Config) { c.Containers.HooksDirs = []string{"x"} }, `containers.hooks_dirs: must be an absolute path, not "x"`},
		{func(c *Config) { c.Containers.CDISpecDirs = []string{"x"} }, `containers.cdi_spec_dirs: must be an absolute path, not "x"`},
		{func(c *Config) { c.Containers.SeccompProfile = "x" }, `containers.seccomp_profile: must be an absolute path or empty, not "x"`},
		{func(c *Config) { c.Containers.PrivilegedSeccompProfile = "x" }, `containers.privileged_seccomp_profile: must be an absolute path or empty, not "x"`},
		{func(c *Config) { c.Containers.Env = []string{"TZ"} }, `containers.env: "TZ" is not of the form NAME=value`},
		{func(c *Config) { c.Containers.AppArmorProfile = "" }, `containers.apparmor_profile: "" is not the name of a profile`},
		{func(c *Config) { c.Containers.BlockIOConfig, c.Containers.RDTConfig = "a", "b" }, `containers.blockio_config: must be an absolute path or empty, not "a"` + "\n" +
			`containers.rdt_config: must be an absolute path or empty, not "b"`},
		{func(c *Config) { c.Containers.PidsLimit = -1 }, "containers.pids_limit: must be 0 or more, not -1"},
		{func(c *Config) { c.Containers.MaxLogLine = -1 }, "containers.max_log_line: must be from 1024 to 1048576, not -1"},
		{func(c *Config) { c.Containers.MaxLogLine = 1<<20 + 1 }, "containers.max_log_line: must be from 1024 to 1048576, not 1048577"},
		{func(c *Config) { c.Containers.ExecCPUAffinity = "last" }, `containers.exec_cpu_affinity: must be one of , first, not "last"`},
		{func(c *Config) { c.Metrics.Listen = ":9090" }, ""},
	} {
		c := Default()
		tt.set(c)
		var got []string
		for _, f := range c.validate() {
			got = append(got, f.key+": "+f.text)
		}
		if strings.Join(got, "\n") != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestValues(t *testing.T) {
	v, err := Default().Values()
	if err != nil {
		t.Fatal(err)
	}
	network, _ := v["network"].(map[string]any)
	if v["root"] != "/var/lib/criruntime" || network["plugin_timeout"] != "1m0s" {
		t.Errorf("got %v", v)
	}
}

func TestMissingFile(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "none.toml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a named file that is missing: %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(Reference())
	f.Add("[log]\nlevel = 3")
	f.Add("x = [{a=1}]\n[[log]]\nlevel='a'")
	f.Add("\"log\".'level' = \"info\"\n[ api ]\nlisten=\"\"")
	position := regexp.MustCompile(`^f(:[0-9]+)?: `)
	f.Fuzz(func(t *testing.T, text string) {
		s := source{file: "f", text: text}
		c := Default()
		for _, err := range s.decode(c) {
			if !position.MatchString(err.Error()) {
				t.Errorf("the error names no file: %v", err)
			}
		}
		blame(c.validate(), []source{s})
	})
}
