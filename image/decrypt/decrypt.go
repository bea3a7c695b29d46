// Package decrypt opens encrypted layers with the node's keys, in the form of
// ocicrypt. It owns no key: they are read when an image needs one and forgotten
// with its pull. Where layers come from, and what becomes of them, is the
// caller's business.
//
// The keys are the node's: whatever pod may use an image that they open.
package decrypt

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/containers/ocicrypt"
	"github.com/containers/ocicrypt/config"
	"github.com/containers/ocicrypt/utils"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"

	"github.com/criruntime/criruntime/image/registry"
)

// maxKey bounds a file of the keys' directory.
const maxKey = 1 << 20

// Keys opens the layers of one image.
type Keys struct{ config *config.DecryptConfig }

// Unlock reads the keys in dir, "" for none, and finds for each encrypted layer
// one that opens it. Without such layers it reads nothing and returns nil. Key
// providers are those that ocicrypt's own configuration names, which is in the
// environment variable OCICRYPT_KEYPROVIDER_CONFIG.
//
// Errors wrap registry.ErrDenied if there is no such key. They hold no part of
// one.
func Unlock(dir string, layers []registry.Layer, log *logrus.Entry) (*Keys, error) {
	var k *Keys
	for _, l := range layers {
		if l.Sealed == nil {
			continue
		}
		if k == nil {
			keys, err := read(dir, log)
			if err != nil {
				return nil, err
			}
			k = &Keys{config: config.InitDecryption(keys).DecryptConfig}
		}
		if _, err := decrypt(k.config, nil, l, true); err != nil {
			why := "no key of the node opens it"
			if dir == "" {
				why = "there is no directory of keys"
			}
			return nil, fmt.Errorf("%w: the layer %s is encrypted, and %s: %s", registry.ErrDenied, l.Digest, why, strings.Join(strings.Fields(err.Error()), " "))
		}
	}
	return k, nil
}

// read returns the keys in dir by their kinds. A file that is none is said and
// left out.
func read(dir string, log *logrus.Entry) (map[string][][]byte, error) {
	all := map[string][][]byte{}
	if dir == "" {
		return all, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot read the decryption keys: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") { // a mounted Secret has its files twice
			continue
		}
		keys, err := readKey(path)
		if err != nil {
			log.Warnf("%s holds no decryption key: %v", path, err)
			continue
		}
		for kind, items := range keys {
			all[kind] = append(all[kind], items...)
		}
	}
	return all, nil
}

func readKey(path string) (map[string][][]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxKey {
		return nil, errors.New("not a small regular file")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if _, err := utils.IsPrivateKey(data, nil); utils.IsPasswordError(err) {
		return nil, errors.New("it needs a password")
	}
	keys, err := utils.SortDecryptionKeys(base64.StdEncoding.EncodeToString(data))
	if err != nil {
		return nil, errors.New("of no known form")
	}
	return keys, nil
}

// decrypt is ocicrypt's function, which panics at a nonce of a wrong length: and
// that comes from the manifest.
func decrypt(keys *config.DecryptConfig, blob io.Reader, l registry.Layer, keyOnly bool) (plain io.Reader, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("its parameters are malformed: %v", p)
		}
	}()
	plain, _, err = ocicrypt.DecryptLayer(keys, blob, v1.Descriptor{Digest: l.Digest, Size: l.Size, Annotations: l.Sealed}, keyOnly)
	return plain, err
}

// Open returns what is inside the blob of an encrypted layer. The digest of the
// blob is checked on the way, and so is ocicrypt's own checksum: both count only
// at the end of the stream. Close closes blob.
func (k *Keys) Open(l registry.Layer, blob io.ReadCloser) (io.ReadCloser, error) {
	c := &checked{r: blob, want: l, digest: l.Digest.Algorithm().Digester()}
	plain, err := decrypt(k.config, c, l, false)
	if err != nil {
		_ = blob.Close()
		return nil, fmt.Errorf("%w: cannot decrypt: %v", registry.ErrInvalid, err)
	}
	return &opened{plain: plain, sealed: c, Closer: blob}, nil
}

// opened is the content of an encrypted blob.
type opened struct {
	plain  io.Reader
	sealed *checked
	io.Closer
}

// Read implements io.Reader.
func (o *opened) Read(p []byte) (int, error) {
	n, err := o.plain.Read(p)
	switch {
	case err == nil:
		return n, nil
	case o.sealed.err != nil && o.sealed.err != io.EOF:
		return n, o.sealed.err
	case err != io.EOF:
		return n, fmt.Errorf("%w: cannot decrypt: %v", registry.ErrInvalid, err)
	}
	if _, err := io.Copy(io.Discard, o.sealed); err != nil { // the digest covers all
		return n, err
	}
	return n, io.EOF
}
