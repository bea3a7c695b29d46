package main

import (
	"io"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc/grpclog"

	"github.com/criruntime/criruntime/conf"
)

// setUpLogging configures the one logger of the process, which writes to
// standard error. What gRPC has to say arrives there too when debugging.
func setUpLogging(c conf.Log) error {
	if c.Format == "json" {
		logrus.SetFormatter(&logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano})
	} else {
		logrus.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, TimestampFormat: "2006-01-02T15:04:05.000Z07:00"})
	}
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, debugWriter{}))
	return setLevel(c)
}

func setLevel(c conf.Log) error {
	level, err := logrus.ParseLevel(c.Level)
	if err != nil {
		return err
	}
	logrus.SetLevel(level)
	return nil
}

// debugWriter logs each line that gRPC writes, for debugging.
type debugWriter struct{}

// Write is part of io.Writer.
func (debugWriter) Write(p []byte) (int, error) {
	if logrus.IsLevelEnabled(logrus.DebugLevel) {
		logrus.Debug(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}
