//go:build kernel

package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadDisk(t *testing.T) {
	d, err := ReadDisk(t.TempDir())
	if err != nil || d.Bytes == 0 || d.Device == "" || d.AvailableInodes > d.Inodes {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := ReadDisk("/no/such/path"); err == nil {
		t.Error("a path that is not there has a disk")
	}
}

func TestBlockDevice(t *testing.T) {
	if got := BlockDevice(0, 4095); got != "0:4095" {
		t.Errorf("no device: %q", got)
	}
	entries, err := os.ReadDir("/sys/dev/block")
	if err != nil || len(entries) == 0 {
		t.Skip("a machine without block devices")
	}
	var major, minor uint64
	name := entries[0].Name()
	for i, part := range strings.Split(name, ":") {
		n := &major
		if i == 1 {
			n = &minor
		}
		for _, c := range part {
			*n = *n*10 + uint64(c-'0')
		}
	}
	got := BlockDevice(major, minor)
	if _, err := os.Stat(filepath.Join("/sys/class/block", strings.TrimPrefix(got, "/dev/"))); err != nil || !strings.HasPrefix(got, "/dev/") {
		t.Errorf("%s is %q: %v", name, got, err)
	}
}
