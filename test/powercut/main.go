// Command powercut is what a machine does whose power is cut again and again; see
// test/vm, which boots it and cuts. After each start it looks whether the runtime has
// kept what it promises to keep, and then has it pull and remove images and run pods
// until the next cut. It never ends by itself, unless it finds a fault or is told that
// this start is the last.
//
// The disk is the machine's only memory: images and writable layers, the addresses of
// pods, and a journal of what must be there. /run is gone with the power.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/test/fixtures"
	"github.com/criruntime/criruntime/test/harness"
)

// What test/vm waits for on the console.
const (
	working = "==> working until the power is cut"
	passed  = "all tests passed"
)

func main() {
	disk := flag.String("disk", "", "the `directory` that outlives the cuts")
	last := flag.Bool("last", false, "end when all has been looked at")
	flag.Parse()
	if err := run(context.Background(), *disk, *last); err != nil {
		fmt.Println("FAILED:", err)
		os.Exit(1)
	}
	fmt.Println(passed)
}

// machine is one start of it.
type machine struct {
	*harness.Node
	*harness.Client
	journal *journal
	samples []sample
}

func run(ctx context.Context, disk string, last bool) error {
	m, err := boot(ctx, disk)
	if err != nil {
		return err
	}
	if err := m.verify(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, harness.Tail(m.LogFile(), 60))
	}
	if last {
		return nil
	}
	fmt.Println(working)
	return m.work(ctx)
}

// boot starts a registry, whose images are the same each time, and the runtime.
func boot(ctx context.Context, disk string) (*machine, error) {
	j, err := openJournal(filepath.Join(disk, "journal"))
	if err != nil {
		return nil, err
	}
	registry, err := harness.StartRegistry(ctx, "/run/registry", harness.RegistryOptions{})
	if err != nil {
		return nil, err
	}
	base, err := fixtures.Build(fixtures.Sources{
		Debian: fixtures.Debian(filepath.Join(harness.Cache(), "debian")), NoNewPrivs: harness.Tool("nonewprivs"),
	})
	if err != nil {
		return nil, err
	}
	m := &machine{journal: j, samples: makeSamples()}
	images := map[string]fixtures.Image{busybox: base.Busybox}
	for _, s := range m.samples {
		images[s.name] = s.image
	}
	if err := fixtures.PushAll(ctx, registry.Registry, images); err != nil {
		return nil, err
	}
	if m.Node, err = nodeOn(disk, registry.Host); err != nil {
		return nil, err
	}
	if err := m.Start(ctx); err != nil {
		return nil, err
	}
	m.Client, err = m.Node.Client()
	return m, err
}

// nodeOn is a node whose root and leases are on the disk, and all else in memory.
func nodeOn(disk, registry string) (*harness.Node, error) {
	const dir = "/run/node"
	var errs []error
	for _, name := range []string{"root", "leases"} {
		kept, place := filepath.Join(disk, name), filepath.Join(dir, name)
		errs = append(errs, os.MkdirAll(kept, 0o711), os.MkdirAll(place, 0o711), unix.Mount(kept, place, "", unix.MS_BIND, ""))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("cannot put a node on the disk: %w", err)
	}
	return harness.NewNode(harness.NodeOptions{Dir: dir, Registry: registry})
}

// patience is how long what happens in the background may take, on a machine that
// is emulated.
const patience = 2 * time.Minute
