package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/distribution/registry/api/errcode"
	v2 "github.com/docker/distribution/registry/api/v2"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/types"
)

const someDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestNormalize(t *testing.T) {
	for name, want := range map[string]string{
		"busybox":                           "docker.io/library/busybox:latest",
		"busybox:1":                         "docker.io/library/busybox:1",
		"library/busybox":                   "docker.io/library/busybox:latest",
		"docker.io/busybox":                 "docker.io/library/busybox:latest",
		"localhost/x":                       "localhost/x:latest",
		"localhost:5000/x/y:z":              "localhost:5000/x/y:z",
		"registry.k8s.io/a@" + someDigest:   "registry.k8s.io/a@" + someDigest,
		"registry.k8s.io/a:1@" + someDigest: "registry.k8s.io/a@" + someDigest,
	} {
		ref, err := Normalize(name)
		if err != nil || ref.String() != want {
			t.Errorf("%q: %v, %v, want %q", name, ref, err, want)
		}
	}
	for _, name := range []string{"", ":", "A", "a//b", "a@sha256:1", "sha256:" + strings.Repeat("a", 64)[:10] + "/"} {
		if ref, err := Normalize(name); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v, %v", name, ref, err)
		}
	}
}

func client(t *testing.T, conf string) *Client {
	t.Helper()
	dir := t.TempDir()
	o := Options{RegistriesConf: filepath.Join(dir, "registries.conf"), Policy: filepath.Join(dir, "policy.json")}
	for path, data := range map[string]string{o.RegistriesConf: conf, o.Policy: `{"default":[{"type":"reject"}]}`} {
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCandidates(t *testing.T) {
	for conf, want := range map[string]string{
		``: "docker.io/library/app:latest",
		`unqualified-search-registries = ["one.test", "two.test"]`: "one.test/app:latest two.test/app:latest",
	} {
		refs, err := client(t, conf).Candidates("app")
		if got := strings.Trim(fmt.Sprint(refs), "[]"); err != nil || got != want {
			t.Errorf("%q: %s, %v", conf, got, err)
		}
	}
	c := client(t, "short-name-mode = \"enforcing\"\nunqualified-search-registries = [\"one.test\", \"two.test\"]")
	if _, err := c.resolve("app"); !errors.Is(err, ErrInvalid) {
		t.Errorf("enforcing: %v", err)
	}
	if refs, err := c.resolve("one.test/app"); err != nil || len(refs) != 1 {
		t.Errorf("enforcing, a full name: %v, %v", refs, err)
	}
}

// TestAliasWithDigest: an alias stands for the repository, whatever follows its name.
func TestAliasWithDigest(t *testing.T) {
	c := client(t, "[aliases]\n\"nick\" = \"one.test/real\"\n\"team/nick\" = \"two.test/real\"")
	for name, want := range map[string]string{
		"nick":                      "one.test/real:latest",
		"nick:1":                    "one.test/real:1",
		"nick@" + someDigest:        "one.test/real@" + someDigest,
		"nick:1@" + someDigest:      "one.test/real@" + someDigest,
		"team/nick@" + someDigest:   "two.test/real@" + someDigest,
		"team/nick:1@" + someDigest: "two.test/real@" + someDigest,
	} {
		refs, err := c.resolve(name)
		if got := strings.Trim(fmt.Sprint(refs), "[]"); err != nil || got != want {
			t.Errorf("%q: %s, %v, want %s", name, got, err, want)
		}
	}
}

func TestDamagedConfiguration(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte("{["), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{
		{RegistriesConf: bad}, {RegistriesConf: filepath.Join(dir, "missing")},
		{Policy: bad}, {Policy: filepath.Join(dir, "missing")},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("accepted %+v", o)
		}
	}
}

func TestCredentialsGoWhereTheyBelong(t *testing.T) {
	ref, err := Normalize("docker.io/library/app")
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, "")
	for server, want := range map[string]bool{
		"": true, "docker.io": true, "https://index.docker.io/v1/": true, "http://docker.io": true,
		"registry.test": false, "https://docker.io.evil.test/": false,
	} {
		sys := c.system(ref, &Auth{Username: "u", Password: "p", RegistryToken: "t", ServerAddress: server}, "")
		if got := sys.DockerAuthConfig != nil && sys.DockerBearerRegistryToken != ""; got != want {
			t.Errorf("%q: %v", server, got)
		}
	}
}

func TestClassify(t *testing.T) {
	unknown := errors.New("something")
	for _, c := range []struct{ err, want error }{
		{docker.ErrUnauthorizedForCredentials{Err: unknown}, ErrDenied},
		{docker.ErrTooManyRequests, ErrUnavailable},
		{errcode.ErrorCodeDenied.WithMessage("no"), ErrDenied},
		{errcode.ErrorCodeUnauthorized, ErrDenied},
		{errcode.ErrorCodeTooManyRequests, ErrUnavailable},
		{v2.ErrorCodeManifestUnknown.WithMessage("no"), ErrNotFound},
		{v2.ErrorCodeNameUnknown, ErrNotFound},
		{v2.ErrorCodeBlobUnknown, ErrNotFound},
		{docker.UnexpectedHTTPStatusError{StatusCode: http.StatusBadGateway}, ErrUnavailable},
		{docker.UnexpectedHTTPStatusError{StatusCode: http.StatusForbidden}, ErrDenied},
		{docker.UnexpectedHTTPStatusError{StatusCode: http.StatusNotFound}, ErrNotFound},
		{&url.Error{Op: "Get", URL: "https://x/?secret=1", Err: unknown}, ErrUnavailable},
		{errStalled, ErrUnavailable},
		{unknown, ErrInvalid},
	} {
		err := classify(t.Context(), fmt.Errorf("reading: %w", c.err), ErrInvalid, nil)
		if !errors.Is(err, c.want) {
			t.Errorf("%v became %v, want %v", c.err, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := classify(ctx, unknown, ErrInvalid, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		`Get "https://u:p@host/v2/x?sig=abc&t=1": EOF`: `Get "https://host/v2/x": EOF`,
		"sent hunter22 and\n got 401":                  "sent [redacted] and got 401",
	} {
		if got := redact(in, []string{"hunter22", ""}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// FuzzManifest: no manifest or index makes the parsers panic, and what they
// accept has the shape that the pull relies on.
func FuzzManifest(f *testing.F) {
	kinds := []string{v1.MediaTypeImageManifest, v1.MediaTypeImageIndex, "application/vnd.docker.distribution.manifest.v2+json", "application/json", ""}
	for i, kind := range kinds {
		f.Add(i, []byte(`{"schemaVersion":2,"mediaType":"`+kind+`","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"`+someDigest+`","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"`+someDigest+`","size":-5}]}`))
		f.Add(i, []byte(`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:x","size":1,"platform":{"os":"linux","architecture":"amd64"}}]}`))
		f.Add(i, []byte(`{"schemaVersion":1,"fsLayers":[]}`))
		f.Add(i, artifact(f, "a", "dir/b"))
		f.Add(i, artifact(f, "../a"))
		f.Add(i, []byte(`{`))
	}
	f.Fuzz(func(t *testing.T, kind int, blob []byte) {
		k := manifestType(blob, kinds[uint(kind)%uint(len(kinds))])
		if d, err := ChooseInstance(blob, k, &types.SystemContext{}); err == nil && d.Validate() != nil {
			t.Errorf("chose %q", d)
		}
		man, err := ParseManifest(blob, k)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("error %v", err)
			}
			return
		}
		c, err := NewContent([]byte("{}"), man)
		if man.ArtifactType == "" && err == nil && len(c.Layers) != 0 {
			t.Errorf("layers %v without a config", c.Layers)
		}
		if man.ArtifactType == "" || err != nil {
			return
		}
		for _, l := range c.Layers {
			if !filepath.IsLocal(l.Title) || filepath.Clean(l.Title) != l.Title || l.Title == "." || l.Size < 0 {
				t.Errorf("file %+v", l)
			}
		}
	})
}

// FuzzConfig: a config that is accepted has only digests that can be used.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"os":"linux","config":{"Cmd":["a"]},"rootfs":{"type":"layers","diff_ids":["` + someDigest + `"]}}`))
	f.Add([]byte(`{"os":"windows"}`))
	f.Add([]byte(`{"rootfs":{"diff_ids":["sha256:../../etc"]}}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		img, err := ParseConfig(data)
		if err != nil {
			return
		}
		for _, d := range img.RootFS.DiffIDs {
			if d.Validate() != nil || len(d.Encoded()) != 64 {
				t.Errorf("digest %q", d)
			}
		}
	})
}

// TestSignatureStaysGood: a signature that was checked counts as long as the
// policy and the keys are the same.
func TestSignatureStaysGood(t *testing.T) {
	dir := t.TempDir()
	key, policy := filepath.Join(dir, "key"), filepath.Join(dir, "policy.json")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	demand := func(identity string) {
		write(policy, `{"default":[{"type":"reject"}],"transports":{"docker":{"a.test":[{"type":"sigstoreSigned","keyPath":"`+key+
			`","signedIdentity":{"type":"`+identity+`"}}]}}}`)
	}
	write(key, "one")
	demand("matchRepository")
	c, err := New(Options{Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	a := Acceptance{Transport: "docker", Scopes: []string{"a.test/app:1", "a.test/app", "a.test"}}
	p, err := c.readPolicy("")
	if err != nil {
		t.Fatal(err)
	}
	if a.Requirements, _, err = a.demands(p); err != nil {
		t.Fatal(err)
	}
	if err := c.StillAllowed([]Acceptance{{Transport: "oci-archive"}, a}, ""); err != nil {
		t.Errorf("unchanged: %v", err)
	}
	refused := func(what string) {
		t.Helper()
		if err := c.StillAllowed([]Acceptance{a}, ""); !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "pull it again") {
			t.Errorf("%s: %v", what, err)
		}
	}
	demand("matchExact")
	refused("another identity")
	demand("matchRepository")
	write(key, "two")
	refused("another key")
	write(key, "one")
	if err := c.StillAllowed([]Acceptance{a}, ""); err != nil {
		t.Errorf("as before: %v", err)
	}
	if err := c.StillAllowed(nil, ""); !errors.Is(err, ErrDenied) {
		t.Errorf("never accepted: %v", err)
	}
	if _, err := c.AllowUnsigned("docker-archive", []string{""}); !errors.Is(err, ErrDenied) {
		t.Errorf("an archive: %v", err)
	}
}
