package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

// line is the length of the lines that containers write.
const line = 100

// measureLogs lets one container and then ten write lines as fast as they can,
// until the last line is in the log. A line that is lost is an error. The floor
// is the same program, writing into a file.
func measureLogs(ctx context.Context, b *bench) error {
	var errs []error
	mib := b.rounds(512, 64)
	for _, writers := range []int{1, 10} {
		name := fmt.Sprintf("log of %d MiB by %d container", mib, writers)
		if writers > 1 {
			name += "s"
		}
		lines := mib << 20 / line / writers
		errs = append(errs, b.interleave(b.rounds(3, 2), func(_ int, n *node) error {
			return b.oneLog(ctx, n, name, writers, lines)
		}))
		if writers == 1 {
			errs = append(errs, b.bareBytes(ctx, name, lines))
		}
	}
	return errors.Join(errs...)
}

func (b *bench) oneLog(ctx context.Context, n *node, name string, writers, lines int) error {
	config := n.podConfig("logs")
	if err := os.MkdirAll(config.LogDirectory, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(config.LogDirectory)
	r, err := n.runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		return err
	}
	ids := make([]string, writers)
	for i := range ids {
		c := n.containerConfig(fmt.Sprintf("writer-%d", i), "/bin/lines", strconv.Itoa(lines))
		c.Linux.Resources.CpuQuota = 0
		made, err := n.runtime.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: r.PodSandboxId, Config: c, SandboxConfig: config})
		if err != nil {
			return err
		}
		ids[i] = made.ContainerId
	}
	if err := n.quiet(ctx); err != nil {
		return err
	}
	used, err := n.counter()
	if err != nil {
		return err
	}
	begin := time.Now()
	var g errgroup.Group
	for i, id := range ids {
		g.Go(func() error {
			return n.written(ctx, id, filepath.Join(config.LogDirectory, fmt.Sprintf("writer-%d.log", i)), lines)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	b.results.add(measure{Name: name, Unit: "ms"}, n.name, ms(time.Since(begin)))
	d, err := used()
	if err != nil {
		return err
	}
	b.results.add(measure{Name: name + ": CPU", Unit: "ms"}, n.name, ms(d))
	for i := range ids {
		path := filepath.Join(config.LogDirectory, fmt.Sprintf("writer-%d.log", i))
		got, err := count(path)
		if err != nil {
			return err
		}
		if got != lines {
			return fmt.Errorf("of %d lines, %d are in the log", lines, got)
		}
	}
	return n.removePod(ctx, r.PodSandboxId)
}

// written starts a container and waits until it has ended and its log is
// complete.
func (n *node) written(ctx context.Context, id, log string, lines int) error {
	if _, err := n.runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: id}); err != nil {
		return err
	}
	return harness.Until(ctx, 5*time.Minute, func() error {
		r, err := n.runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
		if err != nil {
			return err
		}
		if s := r.Status; s.State != cri.ContainerState_CONTAINER_EXITED || s.ExitCode != 0 {
			return fmt.Errorf("the container is %s with %d", s.State, s.ExitCode)
		}
		// Each line carries a time, a stream and a tag.
		st, err := os.Stat(log)
		if err == nil && st.Size() < int64(lines)*line {
			return fmt.Errorf("the log has only %d bytes", st.Size())
		}
		return err
	})
}

func count(path string) (lines int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for {
		n, err := f.Read(block)
		lines += bytes.Count(block[:n], []byte{'\n'})
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
	}
}

// bareBytes writes the lines through a pipe into a file, and nothing else.
func (b *bench) bareBytes(ctx context.Context, name string, lines int) error {
	var t struct{ program, file string }
	t.program, t.file = filepath.Join(b.dir, "lines"), filepath.Join(b.dir, "lines.log")
	out, err := exec.CommandContext(ctx, "gcc", "-O2", "-static", "-o", t.program,
		filepath.Join(harness.Source(), "test", "bench", "programs", "lines.c")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cannot compile lines.c: %w: %s", err, out)
	}
	defer os.Remove(t.program)
	defer os.Remove(t.file)
	for range b.rounds(3, 2) {
		begin := time.Now()
		cmd := exec.CommandContext(ctx, "sh", "-c", `"$0" "$1" | cat >"$2"`, t.program, strconv.Itoa(lines), t.file)
		if err := cmd.Run(); err != nil {
			return err
		}
		b.results.add(measure{Name: name, Unit: "ms"}, floor, ms(time.Since(begin)))
	}
	return nil
}
