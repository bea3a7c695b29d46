package checkpoint

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metadata "github.com/checkpoint-restore/checkpointctl/lib"
)

// sample makes a directory as a checkpoint leaves it.
func sample(t testing.TB) string {
	dir := t.TempDir()
	config := Config{ID: "1", Name: "k8s_c_p_n_u_0", RootfsImageRef: "sha256:12", RootfsImageName: "registry.test/a:1", CheckpointedAt: time.Unix(7, 0).UTC()}
	for name, v := range map[string]any{ConfigFile: config, SpecFile: map[string]any{"ociVersion": "1"}, DeletedFile: []string{"/a/b", "c/../d"}} {
		if err := WriteJSON(dir, name, v); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, Images), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{ChangesFile, LogFile, "unknown", Images + "/inventory.img", Images + "/pages-1.img"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// listing is a directory with the files' contents.
func listing(t testing.TB, dir string) []string {
	var found []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		data, err := os.ReadFile(path)
		found = append(found, name+"="+string(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestPackAndUnpack(t *testing.T) {
	dir, back := sample(t), t.TempDir()
	var b bytes.Buffer
	if err := Pack(context.Background(), &b, dir); err != nil {
		t.Fatal(err)
	}
	if err := Unpack(context.Background(), Archive(bytes.NewReader(b.Bytes())), back); err != nil {
		t.Fatal(err)
	}
	want := slices.DeleteFunc(listing(t, dir), func(s string) bool { return strings.HasPrefix(s, "unknown") })
	if got := listing(t, back); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	deleted, err := ReadDeleted(back)
	if err != nil || !slices.Equal(deleted, []string{"/a/b", "/d"}) {
		t.Errorf("deleted are %q, %v", deleted, err)
	}
	config, err := ReadConfig(context.Background(), Archive(&b))
	if err != nil || BaseImage(config) != "sha256:12" || PullName(config) != "registry.test/a:1" {
		t.Errorf("the configuration is %+v, %v", config, err)
	}
	// What the field's own library reads of it.
	theirs, _, err := metadata.ReadContainerCheckpointConfigDump(back)
	if err != nil || theirs.Name != "k8s_c_p_n_u_0" || !theirs.CheckpointedAt.Equal(time.Unix(7, 0)) {
		t.Errorf("checkpointctl reads %+v, %v", theirs, err)
	}
	if list, _, err := metadata.ReadContainerCheckpointDeletedFiles(back); err != nil || len(list) != 2 {
		t.Errorf("checkpointctl reads %q, %v", list, err)
	}
}

// TestPackOrder has what is read first at the front, so that no one has to read
// all of the memory to learn the image.
func TestPackOrder(t *testing.T) {
	var b bytes.Buffer
	if err := Pack(context.Background(), &b, sample(t)); err != nil {
		t.Fatal(err)
	}
	cut := bytes.NewReader(b.Bytes()[:2048])
	if _, err := ReadConfig(context.Background(), Archive(cut)); err != nil {
		t.Errorf("the configuration is not in the first 2 KiB: %v", err)
	}
}

func TestUnpackStops(t *testing.T) {
	var b bytes.Buffer
	if err := Pack(context.Background(), &b, sample(t)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Unpack(ctx, Archive(bytes.NewReader(b.Bytes())), t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := Pack(ctx, io.Discard, sample(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for n := range b.Len() / 512 {
		if err := Unpack(context.Background(), Archive(bytes.NewReader(b.Bytes()[:n*512+100])), t.TempDir()); !errors.Is(err, ErrInvalid) {
			t.Errorf("cut after %d bytes: %v", n*512+100, err)
		}
	}
}

func TestParseDeleted(t *testing.T) {
	for text, ok := range map[string]bool{
		`[]`: true, `["/a"]`: true, `["../../a"]`: true, `["/"]`: false, `[".."]`: false, `["a\u0000b"]`: false, `{}`: false, `[1]`: false, ``: false,
	} {
		got, err := ParseDeleted([]byte(text))
		if (err == nil) != ok || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
}

// FuzzUnpack has an archive of any form make regular files with known names in
// its directory and nothing else.
func FuzzUnpack(f *testing.F) {
	var b bytes.Buffer
	if err := Pack(context.Background(), &b, sample(f)); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	for _, packed := range compressedForms(f, b.Bytes()) {
		f.Add(packed)
	}
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeSymlink, Name: Images, Linkname: "/"},
		{Typeflag: tar.TypeLink, Name: ConfigFile, Linkname: "../x"},
		{Typeflag: tar.TypeReg, Name: Images + "/../../x"},
		{Typeflag: tar.TypeReg, Name: "../" + ConfigFile},
		{Typeflag: tar.TypeFifo, Name: SpecFile},
		{Typeflag: tar.TypeReg, Name: Images},
	} {
		b.Reset()
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&h); err != nil {
			f.Fatal(err)
		}
		_ = w.Close()
		f.Add(bytes.Clone(b.Bytes()))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		outer := t.TempDir()
		dir := filepath.Join(outer, "in")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := Unpack(context.Background(), Archive(bytes.NewReader(data)), dir); err == nil {
			if _, err := ReadConfig(context.Background(), Archive(bytes.NewReader(data))); err != nil && !errors.Is(err, ErrInvalid) {
				t.Error(err)
			}
		} else if !errors.Is(err, ErrInvalid) {
			t.Errorf("an error of the archive's that does not say so: %v", err)
		}
		err := filepath.WalkDir(outer, func(path string, e fs.DirEntry, err error) error {
			name, _ := filepath.Rel(dir, path)
			known := e.IsDir() && slices.Contains([]string{"..", ".", Images}, name) ||
				e.Type().IsRegular() && (slices.Contains(files, name) || filepath.Dir(name) == Images)
			if !known {
				t.Errorf("it made %s, %v", path, e.Type())
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func FuzzMetadata(f *testing.F) {
	f.Add([]byte(`{"id":"1","rootfsImageName":"a"}`))
	f.Add([]byte(`["/a","b/../.."]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := ParseConfig(data); err == nil && BaseImage(c) == "" {
			t.Error("no image")
		}
		list, _ := ParseDeleted(data)
		for _, name := range list {
			if filepath.Clean(name) != name || !filepath.IsAbs(name) || name == "/" {
				t.Errorf("%q", name)
			}
		}
	})
}
