package spec

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// defaultPath is the PATH of a container whose image sets none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func buildProcess(in *Input) (*specs.Process, error) {
	c := in.Container
	args, err := buildArgs(in)
	if err != nil {
		return nil, err
	}
	env, err := buildEnv(in)
	if err != nil {
		return nil, err
	}
	cwd, err := buildCwd(in)
	if err != nil {
		return nil, err
	}
	caps, err := buildCapabilities(&c.Security, in.Policy.Capabilities, in.Host)
	if err != nil {
		return nil, err
	}
	apparmor, err := apparmorProfile(&c.Security, in.Host)
	if err != nil {
		return nil, err
	}
	score, err := oomScoreAdj(c.Resources, in.Host)
	if err != nil {
		return nil, err
	}
	p := &specs.Process{
		Terminal: c.TTY,
		User: specs.User{
			UID: in.User.UID, GID: in.User.GID,
			AdditionalGids: in.User.Groups,
		},
		Args: args, Env: env, Cwd: cwd,
		Capabilities:    caps,
		NoNewPrivileges: c.Security.NoNewPrivs,
		ApparmorProfile: apparmor,
		Rlimits:         in.Policy.Rlimits,
		OOMScoreAdj:     &score,
	}
	if in.Host.SELinux && !c.Security.Privileged {
		p.SelinuxLabel = in.Labels.Process
	}
	return p, nil
}

// buildArgs puts command and arguments together as Kubernetes defines it: a
// command replaces the image's entrypoint and its arguments, arguments alone
// replace only the image's.
func buildArgs(in *Input) ([]string, error) {
	command, args := in.Container.Command, in.Container.Args
	if len(command) == 0 {
		command = in.Image.Entrypoint
		if len(args) == 0 {
			args = in.Image.Cmd
		}
		if len(command) == 1 && command[0] == "" { // an entrypoint reset by a build tool
			command = nil
		}
	}
	all := slices.Concat(command, args)
	if len(all) == 0 || all[0] == "" {
		return nil, invalid("command", "neither the container nor its image names one")
	}
	return all, checkArgs(all)
}

func checkArgs(args []string) error {
	for _, a := range args {
		if strings.ContainsRune(a, 0) {
			return invalid("command", "%q contains a NUL byte", a)
		}
	}
	return nil
}

// buildEnv returns the variables in order of precedence, each name once: the
// runtime's, the policy's, the image's, the container's. HOME is added when the process
// starts, from the image's user database.
func buildEnv(in *Input) ([]string, error) {
	hostname := cmp.Or(in.Hostname, in.Pod.Hostname, in.Host.Hostname)
	var e environment
	e.set("PATH=" + defaultPath)
	if in.Container.TTY {
		e.set("TERM=xterm")
	}
	e.set("HOSTNAME=" + hostname)
	for _, v := range in.Policy.Env {
		e.set(v)
	}
	for _, v := range in.Image.Env {
		if i := strings.IndexByte(v, '='); i <= 0 || strings.ContainsRune(v, 0) {
			continue // an image's slip must not keep its containers from starting
		}
		e.set(v)
	}
	for _, v := range in.Container.Env {
		if v.Name == "" || strings.ContainsAny(v.Name, "=\x00") {
			return nil, invalid("envs", "%q is not a name", v.Name)
		}
		if strings.ContainsRune(v.Value, 0) {
			return nil, invalid("envs", "the value of %s contains a NUL byte", v.Name)
		}
		e.set(v.Name + "=" + v.Value)
	}
	return e.list, nil
}

// environment is a list of variables in which a name appears once, where it
// was first set.
type environment struct {
	list  []string
	index map[string]int
}

func (e *environment) set(v string) {
	name, _, _ := strings.Cut(v, "=")
	if i, ok := e.index[name]; ok {
		e.list[i] = v
		return
	}
	if e.index == nil {
		e.index = make(map[string]int)
	}
	e.index[name] = len(e.list)
	e.list = append(e.list, v)
}

// buildCwd returns the working directory, which the OCI runtime creates.
func buildCwd(in *Input) (string, error) {
	if dir := in.Container.WorkingDir; dir != "" {
		if !path.IsAbs(dir) || strings.ContainsRune(dir, 0) {
			return "", invalid("working_dir", "%q is not absolute", dir)
		}
		return path.Clean(dir), nil
	}
	if strings.ContainsRune(in.Image.WorkingDir, 0) {
		return "", invalid("working_dir", "the image's, %q, contains a NUL byte", in.Image.WorkingDir)
	}
	return path.Join("/", in.Image.WorkingDir), nil
}

// ExecProcess returns a process to run in a container beside its first one: as
// the same user, with the same capabilities, environment and confinement. The
// container's spec is not changed.
func ExecProcess(container *specs.Spec, cmd []string, tty bool) (*specs.Process, error) {
	if len(cmd) == 0 || cmd[0] == "" {
		return nil, invalid("cmd", "it is empty")
	}
	if err := checkArgs(cmd); err != nil {
		return nil, err
	}
	p := *container.Process
	p.Args = slices.Clone(cmd)
	p.Env = slices.Clone(p.Env)
	p.Terminal = tty
	p.ConsoleSize = nil
	hasTerm := slices.ContainsFunc(p.Env, func(v string) bool { return strings.HasPrefix(v, "TERM=") })
	if tty && !hasTerm {
		p.Env = append(p.Env, "TERM=xterm")
	}
	return &p, nil
}
