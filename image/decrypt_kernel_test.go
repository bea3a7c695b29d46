//go:build kernel

package image

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	rt "github.com/criruntime/criruntime/image/registry/registrytest"
)

const pubOpts = "org.opencontainers.image.enc.pubopts"

// vault is a bench with an encrypted image app:1, and the keys that open it.
func vault(t *testing.T) (b *bench, private []byte, layers []rt.Layer) {
	private, public := rt.NewKey(t)
	b = newBench(t, func(b *bench) { b.o.DecryptionKeys = t.TempDir() })
	layers = []rt.Layer{
		rt.Gzip(t, rt.Dir("etc", 0o755), rt.File("etc/open", "readable")),
		rt.Encrypt(t, rt.Gzip(t, rt.Dir("etc", 0o755), rt.File("etc/secret", noise(300_000))), public),
		rt.Encrypt(t, rt.Zstd(t, rt.Dir("etc", 0o755), rt.File("etc/other", "hidden")), public),
	}
	b.reg.Push(rt.Image{Name: "app:1", Layers: layers})
	return b, private, layers
}

func TestEncryptedImage(t *testing.T) {
	b, private, _ := vault(t)
	keys := b.o.DecryptionKeys
	b.write(filepath.Join(keys, "README"), "no key")
	b.write(filepath.Join(keys, "node.pem"), string(private))
	if err := os.Mkdir(filepath.Join(keys, "directory"), 0o755); err != nil {
		t.Fatal(err)
	}
	wrong, _ := rt.NewKey(t)
	b.write(filepath.Join(keys, "another.pem"), string(wrong))
	id := b.pull("registry.test/app:1")
	dir := b.mount("k", id)
	if got := read(t, dir, "etc/secret"); got != noise(300_000) {
		t.Errorf("the secret has %d bytes", len(got))
	}
	if got := read(t, dir, "etc/other") + read(t, dir, "etc/open"); got != "hiddenreadable" {
		t.Errorf("the others hold %q", got)
	}
	// The key is asked for also where the layers are there.
	if err := os.Remove(filepath.Join(keys, "node.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Pull(t.Context(), PullOptions{Ref: "registry.test/app:1"}); !errors.Is(err, ErrDenied) {
		t.Errorf("without the key, but with the layers: %v", err)
	}
}

// TestNoDecryptionKey: the user is told, before a layer is fetched, and nothing
// stays.
func TestNoDecryptionKey(t *testing.T) {
	b, private, layers := vault(t)
	wrong, _ := rt.NewKey(t)
	pull := func(what, said string) {
		t.Helper()
		_, err := b.Pull(t.Context(), PullOptions{Ref: "registry.test/app:1"})
		if !errors.Is(err, ErrDenied) || errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), "is encrypted, and "+said) {
			t.Errorf("%s: %v", what, err)
		}
		if strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("%s: the error holds a key: %v", what, err)
		}
	}
	pull("an empty directory", "no key of the node opens it")
	b.write(filepath.Join(b.o.DecryptionKeys, "wrong.pem"), string(wrong))
	pull("a wrong key", "no key of the node opens it")
	b.write(filepath.Join(b.o.DecryptionKeys, ".hidden.pem"), string(private))
	pull("a hidden file", "no key of the node opens it")
	b.close()
	b.o.DecryptionKeys = ""
	b.open()
	pull("no directory", "there is no directory of keys")
	b.close()
	b.o.DecryptionKeys = "/nonesuch"
	b.open()
	if _, err := b.Pull(t.Context(), PullOptions{Ref: "registry.test/app:1"}); err == nil || !strings.Contains(err.Error(), "/nonesuch") {
		t.Errorf("a missing directory: %v", err)
	}
	for _, l := range layers {
		if n := b.reg.Fetched(b.reg.PutBlob(l.Blob, "")); n != 0 {
			t.Errorf("a layer was fetched %d times", n)
		}
	}
	b.nothingLeft()
}

// TestDamagedEncryption: what was changed on the way is refused, whatever it is.
func TestDamagedEncryption(t *testing.T) {
	b, private, layers := vault(t)
	b.write(filepath.Join(b.o.DecryptionKeys, "node.pem"), string(private))
	options := func(change func(map[string]any)) map[string]string {
		text, err := base64.StdEncoding.DecodeString(layers[1].Annotations[pubOpts])
		if err != nil {
			t.Fatal(err)
		}
		var v map[string]any
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		change(v)
		if text, err = json.Marshal(v); err != nil {
			t.Fatal(err)
		}
		a := maps.Clone(layers[1].Annotations)
		a[pubOpts] = base64.StdEncoding.EncodeToString(text)
		return a
	}
	flipped := []byte(string(layers[1].Blob))
	flipped[len(flipped)/2] ^= 1
	for name, change := range map[string]func(*rt.Layer){
		"blob":   func(l *rt.Layer) { l.Blob = flipped },
		"cut":    func(l *rt.Layer) { l.Blob = l.Blob[:len(l.Blob)-1] },
		"empty":  func(l *rt.Layer) { l.Blob = nil },
		"hmac":   func(l *rt.Layer) { l.Annotations = options(func(v map[string]any) { v["hmac"] = "AAAA" }) },
		"cipher": func(l *rt.Layer) { l.Annotations = options(func(v map[string]any) { v["cipher"] = "ROT13" }) },
		"nonce": func(l *rt.Layer) {
			l.Annotations = options(func(v map[string]any) { v["cipheroptions"] = map[string]string{"nonce": "AAAA"} })
		},
		"options":    func(l *rt.Layer) { l.Annotations = map[string]string{pubOpts: "{"} },
		"other diff": func(l *rt.Layer) { l.DiffID = layers[0].DiffID },
		"no key":     func(l *rt.Layer) { l.Annotations = nil },
	} {
		l := layers[1]
		change(&l)
		b.reg.Push(rt.Image{Name: "bad:1", Layers: []rt.Layer{l}})
		_, err := b.Pull(t.Context(), PullOptions{Ref: "registry.test/bad:1"})
		if !errors.Is(err, ErrInvalid) && !(name == "options" && errors.Is(err, ErrDenied)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What the registry serves is not what the manifest says.
	p := b.reg.Push(rt.Image{Name: "bad:1", Layers: layers[1:2]})
	b.reg.PutBlob(flipped, p.Blobs[0])
	if _, err := b.Pull(t.Context(), PullOptions{Ref: "registry.test/bad:1"}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "digest") {
		t.Errorf("another blob: %v", err)
	}
	b.nothingLeft()
}
