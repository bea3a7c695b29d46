// Package archive reads images out of tar files, as "docker save", "podman save"
// and "skopeo copy" write them: OCI layouts and Docker's own form. It owns the
// open file and finds the parts in it; it knows neither the store nor policy,
// and never writes.
//
// The input is hostile: what is held in memory is bounded, and what the digests
// do not vouch for is the caller's to verify, as with a registry.
package archive

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/image/registry"
)

const (
	maxFiles    = 100_000
	maxDocument = 8 << 20 // bytes of a config, manifest or index
)

// The transports by which policy.json knows archives.
const (
	OCI    = "oci-archive"
	Docker = "docker-archive"
)

// Archive is one open file. Its methods are safe for concurrent use.
type Archive struct {
	// Transport is OCI or Docker. A file that is both is taken for the former.
	Transport string

	file  *os.File
	parts map[string]part
}

// part is where a file's content is in the archive, or, with a link, elsewhere.
type part struct {
	offset, size int64
	link         string
}

// Image is one image of an archive.
type Image struct {
	registry.Content
	// Names are as the archive spells them, not normalized.
	Names []string
	// Digest is of its manifest or index, "" if the archive has none.
	Digest digest.Digest

	layers []string // the files that hold them
}

// Open reads what the archive at path holds. Close it. Errors that are the
// archive's fault wrap registry.ErrInvalid.
func Open(path string) (_ *Archive, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO would wait for a writer
	if err != nil {
		return nil, err
	}
	a := &Archive{file: f, parts: map[string]part{}}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: not a regular file", registry.ErrInvalid)
	}
	if err := a.scan(); err != nil {
		return nil, err
	}
	for _, form := range []struct{ file, transport string }{{"index.json", OCI}, {"manifest.json", Docker}} {
		if _, ok := a.parts[form.file]; ok {
			a.Transport = form.transport
			return a, nil
		}
	}
	return nil, fmt.Errorf("%w: it holds neither index.json nor manifest.json", registry.ErrInvalid)
}

// Close closes the file; blobs that are being read fail.
func (a *Archive) Close() error { return a.file.Close() }

// scan notes where the files are. The tar reader takes nothing ahead of what it
// returns, so that the file's position is the content's.
func (a *Archive) scan() error {
	tr := tar.NewReader(a.file)
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: not an uncompressed tar file, or cut short: %v", registry.ErrInvalid, err)
		}
		if len(a.parts) == maxFiles {
			return fmt.Errorf("%w: it holds more than %d files", registry.ErrInvalid, maxFiles)
		}
		name := path.Clean(hdr.Name)
		switch hdr.Typeflag {
		case tar.TypeReg:
			offset, err := a.file.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			a.parts[name] = part{offset: offset, size: hdr.Size}
		case tar.TypeSymlink:
			a.parts[name] = part{link: path.Join(path.Dir(name), hdr.Linkname)}
		case tar.TypeLink:
			a.parts[name] = part{link: path.Clean(hdr.Linkname)}
		}
	}
}

// open returns the content of a file. Links lead to files, not to other links.
func (a *Archive) open(name string) (*io.SectionReader, error) {
	p, ok := a.parts[path.Clean(name)]
	if ok && p.link != "" {
		p, ok = a.parts[p.link]
	}
	if !ok || p.link != "" {
		return nil, fmt.Errorf("%w: it lacks the file %q", registry.ErrInvalid, name)
	}
	return io.NewSectionReader(a.file, p.offset, p.size), nil
}

// document returns the content of a small file.
func (a *Archive) document(name string) ([]byte, error) {
	r, err := a.open(name)
	if err != nil {
		return nil, err
	}
	if r.Size() > maxDocument {
		return nil, fmt.Errorf("%w: %q has %d bytes, %d are allowed", registry.ErrInvalid, name, r.Size(), maxDocument)
	}
	return io.ReadAll(r)
}

func (a *Archive) decode(name string, v any) error {
	data, err := a.document(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: cannot parse %q: %v", registry.ErrInvalid, name, err)
	}
	return nil
}

// Images are those for this machine. It goes on after one that is damaged, and
// returns what is wrong with it beside the others.
func (a *Archive) Images() ([]Image, error) {
	if a.Transport == OCI {
		return a.layout()
	}
	return a.saved()
}

// Layer returns a reader of the i-th layer of img.
func (a *Archive) Layer(img *Image, i int) (io.ReadCloser, error) {
	r, err := a.open(img.layers[i])
	if err != nil {
		return nil, err
	}
	return io.NopCloser(r), nil
}

// Scopes are what policy.json may know the archive by, besides its transport:
// see containers-policy.json(5).
func (a *Archive) Scopes() []string {
	if a.Transport == Docker {
		return []string{""}
	}
	full, err := filepath.EvalSymlinks(a.file.Name())
	if err != nil {
		return []string{""}
	}
	scopes := []string{full}
	for dir := filepath.Dir(full); dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		scopes = append(scopes, dir)
	}
	return scopes
}

// each calls read for n images and collects those that are good.
func each(n int, read func(i int) (*Image, error)) ([]Image, error) {
	var all []Image
	var errs []error
	for i := range n {
		img, err := read(i)
		if err != nil {
			errs = append(errs, err)
		} else if img != nil {
			all = append(all, *img)
		}
	}
	return all, errors.Join(errs...)
}
