package sandbox

import (
	"fmt"
	"os"

	"github.com/criruntime/criruntime/image"
	"github.com/criruntime/criruntime/oci/spec"
)

// userNS is where the pod's user namespace is pinned, "" for the host's. All of
// the pod's other namespaces belong to it.
func (p *pod) userNS() string {
	if p.Load().Config.Namespaces.User == nil {
		return ""
	}
	return p.path("ns", "user")
}

// root are the host's ids of the pod's root.
func (p *pod) root() (uid, gid uint32) {
	if u := p.Load().Config.Namespaces.User; u != nil {
		uid, _ = spec.HostID(u.UIDs, 0)
		gid, _ = spec.HostID(u.GIDs, 0)
	}
	return uid, gid
}

// imageOwners say how the pod's containers see the owners of an image's files;
// nil is as they are.
func (p *pod) imageOwners() *image.UserNamespace {
	path := p.userNS()
	if path == "" {
		return nil
	}
	uid, gid := p.root()
	return &image.UserNamespace{Path: path, UID: uid, GID: gid}
}

// writeFile writes a file that is mounted into the pod's containers, whose root
// it belongs to.
func (p *pod) writeFile(name string, data []byte) error {
	if err := os.WriteFile(p.path(name), data, 0o644); err != nil {
		return err
	}
	if err := p.m.kernel.labelFile(p.path(name), p.Load().Labels.Mount); err != nil {
		return err
	}
	if p.userNS() == "" {
		return nil
	}
	uid, gid := p.root()
	if err := os.Chown(p.path(name), int(uid), int(gid)); err != nil {
		return fmt.Errorf("cannot give it to the pod's root: %w", err)
	}
	return nil
}
