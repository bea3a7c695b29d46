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

// TestSixtyPodsStartAndLeaveNothing prints how long they take, first for ten,
// and asserts only that they come and go whole.
func TestSixtyPodsStartAndLeaveNothing(t *testing.T) {
	u := alone(t)
	all := append(u.comeAndGo(10), u.comeAndGo(60)...)
	// The kubelet collects what is left of them once a minute.
	began := time.Now()
	t.Parallel()
	u.eventually(func(ctx context.Context) error {
		for i, r := range all {
			if err := r.gone(ctx); err != nil {
				return fmt.Errorf("of %d pods at least %d have left something: %w", len(all), len(all)-i, err)
			}
		}
		logs, err := filepath.Glob(filepath.Join(node.Kubelet.Logs(), u.ns+"_*"))
		if err == nil && len(logs) > 0 {
			err = fmt.Errorf("%d directories of logs are left", len(logs))
		}
		return err
	})
	progress("70 pods: within %.0f s the kubelet has collected all that was theirs", time.Since(began).Seconds())
}

// comeAndGo starts and deletes pods; it gives what they had on the host.
func (u *user) comeAndGo(n int) []remains {
	u.Helper()
	var manifests []string
	for i := range n {
		manifests = append(manifests, pod(fmt.Sprintf("many%d-%d", n, i), "containers: ["+shell("main", "sleep 10000")+"]"))
	}
	began := time.Now()
	u.apply(manifests...)
	applied := time.Since(began)
	u.eventually(func(ctx context.Context) error {
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
	all := make([]remains, n)
	for i := range n {
		all[i] = u.remains(fmt.Sprintf("many%d-%d", n, i))
	}
	began = time.Now()
	u.kubectl("delete", "pods", "--all", "--wait", "--timeout=5m")
	progress("%d pods: %.1f s until all are deleted", n, time.Since(began).Seconds())
	return all
}
