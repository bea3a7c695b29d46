// Package conf is the daemon's configuration: one struct, read once from a TOML
// file and its drop-in directory, complete and valid or not at all. The defaults
// and the meaning of every key are in default.toml alone, which is also what
// users are shown. Only the command reads this package; every other package is
// given its own small options.
package conf

import (
	_ "embed"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// DefaultPath is the file that is read when none is named. It may be absent.
const DefaultPath = "/etc/criruntime/criruntime.toml"

//go:embed default.toml
var reference string

// Reference is the commented default configuration: every key with what it
// means and its default. Parsing it gives the defaults.
func Reference() string { return reference }

// Config is the whole configuration. default.toml documents each key.
type Config struct {
	Root       string     `toml:"root"`
	State      string     `toml:"state"`
	API        API        `toml:"api"`
	TLS        TLS        `toml:"tls"`
	Log        Log        `toml:"log"`
	Runtime    Runtime    `toml:"runtime"`
	Containers Containers `toml:"containers"`
	// Runtimes are by handler.
	Runtimes   map[string]Handler `toml:"runtimes"`
	Image      Image              `toml:"image"`
	Network    Network            `toml:"network"`
	Metrics    Metrics            `toml:"metrics"`
	Tracing    Tracing            `toml:"tracing"`
	NRI        NRI                `toml:"nri"`
	Checkpoint Checkpoint         `toml:"checkpoint"`
}

// API is where the daemon serves.
type API struct {
	Listen               string        `toml:"listen"`
	Streaming            string        `toml:"streaming"`
	StreamingIdleTimeout time.Duration `toml:"streaming_idle_timeout"`
	StreamingCert        string        `toml:"streaming_cert"`
	StreamingKey         string        `toml:"streaming_key"`
	StreamingClientCA    string        `toml:"streaming_client_ca"`
}

// TLS is what connections have to have where there is TLS.
type TLS struct {
	MinVersion   string   `toml:"min_version"`
	CipherSuites []string `toml:"cipher_suites"`
}

// Log is what is logged and how.
type Log struct {
	Level  string `toml:"level"`
	Format string `toml:"format"`
}

// Runtime is how containers run.
type Runtime struct {
	CgroupDriver   string `toml:"cgroup_driver"`
	Shim           string `toml:"shim"`
	ShimCPUs       string `toml:"shim_cpus"`
	DefaultHandler string `toml:"default_handler"`
	Adapter        string `toml:"adapter"`
	Name           string `toml:"name"`
	CgroupPrefix   string `toml:"cgroup_prefix"`
}

// Containers is what all containers get.
type Containers struct {
	Capabilities                       []string `toml:"capabilities"`
	Env                                []string `toml:"env"`
	Ulimits                            []string `toml:"ulimits"`
	Sysctls                            []string `toml:"sysctls"`
	Timezone                           string   `toml:"timezone"`
	Mounts                             []string `toml:"mounts"`
	SeccompProfile                     string   `toml:"seccomp_profile"`
	PrivilegedSeccompProfile           string   `toml:"privileged_seccomp_profile"`
	CgroupWritable                     []string `toml:"cgroup_writable"`
	CDISpecDirs                        []string `toml:"cdi_spec_dirs"`
	HooksDirs                          []string `toml:"hooks_dirs"`
	SELinux                            bool     `toml:"selinux"`
	AppArmorProfile                    string   `toml:"apparmor_profile"`
	BlockIOConfig                      string   `toml:"blockio_config"`
	RDTConfig                          string   `toml:"rdt_config"`
	PidsLimit                          int      `toml:"pids_limit"`
	MaxLogLine                         int      `toml:"max_log_line"`
	DeviceOwnershipFromSecurityContext bool     `toml:"device_ownership_from_security_context"`
	PrivilegedWithoutHostDevices       []string `toml:"privileged_without_host_devices"`
	ExecCPUAffinity                    string   `toml:"exec_cpu_affinity"`
}

// Handler is a runtime handler beside the default one.
type Handler struct {
	Type       string `toml:"type"` // "" is the default
	Shim       string `toml:"shim"`
	Binary     string `toml:"binary"`
	Root       string `toml:"root"`
	Config     string `toml:"config"`
	ConfigType string `toml:"config_type"`
	CNIConfDir string `toml:"cni_conf_dir"`
}

// Image is how images are fetched.
type Image struct {
	RegistriesConf string        `toml:"registries_conf"`
	Policy         string        `toml:"policy"`
	PolicyDir      string        `toml:"policy_dir"`
	RegistriesDir  string        `toml:"registries_dir"`
	AuthFile       string        `toml:"auth_file"`
	AuthDir        string        `toml:"auth_dir"`
	DecryptionKeys string        `toml:"decryption_keys"`
	Pinned         []string      `toml:"pinned"`
	PreloadDir     string        `toml:"preload_dir"`
	ParallelLayers int           `toml:"parallel_layers"`
	StallTimeout   time.Duration `toml:"stall_timeout"`
	Igzip          string        `toml:"igzip"`
}

// Network is where CNI's files are.
type Network struct {
	ConfDir       string        `toml:"conf_dir"`
	BinDirs       []string      `toml:"bin_dirs"`
	PluginTimeout time.Duration `toml:"plugin_timeout"`
	Template      string        `toml:"template"`
}

// Metrics is where Prometheus asks.
type Metrics struct {
	Listen   string `toml:"listen"`
	Cert     string `toml:"cert"`
	Key      string `toml:"key"`
	ClientCA string `toml:"client_ca"`
}

// Tracing is where the spans of requests go.
type Tracing struct {
	Endpoint           string `toml:"endpoint"`
	SamplingPerMillion int    `toml:"sampling_per_million"`
}

// NRI is the Node Resource Interface.
type NRI struct {
	Enable bool   `toml:"enable"`
	Socket string `toml:"socket"`
}

// Checkpoint is how containers are written and restored.
type Checkpoint struct {
	Enable  bool   `toml:"enable"`
	Criu    string `toml:"criu"`
	Restore bool   `toml:"restore"`
}

// Values is the configuration as nested tables, for showing it.
func (c *Config) Values() (map[string]any, error) {
	var b strings.Builder
	if err := toml.NewEncoder(&b).Encode(c); err != nil {
		return nil, err
	}
	values := map[string]any{}
	_, err := toml.Decode(b.String(), &values)
	return values, err
}

// Differing lists the keys that two configurations have other values for, such
// as "log.level", in alphabetical order.
func Differing(a, b *Config) ([]string, error) {
	before, err := a.Values()
	if err != nil {
		return nil, err
	}
	after, err := b.Values()
	if err != nil {
		return nil, err
	}
	keys := differing("", before, after)
	slices.Sort(keys)
	return keys, nil
}

func differing(prefix string, a, b map[string]any) []string {
	all := map[string]any{}
	maps.Copy(all, a)
	maps.Copy(all, b)
	var keys []string
	for k := range all {
		before, isTable := a[k].(map[string]any)
		after, isTableToo := b[k].(map[string]any)
		switch {
		case isTable && isTableToo:
			keys = append(keys, differing(prefix+k+".", before, after)...)
		case !reflect.DeepEqual(a[k], b[k]):
			keys = append(keys, prefix+k)
		}
	}
	return keys
}

// Default returns a new configuration with every key at its default.
func Default() *Config {
	c := &Config{}
	if _, err := toml.Decode(reference, c); err != nil {
		panic(fmt.Sprintf("the built-in default configuration is invalid: %v", err))
	}
	return c
}
