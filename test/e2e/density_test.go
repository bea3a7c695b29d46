//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestManyPodsStartAndLeaveNothing prints how long they take and asserts only
// that they come and go whole.
func TestManyPodsStartAndLeaveNothing(t *testing.T) {
	for _, n := range []int{10, 60} {
		t.Run(fmt.Sprintf("%d pods", n), func(t *testing.T) { begin(t).comeAndGo(n) })
	}
}

func (u *user) comeAndGo(n int) {
	before := u.left()
	var manifests []string
	for i := range n {
		manifests = append(manifests, pod(fmt.Sprintf("many-%d", i), "containers: ["+shell("main", "sleep 10000")+"]"))
	}
	began := time.Now()
	u.apply(manifests...)
	applied := time.Since(began)
	u.eventually(5*time.Minute, func(ctx context.Context) error {
		pods, err := node.Client.CoreV1().Pods(u.ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		ready := 0
		for i := range pods.Items {
			if isReady(&pods.Items[i]) == nil {
				ready++
			}
		}
		if ready < n {
			return fmt.Errorf("%d of %d pods are ready", ready, n)
		}
		return nil
	})
	progress("%d pods: %.1f s until all are Ready, %.1f s of it for kubectl apply", n, time.Since(began).Seconds(), applied.Seconds())
	began = time.Now()
	u.kubectl("delete", "pods", "--all", "--wait", "--timeout=5m")
	progress("%d pods: %.1f s until all are deleted", n, time.Since(began).Seconds())
	u.eventually(3*time.Minute, func(context.Context) error {
		if now := u.left(); now != before {
			return fmt.Errorf("the runtime had %+v before and has %+v", before, now)
		}
		return nil
	})
	progress("%d pods: %.1f s until the kubelet has collected all that was theirs", n, time.Since(began).Seconds())
}

// left counts what a pod has on the host.
type left struct{ records, leases, logs, links int }

func (u *user) left() left {
	u.Helper()
	count := func(pattern string) int {
		paths, err := filepath.Glob(pattern)
		u.must(err)
		return len(paths)
	}
	return left{
		records: count(filepath.Join(node.Runtime.State(), "pods", "*")),
		leases:  count(filepath.Join(node.Runtime.Leases(), "*", "10.*")),
		logs:    count(filepath.Join(node.Kubelet.Logs(), u.ns+"_*")),
		links:   count(filepath.Join("/sys/class/net", node.Bridge, "brif", "*")),
	}
}
