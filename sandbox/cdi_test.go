package sandbox

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

const device = "vendor.com/class=one"

var cdiSpecs = []string{
	`{"cdiVersion":"0.7.0","kind":"vendor.com/class","containerEdits":{"env":["ALL=1"]},"devices":[{"name":"one","containerEdits":{
		"env":["ONE=1"],"deviceNodes":[{"path":"/dev/null","permissions":"rw","uid":1}],"additionalGids":[7],
		"mounts":[{"hostPath":"/a","containerPath":"/b","options":["ro"]}],"hooks":[{"hookName":"createContainer","path":"/bin/x","timeout":1}]}}]}`,
	`{"cdiVersion":"1.1.0","kind":"vendor.com/class","devices":[{"name":"one","containerEdits":{"netDevices":[{"hostInterfaceName":"a","name":"b"}],
		"intelRdt":{"closID":"x","enableMonitoring":true}}}]}`,
	"cdiVersion: \"0.3.0\"\nkind: vendor.com/class\ndevices:\n- name: one\n  containerEdits:\n    deviceNodes:\n    - path: /dev/nonesuch\n",
	`{"cdiVersion":"0.6.0","kind":"vendor.com/class","devices":[{"name":"one","containerEdits":{"deviceNodes":[null]}}]}`,
	`{"cdiVersion":"0.6.0","kind":"vendor.com/class","devices":[{"name":"one","containerEdits":{"mounts":[null],"hooks":[null],"env":["="]}}]}`,
	`{"cdiVersion":"9.9.9","kind":"x","devices":[]}`, `[`, "a: &a [*a]", ``,
}

func TestInjectCDI(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "vendor.json"), []byte(cdiSpecs[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	s := emptySpec()
	if err := InjectCDI(s, []string{device}, []string{dir}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"PATH=/bin", "ALL=1", "ONE=1"}; !reflect.DeepEqual(s.Process.Env, want) {
		t.Errorf("the environment is %q, not %q", s.Process.Env, want)
	}
	if len(s.Linux.Devices) != 1 || s.Linux.Devices[0].Path != "/dev/null" || len(s.Linux.Resources.Devices) != 1 ||
		len(s.Mounts) != 1 || len(s.Hooks.CreateContainer) != 1 || len(s.Process.User.AdditionalGids) != 1 {
		t.Errorf("the specification has become %+v", s)
	}
	if err := InjectCDI(s, []string{"vendor.com/class=two"}, []string{dir}); !errors.Is(err, ErrInvalid) {
		t.Errorf("an unknown device: %v", err)
	}
}

func emptySpec() *specs.Spec {
	return &specs.Spec{Process: &specs.Process{Env: []string{"PATH=/bin"}}, Linux: &specs.Linux{Resources: &specs.LinuxResources{}}}
}

// FuzzCDI: whatever a driver writes, the device is added or refused.
func FuzzCDI(f *testing.F) {
	for _, s := range cdiSpecs {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, yaml bool) {
		name := "vendor.json"
		if yaml {
			name = "vendor.yaml"
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		s := emptySpec()
		if err := InjectCDI(s, []string{device}, []string{dir}); err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("error %v", err)
			}
			return
		}
		if _, err := json.Marshal(s); err != nil {
			t.Errorf("the specification cannot be written: %v", err)
		}
	})
}
