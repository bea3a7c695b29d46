package cri

import (
	"strconv"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/sandbox"
)

// Metrics have the names, labels and meanings of cAdvisor's
// (https://github.com/google/cadvisor/blob/master/docs/storage/prometheus.md),
// because the kubelet serves them in cAdvisor's place at /metrics/cadvisor and
// dashboards know them so. The CRI has whole numbers only, so times that
// cAdvisor gives as fractions are cut to seconds.

// podLabels and those of a metric's own are the keys of a metric's labels.
var podLabels = []string{"id", "name", "image", "namespace", "pod", "container"}

// MetricDescriptors lists the metrics that PodMetrics has, with the same labels
// in the same order.
func MetricDescriptors() []*runtimeapi.MetricDescriptor {
	all := make([]*runtimeapi.MetricDescriptor, 0, len(containerMetrics)+len(interfaceMetrics))
	for _, m := range containerMetrics {
		all = append(all, m.descriptor())
	}
	for _, m := range interfaceMetrics {
		all = append(all, m.descriptor())
	}
	return all
}

// description is a metric's name, help text, type and own labels.
type description struct {
	name, help string
	kind       runtimeapi.MetricType
	labels     []string
}

func (d *description) descriptor() *runtimeapi.MetricDescriptor {
	keys := append(append(make([]string, 0, len(podLabels)+len(d.labels)), podLabels...), d.labels...)
	return &runtimeapi.MetricDescriptor{Name: d.name, Help: d.help, LabelKeys: keys}
}

const (
	counter = runtimeapi.MetricType_COUNTER
	gauge   = runtimeapi.MetricType_GAUGE
)

// PodMetrics are a pod's metrics: those of its interfaces, and of its containers.
// A figure that the kernel did not give, and the quota and throttling of a
// container without one, are absent.
func PodMetrics(p *sandbox.PodMetrics, now time.Time) *runtimeapi.PodSandboxMetrics {
	config := p.Pod.Config
	out := &runtimeapi.PodSandboxMetrics{PodSandboxId: p.Pod.ID}
	own := emitter{
		base: []string{p.Pod.Cgroup, p.Pod.ID, "", config.Namespace, config.Name, ""},
		room: make([]room, len(interfaceMetrics)*len(p.Interfaces)),
	}
	for i := range interfaceMetrics {
		m := &interfaceMetrics[i]
		own.of = &m.description
		for j := range p.Interfaces {
			t := &p.Interfaces[j]
			own.add(m.value(t), t.Name)
		}
	}
	out.Metrics = own.all
	for _, c := range p.Containers {
		out.ContainerMetrics = append(out.ContainerMetrics, &runtimeapi.ContainerMetrics{
			ContainerId: c.Container.ID, Metrics: metricsOf(p, c, now),
		})
	}
	return out
}

func metricsOf(p *sandbox.PodMetrics, c *sandbox.ContainerMetrics, now time.Time) []*runtimeapi.Metric {
	s := c.Container
	image := s.Config.UserImage
	if image == "" {
		image = s.Config.Image
	}
	e := emitter{
		base: []string{s.Cgroup, s.ID, image, p.Pod.Config.Namespace, p.Pod.Config.Name, s.Config.Name},
		all:  make([]*runtimeapi.Metric, 0, rooms),
	}
	src := source{ContainerMetrics: c, now: now}
	if g := c.Cgroup; g != nil {
		src.cpu, src.memory, src.tasks, src.io, src.hugepages = g.CPU, g.Memory, g.Pids, g.IO, g.Hugepages
	}
	for i := range containerMetrics {
		m := &containerMetrics[i]
		e.of = &m.description
		m.read(&src, e.add)
	}
	return e.all
}

// emitter makes metrics of one pod or container.
type emitter struct {
	of   *description
	base []string // values of podLabels
	all  []*runtimeapi.Metric
	room []room
}

// room holds a metric and its value. They are allocated many at a time, since a
// node has thousands of them.
type room struct {
	metric runtimeapi.Metric
	value  runtimeapi.UInt64Value
}

// rooms is how many are allocated at a time: about as many as a container needs.
const rooms = 64

// add makes a metric with the values of its own labels. Metrics without any
// share the values.
func (e *emitter) add(value uint64, labels ...string) {
	values := e.base
	if len(labels) > 0 {
		values = append(append(make([]string, 0, len(e.base)+len(labels)), e.base...), labels...)
	}
	if len(e.room) == 0 {
		e.room = make([]room, rooms)
	}
	r := &e.room[0]
	e.room = e.room[1:]
	r.value.Value = value
	r.metric.Name, r.metric.MetricType, r.metric.LabelValues, r.metric.Value = e.of.name, e.of.kind, values, &r.value
	e.all = append(e.all, &r.metric)
}

// source is what a container's metrics are made from. Parts are nil where the
// kernel did not give them.
type source struct {
	*sandbox.ContainerMetrics
	now       time.Time
	cpu       *cgroup.CPU
	memory    *cgroup.Memory
	tasks     *cgroup.Tasks
	io        *cgroup.IO
	hugepages []cgroup.Hugepages
}

// add takes a value and the values of the metric's own labels.
type add func(value uint64, labels ...string)

// containerMetric is a description with how its values are found.
type containerMetric struct {
	description
	read func(s *source, add add)
}

// seconds cuts nanoseconds.
func seconds(nanoseconds uint64) uint64 { return nanoseconds / uint64(time.Second) }

func number(n uint64) string { return strconv.FormatUint(n, 10) }
