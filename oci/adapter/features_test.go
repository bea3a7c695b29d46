package adapter

import (
	"testing"

	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func info(t testing.TB, features string) []byte {
	t.Helper()
	i := &types.RuntimeInfo{Name: "io.containerd.runc.v2"}
	if features != "" {
		i.Features = &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/features/Features", Value: []byte(features)}
	}
	b, err := proto.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What runtimes say of themselves. A user namespace alone is not enough: volumes
// have to be mapped into it.
func TestParseFeatures(t *testing.T) {
	for text, want := range map[string]Features{
		`{"mountOptions":["ro","rro"],"linux":{"namespaces":["pid","user"],"mountExtensions":{"idmap":{"enabled":true}}}}`: {true, true},
		`{"mountOptions":["ro"],"linux":{"namespaces":["pid","user"],"mountExtensions":{"idmap":{"enabled":false}}}}`:      {},
		`{"mountOptions":["ro"],"linux":{"namespaces":["user"],"mountExtensions":{"idmap":{}}}}`:                           {},
		`{"mountOptions":["rro"],"linux":{"namespaces":["user"]}}`:                                                         {false, true},
		`{"linux":{"namespaces":["pid"],"mountExtensions":{"idmap":{"enabled":true}}}}`:                                    {},
		`{}`: {},
	} {
		if got, err := parseFeatures(info(t, text)); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for name, out := range map[string][]byte{"nothing": nil, "no features": info(t, ""), "text": []byte("usage: shim"), "no JSON": info(t, "runc")} {
		if got, err := parseFeatures(out); err == nil {
			t.Errorf("%s is taken for %+v", name, got)
		}
	}
}

func FuzzParseFeatures(f *testing.F) {
	f.Add(info(f, `{"mountOptions":["rro"],"linux":{"namespaces":["user"],"mountExtensions":{"idmap":{"enabled":true}}}}`))
	f.Fuzz(func(t *testing.T, out []byte) {
		if got, err := parseFeatures(out); err != nil && got != (Features{}) {
			t.Errorf("%q has features and the error %v", out, err)
		}
	})
}

func TestHostRoot(t *testing.T) {
	for text, want := range map[string]uint32{
		"         0          0 4294967295\n":               0,
		"         0     200000      65536\n":               200000,
		"  1000 1000 1\n         0     300000      1000\n": 300000,
	} {
		if got, err := hostRoot(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1 200000 65536\n", "0 x 1\n", "0 5 0\n"} {
		if got, err := hostRoot(text); err == nil {
			t.Errorf("%q maps root to %d", text, got)
		}
	}
}
