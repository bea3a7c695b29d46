package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox/lifecycle"
	"github.com/criruntime/criruntime/sandbox/steps"
)

var (
	podID = strings.Repeat("a", 64)
	ctrID = strings.Repeat("b", 64)
)

func sample() *Record {
	return &Record{
		BootID: "boot", ID: podID, Config: &spec.Pod{Name: "n", Labels: map[string]string{"k": "v"}},
		CreatedAt: time.Unix(1, 2).UTC(), State: lifecycle.PodReady,
		Steps: steps.Progress{{Step: "files", Done: true}}, NetNS: "/run/netns/x",
		Containers: map[string]Container{ctrID: {
			Config: &spec.Container{Name: "c"}, State: lifecycle.ContainerRunning, Cgroup: "/x",
			StartedAt: time.Unix(3, 4).UTC(),
		}},
	}
}

func change(r *Record) error { r.Message = "changed"; return nil }

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	p := New(dir, sample())
	if _, err := os.Stat(p.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Error("New has written something")
	}
	if _, err := p.Update(change); err != nil {
		t.Fatal(err)
	}
	pods, damaged, err := LoadAll(dir)
	if err != nil || len(pods) != 1 || len(damaged) != 0 {
		t.Fatalf("%v %v %v", pods, damaged, err)
	}
	if got, want := pods[0].Load(), p.Load(); !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v\nwrote %+v", got, want)
	}
	if entries, _ := os.ReadDir(p.Dir()); len(entries) != 1 {
		t.Errorf("files: %v", entries)
	}
	if err := p.Delete(); err != nil {
		t.Fatal(err)
	}
	if err := p.Delete(); err != nil {
		t.Errorf("again: %v", err)
	}
	if _, err := p.Note(change); err != nil {
		t.Error(err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left %v", entries)
	}
}

// A snapshot that somebody holds never changes.
func TestSnapshots(t *testing.T) {
	p := New(t.TempDir(), sample())
	before := p.Load()
	_, err := p.Update(func(r *Record) error {
		c := r.Containers[ctrID]
		c.State = lifecycle.ContainerExited
		r.Containers[ctrID] = c
		r.Containers["new"] = Container{}
		delete(r.Containers, "new")
		r.State = lifecycle.PodBroken
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if before.State != lifecycle.PodReady || before.Containers[ctrID].State != lifecycle.ContainerRunning {
		t.Error("a published record was changed")
	}
	if p.Load().Containers[ctrID].State != lifecycle.ContainerExited {
		t.Error("the change is not seen")
	}
}

// Updates are not lost, and readers see only whole records.
func TestConcurrentUpdates(t *testing.T) {
	p := New(t.TempDir(), sample())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 20 {
				_, err := p.Update(func(r *Record) error {
					r.ShimPid++
					r.Message = fmt.Sprint(r.ShimPid)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				if r := p.Load(); i%2 == 0 && r.Message != fmt.Sprint(r.ShimPid) {
					t.Errorf("torn: %d %s", r.ShimPid, r.Message)
				}
			}
		})
	}
	wg.Wait()
	if n := p.Load().ShimPid; n != 160 {
		t.Errorf("%d updates are left", n)
	}
}

func TestFailures(t *testing.T) {
	dir := t.TempDir()
	p := New(dir, sample())
	told := 0
	p.OnChange(func() { told++ })
	refused := errors.New("refused")
	if _, err := p.Update(func(r *Record) error { r.Message = "x"; return refused }); !errors.Is(err, refused) || p.Load().Message != "" {
		t.Errorf("refused: %v %q", err, p.Load().Message)
	}
	// A file in the place of the pod's directory: nothing can be written.
	if err := os.WriteFile(p.Dir(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Update(change); err == nil || p.Load().Message != "" {
		t.Errorf("update: %v %q", err, p.Load().Message)
	}
	if told != 0 {
		t.Errorf("told of %d changes that have not been made", told)
	}
	if _, err := p.Note(change); err == nil || p.Load().Message != "changed" || told != 1 {
		t.Errorf("note: %v %q, told of %d changes", err, p.Load().Message, told)
	}
}

func TestLoadAll(t *testing.T) {
	if pods, damaged, err := LoadAll(filepath.Join(t.TempDir(), "absent")); err != nil || pods != nil || damaged != nil {
		t.Errorf("absent: %v %v %v", pods, damaged, err)
	}
	tests := map[string]struct {
		content string
		want    error
	}{
		"empty":       {"", ErrCorrupt},
		"torn":        {`{"version":1,`, ErrCorrupt},
		"no version":  {`{}`, ErrCorrupt},
		"another pod": {`{"version":1,"id":"` + ctrID + `","config":{},"state":"ready"}`, ErrCorrupt},
		"no state":    {`{"version":1,"id":"` + podID + `","config":{}}`, ErrCorrupt},
		"newer":       {`{"version":99,"anything":1}`, ErrNewer},
	}
	for name, test := range tests {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, podID), 0o700); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, podID, "record.json")
		if err := os.WriteFile(file, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, damaged, err := LoadAll(dir)
		if len(damaged) == 1 {
			err = damaged[0].Err
		}
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
		if newer := errors.Is(test.want, ErrNewer); newer == (len(damaged) == 1) {
			t.Errorf("%s: damaged %v", name, damaged)
		}
	}
	dir := t.TempDir()
	for _, name := range []string{podID, "not-an-id"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, damaged, err := LoadAll(dir); err != nil || len(damaged) != 1 || !errors.Is(damaged[0].Err, os.ErrNotExist) {
		t.Errorf("no record: %v %v", damaged, err)
	}
}

// Whatever is in a record, decoding it fails cleanly or gives one that can be
// written and read back.
func FuzzDecode(f *testing.F) {
	r := sample()
	r.Version = Version
	p := New(f.TempDir(), r)
	if _, err := p.Update(change); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(p.Dir(), "record.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1,"containers":{"x":null}}`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Decode(data)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer) {
				t.Errorf("error of no kind: %v", err)
			}
			return
		}
		p := New(t.TempDir(), r)
		if _, err := p.Update(change); err != nil {
			t.Fatalf("cannot write what was read: %v", err)
		}
		if _, err := load(p.Dir()); err != nil {
			t.Errorf("cannot read what was written: %v", err)
		}
	})
}
