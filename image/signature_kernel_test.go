//go:build kernel

package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	rt "github.com/criruntime/criruntime/image/registry/registrytest"
)

// signer signs images in one of the two ways.
type signer struct {
	kind string // of the requirement in policy.json
	key  func() (public []byte, sign func(b *bench, name string, at, of digest.Digest))
	// take removes the signatures of a manifest.
	take func(b *bench, name string, at digest.Digest)
}

func lookaside(b *bench, name string, at digest.Digest) string {
	repository, _, _ := strings.Cut(name, ":")
	return filepath.Join(filepath.Dir(b.o.RegistriesDir), "lookaside", repository+"@"+strings.Replace(at.String(), ":", "=", 1), "signature-1")
}

func signers(t *testing.T) map[string]signer {
	return map[string]signer{
		"sigstore": {
			kind: `"sigstoreSigned"`,
			key: func() ([]byte, func(*bench, string, digest.Digest, digest.Digest)) {
				k := rt.NewSigstore(t)
				return k.Public(), func(b *bench, name string, at, of digest.Digest) { b.reg.Attach(name, at, of, k) }
			},
			take: func(b *bench, name string, at digest.Digest) {
				repository, _, _ := strings.Cut(name, ":")
				b.reg.Delete(repository + ":" + rt.AttachmentTag(at))
			},
		},
		"simple": {
			kind: `"signedBy","keyType":"GPGKeys"`,
			key: func() ([]byte, func(*bench, string, digest.Digest, digest.Digest)) {
				k := rt.NewGPG(t)
				return k.Public(), func(b *bench, name string, at, of digest.Digest) {
					path := lookaside(b, name, at)
					if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
						t.Fatal(err)
					}
					b.write(path, string(k.Sign(rt.Host+"/"+name, of)))
				}
			},
			take: func(b *bench, name string, at digest.Digest) {
				if err := os.Remove(lookaside(b, name, at)); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
			},
		},
	}
}

func (b *bench) write(path, text string) {
	b.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// signed is a bench whose policy lets images of the registry run if they are
// signed with the key that is returned, a file.
func signed(t *testing.T, kind string, change ...func(*bench)) (*bench, string) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	b := newBench(t, append([]func(*bench){func(b *bench) {
		b.o.RegistriesDir = filepath.Join(dir, "registries.d")
		if err := os.Mkdir(b.o.RegistriesDir, 0o755); err != nil {
			t.Fatal(err)
		}
		b.write(filepath.Join(b.o.RegistriesDir, "test.yaml"),
			"default-docker:\n  lookaside: file://"+filepath.Join(dir, "lookaside")+"\n  use-sigstore-attachments: true\n")
		b.o.Policy = filepath.Join(dir, "policy.json")
		b.write(b.o.Policy, demanding(kind, key))
	}}, change...)...)
	return b, key
}

// demanding is a policy: nothing runs but what is signed with the key.
func demanding(kind, key string) string {
	return fmt.Sprintf(`{"default":[{"type":"reject"}],"transports":{"docker":{"registry.test":[{"type":%s,"keyPath":%q}]}}}`, kind, key)
}

// tryMount mounts an image for a pod of namespace for a moment, as a root file
// system and as a volume.
func (b *bench) tryMount(id ID, namespace string) error {
	root, volume := b.t.TempDir(), b.t.TempDir()
	err := b.Mount(b.t.Context(), MountOptions{Key: "try", Image: id, Target: root, Namespace: namespace})
	viewed := b.View(b.t.Context(), ViewOptions{Key: "try-volume", Image: id, Target: volume, Namespace: namespace})
	if (err == nil) != (viewed == nil) {
		b.t.Errorf("as a root: %v, as a volume: %v", err, viewed)
	}
	return errors.Join(err, b.Unmount(b.t.Context(), "try", root), b.Unview(b.t.Context(), "try-volume", volume))
}

func (b *bench) untrusted(what string, err error) {
	b.t.Helper()
	if !errors.Is(err, ErrUntrusted) || !errors.Is(err, ErrDenied) {
		b.t.Errorf("%s: %v", what, err)
	}
}

// TestSignatures: what is signed with the right key is pulled and runs; what is
// not signed, with another key, or for another image, is not.
func TestSignatures(t *testing.T) {
	for name, s := range signers(t) {
		t.Run(name, func(t *testing.T) {
			b, key := signed(t, s.kind)
			public, sign := s.key()
			_, signWrong := s.key()
			b.write(key, string(public))
			pull := func(name string) (ID, error) {
				return b.Pull(t.Context(), PullOptions{Ref: rt.Host + "/" + name})
			}
			digests := map[string]digest.Digest{}
			for _, name := range []string{"good:1", "unsigned:1", "wrong:1", "moved:1"} {
				digests[name] = b.reg.Push(simple(t, name, name)).Manifest
			}
			sign(b, "good:1", digests["good:1"], digests["good:1"])
			signWrong(b, "wrong:1", digests["wrong:1"], digests["wrong:1"])
			sign(b, "moved:1", digests["moved:1"], digests["moved:1"])
			moved := b.reg.Push(simple(t, "moved:1", "something else"))
			for _, name := range []string{"unsigned:1", "wrong:1", "moved:1"} {
				_, err := pull(name)
				b.untrusted(name, err)
			}
			b.nothingLeft()
			sign(b, "moved:1", moved.Manifest, digests["good:1"])
			_, err := pull("moved:1")
			b.untrusted("the signature of another image", err)

			id, err := pull("good:1")
			if err != nil {
				t.Fatal(err)
			}
			if err := b.tryMount(id, ""); err != nil {
				t.Errorf("what is signed does not run: %v", err)
			}
			// What was proven stays so without the registry, over restarts too.
			s.take(b, "good:1", digests["good:1"])
			b.close()
			b.open()
			if err := b.tryMount(id, "any"); err != nil {
				t.Errorf("after a restart: %v", err)
			}
			_, err = pull("good:1")
			b.untrusted("the signature was removed", err)
		})
	}
}

// TestPolicyTightens: an image that came before the policy demanded signatures
// does not run until it is pulled again, and only if it is signed.
func TestPolicyTightens(t *testing.T) {
	for name, s := range signers(t) {
		t.Run(name, func(t *testing.T) {
			b, key := signed(t, s.kind)
			public, sign := s.key()
			b.write(key, string(public))
			demand := demanding(s.kind, key)
			b.write(b.o.Policy, `{"default":[{"type":"insecureAcceptAnything"}]}`)
			good, bad := b.reg.Push(simple(t, "good:1", "a")), b.reg.Push(simple(t, "bad:1", "b"))
			sign(b, "good:1", good.Manifest, good.Manifest)
			ids := []ID{b.pull("registry.test/good:1"), b.pull("registry.test/bad:1")}
			b.write(b.o.Policy, demand)
			for _, id := range ids {
				b.untrusted("before the next pull", b.tryMount(id, ""))
			}
			b.pull("registry.test/good:1")
			_, err := b.Pull(t.Context(), PullOptions{Ref: "registry.test/bad:1"})
			b.untrusted("pulled again", err)
			if err := b.tryMount(good.ID, ""); err != nil {
				t.Errorf("pulled again: %v", err)
			}
			b.untrusted("not signed", b.tryMount(bad.ID, ""))
			// A key that is withdrawn.
			another, _ := s.key()
			b.write(key, string(another))
			b.untrusted("another key", b.tryMount(good.ID, ""))
			b.write(key, string(public))
			if err := b.tryMount(good.ID, ""); err != nil {
				t.Errorf("the first key again: %v", err)
			}
		})
	}
}

// TestPolicyOfNamespace: a namespace's policy counts in the place of the general
// one, and an image that another namespace pulled runs where it is good enough.
func TestPolicyOfNamespace(t *testing.T) {
	s := signers(t)["sigstore"]
	b, key := signed(t, s.kind, func(b *bench) {
		b.o.PolicyDir = filepath.Join(filepath.Dir(b.o.Policy), "policies")
		if err := os.Mkdir(b.o.PolicyDir, 0o755); err != nil {
			t.Fatal(err)
		}
		b.write(filepath.Join(b.o.PolicyDir, "strict.json"), demanding(s.kind, filepath.Join(filepath.Dir(b.o.Policy), "key")))
		b.write(filepath.Join(b.o.PolicyDir, "closed.json"), `{"default":[{"type":"reject"}]}`)
		b.write(b.o.Policy, `{"default":[{"type":"insecureAcceptAnything"}]}`)
	})
	public, sign := s.key()
	b.write(key, string(public))
	good, bad := b.reg.Push(simple(t, "good:1", "a")), b.reg.Push(simple(t, "bad:1", "b"))
	sign(b, "good:1", good.Manifest, good.Manifest)
	pull := func(name, namespace string) error {
		_, err := b.Pull(t.Context(), PullOptions{Ref: "registry.test/" + name, Namespace: namespace})
		return err
	}
	for _, c := range []struct {
		name, namespace string
		allowed         bool
	}{
		{"good:1", "closed", false}, {"bad:1", "closed", false}, {"bad:1", "strict", false},
		{"good:1", "", true}, {"bad:1", "free", true}, {"good:1", "free", true}, {"good:1", "../closed", true},
	} {
		if err := pull(c.name, c.namespace); (err == nil) != c.allowed {
			t.Errorf("pull of %s for %q: %v", c.name, c.namespace, err)
		} else if err != nil {
			b.untrusted(c.name, err)
		}
	}
	// They were pulled for others: what the policy of strict says was asked then.
	for _, c := range []struct {
		id        ID
		namespace string
		allowed   bool
	}{
		{good.ID, "", true}, {good.ID, "free", true}, {good.ID, "strict", true}, {good.ID, "closed", false},
		{bad.ID, "", true}, {bad.ID, "strict", false}, {bad.ID, "closed", false},
	} {
		if err := b.tryMount(c.id, c.namespace); (err == nil) != c.allowed {
			t.Errorf("mount of %s for %q: %v", c.id, c.namespace, err)
		}
	}
	b.write(filepath.Join(b.o.PolicyDir, "strict.json"), "{")
	b.untrusted("a damaged policy", b.tryMount(good.ID, "strict"))
	if err := b.tryMount(good.ID, "free"); err != nil {
		t.Errorf("a damaged policy of others: %v", err)
	}
}

// TestUnsignedArtifact: artifacts are asked for signatures as images are.
func TestUnsignedArtifact(t *testing.T) {
	s := signers(t)["sigstore"]
	b, key := signed(t, s.kind)
	public, sign := s.key()
	b.write(key, string(public))
	p := b.reg.PushArtifact(model("model:1"))
	_, err := b.Pull(t.Context(), PullOptions{Ref: "registry.test/model:1"})
	b.untrusted("not signed", err)
	sign(b, "model:1", p.Manifest, p.Manifest)
	id := b.pull("registry.test/model:1")
	b.write(b.o.Policy, `{"default":[{"type":"reject"}]}`)
	_, err = b.view("k", id, "")
	b.untrusted("no longer trusted", err)
}
