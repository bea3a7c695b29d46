// Package rootfs looks things up in a container's root file system from
// outside. The tree is hostile: its symbolic links may lead anywhere, its files
// may be pipes or endless. Nothing here ever opens a file outside the tree, or
// reads more than a bounded amount. It changes nothing: mount points and the
// working directory are made by the OCI runtime, from inside.
package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/spec"
)

// maxDatabase is the size in bytes up to which etc/passwd and etc/group are
// read: some hundred thousand entries.
const maxDatabase = 16 << 20

// ResolveUser finds out who a container's first process is. root is the
// container's root file system, whose etc/passwd and etc/group are read; s is
// the container's security context, and imageUser the user its image names: a
// name or id, alone or with a group's name or id after a colon.
//
// The context's user wins over the image's. A user without a group has the
// primary group of its passwd entry, or 0. Groups are those of the context and,
// unless the policy is Strict, those of etc/group that list the user, and
// always the primary group. The result is sorted.
//
// An error wraps spec.ErrInvalid if the context contradicts itself, or a user
// or group does not exist, or a database is not one.
func ResolveUser(root string, s *spec.Security, imageUser string) (spec.User, error) {
	if err := spec.CheckUser(s); err != nil {
		return spec.User{}, err
	}
	dir, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return spec.User{}, fmt.Errorf("cannot look up a user: %w", err)
	}
	defer dir.Close()
	db := databases{root: dir}
	who, group := imageUser, ""
	switch {
	case s.RunAsUsername != "":
		who = s.RunAsUsername
	case s.RunAsUser != nil:
		who = strconv.FormatInt(*s.RunAsUser, 10)
	default:
		who, group, _ = strings.Cut(imageUser, ":")
	}
	if s.RunAsGroup != nil {
		group = strconv.FormatInt(*s.RunAsGroup, 10)
	}
	u, name, err := db.user(who, s.RunAsUsername == "")
	if err != nil {
		return spec.User{}, err
	}
	if group != "" {
		if u.GID, err = db.group(group); err != nil {
			return spec.User{}, err
		}
	}
	groups := []uint32{u.GID}
	for _, g := range s.Groups {
		groups = append(groups, uint32(g))
	}
	if s.GroupsPolicy != spec.GroupsStrict && name != "" {
		more, err := db.groupsOf(name)
		if err != nil {
			return spec.User{}, err
		}
		groups = append(groups, more...)
	}
	slices.Sort(groups)
	u.Groups = slices.Compact(groups)
	return u, nil
}

// databases are a tree's etc/passwd and etc/group.
type databases struct {
	root *os.File
}

// user looks up a user by name or, if byID allows it, by id. A number is always
// an id, even if an entry has it for a name: who limits the ids that a container
// may have, or looks at the image's for one that is not root's, knows the number
// alone, and the entries are the image's. name is "" for an id that has no entry,
// whose group is 0. "" is user 0.
func (db databases) user(who string, byID bool) (u spec.User, name string, err error) {
	if who == "" {
		who = "0"
	}
	id, numeric, err := parseID(who)
	if err != nil && byID {
		return u, "", fmt.Errorf("%w user %q: %v", spec.ErrInvalid, who, err)
	}
	entries, err := lookup(db.root, "etc/passwd", user.ParsePasswdFilter, func(e user.User) bool {
		if byID && numeric {
			return e.Uid == int(id)
		}
		return e.Name == who
	})
	if err != nil {
		return u, "", err
	}
	if len(entries) > 0 {
		e := entries[0]
		if !inRange(e.Uid) || !inRange(e.Gid) {
			return u, "", fmt.Errorf("%w user %q: its entry in etc/passwd has ids out of range", spec.ErrInvalid, who)
		}
		return spec.User{UID: uint32(e.Uid), GID: uint32(e.Gid)}, e.Name, nil
	}
	if byID && numeric {
		return spec.User{UID: id}, "", nil
	}
	return u, "", fmt.Errorf("%w user %q: the image has no such user", spec.ErrInvalid, who)
}

// group takes a number for an id, which needs no entry, and looks up a name.
func (db databases) group(which string) (uint32, error) {
	id, numeric, err := parseID(which)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w group %q: %v", spec.ErrInvalid, which, err)
	case numeric:
		return id, nil
	}
	entries, err := lookup(db.root, "etc/group", user.ParseGroupFilter, func(e user.Group) bool {
		return e.Name == which
	})
	switch {
	case err != nil:
		return 0, err
	case len(entries) > 0 && inRange(entries[0].Gid):
		return uint32(entries[0].Gid), nil
	}
	return 0, fmt.Errorf("%w group %q: the image has no such group", spec.ErrInvalid, which)
}

// groupsOf returns the groups that list a user's name.
func (db databases) groupsOf(name string) ([]uint32, error) {
	entries, err := lookup(db.root, "etc/group", user.ParseGroupFilter, func(e user.Group) bool {
		return inRange(e.Gid) && slices.Contains(e.List, name)
	})
	var ids []uint32
	for _, e := range entries {
		ids = append(ids, uint32(e.Gid))
	}
	return ids, err
}

// lookup returns the entries of a database that match, in its order; a missing
// file is an empty one.
func lookup[E any](root *os.File, name string, parse func(io.Reader, func(E) bool) ([]E, error), match func(E) bool) ([]E, error) {
	body, err := readFile(root, name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := parse(bytes.NewReader(body), match)
	if err != nil {
		return nil, fmt.Errorf("%w %s in the image: %v", spec.ErrInvalid, name, err)
	}
	return entries, nil
}

// readFile reads a regular file of at most maxDatabase bytes. Links are
// followed as a process in the container would.
func readFile(root *os.File, name string) ([]byte, error) {
	handle, err := securejoin.OpenatInRoot(root, name)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s in %s: %w", name, root.Name(), err)
	}
	defer handle.Close()
	// The handle is O_PATH: a pipe or device has not been opened yet.
	if info, err := handle.Stat(); err != nil {
		return nil, fmt.Errorf("cannot stat %s in %s: %w", name, root.Name(), err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w %s in the image: it is not a regular file", spec.ErrInvalid, name)
	}
	f, err := securejoin.Reopen(handle, os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s in %s: %w", name, root.Name(), err)
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, maxDatabase+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s in %s: %w", name, root.Name(), err)
	}
	if len(body) > maxDatabase {
		return nil, fmt.Errorf("%w %s in the image: it is larger than %d bytes", spec.ErrInvalid, name, maxDatabase)
	}
	return body, nil
}

// parseID reads a user or group id. Whatever clients would take for a number,
// with a sign too, is one; an error says that it is none of an id.
func parseID(s string) (id uint32, numeric bool, err error) {
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrSyntax):
		return 0, false, nil
	case err != nil || n < 0 || n >= math.MaxUint32:
		return 0, true, errors.New("the number is out of range")
	}
	return uint32(n), true, nil
}

func inRange(id int) bool { return id >= 0 && id < math.MaxUint32 }
