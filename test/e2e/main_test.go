//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/test/e2e/cluster"
)

// node is the cluster that all checks share, and running ends when the checks
// are interrupted.
var (
	node    *cluster.Cluster
	running context.Context
)

func TestMain(m *testing.M) {
	os.Exit(suite(m))
}

// suite runs the checks between the start and the end of the cluster.
func suite(m *testing.M) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	running = ctx
	// The go command dies of a signal without passing it on, and its end of the
	// pipe to which this writes goes with it.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // ignored, it would be so in what this starts
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGTERM), 0, 0, 0); err != nil {
		panic(err)
	}
	began := time.Now()
	var err error
	if node, err = cluster.Start(ctx, options()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	progress("the cluster is ready, logs are in %s", node.Dir)
	done := make(chan int, 1)
	go func() { done <- m.Run() }()
	code := 1
	select {
	case code = <-done:
	case <-ctx.Done():
		progress("interrupted")
		select { // every check fails now; none is to touch the cluster while it ends
		case <-done:
		case <-time.After(time.Minute):
		}
	}
	if node.Keep = code != 0; node.Keep {
		progress("the logs stay in %s", node.Dir)
	}
	ending := time.Now()
	if err := node.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	} else {
		progress("everything has ended and the host is as before: %.1f s", time.Since(ending).Seconds())
	}
	progress("all of it took %.0f s", time.Since(began).Seconds())
	return code
}

// options find what "make e2e" has built; it sets the variables.
func options() cluster.Options {
	source, err := filepath.Abs("../..")
	if err != nil {
		panic(err) // the working directory is gone
	}
	cache := os.Getenv("CRIRUNTIME_CACHE")
	if cache == "" {
		cache = filepath.Join(source, ".cache")
	}
	return cluster.Options{
		Kubernetes: filepath.Join(cache, "kubernetes", "v1.37.2"),
		Tools:      cache,
		Binaries:   filepath.Join(source, "bin"),
		Registry:   filepath.Join(cache, "tools", "test-registry"),
		Progress:   progress,
	}
}

func progress(format string, args ...any) {
	fmt.Printf("==> "+format+"\n", args...)
}
