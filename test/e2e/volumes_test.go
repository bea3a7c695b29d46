//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	authentication "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAnEmptyDirIsSharedAndOutlivesRestarts(t *testing.T) {
	u := begin(t)
	mount := "volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}]"
	u.apply(pod("empty", "volumes: [{name: disk, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory, sizeLimit: 8Mi}}]\ncontainers:\n- "+
		shell("one", "echo $(( $(cat /disk/runs 2>/dev/null || echo 0) + 1 )) > /disk/runs; echo kept > /memory/file; sleep 10000", mount)+"\n- "+
		shell("two", "sleep 10000", mount)))
	u.ready("empty")
	u.prints("kept", "exec", "empty", "-c", "two", "--", "cat", "/memory/file") // the first run has written
	u.must(syscall.Kill(u.pid(u.running("empty", "one").Id), syscall.SIGKILL))
	u.await("empty", restarted(1))
	u.prints("2", "exec", "empty", "-c", "two", "--", "cat", "/disk/runs")
	u.has(u.kubectl("exec", "empty", "-c", "two", "--", "cat", "/memory/file"), "kept")
	u.has(u.kubectl("exec", "empty", "-c", "two", "--", "grep", " /memory ", "/proc/mounts"), "tmpfs", "size=8192k")
}

func TestHostPathMountsPropagateAsAsked(t *testing.T) {
	u := begin(t)
	dir := t.TempDir()
	// The directory is a shared mount, as that of a storage driver is.
	u.must(exec.Command("mount", "--bind", dir, dir).Run())
	t.Cleanup(func() { u.must(exec.Command("umount", "-R", dir).Run()) })
	u.must(exec.Command("mount", "--make-shared", dir).Run())
	for _, name := range []string{"host", "pod"} {
		u.must(os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	mount := func(propagation string) string {
		return "volumeMounts: [{name: v, mountPath: /v, mountPropagation: " + propagation + "}]"
	}
	u.apply(pod("spread", "volumes: [{name: v, hostPath: {path: "+dir+"}}]\ncontainers:\n- "+
		shell("none", "sleep 10000", mount("None"))+"\n- "+shell("down", "sleep 10000", mount("HostToContainer"))+"\n- "+
		shell("both", "sleep 10000", mount("Bidirectional"), "securityContext: {privileged: true}")))
	u.ready("spread")
	u.must(exec.Command("mount", "-t", "tmpfs", "tmpfs", filepath.Join(dir, "host")).Run())
	u.kubectl("exec", "spread", "-c", "both", "--", "mount", "-t", "tmpfs", "tmpfs", "/v/pod")
	for name, want := range map[string]string{"none": "", "down": "/v/host /v/pod", "both": "/v/host /v/pod"} {
		out := u.kubectl("exec", "spread", "-c", name, "--", "sh", "-c", "grep -o '/v/[a-z]*' /proc/mounts | sort | uniq | tr '\\n' ' '")
		if strings.TrimSpace(out) != want {
			u.Errorf("container %s sees the mounts %q, want %q", name, out, want)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	u.must(err)
	u.has(string(mounts), filepath.Join(dir, "pod"))
}

func TestChangedConfigMapsAndSecretsAppearInTheContainer(t *testing.T) {
	u := begin(t)
	u.kubectl("create", "configmap", "conf", "--from-literal=key=old")
	u.kubectl("create", "secret", "generic", "hidden", "--from-literal=key=old")
	u.apply(pod("files", "volumes: [{name: c, configMap: {name: conf}}, {name: s, secret: {secretName: hidden}}]\ncontainers: ["+
		shell("main", "sleep 10000", "volumeMounts: [{name: c, mountPath: /c}, {name: s, mountPath: /s}, {name: c, mountPath: /sub, subPath: key}]",
			"env: [{name: FROM_SECRET, valueFrom: {secretKeyRef: {name: hidden, key: key}}}]")+"]"))
	u.ready("files")
	u.has(u.kubectl("exec", "files", "--", "sh", "-c", "cat /c/key /s/key /sub; echo $FROM_SECRET"), "oldoldoldold")
	u.kubectl("patch", "configmap", "conf", "-p", `{"data":{"key":"new"}}`)
	u.kubectl("patch", "secret", "hidden", "-p", `{"stringData":{"key":"new"}}`)
	u.prints("newnew", "exec", "files", "--", "sh", "-c", "cat /c/key /s/key")
	// A subPath is not updated; that is Kubernetes' rule.
	u.has(u.kubectl("exec", "files", "--", "cat", "/sub"), "old")
}

func TestAServiceAccountTokenIsProjected(t *testing.T) {
	u := begin(t)
	u.apply(pod("token", "containers: ["+shell("main", "sleep 10000")+"]"))
	u.ready("token")
	const dir = "/var/run/secrets/kubernetes.io/serviceaccount/"
	token := u.kubectl("exec", "token", "--", "cat", dir+"token")
	review, err := node.Client.AuthenticationV1().TokenReviews().Create(u.ctx,
		&authentication.TokenReview{Spec: authentication.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	u.must(err)
	if got, want := review.Status.User.Username, "system:serviceaccount:"+u.ns+":default"; got != want {
		u.Errorf("the token is that of %q, want %q", got, want)
	}
	u.has(u.kubectl("exec", "token", "--", "cat", dir+"namespace", dir+"ca.crt"), u.ns, "BEGIN CERTIFICATE")
}

func TestASubPathShowsOnlyItsPart(t *testing.T) {
	u := begin(t)
	u.apply(pod("sub", "volumes: [{name: v, emptyDir: {}}]\ninitContainers: ["+
		shell("fill", "mkdir -p /v/part; echo in > /v/part/file; echo out > /v/file", "volumeMounts: [{name: v, mountPath: /v}]")+"]\ncontainers: ["+
		shell("main", "ls /v; sleep 10000", "env: [{name: PART, value: part}]", "volumeMounts: [{name: v, mountPath: /v, subPathExpr: $(PART)}]")+"]"))
	u.ready("sub")
	if out := u.kubectl("exec", "sub", "--", "cat", "/v/file"); out != "in\n" {
		u.Errorf("the file below the subPath has %q", out)
	}
}

func TestAReadOnlyMountIsSoInItsDepth(t *testing.T) {
	u := begin(t)
	dir := t.TempDir()
	inner := filepath.Join(dir, "inner")
	u.must(os.Mkdir(inner, 0o755))
	u.must(exec.Command("mount", "-t", "tmpfs", "tmpfs", inner).Run())
	t.Cleanup(func() { u.must(exec.Command("umount", inner).Run()) })
	mount := func(recursive string) string {
		return "volumeMounts: [{name: v, mountPath: /v, readOnly: true, recursiveReadOnly: " + recursive + "}]"
	}
	u.apply(pod("rro", "volumes: [{name: v, hostPath: {path: "+dir+"}}]\ncontainers:\n- "+
		shell("deep", "sleep 10000", mount("Enabled"))+"\n- "+shell("flat", "sleep 10000", mount("Disabled"))))
	u.ready("rro")
	for path, want := range map[string]bool{"/v/file": false, "/v/inner/file": false} {
		if _, err := u.try("", "exec", "rro", "-c", "deep", "--", "touch", path); (err == nil) != want {
			u.Errorf("touch %s in a recursively read-only mount: %v", path, err)
		}
	}
	if _, err := u.try("", "exec", "rro", "-c", "flat", "--", "touch", "/v/inner/file"); err != nil {
		u.Errorf("a mount inside a mount that is not recursively read-only: %v", err)
	}
}

func TestAPodThatUsesTooMuchDiskIsEvicted(t *testing.T) {
	u := begin(t)
	u.apply(pod("greedy", "volumes: [{name: v, emptyDir: {}}]\ncontainers: ["+
		shell("main", "dd if=/dev/zero of=/big bs=1M count=30; sleep 10000", "resources: {limits: {ephemeral-storage: 10Mi}}")+"]"))
	u.eventually(func(ctx context.Context) error {
		out, err := u.run(ctx, "", "get", "pod", "greedy", "-o", "jsonpath={.status.reason} {.status.message}")
		if err == nil && !strings.HasPrefix(out, "Evicted") {
			err = fmt.Errorf("the pod is %q, not evicted", out)
		}
		return err
	})
	if out := u.kubectl("get", "pod", "greedy", "-o", "jsonpath={.status.message}"); !strings.Contains(out, "ephemeral") {
		u.Error(errors.New("the message is " + out))
	}
}
