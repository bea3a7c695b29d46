package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// measurePull pulls images of several shapes, each time from nothing. The floor
// is curl, gzip and tar, all layers side by side. It comes before each, since what was
// removed last makes a difference of a third to who writes next.
func measurePull(ctx context.Context, b *bench) error {
	var errs []error
	for _, s := range b.shapes {
		m := measure{Name: "pull: " + s.name, Unit: "ms"}
		err := b.interleave(b.rounds(12, 2), func(_ int, n *node) error {
			if err := b.byHand(ctx, s, m); err != nil {
				return err
			}
			return b.onePull(ctx, n, s.image, m)
		})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (b *bench) onePull(ctx context.Context, n *node, image string, m measure) error {
	unix.Sync() // what others left behind
	if err := n.quiet(ctx); err != nil {
		return err
	}
	used, err := n.counter()
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := n.pull(ctx, image); err != nil {
		return err
	}
	b.results.add(m, n.name, ms(time.Since(begin)))
	d, err := used()
	if err != nil {
		return err
	}
	b.results.add(measure{Name: m.Name + ": CPU", Unit: "ms"}, n.name, ms(d))
	if err := n.quiet(ctx); err != nil {
		return err
	}
	if err := n.discard(ctx, image); err != nil {
		return err
	}
	return n.quiet(ctx) // or the next one pays for what this one removes
}

// byHand fetches and unpacks an image's layers with curl, gzip and tar.
func (b *bench) byHand(ctx context.Context, s shape, m measure) error {
	unix.Sync()
	dir := filepath.Join(b.dir, "by-hand")
	defer os.RemoveAll(dir)
	var g errgroup.Group
	var cpu atomic.Int64
	begin := time.Now()
	for i, url := range s.blobs {
		target := filepath.Join(dir, fmt.Sprint(i))
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		g.Go(func() error {
			cmd := exec.CommandContext(ctx, "sh", "-c", `curl -sfSL "$0" | gzip -d | tar -x -C "$1"`, url, target)
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				return fmt.Errorf("cannot unpack by hand: %w: %s", err, out)
			}
			cpu.Add(int64(spent(cmd)))
			return nil
		})
	}
	err := g.Wait()
	b.results.add(m, floor, ms(time.Since(begin)))
	b.results.add(measure{Name: m.Name + ": CPU", Unit: m.Unit}, floor, ms(time.Duration(cpu.Load())))
	return err
}
