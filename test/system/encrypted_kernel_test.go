//go:build kernel

package system

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/containers/ocicrypt"
	"github.com/containers/ocicrypt/config"
	"google.golang.org/grpc/codes"

	"github.com/criruntime/criruntime/image/registry/registrytest"
	"github.com/criruntime/criruntime/test/fixtures"
	"github.com/criruntime/criruntime/test/harness"
)

// provider stands for a key service that the node asks: it wraps nothing.
type provider struct{}

func (provider) GetAnnotationID() string { return "org.opencontainers.image.enc.keys.provider.test" }

func (provider) WrapKeys(c *config.EncryptConfig, key []byte) ([]byte, error) {
	if _, ok := c.Parameters["test"]; ok {
		return key, nil
	}
	return nil, nil
}

func (provider) UnwrapKey(*config.DecryptConfig, []byte) ([]byte, error) {
	panic("not in this process")
}
func (provider) NoPossibleKeys(map[string][][]byte) bool      { return true }
func (provider) GetPrivateKeys(map[string][][]byte) [][]byte  { return nil }
func (provider) GetKeyIdsFromPacket(string) ([]uint64, error) { return nil, nil }
func (provider) GetRecipients(string) ([]string, error)       { return nil, nil }

// keyService is the other half, as ocicrypt's protocol has it: JSON in, JSON out.
const keyService = `#!/bin/sh
printf '{"keyunwrapresults":{"optsdata":"%s"}}' "$(sed 's/.*"annotation":"\([^"]*\)".*/\1/')"
`

// pushSealed serves busybox with one more layer, encrypted by seal.
func (w *world) pushSealed(name string, seal func(registrytest.Layer) registrytest.Layer) string {
	w.t.Helper()
	var tree fixtures.Tree
	tree.File("/secret-of-"+name, 0o644, "the secret of "+name)
	plain := tree.Layer(fixtures.Gzip)
	sealed := seal(registrytest.Layer{Blob: plain.Blob, DiffID: plain.DiffID, Kind: plain.MediaType})
	_, err := registry.Push(w.ctx, name, "1", images.Busybox.With(fixtures.Layer{
		Blob: sealed.Blob, DiffID: sealed.DiffID, MediaType: sealed.Kind, Annotations: sealed.Annotations,
	}))
	must(w.t, err)
	return "registry.test/" + name + ":1"
}

// TestEncryptedImages runs images that a key of the node opens, or a key service
// that the daemon's environment names; others are refused.
func TestEncryptedImages(t *testing.T) {
	ocicrypt.RegisterKeyWrapper("provider.test", provider{})
	private, public := registrytest.NewKey(t)
	_, foreign := registrytest.NewKey(t)
	var environment string
	w := start(t, func(o *harness.NodeOptions) {
		keys, service := filepath.Join(o.Dir, "keys"), filepath.Join(o.Dir, "service")
		environment = filepath.Join(o.Dir, "ocicrypt.json")
		for name, text := range map[string]string{
			filepath.Join(keys, "node.pem"):                        string(private),
			filepath.Join(o.Dir, "criruntime.toml.d", "keys.toml"): fmt.Sprintf("[image]\ndecryption_keys = %q\n", keys),
			service:     keyService,
			environment: fmt.Sprintf(`{"key-providers":{"test":{"cmd":{"path":%q}}}}`, service),
		} {
			must(t, os.MkdirAll(filepath.Dir(name), 0o755))
			must(t, os.WriteFile(name, []byte(text), 0o700))
		}
	})
	w.settle()
	sealed := func(key []byte) func(registrytest.Layer) registrytest.Layer {
		return func(l registrytest.Layer) registrytest.Layer { return registrytest.Encrypt(t, l, key) }
	}
	good, bad := w.pushSealed("sealed", sealed(public)), w.pushSealed("foreign", sealed(foreign))
	served := w.pushSealed("served", func(l registrytest.Layer) registrytest.Layer {
		return registrytest.EncryptFor(t, l, &config.EncryptConfig{Parameters: map[string][][]byte{"test": {{}}}})
	})
	for _, ref := range []string{bad, served} {
		_, err := w.Pull(w.ctx, ref)
		refused(t, err, codes.PermissionDenied, ref, "is encrypted, and no key of the node opens it")
	}
	must(t, w.Kill())
	w.Env = append(w.Env, "OCICRYPT_KEYPROVIDER_CONFIG="+environment)
	must(t, w.Restart(w.ctx))
	for name, ref := range map[string]string{"sealed": good, "served": served} {
		_, err := w.Pull(w.ctx, ref)
		must(t, err)
		pod, podConfig := w.pod(name)
		config := harness.Shell("main", "cat /secret-of-"+name)
		config.Image.Image = ref
		has(t, w.output(pod, podConfig, config), "the secret of "+name)
		must(t, w.RemovePod(w.ctx, pod))
		w.removeImage(ref)
	}
	w.clean()
}
