package main

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"
)

// startWatchdog tells systemd that the daemon lives, as long as check says so, if
// systemd wants to know (WatchdogSec= in the unit). A daemon that has come to a
// standstill is ended with SIGABRT, which logs where every goroutine is, and
// started again: containers do not notice.
func startWatchdog(ctx context.Context, check func(context.Context) error) {
	within, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		logrus.Warnf("there is no watchdog: %v", err)
	}
	if within > 0 {
		go watchdog(ctx, within, check, func() { notify(daemon.SdNotifyWatchdog) })
	}
}

// watchdog calls alive at least once within the time while check succeeds. A
// check may take a third of it, so that one that is slow is not the last one.
func watchdog(ctx context.Context, within time.Duration, check func(context.Context) error, alive func()) {
	tick := time.NewTicker(within / 3)
	defer tick.Stop()
	for {
		call, cancel := context.WithTimeout(ctx, within/3)
		err := check(call)
		cancel()
		switch {
		case ctx.Err() != nil:
			return // stopping has a time limit of its own
		case err != nil:
			logrus.Errorf("the watchdog is not told that the daemon lives: %v", err)
		default:
			alive()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
