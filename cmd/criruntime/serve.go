package main

import (
	"context"
	"errors"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/conf"
	"github.com/criruntime/criruntime/oci/timerslack"
)

// serve runs the daemon until a signal stops it. What fails once there is a log
// is told there.
func serve(file string) error {
	c, err := conf.Load(file)
	if err != nil {
		return err
	}
	if err := setUpLogging(c.Log); err != nil {
		return err
	}
	unix.Umask(0o022) // files are made with the modes that the code says
	if err := timerslack.Widen(); err != nil {
		logrus.Warnf("pods will start more slowly: %v", err)
	}
	r := &reloader{file: file, running: c}
	if err := runDaemon(handleSignals(r.reload), r); err != nil {
		logrus.Error(err)
		return errReported
	}
	logrus.Info("stopped")
	return nil
}

func runDaemon(ctx context.Context, r *reloader) error {
	logrus.Infof("criruntime %s starts", versionText())
	d, err := assemble(ctx, r.config(), r.config)
	if err != nil {
		return errors.Join(err, d.close())
	}
	r.begin(d.apply)
	notify(daemon.SdNotifyReady)
	startWatchdog(ctx, d.server.Check)
	settle()
	logrus.Infof("serving the CRI on %s", d.conf.API.Listen)
	err = d.server.Serve(ctx)
	notify(daemon.SdNotifyStopping)
	return errors.Join(err, d.close())
}

func notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		logrus.Warnf("cannot tell systemd about %s: %v", state, err)
	}
}
