//go:build kernel

package image

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sirupsen/logrus"

	rt "github.com/criruntime/criruntime/image/registry/registrytest"
)

func TestPolicy(t *testing.T) {
	b := newBench(t, func(b *bench) { b.o.Policy = b.reg.ClosedPolicy() })
	b.reg.Push(simple(t, "app:1", "x"))
	_, err := b.Pull(t.Context(), PullOptions{Ref: "registry.test/app:1"})
	if !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "policy") {
		t.Errorf("error %v", err)
	}
	b.nothingLeft()
}

// TestPolicyIsAskedAgain: what the policy comes to demand counts for images that
// are there, and a pull that satisfies it helps.
func TestPolicyIsAskedAgain(t *testing.T) {
	b := newBench(t)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(b.o.Policy, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.reg.Push(simple(t, "app:1", "x"))
	id := b.pull("registry.test/app:1")
	mount := func() error {
		target := t.TempDir()
		err := b.Mount(t.Context(), MountOptions{Key: "k", Image: id, Target: target})
		return errors.Join(err, b.Unmount(t.Context(), "k", target))
	}
	free := `[{"type":"insecureAcceptAnything"}]`
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("k"), 0o600); err != nil {
		t.Fatal(err)
	}
	signed := `[{"type":"signedBy","keyType":"GPGKeys","keyPath":"` + key + `"}]`
	reject := `[{"type":"reject"}]`
	for i, c := range []struct {
		policy  string
		allowed bool
	}{
		{`{"default":` + free + `}`, true},
		{`{"default":` + reject + `}`, false},
		{`{"default":` + signed + `}`, false},
		{`{"default":` + reject + `,"transports":{"docker":{"registry.test/app":` + free + `}}}`, true},
		{`{"default":` + free + `,"transports":{"docker":{"registry.test/app":` + reject + `}}}`, false},
		{`{"default":` + free + `,"transports":{"docker":{"registry.test/app:1":` + free + `,"registry.test":` + reject + `}}}`, true},
		{`{"default":` + reject + `,"transports":{"docker":{"registry.test/other":` + free + `}}}`, false},
		{`{`, false},
	} {
		write(c.policy)
		if err := mount(); (err == nil) != c.allowed || err != nil && !errors.Is(err, ErrDenied) {
			t.Errorf("policy %d: %v", i, err)
		}
	}
	b.settled("containers")
}

// TestCredentials: basic and token authentication, and no secret in any text.
func TestCredentials(t *testing.T) {
	const user, password = "somebody", "correct-horse"
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	basicFault := func(s *rt.Server) rt.Fault {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Authorization") == basic {
				return false
			}
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			rt.Refuse(w, http.StatusUnauthorized, "UNAUTHORIZED")
			return true
		}
	}
	tokenFault := func(s *rt.Server) rt.Fault {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				if r.Header.Get("Authorization") != basic {
					rt.Refuse(w, http.StatusUnauthorized, "UNAUTHORIZED")
					return true
				}
				fmt.Fprint(w, `{"token":"the-token","expires_in":300}`)
				return true
			}
			if r.Header.Get("Authorization") == "Bearer the-token" {
				return false
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+s.Addr()+`/token",service="test"`)
			rt.Refuse(w, http.StatusUnauthorized, "UNAUTHORIZED")
			return true
		}
	}
	for name, fault := range map[string]func(*rt.Server) rt.Fault{"basic": basicFault, "token": tokenFault} {
		t.Run(name, func(t *testing.T) {
			var logged bytes.Buffer
			b := newBench(t, func(b *bench) {
				log := logrus.New()
				log.SetOutput(&logged)
				log.SetLevel(logrus.DebugLevel)
				b.o.Log = logrus.NewEntry(log)
			})
			p := b.reg.Push(simple(t, "app:1", "x"))
			b.reg.Misbehave(fault(b.reg))
			name := b.reg.Addr() + "/app:1"
			for _, a := range []*Auth{
				nil,
				{Username: user, Password: "wrong-password"},
				{Username: user, Password: password, ServerAddress: "elsewhere.test"},
			} {
				_, err := b.Pull(t.Context(), PullOptions{Ref: name, Auth: a})
				if !errors.Is(err, ErrDenied) {
					t.Errorf("with %+v: %v", a, err)
				}
				if strings.Contains(err.Error(), "password") && a != nil && strings.Contains(err.Error(), a.Password) {
					t.Errorf("the error holds the password: %v", err)
				}
			}
			right := &Auth{Username: user, Password: password, ServerAddress: "http://" + b.reg.Addr() + "/v2/"}
			id, err := b.Pull(t.Context(), PullOptions{Ref: name, Auth: right})
			if err != nil || id != p.ID {
				t.Errorf("%s, %v", id, err)
			}
			// Another registry that registries.conf sends the name to is not given them.
			if _, err := b.Pull(t.Context(), PullOptions{Ref: "registry.test/app:1", Auth: &Auth{Username: user, Password: password}}); !errors.Is(err, ErrDenied) {
				t.Errorf("credentials went to a mirror: %v", err)
			}
			b.close()
			for _, secret := range []string{password, "wrong-password", basic[6:], "the-token"} {
				if strings.Contains(logged.String(), secret) {
					t.Errorf("the log holds %q", secret)
				}
			}
		})
	}
}

// TestAuthFiles: a pull without credentials takes them from the file of the
// namespace, or else from the one for all.
func TestAuthFiles(t *testing.T) {
	b := newBench(t, func(b *bench) {
		dir := t.TempDir()
		for name, password := range map[string]string{"all": "for-all", "team": "for-team"} {
			secret := base64.StdEncoding.EncodeToString([]byte("user:" + password))
			text := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, b.reg.Addr(), secret)
			if err := os.WriteFile(filepath.Join(dir, name+".json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		b.o.AuthFile, b.o.AuthDir = filepath.Join(dir, "all.json"), dir
	})
	b.reg.Push(simple(t, "app:1", "x"))
	var used atomic.Value
	b.reg.Misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		_, password, ok := r.BasicAuth()
		if ok {
			used.Store(password)
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		rt.Refuse(w, http.StatusUnauthorized, "UNAUTHORIZED")
		return true
	})
	for _, c := range []struct {
		namespace string
		auth      *Auth
		want      string
	}{
		{"", nil, "for-all"}, {"team", nil, "for-team"}, {"other", nil, "for-all"}, {"../team", nil, "for-all"},
		{"team", &Auth{Username: "user", Password: "of-the-pod"}, "of-the-pod"},
	} {
		if _, err := b.Pull(t.Context(), PullOptions{Ref: b.reg.Addr() + "/app:1", Namespace: c.namespace, Auth: c.auth}); err != nil {
			t.Fatal(err)
		}
		if got := used.Load(); got != c.want {
			t.Errorf("namespace %q: password %v, want %q", c.namespace, got, c.want)
		}
	}
}
