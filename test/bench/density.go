package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

// measureDensity fills every runtime with ever more pods and measures at each
// number what many pods cost. All daemons are fresh at its beginning.
func measureDensity(ctx context.Context, b *bench) error {
	for _, n := range b.nodes {
		if err := errors.Join(n.stop(), n.start(ctx)); err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
		if err := n.quiet(ctx); err != nil {
			return err
		}
		used, err := n.memory()
		if err != nil {
			return err
		}
		b.results.add(measure{Name: "daemon memory, without pods", Unit: "MiB"}, n.name, used.daemon)
	}
	have := 0
	for _, pods := range b.steps {
		for _, n := range b.nodes {
			if err := b.grow(ctx, n, have, pods); err != nil {
				return fmt.Errorf("%s: %w", n.name, err)
			}
		}
		have = pods
		fmt.Printf("    %d pods\n", pods)
		for _, measure := range []func(context.Context, *bench, int) error{
			measureMemory, measureIdle, measureLists, measureStartAmongMany, measureRestart,
		} {
			if err := measure(ctx, b, pods); err != nil {
				return fmt.Errorf("with %d pods: %w", pods, err)
			}
		}
	}
	return nil
}

// busyPods is how many pods run execs before the memory is measured; further ones
// only sleep.
const busyPods = 60

// grow starts pods until there are so many, some at a time, and runs execs in
// each.
func (b *bench) grow(ctx context.Context, n *node, have, want int) error {
	execs := b.amount(100, 5)
	var g errgroup.Group
	g.SetLimit(4)
	for i := have; i < want; i++ {
		g.Go(func() error {
			_, container, _, err := n.startPod(ctx, fmt.Sprintf("dense-%d", i))
			for range execs {
				if err != nil || i >= busyPods {
					break
				}
				err = n.execute(ctx, container)
			}
			return err
		})
	}
	return g.Wait()
}

// calm is how long nothing is asked of the runtimes before they count as idle:
// time for them to tidy up after work, as long as a kubelet's probes mostly leave.
const calm = 10 * time.Second

func measureMemory(ctx context.Context, b *bench, pods int) error {
	select {
	case <-time.After(calm):
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, n := range b.nodes {
		if err := n.quiet(ctx); err != nil {
			return err
		}
		used, err := n.memory()
		if err != nil {
			return err
		}
		b.results.add(measure{"memory of all runtime processes", "MiB", pods}, n.name, used.daemon+used.others)
		b.results.add(measure{"daemon memory", "MiB", pods}, n.name, used.daemon)
	}
	return nil
}

// measureIdle follows measureMemory, which asks the runtimes nothing.
func measureIdle(ctx context.Context, b *bench, pods int) error {
	span := time.Duration(b.amount(20, 5)) * time.Second
	counters := make([]func() (time.Duration, error), len(b.nodes))
	for i, n := range b.nodes {
		var err error
		if counters[i], err = n.counter(); err != nil {
			return err
		}
	}
	select {
	case <-time.After(span):
	case <-ctx.Done():
		return ctx.Err()
	}
	for i, n := range b.nodes {
		used, err := counters[i]()
		if err != nil {
			return err
		}
		b.results.add(measure{"idle CPU", "ms/s", pods}, n.name, ms(used)/span.Seconds())
	}
	return nil
}

// lists are the requests that a kubelet repeats all day long.
var lists = []struct {
	name string
	ask  func(context.Context, *node) (items int, err error)
}{
	{"ListPodSandbox", func(ctx context.Context, n *node) (int, error) {
		r, err := n.runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
		return len(r.GetItems()), err
	}},
	{"ListContainers", func(ctx context.Context, n *node) (int, error) {
		r, err := n.runtime.ListContainers(ctx, &cri.ListContainersRequest{})
		return len(r.GetContainers()), err
	}},
	{"ListContainerStats", func(ctx context.Context, n *node) (int, error) {
		r, err := n.runtime.ListContainerStats(ctx, &cri.ListContainerStatsRequest{})
		return len(r.GetStats()), err
	}},
	{"ListPodSandboxStats", func(ctx context.Context, n *node) (int, error) {
		r, err := n.runtime.ListPodSandboxStats(ctx, &cri.ListPodSandboxStatsRequest{})
		return len(r.GetStats()), err
	}},
	{"ListPodSandboxMetrics", func(ctx context.Context, n *node) (int, error) {
		r, err := n.runtime.ListPodSandboxMetrics(ctx, &cri.ListPodSandboxMetricsRequest{})
		return len(r.GetPodMetrics()), err
	}},
}

// enough is how long one request is repeated: among many pods a peer takes
// seconds for some. With 60 pods that is some twenty times, which the median
// needs where the moment makes a difference of two.
const enough = 2 * time.Minute

// collection is how often containerd reads the figures of all its containers; with 60
// pods both processors are busy with that for a seventh of the time, and who is asked
// then takes twice as long. Rounds begin at any moment of it, lest one that takes a
// whole number of seconds meets the same moment each time.
const collection = time.Second

func measureLists(ctx context.Context, b *bench, pods int) error {
	for _, l := range lists {
		began := time.Now()
		err := b.interleave(b.rounds(30, 8), func(round int, n *node) error {
			if round > 3 && time.Since(began) > enough {
				return nil
			}
			if n == b.nodes[0] {
				time.Sleep(rand.N(collection))
			}
			// containerd answers ListPodSandboxMetrics ten times a second and
			// refuses the rest.
			time.Sleep(100 * time.Millisecond)
			begin := time.Now()
			items, err := l.ask(ctx, n)
			took := time.Since(begin)
			if err == nil && items < pods {
				err = fmt.Errorf("it answers with %d of %d", items, pods)
			}
			if err == nil {
				b.results.add(measure{l.name, "ms", pods}, n.name, ms(took))
			}
			return err
		})
		if err != nil {
			// A peer that lacks a request is no reason to end.
			fmt.Printf("    %s: %v\n", l.name, err)
		}
	}
	return nil
}

// measureStartAmongMany starts one more pod. Its floor is the time of the CNI plugins
// alone, which grows, too: what they run reads the rules of all pods.
func measureStartAmongMany(ctx context.Context, b *bench, pods int) error {
	plugins, err := b.alone()
	if err != nil {
		return err
	}
	m := measure{"one more pod: all three requests", "ms", pods}
	return b.interleave(b.rounds(5, 3), func(round int, n *node) error {
		if n == b.nodes[0] {
			c, err := plugins.attach(ctx, 1)
			if err != nil {
				return err
			}
			b.results.add(m, floor, ms(c.add))
		}
		if err := n.quiet(ctx); err != nil {
			return err
		}
		pod, _, t, err := n.startPod(ctx, fmt.Sprintf("among-%d-%d", pods, round))
		if err != nil {
			return err
		}
		b.results.add(m, n.name, ms(t.total()))
		return n.removePod(ctx, pod)
	})
}

const listed = "daemon restart, until ListContainers is complete"

// measureRestart restarts the daemons, until the first list is complete.
func measureRestart(ctx context.Context, b *bench, pods int) error {
	return b.interleave(b.rounds(3, 2), func(_ int, n *node) error {
		if err := n.stop(); err != nil {
			return err
		}
		begin := time.Now()
		if err := n.launch(); err != nil {
			return err
		}
		err := harness.Until(ctx, time.Minute, func() error {
			n.conn.ResetConnectBackoff()
			running, err := n.running(ctx)
			if err == nil && running < pods {
				err = fmt.Errorf("%d of %d containers run", running, pods)
			}
			return err
		})
		if err != nil {
			return err
		}
		b.results.add(measure{listed, "ms", pods}, n.name, ms(time.Since(begin)))
		return harness.Until(ctx, time.Minute, func() error { return n.ready(ctx) })
	})
}
