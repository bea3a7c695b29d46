package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/sirupsen/logrus"
)

// handleSignals returns a context that SIGTERM or SIGINT ends; a second one of
// them ends the process at once. SIGHUP calls reload, SIGUSR1 logs where every
// goroutine is. A broken pipe to the log is no reason to die; it is caught and not
// ignored, since programs that are started inherit what is ignored.
func handleSignals(reload func()) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go func() {
		for s := range signals {
			switch s {
			case syscall.SIGHUP:
				reload()
			case syscall.SIGUSR1:
				logrus.Infof("all goroutines:\n%s", stacks())
			default:
				if ctx.Err() != nil {
					logrus.Warnf("%v again: ending at once", s)
					os.Exit(exitFailure)
				}
				logrus.Infof("%v: stopping; containers run on", s)
				cancel()
			}
		}
	}()
	return ctx
}

func stacks() []byte {
	for size := 1 << 20; ; size *= 2 {
		b := make([]byte, size)
		if n := runtime.Stack(b, true); n < size || size >= 64<<20 {
			return b[:n]
		}
	}
}
