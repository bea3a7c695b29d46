package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/sirupsen/logrus"

	"github.com/criruntime/criruntime/conf"
)

// handleSignals returns a context that SIGTERM or SIGINT ends; a second one of
// them ends the process at once. SIGHUP reads the log level of the file again,
// SIGUSR1 logs where every goroutine is. A broken pipe to the log is no reason
// to die.
func handleSignals(file string) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1)
	signal.Ignore(syscall.SIGPIPE)
	go func() {
		for s := range signals {
			switch s {
			case syscall.SIGHUP:
				reload(file)
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

// reload puts into force what can change while the daemon runs.
func reload(file string) {
	c, err := conf.Load(file)
	if err == nil {
		err = setLevel(c.Log)
	}
	if err != nil {
		logrus.Errorf("the configuration is not reloaded: %v", err)
		return
	}
	logrus.Infof("configuration reloaded: the log level is %s", c.Log.Level)
}

func stacks() []byte {
	for size := 1 << 20; ; size *= 2 {
		b := make([]byte, size)
		if n := runtime.Stack(b, true); n < size || size >= 64<<20 {
			return b[:n]
		}
	}
}
