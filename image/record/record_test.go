package record

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	for _, want := range []any{
		&Layer{Version: Version, Key: "diff:sha256:1", Dir: "abc", Bytes: 1, Inodes: 2, Opaque: true},
		&Image{Version: Version, ID: "sha256:1", Tags: []string{"a:1"}, Config: []byte("{}"), PulledAt: time.Unix(1, 0).UTC()},
		&Lease{Version: Version, Boot: "b", Mounts: []Mount{{Image: "i", Layers: []string{"k"}, Target: "/t", Writable: true}}},
	} {
		path := filepath.Join(dir, "x.json")
		if err := Write(path, want); err != nil {
			t.Fatal(err)
		}
		got := reflect.New(reflect.TypeOf(want).Elem()).Interface()
		if err := Read(path, got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	if err := Read(filepath.Join(dir, "none.json"), &Image{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestNamesSkipsWhatWasNotPublished(t *testing.T) {
	dir := t.TempDir()
	staged, err := Stage(filepath.Join(dir, "x.json"), Layer{})
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(filepath.Join(dir, "y.json"), Layer{}); err != nil {
		t.Fatal(err)
	}
	names, err := Names(dir)
	if err != nil || len(names) != 1 || names[0] != "y" {
		t.Errorf("names %q, %v", names, err)
	}
	if _, err := os.Stat(staged); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the staged file is still there: %v", err)
	}
	for range 2 {
		if err := Remove(filepath.Join(dir, "y.json")); err != nil {
			t.Error(err)
		}
	}
}

// FuzzDecode: a layer's record never names a directory elsewhere.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"Version":1,"Key":"k","Dir":"d"}`))
	f.Add([]byte(`{"Version":1,"Key":"k","Dir":"../d"}`))
	f.Add([]byte(`{"Version":1,"Key":"k","Dir":".."}`))
	f.Add([]byte(`{"Version":2}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, data []byte) {
		var l Layer
		if Decode(data, &l) == nil && filepath.Join("/root", l.Dir) != "/root/"+l.Dir {
			t.Errorf("directory %q", l.Dir)
		}
		_ = Decode(data, &Image{})
		_ = Decode(data, &Lease{})
	})
}
