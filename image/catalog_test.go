package image

import (
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/image/layer"
	"github.com/criruntime/criruntime/image/record"
	"github.com/criruntime/criruntime/image/registry"
)

func imageOf(c *catalog, id string, tags []string, keys ...string) *entry {
	e := &entry{Image: Image{ID: digest.FromString(id), Tags: tags}}
	for _, k := range keys {
		e.layers = append(e.layers, c.add(&stored{Layer: record.Layer{Key: k, Dir: k, Bytes: 10, Inodes: 1}}))
	}
	return e
}

// TestReferences: a layer lives as long as an image, or anybody else, holds it.
func TestReferences(t *testing.T) {
	c := newCatalog()
	one, two := imageOf(c, "one", []string{"r/one:1"}, "base", "a"), imageOf(c, "two", []string{"r/two:1"}, "base", "base", "b")
	c.put(one)
	c.put(two)
	if bytes, _ := c.usage(); bytes != 30 {
		t.Errorf("%d bytes", bytes)
	}
	held, _ := c.holdImage(two.ID)
	if there, died := c.remove(two.ID); !there || died {
		t.Errorf("there %v, died %v", there, died)
	}
	if there, _ := c.remove(two.ID); there {
		t.Error("removed twice")
	}
	if c.acquire("b") == nil {
		t.Fatal("a layer that is held has died")
	}
	c.release(c.layers["b"])
	if died := c.release(held.layers...); !died || len(c.buried()) != 1 || c.acquire("b") != nil {
		t.Error("nobody holds it, and it lives")
	}
	if bytes, _ := c.usage(); bytes != 30 {
		t.Errorf("%d bytes before the data is gone", bytes)
	}
	c.swept("b")
	c.swept("b")
	if bytes, inodes := c.usage(); bytes != 20 || inodes != 2 {
		t.Errorf("%d bytes, %d inodes", bytes, inodes)
	}
}

func TestNames(t *testing.T) {
	c := newCatalog()
	old, fresh := imageOf(c, "old", []string{"r/app:1", "r/app:old"}), imageOf(c, "new", []string{"r/app:1"})
	c.put(old)
	if changed := c.put(fresh); len(changed) != 1 || strings.Join(changed[0].Tags, " ") != "r/app:old" {
		t.Errorf("changed %v", changed)
	}
	if strings.Join(old.Tags, " ") != "r/app:1 r/app:old" {
		t.Error("an entry that others may read has changed")
	}
	if e, _ := c.byName("none", "r/app:1"); e != fresh {
		t.Errorf("found %v", e)
	}
	if e, err := c.byPrefix(fresh.ID.Encoded()[:12]); e != fresh || err != nil {
		t.Errorf("found %v, %v", e, err)
	}
	if _, err := c.byPrefix(""); !errors.Is(err, ErrInvalid) {
		t.Errorf("an ambiguous prefix: %v", err)
	}
}

func TestFailure(t *testing.T) {
	for from, want := range map[error]error{
		layer.ErrInvalid: ErrInvalid, layer.ErrNoSpace: ErrNoSpace, unix.ENOSPC: ErrNoSpace,
		registry.ErrNotFound: ErrNotFound, registry.ErrDenied: ErrDenied,
		registry.ErrInvalid: ErrInvalid, registry.ErrUnavailable: ErrUnavailable, errClosing: ErrUnavailable,
		ErrInUse: ErrInUse,
	} {
		if err := failure("do it", from); !errors.Is(err, want) || !strings.HasPrefix(err.Error(), "cannot do it: ") {
			t.Errorf("%v became %v", from, err)
		}
	}
}
