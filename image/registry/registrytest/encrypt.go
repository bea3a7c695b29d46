package registrytest

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"io"
	"testing"

	"github.com/containers/ocicrypt"
	"github.com/containers/ocicrypt/config"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// NewKey makes a key pair for encrypted layers, in PEM.
func NewKey(t testing.TB) (private, public []byte) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}),
		pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// Encrypt makes a layer that the owners of public keys can read.
func Encrypt(t testing.TB, l Layer, public ...[]byte) Layer {
	c, err := config.EncryptWithJwe(public)
	if err != nil {
		t.Fatal(err)
	}
	return EncryptFor(t, l, c.EncryptConfig)
}

// EncryptFor makes a layer for whoever c says.
func EncryptFor(t testing.TB, l Layer, c *config.EncryptConfig) Layer {
	sealed, finish, err := ocicrypt.EncryptLayer(c, bytes.NewReader(l.Blob), v1.Descriptor{})
	if err != nil {
		t.Fatal(err)
	}
	l.Kind = cmp.Or(l.Kind, v1.MediaTypeImageLayerGzip) + "+encrypted"
	if l.Blob, err = io.ReadAll(sealed); err != nil {
		t.Fatal(err)
	}
	if l.Annotations, err = finish(); err != nil {
		t.Fatal(err)
	}
	return l
}
