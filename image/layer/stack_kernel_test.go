//go:build kernel

package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/criruntime/criruntime/image/overlay"
	rt "github.com/criruntime/criruntime/image/registry/registrytest"
)

// TestStackedLayersEqualSequentialOnes unpacks random layers each on its own,
// stacks them with overlay, and compares with what applying them one after the
// other gives by the letter of the image-spec: deletions first, and on the
// layers below only; then the entries in their order.
func TestStackedLayersEqualSequentialOnes(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			g := &generator{Rand: rand.New(rand.NewPCG(seed, 1)), tree: tree{}}
			var dirs []string // topmost first
			var said []string
			for i := range 1 + g.IntN(5) {
				entries := g.layer(i)
				for _, e := range entries {
					said = append(said, fmt.Sprintf("%d: type %c, %s, mode %o", i, e.Typeflag, e.Name, e.Mode))
				}
				dir, res := unpackInto(t, rt.Archive(t, entries...))
				if _, err := Repair(dir, res, dirs); err != nil {
					t.Fatal(err)
				}
				if res.Opaque {
					dirs = nil
				}
				dirs = append([]string{dir}, dirs...)
			}
			got := mounted(t, dirs)
			if !maps.Equal(got, g.tree) {
				t.Errorf("stacked:\n%s\nsequential:\n%s\nlayers:\n%s", got, g.tree, strings.Join(said, "\n"))
			}
		})
	}
}

func unpackInto(t testing.TB, archive []byte) (string, Result) {
	t.Helper()
	dir := t.TempDir()
	d := digest.FromBytes(archive)
	res, err := Unpack(t.Context(), io.NopCloser(bytes.NewReader(archive)), dir, Want{Digest: d, Size: int64(len(archive)), DiffID: d}, "")
	if err != nil {
		t.Fatal(err)
	}
	return dir, res
}

// tree maps paths to what is there: "d" and the mode, or "f" and the content.
type tree map[string]string

func (t tree) String() string {
	var b strings.Builder
	for _, p := range slices.Sorted(maps.Keys(t)) {
		fmt.Fprintf(&b, "%s %s\n", p, t[p])
	}
	return b.String()
}

func (t tree) isDir(p string) bool { return p == "." || strings.HasPrefix(t[p], "d") }

// remove deletes p with all beneath it, or only what is beneath it.
func (t tree) remove(p string, self bool) {
	if self {
		delete(t, p)
	}
	for q := range t {
		if p == "." || strings.HasPrefix(q, p+"/") {
			delete(t, q)
		}
	}
}

// blocks says whether something that is no directory stands at dir or above.
// Where nothing stands a deletion deletes nothing.
func (t tree) blocks(dir string) bool {
	for ; dir != "."; dir = path.Dir(dir) {
		if t[dir] != "" && !t.isDir(dir) {
			return true
		}
	}
	return false
}

// generator makes layers, and keeps the tree that they give one after another.
type generator struct {
	*rand.Rand
	tree tree
}

func (g *generator) path() string {
	names := []string{"a", "b", "c"}
	p := names[g.IntN(3)]
	for g.IntN(2) == 0 {
		p += "/" + names[g.IntN(3)]
	}
	return p
}

func (g *generator) layer(n int) []*tar.Header {
	var deletions, entries []*tar.Header
	below := maps.Clone(g.tree)
	own := tree{}     // what this layer makes
	gone := tree{}    // what it deletes
	claimed := tree{} // directories that deletions stand in
	for range 1 + g.IntN(6) {
		p := g.path()
		dir := path.Dir(p)
		if _, busy := gone[dir]; busy || below.blocks(dir) {
			continue
		}
		mark := path.Join(dir, ".wh."+path.Base(p))
		if g.IntN(4) == 0 {
			mark = path.Join(dir, ".wh..wh..opq")
			g.tree.remove(dir, false)
		} else {
			gone[p] = ""
			g.tree.remove(p, true)
		}
		for d := dir; d != "."; d = path.Dir(d) {
			claimed[d] = ""
		}
		deletions = append(deletions, rt.File(mark, ""))
	}
	for i := range 1 + g.IntN(8) {
		if e := g.entry(own, gone, claimed, fmt.Sprintf("%d.%d", n, i)); e != nil {
			entries = append(entries, e)
		}
	}
	// Deletions may stand anywhere.
	for _, d := range deletions {
		entries = slices.Insert(entries, g.IntN(len(entries)+1), d)
	}
	return entries
}

// entry adds a file or directory to the tree, unless the archive would make no
// sense: an entry beneath what this layer makes a file or deletes.
func (g *generator) entry(own, gone, claimed tree, content string) *tar.Header {
	p := g.path()
	for d := path.Dir(p); d != "."; d = path.Dir(d) {
		if _, deleted := gone[d]; deleted || strings.HasPrefix(own[d], "f") {
			return nil
		}
	}
	isDir := g.IntN(2) == 0
	if _, used := claimed[p]; used && !isDir {
		return nil
	}
	for q := range own { // nor does it replace a directory that it fills
		if !isDir && strings.HasPrefix(q, p+"/") {
			return nil
		}
	}
	for i, c := range p { // the parents, topmost first
		if c != '/' {
			continue
		}
		claimed[p[:i]] = ""
		if !g.tree.isDir(p[:i]) {
			g.tree.remove(p[:i], true)
			g.tree[p[:i]] = "d755"
		}
	}
	if isDir {
		mode := []int64{0o755, 0o700, 0o1777}[g.IntN(3)]
		if !g.tree.isDir(p) {
			g.tree.remove(p, true)
		}
		if strings.HasPrefix(own[p], "f") {
			g.tree.remove(p, true)
		}
		own[p] = "d"
		g.tree[p] = fmt.Sprintf("d%o", mode)
		return rt.Dir(p, mode)
	}
	g.tree.remove(p, true)
	own[p], g.tree[p] = "f", "f"+content
	return rt.File(p, content)
}

// mounted is the tree of the stacked dirs.
func mounted(t *testing.T, dirs []string) tree {
	t.Helper()
	target := t.TempDir()
	stack := overlay.Stack{Lowers: append(dirs, t.TempDir(), t.TempDir())}
	if err := overlay.Mount(stack, target); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := overlay.Unmount(target); err != nil {
			t.Error(err)
		}
	}()
	got := tree{}
	err := filepath.WalkDir(target, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == target {
			return err
		}
		name := p[len(target)+1:]
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			got[name] = "listed, but not there"
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			mode := info.Mode().Perm()
			if info.Mode()&os.ModeSticky != 0 {
				mode |= 0o1000
			}
			got[name] = fmt.Sprintf("d%o", mode)
		case info.Mode().IsRegular():
			data, err := os.ReadFile(p)
			got[name] = "f" + string(data)
			return err
		default:
			got[name] = info.Mode().String()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}
