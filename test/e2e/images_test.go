//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/criruntime/criruntime/test/e2e/cluster"
)

// private is an image, one for each check, in the registry that asks for a login.
func private(name string) string { return node.Private + "/k8s-staging-cri-tools/" + name }

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
	u.apply(pod("never", image(ref, "Never")))
	u.await("never", waiting("ErrImageNeverPull"))
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

func TestAMissingImageIsReportedAndRetriedWithBackOff(t *testing.T) {
	u := begin(t)
	u.apply(pod("missing", image("registry.k8s.io/no/such-image:1", "IfNotPresent")))
	u.await("missing", waiting("ErrImagePull", "ImagePullBackOff"))
	p := u.await("missing", waiting("ImagePullBackOff"))
	u.has(container(p, "main").State.Waiting.Message, "no/such-image:1")
}

func TestAPrivateImageNeedsItsSecret(t *testing.T) {
	u := begin(t)
	u.apply(pod("denied", image(private("test-image-tags:1"), "Always")))
	u.await("denied", waiting("ErrImagePull", "ImagePullBackOff"))
	u.kubectl("create", "secret", "docker-registry", "login", "--docker-server="+node.Private,
		"--docker-username="+cluster.Username, "--docker-password="+cluster.Password)
	u.apply(pod("allowed", "imagePullSecrets: [{name: login}]\n"+image(private("test-image-tags:1"), "Always")))
	u.ready("allowed")
}

// TestAPulledPrivateImageIsNotForEveryone is KubeletEnsureSecretPulledImages:
// that an image is on the node does not let a pod without its secret use it.
func TestAPulledPrivateImageIsNotForEveryone(t *testing.T) {
	u := begin(t)
	u.kubectl("create", "secret", "docker-registry", "login", "--docker-server="+node.Private,
		"--docker-username="+cluster.Username, "--docker-password="+cluster.Password)
	u.apply(pod("owner", "imagePullSecrets: [{name: login}]\n"+image(private("test-image-user-uid:latest"), "IfNotPresent")))
	u.ready("owner")
	u.apply(pod("thief", image(private("test-image-user-uid:latest"), "IfNotPresent")))
	u.await("thief", waiting("ErrImagePull", "ImagePullBackOff"))
}
