//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/e2e/cluster"
)

// private is an image in the registry that asks for a login.
func private() string { return node.Private + "/e2e-test-images/busybox:1.29-2" }

// waiting says whether a pod's container waits for one of the reasons.
func waiting(reasons ...string) func(*v1.Pod) error {
	return func(p *v1.Pod) error {
		if w := container(p, "main").State.Waiting; w != nil && slices.Contains(reasons, w.Reason) {
			return nil
		}
		return fmt.Errorf("the container does not wait for %v: %s", reasons, states(p))
	}
}

// pulls counts the PullImage requests that a pod has caused so far.
func (u *user) pulls(p *v1.Pod) int {
	u.Helper()
	calls, err := node.Runtime.Calls(string(p.UID))
	u.must(err)
	n := 0
	for _, c := range calls {
		if c.Method == "PullImage" {
			n++
		}
	}
	return n
}

// image is a container named main that sleeps in an image.
func image(ref, policy string) string {
	return "containers: [{name: main, image: " + ref + ", imagePullPolicy: " + policy + ", command: [sleep, '10000']}]"
}

func TestThePullPolicyDecidesWhetherAnImageIsPulled(t *testing.T) {
	u := begin(t)
	const ref = "registry.k8s.io/k8s-staging-cri-tools/test-image-2:latest"
	u.forget(ref)
	u.apply(pod("never", image(ref, "Never")))
	u.await("never", time.Minute, waiting("ErrImageNeverPull"))
	u.apply(pod("absent", image(ref, "IfNotPresent")))
	if n := u.pulls(u.ready("absent")); n != 1 {
		u.Errorf("IfNotPresent pulled %d times where the image was absent", n)
	}
	u.apply(pod("present", image(ref, "IfNotPresent")), pod("always", image(ref, "Always")))
	if n := u.pulls(u.ready("present")); n != 0 {
		u.Errorf("IfNotPresent pulled %d times where the image was present", n)
	}
	if n := u.pulls(u.ready("always")); n != 1 {
		u.Errorf("Always pulled %d times", n)
	}
	// The image is there now.
	u.ready("never")
}

// forget removes an image from the node.
func (u *user) forget(ref string) {
	u.Helper()
	_, err := node.Runtime.Images.RemoveImage(u.ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: ref}})
	u.must(err)
}

func TestAMissingImageIsReportedAndRetriedWithBackOff(t *testing.T) {
	u := begin(t)
	u.apply(pod("missing", image("registry.k8s.io/no/such-image:1", "IfNotPresent")))
	u.await("missing", time.Minute, waiting("ErrImagePull", "ImagePullBackOff"))
	p := u.await("missing", time.Minute, waiting("ImagePullBackOff"))
	u.has(container(p, "main").State.Waiting.Message, "no/such-image:1")
}

func TestAPrivateImageNeedsItsSecret(t *testing.T) {
	u := begin(t)
	u.forget(private())
	u.apply(pod("denied", image(private(), "Always")))
	u.await("denied", time.Minute, waiting("ErrImagePull", "ImagePullBackOff"))
	u.kubectl("create", "secret", "docker-registry", "login", "--docker-server="+node.Private,
		"--docker-username="+cluster.Username, "--docker-password="+cluster.Password)
	u.apply(pod("allowed", "imagePullSecrets: [{name: login}]\n"+image(private(), "Always")))
	u.ready("allowed")
}

// TestAPulledPrivateImageIsNotForEveryone is KubeletEnsureSecretPulledImages:
// that an image is on the node does not let a pod without its secret use it.
func TestAPulledPrivateImageIsNotForEveryone(t *testing.T) {
	u := begin(t)
	u.kubectl("create", "secret", "docker-registry", "login", "--docker-server="+node.Private,
		"--docker-username="+cluster.Username, "--docker-password="+cluster.Password)
	u.apply(pod("owner", "imagePullSecrets: [{name: login}]\n"+image(private(), "IfNotPresent")))
	u.ready("owner")
	u.apply(pod("thief", image(private(), "IfNotPresent")))
	u.await("thief", time.Minute, waiting("ErrImagePull", "ImagePullBackOff"))
}

func TestUnusedImagesAreCollectedWhenTheDiskIsFull(t *testing.T) {
	u := begin(t)
	const unused, used = "registry.k8s.io/k8s-staging-cri-tools/test-image-3:latest", "registry.k8s.io/k8s-staging-cri-tools/test-image-1:latest"
	u.apply(pod("once", "restartPolicy: Never\ncontainers: [{name: main, image: "+unused+", command: ['true']}]"), pod("stays", image(used, "IfNotPresent")))
	u.ended("once", v1.PodSucceeded)
	u.ready("stays")
	u.delete("once")
	// Any disk is fuller than 1 %.
	u.must(node.Kubelet.Restart(u.ctx, map[string]any{
		"imageGCHighThresholdPercent": 2, "imageGCLowThresholdPercent": 1, "imageMinimumGCAge": "1s",
	}))
	t.Cleanup(func() { u.must(node.Kubelet.Restart(u.ctx, nil)) })
	u.eventually(7*time.Minute, func(ctx context.Context) error {
		list, err := node.Runtime.Images.ListImages(ctx, &cri.ListImagesRequest{})
		if err != nil {
			return err
		}
		names := ""
		for _, i := range list.Images {
			names += strings.Join(i.RepoTags, " ") + " "
		}
		if !strings.Contains(names, used) {
			u.Fatalf("the image in use was removed: %s", names)
		}
		if strings.Contains(names, unused) {
			return errors.New("the unused image is still there")
		}
		return nil
	})
}
