package stream

import (
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
	"k8s.io/klog/v2"
)

var klogOnce sync.Once

// redirectKlog sends what the library says to the daemon's log, where it is
// for those who debug: errors of sessions reach their clients anyway. The
// library has one log per process, so the first server's wins.
func redirectKlog(log *logrus.Entry) {
	klogOnce.Do(func() {
		klog.LogToStderr(false)
		klog.SetOutput(&debugWriter{log})
	})
}

// debugWriter turns lines of other loggers into debug lines of the daemon's.
type debugWriter struct {
	log *logrus.Entry
}

// Write implements io.Writer; loggers call it once per line.
func (w *debugWriter) Write(line []byte) (int, error) {
	if w.log.Logger.IsLevelEnabled(logrus.DebugLevel) {
		w.log.Debug(strings.TrimSpace(string(line)))
	}
	return len(line), nil
}
