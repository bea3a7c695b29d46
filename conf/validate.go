package conf

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxSocketPath is what fits into a unix socket's address.
const maxSocketPath = 107

// handlerName is what a RuntimeClass's handler can be: a DNS label.
var handlerName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// fault is a key with a value that cannot be used.
type fault struct{ key, text string }

// validate finds every fault that shows without looking at the machine.
func (c *Config) validate() []fault {
	v := &validator{}
	v.directory("root", c.Root)
	v.directory("state", c.State)
	if c.Root == c.State {
		v.add("state", "must not be the same directory as root")
	}
	v.socket("api.listen", c.API.Listen)
	v.address("api.streaming", c.API.Streaming)
	v.atLeast("api.streaming_idle_timeout", c.API.StreamingIdleTimeout, time.Second)
	v.certificate("api.streaming_", c.API.StreamingCert, c.API.StreamingKey, c.API.StreamingClientCA)
	c.TLS.validate(v)
	v.oneOf("log.level", c.Log.Level, "trace", "debug", "info", "warning", "error")
	v.oneOf("log.format", c.Log.Format, "text", "json")
	v.oneOf("runtime.cgroup_driver", c.Runtime.CgroupDriver, "auto", "cgroupfs", "systemd")
	if c.Runtime.Shim == "" || strings.Contains(c.Runtime.Shim, "/") && !filepath.IsAbs(c.Runtime.Shim) {
		v.add("runtime.shim", "must be an absolute path or a program's name, not %q", c.Runtime.Shim)
	}
	if c.Runtime.DefaultHandler == "" {
		v.add("runtime.default_handler", "must not be empty")
	}
	v.word("runtime.name", c.Runtime.Name)
	if c.Runtime.CgroupPrefix != "" {
		v.word("runtime.cgroup_prefix", c.Runtime.CgroupPrefix)
	}
	c.Containers.validate(v)
	if c.Runtime.Adapter == "" || strings.Contains(c.Runtime.Adapter, "/") && !filepath.IsAbs(c.Runtime.Adapter) {
		v.add("runtime.adapter", "must be an absolute path or a program's name, not %q", c.Runtime.Adapter)
	}
	for name, h := range c.Runtimes {
		v.handler("runtimes."+name, &h)
		switch {
		case name == c.Runtime.DefaultHandler:
			v.add("runtimes."+name, "must have another name than the default handler")
		case !handlerName.MatchString(name):
			v.add("runtimes."+name, "must be named with lower-case letters, digits and \"-\", as a RuntimeClass names it")
		}
	}
	v.file("image.registries_conf", c.Image.RegistriesConf)
	v.file("image.policy", c.Image.Policy)
	v.file("image.policy_dir", c.Image.PolicyDir)
	v.file("image.registries_dir", c.Image.RegistriesDir)
	v.file("image.auth_file", c.Image.AuthFile)
	v.file("image.auth_dir", c.Image.AuthDir)
	v.file("image.decryption_keys", c.Image.DecryptionKeys)
	v.file("image.preload_dir", c.Image.PreloadDir)
	if slices.Contains(c.Image.Pinned, "") {
		v.add("image.pinned", "must not contain an empty name")
	}
	if c.Image.ParallelLayers < 1 || c.Image.ParallelLayers > 64 {
		v.add("image.parallel_layers", "must be from 1 to 64, not %d", c.Image.ParallelLayers)
	}
	v.atLeast("image.stall_timeout", c.Image.StallTimeout, time.Second)
	v.directory("network.conf_dir", c.Network.ConfDir)
	if len(c.Network.BinDirs) == 0 {
		v.add("network.bin_dirs", "must name at least one directory")
	}
	for _, dir := range c.Network.BinDirs {
		v.directory("network.bin_dirs", dir)
	}
	v.atLeast("network.plugin_timeout", c.Network.PluginTimeout, time.Second)
	v.file("network.template", c.Network.Template)
	if c.Metrics.Listen != "" {
		v.address("metrics.listen", c.Metrics.Listen)
	}
	v.certificate("metrics.", c.Metrics.Cert, c.Metrics.Key, c.Metrics.ClientCA)
	c.Tracing.validate(v)
	if p := c.Checkpoint.Criu; filepath.Base(p) != "criu" || p != "criu" && !filepath.IsAbs(p) {
		v.add("checkpoint.criu", "must be \"criu\" or an absolute path that ends in it, not %q", p)
	}
	if c.NRI.Enable {
		v.socket("nri.socket", c.NRI.Socket)
	}
	return v.faults
}

func (c *Containers) validate(v *validator) {
	for _, e := range c.Env {
		if strings.IndexByte(e, '=') <= 0 || strings.ContainsRune(e, 0) {
			v.add("containers.env", "%q is not of the form NAME=value", e)
		}
	}
	if c.AppArmorProfile == "" || strings.ContainsAny(c.AppArmorProfile, "\x00\n") {
		v.add("containers.apparmor_profile", "%q is not the name of a profile", c.AppArmorProfile)
	}
	for _, dir := range c.CDISpecDirs {
		v.directory("containers.cdi_spec_dirs", dir)
	}
	for _, dir := range c.HooksDirs {
		v.directory("containers.hooks_dirs", dir)
	}
	v.file("containers.seccomp_profile", c.SeccompProfile)
	v.file("containers.privileged_seccomp_profile", c.PrivilegedSeccompProfile)
	v.file("containers.blockio_config", c.BlockIOConfig)
	v.file("containers.rdt_config", c.RDTConfig)
	if c.PidsLimit < 0 {
		v.add("containers.pids_limit", "must be 0 or more, not %d", c.PidsLimit)
	}
	if c.MaxLogLine < 1<<10 || c.MaxLogLine > 1<<20 {
		v.add("containers.max_log_line", "must be from 1024 to 1048576, not %d", c.MaxLogLine)
	}
	v.oneOf("containers.exec_cpu_affinity", c.ExecCPUAffinity, "", "first")
}

func (t *Tracing) validate(v *validator) {
	if t.Endpoint != "" {
		u, err := url.Parse(t.Endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			v.add("tracing.endpoint", "must be like \"http://127.0.0.1:4317\", not %q", t.Endpoint)
		}
	}
	if t.SamplingPerMillion < 0 || t.SamplingPerMillion > 1_000_000 {
		v.add("tracing.sampling_per_million", "must be from 0 to 1000000, not %d", t.SamplingPerMillion)
	}
}

type validator struct{ faults []fault }

func (v *validator) add(key, format string, args ...any) {
	v.faults = append(v.faults, fault{key, fmt.Sprintf(format, args...)})
}

func (v *validator) directory(key, value string) {
	if !filepath.IsAbs(value) {
		v.add(key, "must be an absolute path, not %q", value)
	} else if filepath.Clean(value) == "/" {
		v.add(key, "must not be the file system's root")
	}
}

// word accepts what can be part of a file's name.
func (v *validator) word(key, value string) {
	if value == "" || strings.ContainsFunc(value, func(r rune) bool {
		return r != '-' && r != '_' && r != '.' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) || strings.HasPrefix(value, ".") {
		v.add(key, "must be made of letters, digits, '-', '_' and '.', not %q", value)
	}
}

func (v *validator) handler(key string, h *Handler) {
	if h.Type != "" {
		v.oneOf(key+".type", h.Type, "shim-v2")
	}
	if h.Shim == "" || strings.Contains(h.Shim, "/") && !filepath.IsAbs(h.Shim) {
		v.add(key+".shim", "must be an absolute path or a name, not %q", h.Shim)
	}
	if strings.Contains(h.Binary, "/") && !filepath.IsAbs(h.Binary) {
		v.add(key+".binary", "must be an absolute path or a program's name, not %q", h.Binary)
	}
	v.file(key+".root", h.Root)
	v.file(key+".config", h.Config)
	if h.CNIConfDir != "" {
		v.directory(key+".cni_conf_dir", h.CNIConfDir)
	}
	if (h.Config == "") != (h.ConfigType == "") {
		v.add(key+".config_type", "must be set together with config")
	}
	if h.Config != "" && (h.Binary != "" || h.Root != "") {
		v.add(key+".config", "cannot be set together with binary or root, which are for containerd-shim-runc-v2")
	}
}

// file accepts "" for none.
func (v *validator) file(key, value string) {
	if value != "" && !filepath.IsAbs(value) {
		v.add(key, "must be an absolute path or empty, not %q", value)
	}
}

func (v *validator) socket(key, value string) {
	switch {
	case strings.HasPrefix(value, "unix://"):
		v.add(key, "must be a path without %q", "unix://")
	case !filepath.IsAbs(value):
		v.add(key, "must be an absolute path, not %q", value)
	case len(value) > maxSocketPath:
		v.add(key, "is %d bytes long, and a socket's path can have %d", len(value), maxSocketPath)
	}
}

func (v *validator) address(key, value string) {
	_, port, err := net.SplitHostPort(value)
	if err != nil {
		v.add(key, "must be \"host:port\", not %q", value)
		return
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		v.add(key, "%q is not a port from 0 to 65535", port)
	}
}

func (v *validator) atLeast(key string, value, least time.Duration) {
	if value < least {
		v.add(key, "must be at least %s, not %s", least, value)
	}
}

func (v *validator) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		v.add(key, "must be one of %s, not %q", strings.Join(allowed, ", "), value)
	}
}
