package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

func TestDetect(t *testing.T) {
	for name, want := range map[string]string{"cgroupfs": "cgroupfs", "systemd": "systemd"} {
		d, err := Detect(name)
		if err != nil || d.Name() != want {
			t.Errorf("%s: %v, %v", name, d, err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if d, err := Detect("auto"); err != nil || d == nil {
		t.Errorf("auto: %v", err)
	}
	if _, err := Detect("runit"); err == nil {
		t.Error("any name is a driver")
	}
}

func TestDriverPaths(t *testing.T) {
	for _, test := range []struct {
		driver             Driver
		parent, pod, below string
	}{
		{cgroupfs{}, "", "/criruntime/p", "/criruntime/p/c"},
		{cgroupfs{}, "/kubepods/burstable/pod1", "/kubepods/burstable/pod1", "/kubepods/burstable/pod1/c"},
		{cgroupfs{}, "relative/", "/relative", "/relative/c"},
		{newSystemd(), "", "/criruntime.slice/criruntime-p.scope", "/criruntime.slice/criruntime-p.scope/c"},
		{newSystemd(), "kubepods-burstable-pod1_2.slice",
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/criruntime-p.scope",
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/criruntime-p.scope/c"},
		{newSystemd(), "/kubepods.slice/kubepods-pod1.slice", "/kubepods.slice/kubepods-pod1.slice/criruntime-p.scope",
			"/kubepods.slice/kubepods-pod1.slice/criruntime-p.scope/c"},
		{newSystemd(), "-.slice", "/criruntime-p.scope", "/criruntime-p.scope/c"},
	} {
		pod := test.driver.Pod(test.parent, "p")
		if below := test.driver.Container(pod, "c"); pod != test.pod || below != test.below {
			t.Errorf("%s, parent %q: %q and %q, want %q and %q", test.driver.Name(), test.parent, pod, below, test.pod, test.below)
		}
		if err := test.driver.CheckParent(test.parent); err != nil {
			t.Error(err)
		}
	}
	for _, test := range []struct {
		driver Driver
		parent string
	}{
		{cgroupfs{}, "/"}, {cgroupfs{}, "/a/.."}, {cgroupfs{}, "kubepods.slice"},
		{newSystemd(), "/kubepods/pod1"}, {newSystemd(), ".slice"}, {newSystemd(), "a--b.slice"}, {newSystemd(), "-a.slice"}, {newSystemd(), "/"},
	} {
		if err := test.driver.CheckParent(test.parent); err == nil {
			t.Errorf("%s takes %q for a parent", test.driver.Name(), test.parent)
		}
	}
}

// fakeUnits is a systemd that makes scopes as directories.
type fakeUnits struct {
	tree    string
	log     []string
	result  string // of jobs
	err     error  // of calls
	gone    bool   // the connection
	hang    bool
	started map[string][]dbus.Property
}

func (f *fakeUnits) dir(scope string) string { return filepath.Join(f.tree, "criruntime.slice", scope) }

func (f *fakeUnits) job(verb, name, mode string, ch chan<- string) (int, error) {
	f.log = append(f.log, strings.Join([]string{verb, name, mode}, " "))
	if f.err == nil && !f.hang {
		ch <- f.result
	}
	return 1, f.err
}

func (f *fakeUnits) StartTransientUnitContext(_ context.Context, name, mode string, p []dbus.Property, ch chan<- string) (int, error) {
	if f.started[name] != nil {
		return 0, godbus.Error{Name: "org.freedesktop.systemd1.UnitExists"}
	}
	f.started[name] = p
	if err := os.MkdirAll(f.dir(name), 0o755); err != nil {
		return 0, err
	}
	return f.job("start", name, mode, ch)
}

func (f *fakeUnits) StopUnitContext(_ context.Context, name, mode string, ch chan<- string) (int, error) {
	if f.started[name] == nil {
		return 0, godbus.Error{Name: "org.freedesktop.systemd1.NoSuchUnit"}
	}
	delete(f.started, name)
	if err := os.RemoveAll(f.dir(name)); err != nil {
		return 0, err
	}
	f.hang = false
	return f.job("stop", name, mode, ch)
}

func (f *fakeUnits) ResetFailedUnitContext(_ context.Context, name string) error {
	f.log = append(f.log, "reset "+name)
	return nil
}

func (f *fakeUnits) Connected() bool { return !f.gone }

func (f *fakeUnits) Close() { f.log = append(f.log, "close") }

func fakeSystemd(t *testing.T) (*systemd, *fakeUnits, *int) {
	f := &fakeUnits{tree: t.TempDir(), result: "done", started: make(map[string][]dbus.Property)}
	dials := new(int)
	return &systemd{
		dial: func(context.Context) (units, error) {
			*dials++
			f.gone = false
			return f, nil
		},
		hierarchy: func() (*hierarchy, error) { return &hierarchy{unified: f.tree, trees: []string{f.tree}}, nil },
	}, f, dials
}

func TestSystemdPod(t *testing.T) {
	d, f, dials := fakeSystemd(t)
	ctx := context.Background()
	if *dials != 0 {
		t.Error("the connection is not opened when it is needed")
	}
	for range 2 { // it is idempotent
		if made, err := d.CreatePod(ctx, "", "p", 42); err != nil || !made {
			t.Fatal(made, err)
		}
	}
	properties := make(map[string]string)
	for _, p := range f.started["criruntime-p.scope"] {
		properties[p.Name] = fmt.Sprint(p.Value.Value())
	}
	for name, want := range map[string]string{"Slice": "criruntime.slice", "PIDs": "[42]", "Delegate": "true"} {
		if properties[name] != want {
			t.Errorf("property %s is %q, want %q", name, properties[name], want)
		}
	}
	if pid, err := os.ReadFile(f.dir("criruntime-p.scope") + "/shim/cgroup.procs"); err != nil || string(pid) != "42" {
		t.Errorf("the shim's group has %q, %v", pid, err)
	}
	f.gone = true // the bus was restarted
	for range 2 {
		if err := d.RemovePod(ctx, "", "p"); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	want := []string{"start criruntime-p.scope fail", "close", "stop criruntime-p.scope replace", "close"}
	if !slices.Equal(f.log, want) || *dials != 2 {
		t.Errorf("systemd was asked %q over %d connections, want %q over 2", f.log, *dials, want)
	}
}

func TestSystemdFailures(t *testing.T) {
	t.Run("job fails", func(t *testing.T) {
		d, f, _ := fakeSystemd(t)
		f.result = "failed"
		if _, err := d.CreatePod(context.Background(), "", "p", 42); err == nil || !strings.Contains(err.Error(), `"failed"`) {
			t.Errorf("CreatePod = %v", err)
		}
		if !slices.Contains(f.log, "reset criruntime-p.scope") || len(f.started) != 0 {
			t.Errorf("the unit is left: %q", f.log)
		}
	})
	t.Run("no answer", func(t *testing.T) {
		d, f, _ := fakeSystemd(t)
		f.hang = true
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		if _, err := d.CreatePod(ctx, "", "p", 42); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("CreatePod = %v", err)
		}
		if len(f.started) != 0 {
			t.Errorf("the unit is left: %q", f.log)
		}
	})
	t.Run("no group", func(t *testing.T) {
		d, f, _ := fakeSystemd(t)
		write(t, f.dir("criruntime-p.scope")+"/shim", "in the way of the group")
		if _, err := d.CreatePod(context.Background(), "", "p", 42); err == nil {
			t.Error("CreatePod made do without a group")
		}
		if len(f.started) != 0 {
			t.Errorf("the unit is left: %q", f.log)
		}
	})
	t.Run("no systemd", func(t *testing.T) {
		d, _, _ := fakeSystemd(t)
		failure := errors.New("no bus")
		d.dial = func(context.Context) (units, error) { return nil, failure }
		if _, err := d.CreatePod(context.Background(), "", "p", 42); !errors.Is(err, failure) {
			t.Errorf("CreatePod = %v", err)
		}
	})
	t.Run("bad parent", func(t *testing.T) {
		d, f, _ := fakeSystemd(t)
		if _, err := d.CreatePod(context.Background(), "/kubepods/pod1", "p", 42); err == nil || len(f.started) != 0 {
			t.Errorf("CreatePod = %v, asked %q", err, f.log)
		}
	})
}

func TestPrefix(t *testing.T) {
	if d := WithPrefix(cgroupfs{}, ""); d != (cgroupfs{}) {
		t.Errorf("no prefix makes %v", d)
	}
	for _, test := range []struct {
		driver Driver
		want   string
	}{
		{cgroupfs{}, "/kubepods/pod1/crio-c"},
		{newSystemd(), "/kubepods/pod1/crio-c.scope"},
	} {
		d := WithPrefix(test.driver, "crio")
		if got := d.Container("/kubepods/pod1", "c"); got != test.want || d.Name() != test.driver.Name() {
			t.Errorf("%s: %s, want %s", d.Name(), got, test.want)
		}
	}
}
