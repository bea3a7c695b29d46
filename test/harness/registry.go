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
}

// Login is what a private registry asks for; the zero value makes an open one.
type Login struct {
	Username, Password string
}

// StartRegistry runs a registry with its storage in dir.
func StartRegistry(ctx context.Context, dir string, login Login) (*Registry, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	host := fmt.Sprintf("127.0.0.1:%d", port)
	conf := fmt.Sprintf(registryConf, filepath.Join(dir, "data"), host)
	if login.Username != "" {
		hash, err := bcrypt.GenerateFromPassword([]byte(login.Password), bcrypt.MinCost)
		if err != nil {
			return nil, err
		}
		file := filepath.Join(dir, "htpasswd")
		if err := os.WriteFile(file, []byte(login.Username+":"+string(hash)+"\n"), 0o600); err != nil {
			return nil, err
		}
		conf += fmt.Sprintf("auth:\n  htpasswd:\n    realm: test\n    path: %s\n", file)
	}
	path := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	p, err := start(filepath.Join(dir, "log"), []string{"OTEL_TRACES_EXPORTER=none"}, Tool("registry"), "serve", path)
	if err != nil {
		return nil, err
	}
	r := &Registry{
		Registry: fixtures.Registry{Host: host, Username: login.Username, Password: login.Password},
		Dir:      filepath.Join(dir, "data"),
		process:  p,
	}
	err = Until(ctx, 2*time.Minute, func() error {
		if !p.running() {
			return fmt.Errorf("the registry has ended, see %s", p.log)
		}
		res, err := http.Get("http://" + host + "/v2/")
		if err != nil {
			return err
		}
		return res.Body.Close()
	})
	if err != nil {
		_ = r.Close() // it is the start that failed
		return nil, fmt.Errorf("cannot start the registry: %w", err)
	}
	return r, nil
}

// Close ends the registry; its storage stays.
func (r *Registry) Close() error { return r.process.stop() }

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
