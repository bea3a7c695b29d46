package image

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/criruntime/criruntime/image/record"
	"github.com/criruntime/criruntime/image/registry"
)

// stored is one unpacked layer. Its references are counted: one for each image,
// each mount and each running pull that needs it. At zero it leaves the catalog
// and its directory dies.
type stored struct {
	record.Layer
	refs    int  // guarded by catalog.mu
	durable bool // guarded by catalog.mu: the record is on disk, the data synced
	saved   bool // guarded by Store.saving: a record says that the layer is there
}

// entry is one image in the catalog. It is replaced, never changed.
type entry struct {
	Image
	config  []byte   // the manifest of an artifact or a checkpoint
	aliases []string // short names that stand for one of its names, see Store.alias
	layers  []*stored
	// accepted is why the policy lets it run.
	accepted []registry.Acceptance
	durable  bool // guarded by catalog.mu
}

// catalog is what the store has, in memory. It does no I/O, so that its lock is
// held for moments only.
type catalog struct {
	mu     sync.RWMutex // guards all below
	images map[ID]*entry
	names  map[string]ID // tags, digests and aliases
	layers map[string]*stored
	dead   []*stored // left the catalog, their records are still there
	doomed map[string]record.Layer
	bytes  uint64 // of all layers, until their data is gone
	inodes uint64
}

func newCatalog() *catalog {
	return &catalog{
		images: map[ID]*entry{},
		names:  map[string]ID{},
		layers: map[string]*stored{},
		doomed: map[string]record.Layer{},
	}
}

// list returns all images, the oldest first.
func (c *catalog) list() []Image {
	c.mu.RLock()
	defer c.mu.RUnlock()
	all := make([]Image, 0, len(c.images))
	for _, e := range c.images {
		all = append(all, e.Image)
	}
	slices.SortFunc(all, func(a, b Image) int {
		return cmp.Or(a.PulledAt.Compare(b.PulledAt), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// byName finds the image that one of names belongs to.
func (c *catalog) byName(names ...string) (*entry, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, n := range names {
		if e := c.images[c.names[n]]; e != nil {
			return e, true
		}
	}
	return nil, false
}

// byID finds an image by its whole id.
func (c *catalog) byID(id ID) (*entry, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e := c.images[id]
	return e, e != nil
}

// byPrefix finds the one image whose id's hexadecimal part begins with prefix.
func (c *catalog) byPrefix(prefix string) (*entry, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var found *entry
	for id, e := range c.images {
		if !strings.HasPrefix(id.Encoded(), prefix) {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%w: the id %s fits more than one image", ErrInvalid, prefix)
		}
		found = e
	}
	return found, nil
}

// acquire takes a reference to the first of keys that there is a layer for.
func (c *catalog) acquire(keys ...string) *stored {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range keys {
		if l := c.layers[k]; l != nil {
			l.refs++
			return l
		}
	}
	return nil
}

// hold takes a reference to each of ls, which the caller holds already.
func (c *catalog) hold(ls ...*stored) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range ls {
		l.refs++
	}
}

// holdImage takes a reference to each layer of the image called id.
func (c *catalog) holdImage(id ID) (*entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.images[id]
	if e == nil {
		return nil, false
	}
	for _, l := range e.layers {
		l.refs++
	}
	return e, true
}

// add publishes a layer with one reference, the caller's. If there is one of
// the same key already, that one is referenced and returned instead.
func (c *catalog) add(l *stored) *stored {
	c.mu.Lock()
	defer c.mu.Unlock()
	if there := c.layers[l.Key]; there != nil {
		there.refs++
		return there
	}
	l.refs = 1
	c.layers[l.Key] = l
	c.bytes += l.Bytes
	c.inodes += l.Inodes
	return l
}

// release drops a reference of each of ls, and reports whether one died of it.
func (c *catalog) release(ls ...*stored) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	died := false
	for _, l := range ls {
		died = c.releaseLocked(l) || died
	}
	return died
}

func (c *catalog) releaseLocked(l *stored) bool {
	if l.refs--; l.refs > 0 {
		return false
	}
	delete(c.layers, l.Key)
	c.dead = append(c.dead, l)
	c.doomed[l.Dir] = l.Layer
	return true
}

// put adds or replaces the image e, which brings a reference to each of its
// layers, and takes its names away from other images. It returns those, as they
// are now. If the image was there, its own references are dropped.
func (c *catalog) put(e *entry) (changed []*entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range e.names() {
		other := c.images[c.names[n]]
		if other != nil && other.ID != e.ID {
			without := other.without(n)
			c.images[other.ID] = without
			changed = append(slices.DeleteFunc(changed, func(x *entry) bool { return x.ID == other.ID }), without)
		}
		c.names[n] = e.ID
	}
	if old := c.images[e.ID]; old != nil {
		for _, l := range old.layers {
			c.releaseLocked(l)
		}
	}
	c.images[e.ID] = e
	return changed
}

// moves reports whether put(e) takes names away from other images.
func (c *catalog) moves(e *entry) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.ContainsFunc(e.names(), func(n string) bool {
		other := c.images[c.names[n]]
		return other != nil && other.ID != e.ID
	})
}

// remove takes the image called id away with all its names. It reports whether
// it was there, and whether a layer died.
func (c *catalog) remove(id ID) (there, died bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.images[id]
	if e == nil {
		return false, false
	}
	delete(c.images, id)
	maps.DeleteFunc(c.names, func(_ string, of ID) bool { return of == id })
	for _, l := range e.layers {
		died = c.releaseLocked(l) || died
	}
	return true, died
}

// buried hands over the layers that died since the last call.
func (c *catalog) buried() []*stored {
	c.mu.Lock()
	defer c.mu.Unlock()
	dead := c.dead
	c.dead = nil
	return dead
}

// swept tells that the data of the layer in directory dir is gone.
func (c *catalog) swept(dir string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l, ok := c.doomed[dir]; ok {
		delete(c.doomed, dir)
		c.bytes -= l.Bytes
		c.inodes -= l.Inodes
	}
}

// usage is what all layers occupy.
func (c *catalog) usage() (bytes, inodes uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.bytes, c.inodes
}

// names are all that the image is found by, beside its id.
func (e *entry) names() []string {
	return slices.Concat(e.Tags, e.Digests, e.aliases)
}

// without is a copy that has lost a name.
func (e *entry) without(name string) *entry {
	drop := func(in []string) []string {
		return slices.DeleteFunc(slices.Clone(in), func(s string) bool { return s == name })
	}
	out := *e
	out.Tags, out.Digests, out.aliases = drop(e.Tags), drop(e.Digests), drop(e.aliases)
	out.durable = false
	return &out
}

// record is e as it is written to disk.
func (e *entry) record() record.Image {
	keys := make([]string, len(e.layers))
	for i, l := range e.layers {
		keys[i] = l.Key
	}
	accepted := make([]record.Acceptance, len(e.accepted))
	for i, a := range e.accepted {
		accepted[i] = record.Acceptance(a)
	}
	return record.Image{
		Version:  record.Version,
		ID:       e.ID.String(),
		Tags:     e.Tags,
		Digests:  e.Digests,
		Aliases:  e.aliases,
		Size:     e.Size,
		Config:   e.config,
		Layers:   keys,
		PulledAt: e.PulledAt,
		Accepted: accepted,

		ArtifactType: e.ArtifactType,
		Checkpoint:   e.Checkpoint,
	}
}

// entryOf is the opposite of record. It fails if the record is not what it
// claims; the layers are found by find.
func entryOf(r record.Image, find func(key string) *stored) (*entry, error) {
	if got := digest.FromBytes(r.Config); got.String() != r.ID {
		return nil, fmt.Errorf("%w: the config has digest %s", ErrInvalid, got)
	}
	var config v1.Image
	if r.ArtifactType == "" && !r.Checkpoint {
		var err error
		if config, err = registry.ParseConfig(r.Config); err != nil {
			return nil, err
		}
	}
	e := &entry{
		Image: Image{
			ID: ID(r.ID), Tags: r.Tags, Digests: r.Digests, Size: r.Size,
			Config: config, PulledAt: r.PulledAt, ArtifactType: r.ArtifactType, Checkpoint: r.Checkpoint,
		},
		config: r.Config,
		// Once they were written as full names, which are those of other images.
		aliases: slices.DeleteFunc(r.Aliases, func(a string) bool { return registry.ShortName(a) == "" }),
	}
	for _, a := range r.Accepted {
		e.accepted = append(e.accepted, registry.Acceptance(a))
	}
	for _, key := range r.Layers {
		l := find(key)
		if l == nil {
			return nil, fmt.Errorf("%w: layer %s is missing", ErrInvalid, key)
		}
		e.layers = append(e.layers, l)
	}
	return e, nil
}
