// Package registrytest is an image registry in memory for tests: it serves what
// it is given over plain HTTP, counts what is fetched, and misbehaves on demand.
package registrytest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Host is the registry's name in image names. Conf sends it to the server.
const Host = "registry.test"

// Fault answers a request in the registry's stead, or reports false.
type Fault func(w http.ResponseWriter, r *http.Request) bool

// Server is one registry.
type Server struct {
	t    testing.TB
	http *httptest.Server

	mu        sync.Mutex // guards all below
	blobs     map[digest.Digest][]byte
	manifests map[string]document // "repository:tag" and "repository@digest"
	fault     Fault
	fetched   map[string]int
}

type document struct {
	kind string
	data []byte
}

// New starts a registry that ends with the test.
func New(t testing.TB) *Server {
	s := &Server{
		t: t, blobs: map[digest.Digest][]byte{}, manifests: map[string]document{}, fetched: map[string]int{},
	}
	s.http = httptest.NewServer(s)
	t.Cleanup(func() {
		s.http.CloseClientConnections()
		s.http.Close()
	})
	return s
}

// Addr is the server's host and port.
func (s *Server) Addr() string { return strings.TrimPrefix(s.http.URL, "http://") }

// Conf writes a registries.conf that sends Host, and names if given, to the
// server, allows plain HTTP to Addr, and returns its path.
func (s *Server) Conf(names ...string) string {
	var conf strings.Builder
	for _, name := range append([]string{Host, s.Addr()}, names...) {
		fmt.Fprintf(&conf, "[[registry]]\nprefix = %q\nlocation = %q\ninsecure = true\n\n", name, s.Addr())
	}
	return s.file("registries.conf", conf.String())
}

// MirrorConf writes a registries.conf in which the server mirrors names, whose
// own location answers nothing.
func (s *Server) MirrorConf(names ...string) string {
	var conf strings.Builder
	for _, name := range names {
		fmt.Fprintf(&conf, "[[registry]]\nprefix = %q\nlocation = \"127.0.0.1:1\"\ninsecure = true\n", name)
		fmt.Fprintf(&conf, "[[registry.mirror]]\nlocation = %q\ninsecure = true\n\n", s.Addr())
	}
	return s.file("registries.conf", conf.String())
}

// OpenPolicy writes a policy.json that accepts everything.
func (s *Server) OpenPolicy() string {
	return s.file("policy.json", `{"default":[{"type":"insecureAcceptAnything"}]}`)
}

// ClosedPolicy writes a policy.json that rejects everything.
func (s *Server) ClosedPolicy() string {
	return s.file("policy.json", `{"default":[{"type":"reject"}]}`)
}

func (s *Server) file(name, content string) string {
	path := filepath.Join(s.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// Misbehave installs a fault, nil for none.
func (s *Server) Misbehave(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Fetched tells how often the blob d was asked for.
func (s *Server) Fetched(d digest.Digest) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fetched[d.String()]
}

// PutBlob stores data under its digest, or under as if that is not "".
func (s *Server) PutBlob(data []byte, as digest.Digest) digest.Digest {
	if as == "" {
		as = digest.FromBytes(data)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[as] = data
	return as
}

// Blob returns what PutBlob stored.
func (s *Server) Blob(d digest.Digest) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blobs[d]
}

// PutManifest stores a manifest or index under repository:tag and its digest.
func (s *Server) PutManifest(name, kind string, data []byte) digest.Digest {
	d := digest.FromBytes(data)
	repository, _, _ := strings.Cut(name, ":")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.manifests[name] = document{kind, data}
	s.manifests[repository+"@"+d.String()] = document{kind, data}
	return d
}

// Delete forgets the tag or digest called name.
func (s *Server) Delete(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.manifests, name)
}

// ServeHTTP implements the pull half of the distribution protocol.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	if path == "" {
		w.WriteHeader(http.StatusOK)
		return
	}
	if repository, ref, ok := strings.Cut(path, "/manifests/"); ok {
		s.serveManifest(w, repository, ref)
		return
	}
	if _, d, ok := strings.Cut(path, "/blobs/"); ok {
		s.serveBlob(w, r, d)
		return
	}
	Refuse(w, http.StatusNotFound, "NAME_UNKNOWN")
}

func (s *Server) serveManifest(w http.ResponseWriter, repository, ref string) {
	sep := ":"
	if strings.HasPrefix(ref, "sha256:") {
		sep = "@"
	}
	s.mu.Lock()
	m, ok := s.manifests[repository+sep+ref]
	s.fetched[repository+sep+ref]++
	s.mu.Unlock()
	if !ok {
		Refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN")
		return
	}
	w.Header().Set("Content-Type", m.kind)
	_, _ = w.Write(m.data)
}

func (s *Server) serveBlob(w http.ResponseWriter, r *http.Request, d string) {
	s.mu.Lock()
	data, ok := s.blobs[digest.Digest(d)]
	s.fetched[d]++
	s.mu.Unlock()
	if !ok {
		Refuse(w, http.StatusNotFound, "BLOB_UNKNOWN")
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// Refuse answers with an error as registries do.
func Refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"refused by the test"}]}`, code)
}

// Image describes an image to push.
type Image struct {
	Name    string          // "repository:tag"
	Layers  []Layer         // bottom first
	Config  v1.Image        // its RootFS is filled in
	Docker  bool            // schema 2 media types instead of OCI's
	DiffIDs []digest.Digest // instead of the true ones
	// Annotations are those of the manifest.
	Annotations map[string]string
}

// Pushed tells what Push made.
type Pushed struct {
	ID       digest.Digest
	Manifest digest.Digest
	Blobs    []digest.Digest
	Data     []byte // the manifest
	Kind     string // of the manifest
}

// Push stores an image.
func (s *Server) Push(img Image) Pushed {
	kinds := []string{v1.MediaTypeImageManifest, v1.MediaTypeImageConfig, v1.MediaTypeImageLayerGzip}
	if img.Docker {
		kinds = []string{
			"application/vnd.docker.distribution.manifest.v2+json",
			"application/vnd.docker.container.image.v1+json",
			"application/vnd.docker.image.rootfs.diff.tar.gzip",
		}
	}
	out := Pushed{Kind: kinds[0]}
	man := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: kinds[0], Annotations: img.Annotations}
	if img.Config.OS == "" {
		img.Config.OS, img.Config.Architecture = "linux", "amd64"
	}
	img.Config.RootFS = v1.RootFS{Type: "layers"}
	for _, l := range img.Layers {
		d := s.PutBlob(l.Blob, "")
		out.Blobs = append(out.Blobs, d)
		img.Config.RootFS.DiffIDs = append(img.Config.RootFS.DiffIDs, l.DiffID)
		kind := kinds[2]
		if l.Kind != "" {
			kind = l.Kind
		}
		man.Layers = append(man.Layers, v1.Descriptor{MediaType: kind, Digest: d, Size: int64(len(l.Blob)), Annotations: l.Annotations})
	}
	if img.DiffIDs != nil {
		img.Config.RootFS.DiffIDs = img.DiffIDs
	}
	config := s.encode(img.Config)
	out.ID = s.PutBlob(config, "")
	man.Config = v1.Descriptor{MediaType: kinds[1], Digest: out.ID, Size: int64(len(config))}
	out.Data = s.encode(man)
	out.Manifest = s.PutManifest(img.Name, kinds[0], out.Data)
	return out
}

// Artifact describes an artifact to push.
type Artifact struct {
	Name  string // "repository:tag"
	Type  string
	Files []ArtifactFile
}

// ArtifactFile is the title and the data of one blob. The title "-" leaves it
// without one.
type ArtifactFile [2]string

// PushArtifact stores an artifact. Its ID is its manifest's digest.
func (s *Server) PushArtifact(a Artifact) Pushed {
	out := Pushed{Kind: v1.MediaTypeImageManifest}
	man := v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: out.Kind, ArtifactType: a.Type, Config: v1.DescriptorEmptyJSON,
	}
	s.PutBlob(v1.DescriptorEmptyJSON.Data, "")
	for _, f := range a.Files {
		title, data := f[0], []byte(f[1])
		d := v1.Descriptor{MediaType: "application/octet-stream", Digest: s.PutBlob(data, ""), Size: int64(len(data))}
		if title != "-" {
			d.Annotations = map[string]string{v1.AnnotationTitle: title}
		}
		out.Blobs = append(out.Blobs, d.Digest)
		man.Layers = append(man.Layers, d)
	}
	out.Data = s.encode(man)
	out.Manifest = s.PutManifest(a.Name, out.Kind, out.Data)
	out.ID = out.Manifest
	return out
}

// PushIndex stores an index under name. Each part is for the platform
// "os/arch" that it is keyed by.
func (s *Server) PushIndex(name string, parts map[string]Pushed) digest.Digest {
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex}
	for platform, p := range parts {
		system, arch, _ := strings.Cut(platform, "/")
		index.Manifests = append(index.Manifests, v1.Descriptor{
			MediaType: p.Kind, Digest: p.Manifest, Size: int64(len(p.Data)),
			Platform: &v1.Platform{OS: system, Architecture: arch},
		})
	}
	return s.PutManifest(name, v1.MediaTypeImageIndex, s.encode(index))
}

func (s *Server) encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		s.t.Fatal(err)
	}
	return data
}

// Layer is a layer's blob.
type Layer struct {
	Blob   []byte
	DiffID digest.Digest
	Kind   string // media type, "" for gzip's
	// Annotations are those of its descriptor.
	Annotations map[string]string
}

// Gzip makes a layer of entries.
func Gzip(t testing.TB, entries ...*tar.Header) Layer {
	return GzipArchive(t, Archive(t, entries...))
}

// GzipArchive makes a layer of an archive.
func GzipArchive(t testing.TB, archive []byte) Layer {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(archive); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return Layer{Blob: buf.Bytes(), DiffID: digest.FromBytes(archive)}
}

// Zstd makes a layer of entries.
func Zstd(t testing.TB, entries ...*tar.Header) Layer {
	archive := Archive(t, entries...)
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return Layer{Blob: z.EncodeAll(archive, nil), DiffID: digest.FromBytes(archive), Kind: v1.MediaTypeImageLayerZstd}
}

// Plain makes an uncompressed layer of entries.
func Plain(t testing.TB, entries ...*tar.Header) Layer {
	archive := Archive(t, entries...)
	return Layer{Blob: archive, DiffID: digest.FromBytes(archive), Kind: v1.MediaTypeImageLayer}
}

// Archive makes a tar archive. A regular file holds its own Linkname.
func Archive(t testing.TB, entries ...*tar.Header) []byte {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, e := range entries {
		h := *e
		body := ""
		if h.Typeflag == tar.TypeReg {
			body, h.Linkname = h.Linkname, ""
			h.Size = int64(len(body))
		}
		h.Format = tar.FormatPAX
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// File is an entry for a regular file.
func File(name, body string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Linkname: body}
}

// Dir is an entry for a directory.
func Dir(name string, mode int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimSuffix(name, "/") + "/", Mode: mode}
}

// Symlink is an entry for a symbolic link.
func Symlink(name, target string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}
}

// Link is an entry for a hard link.
func Link(name, target string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}
}
