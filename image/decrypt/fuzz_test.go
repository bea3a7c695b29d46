package decrypt

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/criruntime/criruntime/image/registry"
	"github.com/criruntime/criruntime/image/registry/registrytest"
)

// FuzzSealed: whatever a manifest says of how a layer is encrypted, it is opened
// or refused, and only the right bytes get through.
func FuzzSealed(f *testing.F) {
	private, public := registrytest.NewKey(f)
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "key.pem"), private, 0o600); err != nil {
		f.Fatal(err)
	}
	text := []byte("the content of a layer")
	good := registrytest.Encrypt(f, registrytest.Layer{Blob: text}, public)
	annotations, err := json.Marshal(good.Annotations)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(annotations, good.Blob)
	f.Add([]byte(`{"org.opencontainers.image.enc.keys.jwe":"e30=","org.opencontainers.image.enc.pubopts":"e30="}`), []byte("x"))
	f.Add([]byte(`{"org.opencontainers.image.enc.keys.pkcs7":"MA==","org.opencontainers.image.enc.keys.pgp":"MA=="}`), []byte{})
	f.Add([]byte(`{}`), []byte{})
	log := logrus.New()
	log.SetOutput(io.Discard)
	f.Fuzz(func(t *testing.T, annotations, blob []byte) {
		l := registry.Layer{Digest: digest.FromBytes(blob), Size: int64(len(blob)), Sealed: map[string]string{}}
		if json.Unmarshal(annotations, &l.Sealed) != nil || l.Sealed == nil {
			return
		}
		k, err := Unlock(dir, []registry.Layer{l}, logrus.NewEntry(log))
		if err != nil {
			if !errors.Is(err, registry.ErrDenied) {
				t.Errorf("unlock: %v", err)
			}
			return
		}
		r, err := k.Open(l, io.NopCloser(bytes.NewReader(blob)))
		if err == nil {
			_, err = io.ReadAll(r)
		}
		if err != nil && !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("open: %v", err)
		}
	})
}
