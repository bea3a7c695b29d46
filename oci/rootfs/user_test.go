package rootfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/spec"
)

const passwd = `root:x:0:0:root:/root:/bin/sh
# a comment
default-user:x:1000:1000::/home/default-user:/bin/sh
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
1234:x:0:0:a name of digits::
+1234:x:0:0:and of a sign::
4294967296:x:0:0:and of too many::
huge:x:99999999999:1::
negative:x:-1:1::
`

const group = `root:x:0:
www-data:x:33:
group-defined-in-image:x:50000:default-user
staff:x:50:www-data,default-user
1234:x:0:
rooters:x:60:root
huge:x:99999999999:default-user
`

// tree makes a root file system of files and, if the name ends in "@", links.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path, link := strings.CutSuffix(filepath.Join(root, name), "@")
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil && link {
			err = os.Symlink(content, path)
		} else if err == nil {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func ptr[T any](v T) *T { return &v }

func TestResolveUser(t *testing.T) {
	root := tree(t, map[string]string{"etc/passwd": passwd, "etc/group": group})
	strict := spec.GroupsStrict
	for name, test := range map[string]struct {
		s     spec.Security
		image string
		want  spec.User
	}{
		"nothing":          {spec.Security{}, "", spec.User{Groups: []uint32{0, 60}}},
		"image name":       {spec.Security{}, "default-user", spec.User{UID: 1000, GID: 1000, Groups: []uint32{50, 1000, 50000}}},
		"image id":         {spec.Security{}, "1000", spec.User{UID: 1000, GID: 1000, Groups: []uint32{50, 1000, 50000}}},
		"image unknown id": {spec.Security{}, "2000", spec.User{UID: 2000, Groups: []uint32{0}}},
		"image id:gid":     {spec.Security{}, "2000:3000", spec.User{UID: 2000, GID: 3000, Groups: []uint32{3000}}},
		"image name:group": {spec.Security{}, "www-data:staff", spec.User{UID: 33, GID: 50, Groups: []uint32{50}}},
		"image name:gid":   {spec.Security{}, "default-user:33", spec.User{UID: 1000, GID: 33, Groups: []uint32{33, 50, 50000}}},
		"image :group":     {spec.Security{}, ":staff", spec.User{GID: 50, Groups: []uint32{50, 60}}},
		"image trailing":   {spec.Security{}, "www-data:", spec.User{UID: 33, GID: 33, Groups: []uint32{33, 50}}},
		"name of digits":   {spec.Security{}, "1234", spec.User{UID: 1234, Groups: []uint32{0}}},
		"name of a sign":   {spec.Security{}, "+1234", spec.User{UID: 1234, Groups: []uint32{0}}},
		"group of digits":  {spec.Security{}, "www-data:1234", spec.User{UID: 33, GID: 1234, Groups: []uint32{50, 1234}}},
		"id not a name":    {spec.Security{RunAsUser: ptr(int64(1234))}, "", spec.User{UID: 1234, Groups: []uint32{0}}},
		"gid not a name": {spec.Security{RunAsUser: ptr(int64(1234)), RunAsGroup: ptr(int64(1234))}, "",
			spec.User{UID: 1234, GID: 1234, Groups: []uint32{1234}}},
		"id over image":      {spec.Security{RunAsUser: ptr(int64(33))}, "default-user:50", spec.User{UID: 33, GID: 33, Groups: []uint32{33, 50}}},
		"root over image":    {spec.Security{RunAsUser: ptr(int64(0))}, "default-user", spec.User{Groups: []uint32{0, 60}}},
		"id and group":       {spec.Security{RunAsUser: ptr(int64(1000)), RunAsGroup: ptr(int64(7))}, "", spec.User{UID: 1000, GID: 7, Groups: []uint32{7, 50, 50000}}},
		"largest id":         {spec.Security{RunAsUser: ptr(int64(1<<32 - 2))}, "", spec.User{UID: 1<<32 - 2, Groups: []uint32{0}}},
		"username":           {spec.Security{RunAsUsername: "www-data"}, "default-user", spec.User{UID: 33, GID: 33, Groups: []uint32{33, 50}}},
		"username and group": {spec.Security{RunAsUsername: "www-data", RunAsGroup: ptr(int64(9))}, "", spec.User{UID: 33, GID: 9, Groups: []uint32{9, 50}}},
		"merged groups": {spec.Security{RunAsUser: ptr(int64(1000)), Groups: []int64{1234, 50, 1234}}, "",
			spec.User{UID: 1000, GID: 1000, Groups: []uint32{50, 1000, 1234, 50000}}},
		"strict groups": {spec.Security{RunAsUser: ptr(int64(1000)), Groups: []int64{1234}, GroupsPolicy: strict}, "",
			spec.User{UID: 1000, GID: 1000, Groups: []uint32{1000, 1234}}},
	} {
		got, err := ResolveUser(root, &test.s, test.image)
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, test.want)
		}
	}
}

func TestResolveUserRefuses(t *testing.T) {
	root := tree(t, map[string]string{"etc/passwd": passwd, "etc/group": group})
	for _, test := range []struct {
		s           spec.Security
		image, says string
	}{
		{spec.Security{}, "nobody", `"nobody"`},
		{spec.Security{}, "www-data:nogroup", `"nogroup"`},
		{spec.Security{}, "huge", `"huge"`},
		{spec.Security{}, "negative", `"negative"`},
		{spec.Security{}, "root:huge", `"huge"`},
		{spec.Security{}, "-1", `"-1"`},
		{spec.Security{}, "4294967295", `"4294967295"`},
		{spec.Security{}, "4294967296", `"4294967296"`},
		{spec.Security{RunAsUsername: "33"}, "", `"33"`},
		{spec.Security{RunAsGroup: ptr(int64(1))}, "root", "run_as_group"},
		{spec.Security{RunAsUser: ptr(int64(1)), RunAsUsername: "root"}, "", "run_as_username"},
	} {
		got, err := ResolveUser(root, &test.s, test.image)
		if !errors.Is(err, spec.ErrInvalid) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%+v %q: %+v, error %v, want one on %s", test.s, test.image, got, err, test.says)
		}
	}
}

func TestResolveUserWithoutDatabases(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"empty": {}, "etc is a file": {"etc": "x"}, "dangling": {"etc/passwd@": "nowhere", "etc/group@": "/nowhere"},
	} {
		root := tree(t, files)
		want := spec.User{UID: 5, GID: 6, Groups: []uint32{6}}
		if got, err := ResolveUser(root, &spec.Security{}, "5:6"); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if _, err := ResolveUser(root, &spec.Security{}, "root"); !errors.Is(err, spec.ErrInvalid) {
			t.Errorf("%s: a name was found: %v", name, err)
		}
	}
}

// TestLinksStayInside: a link leads where it would lead a process inside.
func TestLinksStayInside(t *testing.T) {
	outside := tree(t, map[string]string{"passwd": "evil:x:666:666::/:\n"})
	up := strings.Repeat("../", 32)
	for name, files := range map[string]map[string]string{
		"absolute": {"etc/passwd@": outside + "/passwd"},
		"upwards":  {"etc/passwd@": up + outside + "/passwd"},
		"by etc":   {"etc@": outside},
		"proc":     {"etc/passwd@": "/proc/self/root" + outside + "/passwd"},
		"loop":     {"etc/passwd@": "group", "etc/group@": "passwd"},
	} {
		if got, err := ResolveUser(tree(t, files), &spec.Security{}, "evil"); err == nil {
			t.Errorf("%s: %+v came from outside", name, got)
		}
	}
	// Absolute links are common, and mean the container's root.
	inside := tree(t, map[string]string{"etc/passwd@": "/usr/share/passwd", "usr/share/passwd": passwd})
	if got, err := ResolveUser(inside, &spec.Security{}, "www-data"); err != nil || got.UID != 33 {
		t.Errorf("an absolute link inside: %+v, %v", got, err)
	}
}

func TestOddFiles(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"pipe":      func(path string) error { return unix.Mkfifo(path, 0o644) },
		"directory": func(path string) error { return os.Mkdir(path, 0o755) },
		"giant": func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o644), os.Truncate(path, maxDatabase+1))
		},
		"long line": func(path string) error {
			return os.WriteFile(path, []byte(strings.Repeat("x", 2<<20)), 0o644)
		},
	} {
		root := tree(t, map[string]string{"etc/hosts": ""})
		if err := make(filepath.Join(root, "etc/passwd")); err != nil {
			t.Fatal(err)
		}
		if _, err := ResolveUser(root, &spec.Security{}, "1000"); !errors.Is(err, spec.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMissingRoot(t *testing.T) {
	// A root that is not there is the caller's fault, and not an empty image.
	if got, err := ResolveUser(filepath.Join(t.TempDir(), "x"), &spec.Security{}, "1000"); err == nil {
		t.Errorf("%+v for a missing root", got)
	}
}

func FuzzResolveUser(f *testing.F) {
	f.Add([]byte(passwd), []byte(group), "default-user:staff")
	f.Add([]byte("a:x:4294967295:-1"), []byte("a:x::a,,a"), "a")
	f.Add([]byte(":::"), []byte("::,:"), ":")
	root := f.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, passwd, group []byte, who string) {
		for name, body := range map[string][]byte{"passwd": passwd, "group": group} {
			if err := os.WriteFile(filepath.Join(root, "etc", name), body, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		u, err := ResolveUser(root, &spec.Security{Groups: []int64{7}}, who)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			t.Errorf("a database was lost: %v", err)
		case err == nil && (!slices.Contains(u.Groups, u.GID) || !slices.Contains(u.Groups, 7) || !slices.IsSorted(u.Groups)):
			t.Errorf("%q: the groups are %v", who, u.Groups)
		case err == nil && (u.UID == 1<<32-1 || u.GID == 1<<32-1):
			t.Errorf("%q: %+v is nobody", who, u)
		}
	})
}
