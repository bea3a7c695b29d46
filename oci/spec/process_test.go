package spec

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestArgs(t *testing.T) {
	for _, test := range []struct{ command, args, entrypoint, cmd, want []string }{
		{nil, nil, []string{"e"}, []string{"c"}, []string{"e", "c"}},
		{nil, nil, nil, []string{"c"}, []string{"c"}},
		{nil, nil, []string{""}, []string{"c"}, []string{"c"}},
		{nil, []string{"a"}, []string{"e"}, []string{"c"}, []string{"e", "a"}},
		{nil, []string{"a"}, nil, []string{"c"}, []string{"a"}},
		{[]string{"x"}, nil, []string{"e"}, []string{"c"}, []string{"x"}},
		{[]string{"x"}, []string{"a"}, []string{"e"}, []string{"c"}, []string{"x", "a"}},
	} {
		in := busybox()
		in.Container.Command, in.Container.Args = test.command, test.args
		in.Image.Entrypoint, in.Image.Cmd = test.entrypoint, test.cmd
		got, err := buildArgs(in)
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%+v: %q, %v", test, got, err)
		}
	}
}

func TestEnvIgnoresImageSlips(t *testing.T) {
	in := busybox()
	in.Image.Env = []string{"novalue", "=x", "NUL=\x00", "GOOD=1", "GOOD=2"}
	got, err := buildEnv(in)
	want := []string{"PATH=" + defaultPath, "HOSTNAME=web", "GOOD=2"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

func TestExecProcess(t *testing.T) {
	in := busybox()
	in.User = User{UID: 7, GID: 8, Groups: []uint32{8}}
	in.Container.Security.NoNewPrivs = true
	container, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	before := marshal(t, container)

	p, err := ExecProcess(container, []string{"ls", "-l"}, true)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(p.Args, []string{"ls", "-l"}) || !p.Terminal || p.Env[len(p.Env)-1] != "TERM=xterm" {
		t.Errorf("args %q, terminal %v, env %q", p.Args, p.Terminal, p.Env)
	}
	p.Args, p.Env, p.Terminal = container.Process.Args, container.Process.Env, false
	if !reflect.DeepEqual(p, container.Process) {
		t.Errorf("the process differs from the container's in more than its command:\n%+v", p)
	}
	p.Env[0] = "PATH=/elsewhere"
	container.Process.Env[0] = in.Image.Env[0]
	if got := marshal(t, container); string(got) != string(before) {
		t.Errorf("the container's spec has changed to %s", got)
	}
	for _, cmd := range [][]string{nil, {""}, {"a", "\x00"}} {
		if _, err := ExecProcess(container, cmd, false); !errors.Is(err, ErrInvalid) {
			t.Errorf("ExecProcess(%q) = %v", cmd, err)
		}
	}
}

func TestCapabilities(t *testing.T) {
	all := hostV1().Capabilities
	without := func(from []string, names ...string) []string {
		return slices.DeleteFunc(slices.Clone(from), func(n string) bool { return slices.Contains(names, n) })
	}
	inOrder := func(names ...string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(n string) bool { return !slices.Contains(names, n) })
	}
	for _, test := range []struct {
		name    string
		sec     Security
		want    []string
		ambient []string
	}{
		{"default", Security{}, inOrder(defaultCapabilities...), nil},
		{"add", Security{Capabilities: &Capabilities{Add: []string{"sys_time", "CAP_BPF"}}},
			inOrder(append([]string{"CAP_SYS_TIME", "CAP_BPF"}, defaultCapabilities...)...), nil},
		{"drop", Security{Capabilities: &Capabilities{Drop: []string{"CHOWN"}}}, without(inOrder(defaultCapabilities...), "CAP_CHOWN"), nil},
		{"all", Security{Capabilities: &Capabilities{Add: []string{"ALL"}}}, all, nil},
		{"all but", Security{Capabilities: &Capabilities{Add: []string{"all"}, Drop: []string{"CHOWN"}}}, without(all, "CAP_CHOWN"), nil},
		{"none", Security{Capabilities: &Capabilities{Drop: []string{"ALL"}}}, nil, nil},
		{"only", Security{Capabilities: &Capabilities{Drop: []string{"ALL"}, Add: []string{"CHOWN"}}}, []string{"CAP_CHOWN"}, nil},
		{"beyond the host", Security{Capabilities: &Capabilities{Drop: []string{"ALL"}, Add: []string{"SYS_RESOURCE"}}}, nil, nil},
		{"ambient", Security{Capabilities: &Capabilities{Drop: []string{"ALL"}, AddAmbient: []string{"CHOWN"}}},
			[]string{"CAP_CHOWN"}, []string{"CAP_CHOWN"}},
		{"ambient dropped", Security{Capabilities: &Capabilities{Drop: []string{"CHOWN", "ALL"}, AddAmbient: []string{"CHOWN"}}}, nil, nil},
		{"privileged", Security{Privileged: true, Capabilities: &Capabilities{Drop: []string{"CHOWN"}}}, all, nil},
	} {
		got, err := buildCapabilities(&test.sec, defaultCapabilities, hostV1())
		want := &specs.LinuxCapabilities{
			Bounding: test.want, Effective: test.want, Permitted: test.want, Inheritable: test.ambient, Ambient: test.ambient,
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", test.name, got, err, want)
		}
	}
}
