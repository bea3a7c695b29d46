package harness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/criruntime/criruntime/test/fixtures"
)

// Registry is the distribution registry on a free loopback port.
type Registry struct {
	fixtures.Registry
	// Dir holds its storage: blobs lie under docker/registry/v2/blobs.
	Dir     string
	process *process
	storage *http.Server // nil if it serves blobs itself
}

// RegistryOptions say how a registry serves; the zero value makes an open one.
type RegistryOptions struct {
	Username, Password string // asked of every client, if not empty
	// Redirect has clients fetch blobs from a server of files, to which the
	// registry sends them, as public registries do. That server costs the machine
	// less: the kernel copies from the page cache to the connection.
	Redirect bool
}

// StartRegistry runs a registry with its storage in dir.
func StartRegistry(ctx context.Context, dir string, o RegistryOptions) (_ *Registry, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	r := &Registry{
		Registry: fixtures.Registry{Host: fmt.Sprintf("127.0.0.1:%d", port), Username: o.Username, Password: o.Password},
		Dir:      filepath.Join(dir, "data"),
	}
	defer func() {
		if err != nil {
			_ = r.Close() // it is the start that failed
			err = fmt.Errorf("cannot start the registry: %w", err)
		}
	}()
	if o.Redirect {
		if err := r.serveStorage(); err != nil {
			return nil, err
		}
	}
	path := filepath.Join(dir, "config.yml")
	if err := r.configure(path, o); err != nil {
		return nil, err
	}
	r.process, err = start(filepath.Join(dir, "log"), []string{"OTEL_TRACES_EXPORTER=none"}, Tool("registry"), "serve", path)
	if err != nil {
		return nil, err
	}
	return r, r.answers(ctx)
}

// serveStorage starts the server of the registry's files, until Close.
func (r *Registry) serveStorage() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	r.storage = &http.Server{Addr: l.Addr().String(), Handler: http.FileServer(http.Dir(r.Dir))}
	go func() { _ = r.storage.Serve(l) }()
	return nil
}

// configure writes the registry's configuration to path.
func (r *Registry) configure(path string, o RegistryOptions) error {
	conf := fmt.Sprintf(registryConf, r.Dir, r.Host)
	if o.Username != "" {
		hash, err := bcrypt.GenerateFromPassword([]byte(o.Password), bcrypt.MinCost)
		if err != nil {
			return err
		}
		file := filepath.Join(filepath.Dir(path), "htpasswd")
		if err := os.WriteFile(file, []byte(o.Username+":"+string(hash)+"\n"), 0o600); err != nil {
			return err
		}
		conf += fmt.Sprintf("auth:\n  htpasswd:\n    realm: test\n    path: %s\n", file)
	}
	if r.storage != nil {
		conf += fmt.Sprintf("middleware:\n  storage:\n    - name: redirect\n      options:\n        baseurl: http://%s\n", r.storage.Addr)
	}
	return os.WriteFile(path, []byte(conf), 0o600)
}

// answers waits until the registry does.
func (r *Registry) answers(ctx context.Context) error {
	return Until(ctx, 2*time.Minute, func() error {
		if !r.process.running() {
			return fmt.Errorf("the registry has ended, see %s", r.process.log)
		}
		res, err := http.Get("http://" + r.Host + "/v2/")
		if err != nil {
			return err
		}
		return res.Body.Close()
	})
}

// Close ends the registry; its storage stays.
func (r *Registry) Close() (err error) {
	if r.process != nil {
		err = r.process.stop()
	}
	if r.storage != nil {
		err = errors.Join(err, r.storage.Close())
	}
	return err
}

const registryConf = `version: 0.1
log:
  level: warn
  accesslog: {disabled: true}
storage:
  filesystem: {rootdirectory: %s}
  delete: {enabled: true}
  maintenance:
    uploadpurging: {enabled: false}
http:
  addr: %s
`

// FreePort is a TCP port that nobody listens on. The kernel gives none like it to
// an outgoing connection: it stays free until its server listens.
func FreePort() (int, error) {
	for {
		port := 10000 + rand.IntN(20000) // below those, and below node ports
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return 0, err
		}
		return port, l.Close()
	}
}
