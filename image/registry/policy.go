package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"
	"go.podman.io/storage/pkg/configfile"
)

// Acceptance says which part of a policy an image was accepted by. Signatures
// are at the registry, so that they cannot be looked at again when a container
// is made; but as long as the policy demands the same of the same image, which
// its digest is, they still prove it.
type Acceptance struct {
	Transport string
	Scopes    []string // the most special first, see containers-policy.json(5)
	// Requirements is a digest of what the policy demanded, keys included.
	Requirements string
}

// readPolicy reads the policy for the pods of namespace anew, so that a change
// counts from the next pull and the next container.
func (c *Client) readPolicy(namespace string) (*signature.Policy, error) {
	path := ofNamespace(c.o.PolicyDir, namespace, c.o.Policy)
	p, err := signature.DefaultPolicy(&types.SystemContext{SignaturePolicyPath: path})
	if errors.Is(err, configfile.ErrConfigFileNotFound) && path == "" {
		c.openPolicy.Do(func() {
			c.o.Log.Info("no policy.json found: images are accepted without signatures")
		})
		return &signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: cannot read it: %v", ErrUntrusted, err)
	}
	return p, nil
}

// allow asks the policy for namespace whether img may run, and what the
// policies for the others say about it: containers of their pods may find it
// there.
func (c *Client) allow(ctx context.Context, img *image.UnparsedImage, namespace string, secrets []string) ([]Acceptance, error) {
	p, err := c.readPolicy(namespace)
	if err != nil {
		return nil, err
	}
	a, err := evaluate(ctx, img, p, secrets)
	if err != nil {
		return nil, err
	}
	all := []Acceptance{a}
	for _, other := range c.namespaces() {
		p, err := c.readPolicy(other)
		if err != nil {
			continue // whoever needs it is told
		}
		if a, err := evaluate(ctx, img, p, secrets); err == nil && !slices.ContainsFunc(all, a.equal) {
			all = append(all, a)
		}
	}
	return all, nil
}

// namespaces are those with a policy of their own, and "" for all others.
func (c *Client) namespaces() []string {
	if c.o.PolicyDir == "" {
		return nil
	}
	all := []string{""}
	paths, _ := filepath.Glob(filepath.Join(c.o.PolicyDir, "*.json")) // the pattern is good
	for _, path := range paths {
		all = append(all, strings.TrimSuffix(filepath.Base(path), ".json"))
	}
	return all
}

func (a *Acceptance) equal(b Acceptance) bool {
	return a.Transport == b.Transport && slices.Equal(a.Scopes, b.Scopes) && a.Requirements == b.Requirements
}

// evaluate asks one policy whether img may run.
func evaluate(ctx context.Context, img *image.UnparsedImage, p *signature.Policy, secrets []string) (Acceptance, error) {
	ref := img.Reference()
	a := Acceptance{
		Transport: ref.Transport().Name(),
		Scopes:    append([]string{ref.PolicyConfigurationIdentity()}, ref.PolicyConfigurationNamespaces()...),
	}
	var err error
	if a.Requirements, _, err = a.demands(p); err != nil {
		return a, err
	}
	policy, err := signature.NewPolicyContext(p)
	if err != nil {
		return a, fmt.Errorf("%w: cannot use it: %v", ErrUntrusted, err)
	}
	defer policy.Destroy()
	if ok, err := policy.IsRunningImageAllowed(ctx, img); !ok {
		if err == nil {
			err = errors.New("no reason given")
		}
		if class := answerClass(err); class == ErrUnavailable || isNetwork(err) || ctx.Err() != nil {
			return a, classify(ctx, err, ErrUnavailable, secrets)
		}
		return a, fmt.Errorf("%w: %s", ErrUntrusted, redact(err.Error(), secrets))
	}
	return a, nil
}

// AllowUnsigned asks the policy for all namespaces about an image that has no
// signatures: it is accepted where none is demanded.
func (c *Client) AllowUnsigned(transport string, scopes []string) (Acceptance, error) {
	a := Acceptance{Transport: transport, Scopes: scopes}
	p, err := c.readPolicy("")
	if err != nil {
		return a, err
	}
	var free bool
	if a.Requirements, free, err = a.demands(p); err != nil {
		return a, err
	}
	if !free {
		return a, fmt.Errorf("%w: a %s has no signatures", ErrUntrusted, transport)
	}
	return a, nil
}

// StillAllowed asks the policy for namespace about an image again that was
// accepted, under any number of names and by any number of policies, before. One
// that counts is enough.
func (c *Client) StillAllowed(accepted []Acceptance, namespace string) error {
	p, err := c.readPolicy(namespace)
	if err != nil {
		return err
	}
	for _, a := range accepted {
		now, free, err := a.demands(p)
		if err != nil {
			return err
		}
		if free || now == a.Requirements {
			return nil
		}
	}
	return fmt.Errorf("%w: it demands what it did not when the image was pulled; pull it again", ErrUntrusted)
}

// demands is a digest of what p demands of the image, and whether that is
// nothing.
func (a *Acceptance) demands(p *signature.Policy) (sum string, free bool, err error) {
	text, err := json.Marshal(a.requirements(p))
	var parsed []map[string]any
	if err == nil {
		err = json.Unmarshal(text, &parsed)
	}
	if err != nil {
		return "", false, fmt.Errorf("%w: cannot read it: %v", ErrUntrusted, err)
	}
	h := sha256.New()
	h.Write(text)
	free = len(parsed) > 0
	for _, r := range parsed {
		free = free && r["type"] == "insecureAcceptAnything"
		for _, path := range files(r) {
			key, err := os.ReadFile(path)
			fmt.Fprintf(h, "\n%s %d %t\n%s", path, len(key), err == nil, key)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), free, nil
}

// requirements finds the part of the policy for the image, as
// containers-policy.json(5) says.
func (a *Acceptance) requirements(p *signature.Policy) signature.PolicyRequirements {
	if transport, ok := p.Transports[a.Transport]; ok {
		for _, scope := range append(slices.Clone(a.Scopes), "") {
			if r, ok := transport[scope]; ok {
				return r
			}
		}
	}
	return p.Default
}

// files lists what a requirement names under keys that end in Path or Paths.
func files(v any) []string {
	m, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	var all []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		switch {
		case strings.HasSuffix(key, "Path"):
			if path, ok := m[key].(string); ok {
				all = append(all, path)
			}
		case strings.HasSuffix(key, "Paths"):
			list, _ := m[key].([]any)
			for _, e := range list {
				if path, ok := e.(string); ok {
					all = append(all, path)
				}
			}
		default:
			all = append(all, files(m[key])...)
		}
	}
	return all
}
