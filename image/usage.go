package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// usageAge is how old the sum of the writable layers may be in an answer.
const usageAge = time.Minute

// upperUsage remembers what the writable layers occupy.
type upperUsage struct {
	mu     sync.Mutex // guards known
	known  map[string]Usage
	rounds flights[struct{}]
}

func (u *upperUsage) remember(key string, v Usage) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.known == nil {
		u.known = map[string]Usage{}
	}
	u.known[key] = v
}

func (u *upperUsage) forget(key string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.known, key)
}

// sum adds up what is known of keys. It is as old as the oldest part, and
// reports whether all are known.
func (u *upperUsage) sum(keys []string) (total Usage, complete bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	total.At, complete = time.Now(), true
	for _, k := range keys {
		v, ok := u.known[k]
		if !ok {
			complete = false
			continue
		}
		total.Bytes += v.Bytes
		total.Inodes += v.Inodes
		if v.At.Before(total.At) {
			total.At = v.At
		}
	}
	return total, complete
}

// LayerUsage measures the writable layer of key: disk blocks, hard links
// counted once. It walks the tree. A key that holds none has none.
func (s *Store) LayerUsage(ctx context.Context, key string) (Usage, error) {
	u, err := walk(ctx, s.upperDir(key))
	if err != nil {
		return Usage{}, failure("measure the writable layer of "+key, err)
	}
	s.upper.remember(key, u)
	return u, nil
}

// Usage is what images and writable layers occupy. The images are accounted
// when they are unpacked; the writable layers were measured within the last
// minute, which may take a walk the first time. Both are in Options.Root, under
// the one name that tells the kubelet so: it takes two for two file systems.
func (s *Store) Usage(ctx context.Context) (FsUsage, error) {
	bytes, inodes := s.usage()
	u := FsUsage{
		ImageDir:     s.o.Root,
		Images:       Usage{Bytes: bytes, Inodes: inodes, At: time.Now()},
		ContainerDir: s.o.Root,
	}
	keys := s.leases.writable()
	var complete bool
	u.ContainerLayer, complete = s.upper.sum(keys)
	if complete && time.Since(u.ContainerLayer.At) < usageAge {
		return u, nil
	}
	_, err := s.upper.rounds.do(ctx, "", func(ctx context.Context) (struct{}, error) {
		for _, k := range keys {
			if _, err := s.LayerUsage(ctx, k); err != nil {
				return struct{}{}, err
			}
		}
		return struct{}{}, nil
	}, nil)
	if err != nil {
		return FsUsage{}, fmt.Errorf("cannot measure the writable layers: %w", err)
	}
	u.ContainerLayer, _ = s.upper.sum(keys)
	return u, nil
}

// walk sums up the tree at root. What disappears on the way does not count.
func walk(ctx context.Context, root string) (Usage, error) {
	u := Usage{At: time.Now()}
	type inode struct{ dev, ino uint64 }
	linked := map[inode]bool{}
	err := filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return skipGone(err)
		}
		info, err := d.Info()
		if err != nil {
			return skipGone(err)
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		if st.Nlink > 1 && !d.IsDir() {
			id := inode{st.Dev, st.Ino}
			if linked[id] {
				return nil
			}
			linked[id] = true
		}
		u.Bytes += uint64(st.Blocks) * 512
		u.Inodes++
		return nil
	})
	return u, err
}

func skipGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
