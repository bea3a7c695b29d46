//go:build kernel

package layer

import (
	"archive/tar"
	"testing"

	rt "github.com/criruntime/criruntime/image/registry/registrytest"
)

// TestDeletedAndMadeAnew: a deletion counts for the layers below wherever it
// stands, also where the archive has no entry for the directory that the same
// layer makes in its place.
func TestDeletedAndMadeAnew(t *testing.T) {
	below, _ := unpackInto(t, rt.Archive(t, rt.Dir("d", 0o755), rt.File("d/old", "x"), rt.Dir("d/sub", 0o755), rt.File("d/sub/old", "x")))
	for name, entries := range map[string][]*tar.Header{
		"after":      {rt.File("d/sub/new", "y"), rt.File(".wh.d", "")},
		"before":     {rt.File(".wh.d", ""), rt.File("d/sub/new", "y")},
		"with entry": {rt.File(".wh.d", ""), rt.Dir("d", 0o755), rt.File("d/sub/new", "y")},
		"deeper":     {rt.File("d/.wh.old", ""), rt.File(".wh.d", ""), rt.File("d/sub/new", "y"), rt.File("d/.wh.gone", "")},
	} {
		t.Run(name, func(t *testing.T) {
			dir, res := unpackInto(t, rt.Archive(t, entries...))
			if _, err := Repair(dir, res, []string{below}); err != nil {
				t.Fatal(err)
			}
			want := tree{"d": "d755", "d/sub": "d755", "d/sub/new": "fy"}
			if got := mounted(t, []string{dir, below}); got.String() != want.String() {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}
