package cri

import (
	"path"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/oci/spec"
)

// Container translates the configuration of a container. The error wraps
// ErrInvalid.
func Container(config *runtimeapi.ContainerConfig) (spec.Container, error) {
	var c checker
	c.name("config.metadata.name", config.GetMetadata().GetName())
	if config.GetImage().GetImage() == "" {
		c.bad("config.image.image", "must be set")
	}
	c.absolute("config.working_dir", config.GetWorkingDir())
	c.inside("config.log_path", config.GetLogPath())
	if p := config.GetLogPath(); p != "" && path.Clean(p) == "." {
		c.bad("config.log_path", "%q is not a file", p)
	}
	ctr := spec.Container{
		Name:             config.GetMetadata().GetName(),
		Attempt:          config.GetMetadata().GetAttempt(),
		Image:            config.GetImage().GetImage(),
		UserImage:        config.GetImage().GetUserSpecifiedImage(),
		ImageAnnotations: config.GetImage().GetAnnotations(),
		Command:          config.GetCommand(),
		Args:             config.GetArgs(),
		WorkingDir:       config.GetWorkingDir(),
		Env:              c.env("config.envs", config.GetEnvs()),
		Mounts:           c.mounts("config.mounts", config.GetMounts()),
		Devices:          c.devices("config.devices", config.GetDevices()),
		CDIDevices:       c.cdiDevices("config.CDI_devices", config.GetCDIDevices()),
		Labels:           config.GetLabels(),
		Annotations:      config.GetAnnotations(),
		LogPath:          config.GetLogPath(),
		Stdin:            config.GetStdin(),
		StdinOnce:        config.GetStdinOnce(),
		TTY:              config.GetTty(),
		StopSignal:       c.signal("config.stop_signal", config.GetStopSignal()),
		Resources:        c.resources("config.linux.resources", config.GetLinux().GetResources()),
	}
	const security = "config.linux.security_context"
	ctr.Security = c.containerSecurity(security, config.GetLinux().GetSecurityContext())
	ctr.Namespaces = c.containerNamespaces(join(security, "namespace_options"),
		config.GetLinux().GetSecurityContext().GetNamespaceOptions())
	return ctr, c.err()
}

func (c *checker) env(field string, envs []*runtimeapi.KeyValue) []spec.Env {
	var out []spec.Env
	for i, e := range envs {
		if e.GetKey() == "" || strings.Contains(e.GetKey(), "=") {
			c.bad(join(at(field, i), "key"), "%q is not the name of a variable", e.GetKey())
		}
		out = append(out, spec.Env{Name: e.GetKey(), Value: string(e.GetValue())})
	}
	return out
}

func (c *checker) devices(field string, devices []*runtimeapi.Device) []spec.Device {
	var out []spec.Device
	for i, d := range devices {
		field := at(field, i)
		if d.GetHostPath() == "" {
			c.bad(join(field, "host_path"), "must be set")
		}
		if d.GetContainerPath() == "" {
			c.bad(join(field, "container_path"), "must be set")
		}
		c.absolute(join(field, "host_path"), d.GetHostPath())
		c.absolute(join(field, "container_path"), d.GetContainerPath())
		p := d.GetPermissions()
		if p == "" || strings.Trim(p, "rwm") != "" || len(p) > len("rwm") {
			c.bad(join(field, "permissions"), "%q is not made of r, w and m", p)
		}
		out = append(out, spec.Device{ContainerPath: d.GetContainerPath(), HostPath: d.GetHostPath(), Permissions: p})
	}
	return out
}

func (c *checker) cdiDevices(field string, devices []*runtimeapi.CDIDevice) []string {
	var out []string
	for i, d := range devices {
		kind, name, ok := strings.Cut(d.GetName(), "=")
		if !ok || name == "" || strings.Count(kind, "/") != 1 || !isWord(d.GetName()) {
			c.bad(join(at(field, i), "name"), "%q is not of the form vendor/class=name", d.GetName())
		}
		out = append(out, d.GetName())
	}
	return out
}

// Signal names are those of signal(7), "SIGRTMIN+n" and "SIGRTMAX-n" for the
// real-time ones; the API spells the signs out.
const (
	signalPrefix = "SIGNAL_"
	plus, minus  = "PLUS", "MINUS"
)

// signal returns "" for the default.
func (c *checker) signal(field string, s runtimeapi.Signal) string {
	if s == runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT {
		return ""
	}
	name, ok := runtimeapi.Signal_name[int32(s)]
	if !ok {
		c.bad(field, "%d is not a signal", s)
		return ""
	}
	return strings.NewReplacer(signalPrefix, "", plus, "+", minus, "-").Replace(name)
}

// signalMessage is the way back. A name that the API lacks is the default.
func signalMessage(name string) runtimeapi.Signal {
	name = signalPrefix + strings.NewReplacer("+", plus, "-", minus).Replace(name)
	return runtimeapi.Signal(runtimeapi.Signal_value[name])
}

// Command checks the argument vector of an exec.
func Command(field string, cmd []string) error {
	var c checker
	if len(cmd) == 0 || cmd[0] == "" {
		c.bad(field, "must be set")
	}
	return c.err()
}

// longestTimeout is the most that a time.Duration can hold, in seconds.
const longestTimeout = (1<<63 - 1) / 1_000_000_000

// Timeout checks a number of seconds. A longer time than can be counted, which
// Kubernetes lets users ask for, becomes the longest one.
func Timeout(field string, seconds int64) (int64, error) {
	var c checker
	if seconds < 0 {
		c.bad(field, "%d is negative", seconds)
	}
	return min(seconds, longestTimeout), c.err()
}

// Ports checks the ports to forward; none is allowed, because clients may name
// them per stream.
func Ports(field string, ports []int32) error {
	var c checker
	for i, p := range ports {
		c.within(at(field, i), int64(p), 1, 65535)
	}
	return c.err()
}

// Streams checks which streams an exec or attach asks for.
func Streams(req interface {
	GetStdin() bool
	GetStdout() bool
	GetStderr() bool
	GetTty() bool
}) error {
	var c checker
	if !req.GetStdin() && !req.GetStdout() && !req.GetStderr() {
		c.bad("stdout", "one of stdin, stdout and stderr must be set")
	}
	if req.GetTty() && req.GetStderr() {
		c.bad("stderr", "must not be set with tty, which has one output")
	}
	return c.err()
}
