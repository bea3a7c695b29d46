//go:build kernel

package host

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/selinux/go-selinux"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/spec"
)

// TestCheckLabels: where there is nobody to ask, nothing is asked.
func TestCheckLabels(t *testing.T) {
	if selinux.GetEnabled() {
		t.Skip("TestSELinux of test/system is for this machine")
	}
	t.Chdir(t.TempDir())
	if err := CheckLabels(spec.Labels{Process: "u:r:t:s0", Mount: "u:r:t:s0"}); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir("."); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// TestRelabel writes labels as attributes of files, which a kernel keeps without
// SELinux too.
func TestRelabel(t *testing.T) {
	const label = "system_u:object_r:container_file_t:s0:c1,c2"
	dir := t.TempDir()
	below := filepath.Join(dir, "below", "file")
	if err := os.MkdirAll(filepath.Dir(below), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(below, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Relabel(dir, label); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Dir(below), below} {
		var value [128]byte
		n, err := unix.Lgetxattr(path, "security.selinux", value[:])
		if err != nil || string(value[:max(n, 0)]) != label && string(value[:max(n-1, 0)]) != label {
			t.Errorf("%s: %q, %v", path, value[:max(n, 0)], err)
		}
	}
	if err := Relabel("/etc", label); !errors.Is(err, spec.ErrInvalid) {
		t.Errorf("the system's own directory: %v", err)
	}
}
