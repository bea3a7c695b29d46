// Command bench measures criruntime beside containerd and CRI-O on one machine:
// the same images from one registry, CNI configurations of the same shape, and
// all runtimes in turn, sample by sample, so that a noisy machine hurts all
// alike. It prints a table, writes every sample as JSON and draws a report. It
// judges nothing: no figure is compared with a constant.
//
// Every runtime lives in a mount namespace of its own with an empty /run and
// /var/lib, on directories, a bridge, a subnet and a tree of cgroups of its own.
// What is installed on the machine all can use: igzip is used by criruntime and
// containerd.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/criruntime/criruntime/test/harness"
)

// options are the command line.
type options struct {
	families, peers []string
	quick           bool
	samples         int   // of each runtime; 0: as many as a family takes
	steps           []int // numbers of pods at which the cost of many is measured
	scratch, out    string
	bin             string // directory of the criruntime that is measured
	metrics         string
	from            string // bench.json of an earlier run
	spec            string
}

func main() {
	o, err := parse(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	var runs, peers, steps string
	names := make([]string, len(families))
	about := ""
	for i, f := range families {
		names[i] = f.name
		about += fmt.Sprintf("\n    %-8s %s", f.name, f.about)
	}
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.StringVar(&runs, "run", strings.Join(names, ","), "what to measure, separated by commas:"+about+"\n   ")
	set.StringVar(&peers, "peers", "containerd,crio", "the runtimes to compare with, separated by commas; NAME=DIR is another build of criruntime; empty: none")
	set.BoolVar(&o.quick, "quick", false, "fewer and smaller samples: some minutes in all")
	set.IntVar(&o.samples, "rounds", 0, "how often each runtime has its turn; 0: as often as is usual for a family")
	set.StringVar(&steps, "pods", "", "numbers of pods for the family density (default 1,10,60,200; with -quick 1,10,40)")
	set.StringVar(&o.scratch, "dir", "/var/tmp", "where the file system is made that the runtimes keep their files on: a disk, not memory")
	set.StringVar(&o.out, "out", filepath.Join(harness.Cache(), "bench"), "directory of bench.json and bench.svg")
	set.StringVar(&o.bin, "bin", filepath.Join(harness.Source(), "bin"), "directory of the criruntime to measure")
	set.StringVar(&o.metrics, "metrics", "", "address where criruntime serves metrics and profiles while it is measured")
	set.StringVar(&o.from, "from", "", "report an earlier run, of which this is the bench.json, and measure nothing")
	set.StringVar(&o.spec, "spec", "", "a copy of SPECIFICATION.md whose table of costs is to be replaced; the drawing goes to the directory test/bench beside it")
	if err := set.Parse(args); err != nil {
		return o, err
	}
	o.families, o.peers = fields(runs), fields(peers)
	for _, f := range o.families {
		if !slices.Contains(names, f) {
			return o, fmt.Errorf("there is no family %q, only %s", f, strings.Join(names, ", "))
		}
	}
	for _, p := range o.peers {
		name, build := anotherBuild(p)
		if (kinds[name] == nil) != (build != "") || name == ours {
			return o, fmt.Errorf("there is no peer %q", p)
		}
	}
	if steps == "" {
		steps = map[bool]string{false: "1,10,60,200", true: "1,10,40"}[o.quick]
	}
	for _, s := range fields(steps) {
		n := 0
		if _, err := fmt.Sscan(s, &n); err != nil || n < 1 {
			return o, fmt.Errorf("%q is no number of pods", s)
		}
		o.steps = append(o.steps, n)
	}
	slices.Sort(o.steps)
	return o, nil
}

func fields(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func run(ctx context.Context, o options) (err error) {
	if o.from != "" {
		b, err := reread(o.from)
		if err != nil {
			return err
		}
		o.quick = b.quick
		b.options = o
		return b.report()
	}
	if err := harness.Ready(); err != nil {
		return err
	}
	before, err := harness.TakeHost(harness.Scope{})
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.scratch, "crbench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir), before.Restore()) }()

	fmt.Println("==> a disk, and a registry with the images")
	disk, err := newDisk(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.close()) }()
	registry, err := harness.StartRegistry(ctx, filepath.Join(dir, "registry"), harness.RegistryOptions{Redirect: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, registry.Close()) }()
	b := &bench{options: o, dir: disk.dir, registry: registry.Registry, results: newResults(),
		machine: machine{CPUs: runtime.NumCPU(), Kernel: kernel()},
	}
	if err := b.publish(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, name := range append([]string{ours}, o.peers...) {
		fmt.Println("==> starting", name)
		if err := b.addNode(ctx, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, image := range []string{workload, "pause:1"} {
			if err := b.nodes[len(b.nodes)-1].pull(ctx, image); err != nil {
				return fmt.Errorf("%s: cannot pull %s: %w", name, image, err)
			}
		}
	}
	err = b.measure(ctx)
	if err != nil {
		b.tails()
	}
	return errors.Join(err, b.report())
}

// emptyTimeout is how long the runtimes may take to remove all pods of a family.
const emptyTimeout = 10 * time.Minute

// measure runs the families. One that fails does not stop the others.
func (b *bench) measure(ctx context.Context) error {
	var errs []error
	for _, f := range families {
		if !slices.Contains(b.families, f.name) {
			continue
		}
		fmt.Printf("==> %s: %s\n", f.name, f.about)
		if err := f.run(ctx, b); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.name, err))
		}
		// After an interruption too: the packet filter rules of pods outlive them.
		done, cancel := context.WithTimeout(context.WithoutCancel(ctx), emptyTimeout)
		for _, n := range b.nodes {
			if err := n.empty(done); err != nil {
				errs = append(errs, fmt.Errorf("%s: cannot remove the pods of %s: %w", n.name, f.name, err))
			}
		}
		cancel()
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}
