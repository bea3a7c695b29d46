package decrypt

import (
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/criruntime/criruntime/image/registry"
)

// checked passes a blob on and ends with an error instead of io.EOF if it is not
// what the manifest says.
type checked struct {
	r      io.Reader
	want   registry.Layer
	digest digest.Digester
	n      int64
	err    error // the last one
}

// Read implements io.Reader.
func (c *checked) Read(p []byte) (n int, err error) {
	if c.err != nil {
		return 0, c.err
	}
	n, c.err = c.r.Read(p)
	c.digest.Hash().Write(p[:n])
	c.n += int64(n)
	if c.want.Size >= 0 && c.n > c.want.Size || c.err == io.EOF {
		if err := c.verify(); err != nil {
			c.err = err
			return 0, err
		}
	}
	return n, c.err
}

func (c *checked) verify() error {
	if c.want.Size >= 0 && c.n != c.want.Size {
		return fmt.Errorf("%w: the blob has not %d bytes", registry.ErrInvalid, c.want.Size)
	}
	if got := c.digest.Digest(); got != c.want.Digest {
		return fmt.Errorf("%w: the blob has digest %s instead of %s", registry.ErrInvalid, got, c.want.Digest)
	}
	return nil
}
