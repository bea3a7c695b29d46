package nri

import (
	"context"
	"sync"
	"sync/atomic"

	nrilog "github.com/containerd/nri/pkg/log"
	"github.com/sirupsen/logrus"
)

// redirectLog sends what the library says to the daemon's log: its news are for
// those who debug. errors is the level at which its errors are logged.
func redirectLog(log *logrus.Entry, errors logrus.Level) {
	destination.Store(&entry{log, errors})
	installLogger()
}

// The library has one logger for the whole process, which must not change while
// any plugin is connected; so it is given one, whose destination can change.
var (
	destination   atomic.Pointer[entry]
	installLogger = sync.OnceFunc(func() { nrilog.Set(logger{}) })
)

type entry struct {
	log    *logrus.Entry
	errors logrus.Level
}

type logger struct{}

// Debugf implements the library's Logger.
func (logger) Debugf(_ context.Context, format string, args ...any) {
	destination.Load().log.Tracef(format, args...)
}

// Infof implements the library's Logger.
func (logger) Infof(_ context.Context, format string, args ...any) {
	destination.Load().log.Debugf(format, args...)
}

// Warnf implements the library's Logger.
func (logger) Warnf(_ context.Context, format string, args ...any) {
	destination.Load().log.Warnf(format, args...)
}

// Errorf implements the library's Logger.
func (logger) Errorf(_ context.Context, format string, args ...any) {
	e := destination.Load()
	e.log.Logf(e.errors, format, args...)
}
