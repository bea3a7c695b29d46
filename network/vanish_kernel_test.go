//go:build kernel

package network

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The namespace of a pod may be taken away while its attachment is deleted: what
// plugins say of it then is no reason to keep the attachment.
func TestNamespaceVanishesDuringDel(t *testing.T) {
	r := newRig(t, nil)
	p := pod("p1")
	p.NetNS = filepath.Join(t.TempDir(), "net")
	if err := os.WriteFile(p.NetNS, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("/proc/self/ns/net", p.NetNS, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(p.NetNS, unix.MNT_DETACH) })
	r.plugin("one", `[ $CNI_COMMAND = DEL ] && [ -n "$CNI_NETNS" ] && { umount "$CNI_NETNS"; exit 1; }`+"\n"+gives)
	r.config("10-a.conflist", list("1.0.0", "net-a", "one"))
	if _, err := r.Attach(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if err := r.Detach(t.Context(), p); err != nil {
		t.Error(err)
	}
	if n := r.records(); n != 0 {
		t.Errorf("%d records left", n)
	}
}
