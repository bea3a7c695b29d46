package adapter

import (
	"testing"

	"github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"google.golang.org/protobuf/proto"
)

// What shims of every generation answer to "start".
func TestParseEndpoint(t *testing.T) {
	message := func(version int32, address string) string {
		b, err := proto.Marshal(&bootstrap.BootstrapResult{Version: version, Protocol: "ttrpc", Address: address})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, test := range map[string]struct {
		out  string
		want endpoint // zero: an error
	}{
		"message":  {message(3, "unix:///run/s/1"), endpoint{3, "ttrpc", "unix:///run/s/1", 0}},
		"JSON":     {`{"version":3,"address":"unix:///run/s/2","protocol":"ttrpc"}`, endpoint{3, "ttrpc", "unix:///run/s/2", 0}},
		"address":  {"unix:///run/s/3\n", endpoint{2, "", "unix:///run/s/3", 0}},
		"too new":  {message(4, "unix:///run/s/4"), endpoint{}},
		"nothing":  {"", endpoint{}},
		"chatter":  {"unix:///run/s/5\nwarning: x", endpoint{}},
		"NUL byte": {"unix:///run\x00/s", endpoint{}},
	} {
		e, err := parseEndpoint([]byte(test.out))
		if test.want == (endpoint{}) {
			if err == nil {
				t.Errorf("%s: accepted as %+v", name, e)
			}
			continue
		}
		if err != nil || *e != test.want {
			t.Errorf("%s: %+v, %v, want %+v", name, e, err, test.want)
		}
	}
}

func FuzzParseEndpoint(f *testing.F) {
	f.Add([]byte("unix:///run/containerd/s/1"))
	f.Add([]byte(`{"version":3,"address":"x"}`))
	f.Fuzz(func(t *testing.T, out []byte) {
		e, err := parseEndpoint(out)
		if err == nil && (e.Address == "" || e.Version < 2 || e.Version > 3) {
			t.Errorf("%q is taken for %+v", out, e)
		}
	})
}
