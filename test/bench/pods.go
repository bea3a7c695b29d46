package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// measurePods starts and removes one pod at a time, and one more container in a
// pod that runs, as when a container is restarted. Its floor is the time of the
// CNI plugins alone; what a start by hand takes stands beside it.
func measurePods(ctx context.Context, b *bench) error {
	hand, err := b.newByHand(ctx)
	if err != nil {
		return err
	}
	return b.interleave(b.rounds(25, 10), func(round int, n *node) error {
		if n == b.nodes[0] {
			c, err := hand.plugins.attach(ctx, 1)
			if err != nil {
				return err
			}
			b.results.add(measure{Name: podStart, Unit: "ms"}, floor, ms(c.add))
			b.results.add(measure{Name: podCPU, Unit: "ms"}, floor, ms(c.addCPU))
			b.results.add(measure{Name: podEnd, Unit: "ms"}, floor, ms(c.del))
			took, err := hand.start(ctx, 1)
			if err != nil {
				return err
			}
			b.results.add(measure{Name: "pod start" + withRunc, Unit: "ms"}, floor, ms(took))
		}
		return b.onePod(ctx, n, fmt.Sprintf("pod-%d", round))
	})
}

func (b *bench) onePod(ctx context.Context, n *node, name string) error {
	if err := n.quiet(ctx); err != nil {
		return err
	}
	used, err := n.counter()
	if err != nil {
		return err
	}
	pod, container, t, err := n.startPod(ctx, name)
	if err != nil {
		return err
	}
	cpu, err := used()
	if err != nil {
		return err
	}
	add := func(name string, d time.Duration) {
		b.results.add(measure{Name: name, Unit: "ms"}, n.name, ms(d))
	}
	add("pod start: RunPodSandbox", t.run)
	add("pod start: CreateContainer", t.create)
	add("pod start: StartContainer", t.start)
	add(podStart, t.total())
	add(podCPU, cpu)

	config := n.podConfig(name)
	if err := n.quiet(ctx); err != nil {
		return err
	}
	another, t, err := n.startContainer(ctx, pod, config, n.sleeper("another"))
	if err != nil {
		return err
	}
	add(restart, t.create+t.start)
	if err := n.removeContainer(ctx, another); err != nil {
		return err
	}
	if err := n.quiet(ctx); err != nil {
		return err
	}
	begin := time.Now()
	if err := n.removeContainer(ctx, container); err != nil {
		return err
	}
	if err := n.removeSandbox(ctx, pod); err != nil {
		return err
	}
	add(podEnd, time.Since(begin))
	return nil
}

const (
	podStart = "pod start: all three requests"
	podEnd   = "stop and remove a pod"
	podCPU   = "pod start: CPU"
	restart  = "container restart in a pod that runs"
	execTrue = "ExecSync true"
	withRunc = ": the plugins and runc by hand"
	atOnce   = 20
)

// measureBurst starts many pods at once, until the last one runs. Its floor is the
// time of the CNI plugins alone; what a start by hand takes stands beside it.
func measureBurst(ctx context.Context, b *bench) error {
	hand, err := b.newByHand(ctx)
	if err != nil {
		return err
	}
	m := measure{Name: fmt.Sprintf("%d pods at once, until all run", atOnce), Unit: "ms"}
	cpu := measure{Name: fmt.Sprintf("%d pods at once: CPU", atOnce), Unit: "ms"}
	return b.interleave(b.rounds(5, 3), func(round int, n *node) error {
		if n == b.nodes[0] {
			c, err := hand.plugins.attach(ctx, atOnce)
			if err != nil {
				return err
			}
			b.results.add(m, floor, ms(c.add))
			b.results.add(cpu, floor, ms(c.addCPU))
			took, err := hand.start(ctx, atOnce)
			if err != nil {
				return err
			}
			b.results.add(measure{Name: fmt.Sprintf("%d pods at once", atOnce) + withRunc, Unit: "ms"}, floor, ms(took))
		}
		used, err := n.counter()
		if err != nil {
			return err
		}
		begin := time.Now()
		if err := n.startPods(ctx, fmt.Sprintf("burst-%d", round), atOnce); err != nil {
			return err
		}
		b.results.add(m, n.name, ms(time.Since(begin)))
		d, err := used()
		if err != nil {
			return err
		}
		b.results.add(cpu, n.name, ms(d))
		return n.empty(ctx)
	})
}

// startPods starts pods at the same time.
func (n *node) startPods(ctx context.Context, prefix string, count int) error {
	var g errgroup.Group
	for i := range count {
		g.Go(func() error {
			_, _, _, err := n.startPod(ctx, fmt.Sprintf("%s-%d", prefix, i))
			return err
		})
	}
	return g.Wait()
}

// measureExec runs true in a container, again and again.
func measureExec(ctx context.Context, b *bench) error {
	containers := map[*node]string{}
	for _, n := range b.nodes {
		_, container, _, err := n.startPod(ctx, "exec")
		if err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
		containers[n] = container
	}
	const batch = 10
	return b.interleave(b.rounds(30, 8), func(_ int, n *node) error {
		used, err := n.counter()
		if err != nil {
			return err
		}
		for range batch {
			begin := time.Now()
			if err := n.execute(ctx, containers[n]); err != nil {
				return err
			}
			b.results.add(measure{Name: execTrue, Unit: "ms"}, n.name, ms(time.Since(begin)))
		}
		d, err := used()
		b.results.add(measure{Name: execTrue + ": CPU", Unit: "ms"}, n.name, ms(d)/batch)
		return err
	})
}

// running counts the containers that run.
func (n *node) running(ctx context.Context) (int, error) {
	r, err := n.runtime.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{
		State: &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING},
	}})
	return len(r.GetContainers()), err
}
