package registrytest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// payload is what both kinds of signatures sign (containers-signature(5)).
const payload = `{"critical":{"type":%q,"image":{"docker-manifest-digest":%q},"identity":{"docker-reference":%q}},"optional":{}}`

// Sigstore is a key as cosign makes them.
type Sigstore struct {
	t       testing.TB
	private *ecdsa.PrivateKey
}

// NewSigstore makes a key.
func NewSigstore(t testing.TB) *Sigstore {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Sigstore{t: t, private: key}
}

// Public is the public key in the form of policy.json's keyPath.
func (k *Sigstore) Public() []byte {
	der, err := x509.MarshalPKIXPublicKey(k.private.Public())
	if err != nil {
		k.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// Sign returns a blob and its descriptor, which is a layer of the manifest that
// holds the signatures of the manifest with digest d of the image called name.
func (k *Sigstore) Sign(name string, d digest.Digest) ([]byte, v1.Descriptor) {
	text := fmt.Appendf(nil, payload, "cosign container image signature", d, name)
	sum := sha256.Sum256(text)
	signature, err := ecdsa.SignASN1(rand.Reader, k.private, sum[:])
	if err != nil {
		k.t.Fatal(err)
	}
	return text, v1.Descriptor{
		MediaType: "application/vnd.dev.cosign.simplesigning.v1+json", Digest: digest.FromBytes(text), Size: int64(len(text)),
		Annotations: map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(signature)},
	}
}

// AttachmentTag is where the signatures of a manifest are.
func AttachmentTag(d digest.Digest) string { return strings.Replace(d.String(), ":", "-", 1) + ".sig" }

// Attach stores a signature of the manifest of, where those of the manifest at
// are looked for.
func (s *Server) Attach(name string, at, of digest.Digest, k *Sigstore) {
	text, layer := k.Sign(Host+"/"+name, of)
	s.PutBlob(text, "")
	config := []byte("{}")
	repository, _, _ := strings.Cut(name, ":")
	s.PutManifest(repository+":"+AttachmentTag(at), v1.MediaTypeImageManifest, s.encode(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: s.PutBlob(config, ""), Size: int64(len(config))},
		Layers: []v1.Descriptor{layer},
	}))
}

// GPG is a key for simple signing.
type GPG struct {
	t      testing.TB
	entity *openpgp.Entity
}

// NewGPG makes a key.
func NewGPG(t testing.TB) *GPG {
	e, err := openpgp.NewEntity("somebody", "", "somebody@test", nil)
	if err != nil {
		t.Fatal(err)
	}
	return &GPG{t: t, entity: e}
}

// Public is the public key in the form of policy.json's keyPath.
func (k *GPG) Public() []byte {
	var b bytes.Buffer
	if err := k.entity.Serialize(&b); err != nil {
		k.t.Fatal(err)
	}
	return b.Bytes()
}

// Sign returns a signature of the manifest with digest d of the image called
// name.
func (k *GPG) Sign(name string, d digest.Digest) []byte {
	var b bytes.Buffer
	w, err := openpgp.Sign(&b, k.entity, nil, nil)
	if err != nil {
		k.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(w, payload, "atomic container signature", d, name); err != nil {
		k.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		k.t.Fatal(err)
	}
	return b.Bytes()
}
