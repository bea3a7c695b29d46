package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/types"
)

// Options configure a Client.
type Options struct {
	// RegistriesConf is the path of registries.conf, "" for the places that
	// containers-registries.conf(5) names.
	RegistriesConf string
	// Policy is the path of policy.json, "" for the places that
	// containers-policy.json(5) names. Without a file anywhere every image is
	// accepted. PolicyDir may hold a <namespace>.json that counts in its place;
	// "" for none.
	Policy    string
	PolicyDir string
	// RegistriesDir says where the signatures of images are, "" for the places
	// that containers-registries.d(5) names.
	RegistriesDir string
	// AuthFile is the path of the credentials for pulls that bring none, ""
	// for the places that containers-auth.json(5) names. AuthDir may hold a
	// <namespace>.json that counts in its place; "" for none.
	AuthFile string
	AuthDir  string
	// Stall is how long a transfer may stand still before it is retried; 30 s
	// if 0.
	Stall time.Duration
	// Answer is how long a registry with all its mirrors may take to produce
	// a manifest; 2 min if 0.
	Answer time.Duration
	Log    *logrus.Entry
}

// Client fetches from registries. It is safe for concurrent use.
type Client struct {
	o          Options
	shortNames atomic.Pointer[shortNames]
	openPolicy sync.Once // says once that there is no policy
}

// New returns a client. It reads registries.conf and the policy to tell early
// that they are damaged.
func New(o Options) (*Client, error) {
	if o.Stall == 0 {
		o.Stall = 30 * time.Second
	}
	if o.Answer == 0 {
		o.Answer = 2 * time.Minute
	}
	if o.Log == nil {
		o.Log = logrus.NewEntry(logrus.StandardLogger())
	}
	c := &Client{o: o}
	if err := c.Reload(); err != nil {
		return nil, err
	}
	for _, namespace := range append(c.namespaces(), "") {
		if _, err := c.readPolicy(namespace); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Auth are the credentials of one pull.
type Auth struct {
	Username, Password string
	IdentityToken      string
	RegistryToken      string
	// ServerAddress, if set, is the only registry that gets them.
	ServerAddress string
}

// ofNamespace is the file in dir for the pods of namespace, or else general. A
// namespace is a DNS label; what is none has no file.
func ofNamespace(dir, namespace, general string) string {
	if dir == "" || !dnsLabel.MatchString(namespace) {
		return general
	}
	path := filepath.Join(dir, namespace+".json")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return general
	}
	return path
}

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)

// secrets lists what must not appear in any text.
func (a *Auth) secrets() []string {
	if a == nil {
		return nil
	}
	pair := base64.StdEncoding.EncodeToString([]byte(a.Username + ":" + a.Password))
	return []string{a.Password, a.IdentityToken, a.RegistryToken, pair}
}

// meant says whether the credentials are for the registry of ref.
func (a *Auth) meant(ref reference.Named) bool {
	return a.ServerAddress == "" || serverHost(a.ServerAddress) == serverHost(reference.Domain(ref))
}

// serverHost reduces the address of a registry, as Docker's and Kubernetes'
// configs spell it, to its host and port.
func serverHost(address string) string {
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	switch u.Host {
	case "index.docker.io", "registry-1.docker.io":
		return "docker.io"
	}
	return u.Host
}

// system is what the transport needs to know for one pull. Credentials never
// go to a mirror of another name: the transport sees to that wherever
// DockerAuthConfig is set.
func (c *Client) system(ref reference.Named, auth *Auth, namespace string) *types.SystemContext {
	sys := &types.SystemContext{
		AuthFilePath:             ofNamespace(c.o.AuthDir, namespace, c.o.AuthFile),
		SystemRegistriesConfPath: c.o.RegistriesConf,
		RegistriesDirPath:        c.o.RegistriesDir,
		DockerRegistryUserAgent:  "criruntime",
	}
	mode := types.ShortNameModeDisabled // never ask on a terminal
	sys.ShortNameMode = &mode
	if auth != nil && auth.meant(ref) {
		sys.DockerAuthConfig = &types.DockerAuthConfig{
			Username:      auth.Username,
			Password:      auth.Password,
			IdentityToken: auth.IdentityToken,
		}
		sys.DockerBearerRegistryToken = auth.RegistryToken
	}
	return sys
}

// answerBy bounds the time for everything before the blobs.
func (c *Client) answerBy(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, c.o.Answer, errNoAnswer)
}
