package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

// line is the length of the lines that containers write.
const line = 100

// measureLogs lets one container and then ten write lines as fast as they can,
// until the last line is in the log. A line that is lost is an error. The floor
// is the same program, writing through a pipe into a file.
func measureLogs(ctx context.Context, b *bench) error {
	var errs []error
	mib := b.amount(512, 64)
	for _, writers := range []int{1, 10} {
		name := fmt.Sprintf("log of %d MiB by %d container", mib, writers)
		if writers > 1 {
			name += "s"
		}
		lines := mib << 20 / line / writers
		errs = append(errs, b.interleave(b.rounds(2, 2), func(_ int, n *node) error {
			if n == b.nodes[0] {
				if err := b.bareBytes(ctx, name, writers, lines); err != nil {
					return err
				}
			}
			return b.oneLog(ctx, n, name, writers, lines)
		}))
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
		if err := complete(path, lines); err != nil {
			return err
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

// complete reads a log in the CRI's format and says what is missing of so many
// lines. A line may be in pieces: all records but its last one are marked P then.
func complete(path string, lines int) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	full, length := 0, 0
	records := bufio.NewReaderSize(f, 1<<20)
	for {
		record, err := records.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		fields := bytes.SplitN(record, []byte{' '}, 4)
		if len(fields) != 4 {
			return fmt.Errorf("the log holds %q", record)
		}
		length += len(fields[3]) - 1
		if string(fields[2]) == "F" {
			full++
		}
	}
	if full != lines || length != lines*(line-1) {
		return fmt.Errorf("of %d lines, %d with %d bytes in all are in the log", lines, full, length)
	}
	return nil
}

// bareBytes writes the lines through pipes into files, and nothing else.
func (b *bench) bareBytes(ctx context.Context, name string, writers, lines int) error {
	dir := filepath.Join(b.dir, "bare")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "lines")
	if err := compile(ctx, program); err != nil {
		return err
	}
	begin := time.Now()
	var cpu atomic.Int64
	var g errgroup.Group
	for i := range writers {
		g.Go(func() error {
			cmd := exec.CommandContext(ctx, "sh", "-c", `"$0" "$1" | cat >"$2"`, program, strconv.Itoa(lines), fmt.Sprintf("%s/%d.log", dir, i))
			err := cmd.Run()
			cpu.Add(int64(spent(cmd)))
			return err
		})
	}
	err := g.Wait()
	b.results.add(measure{Name: name, Unit: "ms"}, floor, ms(time.Since(begin)))
	b.results.add(measure{Name: name + ": CPU", Unit: "ms"}, floor, ms(time.Duration(cpu.Load())))
	return err
}

// spent is the CPU time of a command that has ended, with its children.
func spent(cmd *exec.Cmd) time.Duration {
	if cmd.ProcessState == nil {
		return 0
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}
