package adapter

import "testing"

func TestRuntimeOptions(t *testing.T) {
	for text, want := range map[string]string{
		`{"shim":"/s","root":"/run/r","binary":"crun"}`:     "containerd.runc.v1.Options",
		`{"shim":"/s","config":"/c.toml","configType":"t"}`: "runtimeoptions.v1.Options",
		`{"shim":"/s"}`: "",
	} {
		r, err := ParseRuntime(text)
		if err != nil {
			t.Fatal(err)
		}
		o, err := r.options(root{})
		if err != nil || o.GetTypeUrl() != want {
			t.Errorf("%s: options %v, %v", text, o, err)
		}
	}
	for _, text := range []string{"", "{}", `{"shim":"runc"}`} {
		if _, err := ParseRuntime(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
