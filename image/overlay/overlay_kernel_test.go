//go:build kernel

package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// layers makes n layers in a directory with a name that needs escaping.
func layers(t *testing.T, n int) (base string, lowers []string) {
	t.Helper()
	base = filepath.Join(t.TempDir(), `with:colon,comma`)
	for i := range n {
		dir := filepath.Join(base, fmt.Sprintf("l%d", i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{"top", fmt.Sprintf("only%d", i)} {
			if err := os.WriteFile(filepath.Join(dir, f), []byte(fmt.Sprint(i)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		lowers = append(lowers, dir)
	}
	return base, lowers
}

// TestMount forces each way to mount, the present one and the one for old
// kernels.
func TestMount(t *testing.T) {
	for name, mount := range map[string]func(*Stack, string) error{"attach": (*Stack).attach, "mount": (*Stack).mount} {
		t.Run(name, func(t *testing.T) {
			base, lowers := layers(t, 60)
			s := Stack{Lowers: lowers, Upper: filepath.Join(base, "upper"), Work: filepath.Join(base, "work")}
			for _, d := range []string{s.Upper, s.Work} {
				if err := os.Mkdir(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			wd, _ := os.Getwd()
			target := t.TempDir()
			if err := mount(&s, target); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = Unmount(target) })
			if data, err := os.ReadFile(filepath.Join(target, "top")); string(data) != "0" {
				t.Errorf("content %q, %v", data, err)
			}
			entries, _ := os.ReadDir(target)
			if len(entries) != 61 {
				t.Errorf("%d entries", len(entries))
			}
			if err := os.WriteFile(filepath.Join(target, "new"), nil, 0o644); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(s.Upper, "new")); err != nil {
				t.Error(err)
			}
			options := mountOptions(t, target)
			for _, want := range []string{"nodev", "volatile"} {
				if !strings.Contains(options, want) {
					t.Errorf("the options lack %s", want)
				}
			}
			if now, _ := os.Getwd(); now != wd {
				t.Errorf("the working directory changed to %s", now)
			}
			for range 2 {
				if err := Unmount(target); err != nil {
					t.Error(err)
				}
			}
			view := Stack{Lowers: lowers}
			if err := mount(&view, target); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(target, "x"), nil, 0o644); !errors.Is(err, unix.EROFS) {
				t.Errorf("writing: %v", err)
			}
			if err := Unmount(target); err != nil {
				t.Error(err)
			}
		})
	}
}

func mountOptions(t *testing.T, target string) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, " "+target+" ") {
			return line
		}
	}
	t.Fatalf("%s is not mounted", target)
	return ""
}

func TestTooManyForOldKernels(t *testing.T) {
	_, lowers := layers(t, 2)
	for range 2000 {
		lowers = append(lowers, lowers[0])
	}
	s := Stack{Lowers: lowers}
	if err := s.mount(t.TempDir()); !errors.Is(err, unix.E2BIG) {
		t.Errorf("error %v", err)
	}
	if err := Mount(s, t.TempDir()); err == nil || !strings.Contains(err.Error(), "500") {
		t.Errorf("error %v", err)
	}
}

func TestUnmountOfNothing(t *testing.T) {
	dir := t.TempDir()
	for _, target := range []string{dir, filepath.Join(dir, "missing"), filepath.Join(dir, "a/b")} {
		if err := Unmount(target); err != nil {
			t.Errorf("%s: %v", target, err)
		}
	}
}

func TestMountFailureNamesTheTarget(t *testing.T) {
	_, lowers := layers(t, 2)
	target := filepath.Join(t.TempDir(), "missing")
	if err := Mount(Stack{Lowers: lowers}, target); err == nil || !strings.Contains(err.Error(), target) {
		t.Errorf("error %v", err)
	}
}

// TestMountLeavesTheProcess mounts so often, each time at the cost of a thread, that
// the first thread has its turn, which does not end.
func TestMountLeavesTheProcess(t *testing.T) {
	_, lowers := layers(t, 2)
	s := Stack{Lowers: lowers}
	before, err := os.Readlink("/proc/self/cwd")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 16 {
		target := t.TempDir()
		all.Go(func() {
			for range 20 {
				if err := errors.Join(s.mount(target), Unmount(target)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if now, err := os.Readlink("/proc/self/cwd"); now != before || err != nil {
		t.Errorf("the process's working directory changed to %s, %v", now, err)
	}
}
