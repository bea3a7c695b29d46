package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"path"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc/codes"

	"github.com/criruntime/criruntime/sandbox"
	"github.com/criruntime/criruntime/server/certificate"
)

// metrics are what Prometheus is told about the daemon. They are kept, at the
// cost of some microseconds a request, also where nobody may ask.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
	steps    *prometheus.HistogramVec
	plugins  *prometheus.HistogramVec
}

// seconds are the buckets of all durations: 1 ms to 2 minutes.
var seconds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 120}

func newMetrics() *metrics {
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "criruntime", Name: name, Help: help, Buckets: seconds,
		}, labels)
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: histogram("cri_request_duration_seconds", "Duration of CRI requests by method and gRPC code.", "method", "code"),
		steps:    histogram("step_duration_seconds", "Duration of each step of an operation on a pod or container.", "step"),
		plugins:  histogram("cni_plugin_duration_seconds", "Duration of each run of a CNI plugin.", "plugin", "command", "result"),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "criruntime", Name: "build_info", Help: "1, labelled with the daemon's version.",
		ConstLabels: prometheus.Labels{"version": versionText()},
	})
	build.Set(1)
	m.registry.MustRegister(m.requests, m.steps, m.plugins, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) request(method string, code codes.Code, took time.Duration) {
	m.requests.WithLabelValues(path.Base(method), code.String()).Observe(took.Seconds())
}

func (m *metrics) step(name string, took time.Duration) {
	m.steps.WithLabelValues(name).Observe(took.Seconds())
	tellStep(name, took, 0)
}

// stage is a part of a step that the pod's shim has measured.
func (m *metrics) stage(name string, took, ago time.Duration) {
	name = "CreateContainer/shim/" + name
	m.steps.WithLabelValues(name).Observe(took.Seconds())
	tellStep(name, took, ago)
}

func (m *metrics) plugin(name, command string, took time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.plugins.WithLabelValues(name, command, result).Observe(took.Seconds())
	tellStep("cni/"+name+"/"+command, took, 0)
}

// tellStep logs the end of a step, a while ago, for who wants to see where one
// start spent its time.
func tellStep(name string, took, ago time.Duration) {
	if logrus.IsLevelEnabled(logrus.DebugLevel) {
		logrus.WithTime(time.Now().Add(-ago)).WithFields(logrus.Fields{"step": name, "took": took}).Debug("step done")
	}
}

// census counts pods and containers by state whenever Prometheus asks.
type census struct {
	pods interface {
		Pods(sandbox.PodFilter) []*sandbox.PodStatus
		Containers(sandbox.ContainerFilter) []*sandbox.ContainerStatus
	}
}

var (
	podsDesc       = prometheus.NewDesc("criruntime_pods", "Pods by state.", []string{"state"}, nil)
	containersDesc = prometheus.NewDesc("criruntime_containers", "Containers by state.", []string{"state"}, nil)
)

// Describe is part of prometheus.Collector.
func (c census) Describe(to chan<- *prometheus.Desc) {
	to <- podsDesc
	to <- containersDesc
}

// Collect is part of prometheus.Collector.
func (c census) Collect(to chan<- prometheus.Metric) {
	pods := map[string]int{string(sandbox.PodReady): 0, string(sandbox.PodNotReady): 0}
	for _, p := range c.pods.Pods(sandbox.PodFilter{}) {
		pods[string(p.State)]++
	}
	containers := map[string]int{
		string(sandbox.ContainerCreated): 0, string(sandbox.ContainerRunning): 0,
		string(sandbox.ContainerExited): 0, string(sandbox.ContainerUnknown): 0,
	}
	for _, s := range c.pods.Containers(sandbox.ContainerFilter{}) {
		containers[string(s.State)]++
	}
	for desc, counts := range map[*prometheus.Desc]map[string]int{podsDesc: pods, containersDesc: containers} {
		for state, n := range counts {
			to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n), state)
		}
	}
}

// serve answers on the address until ctx is done. That the address or the
// certificate cannot be used is known before it returns.
func (m *metrics) serve(ctx context.Context, address string, o certificate.Options) error {
	config, err := certificate.Server(o)
	if err != nil {
		return fmt.Errorf("cannot serve metrics: %w", err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("cannot serve metrics: %w", err)
	}
	scheme := "http"
	if config != nil {
		scheme, listener = "https", tls.NewListener(listener, config)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = s.Close() })
	go func() {
		if err := s.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			logrus.Errorf("metrics are no longer served: %v", err)
		}
	}()
	logrus.Infof("metrics at %s://%s/metrics", scheme, listener.Addr())
	return nil
}
