//go:build kernel

package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	rt "github.com/criruntime/criruntime/image/registry/registrytest"
)

// dockerArchive is what "docker save" wrote before it knew the OCI layout.
func dockerArchive(t *testing.T, img rt.Image, tags ...string) []byte {
	t.Helper()
	config, names, entries := archived(t, img, func(i int, _ rt.Layer) string { return fmt.Sprintf("%d/layer.tar", i) })
	entries = append(entries, rt.File("config.json", string(config)), rt.File("manifest.json",
		encode(t, []map[string]any{{"Config": "config.json", "RepoTags": tags, "Layers": names}})))
	return rt.Archive(t, entries...)
}

// ociArchive is an OCI layout, with an index between if nested.
func ociArchive(t *testing.T, img rt.Image, nested bool, annotations map[string]string) []byte {
	t.Helper()
	blob := func(d digest.Digest) string { return "blobs/sha256/" + d.Encoded() }
	config, _, entries := archived(t, img, func(_ int, l rt.Layer) string { return blob(digest.FromBytes(l.Blob)) })
	add := func(kind string, data []byte) v1.Descriptor {
		d := v1.Descriptor{MediaType: kind, Digest: digest.FromBytes(data), Size: int64(len(data))}
		entries = append(entries, rt.File(blob(d.Digest), string(data)))
		return d
	}
	man := v1.Manifest{MediaType: v1.MediaTypeImageManifest, Config: add(v1.MediaTypeImageConfig, config)}
	man.SchemaVersion = 2
	for _, l := range img.Layers {
		man.Layers = append(man.Layers, v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: digest.FromBytes(l.Blob), Size: int64(len(l.Blob))})
	}
	top := add(v1.MediaTypeImageManifest, []byte(encode(t, man)))
	if nested {
		top.Platform = &v1.Platform{OS: "linux", Architecture: "amd64"}
		foreign := top
		foreign.Digest, foreign.Platform = digest.FromString("not in the archive"), &v1.Platform{OS: "linux", Architecture: "s390x"}
		index := v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{foreign, top}}
		index.SchemaVersion = 2
		top = add(v1.MediaTypeImageIndex, []byte(encode(t, index)))
	}
	top.Annotations = annotations
	index := v1.Index{Manifests: []v1.Descriptor{top}}
	index.SchemaVersion = 2
	return rt.Archive(t, append(entries, rt.File("oci-layout", `{"imageLayoutVersion":"1.0.0"}`), rt.File("index.json", encode(t, index)))...)
}

func archived(t *testing.T, img rt.Image, name func(int, rt.Layer) string) (config []byte, names []string, entries []*tar.Header) {
	t.Helper()
	img.Config.OS, img.Config.Architecture = "linux", "amd64"
	for i, l := range img.Layers {
		img.Config.RootFS.DiffIDs = append(img.Config.RootFS.DiffIDs, l.DiffID)
		names = append(names, name(i, l))
		entries = append(entries, rt.File(names[i], string(l.Blob)))
	}
	return []byte(encode(t, img.Config)), names, entries
}

func encode(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func (b *bench) put(name string, data []byte) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.o.PreloadDir, name), data, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) has(name string) {
	b.t.Helper()
	b.eventually(name+" is there", func() bool { _, err := b.Lookup(name); return err == nil })
}

func withPreload(b *bench) {
	b.o.PreloadDir = filepath.Join(b.t.TempDir(), "preload")
	if err := os.Mkdir(b.o.PreloadDir, 0o755); err != nil {
		b.t.Fatal(err)
	}
}

// TestPreload: archives of every form, there at the start and put there later.
func TestPreload(t *testing.T) {
	b := newBench(t, withPreload, func(b *bench) {
		b.put("old.tar", dockerArchive(b.t, simple(b.t, "", "old"), "old:1", "registry.test/old:2"))
		b.put("ignored.txt", []byte("x"))
		b.put("broken.tar", []byte("no archive"))
	})
	b.has("old:1")
	img, err := b.Lookup("registry.test/old:2")
	if err != nil || !slices.Equal(img.Tags, []string{"docker.io/library/old:1", "registry.test/old:2"}) || len(img.Digests) != 0 {
		t.Errorf("image %+v, %v", img, err)
	}
	if s := read(t, b.mount("c", img.ID), "etc/name"); s != "old" {
		t.Errorf("content %q", s)
	}
	b.put("a.tar", ociArchive(t, simple(t, "", "a"), false, map[string]string{v1.AnnotationRefName: "registry.test/a:1"}))
	b.put("b.tar", ociArchive(t, simple(t, "", "b"), true, map[string]string{v1.AnnotationRefName: "1", "io.containerd.image.name": "registry.test/b:1"}))
	for _, name := range []string{"a", "b"} {
		b.has("registry.test/" + name + ":1")
		img, err := b.Lookup("registry.test/" + name + ":1")
		if err != nil || len(img.Digests) != 1 || !strings.HasPrefix(img.Digests[0], "registry.test/"+name+"@sha256:") {
			t.Errorf("image %+v, %v", img, err)
		}
		if s := read(t, b.mount(name, img.ID), "etc/name"); s != name {
			t.Errorf("content %q", s)
		}
	}
	// Renamed into place, it takes its names over; at a start it does not.
	b.put(".new", dockerArchive(t, simple(t, "", "new"), "old:1"))
	if err := os.Rename(filepath.Join(b.o.PreloadDir, ".new"), filepath.Join(b.o.PreloadDir, "new.tar")); err != nil {
		t.Fatal(err)
	}
	b.eventually("the name has moved", func() bool { now, err := b.Lookup("old:1"); return err == nil && now.ID != img.ID })
	now, _ := b.Lookup("old:1")
	b.close()
	b.open()
	b.put("last.tar", dockerArchive(t, simple(t, "", "last"), "last:1"))
	b.has("last:1")
	if after, err := b.Lookup("old:1"); err != nil || after.ID != now.ID {
		t.Errorf("after a restart the name means %s, before %s, %v", after.ID, now.ID, err)
	}
}

// TestPreloadDirectoryReplaced: the path counts, whatever directory is there.
func TestPreloadDirectoryReplaced(t *testing.T) {
	for name, replace := range map[string]func(dir string) error{
		"deleted and made": func(dir string) error { return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)) },
		"moved away and made": func(dir string) error {
			return errors.Join(os.Rename(dir, dir+".old"), os.Mkdir(dir, 0o755))
		},
		"exchanged": func(dir string) error {
			return errors.Join(os.Mkdir(dir+".new", 0o755),
				unix.Renameat2(unix.AT_FDCWD, dir+".new", unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, withPreload)
			b.put("first.tar", dockerArchive(t, simple(t, "", "first"), "first:1"))
			b.has("first:1")
			if err := replace(b.o.PreloadDir); err != nil {
				t.Fatal(err)
			}
			b.put("second.tar", dockerArchive(t, simple(t, "", "second"), "second:1"))
			b.has("second:1")
			b.put("third.tar", dockerArchive(t, simple(t, "", "third"), "third:1"))
			b.has("third:1")
		})
	}
}

// TestPreloadRefuses: bad archives are logged by name, and leave nothing.
func TestPreloadRefuses(t *testing.T) {
	good := simple(t, "", "x")
	other := good
	other.Layers = []rt.Layer{{Blob: rt.Gzip(t, rt.File("other", "")).Blob, DiffID: good.Layers[0].DiffID}}
	named := map[string]string{v1.AnnotationRefName: "registry.test/x:1"}
	oci := ociArchive(t, good, false, named)
	damaged := bytes.Replace(oci, []byte(`"architecture"`), []byte(`"architectura"`), 1)
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"empty":       {nil, "neither index.json nor manifest.json"},
		"zipped":      {rt.GzipArchive(t, oci).Blob, "not an uncompressed tar file"},
		"cut":         {oci[:len(oci)/2-len(oci)/2%512+100], "cut short"},
		"damaged":     {damaged, "has digest"},
		"other layer": {dockerArchive(t, other, "x:1"), "the config says"},
		"nameless":    {ociArchive(t, good, false, map[string]string{v1.AnnotationRefName: "latest"}), "has no name"},
		"bad name":    {dockerArchive(t, good, "UPPER/CASE:1"), "UPPER"},
		"no layer":    {rt.Archive(t, rt.File("c", `{"os":"linux","rootfs":{"diff_ids":["`+good.Layers[0].DiffID.String()+`"]}}`), rt.File("manifest.json", `[{"Config":"c","RepoTags":["x:1"],"Layers":["../../etc/passwd"]}]`)), "lacks the file"},
		"policy":      {oci, "signature policy"},
	} {
		t.Run(name, func(t *testing.T) {
			logged := make(chan string, 100)
			b := newBench(t, withPreload, func(b *bench) {
				log := logrus.New()
				log.SetOutput(lines(logged))
				b.o.Log = logrus.NewEntry(log)
				if name == "policy" {
					b.o.Policy = b.reg.ClosedPolicy()
				}
			})
			b.put("it.tar", c.data)
			b.eventually("the log says "+c.says, func() bool { // it may have been seen half written before
				select {
				case line := <-logged:
					return strings.Contains(line, "it.tar") && strings.Contains(line, c.says)
				default:
					return false
				}
			})
			b.nothingLeft()
		})
	}
}

type lines chan string

func (l lines) Write(p []byte) (int, error) {
	select {
	case l <- string(p):
	default:
	}
	return len(p), nil
}
