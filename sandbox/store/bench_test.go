package store

import (
	"fmt"
	"testing"

	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox/lifecycle"
)

// kubelets is a pod as a kubelet makes it, with as many containers.
func kubelets(containers int) *Record {
	r := sample()
	r.Config.Labels = pairs("io.kubernetes.pod.label", 5)
	r.Config.Annotations = pairs("kubernetes.io/annotation", 5)
	for i := range containers {
		c := &spec.Container{
			Name: fmt.Sprintf("container-%d", i), Image: podID, UserImage: "registry.k8s.io/app:1",
			Labels: pairs("io.kubernetes.container.label", 5), Annotations: pairs("io.kubernetes.container.annotation", 6),
		}
		for j := range 30 { // service links are most of them
			c.Env = append(c.Env, spec.Env{Name: fmt.Sprintf("KUBERNETES_SERVICE_%d", j), Value: "tcp://10.96.0.1:443"})
		}
		for j := range 5 {
			c.Mounts = append(c.Mounts, spec.Mount{
				ContainerPath: fmt.Sprintf("/volume/%d", j),
				HostPath:      fmt.Sprintf("/var/lib/kubelet/pods/%s/volumes/kubernetes.io~empty-dir/%d", podID, j),
			})
		}
		r.Containers[fmt.Sprintf("%064d", i)] = Container{Config: c, State: lifecycle.ContainerRunning}
	}
	return r
}

func pairs(key string, n int) map[string]string {
	m := make(map[string]string)
	for i := range n {
		m[fmt.Sprintf("%s-%d", key, i)] = fmt.Sprintf("value of %d", i)
	}
	return m
}

// Every step of a pod start writes the record.
func BenchmarkUpdate(b *testing.B) {
	for _, containers := range []int{1, 10} {
		b.Run(fmt.Sprintf("containers=%d", containers), func(b *testing.B) {
			p := New(b.TempDir(), kubelets(containers))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Update(change); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A restarted daemon reads all records before it answers.
func BenchmarkLoadAll(b *testing.B) {
	dir := b.TempDir()
	for i := range 60 {
		r := kubelets(1)
		r.ID = fmt.Sprintf("%064d", i)
		if _, err := New(dir, r).Update(change); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if pods, damaged, err := LoadAll(dir); err != nil || len(pods) != 60 || len(damaged) != 0 {
			b.Fatalf("%d pods, %v, %v", len(pods), damaged, err)
		}
	}
}
