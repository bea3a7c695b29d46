package class

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/criruntime/criruntime/oci/spec"
)

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "classes.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

const pod, container = "blockio.resources.beta.kubernetes.io/pod", "blockio.resources.beta.kubernetes.io/container.main"

// The nearest annotation counts, and a class that nobody has configured is
// refused by its name.
func TestBlockIO(t *testing.T) {
	if err := Load(write(t, "Classes:\n  slow:\n  - Weight: 20\n  fast:\n  - Weight: 800\n"), ""); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		own, pod map[string]string
		want     uint16
		refused  string
	}{
		{nil, nil, 0, ""},
		{nil, map[string]string{pod: "slow"}, 20, ""},
		{nil, map[string]string{pod: "slow", container: "fast"}, 800, ""},
		{map[string]string{"io.kubernetes.cri.blockio-class": "slow"}, map[string]string{container: "fast"}, 20, ""},
		{nil, map[string]string{container + "2": "fast"}, 0, ""},
		{nil, map[string]string{pod: "none"}, 0, `"none"`},
		{nil, map[string]string{"rdt.resources.beta.kubernetes.io/pod": "gold"}, 0, `"gold"`},
		{nil, map[string]string{"rdt.resources.beta.kubernetes.io/container.main": "../gold"}, 0, `gold"`},
	} {
		s := &specs.Spec{Linux: &specs.Linux{Resources: &specs.LinuxResources{}}}
		err := Apply(s, "main", test.own, test.pod)
		if test.refused != "" {
			if !errors.Is(err, spec.ErrInvalid) || !strings.Contains(err.Error(), test.refused) {
				t.Errorf("%v: %v", test.pod, err)
			}
			continue
		}
		b := s.Linux.Resources.BlockIO
		if err != nil || (b == nil) != (test.want == 0) || b != nil && *b.Weight != test.want {
			t.Errorf("%v, %v: %+v, %v", test.own, test.pod, b, err)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, files := range [][2]string{
		{"/none", ""}, {write(t, "Classes: 3\n"), ""}, {write(t, "Classes:\n  x:\n  - Weight: heavy\n"), ""},
		// This kernel has no resctrl file system mounted, or the file is not there.
		{"", "/none"},
	} {
		if err := Load(files[0], files[1]); err == nil {
			t.Errorf("%q are classes", files)
		}
	}
}

// TestLoadBlockIOKeepsTheGood: classes that cannot be used change nothing.
func TestLoadBlockIOKeepsTheGood(t *testing.T) {
	if err := Load(write(t, "Classes:\n  one:\n  - Weight: 20\n"), ""); err != nil {
		t.Fatal(err)
	}
	if err := LoadBlockIO(write(t, "Classes:\n  two:\n  - Weight: heavy\n")); err == nil {
		t.Error("a weight is heavy")
	}
	if _, err := BlockIO("one"); err != nil {
		t.Error(err)
	}
	if err := LoadBlockIO(write(t, "Classes:\n  two:\n  - Weight: 30\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := BlockIO("one"); err == nil {
		t.Error("a class of before is left")
	}
	if _, err := BlockIO("two"); err != nil {
		t.Error(err)
	}
}
